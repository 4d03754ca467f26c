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

from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import stack
from rigwise.estimate.fleet_columns import Known, facts_of
from rigwise.estimate.learned import GROUPS, Knowledge, knowledge_of
from rigwise.estimate.memory import Course, WorkingSet, course_of
from rigwise.estimate.micro_step import MicroStep, summed
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import lowering_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.sharding import check_supported, layers_of, shard
from rigwise.estimate.step import StepWork, line_of, update_work
from rigwise.estimate.timeline import Timeline
from rigwise.graph.dim import Sizes
from rigwise.graph.liveness import Held
from rigwise.workload.case import Case, check
from rigwise.workload.lower import Recipe, lower_model
from rigwise.workload.recipes import Recipes
from rigwise.workload.resolve import resolve
from rigwise.workload.table import FORMATS, Array, OpTable, tabulate, timed_alike

Indices = NDArray[np.int64]


#: As many times of operators as one more call to compute them takes as long as.
_CALL = 16_384
#: Along what a recipe divides the operators of a micro-batch.
SIDES = ("tensor", "sequence", "context", "expert")
Division = tuple[int, ...]


class Kept:
    """One lowering of a job at every micro-batch size, divided in every way that was asked for.

    Columns run over divisions and, inside each, over ``batches``. Operators that are alike, as those of equal blocks
    are, take the same time, so one of each kind is timed.

    Attributes:
        job, model: The question.
        step: The work, undivided; its columns run over ``batches``.
        table: The operators of one member in all divisions.
        batches: Micro-batch sizes: the divisors of the global batch.
        formats: Number formats that the work computes in.
        layers: Equal attention blocks, which a pipeline can be cut between; 0 for none.
        calibration: Fitted constants.
    """

    def __init__(self, asked: _Asked, calibration: Calibration) -> None:
        """Lower the work of a job.

        Raises:
            RigwiseError: The model cannot be run so.
        """
        whole = _undivided(asked)
        self.job, self.model, self.step = asked.case, asked.model, whole.step
        self.batches, self.formats = whole.batches, whole.formats
        self._sizes = Sizes({name: np.asarray(size, dtype=np.float64) for name, size in whole.sizes.items()})
        self.layers, self.calibration = layers_of(whole.step.table), calibration
        self._place: dict[Division, int] = {}
        self._cases: list[Case] = []
        self._courses: dict[int, Course] = {}
        self._held_at: dict[tuple[float, int], int] = {}
        self._held: WorkingSet | None = None
        self.table = columns_of(whole.step.table, np.zeros(0, dtype=np.int64))
        self._alike = timed_alike(whole.step.table.ops)
        self._kinds, self._one_of = self.table, np.arange(len(self._alike))
        self._row: dict[Known, int] = {}
        self._known = np.zeros((0, 0), dtype=np.bool_)
        self._times: dict[str, Array] = {}

    def places(self, divisions: Sequence[Division]) -> Indices:
        """Which divisions these are, -1 where the model cannot be divided so."""
        new = [self._divided(sides) for sides in divisions if sides not in self._place]
        tables = [table for table in new if table is not None]
        if tables:
            self.table = joined([self.table, *tables])
            self._set_apart(tables)
        return np.array([self._place[sides] for sides in divisions], dtype=np.int64)

    def column(self, place: Indices, micro_batch: Indices) -> Indices:
        """Columns of micro-batches of these sizes under these divisions."""
        return np.asarray(place * len(self.batches) + np.searchsorted(self.batches, micro_batch))

    def on(self, devices: Sequence[Known], device: Indices, column: Indices) -> MicroStep:
        """One micro-batch in these columns, each on one of the devices."""
        rows = self._ensured(devices, np.asarray(device), np.asarray(column) // len(self.batches))
        return MicroStep(**{name: times[rows, column] for name, times in self._times.items()})

    def knowledge(self, devices: Sequence[Known], device: Indices, column: Indices) -> Knowledge | None:
        """What was learned about the micro-batches that ``on`` times, None if nothing."""
        columns, where = np.unique(column, return_inverse=True)
        known = self._knowledge(devices, self.table, columns.tolist())
        return known and Knowledge(
            scale=known.scale[device, :, where.ravel()][:, :, None],
            covariance=known.covariance[device],
            variance=known.variance[device, where.ravel()][:, None],
            measured=known.measured[device],
            dispersion=known.dispersion[device],
        )

    def held(self, in_flight: Array, column: Indices) -> WorkingSet:
        """What stands in memory in these columns with these shares of activations in flight, columns over both."""
        length = len(self.batches) * len(self._cases)
        shares, share = np.unique(in_flight, return_inverse=True)
        pairs, which = np.unique(share * length + column, return_inverse=True)
        asked = list(zip(shares[pairs // length].tolist(), (pairs % length).tolist(), strict=True))
        further = [pair for pair in asked if pair not in self._held_at]
        if further or self._held is None:
            found = self._holding(further)
            self._held = found if self._held is None else _one_after_the_other(self._held, found)
            self._held_at |= {pair: row for row, pair in enumerate(further, len(self._held_at))}
        rows = np.array([self._held_at[pair] for pair in asked], dtype=np.int64)[which]
        names = [f.name for f in fields(WorkingSet) if f.name != "convolves"]
        return replace(self._held, **{name: getattr(self._held, name)[rows] for name in names})

    def _holding(self, asked: Sequence[tuple[float, int]]) -> WorkingSet:
        """The same of pairs of a share and a column, each once."""
        told = [(self._course(column // len(self.batches)), column % len(self.batches)) for _, column in asked]
        names = ("input_bytes", "cache_bytes", "largest_elements", "depthwise_elements")
        columns: dict[str, Any] = {n: np.array([getattr(course, n)[at] for course, at in told]) for n in names}
        alive = np.stack([course.alive[:, :, at] for course, at in told], axis=-1)
        own = np.stack([course.own[:, at] for course, at in told], axis=-1)
        moments, accumulating = _fullest(alive, own, np.array([flying for flying, _ in asked]))
        convolves = told[0][0].convolves
        return WorkingSet(moments=moments, accumulating=accumulating, convolves=convolves, **columns)

    def _divided(self, sides: Division) -> OpTable | None:
        """The operators of one member of a further division, None where the model cannot be divided so."""
        tensor, sequence, context, expert = sides
        count = tensor * context * expert  # experts stand on replicas
        parallel = replace(
            self.step.case.parallel, tensor=tensor, sequence=bool(sequence), context=context, expert=expert, data=None
        )
        case = replace(self.step.case, count=count, parallel=replace(parallel, data=count // (tensor * context)))
        try:
            check(case)
            check_supported(case, self.step.table)
        except RigwiseError:
            self._place[sides] = -1
            return None
        self._place[sides] = len(self._cases)
        self._cases.append(case)
        return shard(self.step.table, parallel)

    def _set_apart(self, tables: Sequence[OpTable]) -> None:
        """Tell operators apart that differ in further tables; one of each kind is timed for all."""
        figures = np.concatenate([getattr(table, name) for table in tables for name in _sized(table)], axis=1)
        kinds: dict[tuple[int, bytes], int] = {}
        told = zip(self._alike.tolist(), (row.tobytes() for row in figures), strict=True)
        self._alike = np.array([kinds.setdefault(kind, len(kinds)) for kind in told], dtype=np.int64)
        _, one_of = np.unique(self._alike, return_index=True)
        if not np.array_equal(one_of, self._one_of) or len(self._kinds.kind) != len(one_of):
            repeat: Array = np.bincount(self._alike, weights=self.step.table.repeat).astype(np.float64)
            self._kinds, self._one_of = replace(self.step.table.take(one_of), repeat=repeat), one_of

    def _course(self, place: int) -> Course:
        if place not in self._courses:
            self._courses[place] = course_of(self.step.work.step_ops, self._sizes, self._cases[place])
        return self._courses[place]

    def _knowledge(self, devices: Sequence[Known], table: OpTable, columns: Sequence[int]) -> Knowledge | None:
        return knowledge_of(self.calibration, [key.thing for key in devices], self.step.case, table, columns)

    def _ensured(self, devices: Sequence[Known], device: Indices, place: Indices) -> Indices:
        """Rows of these devices, timed in these divisions."""
        self._grow(devices)
        rows = np.array([self._row[key] for key in devices], dtype=np.int64)
        missing = np.zeros((len(devices), len(self._cases)), dtype=np.bool_)
        missing[device, place] = True
        missing &= ~self._known[rows]
        alike: dict[bytes, list[int]] = {}
        for index in np.flatnonzero(missing.any(axis=1)).tolist():
            alike.setdefault(missing[index].tobytes(), []).append(index)
        groups = [(members, np.flatnonzero(missing[members[0]])) for members in alike.values()]
        if groups:
            every, anywhere = np.flatnonzero(missing.any(axis=1)), np.flatnonzero(missing.any(axis=0))
            times = len(self._one_of) * len(self.batches)
            if (len(every) * len(anywhere) - missing.sum()) * times <= _CALL * (len(groups) - 1):
                groups = [(every.tolist(), anywhere)]
        for members, places in groups:
            self._time([devices[i] for i in members], places)
        return rows[device]

    def _time(self, devices: Sequence[Known], places: Indices) -> None:
        columns = (places[:, None] * len(self.batches) + np.arange(len(self.batches))).ravel()
        on_devices = stack([facts_of(key).column for key in devices])
        known = self._knowledge(devices, self.table, columns.tolist())
        on_devices = known.scaled(on_devices) if known else on_devices
        sized: dict[str, Any] = {n: getattr(self.table, n)[self._one_of[:, None], columns] for n in _sized(self.table)}
        of_kinds = op_times(replace(self._kinds, **sized), on_devices, self.calibration, setting_of(self.step.case))
        found = summed(self._kinds, of_kinds)
        rows = np.array([self._row[key] for key in devices])
        for name, times in self._times.items():
            times[rows[:, None], columns] = getattr(found, name)
        self._known[rows[:, None], places] = True

    def _grow(self, devices: Sequence[Known]) -> None:
        """Make room for the times of further devices and divisions."""
        new = [key for key in dict.fromkeys(devices) if key not in self._row]
        self._row |= {key: row for row, key in enumerate(new, len(self._row))}
        shape, before = (len(self._row), len(self._cases)), self._known.shape
        if shape == before:
            return
        known, sizes = np.zeros(shape, dtype=np.bool_), len(self.batches)
        known[: before[0], : before[1]] = self._known
        for field in fields(MicroStep):
            further = (len(GROUPS),) if field.name == "group_s" else ()
            times = np.full((shape[0], shape[1] * sizes, *further), np.nan)
            if before[0]:
                times[: before[0], : before[1] * sizes] = self._times[field.name]
            self._times[field.name] = times
        self._known = known


def joined(tables: Sequence[OpTable]) -> OpTable:
    """Tables of the same operators side by side, columns of one after those of the other."""
    names = _sized(tables[0])
    columns: dict[str, Any] = {name: np.concatenate([getattr(t, name) for t in tables], axis=1) for name in names}
    return replace(tables[0], **columns)


def columns_of(table: OpTable, columns: Indices) -> OpTable:
    """Some of the columns of a table."""
    some: dict[str, Any] = {name: np.take(getattr(table, name), columns, axis=1) for name in _sized(table)}
    return replace(table, **some)


def _sized(table: OpTable) -> list[str]:
    return [f.name for f in fields(OpTable) if np.ndim(getattr(table, f.name)) == 2]


def _fullest(alive: Array, own: Array, flying: Array) -> tuple[Array, Array]:
    """As ``Course.at``, of many columns at once.

    Args:
        alive: Bytes by ``Held`` ``[held, moments, columns]``.
        own: Gradient of the parameter at work ``[moments, columns]``.
        flying: Share of activations in flight ``[columns]``.

    Returns:
        Moments that can be the fullest, the first of them again where there are fewer than in another column, and what
        is held while gradients add up ``[columns, moments, held]``, ``[columns, held]``.
    """
    number = len(flying)
    if not alive.shape[1]:
        return np.zeros((number, 1, len(Held))), np.zeros((number, len(Held)))
    alive[Held.SAVED] *= flying
    rest = alive[: Held.GRADIENT].sum(axis=0)
    order = np.lexsort((-rest, -alive[Held.GRADIENT]), axis=0)
    ahead = np.maximum.accumulate(np.take_along_axis(rest, order, axis=0), axis=0)
    kept = np.concatenate([np.ones((1, number), dtype=np.bool_), ahead[1:] > ahead[:-1]])
    rank = np.argsort(~kept, axis=0, kind="stable")[: kept.sum(axis=0).max()]
    rank = np.where(np.arange(len(rank))[:, None] < kept.sum(axis=0), rank, 0)
    row, column = np.take_along_axis(order, rank, axis=0), np.arange(number)
    fullest = np.argmax(rest + own, axis=0)
    accumulating = alive[:, fullest, column]
    accumulating[Held.GRADIENT] = own[fullest, column]
    return alive[:, row, column].transpose(2, 1, 0), accumulating.T


def _one_after_the_other(one: WorkingSet, other: WorkingSet) -> WorkingSet:
    """Columns of one, then those of the other; where that has fewer moments the first of them stands there again."""
    most = max(one.moments.shape[1], other.moments.shape[1])
    both = [(np.arange(most) < held.moments.shape[1]) * np.arange(most) for held in (one, other)]
    moments = [held.moments[:, at] for held, at in zip((one, other), both, strict=True)]
    names = [f.name for f in fields(WorkingSet) if f.name not in ("moments", "convolves")]
    columns: dict[str, Any] = {name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names}
    return replace(one, moments=np.concatenate(moments), **columns)


def divisions_of(recipes: Recipes) -> tuple[list[Division], Indices]:
    """How recipes divide the operators of a micro-batch, each way once, and which way each has ``[recipes]``."""
    sides = np.stack([recipes.columns[name] for name in SIDES])
    ways, which = np.unique(sides, axis=1, return_inverse=True)
    return [tuple(way) for way in ways.T.tolist()], which.ravel()


def divisors(batch: int) -> tuple[int, ...]:
    """Whole numbers that divide a batch, rising."""
    small = [n for n in range(1, math.isqrt(batch) + 1) if batch % n == 0]
    return tuple(sorted({*small, *(batch // n for n in small)}))


@lru_cache(maxsize=96)
def kept_work(asked: _Asked, calibration: Calibration) -> Kept:
    """The work of a job in one family.

    Raises:
        RigwiseError: The model cannot be run so.
    """
    return Kept(asked, calibration)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is asked of a model, apart from how it is divided.

    Attributes:
        case: The job.
        model: Its model.
        dtype, layout, mode, recompute: What a plan chooses.
        best_format: What packed weights are multiplied in.
    """

    case: Case
    model: Known
    dtype: str
    layout: str
    mode: str
    recompute: str
    best_format: str


def asked_of(case: Case, model: Known, family: Any, recompute: str, best_format: str) -> _Asked:
    """A job in a family."""
    return _Asked(
        case=case,
        model=model,
        dtype=str(family.dtype),
        layout=str(family.layout),
        mode=str(family.mode),
        recompute=recompute,
        best_format=best_format,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Undivided:
    """The work of a whole model, and the sizes of its columns by symbol."""

    step: StepWork
    batches: tuple[int, ...]
    sizes: dict[str, Any]
    formats: frozenset[str]


def _undivided(asked: _Asked) -> _Undivided:
    case, batches = asked.case, divisors(asked.case.batch)
    alone = replace(
        case,
        device="",
        count=1,
        nodes=1,
        dtype=asked.dtype,
        layout=asked.layout,
        mode=asked.mode,
        recompute=asked.recompute,
        parallel=Recipe(dtype=asked.dtype).parallel(1),
    )
    resolved = resolve(alone, asked.model.thing)
    work = lower_model(asked.model.thing, lowering_of(resolved.case, asked.best_format))
    sizes = {**resolved.sizes, "b": np.array(batches, dtype=np.float64)}
    table, line = _tabulated(Known(work), batches, tuple(sorted(resolved.sizes.items())))
    step = StepWork(
        case=resolved.case,
        work=work,
        whole=table,
        table=table,
        update=update_work(work.update_ops),
        sizes=resolved.sizes,
        line=line,
    )
    computing = set(table.number_format[table.flops[:, 0] > 0].tolist())
    formats = frozenset(FORMATS[f] for f in computing)
    return _Undivided(step=step, batches=batches, sizes=sizes, formats=formats)


@lru_cache(maxsize=64)
def _tabulated(held: Known, batches: tuple[int, ...], sizes: tuple[tuple[str, Any], ...]) -> tuple[OpTable, Timeline]:
    """The operators at every size, and their timeline: memory layouts share both."""
    table = tabulate(held.thing.step_ops, {**dict(sizes), "b": np.array(batches, dtype=np.float64)})
    return table, line_of(table, held.thing)
