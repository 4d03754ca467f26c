"""How long each result lives, and what is alive while each operator runs.

A result is alive from the operator that makes it to its last reader. One of the forward pass that is not kept
for the backward pass dies with its last reader there; one that a module was called with is held by the
caller until the module returns, whoever reads it, unless the step is compiled. A kept result dies with the
backward operator that reads it. Autocast keeps its copy of a weight until the forward pass ends, and the
backward pass until the layer's turn. The gradient of a parameter stays.

In a folded block a result that only its own repetition or the next one reads lives once; what the forward
pass keeps, and every gradient, lives in all repetitions. The bytes at an operator are those of its worst
repetition: the last of a forward block, and of a backward one the first or the last, for between them what
was kept shrinks and the gradients grow by equal steps.

Weights, inputs and what the optimizer keeps are not counted here.

Source: the reference of PyTorch on autograd's saved tensors and on autocast's cache of weights, 2.13.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.dim import Size, Sizes, product_at
from rigwise.graph.graph import Graph
from rigwise.graph.op import Op, Phase, Role, Tensor
from rigwise.graph.passes.precision import MATRIX_KINDS

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: In place: the result takes the memory of the operand. These write a tensor that nobody wrote before.
_IN_PLACE = "_"
_FILLS = frozenset(
    f"aten.{name}_" for name in ("copy", "fill", "zero", "uniform", "normal", "bernoulli", "random", "exponential")
)


class Held(IntEnum):
    """Why a result is in memory."""

    WORKING = 0  # read by an operator still to come
    SAVED = 1  # kept for the backward pass
    WEIGHT_COPY = 2  # autocast's copy of a weight
    GRADIENT = 3  # of a parameter, for the optimizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One stay of one result in memory, as indices of operators.

    Attributes:
        maker: Makes it.
        start, end: From the first to the last operator at which it counts.
        others: Copies in the other repetitions of its block.
        first_come, first_gone: From where to where those count while backward blocks run their first repetition.
        last_come, last_gone: The same while they run their last.
        held: A ``Held``.
    """

    maker: int
    start: int
    end: int
    others: int = 0
    first_come: int = 0
    first_gone: int = 0
    last_come: int = 0
    last_gone: int = 0
    held: int = Held.WORKING


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """When every result of a list of operators is alive; nothing depends on sizes.

    Attributes:
        ops: How many operators there are.
        tensors: The results.
        lives: Columns of their stays by the names of ``Life`` ``[results]``.
        shapes: The different shapes among them.
        shape: Index of each into these ``[results]``.
        element_bytes: Of each ``[results]``.
    """

    ops: int
    tensors: tuple[Tensor, ...]
    lives: Mapping[str, Indices]
    shapes: tuple[tuple[Size, ...], ...]
    shape: Indices
    element_bytes: Array

    def result_bytes(self, sizes: Mapping[str, Any]) -> Array:
        """Bytes of one copy of each result ``[results, sizes]``."""
        at = sizes if isinstance(sizes, Sizes) else Sizes({k: np.asarray(v, float) for k, v in sizes.items()})
        length = max((len(np.atleast_1d(v)) for v in at.values()), default=1)
        elements = np.empty((len(self.shapes), length))
        for row, shape in enumerate(self.shapes):
            elements[row] = product_at(shape, at)
        return np.asarray(elements[self.shape] * self.element_bytes[:, None])


def lifetimes(ops: Sequence[Op], *, frames: bool = True) -> Lifetimes:
    """When every result is alive.

    Args:
        ops: Operators of one forward pass, or of one forward and one backward pass, in the order they run.
        frames: Whether callers hold what they call modules with, as they do in an eager step.
    """
    walk = _Walk(ops, frames=frames)
    found = [entry for index in range(len(ops)) for entry in walk.of(index)]
    lives = {f.name: np.array([getattr(life, f.name) for _, life in found], dtype=np.int64) for f in fields(Life)}
    tensors = tuple(tensor for tensor, _ in found)
    number: dict[tuple[Size, ...], int] = {}
    shape = [number.setdefault(t.shape, len(number)) for t in tensors]
    return Lifetimes(
        ops=len(ops), tensors=tensors, lives=lives, shapes=tuple(number), shape=np.array(shape, dtype=np.int64),
        element_bytes=np.array([float(BYTES_OF_DTYPE[t.dtype]) for t in tensors]),
    )  # fmt: skip


