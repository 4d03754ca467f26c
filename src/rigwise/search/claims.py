"""The plans of an answer, held against candidates, prices and estimates that the checker derived itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isnan, nan

import numpy as np

from rigwise.market.offers import BOUGHT, OWNED, Quote
from rigwise.market.tariff import Tariff
from rigwise.search.certificate import same
from rigwise.search.question import Block, Question
from rigwise.search.types import Certificate, FleetEstimate, Plan, State
from rigwise.workload.choices import Family
from rigwise.workload.lower import Recipe


def check_plans(
    plans: Sequence[Plan], certificate: Certificate, question: Question, blocks: Mapping[State, Block]
) -> Iterator[str]:
    """What is wrong with plans; nothing if each is a candidate that takes and costs what it says.

    Args:
        plans: The answer, best first.
        certificate: Its proof.
        question: The job put to its model.
        blocks: The candidates, from ``question.candidates``.
    """
    offered: dict[tuple[object, ...], list[tuple[Block, Quote, Tariff]]] = {}
    for block in blocks.values():
        for quote, tariff in block.place.prices:
            offer, machine = quote.offer, block.place.machine
            where = (offer.provider, offer.instance, offer.region, market_of(quote), offer.device)
            key = (*where, machine.count, machine.nodes, str(block.family))
            offered.setdefault(key, []).append((block, quote, tariff))
    before = certificate.best
    for rank, plan in enumerate(plans, 1):
        device_class = "|".join(plan.variants) or plan.device
        family = Family(dtype=plan.dtype, layout=plan.layout, mode=plan.mode)
        where = (plan.provider, plan.instance, plan.region, plan.market, device_class)
        faults = [
            _one_plan_fault(question, plan, block, (quote, tariff))
            for block, quote, tariff in offered.get((*where, plan.count, plan.nodes, str(family)), [])
        ]
        if not faults or all(faults):
            yield f"plan {rank}: {faults[0] if faults else 'is no candidate'}"
        value = question.value(plan.cost_usd.p50, plan.time_s.p50, plan.energy_j or 0.0, plan.carbon_g or 0.0)
        if rank == 1 and not same(value, certificate.best):
            yield f"plan 1 has a {certificate.objective} of {value:g}, the certificate proves {certificate.best:g}"
        if value < before * (1 - 1e-9):
            yield f"plan {rank} is better than the one before it"
        before = value
    if not plans:
        yield "there is no plan"


def _one_plan_fault(question: Question, plan: Plan, block: Block, price: tuple[Quote, Tariff]) -> str:
    """What is wrong with a plan, if it is this block at this price; empty if nothing is."""
    quote, tariff = price
    recipe = recipe_of(plan)
    machine, task, world = block.place.machine, question.task, question.world
    if recipe not in question.recipes(block.family, machine):
        return "its recipe is no candidate"
    accumulation = task.case.batch * recipe.members // (machine.count * recipe.micro_batch)
    if plan.parallel != recipe.parallel(machine.count) or plan.accumulation != accumulation:
        return "its micro-batches and replicas do not make up the batch"
    fleet = world.physics.estimate_fleet(task.case, recipe, [machine], world.model)
    times = [task.steps * float(t[0]) for t in (fleet.step_p10_s, fleet.step_p50_s, fleet.step_p90_s)]
    figures = _figures(plan, tariff, times, task.steps * float(fleet.energy_p50_j[0]))
    for name, said, expected in (*figures, *_memory(plan, fleet)):
        if not (isnan(expected) if said is None else same(said, expected)):
            return f"the {name} is {expected:g}, not {said}"
    if not _same_carbon(plan, world.grams_per_kwh(quote)):
        return f"the carbon is not {plan.carbon_g}"
    late_s = float(question.late(np.array(times[1]), np.array(times[2])))
    if (
        not same(plan.fit_probability, float(fleet.fit_probability[0]))
        or plan.fit_probability < question.job.confidence
    ):
        return "it does not fit in memory with the job's confidence"
    if tariff.wall_s(late_s) > min(question.deadline_s, block.place.limit_s):
        return "it does not keep the deadline with the job's confidence"
    if tariff.outlay_usd(late_s) > question.budget_usd:
        return "it does not keep the budget with the job's confidence"
    return ""


def _figures(
    plan: Plan, tariff: Tariff, times_s: Sequence[float], energy_j: float
) -> Iterator[tuple[str, float | None, float]]:
    """Name, what the plan says, and what it should say."""
    yield "price", plan.usd_per_h, tariff.usd_per_h
    yield "capital", plan.capital_usd, tariff.capital_usd
    yield "energy", plan.energy_j, energy_j * tariff.time_factor * plan.machines
    for quantile, time_s in zip(("p10", "p50", "p90"), times_s, strict=True):
        yield "time", getattr(plan.time_s, quantile), float(tariff.wall_s(time_s))
        yield "cost", getattr(plan.cost_usd, quantile), float(tariff.cost_usd(time_s))


def _memory(plan: Plan, fleet: FleetEstimate) -> Iterator[tuple[str, float, float]]:
    """As ``_figures``, of the fullest device."""
    yield "memory", plan.memory_bytes, float(fleet.memory_p50_bytes[0])
    yield "memory of the device", plan.memory_capacity_bytes, float(fleet.memory_capacity_bytes[0])


def _same_carbon(plan: Plan, grams_per_kwh: float) -> bool:
    expected = nan if plan.energy_j is None else plan.energy_j / 3.6e6 * grams_per_kwh
    return isnan(expected) if plan.carbon_g is None else same(plan.carbon_g, expected)


def recipe_of(plan: Plan) -> Recipe:
    """The recipe that a plan names."""
    parallel = plan.parallel
    return Recipe(
        dtype=plan.dtype,
        layout=plan.layout,
        mode=plan.mode,
        micro_batch=plan.micro_batch,
        recompute=plan.recompute,
        zero=parallel.zero,
        tensor=parallel.tensor,
        pipeline=parallel.pipeline,
        expert=parallel.expert,
        context=parallel.context,
        sequence=parallel.sequence,
        virtual=parallel.virtual,
    )


def market_of(quote: Quote) -> str:
    """The market as a plan names it: what was bought is owned."""
    return OWNED if quote.market == BOUGHT else quote.market
