"""An ONNX file as plain data: nodes, constants, functions, each checked.

Producers differ in what they leave out. What is needed is that every value has one producer that comes before
its readers, that inputs have a type, and that the version of the operators is known. External data is never
opened: only the value of a small tensor matters, and only to a shape.

Source: ONNX, "Open Neural Network Exchange Intermediate Representation Specification", version 1.19.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from rigwise.errors import InvalidInputError
from rigwise.graph.capture.from_onnx.wire import graph_bytes

#: Number of a type in the file -> name in a graph. Floating activations and weights are captured in float32.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float32", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "float32",
    17: "float8", 18: "float8", 19: "float8", 20: "float8", 21: "int4", 22: "int4", 23: "int4", 24: "float8",
    25: "int4", 26: "int4",
}  # fmt: skip

#: Elements up to which the value of a constant is kept.
KEPT_ELEMENTS = 1 << 13

_MAX_DIM = 10**12
_MAX_DEPTH = 32
_SCOPE = re.compile(r"'([^']*)'")


@dataclass(frozen=True, slots=True)
class Const:
    """A tensor in the file: ``data`` is None where it is large, absent or in another file.

    A ``filled`` one is made of one number by a node, as files do whose weights were taken out.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: Any = None
    external: str = ""
    filled: bool = False


@dataclass(frozen=True, slots=True)
class Reference:
    """An attribute of a function's node that stands for one of the function's own."""

    name: str


@dataclass(frozen=True, slots=True)
class Node:
    """One node; an absent optional input or output is an empty name."""

    op: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: dict[str, Any]
    module: str

    def __str__(self) -> str:
        what = f"{self.domain}.{self.op}" if self.domain else self.op
        return f"node {self.name or next(filter(None, self.outputs), '')!r} ({what})"


@dataclass(frozen=True, slots=True)
class Port:
    """An input, output or intermediate value as declared: a dim is a number, a name, or None if unknown."""

    name: str
    dtype: str
    dims: tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class Body:
    """A graph, a branch, a loop body or a function."""

    inputs: list[Port]
    outputs: list[str]
    nodes: list[Node]
    constants: dict[str, Const] = field(default_factory=dict)
    declared: dict[str, Port] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Function:
    """Nodes that a node of the same name stands for."""

    body: Body
    defaults: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Net:
    """A whole file."""

    body: Body
    functions: dict[tuple[str, str], Function]
    opsets: dict[str, int]
    producer: str
    notes: list[str]


def read_net(path: Path, where: str) -> Net:
    """The checked content of an ONNX file.

    Raises:
        InvalidInputError: Names the place of the first thing that is wrong.
    """
    model = onnx.ModelProto()
    try:
        model.ParseFromString(graph_bytes(path, where))
    except DecodeError:
        raise InvalidInputError(f"{where} is no ONNX file: it cannot be parsed") from None
    return _Reader(where).net(model)