def alive_bytes(lifetimes_: Lifetimes, result_bytes: Array) -> Array:
    """Bytes alive while each operator runs, by reason.

    Args:
        lifetimes_: Of the operators.
        result_bytes: Of one copy of each result ``[results, sizes]``.

    Returns:
        ``[2, len(Held), operators, sizes]``: in the first and in the last repetition of backward blocks.
    """
    lives, count = lifetimes_.lives, lifetimes_.ops + 1
    row, many = lives["held"] * count, np.flatnonzero(lives["others"])
    copies = result_bytes[many] * lives["others"][many, None]
    weights = np.concatenate([result_bytes, -result_bytes, copies, -copies])
    change = np.empty((2, result_bytes.shape[1], len(Held) * count))
    for repetition, name in enumerate(("first", "last")):
        come, gone = lives[f"{name}_come"][many], lives[f"{name}_gone"][many]
        places = np.concatenate([row + lives["start"], row + lives["end"] + 1, row[many] + come, row[many] + gone])
        for size in range(result_bytes.shape[1]):
            change[repetition, size] = np.bincount(places, weights[:, size], minlength=len(Held) * count)
    alive = change.reshape(2, -1, len(Held), count).cumsum(axis=3)[..., :-1]
    return np.ascontiguousarray(alive.transpose(0, 2, 3, 1))


def live_bytes(graph: Graph, sizes: Mapping[str, Any]) -> list[float]:
    """Bytes of results alive while each operator runs, operands and results included, gradients of weights not.

    >>> from rigwise.graph.op import Kind, Phase, Tensor
    >>> def double(source, repeat=1):
    ...     return Op(name="aten.mul", kind=Kind.ELEMENTWISE, phase=Phase.FORWARD, repeat=repeat,
    ...               inputs=(Tensor((256,), producer=source),), outputs=(Tensor((256,)),))
    >>> live_bytes(Graph(ops=(double(None), double(0), double(1)), symbols={}), {})
    [1024.0, 2048.0, 2048.0]
    """
    if not graph.ops:
        return []
    lives = lifetimes(graph.ops)
    alive = alive_bytes(lives, lives.result_bytes(sizes))[:, : Held.GRADIENT]
    return [float(n) for n in alive.sum(axis=1).max(axis=0)[:, 0]]


def peak_live_bytes(graph: Graph, sizes: Mapping[str, Any]) -> tuple[float, int]:
    """The most that is ever alive, and the operator at which it is."""
    alive = live_bytes(graph, sizes)
    if not alive:
        return 0.0, 0
    index = max(range(len(alive)), key=alive.__getitem__)
    return alive[index], index


class _Walk:
    """What one result's life is found from: who reads it, which block and module it stands in."""

    def __init__(self, ops: Sequence[Op], *, frames: bool) -> None:
        self.ops = ops
        self.last = len(ops) - 1
        self.forward_end = max((i for i, op in enumerate(ops) if op.phase is Phase.FORWARD), default=0)
        self.trains = self.forward_end < self.last
        self.block = _blocks(ops)
        self.block_end = {block: index for index, block in enumerate(self.block)}
        self.block_start = {block: index for index, block in reversed(list(enumerate(self.block)))}
        self.paths = [tuple(op.module.split(".")) if op.module else () for op in ops]
        self.runs = _runs(self.paths) if frames else None
        backward = [(i, op) for i, op in enumerate(ops) if op.phase is Phase.BACKWARD]
        self.module_end = {op.module: i for i, op in backward}
        self.products_end = {op.module: i for i, op in backward if op.kind in MATRIX_KINDS}
        self.readers = _readers(ops)
        self.named = {t.producer for op in ops if op.phase is Phase.BACKWARD for t in op.inputs}

    def of(self, index: int) -> Iterator[tuple[Tensor, Life]]:
        """The stays of everything an operator makes."""
        op = self.ops[index]
        keeps = any(t.saved for t in op.outputs)
        for position, tensor in enumerate(op.outputs):
            if tensor.role is Role.GRADIENT:
                yield tensor, self._gradient(index, position)
            elif tensor.role is Role.ACTIVATION:
                yield from self._activation(index, position, may_keep=tensor.saved or not keeps)

    def _start(self, index: int) -> int:
        """Where a result begins to count beside the operand whose memory it may take."""
        op = self.ops[index]
        in_place = op.name.endswith(_IN_PLACE) and op.name not in _FILLS and bool(op.inputs)
        return index + 1 if in_place else index

    def _gradient(self, index: int, position: int) -> Life:
        """A gradient stays; one that is cast or added to another is gone with that."""
        start, later = self._start(index), [r for r in self.readers[index, position] if r > index]
        if later:
            return Life(maker=index, start=start, end=max(*later, start - 1))
        block = self.block[index]
        return Life(
            maker=index, start=start, end=max(self.last, start - 1), others=self.ops[index].repeat - 1,
            first_come=self.block_end[block] + 1, first_gone=self.last + 1,
            last_come=self.block_start[block], last_gone=self.last + 1, held=Held.GRADIENT,
        )  # fmt: skip

    def _activation(self, index: int, position: int, *, may_keep: bool) -> Iterator[tuple[Tensor, Life]]:
        op, tensor, start = self.ops[index], self.ops[index].outputs[position], self._start(index)
        readers = self.readers[index, position]
        if op.name == "aten._to_copy" and op.phase is Phase.FORWARD and op.inputs[0].role is Role.PARAMETER:
            end = max(self.products_end.get(op.module, 0) if len(tensor.shape) > 1 else 0, self.forward_end)
            yield tensor, self._kept(index, start, end, Held.WEIGHT_COPY)
            return
        later = [r for r in readers if r > index]
        before = [r for r in readers if r <= index]  # in the next repetition
        if op.phase is Phase.FORWARD and self.trains:
            backward = [r for r in later if self.ops[r].phase is not Phase.FORWARD]
            if tensor.saved and not backward and index not in self.named:  # its reader is known by its layer alone
                backward = [self.module_end.get(op.module, index)]
            if backward and may_keep:
                yield tensor, self._kept(index, start, max(backward), Held.SAVED)
                return
            later = [r for r in later if self.ops[r].phase is Phase.FORWARD]
        block = self.block[index]
        end = max((self._returns(index, r) for r in later), default=index)
        if before:
            end = max(end, self.block_end[block])
            until = max(self._returns(index, r) for r in before)
            yield tensor, Life(maker=index, start=self.block_start[block], end=until)
        if end >= start:
            yield tensor, Life(maker=index, start=start, end=end)

    def _kept(self, index: int, start: int, end: int, held: Held) -> Life:
        """A result that lives in every repetition of its block until the one that reads it."""
        own, reads = self.block[index], self.block[end]
        start = min(start, end + 1)
        if own == reads or self.ops[index].repeat == 1:
            return Life(maker=index, start=start, end=end, held=held)
        one_by_one = self.ops[end].repeat > 1 and self.ops[end].phase is not Phase.FORWARD
        come = self.block_start[own]
        return Life(
            maker=index, start=start, end=end, others=self.ops[index].repeat - 1, held=held,
            first_come=come, first_gone=(self.block_end[reads] if one_by_one else end) + 1,
            last_come=come, last_gone=self.block_start[reads] if one_by_one else end + 1,
        )  # fmt: skip

    def _returns(self, index: int, reader: int) -> int:
        """The last operator of the module that ``reader`` was called in with the result of ``index``."""
        if self.runs is None or self.ops[reader].phase is not Phase.FORWARD:
            return reader
        made, read = self.paths[index], self.paths[reader]
        shared = 0
        while shared < min(len(made), len(read)) and made[shared] == read[shared]:
            shared += 1
            if reader <= index and made[shared - 1] == "*":  # the next layer is another module
                shared -= 1
                break
        return self.runs[reader][shared + 1] if shared < len(read) else reader


