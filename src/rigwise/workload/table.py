"""The operator table: a lowered graph at given sizes, as NumPy columns.

One row for each operator, one column of sizes for each batch that is asked about. Everything
in ``estimate`` is arithmetic between these columns and those of the devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache, reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import RATES_OF_FORMAT
from rigwise.graph.count import BYTES_OF_DTYPE, attention_shape, causal_frac, gemm_shape, tensor_bytes, work
from rigwise.graph.dim import Sizes, size_at
from rigwise.graph.op import Kind, Op, Phase, Role, SameOps, Tensor
from rigwise.workload.lines import PROBES, Lines, lines

Array = NDArray[np.float64]
#: Symbols with their sizes, as a key.
_SizesKey = tuple[tuple[str, int, bytes], ...]

FORMATS = tuple(RATES_OF_FORMAT)
PHASES = tuple(Phase)
KINDS = tuple(Kind)
_LSTM_GATES = 4
#: Formats of one size, in which an operator moves and computes as much.
_HALVES, _HALF = ("float16", "bfloat16"), "half"
#: What a convolution computes: its result, or the gradient of its input or of its weight.
GRADIENTS = ("", "dgrad", "wgrad")


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTable:
    """Columns over operators; those that depend on sizes have the shape ``[operators, sizes]``.

    Attributes:
        ops: The operators themselves, for names and attributes.
        kind, phase, number_format: Index into ``KINDS``, ``PHASES`` and ``FORMATS`` ``[operators]``.
        repeat, launches: How often each runs in a step; kernels of one run ``[operators]``.
        macs: Multiply-adds of one run, by the convention of published figures.
        flops: What a kernel must really compute: causal attention without its masked half.
        read_bytes, write_bytes: Traffic of one run.
        weight_bytes: Part of the reads that is parameters.
        near_bytes: Part of the reads that the most recent operator among its sources wrote.
        near_span_bytes: Traffic from the start of that write to the start of this read, the write included.
        batch, m, n, k: Matrix products of one run, 1 where there are none.
        window, stride, dilation: Of a convolution: elements of its kernel, products of its strides and
            dilations; 1 for any other operator ``[operators]``.
        gradient: Of a convolution: index into ``GRADIENTS`` ``[operators]``.
        pixels: Of one image of a convolution's result (its gradient, in the backward pass).
        pixel_sums: Of a fused kernel that normalises images and sums over their pixels: its sums, one for each image
            and channel, and ``pixels`` are those of one image; 1 for any other operator.
        result_bytes: Of the largest result that needs memory of its own: 0 or 1 where an operator works in place.
        row_bytes: Of a normalisation or softmax: what it reads along the last axis; 1 for any other operator.
        cell_steps: Of a recurrent layer of another cell than LSTM, which libraries for CPUs leave to the framework:
            steps of its sequence; 1 for any other operator.
    """

    ops: tuple[Op, ...]
    kind: NDArray[np.int64]
    phase: NDArray[np.int64]
    number_format: NDArray[np.int64]
    repeat: Array
    launches: Array
    macs: Array
    flops: Array
    read_bytes: Array
    write_bytes: Array
    weight_bytes: Array
    near_bytes: Array
    near_span_bytes: Array
    batch: Array
    m: Array
    n: Array
    k: Array
    window: Array
    stride: Array
    dilation: Array
    gradient: NDArray[np.int64]
    pixels: Array
    pixel_sums: Array
    result_bytes: Array
    row_bytes: Array
    cell_steps: Array

    def of_kind(self, *kinds: Kind) -> NDArray[np.bool_]:
        """Which rows are of these kinds ``[operators]``."""
        wanted = np.array([kind in kinds for kind in KINDS])
        return np.asarray(wanted[self.kind])

    def of_phase(self, phase: Phase) -> NDArray[np.bool_]:
        """Which rows belong to a phase ``[operators]``."""
        return np.asarray(self.phase == PHASES.index(phase))

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> OpTable:
        """The table of some of the operators."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "ops"}
        return OpTable(ops=tuple(self.ops[row] for row in np.arange(len(self.ops))[rows]), **arrays)

    def total(self, column: Array, rows: NDArray[np.bool_] | slice = slice(None)) -> Array:
        """Sum of a column over all runs of the given rows ``[sizes]``."""
        return np.asarray((column[rows] * self.repeat[rows, None]).sum(axis=0))


