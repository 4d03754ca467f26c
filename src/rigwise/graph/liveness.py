"""How long each result lives, and what is alive while each operator runs.

A result is alive from the operator that makes it to its last reader; one of the forward pass that
is not saved, to its last reader there. In a folded block a result that only its own repetition or
the next one reads lives once; what the forward pass saves lives in every repetition. So the bytes
at an operator are those of its worst repetition: the last of a forward block, the first of a
backward one.

Weights, inputs and the gradients kept for the optimizer are not counted here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from rigwise.graph.count import tensor_bytes
from rigwise.graph.graph import Graph
from rigwise.graph.op import Op, Phase, Role

#: In place: the result takes the memory of the operand.
_IN_PLACE = "_"


def live_bytes(graph: Graph, sizes: Mapping[str, Any]) -> list[float]:
    """Bytes of activations alive while each operator runs, operands and results included.

    >>> from rigwise.graph.op import Kind, Phase, Tensor
    >>> def double(source, repeat=1):
    ...     return Op(name="aten.mul", kind=Kind.ELEMENTWISE, phase=Phase.FORWARD, repeat=repeat,
    ...               inputs=(Tensor((256,), producer=source),), outputs=(Tensor((256,)),))
    >>> live_bytes(Graph(ops=(double(None), double(0), double(1)), symbols={}), {})
    [1024.0, 2048.0, 2048.0]
    """
    ops = graph.ops
    blocks = _blocks(ops)
    change = [0.0] * (len(ops) + 1)
    readers = _readers(ops, blocks)
    for index, op in enumerate(ops):
        last = max(readers[index], default=index)
        in_phase = max((i for i in readers[index] if ops[i].phase is op.phase), default=index)
        start = index + 1 if op.name.endswith(_IN_PLACE) and last > index else index
        for tensor in op.outputs:
            end = last if tensor.saved or op.phase is not Phase.FORWARD else in_phase
            if tensor.role is not Role.ACTIVATION or end < start:
                continue
            copies = op.repeat if blocks[end] != blocks[index] and tensor.saved else 1
            held = copies * float(tensor_bytes(tensor, sizes))
            change[start] += held
            change[end + 1] -= held
    return list(accumulate(change))[:-1]


def peak_live_bytes(graph: Graph, sizes: Mapping[str, Any]) -> tuple[float, int]:
    """The most that is ever alive, and the operator at which it is."""
    alive = live_bytes(graph, sizes)
    if not alive:
        return 0.0, 0
    index = max(range(len(alive)), key=alive.__getitem__)
    return alive[index], index


def _blocks(ops: Sequence[Op]) -> list[int]:
    """Number of the block each operator stands in: neighbours of one phase that repeat equally often."""
    numbers: list[int] = []
    for index, op in enumerate(ops):
        joins = index > 0 and op.repeat > 1 and (op.repeat, op.phase) == (ops[index - 1].repeat, ops[index - 1].phase)
        numbers.append(numbers[-1] if joins else len(numbers))
    return numbers


def _readers(ops: Sequence[Op], blocks: Sequence[int]) -> list[list[int]]:
    """Where each operator's result is read; a result of the previous repetition lives to the block's end."""
    readers: list[list[int]] = [[] for _ in ops]
    end = {block: index for index, block in enumerate(blocks)}
    for index, op in enumerate(ops):
        for tensor in op.inputs:
            if tensor.producer is not None:
                readers[tensor.producer].append(index if tensor.producer < index else end[blocks[index]])
    return readers
