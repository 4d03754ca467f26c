"""The document inside a ``.rwg`` file, checked and turned into a ``Model``.

The file may come from anybody. Counts, sizes, indices, names and the order in which
tensors are made are all checked before a value is used, and the first fault ends it
with one line that names the file and the key. The walk is over plain lists and
dicts: a model of a thousand operators takes some ten milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from rigwise.errors import InvalidInputError
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.dim import SYMBOLS, Dim, Size, parse_size, size_at
from rigwise.graph.graph import GRAPHS_OF_TASK, Card, Graph, Model, Parameter
from rigwise.graph.op import Attr, Kind, Op, Phase, Role, Tensor
from rigwise.graph.untrusted import Untrusted

T = TypeVar("T")

MAX_OPS = MAX_ROWS = 200_000
MAX_DIMS, MAX_OPERANDS, MAX_ATTRS = 16, 2_000, 64
MAX_REPEAT, MAX_ELEMENTS, MAX_SYMBOL = 10**6, 10**15, 10**9

_KINDS, _PHASES, _ROLES = {str(v): v for v in Kind}, {str(v): v for v in Phase}, {str(v): v for v in Role}
_DOCUMENT: tuple[str, ...] = ("name", "card", "captured_with", "buffer_bytes", "parameters")
_DOCUMENT += ("operators", "modules", "attrs", "shapes", "tensors", "graphs")
_CARD = ("title", "family", "source", "reference_batch", "causal", "assumed")


def model_from(document: Any, where: str) -> Model:
    """The model that a parsed document describes; ``where`` names its file in errors.

    Raises:
        InvalidInputError: The first rule of the format that the document breaks.
    """
    return _Reader(where, document).model()


@dataclass(frozen=True, slots=True)
class _TensorRow:
    """A tensor apart from who made it; ``plain`` is the one that nobody made."""

    shape: tuple[Size, ...]
    dtype: str
    role: Role
    saved: bool
    plain: Tensor


class _Reader:
    """One document while its tables are checked and turned into dataclasses."""

    def __init__(self, where: str, document: Any) -> None:
        self.check = check = Untrusted(where)
        self.document = document = check.record(document, "the document", _DOCUMENT)
        self.sizes: dict[str, Size] = {}
        self.operators = [self.operator(r, f"operators[{i}]") for i, r in enumerate(self.rows("operators"))]
        self.modules = [check.text(r, f"modules[{i}]") for i, r in enumerate(self.rows("modules"))]
        self.attrs: list[Mapping[str, Attr]] = [
            self.attributes(r, f"attrs[{i}]") for i, r in enumerate(self.rows("attrs"))
        ]
        self.shapes = [self.shape(r, f"shapes[{i}]") for i, r in enumerate(self.rows("shapes"))]
        self.tensors = [self.tensor(r, f"tensors[{i}]") for i, r in enumerate(self.rows("tensors"))]

    def rows(self, key: str, limit: int = MAX_ROWS) -> list[Any]:
        return self.check.rows(self.document[key], key, limit=limit)

    def model(self) -> Model:
        check, document = self.check, self.document
        graphs = check.table(document["graphs"], "graphs", limit=len(GRAPHS_OF_TASK))
        for task in graphs:
            if task not in GRAPHS_OF_TASK:
                raise check.fault("a key of graphs", task, f"one of {', '.join(GRAPHS_OF_TASK)}")
        versions = check.table(document["captured_with"], "captured_with", limit=32)
        return Model(
            name=check.text(document["name"], "name"),
            card=self.card(document["card"]),
            parameters=tuple(self.parameter(r, f"parameters[{i}]") for i, r in enumerate(self.rows("parameters"))),
            graphs={task: self.graph(graphs[task], f"graphs.{task}") for task in GRAPHS_OF_TASK if task in graphs},
            buffer_bytes=check.amount(document["buffer_bytes"], "buffer_bytes"),
            captured_with={k: check.text(v, f"captured_with.{k}") for k, v in versions.items()},
        )

    def card(self, value: Any) -> Card:
        check = self.check
        record = check.record(value, "card", _CARD)
        assumed = check.rows(record["assumed"], "card.assumed", limit=100)
        return Card(
            title=check.text(record["title"], "card.title"),
            family=check.text(record["family"], "card.family"),
            source=check.text(record["source"], "card.source", limit=2000),
            reference_batch=check.whole(record["reference_batch"], "card.reference_batch", low=1, high=MAX_SYMBOL),
            causal=check.flag(record["causal"], "card.causal"),
            assumed=tuple(check.text(v, f"card.assumed[{i}]", limit=2000) for i, v in enumerate(assumed)),
        )

    def parameter(self, value: Any, key: str) -> Parameter:
        check = self.check
        name, shape, count, trainable = check.row(value, key, "name, shape, count, trainable")
        sizes = check.rows(shape, f"{key} shape", limit=MAX_DIMS)
        parameter = Parameter(
            name=check.text(name, f"{key} name"),
            shape=tuple(check.whole(v, f"{key} shape[{i}]", low=0, high=MAX_ELEMENTS) for i, v in enumerate(sizes)),
            count=check.whole(count, f"{key} count", low=1, high=MAX_SYMBOL),
            trainable=check.flag(trainable, f"{key} trainable"),
        )
        if parameter.elements > MAX_ELEMENTS:
            raise check.fault(key, value, f"at most {MAX_ELEMENTS:.0e} elements")
        return parameter

    def operator(self, value: Any, key: str) -> tuple[str, Kind, Phase]:
        name, kind, phase = self.check.row(value, key, "name, kind, phase")
        return (
            self.check.text(name, f"{key} name"),
            self.member(_KINDS, kind, f"{key} kind"),
            self.member(_PHASES, phase, f"{key} phase"),
        )

    def member(self, known: Mapping[str, T], value: Any, key: str) -> T:
        if not isinstance(value, str) or value not in known:
            raise self.check.fault(key, value, f"one of {', '.join(known)}")
        return known[value]

    def attributes(self, value: Any, key: str) -> dict[str, Attr]:
        table = self.check.table(value, key, limit=MAX_ATTRS)
        return {name: self.check.attr(entry, f"{key}.{name}") for name, entry in table.items()}

    def shape(self, value: Any, key: str) -> tuple[Size, ...]:
        entries = self.check.rows(value, key, limit=MAX_DIMS)
        return tuple(self.size(entry, f"{key}[{i}]") for i, entry in enumerate(entries))

    def size(self, value: Any, key: str) -> Size:
        if type(value) is int:
            return self.check.whole(value, key, low=0, high=MAX_ELEMENTS)
        if not isinstance(value, str):
            raise self.check.fault(key, value, "a whole number or a size such as 'b*s'")
        if value not in self.sizes:
            try:
                size = parse_size(value)
            except InvalidInputError as error:
                raise InvalidInputError(f"{self.check.where}: {key}: {error}") from None
            if isinstance(size, Dim) and any(
                abs(a.add) > MAX_SYMBOL or a.div > MAX_SYMBOL for _, atoms in size.terms for a in atoms
            ):
                raise self.check.fault(key, value, f"shifts and divisors up to {MAX_SYMBOL:,}")
            self.sizes[value] = size
        return self.sizes[value]

    def tensor(self, value: Any, key: str) -> _TensorRow:
        check = self.check
        index, dtype, role, saved = check.row(value, key, "shape, dtype, role, saved")
        shape = check.pick(self.shapes, index, f"{key} shape")
        if not isinstance(dtype, str) or dtype not in BYTES_OF_DTYPE:
            raise check.fault(f"{key} dtype", dtype, "a PyTorch dtype such as float32")
        member, saved = self.member(_ROLES, role, f"{key} role"), check.flag(saved, f"{key} saved")
        return _TensorRow(shape, dtype, member, saved, Tensor(shape, dtype, member, None, saved))

    def graph(self, value: Any, key: str) -> Graph:
        check = self.check
        record = check.record(value, key, ("symbols", "ops"))
        symbols = check.table(record["symbols"], f"{key}.symbols", limit=len(SYMBOLS))
        for name, size in symbols.items():
            if name not in SYMBOLS:
                raise check.fault(f"a key of {key}.symbols", name, f"one of {', '.join(SYMBOLS)}")
            check.whole(size, f"{key}.symbols.{name}", low=1, high=MAX_SYMBOL)
        rows = check.rows(record["ops"], f"{key}.ops", limit=MAX_OPS)
        ops = tuple(self.op(i, row, len(rows), f"{key}.ops[{i}]") for i, row in enumerate(rows))
        self.check_flow(ops, key)
        self.check_sizes(ops, symbols, key)
        return Graph(ops=ops, symbols=symbols)

    def op(self, position: int, value: Any, count: int, key: str) -> Op:
        check = self.check
        row = check.row(value, key, "operator, module, attrs, repeat, inputs, outputs")
        operator, module, attrs, repeat, inputs, outputs = row
        name, kind, phase = check.pick(self.operators, operator, f"{key} operator")
        return Op(
            name=name,
            kind=kind,
            phase=phase,
            inputs=self.operands(position, inputs, count, f"{key} inputs"),
            outputs=self.operands(position, outputs, count, f"{key} outputs"),
            attrs=check.pick(self.attrs, attrs, f"{key} attrs"),
            module=check.pick(self.modules, module, f"{key} module"),
            repeat=check.whole(repeat, f"{key} repeat", low=1, high=MAX_REPEAT),
        )

    def operands(self, position: int, value: Any, count: int, key: str) -> tuple[Tensor, ...]:
        flat = self.check.rows(value, key, limit=2 * MAX_OPERANDS)
        if len(flat) % 2:
            raise self.check.fault(key, value, "pairs of tensor and distance to its producer")
        operands = []
        for index, distance in zip(flat[::2], flat[1::2], strict=True):
            row = self.check.pick(self.tensors, index, key)
            if distance is None:
                operands.append(row.plain)
            elif type(distance) is int and 0 <= position - distance < count:
                operands.append(Tensor(row.shape, row.dtype, row.role, position - distance, row.saved))
            else:
                raise self.check.fault(f"a producer distance in {key}", distance, "one that leads to an operator")
        return tuple(operands)

    def check_flow(self, ops: tuple[Op, ...], key: str) -> None:
        """Nothing is read before it is made, except from the previous round of a repeated block."""
        block, blocks = 0, []
        for i, op in enumerate(ops):
            block += i == 0 or not _in_one_block(op.repeat, ops[i - 1].repeat)
            blocks.append(block)
        for i, op in enumerate(ops):
            for tensor in op.inputs:
                made = tensor.producer
                if made is not None and made >= i and (op.repeat == 1 or blocks[made] != blocks[i]):
                    raise self.check.fault(f"the producer of an input of {key}.ops[{i}]", made, f"one before {i}")
            for tensor in op.outputs:
                if tensor.producer is not None and tensor.producer > i:
                    raise self.check.fault(f"the producer of an output of {key}.ops[{i}]", tensor.producer, f"{i}")

    def check_sizes(self, ops: tuple[Op, ...], symbols: Mapping[str, int], key: str) -> None:
        """Every tensor has a sensible number of elements at the sizes of the reference capture."""
        used_shapes = {id(tensor.shape): tensor.shape for op in ops for tensor in op.inputs + op.outputs}
        for shape in used_shapes.values():
            for size in shape:
                used = {a.symbol for _, atoms in size.terms for a in atoms} if isinstance(size, Dim) else set()
                if used - set(symbols):
                    raise self.check.fault(f"a size of {key}", str(size), f"only the symbols {', '.join(symbols)}")
            sizes = [size_at(size, symbols) for size in shape]
            elements = 1
            for size in sizes:
                elements *= size
            if min(sizes, default=0) < 0 or elements > MAX_ELEMENTS:
                raise self.check.fault(f"a shape of {key}", sizes, f"0 to {MAX_ELEMENTS:.0e} elements")


def _in_one_block(repeat: int, other: int) -> bool:
    """Whether neighbours may be of one block: they run equally often, or one is in a loop inside the other's layer."""
    fewer, more = sorted((repeat, other))
    return fewer == more or (fewer > 1 and more % fewer == 0)
