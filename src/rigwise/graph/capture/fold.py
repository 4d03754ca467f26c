"""Equal consecutive layers become one block with a count.

A block is found in the list of operators alone: two operators are equal if all but the layer number in
their module path is. The longest saving is taken first, then what is left on either side. Blocks are
never nested, except that a layer may hold a loop over time, whose steps were folded before.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rigwise.graph.graph import Graph, Parameter
from rigwise.graph.op import Op, Tensor

_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")
_MAX_PERIODS = 120


@dataclass(frozen=True, slots=True)
class Block:
    """``repeat`` equal runs of ``period`` operators each, from operator ``start`` on."""

    start: int
    period: int
    repeat: int

    @property
    def end(self) -> int:
        """Where the operators behind the block begin."""
        return self.start + self.period * self.repeat


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Layers that a trace left out: a stack traced with 3 of its 32 layers has 29 more.

    Attributes:
        path: Module path of the stack.
        first: Number of its first layer that is equal to those left out.
        more: How often the folded block of equal layers is repeated beyond what was traced.
        last: Number of the first layer of the last group that was traced.
        group: Layers that a block stands for.
    """

    path: str
    first: int
    more: int
    last: int = 0
    group: int = 1


def fold(graph: Graph, left_out: Sequence[LeftOut] = ()) -> Graph:
    """The graph with every run of equal layers standing once, and those left out counted."""
    tokens = _tokens(graph.ops)
    blocks = sorted(_blocks(graph.ops, tokens, 0, len(tokens)), key=lambda b: b.start)
    new_index = _new_indices(len(graph.ops), blocks)
    while not all(_is_wired_equally(graph.ops, block, new_index) for block in blocks):
        blocks = [block for block in blocks if _is_wired_equally(graph.ops, block, new_index)]
        new_index = _new_indices(len(graph.ops), blocks)
    ops: list[Op] = []
    position = 0
    for block in [*blocks, Block(len(graph.ops), 0, 0)]:
        ops.extend(_renumbered(_moved(op, new_index), left_out) for op in graph.ops[position : block.start])
        ops.extend(_folded(graph.ops, block, new_index, left_out))
        position = block.end
    return Graph(ops=tuple(ops), symbols=graph.symbols)


def plain_path(path: str) -> str:
    """A module path without its numbers.

    >>> plain_path("model.layers.17.mlp.up_proj")
    'model.layers.*.mlp.up_proj'
    """
    return _NUMBER.sub("*", path)


def fold_parameters(parameters: Sequence[tuple[str, tuple[int, ...], bool]]) -> tuple[Parameter, ...]:
    """Equal parameters counted once; numbers that differ among them become ``*``.

    >>> fold_parameters([("h.0.w", (2, 3), True), ("h.1.w", (2, 3), True)])
    (Parameter(name='h.*.w', shape=(2, 3), count=2, trainable=True),)
    """
    groups: dict[tuple[Any, ...], list[str]] = {}
    for name, shape, trainable in parameters:
        groups.setdefault((plain_path(name), shape, trainable), []).append(name)
    return tuple(
        Parameter(name=_common_path(names), shape=shape, count=len(names), trainable=trainable)
        for (_, shape, trainable), names in groups.items()
    )


def _common_path(paths: Sequence[str]) -> str:
    """Equal paths as they are; parts in which they differ as ``*``."""
    parts = zip(*(path.split(".") for path in paths), strict=True)
    return ".".join(column[0] if len(set(column)) == 1 else "*" for column in parts)


# Finding blocks.


