"""The same estimate for many recipes on many machines at once: what the search asks for.

What one micro-batch takes on one device is kept by ``fleet_work``, what is known of a machine by
``fleet_columns``. What is left is the sum of ``step.py``, with a column for each pair of a recipe
and a machine: recipes that divide the operators alike are summed in one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.errors import RigwiseError
from rigwise.estimate import bound
from rigwise.estimate.bound import LeastEnergy, LeastWork
from rigwise.estimate.calibration import Calibration, load_calibration
from rigwise.estimate.communication import Groups
from rigwise.estimate.device_memory import can_index, memory_spread
from rigwise.estimate.fleet_bound import least_divided_s
from rigwise.estimate.fleet_columns import (
    Fleet,
    Known,
    best_format_for,
    facts_of,
    fleet_of,
    least_energy_of,
    network_between,
)
from rigwise.estimate.fleet_work import Indices, Kept, asked_of, divisions_of, kept_work
from rigwise.estimate.interval import fit_probability, quantiles, step_spread
from rigwise.estimate.memory import in_flight, peak_memory
from rigwise.estimate.predict import lowering_of
from rigwise.estimate.step import StepWork, step_times, without_recompute
from rigwise.facts.device import Device
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.machine.machine import Machine
from rigwise.workload.case import RECOMPUTE, Case
from rigwise.workload.lower import Recipe, Work, lower_model
from rigwise.workload.recipes import Recipes
from rigwise.workload.resolve import Resolved, resolve
from rigwise.workload.table import Array, tabulate

__all__ = [
    "FleetEstimate",
    "LeastWork",
    "Recipe",
    "estimate_fleet",
    "estimate_recipes",
    "kept_figures",
    "least_energy_j",
    "least_family_s",
    "least_memory_bytes",
    "least_step_s",
    "least_steps",
    "least_work",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetEstimate:
    """Estimates of one recipe ``[machines]``, or of several ``[recipes, machines]``; nan where one cannot be run.

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


#: Most pairs of a recipe and a machine in one call: what bounds the memory of temporary arrays.
_MOST_PAIRS = 8192


def estimate_fleet(
    case: Case, recipe: Recipe, machines: Sequence[Machine], model: Model | None = None
) -> FleetEstimate:
    """Estimate one recipe on every machine, as ``estimate_recipes`` does several."""
    every = estimate_recipes(case, Recipes.of((recipe,)), machines, model)
    return FleetEstimate(**{f.name: getattr(every, f.name)[0] for f in fields(FleetEstimate)})


