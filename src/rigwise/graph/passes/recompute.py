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
    """The graph under a recompute policy: none, selective or full."""
    if policy == "none" or not any(op.phase is Phase.BACKWARD for op in ops):
        return tuple(ops)
    forward = [i for i, op in enumerate(ops) if op.phase is Phase.FORWARD]
    blocks = any(ops[i].repeat > 1 for i in forward)
    again = [i for i in forward if _runs_again(ops[i], policy, blocks=blocks)]
    kept = _block_inputs(ops, again) if policy == "full" else set()
    dropped = set(again) - kept
    start = forward[-1] + 1
    head = [replace(op, outputs=_unsaved(op)) if i in dropped else op for i, op in enumerate(ops[:start])]
    position = {i: start + n for n, i in enumerate(again)}
    redone = [_redone(ops[i], position) for i in again]
    shift = len(again)
    tail = [replace(op, inputs=tuple(_shifted(t, start, shift) for t in op.inputs)) for op in ops[start:]]
    return tuple(head + redone + tail)


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


def _redone(op: Op, position: dict[int, int]) -> Op:
    inputs = tuple(
        replace(t, producer=position.get(t.producer, t.producer)) if t.producer is not None else t for t in op.inputs
    )
    return replace(
        op, phase=Phase.BACKWARD, inputs=inputs, outputs=_unsaved(op), attrs={**op.attrs, "recomputed": True}
    )


def _shifted(tensor: Tensor, start: int, shift: int) -> Tensor:
    if tensor.producer is None or tensor.producer < start:
        return tensor
    return replace(tensor, producer=tensor.producer + shift)