def _tokens(ops: Sequence[Op]) -> list[int]:
    """A number for every operator, equal for equal operators."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(_signature(op), len(numbers)) for op in ops]


def _signature(op: Op) -> tuple[Any, ...]:
    def looks(tensor: Tensor) -> tuple[Any, ...]:
        return (tensor.shape, tensor.dtype, tensor.role, tensor.saved)

    attrs = tuple(sorted((k, str(v)) for k, v in op.attrs.items()))
    tensors = (tuple(map(looks, op.inputs)), tuple(map(looks, op.outputs)))
    return (op.name, op.phase, plain_path(op.module), op.repeat, attrs, tensors)


def _blocks(ops: Sequence[Op], tokens: list[int], low: int, high: int) -> Iterator[Block]:
    if high - low < 2:
        return
    best = max(_candidates(ops, tokens, low, high), key=lambda b: b.period * (b.repeat - 1), default=None)
    if best is None:
        return
    yield best
    yield from _blocks(ops, tokens, low, best.start)
    yield from _blocks(ops, tokens, best.end, high)


def _candidates(ops: Sequence[Op], tokens: list[int], low: int, high: int) -> Iterator[Block]:
    """The longest run of equal layers for every likely period."""
    for period in _periods(tokens, low, high):
        start = low
        while start + 2 * period <= high:
            length = 0
            while start + length + period < high and tokens[start + length] == tokens[start + length + period]:
                length += 1
            if length >= period:
                repeat, spare = divmod(length + period, period)
                for shift in _layer_start(ops, start, spare, period):
                    block = Block(shift, period, repeat)
                    if _is_layers(ops, block):
                        yield block
                        break
            start += length + 1


def _periods(tokens: list[int], low: int, high: int) -> list[int]:
    """Distances between equal operators, most telling first."""
    last: dict[int, int] = {}
    gaps: Counter[int] = Counter()
    for index in range(low, high):
        if tokens[index] in last:
            gaps[index - last[tokens[index]]] += 1
        last[tokens[index]] = index
    return [gap for gap, _ in sorted(gaps.items(), key=lambda item: (-item[0] * item[1], item[0]))[:_MAX_PERIODS]]


def _layer_start(ops: Sequence[Op], start: int, spare: int, period: int) -> list[int]:
    """Where to begin when a run is longer than its layers: where the layer number changes, if it does."""
    shifts = range(start, start + spare + 1)
    fresh = [i for i in shifts if i == 0 or _layer(ops[i - 1], ops[i - 1 + period]) != _layer(ops[i], ops[i + period])]
    return [*fresh, *(i for i in shifts if i not in fresh)]


def _layer(op: Op, twin: Op) -> list[str]:
    """The module path down to the number that tells an operator from its twin in the next layer."""
    path, other = op.module.split("."), twin.module.split(".")
    return next((path[: n + 1] for n, (x, y) in enumerate(zip(path, other, strict=False)) if x != y), [])


def _is_layers(ops: Sequence[Op], block: Block) -> bool:
    """Whether the repetitions are layers: some module number differs from each to the next."""
    return all(
        any(ops[i].module != ops[i + block.period].module for i in range(at, at + block.period))
        for at in range(block.start, block.end - block.period, block.period)
    )


def _is_wired_equally(ops: Sequence[Op], block: Block, new_index: Sequence[int]) -> bool:
    """Whether the repetitions read from the same places.

    The outer two may differ: the first layer reads from what comes before the stack, and in the backward
    pass the last one does.
    """

    def wiring(repetition: int) -> list[int | None]:
        start = block.start + repetition * block.period
        reads = (t.producer for op in ops[start : start + block.period] for t in op.inputs)
        return [None if index is None else new_index[index] for index in reads]

    return all(wiring(r) == wiring(1) for r in range(2, block.repeat - 1))


# Writing them down.


def _new_indices(count: int, blocks: Sequence[Block]) -> list[int]:
    """Where every operator stands after folding."""
    indices: list[int] = []
    position = new = 0
    for block in [*blocks, Block(count, 0, 0)]:
        lone = block.start - position
        indices.extend(range(new, new + lone))
        new += lone
        indices.extend(new + i % block.period for i in range(block.period * block.repeat))
        new += block.period
        position = block.end
    return indices


def _moved(op: Op, new_index: Sequence[int]) -> Op:
    def moved(tensor: Tensor) -> Tensor:
        return tensor if tensor.producer is None else replace(tensor, producer=new_index[tensor.producer])

    return replace(op, inputs=tuple(map(moved, op.inputs)), outputs=tuple(map(moved, op.outputs)))


def _folded(ops: Sequence[Op], block: Block, new_index: Sequence[int], left_out: Sequence[LeftOut]) -> Iterator[Op]:
    """One layer of a block: wired as its second repetition, which reads from the first."""
    modules = [op.module for op in ops[block.start : block.end]]
    repeat = block.repeat + next((stack.more for stack in left_out if _has_layers_of(stack, modules)), 0)
    for offset in range(block.period):
        second = ops[block.start + block.period + offset]
        path = _common_path(modules[offset :: block.period])
        yield replace(_moved(second, new_index), module=path, repeat=repeat * second.repeat)


def _renumbered(op: Op, left_out: Sequence[LeftOut]) -> Op:
    """An operator outside all blocks: if it is in the last layers of a stack, with the number they really have."""
    for stack in left_out:
        number, _, rest = op.module.removeprefix(f"{stack.path}.").partition(".")
        if op.module.startswith(f"{stack.path}.") and int(number) >= stack.last:
            path = f"{stack.path}.{int(number) + stack.more * stack.group}"
            return replace(op, module=f"{path}.{rest}" if rest else path)
    return op


def _has_layers_of(stack: LeftOut, modules: Sequence[str]) -> bool:
    """Whether layers of a block are among the equal layers of a stack."""
    inside = (m.removeprefix(f"{stack.path}.") for m in modules if m.startswith(f"{stack.path}."))
    return any(int(path.partition(".")[0]) >= stack.first for path in inside)
