"""The same estimate for many machines at once: what the search asks for.

What one micro-batch takes on one device does not depend on how many devices there are, so it
is computed once for each kind of device, for all micro-batch sizes together, and kept. What is
left for each machine is the sum of ``step.py``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rigwise.errors import RigwiseError
from rigwise.estimate import bound
from rigwise.estimate.bound import LeastWork, least_step_s
from rigwise.estimate.calibration import Calibration, load_calibration
from rigwise.estimate.collective import Network, alone, as_columns, network_of
from rigwise.estimate.columns import DeviceColumns, columns, stack
from rigwise.estimate.communication import Groups
from rigwise.estimate.device_memory import can_index, label_spread, memory_spread
from rigwise.estimate.interval import fit_probability, quantiles, step_spread, time_spread
from rigwise.estimate.learned import knowledge_of
from rigwise.estimate.memory import WorkingSet, capacity_bytes, peak_memory, working_sets
from rigwise.estimate.micro_step import MicroStep, micro_step
from rigwise.estimate.predict import best_format_of, lowering_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.step import (
    StepWork,
    line_of,
    step_times,
    update_work,
    without_recompute,
)
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case
from rigwise.workload.lower import Recipe, Work, lower_model
from rigwise.workload.resolve import Resolved, resolve
from rigwise.workload.table import FORMATS, Array, tabulate

__all__ = ["FleetEstimate", "LeastWork", "Recipe", "estimate_fleet", "least_memory_bytes", "least_step_s", "least_work"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEstimate:
    """Estimates of one recipe, an entry for each machine; nan where a machine cannot run it.

    Attributes:
        step_p10_s, step_p50_s, step_p90_s, bound_s: Time of one optimizer step.
        memory_p50_bytes, memory_p90_bytes, memory_capacity_bytes, fit_probability: Of one device.
        energy_p50_j: Of one step over all devices; nan without a TDP.
    """

    step_p10_s: Array
    step_p50_s: Array
    step_p90_s: Array
    bound_s: Array
    memory_p50_bytes: Array
    memory_p90_bytes: Array
    memory_capacity_bytes: Array
    fit_probability: Array
    energy_p50_j: Array


def estimate_fleet(
    case: Case, recipe: Recipe, machines: Sequence[Machine], model: Model | None = None
) -> FleetEstimate:
    """Estimate one recipe on every machine.

    Args:
        case: The job: model, task, global batch, sequence, method, optimizer. What the recipe
            or the machine decides is overridden.
        recipe: Format, layout, mode, micro-batch, recompute and ZeRO stage.
        machines: Any mixture; all devices of a machine are data-parallel replicas.
        model: The captured model, if at hand; else ``case.model`` is loaded once.

    Source: ``estimate.step``.
    """
    held = _Held(model or _model(case.model))
    results = np.full((len(fields(FleetEstimate)), len(machines)), np.nan)
    by_format: dict[str, list[int]] = {}
    for index, machine in enumerate(machines):
        shared = case.batch % machine.count == 0 and (case.batch // machine.count) % recipe.micro_batch == 0
        if shared and not machine.device.missing():
            by_format.setdefault(_facts(_Known(machine.device)).best_format, []).append(index)
    for best_format, members in by_format.items():
        try:
            kept = _kept(case, _of_one_device(recipe), best_format, held, load_calibration())
        except RigwiseError:
            continue
        able = [i for i in members if kept.formats <= _facts(_Known(machines[i].device)).formats]
        linked = [i for i in able if _network(_Known(machines[i]))]
        if linked:
            results[:, linked] = _estimate(kept, recipe, tuple(_Known(machines[i]) for i in linked))
    return FleetEstimate(**dict(zip(FleetEstimate.__dataclass_fields__, results, strict=True)))


def least_work(case: Case, dtype: str, model: Model | None = None) -> LeastWork:
    """What one step of the job cannot do without in a dtype, whatever else a plan chooses.

    The whole global batch counts as one micro-batch of one replica: splitting it only adds.

    Source: ``estimate.bound``.
    """
    return _least_work(case, dtype, _Held(model or _model(case.model)))


@lru_cache(maxsize=256)
def _least_work(case: Case, dtype: str, held: _Held) -> LeastWork:
    resolved, work = _whole_job(case, dtype, held.model)
    table = tabulate(without_recompute(work.step_ops), resolved.sizes)
    least = bound.least_work(table, work, 1, 1, resolved.case.optimizer or "none")
    if dtype not in ("int8", "int4"):
        return least
    widest = {bound.FASTEST: sum(least.flops_by_format.values())}
    return replace(least, flops_by_format=widest)


def least_memory_bytes(case: Case, dtype: str, count: int, model: Model | None = None) -> float:
    """What one of ``count`` devices must hold at least: weights, gradients, state under ZeRO 3.

    Source: ``estimate.bound``.
    """
    resolved, work = _whole_job(case, dtype, model or _model(case.model))
    return bound.least_memory_bytes(work, resolved.case.optimizer or "none", count)


def _whole_job(case: Case, dtype: str, model: Model) -> tuple[Resolved, Work]:
    alone_ = replace(case.parallel, data=1, micro_batch=None, zero=0)
    single = replace(case, dtype=dtype, count=1, nodes=1, device="", recompute="none", mode="eager", parallel=alone_)
    resolved = resolve(single, model)
    return resolved, lower_model(model, lowering_of(resolved.case, "bf16"))


@lru_cache(maxsize=8)
def _model(name: str) -> Model:
    return load_model(name)


@dataclass(frozen=True, slots=True, eq=False)
class _Held:
    """A model as a cache key: known by identity."""

    model: Model

    def __hash__(self) -> int:
        return id(self.model)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.model is other.model


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """A device or machine as a cache key: known by identity, since neither has a hash."""

    thing: Any

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Known) and self.thing is other.thing


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What estimates need of one device."""

    column: DeviceColumns
    best_format: str
    formats: frozenset[str]
    ceilings_flops_per_s: Mapping[str, float]
    cache_bytes: float
    spread: float
    capacity_bytes: float
    label_spread: float


