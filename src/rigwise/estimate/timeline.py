"""When in a pass which weights are needed: the coarse timeline on which communication is replayed.

A unit is what gathers its weights and sends its gradients together: a layer of a stack, the
operators around the stack, or, where nothing repeats, a run of operators. The order is that of
the forward pass; the backward pass is taken to be the same in reverse, each unit with the same
share of the time. Shares come from arithmetic and traffic of the activations at a nominal
ridge point, so that they hold on every device.

Source: Zhao et al., "PyTorch FSDP", 2023, section 3.3; Li et al., "PyTorch Distributed", 2020,
section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.graph.op import Op, Phase, Role
from rigwise.workload.table import Array, OpTable

#: FLOP per byte at which arithmetic and traffic are taken to cost the same: shares of time only.
NOMINAL_RIDGE = 100.0
#: A run of operators outside stacks closes when it holds this share of all weights.
_LEAST_SHARE = 1 / 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Units of a pass in forward order.

    Attributes:
        repeat: Equal units that follow each other ``[units]``.
        cost_frac: Share of the pass of all repeats together ``[units, sizes]``.
        weight_frac: Share of the weights likewise ``[units]``.
        is_root: Outside the stack: gathered when a pass begins, kept until it ends ``[units]``.
    """

    repeat: Array
    cost_frac: Array
    weight_frac: Array
    is_root: Array

    def ready_frac(self, gradient_frac: Array, size: Any) -> Array:
        """Share of the backward pass after which a share of the gradients is ready, like ``gradient_frac``.

        Gradients come in the reverse order of the forward pass, a unit's at its end.

        Args:
            gradient_frac: Any shape.
            size: Column of the timeline, or one for each of the last axis of ``gradient_frac``.

        Source: Li et al., section 3.2.3.
        """
        if np.ndim(size) == 0:
            return self._ready_frac(gradient_frac, int(size))
        shares = np.broadcast_to(gradient_frac, (*np.shape(gradient_frac)[:-1], len(size)))
        found = np.empty(shares.shape)
        for one in np.unique(size):
            found[..., size == one] = self._ready_frac(shares[..., size == one], int(one))
        return found

    def _ready_frac(self, gradient_frac: Array, size: int) -> Array:
        weights, cost = self.weight_frac[::-1], self.cost_frac[::-1, size]
        after_w, after_c = np.cumsum(weights), np.cumsum(cost)
        first = after_c - cost + cost / self.repeat[::-1]
        x = np.column_stack([after_w - weights, after_w]).ravel() + np.arange(2 * len(weights)) * 1e-12
        return np.interp(gradient_frac, x, np.column_stack([first, after_c]).ravel())


def timeline(table: OpTable, elements: float) -> Timeline:
    """The units of a step's forward pass.

    A weight that two operators share counts where it is used first: its gradient is whole only
    when that operator has run backward.

    Args:
        table: Operators of one micro-batch.
        elements: Of all weights, each counted once.
    """
    rows = np.flatnonzero(table.of_phase(Phase.FORWARD))
    if not rows.size:
        rows = np.arange(len(table.ops))
    repeat = table.repeat[rows]
    traffic = np.maximum(table.read_bytes - table.weight_bytes, 0.0) + table.write_bytes
    cost = np.maximum(table.flops / NOMINAL_RIDGE, traffic)[rows] * repeat[:, None] + 1e-9
    used = np.cumsum([op.repeat * _weights(op) for op in (table.ops[row] for row in rows)])
    weights = np.diff(np.minimum(used, max(elements, 1.0)), prepend=0.0)
    weights = weights / weights.sum() if weights.sum() else np.full(len(rows), 1.0 / len(rows))
    starts = _starts(repeat, weights)
    ends = np.append(starts[1:], len(rows))
    cost_frac = np.add.reduceat(cost / cost.sum(axis=0), starts, axis=0)
    unit_repeat = np.array([repeat[i] for i in starts])
    stack = np.flatnonzero(unit_repeat > 1)
    place = np.arange(len(ends))
    outside = (place < stack[0]) | (place > stack[-1]) if stack.size else np.zeros(len(ends), dtype=bool)
    return Timeline(
        repeat=unit_repeat,
        cost_frac=cost_frac,
        weight_frac=np.add.reduceat(weights, starts),
        is_root=outside.astype(np.float64),
    )


def _weights(op: Op) -> float:
    """Elements of the parameters that an operator uses, whole even if it reads a few rows."""
    found: Any = sum(t.elements({}) for t in op.inputs if t.role is Role.PARAMETER and t.producer is None)
    return float(found)


def _starts(repeat: Array, weights: Array) -> Any:
    """First row of each unit: where the repeat changes, or a run outside stacks holds enough."""
    starts, held = [0], 0.0
    for row in range(1, len(repeat)):
        held += weights[row - 1]
        full = repeat[row] == 1 and held >= _LEAST_SHARE and weights[row] > 0
        if repeat[row] != repeat[row - 1] or full:
            starts.append(row)
            held = 0.0
    return np.array(starts)
