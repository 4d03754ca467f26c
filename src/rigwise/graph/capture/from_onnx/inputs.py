"""Which sizes of an ONNX file's inputs may vary, and what they are to a workload.

A file names its free sizes as its producer liked. Names that the field uses are understood; others are judged
by the place where they stand: a first axis is the batch, the second of token numbers the sequence, the last two
of an image its sides. What is neither is given a size, and the model's card says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rigwise.errors import InvalidInputError
from rigwise.graph.capture.from_onnx.file import Net, Port
from rigwise.graph.capture.from_onnx.value import Value
from rigwise.graph.dim import Dim, Size, parse_size, size_at
from rigwise.graph.op import Role

#: Names of free sizes; the first row that fits counts.
_NAMES = (
    ("c+s", re.compile(r"total|past_and|past.*(\+|plus)|kv.*len", re.IGNORECASE)),
    ("c", re.compile(r"past|cache|context", re.IGNORECASE)),
    ("b", re.compile(r"^(b|n|bs|bsz)$|batch|num_samples", re.IGNORECASE)),
    ("p", re.compile(r"^[hw]$|height|width|image|resolution", re.IGNORECASE)),
    ("s", re.compile(r"^[slt]$|seq|len|token|time|frames", re.IGNORECASE)),
)

_CACHE = re.compile(r"past|cache", re.IGNORECASE)
_MASK = re.compile(r"attention_mask", re.IGNORECASE)

#: Sizes given to axes that nothing tells about: the channels of an image, and all others.
_CHANNELS, _OTHER = 3, 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """One input and how its shape follows from the free sizes.

    Attributes:
        name, dtype: As in the file, the type as in a graph.
        dims: Sizes; without a batch of its own the file's number stands in the first.
        role: The batch, or the cache of earlier tokens.
        switch: Whether it tells a model with two branches to use the one with a cache.
    """

    name: str
    dtype: str
    dims: tuple[Size, ...]
    role: Role = Role.INPUT
    switch: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All inputs of a file.

    Attributes:
        feeds: The inputs.
        tasks: For each task its free symbols, and fixed values of others.
        named: What the file's own names of sizes mean.
        fixed_batch: The number that stands where a batch could, 0 if the batch is free or there is none.
        notes: What was assumed.
    """

    feeds: tuple[Feed, ...]
    tasks: Mapping[str, tuple[tuple[str, ...], Mapping[str, int]]]
    named: Mapping[str, Size]
    fixed_batch: int
    notes: tuple[str, ...]

    def with_free_batch(self) -> Plan:
        """The same with the batch free that the file fixes."""
        feeds = tuple(replace(f, dims=(parse_size("b"), *f.dims[1:])) if f.dims else f for f in self.feeds)
        tasks = {task: (("b", *symbols), fixed) for task, (symbols, fixed) in self.tasks.items()}
        return replace(self, feeds=feeds, tasks=tasks, fixed_batch=0)

    def values(self, task: str, sizes: Mapping[str, int]) -> dict[str, Value]:
        """Every input at given sizes."""
        made = {}
        for feed in self.feeds:
            shape = tuple(int(size_at(dim, sizes)) for dim in feed.dims)
            value = Value(shape, feed.dtype, role=feed.role)
            if feed.switch:
                value.data, value.constant = np.full(shape, task == "decode"), True
            made[feed.name] = value
        return made

    def size(self, dim: int | str | None, sizes: Mapping[str, int]) -> int | None:
        """The size of a declared dim, None if its name is not one of the inputs'."""
        if isinstance(dim, str):
            known = self.named.get(dim)
            return None if known is None else int(size_at(known, sizes))
        return dim


def plan_of(net: Net, where: str) -> Plan:
    """What the inputs of a file mean.

    Raises:
        InvalidInputError: An input has no shape.
    """
    return _Planner(net, where).plan()