@lru_cache(maxsize=4096)
def _facts(known: _Known) -> _Facts:
    device, calibration = known.thing, load_calibration()
    formats = frozenset(f for f in FORMATS if device.computes(f))
    return _Facts(
        column=columns([device], calibration),
        best_format=best_format_of(device) if formats & {"bf16", "fp16", "fp32"} else "fp32",
        formats=formats,
        ceilings_flops_per_s={f: bound.ceiling_flops_per_s(device, f) for f in (*FORMATS, bound.FASTEST)},
        cache_bytes=bound.cache_bytes(device),
        spread=time_spread(device, calibration),
        capacity_bytes=capacity_bytes(device, calibration.memory_terms),
        label_spread=label_spread(device, calibration),
    )


@lru_cache(maxsize=65536)
def _network(known: _Known) -> Network | None:
    """The links of a machine, None where it has several devices and no known link."""
    constants = load_calibration().collective
    try:
        return network_of(known.thing, constants) if known.thing.count > 1 else alone(constants)
    except RigwiseError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fleet:
    """Columns over machines that do not depend on the work ``[machines]``."""

    devices: tuple[_Known, ...]
    columns: DeviceColumns
    network: Network
    count: Array
    ceilings_flops_per_s: Mapping[str, Array]
    cache_bytes: Array
    bytes_per_s: Array
    spread: Array
    capacity_bytes: Array
    label_spread: Array