def _runs(paths: Sequence[tuple[str, ...]]) -> list[list[int]]:
    """For each operator and depth, the last of the operators behind it that stay inside the same module."""
    runs: list[list[int]] = []
    for index in range(len(paths) - 1, -1, -1):
        path, runs_behind = paths[index], runs[-1] if runs else []
        behind = paths[index + 1] if runs else ()
        own = [len(paths) - 1]
        for depth in range(1, len(path) + 1):
            stays = depth <= len(behind) and path[:depth] == behind[:depth]
            own.append(runs_behind[depth] if stays else index)
        runs.append(own)
    return runs[::-1]


def _blocks(ops: Sequence[Op]) -> list[int]:
    """Number of the block each operator stands in: neighbours of one phase that repeat equally often."""
    numbers: list[int] = []
    for index, op in enumerate(ops):
        joins = index > 0 and op.repeat > 1 and (op.repeat, op.phase) == (ops[index - 1].repeat, ops[index - 1].phase)
        numbers.append(numbers[-1] if joins else len(numbers))
    return numbers


def _readers(ops: Sequence[Op]) -> Mapping[tuple[int, int], list[int]]:
    """Who reads each result of each operator.

    A backward operator names what it takes the gradient of by the operator that made it; where it reads another
    format than that operator made, it reads the copy that was cast for the layer's forward operator.
    """
    casts: dict[tuple[int, str], list[int]] = defaultdict(list)
    for index, op in enumerate(ops):
        if op.name == "aten._to_copy" and op.inputs and op.inputs[0].producer is not None:
            casts[op.inputs[0].producer, op.outputs[0].dtype].append(index)
    readers: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            if tensor.producer is None:
                continue
            maker = tensor.producer
            made = ops[maker].outputs
            if op.phase is Phase.BACKWARD and all(t.dtype != tensor.dtype for t in made):
                copies = [c for c in casts[maker, tensor.dtype] if c != index]
                own = [c for c in copies if ops[c].module == op.module]
                maker = (own or copies or [maker])[-1]
                made = ops[maker].outputs
            for position in _positions(tensor, made):
                readers[maker, position].append(index)
    return readers


def _positions(tensor: Tensor, made: Sequence[Tensor]) -> list[int]:
    """Which results of an operator a reader may mean: of its shape, else of its format, else any."""
    if len(made) == 1:
        return [0]
    same = [i for i, t in enumerate(made) if t.dtype == tensor.dtype]
    exact = [i for i in same if made[i].shape == tensor.shape]
    return exact or same or list(range(len(made)))