def tabulate(ops: Sequence[Op], sizes: Mapping[str, Any]) -> OpTable:
    """Fill the table for symbol sizes that are numbers or equally long arrays.

    The same operators at the same sizes, as on another device, are answered from a cache.
    """
    held = SameOps(tuple(ops))
    if all(np.ndim(value) == 0 for value in sizes.values()):
        return _at_sizes(held, tuple(sorted(sizes.items())))
    return _filled(held, sizes)


@lru_cache(maxsize=64)
def _at_sizes(held: SameOps, sizes: tuple[tuple[str, Any], ...]) -> OpTable:
    """From the second batch on by the lines of its columns."""
    rest, batch = tuple(pair for pair in sizes if pair[0] != "b"), dict(sizes).get("b")
    if batch is None or not _is_asked_again(held, rest, batch):
        return _filled(held, dict(sizes))
    fixed, of_rows, of_near = _fixed(held), *_lines(held, rest)
    as_float = Sizes({name: float(value) for name, value in sizes})
    table, holds = of_rows.at(float(batch))
    table = table.reshape(len(fixed.unlike), len(_SIZED))
    for row in np.flatnonzero(~holds.reshape(table.shape).all(axis=1)):
        columns = _sized(fixed.unlike[row].op, as_float)
        table[row] = [columns.get(name, 1.0) for name in _SIZED]
    near, holds = of_near.at(float(batch))
    for row in np.flatnonzero(~holds):
        near[row] = sum(tensor_bytes(tensor, as_float) for tensor in fixed.near[row])
    return _table(fixed, {name: table[:, i, None] for i, name in enumerate(_SIZED)}, near[:, None])


@lru_cache(maxsize=64)
def _first_batch(held: SameOps, rest: tuple[tuple[str, Any], ...]) -> list[Any]:
    """The batch that operators were asked at first; empty before."""
    del held, rest
    return []


def _is_asked_again(held: SameOps, rest: tuple[tuple[str, Any], ...], batch: Any) -> bool:
    first = _first_batch(held, rest)
    first.extend([] if first else [batch])
    return bool(first[0] != batch)


@lru_cache(maxsize=64)
def _lines(held: SameOps, rest: tuple[tuple[str, Any], ...]) -> tuple[Lines, Lines]:
    """Lines of the columns that sizes decide, one operator after the other; and of what is read of the last source."""
    sized, near = _counted(_fixed(held), {**dict(rest), "b": PROBES})
    return lines(np.stack([sized[name] for name in _SIZED], axis=1).reshape(-1, len(PROBES))), lines(near)


def _filled(held: SameOps, sizes: Mapping[str, Any]) -> OpTable:
    fixed = _fixed(held)
    return _table(fixed, *_counted(fixed, sizes))


def _counted(fixed: _Fixed, sizes: Mapping[str, Any]) -> tuple[dict[str, Any], Array]:
    """Columns over unlike operators, each looked at once, and what each operator reads of its last source."""
    length = max((len(np.atleast_1d(v)) for v in sizes.values()), default=1)
    key = tuple((name, np.ndim(v), np.asarray(v, dtype=np.float64).tobytes()) for name, v in sorted(sizes.items()))
    as_float = _remembering(key)
    as_float.update({name: _as_float(value) for name, value in sizes.items()})
    found = np.ones((len(fixed.unlike), len(_SIZED), length))
    for row, look in enumerate(fixed.unlike):
        found[row] = look.at(key, as_float, length)
    near = np.zeros((len(fixed.ops), length))
    for row, tensors in enumerate(fixed.near):
        for tensor in tensors:
            near[row] += tensor_bytes(tensor, as_float)
    return {name: found[:, index] for index, name in enumerate(_SIZED)}, near


@lru_cache(maxsize=8)
def _remembering(key: _SizesKey) -> Sizes:
    """The sizes that all tables at them share."""
    del key
    return Sizes({})


def _table(fixed: _Fixed, sized: Mapping[str, Any], near: Array) -> OpTable:
    columns = {name: column[fixed.alike] for name, column in sized.items()}
    read, write = columns.pop("read_bytes"), columns.pop("write_bytes")
    return OpTable(
        ops=fixed.ops,
        read_bytes=read,
        write_bytes=write,
        weight_bytes=np.minimum(columns.pop("weight_bytes"), read),
        near_bytes=np.minimum(near, read),
        near_span_bytes=_near_span(fixed, read + write, near),
        **fixed.columns,
        **columns,
    )


