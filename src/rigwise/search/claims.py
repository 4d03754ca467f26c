"""The plans of an answer, held against candidates, prices and estimates that the checker derived itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rigwise.market.money import rental_usd
from rigwise.search.certificate import Block, Question, same
from rigwise.search.types import Certificate, Plan, State
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
        blocks: The candidates, from ``certificate.candidates``.
    """
    offered: dict[tuple[object, ...], list[tuple[Block, float, float]]] = {}
    for block in blocks.values():
        for quote, usd_per_h, factor in block.place.prices:
            offer, machine = quote.offer, block.place.machine
            where = (offer.provider, offer.instance, offer.region, quote.market, offer.device)
            key = (*where, machine.count, machine.nodes, str(block.family))
            offered.setdefault(key, []).append((block, usd_per_h, factor))
    before = certificate.best
    for rank, plan in enumerate(plans, 1):
        device_class = "|".join(plan.variants) or plan.device
        family = Family(dtype=plan.dtype, layout=plan.layout, mode=plan.mode)
        where = (plan.provider, plan.instance, plan.region, plan.market, device_class)
        faults = [
            _one_plan_fault(question, plan, block, usd_per_h, factor)
            for block, usd_per_h, factor in offered.get((*where, plan.count, plan.nodes, str(family)), [])
        ]
        if not faults or all(faults):
            yield f"plan {rank}: {faults[0] if faults else 'is no candidate'}"
        value = {"cost": plan.cost_usd.p50, "time": plan.time_s.p50, "energy": plan.energy_j or 0.0}[
            certificate.objective
        ]
        if rank == 1 and not same(value, certificate.best):
            yield f"plan 1 has a {certificate.objective} of {value:g}, the certificate proves {certificate.best:g}"
        if value < before * (1 - 1e-9):
            yield f"plan {rank} is better than the one before it"
        before = value
    if not plans:
        yield "there is no plan"


def _one_plan_fault(question: Question, plan: Plan, block: Block, usd_per_h: float, factor: float) -> str:
    """What is wrong with a plan, if it is this block at this price; empty if nothing is."""
    recipe = Recipe(
        dtype=plan.dtype,
        layout=plan.layout,
        mode=plan.mode,
        micro_batch=plan.micro_batch,
        recompute=plan.recompute,
        zero=plan.parallel.zero,
    )
    machine, task, world = block.place.machine, question.task, question.world
    if recipe not in question.recipes(block.family, machine.count):
        return "its recipe is no candidate"
    if not same(plan.usd_per_h, usd_per_h):
        return f"the price is {usd_per_h:g}, not {plan.usd_per_h:g}"
    fleet = world.physics.estimate_fleet(task.case, recipe, [machine], world.model)
    times = [task.steps * factor * float(t[0]) for t in (fleet.step_p10_s, fleet.step_p50_s, fleet.step_p90_s)]
    claimed = (plan.time_s.p10, plan.time_s.p50, plan.time_s.p90)
    if not all(map(same, claimed, times)):
        return f"the time is {times[1]:g} s, not {plan.time_s.p50:g} s"
    if not all(
        map(same, (plan.cost_usd.p10, plan.cost_usd.p50, plan.cost_usd.p90), rental_usd(usd_per_h, np.array(times)))
    ):
        return f"the cost is {rental_usd(usd_per_h, times[1]):g}, not {plan.cost_usd.p50:g}"
    late_s = float(question.late(np.array(times[1]), np.array(times[2])))
    if (
        not same(plan.fit_probability, float(fleet.fit_probability[0]))
        or plan.fit_probability < question.job.confidence
    ):
        return "it does not fit in memory with the job's confidence"
    if late_s > min(question.deadline_s, block.place.limit_s) or rental_usd(usd_per_h, late_s) > question.budget_usd:
        return "it does not keep the limits with the job's confidence"
    return ""