class _Reader:
    """One file while it is turned into plain data."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.notes: dict[str, None] = {}

    def fault(self, text: str, hint: str = "") -> InvalidInputError:
        return InvalidInputError(f"{self.where}: {text}", hint=hint)

    def net(self, model: Any) -> Net:
        if not model.HasField("graph"):
            raise self.fault("it holds no graph")
        opsets = {_domain(row.domain): int(row.version) for row in model.opset_import}
        functions = {(_domain(f.domain), f.name): self.function(f) for f in model.functions}
        body = self.graph(model.graph, "", 0)
        body = replace(body, nodes=_live(body.nodes, body.outputs))
        if "" not in opsets and any(not node.domain for node in body.nodes):
            raise self.fault("it does not say which opset its operators are of", "export it again with an opset_import")
        if 0 < opsets.get("", 11) < 11:
            self.notes[f"opset {opsets['']} is read as opset 11"] = None
        producer = f"{model.producer_name} {model.producer_version}".strip()
        return Net(body, functions, opsets, _printable(producer, 80), list(self.notes))

    def function(self, proto: Any) -> Function:
        nodes = [self.node(node, 0) for node in proto.node]
        inputs = [Port(name, "", None) for name in proto.input]
        body = Body(inputs, list(proto.output), nodes)
        body = replace(body, nodes=self.ordered(body, f"function {proto.name!r}"))
        return Function(body, {a.name: self.attribute(a, 0) for a in proto.attribute_proto})

    def graph(self, proto: Any, place: str, depth: int) -> Body:
        if depth > _MAX_DEPTH:
            raise self.fault(f"graphs are nested more than {_MAX_DEPTH} deep{place}")
        constants = {t.name: self.const(t, t.name) for t in proto.initializer}
        for sparse in proto.sparse_initializer:
            shape = tuple(sparse.dims)
            constants[sparse.values.name] = Const(sparse.values.name, shape, _dtype(sparse.values.data_type))
        inputs = [self.port(p, place, is_input=depth == 0) for p in proto.input if p.name not in constants]
        declared = {p.name: p for p in (self.port(v, place) for v in (*proto.value_info, *proto.output))}
        nodes = [self.node(node, depth) for node in proto.node]
        body = Body(inputs, [o.name for o in proto.output], nodes, constants, declared)
        if depth == 0 and not body.outputs:
            raise self.fault("its graph has no outputs")
        return replace(body, nodes=self.ordered(body, place or "the graph"))

    # Pieces.

    def const(self, proto: Any, name: str) -> Const:
        shape = tuple(int(d) for d in proto.dims)
        if any(d < 0 or d > _MAX_DIM for d in shape):
            raise self.fault(f"the tensor {name!r} has the shape {list(shape)}")
        dtype = self.dtype(proto.data_type, f"the tensor {name!r}")
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            return Const(name, shape, dtype, external=self.location(proto, name))
        is_kept = np.prod(shape, dtype=float) <= KEPT_ELEMENTS and dtype not in ("string", "float8", "int4")
        return Const(name, shape, dtype, _data(proto, shape) if is_kept else None)

    def location(self, proto: Any, name: str) -> str:
        """The file that holds a tensor's data, which is never opened but must be one beside the model."""
        location = next((row.value for row in proto.external_data if row.key == "location"), "")
        windows, posix = PureWindowsPath(location), PurePosixPath(location)
        escapes = ".." in windows.parts or windows.is_absolute() or windows.drive or posix.is_absolute()
        if not location or escapes:
            raise self.fault(f"the data of the tensor {name!r} lies in {location!r}, outside the folder of the model")
        self.notes["weights in external files were not read: only their shapes count"] = None
        return location

    def dtype(self, number: int, what: str) -> str:
        if number not in DTYPES:
            raise self.fault(f"{what} has no type" if not number else f"{what} has the unknown type {number}")
        return DTYPES[number]

    def port(self, proto: Any, place: str, *, is_input: bool = False) -> Port:
        what = f"the {'input' if is_input else 'value'} {proto.name!r}{place}"
        kind = proto.type.WhichOneof("value")
        if kind != "tensor_type":
            if is_input:
                raise self.fault(f"{what} is no tensor" if kind else f"{what} has no type")
            return Port(proto.name, "", None)
        tensor = proto.type.tensor_type
        dtype = self.dtype(tensor.elem_type, what) if is_input else DTYPES.get(tensor.elem_type, "")
        if not tensor.HasField("shape"):
            return Port(proto.name, dtype, None)
        dims = tuple(_dim(d) for d in tensor.shape.dim)
        if any(isinstance(d, int) and not 0 <= d <= _MAX_DIM for d in dims):
            if not is_input:
                return Port(proto.name, dtype, None)
            raise self.fault(f"{what} has the shape {list(dims)}", "give a size that is free a name")
        return Port(proto.name, dtype, dims)

    def node(self, proto: Any, depth: int) -> Node:
        attrs = {a.name: self.attribute(a, depth) for a in proto.attribute}
        scopes = next((p.value for p in proto.metadata_props if p.key == "pkg.torch.onnx.name_scopes"), "")
        module = _module_of_scopes(_plain(scopes)) if scopes else _module_of_name(_plain(proto.name))
        return Node(
            _printable(proto.op_type, 80), _domain(proto.domain), _printable(proto.name, 200),
            tuple(proto.input), tuple(proto.output), attrs, module,
        )  # fmt: skip

    def attribute(self, proto: Any, depth: int) -> Any:
        if proto.ref_attr_name:
            return Reference(proto.ref_attr_name)
        kind = onnx.AttributeProto
        if proto.type == kind.GRAPH:
            return self.graph(proto.g, f" inside the attribute {proto.name!r}", depth + 1)
        if proto.type == kind.TENSOR:
            return self.const(proto.t, proto.t.name)
        if proto.type == kind.SPARSE_TENSOR:
            return Const("", tuple(proto.sparse_tensor.dims), _dtype(proto.sparse_tensor.values.data_type))
        single = {kind.FLOAT: "f", kind.INT: "i", kind.STRING: "s"}.get(proto.type)
        if single:
            return _plain(getattr(proto, single))
        several = {kind.FLOATS: "floats", kind.INTS: "ints", kind.STRINGS: "strings"}.get(proto.type)
        return [_plain(value) for value in getattr(proto, several)] if several else None

    # Order.

    def ordered(self, body: Body, place: str) -> list[Node]:
        """Nodes with every producer before its readers; most files are so already."""
        made: dict[str, Node | None] = dict.fromkeys((*(p.name for p in body.inputs), *body.constants))
        if len(made) < len(body.inputs) + len(body.constants):
            raise self.fault(f"two inputs or constants of {place} have the same name")
        for node in body.nodes:
            for name in filter(None, node.outputs):
                if name in made:
                    raise self.fault(f"the value {name!r} is made twice, the second time by {node}")
                made[name] = node
        for name in body.outputs:
            if name and name not in made and place == "the graph":
                raise self.fault(f"the output {name!r} is made by no node")
        if place == "the graph":
            for node in body.nodes:
                missing = next((name for name in reads(node) if name not in made), None)
                if missing is not None:
                    raise self.fault(f"{node} reads {missing!r}, which nothing makes")
        return self.sorted(body.nodes, made)

    def sorted(self, nodes: list[Node], made: Mapping[str, Node | None]) -> list[Node]:
        """Depth first over the producers of every node, without recursion."""
        done: set[int] = set()
        order: list[Node] = []
        open_nodes: set[int] = set()
        for first in nodes:
            stack = [first]
            while stack:
                node = stack[-1]
                if id(node) in done:
                    stack.pop()
                    continue
                waiting = [p for p in (made.get(name) for name in reads(node)) if p is not None and id(p) not in done]
                if not waiting:
                    order.append(stack.pop())
                    done.add(id(node))
                    continue
                open_nodes.add(id(node))
                if any(id(p) in open_nodes for p in waiting):
                    raise self.fault(f"{node} is part of a cycle: it needs its own result")
                stack.extend(waiting)
        return order


