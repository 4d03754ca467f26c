"""The work of a job under one sharding, with what each kind of device takes for one micro-batch of it.

What one micro-batch takes on one device does not depend on how many devices there are, on the
ZeRO stage or on the pipeline, so it is computed once for each kind of device, for all
micro-batch sizes together, and kept.

Source: ``estimate.micro_step``, ``estimate.sharding`` and ``estimate.memory``; nothing is computed here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import stack
from rigwise.estimate.fleet_columns import Known, facts_of
from rigwise.estimate.learned import Knowledge, knowledge_of
from rigwise.estimate.memory import Course, WorkingSet, course_of
from rigwise.estimate.micro_step import MicroStep, micro_step
from rigwise.estimate.predict import lowering_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.sharding import check_supported, layers_of, shard
from rigwise.estimate.step import StepWork, line_of, update_work
from rigwise.workload.case import Case, check
from rigwise.workload.lower import Recipe, lower_model
from rigwise.workload.resolve import resolve
from rigwise.workload.table import FORMATS, Array, tabulate

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One lowering and sharding of a job at every micro-batch size.

    Attributes:
        job, model: The question.
        step: The work; its columns run over ``batches``.
        batches: Micro-batch sizes: the divisors of the global batch.
        formats: Number formats that the work computes in.
        layers: Equal attention blocks, which a pipeline can be cut between; 0 for none.
        times: By device, columns over ``batches``, as they are asked for.
        course: What the operators hold, columns over ``batches``.
        sets: The fullest moments of it, by activations in flight and index of the batch.
        calibration: Fitted constants.
    """

    job: Case
    model: Known
    step: StepWork
    batches: tuple[int, ...]
    formats: frozenset[str]
    layers: int
    times: dict[Known, MicroStep]
    course: Course
    sets: dict[tuple[float, int], WorkingSet]
    calibration: Calibration

    def on(self, devices: Sequence[Known], device: Indices, size: Indices) -> MicroStep:
        """One micro-batch of the sizes with these indices, each on one of the devices."""
        unknown = [key for key in devices if key not in self.times]
        if unknown:
            on_devices = stack([facts_of(key).column for key in unknown])
            known = self._known(unknown)
            on_devices = known.scaled(on_devices) if known else on_devices
            whole, _ = micro_step(self.step.table, on_devices, self.calibration, setting_of(self.step.case))
            for row, key in enumerate(unknown):
                self.times[key] = MicroStep(**{f.name: getattr(whole, f.name)[row] for f in fields(whole)})
        names = [f.name for f in fields(MicroStep)]
        return MicroStep(**{n: np.stack([getattr(self.times[key], n) for key in devices])[device, size] for n in names})

    def knowledge(self, devices: Sequence[Known], device: Indices, size: Indices) -> Knowledge | None:
        """What was learned about the micro-batches that ``on`` times, None if nothing."""
        known = self._known(devices)
        return known and Knowledge(
            scale=known.scale[device, :, size][:, :, None],
            covariance=known.covariance[device],
            variance=known.variance[device, size][:, None],
            measured=known.measured[device],
        )

    def _known(self, devices: Sequence[Known]) -> Knowledge | None:
        step, things = self.step, [key.thing for key in devices]
        return knowledge_of(self.calibration, things, step.case, step.table, range(len(self.batches)))

    def held(self, in_flight: Array, size: Indices) -> WorkingSet:
        """What stands in memory at these sizes with these shares of activations in flight, columns over both."""
        pairs, which = np.unique(np.stack([in_flight, size.astype(np.float64)]), axis=1, return_inverse=True)
        sets = [self._set(float(flight), int(index)) for flight, index in pairs.T]
        which = which.ravel()
        most = max(len(s.moments) for s in sets)
        padded = [np.concatenate([s.moments, np.repeat(s.moments[:1], most - len(s.moments), axis=0)]) for s in sets]
        names = ("accumulating", "input_bytes", "cache_bytes", "largest_elements", "depthwise_elements")
        columns: dict[str, Any] = {name: np.array([getattr(s, name) for s in sets])[which] for name in names}
        return WorkingSet(moments=np.stack(padded)[which], convolves=sets[0].convolves, **columns)

    def _set(self, in_flight: float, size: int) -> WorkingSet:
        if (in_flight, size) not in self.sets:
            self.sets[in_flight, size] = self.course.at(size, in_flight)
        return self.sets[in_flight, size]


def _divisors(batch: int) -> tuple[int, ...]:
    """Whole numbers that divide a batch, rising."""
    small = [n for n in range(1, math.isqrt(batch) + 1) if batch % n == 0]
    return tuple(sorted({*small, *(batch // n for n in small)}))


def of_one_device(recipe: Recipe) -> Recipe:
    """The part of a recipe that decides what one micro-batch takes on one device of its tensor group."""
    layout = "nhwc" if recipe.mode == "compiled" else recipe.layout
    return replace(recipe, micro_batch=1, zero=0, layout=layout, pipeline=1, virtual=1)


@lru_cache(maxsize=1024)
def kept_work(case: Case, recipe: Recipe, best_format: str, holder: Known, calibration: Calibration) -> Kept:
    """The work of a job under the part of a recipe that ``of_one_device`` leaves.

    Raises:
        RigwiseError: The model cannot be run or divided so.
    """
    parallel = recipe.parallel(recipe.members * recipe.expert)  # experts stand on replicas
    undivided = replace(recipe, tensor=1, expert=1, context=1, sequence=False)
    whole = _undivided(case, undivided, best_format, holder)
    step, sizes = whole.step, whole.sizes
    divided = replace(step.case, count=recipe.members * recipe.expert, parallel=parallel)
    check(divided)
    check_supported(divided, step.table)
    return Kept(
        job=case,
        model=holder,
        step=replace(step, case=divided, table=shard(step.table, parallel)),
        batches=whole.batches,
        formats=whole.formats,
        layers=layers_of(step.table),
        times={},
        course=course_of(step.work.step_ops, sizes, divided),
        sets={},
        calibration=calibration,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Undivided:
    """What of ``Kept`` is the same however the work is divided, and the sizes of its columns by symbol."""

    step: StepWork
    batches: tuple[int, ...]
    sizes: dict[str, Any]
    formats: frozenset[str]


@lru_cache(maxsize=256)
def _undivided(case: Case, recipe: Recipe, best_format: str, holder: Known) -> _Undivided:
    batches = _divisors(case.batch)
    alone = replace(
        case,
        device="",
        count=1,
        nodes=1,
        dtype=recipe.dtype,
        layout=recipe.layout,
        mode=recipe.mode,
        recompute=recipe.recompute,
        parallel=recipe.parallel(1),
    )
    resolved = resolve(alone, holder.thing)
    work = lower_model(holder.thing, lowering_of(resolved.case, best_format))
    sizes = {**resolved.sizes, "b": np.array(batches, dtype=np.float64)}
    table = tabulate(work.step_ops, sizes)
    step = StepWork(
        case=resolved.case,
        work=work,
        whole=table,
        table=table,
        update=update_work(work.update_ops),
        sizes=resolved.sizes,
        line=line_of(table, work),
    )
    computing = set(table.number_format[table.flops[:, 0] > 0].tolist())
    formats = frozenset(FORMATS[f] for f in computing)
    return _Undivided(step=step, batches=batches, sizes=sizes, formats=formats)