class _Planner:
    def __init__(self, net: Net, where: str) -> None:
        self.net, self.ports, self.where = net, net.body.inputs, where
        self.named: dict[str, Size] = {}
        self.notes: dict[str, None] = {}
        self.cached = any(self._is_cache(port) for port in self.ports)
        self.tokens: Size = parse_size("s")

    def plan(self) -> Plan:
        for port in self.ports:
            if port.dims is None:
                raise InvalidInputError(
                    f"{self.where}: the input {port.name!r} has no shape", hint="export it with the rank of its inputs"
                )
        ids = next((p for p in self.ports if "ids" in p.name and p.dims is not None and len(p.dims) == 2), None)
        if self.cached and ids is not None and ids.dims is not None and isinstance(ids.dims[1], int):
            self.tokens = ids.dims[1]
        feeds = tuple(self.feed(port) for port in self.ports)
        symbols = self._symbols(feeds)
        self._note_names()
        return Plan(
            feeds=feeds,
            tasks=self._tasks(symbols),
            named=self.named,
            fixed_batch=self._fixed_batch(feeds, symbols),
            notes=tuple(self.notes),
        )

    def feed(self, port: Port) -> Feed:
        dims = tuple(self.dim(port, axis) for axis in range(len(port.dims or ())))
        role = Role.CACHE if self._is_cache(port) else Role.INPUT
        switch = port.dtype == "bool" and "cache" in port.name and all(isinstance(d, int) for d in dims)
        return Feed(name=port.name, dtype=port.dtype, dims=dims, role=role, switch=switch)

    def _is_cache(self, port: Port) -> bool:
        return bool(_CACHE.search(port.name)) and len(port.dims or ()) in (4, 5) and "float" in port.dtype

    def dim(self, port: Port, axis: int) -> Size:
        """The size of one axis."""
        given = (port.dims or ())[axis]
        if isinstance(given, int) and (given or self._is_cache(port)):
            return given
        size = self._by_name(given) if given else None
        size = size or self._by_reader(port, axis) or self._by_place(port, axis)
        if size is None:
            size = _CHANNELS if axis == 1 and len(port.dims or ()) == 4 and "float" in port.dtype else _OTHER
            self.notes[f"axis {axis} of the input {port.name!r} is taken to be {size}"] = None
        return self.named.setdefault(given, size) if given else size

    def _by_name(self, name: str) -> Size | None:
        if name in self.named:
            return self.named[name]
        terms = [term.strip(" ()") for term in name.split("+")]
        if len(terms) > 1:
            sizes = [int(term) if term.isdecimal() and len(term) < 9 else self._word(term) for term in terms]
            return None if None in sizes else parse_size("+".join(str(size) for size in sizes))
        return self._word(name)

    def _word(self, name: str) -> Size | None:
        symbol = next((symbol for symbol, pattern in _NAMES if pattern.search(name)), None)
        if symbol is None or (symbol == "c" and not self.cached):
            return None
        if symbol == "c+s":
            return self._total()
        return self.tokens if symbol == "s" else parse_size(symbol)

    def _total(self) -> Size:
        return parse_size(f"c+{self.tokens}") if self.cached else self.tokens

    def _by_reader(self, port: Port, axis: int) -> Size | None:
        """What a weight that is multiplied with an input demands of one of its axes."""
        rank = len(port.dims or ())
        for node in self.net.body.nodes:
            if not node.inputs or node.inputs[0] != port.name or len(node.inputs) < 2:
                continue
            weight = self.net.body.constants.get(node.inputs[1])
            if weight is None:
                continue
            if node.op == "Conv" and axis == 1 and len(weight.shape) > 1:
                return weight.shape[1] * int(node.attrs.get("group") or 1)
            if node.op in ("MatMul", "Gemm") and axis == rank - 1 and len(weight.shape) == 2:
                return weight.shape[1 if node.attrs.get("transB") else 0]
            if node.op in ("LSTM", "GRU", "RNN") and axis == 2 and len(weight.shape) == 3:
                return weight.shape[2]
        return None

    def _by_place(self, port: Port, axis: int) -> Size | None:
        """What an axis with no telling name is, by where it stands."""
        dims, floating = port.dims or (), "float" in port.dtype
        if self._is_cache(port):
            place = axis - (len(dims) - 4)
            return {0: parse_size("b"), 2: parse_size("c")}.get(place)
        if axis == 0:
            return parse_size("b")
        if _MASK.search(port.name) and axis == len(dims) - 1:
            return self._total()
        if floating and len(dims) >= 4:
            channels_last = isinstance(dims[-1], int) and dims[-1] <= 4
            sides = (len(dims) - 3, len(dims) - 2) if channels_last else (len(dims) - 2, len(dims) - 1)
            return parse_size("p") if axis in sides else None
        if len(dims) == 2 or (axis == 1 and len(dims) == 3) or not floating:
            return self.tokens
        return self.tokens if isinstance(dims[1], int) else None

    def _symbols(self, feeds: tuple[Feed, ...]) -> list[str]:
        atoms = {a.symbol for f in feeds for d in f.dims if isinstance(d, Dim) for _, m in d.terms for a in m}
        return [symbol for symbol in "bscp" if symbol in atoms]

    def _tasks(self, symbols: list[str]) -> dict[str, tuple[tuple[str, ...], Mapping[str, int]]]:
        if "c" not in symbols:
            return {"infer": (tuple(symbols), {})}
        tasks: dict[str, tuple[tuple[str, ...], Mapping[str, int]]] = {}
        if "s" in symbols:
            tasks["infer"] = (tuple(s for s in symbols if s != "c"), {"c": 0})
        tasks["decode"] = (tuple(s for s in symbols if s != "s"), {"s": 1})
        return tasks

    def _fixed_batch(self, feeds: tuple[Feed, ...], symbols: list[str]) -> int:
        if "b" in symbols or any(f.role is Role.CACHE and len(f.dims) == 5 for f in feeds):
            return 0
        firsts = {feed.dims[0] for feed in feeds if feed.dims and not feed.switch}
        first = firsts.pop() if len(firsts) == 1 else 0
        return first if isinstance(first, int) else 0

    def _note_names(self) -> None:
        """Say which sizes of different names are taken for one."""
        same: dict[str, list[str]] = {}
        for name, size in self.named.items():
            same.setdefault(str(size), []).append(name)
        for symbol, words in (("s", "the same length"), ("p", "equal sides")):
            if len(same.get(symbol, ())) > 1:
                self.notes[f"{' and '.join(sorted(same[symbol])[:4])} are taken to be {words}"] = None
