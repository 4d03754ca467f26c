"""The same estimate for many machines at once: what the search asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from rigwise.errors import RigwiseError
from rigwise.estimate import bound
from rigwise.estimate.bound import LeastWork, least_step_s
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.collective import network_of
from rigwise.estimate.interval import fit_probability, quantiles, time_spread
from rigwise.estimate.memory import capacity_bytes, peak_memory
from rigwise.estimate.predict import best_format_of, lowering_of
from rigwise.estimate.step import StepWork, step_times, step_work, without_recompute
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
        machines: Any mixture; those of equal count and memory family share one computation.
        model: The captured model, if at hand; else ``case.model`` is loaded once.

    Source: ``estimate.step``.
    """
    model = model or _model(case.model)
    results = np.full((9, len(machines)), np.nan)
    groups: dict[tuple[int, str], list[int]] = {}
    for index, machine in enumerate(machines):
        if not machine.device.missing() and case.batch % machine.count == 0:
            groups.setdefault((machine.count, _best_format(machine)), []).append(index)
    for (count, best_format), members in groups.items():
        try:
            step = _step_of(case, recipe, count, best_format, _Held(model))
        except RigwiseError:
            continue
        able = [i for i in members if _computes(machines[i], step)]
        if able:
            results[:, able] = _estimate(step, [machines[i] for i in able])
    return FleetEstimate(**dict(zip(FleetEstimate.__dataclass_fields__, results, strict=True)))


def least_work(case: Case, dtype: str, model: Model | None = None) -> LeastWork:
    """What one step of the job cannot do without in a dtype, whatever else a plan chooses.

    The whole global batch counts as one micro-batch of one replica: splitting it only adds.

    Source: ``estimate.bound``.
    """
    resolved, work = _whole_job(case, dtype, model or _model(case.model))
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
    alone = replace(case.parallel, data=1, micro_batch=None, zero=0)
    single = replace(case, dtype=dtype, count=1, nodes=1, device="", recompute="none", mode="eager", parallel=alone)
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


@lru_cache(maxsize=4096)
def _step_of(case: Case, recipe: Recipe, count: int, best_format: str, held: _Held) -> StepWork:
    parallel = replace(case.parallel, data=count, micro_batch=recipe.micro_batch, zero=recipe.zero)
    full = replace(
        case,
        device="",
        count=count,
        nodes=1,
        dtype=recipe.dtype,
        layout=recipe.layout,
        mode=recipe.mode,
        recompute=recipe.recompute,
        parallel=parallel,
    )
    resolved = resolve(full, held.model)
    return step_work(resolved.case, lower_model(held.model, lowering_of(resolved.case, best_format)), resolved.sizes)


def _best_format(machine: Machine) -> str:
    try:
        return best_format_of(machine.device)
    except RigwiseError:
        return "fp32"


def _computes(machine: Machine, step: StepWork) -> bool:
    """Whether the device has every format of the step, and a link to its neighbours if it needs one."""
    needed = {FORMATS[f] for f in step.table.number_format[step.table.flops[:, 0] > 0]}
    if not all(machine.device.computes(f) for f in needed):
        return False
    try:
        return machine.count == 1 or bool(network_of(machine, load_calibration().collective))
    except RigwiseError:
        return False


def _estimate(step: StepWork, machines: Sequence[Machine]) -> Array:
    """The nine rows of ``FleetEstimate`` for machines that can all run the step."""
    calibration = load_calibration()
    times = step_times(step, machines, calibration)
    floors = _floors(step, machines)
    spread = np.array([time_spread(m.device, calibration) for m in machines])
    time_s = quantiles(times.total_s, spread, floors)
    capacity = np.array([capacity_bytes(m.device, calibration.memory_terms) for m in machines])
    memory = {
        is_cpu: quantiles(
            float(
                peak_memory(
                    step.work, step.table, step.sizes, step.case, calibration.memory_terms, is_cpu=is_cpu
                ).peak_bytes[0]
            ),
            calibration.interval.memory,
        )
        for is_cpu in {m.device.kind == "cpu" for m in machines}
    }
    p50 = np.array([memory[m.device.kind == "cpu"]["p50"] for m in machines])
    p90 = np.array([memory[m.device.kind == "cpu"]["p90"] for m in machines])
    chance = fit_probability(p50, capacity, calibration.interval)
    rows = (time_s["p10"], time_s["p50"], time_s["p90"], floors, p50, p90, capacity, chance, times.energy_j)
    return np.stack([np.asarray(row, dtype=np.float64) for row in rows])


def _floors(step: StepWork, machines: Sequence[Machine]) -> Array:
    case = step.case
    whole = tabulate(without_recompute(step.work.step_ops), step.sizes)
    least = bound.least_work(whole, step.work, step.micro_steps, case.parallel.data or 1, case.optimizer or "none")
    return np.array([least_step_s(least, m.device, m.count) for m in machines])