def _as_float(value: Any) -> Any:
    """A plain float where there is one size: arithmetic on it is far quicker than on an array of one."""
    return float(value) if np.ndim(value) == 0 else np.asarray(value, dtype=np.float64)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixed:
    """What of a table no size changes.

    Attributes:
        ops: The operators.
        unlike: Of each kind of operators that cost the same in the same formats.
        alike: Which of those each operator is ``[operators]``.
        sources: Index of the most recent operator each depends on, -1 for none ``[operators]``.
        near: What it reads of that one.
        columns: Columns that no size changes.
    """

    ops: tuple[Op, ...]
    unlike: tuple[_Look, ...]
    alike: NDArray[np.int64]
    sources: NDArray[np.int64]
    near: tuple[tuple[Tensor, ...], ...]
    columns: dict[str, Any]


@lru_cache(maxsize=64)
def _fixed(held: SameOps) -> _Fixed:
    ops = held.ops
    places: dict[tuple[_Look, Any], int] = {}
    alike = np.array([places.setdefault((_look_of(op), _formats(op)), len(places)) for op in ops], dtype=np.int64)
    sources = [_latest(op, row) for row, op in enumerate(ops)]
    windows = np.array([_window(op) if op.kind is Kind.CONV else (1.0, 1.0, 1.0) for op in ops]).reshape(-1, 3).T
    columns = {
        "kind": np.array([KINDS.index(op.kind) for op in ops], dtype=np.int64),
        "phase": np.array([PHASES.index(op.phase) for op in ops], dtype=np.int64),
        "number_format": np.array([FORMATS.index(str(op.attrs.get("format", "fp32"))) for op in ops], dtype=np.int64),
        "repeat": np.array([float(op.repeat) for op in ops]),
        "launches": np.array([_launches(op) for op in ops]),
        "gradient": np.array([_gradient(op) for op in ops], dtype=np.int64),
        **dict(zip(("window", "stride", "dilation"), windows, strict=True)),
    }
    return _Fixed(
        ops=ops,
        unlike=tuple(look for look, _ in places),
        alike=alike,
        sources=np.array(sources, dtype=np.int64),
        near=tuple(
            tuple(t for t in op.inputs if t.producer == source) for op, source in zip(ops, sources, strict=True)
        ),
        columns=columns,
    )


class _Look:
    """What operators that cost the same have in common: tables of one model share most of theirs.

    Attributes:
        op: One of them.
        known: The sizes it was last asked at, and its columns there ``[len(_SIZED), sizes]``.
    """

    __slots__ = ("known", "op")

    def __init__(self, op: Op) -> None:
        self.op = op
        self.known: tuple[_SizesKey, Array] | None = None

    def at(self, key: _SizesKey, sizes: Sizes, length: int) -> Array:
        """The columns at these sizes."""
        known = self.known
        if known is None or known[0] != key:
            found, columns = _sized(self.op, sizes), np.ones((len(_SIZED), length))
            for row, name in enumerate(_SIZED):
                columns[row] = found.get(name, 1.0)
            known = self.known = key, columns
        return known[1]


def _look_of(op: Op) -> _Look:
    sides = tuple(
        tuple((t.shape, _HALF if t.dtype in _HALVES else t.dtype, t.role) for t in side)
        for side in (op.inputs, op.outputs)
    )
    attrs = tuple(sorted((name, repr(value)) for name, value in op.attrs.items() if name != "format"))
    return _look(_ByLooks((op.name, op.kind, sides, attrs), op))


def _formats(op: Op) -> tuple[Any, ...]:
    """What of an operator's formats its costs do not depend on, and its time may."""
    return op.attrs.get("format"), *(t.dtype for t in (*op.inputs, *op.outputs))


@dataclass(frozen=True, slots=True)
class _ByLooks:
    """All that the costs of an operator depend on, and one that looks so."""

    looks: Any
    op: Op = field(compare=False)


@lru_cache(maxsize=8192)
def _look(looks: _ByLooks) -> _Look:
    return _Look(looks.op)


def timed_alike(ops: tuple[Op, ...]) -> NDArray[np.int64]:
    """Kinds of operators whose times differ only where their columns do, by number ``[operators]``."""
    kinds: dict[Any, int] = {}
    alike = _fixed(SameOps(ops)).alike.tolist()
    looks = ((kind, op.phase, tuple(t.saved for t in op.outputs)) for kind, op in zip(alike, ops, strict=True))
    return np.array([kinds.setdefault(look, len(kinds)) for look in looks], dtype=np.int64)


