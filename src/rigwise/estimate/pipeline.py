"""Pipeline parallelism: the bubble, the fullest stage, and what stages send each other.

Layers are divided evenly; the first stage has the embedding too and the last one the head, and
the fullest of them sets the pace of all. Filling and draining the pipeline leaves ``p-1``
micro-batches' worth of every device idle, a ``v``-th of it when each device has ``v`` pieces
that take turns. Each boundary is crossed once forward and once backward by every micro-batch.

Source: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters", 2021,
section 2.2.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rigwise.estimate.collective import Network, send_s
from rigwise.estimate.timeline import Timeline
from rigwise.workload.case import Case, Parallel


def _virtual(parallel: Parallel) -> int:
    return parallel.virtual if parallel.schedule == "interleaved" else 1


def bubble_factor(parallel: Parallel, micro_steps: Any) -> Any:
    """Time of a pipelined step over the ideal one, stages being equal.

    Source: Narayanan et al., section 2.2: bubble (p-1)/m, divided by v when interleaved.

    >>> bubble_factor(Parallel(pipeline=4), 12)
    1.25
    """
    return 1.0 + (parallel.pipeline - 1) / (micro_steps * _virtual(parallel))


def imbalance(line: Timeline, pipeline: Any, size: Any = 0) -> Any:
    """Time of the fullest stage over that of the average one.

    Source: layers divided evenly, as Narayanan et al. do; see the module.
    """
    inner = np.flatnonzero(line.is_root == 0)
    if not inner.size or np.all(pipeline == 1):
        return 1.0
    cost = line.cost_frac[:, size]
    layers = float(line.repeat[inner].sum())
    one = cost[inner].sum(axis=0) / layers
    ends = np.maximum(cost[: inner[0]].sum(axis=0), cost[inner[-1] + 1 :].sum(axis=0))
    fullest = np.maximum(np.ceil(layers / pipeline) * one, layers / pipeline * one + ends)
    return np.where(pipeline == 1, 1.0, np.maximum(1.0, fullest * pipeline))


def passes_of_stage(case: Case, line: Timeline | None, micro_steps: Any, size: Any = 0) -> Any:
    """Whole passes over the model that a step takes as long as, on one stage.

    Source: the fullest stage computes without a break; the bubble is of average stages.

    >>> passes_of_stage(Case(model="m", device="d", parallel=Parallel(pipeline=4)), None, 12)
    3.75
    """
    parallel = case.parallel
    fullest = imbalance(line, parallel.pipeline, size) if line else 1.0
    return micro_steps / parallel.pipeline * (bubble_factor(parallel, micro_steps) + fullest - 1.0)


def bubble_passes(case: Case) -> Any:
    """Passes over the model that a device is idle for while the pipeline fills and drains.

    Source: ``bubble_factor``.
    """
    return (case.parallel.pipeline - 1) / (case.parallel.pipeline * _virtual(case.parallel))


def pipeline_sends_s(case: Case, message_bytes: Any, network: Network, micro_steps: Any, *, between_nodes: Any) -> Any:
    """Hidden states and their gradients between stages, in one step; nothing hides them.

    Args:
        case: Resolved.
        message_bytes: Hidden states of one micro-batch; with the sequence divided, the ranks of
            a tensor group send a part each.
        network: Of the machine.
        micro_steps: Micro-batches of a replica.
        between_nodes: Whether neighbouring stages stand in different nodes.

    Source: Narayanan et al., sections 2.2 and 4.1.
    """
    parallel = case.parallel
    if np.all(parallel.pipeline == 1):
        return 0.0
    directions = 2 if case.task == "train" else 1
    crossings = (micro_steps * _virtual(parallel) + parallel.pipeline - 1) * directions
    share = message_bytes / np.where(parallel.sequence, parallel.tensor, 1)
    return np.where(parallel.pipeline == 1, 0.0, crossings * send_s(share, network, between_nodes=between_nodes))
