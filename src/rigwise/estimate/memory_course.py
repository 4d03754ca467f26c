"""What stands in memory over a step: the course of it, the operator at the peak, and the allocator's share.

Source: ``graph.liveness`` for the course, ``estimate.replay`` for the allocator.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from rigwise.estimate.memory import alive_over_step
from rigwise.estimate.predict import Prediction, predict, work_of
from rigwise.estimate.replay import Replay, events, replay
from rigwise.graph.graph import Model
from rigwise.graph.liveness import Array, Held
from rigwise.graph.load import load_model
from rigwise.graph.op import Op
from rigwise.machine.this import resolve_device
from rigwise.workload.case import Case
from rigwise.workload.resolve import resolve

#: Moments of the course that are shown.
_MOMENTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The bytes that come and go, while one operator runs in the worst repetition of its block.

    Attributes:
        operator, module, phase, repeat: Of the operator.
        working_bytes, saved_bytes, weight_copies_bytes, gradients_bytes: See ``graph.liveness.Held``.
    """

    operator: str
    module: str
    phase: str
    repeat: int
    working_bytes: float
    saved_bytes: float
    weight_copies_bytes: float
    gradients_bytes: float

    @property
    def total_bytes(self) -> float:
        """Their sum."""
        return self.working_bytes + self.saved_bytes + self.weight_copies_bytes + self.gradients_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCourse:
    """The answer.

    Attributes:
        prediction: Of the case, with the terms at the peak.
        peak: The fullest moment of forward and backward pass.
        course: Moments spread over the step, in order, each the fullest of its stretch.
        replay: What the caching allocator makes of two such steps; None on a CPU, which has none.
    """

    prediction: Prediction
    peak: Moment
    course: tuple[Moment, ...]
    replay: Replay | None


def memory_course(case: Case, model: Model | None = None) -> MemoryCourse:
    """The course of one step on one device; sharding over devices shows in the prediction's terms alone.

    Raises:
        RigwiseError: As ``predict``.
    """
    model = model or load_model(case.model)
    prediction = predict(case, model)
    device = resolve_device(case.device)
    resolved = resolve(case, model)
    ops = work_of(model, resolved, device).work.step_ops
    lives, held, alive = alive_over_step(ops, resolved.sizes, resolved.case)
    worst = alive[:, :, :, 0].sum(axis=1).argmax(axis=0)
    columns = alive[worst, :, np.arange(len(ops)), 0]
    totals = columns.sum(axis=1)
    edges = np.unique(np.linspace(0, len(ops), min(_MOMENTS, len(ops)) + 1).astype(int))
    shown = [int(low + totals[low:high].argmax()) for low, high in pairwise(edges)]
    standing = sum(prediction.memory_terms.get(name, 0.0) for name in ("weights", "optimizer", "buffers", "batch"))
    replayed = None
    if device.kind != "cpu":
        replayed = replay(events(ops, lives), held[:, 0], standing_bytes=standing)
    return MemoryCourse(
        prediction=prediction,
        peak=_moment(ops, columns, int(totals.argmax())),
        course=tuple(_moment(ops, columns, index) for index in shown),
        replay=replayed,
    )


def _moment(ops: Sequence[Op], columns: Array, index: int) -> Moment:
    op, row = ops[index], columns[index]
    return Moment(
        operator=op.name,
        module=op.module,
        phase=str(op.phase),
        repeat=op.repeat,
        working_bytes=float(row[Held.WORKING]),
        saved_bytes=float(row[Held.SAVED]),
        weight_copies_bytes=float(row[Held.WEIGHT_COPY]),
        gradients_bytes=float(row[Held.GRADIENT]),
    )


def memory_document(course: MemoryCourse) -> Mapping[str, Any]:
    """The JSON object of ``rigwise.memory/1``."""
    from rigwise.edge import as_plain

    p = course.prediction
    return {
        "schema": "rigwise.memory/1",
        "case": as_plain(replace(p.case)),
        "device": p.device.id,
        "peak_memory_bytes": {**p.peak_memory_bytes, "terms": dict(p.memory_terms)},
        "capacity_bytes": p.capacity_bytes,
        "fits": p.fits,
        "fit_probability": p.fit_probability,
        "largest_micro_batch": p.largest_micro_batch,
        "peak": as_plain(replace(course.peak)),
        "course": [as_plain(replace(moment)) for moment in course.course],
        "replay": as_plain(replace(course.replay)) if course.replay else None,
    }