def _latest(op: Op, row: int) -> int:
    """The most recent operator that one depends on; -1 for none before it."""
    return max((t.producer for t in op.inputs if t.producer is not None and t.producer < row), default=-1)


_SIZED = ("macs", "flops", "read_bytes", "write_bytes", "weight_bytes", "batch", "m", "n", "k", "pixels", "pixel_sums",
          "result_bytes", "row_bytes", "cell_steps")  # fmt: skip


def _sized(op: Op, sizes: Sizes) -> dict[str, Any]:
    """The columns of one operator that sizes decide; those left out are 1."""
    cost, made = work(op, sizes), () if op.name.endswith("_") else op.outputs
    columns = {
        "macs": cost.macs,
        "flops": cost.flops * causal_frac(op, sizes) if op.kind is Kind.ATTENTION else cost.flops,
        "read_bytes": cost.read_bytes,
        "write_bytes": cost.write_bytes,
        "result_bytes": reduce(np.maximum, (tensor_bytes(t, sizes) for t in made), 0.0),
        "weight_bytes": sum(tensor_bytes(t, sizes) for t in op.inputs if t.role is Role.PARAMETER),
        **_products(op, sizes),
    }
    if op.kind is Kind.CONV:
        columns["pixels"] = _image_pixels(op, sizes)
    if op.attrs.get("sums_pixels"):
        columns |= _pixel_sums(op, sizes)
    if op.kind is Kind.RNN and op.attrs.get("gates") != _LSTM_GATES:
        columns["cell_steps"] = size_at(op.inputs[0].shape[0], sizes)
    if op.kind in (Kind.NORM, Kind.SOFTMAX) and op.inputs and op.inputs[0].shape:
        first = op.inputs[0]
        columns["row_bytes"] = size_at(first.shape[-1], sizes) * BYTES_OF_DTYPE[first.dtype]
    return columns


def _near_span(fixed: _Fixed, moved: Array, near: Array) -> Array:
    """Traffic since the most recent source of each operator began to write."""
    span = np.full_like(moved, np.inf)
    before = np.concatenate([np.zeros((1, moved.shape[1])), np.cumsum(moved, axis=0)])
    rows = np.flatnonzero(fixed.sources >= 0)
    span[rows] = before[rows] - before[fixed.sources[rows] + 1] + near[rows]
    return span


def _products(op: Op, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Matrix products of one run; attention has one row block for each head and query."""
    if op.kind is Kind.ATTENTION:
        batch_heads, s, t, d, _ = attention_shape(op, sizes)
        return {"batch": batch_heads, "m": s, "n": t, "k": d}
    shape = gemm_shape(op, sizes)
    return {} if shape is None else {"batch": shape.batch, "m": shape.m, "n": shape.n, "k": shape.k}


def _window(op: Op) -> tuple[float, float, float]:
    """Elements of a convolution's kernel, its strides and its dilations, each multiplied together."""
    weight = op.outputs[0] if op.name.endswith("wgrad") else op.inputs[1]
    kernel = [float(size) for size in weight.shape[2:] if isinstance(size, int)]
    strides, dilations = (np.atleast_1d(np.asarray(op.attrs.get(name, 1), float)) for name in ("stride", "dilation"))
    return float(np.prod(kernel)), float(np.prod(strides)), float(np.prod(dilations))


def _image_pixels(op: Op, sizes: Mapping[str, Any]) -> Any:
    image = op.inputs[0] if op.name.endswith(GRADIENTS[1:]) else op.outputs[0]
    return image.elements(sizes) / (size_at(image.shape[0], sizes) * size_at(image.shape[1], sizes))


def _pixel_sums(op: Op, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Pixels of the images that a fused kernel sums over, and its sums."""
    images = [t for t in op.inputs if len(t.shape) == 4 and t.shape[2:] != (1, 1)]
    if not images:
        return {}
    sums = size_at(images[0].shape[0], sizes) * size_at(images[0].shape[1], sizes)
    return {"pixel_sums": sums, "pixels": images[0].elements(sizes) / sums}


def _gradient(op: Op) -> int:
    if op.kind is not Kind.CONV:
        return 0
    return next((i for i, g in enumerate(GRADIENTS) if g and op.name.endswith(g)), 0)


def _launches(op: Op) -> float:
    """Kernels that one run starts; allocations start none."""
    if "launches" in op.attrs:
        return float(op.attrs["launches"])  # type: ignore[arg-type]
    return 0.0 if op.name.startswith(("aten.empty", "aten.new_empty")) else 1.0