@lru_cache(maxsize=4096)
def _fleet(machines: tuple[_Known, ...]) -> _Fleet:
    keys = tuple(_Known(known.thing.device) for known in machines)
    facts = [_facts(key) for key in keys]
    joined = stack([f.column for f in facts])
    return _Fleet(
        devices=keys,
        columns=joined,
        network=as_columns([network for known in machines if (network := _network(known)) is not None]),
        count=np.array([float(known.thing.count) for known in machines]),
        ceilings_flops_per_s={
            name: np.array([f.ceilings_flops_per_s[name] for f in facts]) for name in facts[0].ceilings_flops_per_s
        },
        cache_bytes=np.array([f.cache_bytes for f in facts]),
        bytes_per_s=joined.bytes_per_s[:, 0, 0],
        spread=np.array([f.spread for f in facts]),
        capacity_bytes=np.array([f.capacity_bytes for f in facts]),
        label_spread=np.array([f.label_spread for f in facts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """One lowering of a job at every micro-batch size, and each device's times as they are asked for.

    Attributes:
        step: The work; its columns run over ``batches``.
        batches: Micro-batch sizes: the divisors of the global batch.
        formats: Number formats that the work computes in.
        held: What the operators hold ``[batches]``.
        least: The floor of one step of the whole job.
        times: By device, columns over ``batches``.
    """

    step: StepWork
    batches: tuple[int, ...]
    formats: frozenset[str]
    held: list[WorkingSet]
    least: LeastWork
    times: dict[_Known, MicroStep]

    def on(self, keys: Sequence[_Known], size: int) -> MicroStep:
        """Times of the micro-batch size with that index on each of the devices."""
        unknown = list(dict.fromkeys(key for key in keys if key not in self.times))
        if unknown:
            setting, calibration = setting_of(self.step.case), load_calibration()
            on_devices = stack([_facts(key).column for key in unknown])
            known = knowledge_of(
                calibration,
                [key.thing for key in unknown],
                self.step.case,
                self.step.table,
                range(len(self.batches)),
            )
            on_devices = known.scaled(on_devices) if known else on_devices
            whole, _ = micro_step(self.step.table, on_devices, calibration, setting)
            for row, key in enumerate(unknown):
                self.times[key] = MicroStep(**{f.name: getattr(whole, f.name)[row] for f in fields(whole)})
        picked = [self.times[key] for key in keys]
        return MicroStep(**{f.name: np.array([getattr(m, f.name)[size] for m in picked]) for f in fields(MicroStep)})


def _divisors(batch: int) -> tuple[int, ...]:
    """Whole numbers that divide a batch, rising."""
    small = [n for n in range(1, math.isqrt(batch) + 1) if batch % n == 0]
    return tuple(sorted({*small, *(batch // n for n in small)}))


def _of_one_device(recipe: Recipe) -> Recipe:
    """The part of a recipe that decides what one micro-batch takes on one device."""
    layout = "nhwc" if recipe.mode == "compiled" else recipe.layout
    return replace(recipe, micro_batch=1, zero=0, layout=layout)


@lru_cache(maxsize=1024)
def _kept(case: Case, recipe: Recipe, best_format: str, holder: _Held, calibration: Calibration) -> _Kept:
    del calibration  # the times kept with the work are its
    model = holder.model
    batches = _divisors(case.batch)
    parallel = replace(case.parallel, data=1, micro_batch=1, zero=0)
    whole = replace(
        case,
        device="",
        count=1,
        nodes=1,
        dtype=recipe.dtype,
        layout=recipe.layout,
        mode=recipe.mode,
        recompute=recipe.recompute,
        parallel=parallel,
    )
    resolved = resolve(whole, model)
    work = lower_model(model, lowering_of(resolved.case, best_format))
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
    return _Kept(
        step=step,
        batches=batches,
        formats=frozenset(FORMATS[f] for f in computing),
        held=working_sets(work.step_ops, sizes, resolved.case),
        least=_least_work(case, recipe.dtype, holder),
        times={},
    )


def _estimate(kept: _Kept, recipe: Recipe, machines: tuple[_Known, ...]) -> Array:
    """The rows of ``FleetEstimate`` for machines that can all run the recipe."""
    calibration, fleet = load_calibration(), _fleet(machines)
    parallel = replace(kept.step.case.parallel, zero=recipe.zero, micro_batch=recipe.micro_batch)
    case = replace(kept.step.case, parallel=parallel, layout=recipe.layout, mode=recipe.mode)
    size = kept.batches.index(recipe.micro_batch)
    step = replace(kept.step, case=case, size=size)
    micro_steps = case.batch / (fleet.count * recipe.micro_batch)
    groups = Groups(count=fleet.count, data=fleet.count, micro_steps=micro_steps, network=fleet.network)
    micro, on_devices, spread = kept.on(fleet.devices, size), fleet.columns, fleet.spread
    known = knowledge_of(calibration, [key.thing for key in fleet.devices], step.case, step.table, [size])
    on_devices = known.scaled(on_devices) if known else on_devices
    times = step_times(step, micro, groups, on_devices, calibration)
    spread = step_spread(spread, micro.group_s, times.shares_s, step.case, calibration)
    if known:
        spread = known.spread(spread, micro.group_s, times.shares_s)
    floors = bound.floor_s(kept.least, fleet.ceilings_flops_per_s, (fleet.cache_bytes, fleet.bytes_per_s), fleet.count)
    time_s = quantiles(times.total_s, np.hypot(spread, times.comm_spread), floors)
    held, terms = kept.held[size], calibration.memory_terms
    is_cpu = fleet.columns.is_cpu[:, 0, 0]
    peak = peak_memory(step.work, held, case, fleet.count, terms).peak_bytes
    if is_cpu.any():
        on_cpu = peak_memory(step.work, held, case, fleet.count, terms, is_cpu=True).peak_bytes
        peak = np.where(is_cpu, on_cpu, peak)
    memory_spreads = np.hypot(memory_spread(case, calibration), fleet.label_spread)
    memory = quantiles(peak, memory_spreads)
    chance = fit_probability(memory["p50"], fleet.capacity_bytes, memory_spreads)
    rows = (
        time_s["p10"],
        time_s["p50"],
        time_s["p90"],
        floors,
        memory["p50"],
        memory["p90"],
        fleet.capacity_bytes,
        chance if can_index(held, case, terms) else chance * terms.index_fit_frac,
        times.energy_j,
    )
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows])