def estimate_recipes(
    case: Case,
    recipes: Recipes,
    machines: Sequence[Machine],
    model: Model | None = None,
    wanted: NDArray[np.bool_] | None = None,
) -> FleetEstimate:
    """Estimate every recipe on every machine ``[recipes, machines]``.

    Args:
        case: The job: model, task, global batch, sequence, method, optimizer. What the recipe
            or the machine decides is overridden.
        recipes: How a step is computed; what it does not divide over a machine's devices are data-parallel replicas.
        machines: Any mixture.
        model: The captured model, if at hand; else ``case.model`` is loaded once.
        wanted: Which pairs are asked for ``[recipes, machines]``, None for all.

    Source: ``estimate.step``.
    """
    held, calibration = Known(model or _model(case.model)), load_calibration()
    results = np.full((len(fields(FleetEstimate)), len(recipes), len(machines)), np.nan)
    usable = _divides(recipes, case.batch, np.array([machine.count for machine in machines], dtype=np.int64))
    usable = usable if wanted is None else usable & wanted
    divisions, division = divisions_of(recipes)
    by_format = _by_format(machines, recipes.dtype)
    for again in np.unique(recipes.columns["recompute"]).tolist():
        for best_format, columns in by_format:
            try:
                kept = kept_work(asked_of(case, held, recipes, RECOMPUTE[again], best_format), calibration)
            except RigwiseError:
                continue
            place = kept.places(divisions)[division]
            rows = np.flatnonzero((recipes.columns["recompute"] == again) & (place >= 0))
            able = np.array(
                [i for i in columns if kept.formats <= facts_of(Known(machines[i].device)).formats], dtype=int
            )
            pairs = np.argwhere(usable[np.ix_(rows, able)] & _cuts(recipes, kept.layers)[rows, None])
            for part in np.array_split(pairs, max(1, -(-len(pairs) // _MOST_PAIRS))):
                if len(part):
                    on, where = np.unique(part[:, 1], return_inverse=True)
                    fleet = fleet_of(tuple(Known(machines[able[i]]) for i in on)).take(where)
                    row = rows[part[:, 0]]
                    results[:, row, able[part[:, 1]]] = _estimate(kept, recipes.take(row), place[row], fleet)
    return FleetEstimate(**dict(zip(FleetEstimate.__dataclass_fields__, results, strict=True)))


def _by_format(machines: Sequence[Machine], dtype: str) -> list[tuple[str, list[int]]]:
    """Machines with all figures that an estimate needs, by the format that their devices multiply a dtype in."""
    found: dict[str, list[int]] = {}
    for index, machine in enumerate(machines):
        if not machine.device.missing() and network_between(Known(machine)):
            found.setdefault(best_format_for(dtype, Known(machine.device)), []).append(index)
    return list(found.items())


def _divides(recipes: Recipes, batch: int, count: Indices) -> NDArray[np.bool_]:
    """Whether devices and batch divide as a recipe asks ``[recipes, machines]``."""
    members, expert, micro_batch = (
        column[:, None] for column in (recipes.members, recipes.columns["expert"], recipes.columns["micro_batch"])
    )
    data = np.maximum(count // members, 1)
    divides = (count % members == 0) & (batch % data == 0) & (data % expert == 0)
    return np.asarray(divides & (batch // data % micro_batch == 0))


def _cuts(recipes: Recipes, layers: int) -> NDArray[np.bool_]:
    """Whether a model of so many layers can be cut into the stages ``[recipes]``."""
    stages = recipes.columns["pipeline"]
    return np.asarray((stages == 1) | (stages * recipes.columns["virtual"] <= layers))


def least_work(case: Case, dtype: str, model: Model | None = None) -> LeastWork:
    """What one step of the job cannot do without in a dtype, whatever else a plan chooses.

    The whole global batch counts as one micro-batch of one replica: splitting it only adds.

    Source: ``estimate.bound``.
    """
    return _least_work(case, dtype, Known(model or _model(case.model)))


@lru_cache(maxsize=256)
def _least_work(case: Case, dtype: str, held: Known) -> LeastWork:
    resolved, work = _whole_job(case, dtype, held.thing)
    compiled = lower_model(held.thing, replace(lowering_of(resolved.case, "bf16"), mode="compiled"))
    apart, together = (tabulate(without_recompute(w.step_ops), resolved.sizes) for w in (work, compiled))
    least = bound.least_work(apart, work, 1, 1, resolved.case.optimizer or "none")
    fused = bound.least_work(together, work, 1, 1, "none")
    least = replace(
        least,
        moved_bytes=min(least.moved_bytes, fused.moved_bytes),
        product_bytes=min(least.product_bytes, fused.product_bytes),
    )
    if dtype not in ("int8", "int4"):
        return least
    widest = {bound.FASTEST: sum(least.flops_by_format.values())}
    return replace(least, flops_by_format=widest)


def least_step_s(least: LeastWork, device: Device, count: int = 1) -> float:
    """Lower bound of the median time of a step on ``count`` devices, however they share it.

    What no device can undercut, or what its power limit leaves, whichever is longer. Nan where it lacks the format.

    Source: ``estimate.bound``.
    """
    return _least_step_s(least, device, least_energy_of(Known(device), load_calibration()), count)


def _least_step_s(least: LeastWork, device: Device, energy: LeastEnergy, count: int) -> float:
    return max(bound.least_step_s(least, device, count), bound.powered_step_s(least, energy, count))


def least_steps(least: LeastWork, places: Sequence[tuple[Device, int]]) -> tuple[Array, Array]:
    """``least_step_s`` and ``least_energy_j`` of so many of each device ``[places]``.

    Source: ``estimate.bound``.
    """
    calibration, time_s, energy_j = load_calibration(), [], []
    for device, count in places:
        energy = least_energy_of(Known(device), calibration)
        time_s.append(_least_step_s(least, device, energy, count))
        energy_j.append(bound.least_energy_j(least, energy, time_s[-1], count))
    return np.array(time_s), np.array(energy_j)


def kept_figures(case: Case, family: Any, model: Model) -> dict[Any, Any]:
    """Where a search keeps what it was told of a job's step in a family, for the next search in this process.

    Empty again when the calibration in force is another one; nothing in it depends on prices or limits.
    """
    return _kept_figures(case, family, Known(model), load_calibration())


@lru_cache(maxsize=16)
def _kept_figures(case: Case, family: Any, held: Known, calibration: Calibration) -> dict[Any, Any]:
    del case, family, held, calibration
    return {}


def least_family_s(
    case: Case, family: Any, machines: Sequence[Machine], recipes: Sequence[Recipes], model: Model | None = None
) -> Array:
    """Lower bound of the median time of a step over all recipes of a family that each machine has ``[machines]``.

    Nan where there is none.

    Source: ``estimate.fleet_bound``.
    """
    return least_divided_s(case, family, machines, recipes, Known(model or _model(case.model)))


def least_energy_j(least: LeastWork, device: Device, count: int = 1) -> float:
    """Lower bound of the median energy of a step over ``count`` devices; 0 where nothing is known of it.

    Source: ``estimate.bound``.
    """
    energy = least_energy_of(Known(device), load_calibration())
    return bound.least_energy_j(least, energy, _least_step_s(least, device, energy, count), count)


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


def _estimate(kept: Kept, recipes: Recipes, place: Indices, fleet: Fleet) -> Array:
    """The rows of ``FleetEstimate`` for pairs of a recipe and a machine that can run it, columns over pairs."""
    calibration = kept.calibration
    data, micro_batch = fleet.count / recipes.members, recipes.columns["micro_batch"]
    case, size = _with_columns(kept.step.case, recipes, data), kept.column(place, micro_batch)
    step = replace(kept.step, case=case, size=size, table=kept.table, line_size=size % len(kept.batches))
    groups = Groups(count=fleet.count, data=data, micro_steps=case.batch / (data * micro_batch), network=fleet.network)
    micro = kept.on(fleet.devices, fleet.device, size)
    known = kept.knowledge(fleet.devices, fleet.device, size)
    times = step_times(step, micro, groups, known.scaled(fleet.columns) if known else fleet.columns, calibration)
    spread = step_spread(fleet.spread, micro, times.shares_s, case, calibration)
    if known:
        spread = known.spread(spread, micro.group_s, times.shares_s)
    least = _least_work(kept.job, case.dtype or "fp32", kept.model)
    floors = bound.floor_s(least, fleet.ceilings_flops_per_s, (fleet.cache_bytes, fleet.bytes_per_s), fleet.count)
    time_s = quantiles(times.total_s, np.hypot(spread, times.comm_spread), floors)
    return np.stack([time_s["p10"], time_s["p50"], time_s["p90"], floors, *_memory(kept, step, fleet), times.energy_j])


def _with_columns(case: Case, recipes: Recipes, data: Array) -> Case:
    """The case with a column in place of each number that differs from pair to pair."""
    names = ("tensor", "pipeline", "expert", "context", "virtual", "zero", "micro_batch")
    columns: dict[str, Any] = {"data": data, **{name: recipes.columns[name] for name in names}}
    columns["sequence"] = recipes.columns["sequence"] > 0
    parallel = replace(case.parallel, schedule="interleaved", **columns)
    return replace(case, parallel=parallel)


def _memory(kept: Kept, step: StepWork, fleet: Fleet) -> tuple[Array, ...]:
    """Peak memory at the median and at 90 %, what the device has, and the chance that it is enough."""
    case, calibration = step.case, kept.calibration
    terms, data = calibration.memory_terms, np.asarray(case.parallel.data, dtype=np.float64)
    held = kept.held(np.asarray(in_flight(case), dtype=np.float64), np.asarray(step.size))
    held = replace(held, cache_bytes=held.cache_bytes / case.parallel.pipeline)
    is_cpu = fleet.columns.is_cpu[:, 0, 0]
    peak = peak_memory(step.work, held, case, data, terms).peak_bytes
    if is_cpu.any():
        on_cpu = peak_memory(step.work, held, case, data, terms, is_cpu=True).peak_bytes
        peak = np.where(is_cpu, on_cpu, peak)
    spread = np.hypot(memory_spread(case, calibration), fleet.label_spread)
    memory = quantiles(peak, spread)
    chance = fit_probability(memory["p50"], fleet.capacity_bytes, spread)
    chance = np.where(can_index(held, case, terms), chance, chance * terms.index_fit_frac)
    return memory["p50"], memory["p90"], fleet.capacity_bytes, chance