def reads(node: Node) -> Iterator[str]:
    """Names of all values that a node reads, those that its branches and loop bodies take from outside too."""
    yield from filter(None, node.inputs)
    for value in node.attrs.values():
        if isinstance(value, Body):
            own = {p.name for p in value.inputs} | set(value.constants)
            own |= {name for inner in value.nodes for name in inner.outputs}
            for inner in value.nodes:
                yield from (name for name in reads(inner) if name not in own)
            yield from (name for name in value.outputs if name and name not in own)


def _live(nodes: list[Node], outputs: list[str]) -> list[Node]:
    """Nodes that an output depends on."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.outputs):
            wanted.update(reads(node))
            kept.append(node)
    return kept[::-1]


def _data(proto: Any, shape: tuple[int, ...]) -> Any:
    """The value of a small constant as int64, float64 or bool; None where the file leaves it out."""
    try:
        array = onnx.numpy_helper.to_array(proto)
    except (ValueError, TypeError, IndexError, KeyError, AttributeError):
        return None
    return as_known(array) if array.shape == shape else None


def as_known(array: Any) -> Any:
    """An array in the widest type of its family, None for families without arithmetic."""
    family = array.dtype.kind
    wide = {"i": np.int64, "u": np.int64, "f": np.float64, "b": np.bool_}.get(family)
    if wide is None:
        wide = np.float64 if "float" in array.dtype.name else None
    with np.errstate(all="ignore"):
        return None if wide is None else array.astype(wide)


def _dim(proto: Any) -> int | str | None:
    kind = proto.WhichOneof("value")
    return int(proto.dim_value) if kind == "dim_value" else (proto.dim_param or None)


def _dtype(number: int) -> str:
    return DTYPES.get(number, "float32")


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else _printable(domain, 80)


def _plain(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _printable(text: str | bytes, limit: int) -> str:
    plain: str = _plain(text)  # text that is not UTF-8 comes as bytes
    return "".join(c if c.isprintable() else "?" for c in plain)[:limit]


def _module_of_scopes(scopes: str) -> str:
    """Module path from PyTorch's list of scopes, whose last entry is the operator itself.

    >>> _module_of_scopes("['', 'layer1', 'layer1.0', 'layer1.0.conv', 'conv2d']")
    'layer1.0.conv'
    """
    path = _SCOPE.findall(scopes)[:-1]
    return _printable(path[-1], 200) if path and not path[-1].startswith("_empty") else ""


def _module_of_name(name: str) -> str:
    """Module path from a node name that is one.

    >>> _module_of_name("/model/layers.0/self_attn/MatMul_3"), _module_of_name("MatMul_3")
    ('model.layers.0.self_attn', '')
    """
    scope = name.strip("/").rpartition("/")[0]
    return _printable(".".join(filter(None, scope.split("/"))), 200)
