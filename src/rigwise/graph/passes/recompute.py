"""Activation recompute: run parts of the forward pass again instead of keeping its results.

``full`` keeps only what enters each repeated block (checkpointing every layer) and runs the
block's forward again before its backward. ``selective`` keeps the results of matrix
operators and runs the streaming ones again. A model without repeated blocks is treated as
one block under ``full``.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016;
Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models", 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rigwise.graph.op import Op, Phase, Tensor
from rigwise.graph.passes.precision import MATRIX_KINDS


def recompute(ops: Sequence[Op], policy: str) -> tuple[Op, ...]:
    """The graph under a recompute policy: none, selective or full.

    A layer runs again right before its own backward pass, so that what it makes again is gone before the next does.
    """
    if policy == "none" or not any(op.phase is Phase.BACKWARD for op in ops):
        return tuple(ops)
    forward = [i for i, op in enumerate(ops) if op.phase is Phase.FORWARD]
    blocks = any(ops[i].repeat > 1 for i in forward)
    again = [i for i in forward if _runs_again(ops[i], policy, blocks=blocks)]
    kept = _block_inputs(ops, again)
    dropped = set(again) - kept
    start = forward[-1] + 1
    before = _places(ops, again, start)
    order: list[tuple[int, bool]] = [(i, False) for i in range(start)]
    for index in range(start, len(ops)):
        order += [(i, True) for i in before.get(index, ())]
        order.append((index, False))
    made = {i: n for n, (i, is_again) in enumerate(order) if not is_again}
    remade = {i: n for n, (i, is_again) in enumerate(order) if is_again}

    def source(reader: int, producer: int, *, is_again: bool) -> int:
        """Which of the two runs a reader of the backward pass takes a result from."""
        if reader < start and not is_again:
            return made[producer]
        of_this_layer = is_again and producer < reader and producer in remade
        return remade[producer] if producer in dropped or of_this_layer else made[producer]

    def moved(reader: int, *, is_again: bool) -> Op:
        op = ops[reader]
        sources = [
            t.producer if t.producer is None else source(reader, t.producer, is_again=is_again) for t in op.inputs
        ]
        inputs = tuple(
            t if t.producer == place else replace(t, producer=place)
            for t, place in zip(op.inputs, sources, strict=True)
        )
        if is_again:
            attrs = {**op.attrs, "recomputed": True}
            return replace(op, phase=Phase.BACKWARD, inputs=inputs, outputs=_unsaved(op), attrs=attrs)
        if reader in dropped:
            return replace(op, inputs=inputs, outputs=_unsaved(op))
        if reader in kept:
            first = replace(op.outputs[0], saved=True)
            return replace(op, inputs=inputs, outputs=(first, *op.outputs[1:]))
        return op if reader < start else replace(op, inputs=inputs)  # what stands before is where it was

    return tuple(moved(index, is_again=is_again) for index, is_again in order)


def _places(ops: Sequence[Op], again: Sequence[int], start: int) -> dict[int, list[int]]:
    """Before which backward operator each runs again: the start of the block that first reads what it makes.

    The operators of one forward block run again together; one that nobody reads, at the start of the backward pass.
    """
    block_start = _block_starts(ops)
    first: dict[int, int] = {}
    for index in range(len(ops) - 1, start - 1, -1):
        for tensor in ops[index].inputs:
            if tensor.producer is not None and tensor.producer < start:
                first[tensor.producer] = block_start[index]
    group = {index: block_start[index] if ops[index].repeat > 1 else index for index in again}
    for _ in range(2):  # what a group needs is needed where the group runs, which its first operator may decide
        for index in reversed(again):
            if index in first:
                first[group[index]] = min(first.get(group[index], first[index]), first[index])
            for tensor in ops[index].inputs if group[index] in first else ():
                if tensor.producer is not None and tensor.producer < index:
                    place = first[group[index]]
                    first[tensor.producer] = min(first.get(tensor.producer, place), place)
    places: dict[int, list[int]] = {}
    for index in again:
        places.setdefault(first.get(group[index], start), []).append(index)
    return places


def _block_starts(ops: Sequence[Op]) -> list[int]:
    """First operator of the block that each stands in; its own index outside blocks."""
    starts = list(range(len(ops)))
    for index in range(1, len(ops)):
        op, previous = ops[index], ops[index - 1]
        if op.repeat > 1 and (op.repeat, op.phase) == (previous.repeat, previous.phase):
            starts[index] = starts[index - 1]
    return starts


def _runs_again(op: Op, policy: str, *, blocks: bool) -> bool:
    if policy == "selective":
        return op.kind not in MATRIX_KINDS
    return op.repeat > 1 or not blocks


def _block_inputs(ops: Sequence[Op], again: Sequence[int]) -> set[int]:
    """Operators whose result a later repetition, or what stands behind the block, starts from."""
    inside = set(again)
    return {
        t.producer
        for i in again
        for t in ops[i].inputs
        if t.producer is not None and (t.producer >= i or t.producer not in inside)
    }


def _unsaved(op: Op) -> tuple[Tensor, ...]:
    return tuple(replace(t, saved=False) for t in op.outputs)
