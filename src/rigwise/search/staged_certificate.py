"""A second opinion on a job of several stages: derive the candidates again, and try what could be better.

Candidates, bounds and values come from ``question``, as for a single job, and nothing from the
search. A block of candidates of one stage is looked at if its bound, with the least that every
other stage can have, is below the chain that is claimed; all its recipes at all its prices are
then combined with those of the other stages, stage by stage, keeping what nothing else matches.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

import numpy as np

from rigwise.market.offers import BOUGHT, OWNED, Quote
from rigwise.market.terms import ASSUMED_DOWNLOAD_BYTES_PER_S
from rigwise.search.certificate import same
from rigwise.search.claims import check_plans, market_of, recipe_of
from rigwise.search.question import Block, Question
from rigwise.search.staged_types import StagedClaim
from rigwise.search.types import Certificate, Plan, State, World
from rigwise.workload.job import Job, StagedJob

_SLACK = 1e-9


class Part(NamedTuple):
    """A stage as the checker sees it: its question and its candidates."""

    question: Question
    blocks: Mapping[State, Block]


class _Way(NamedTuple):
    """One way to do the stages so far, and where the last of them ran."""

    value: float
    late_s: float
    late_usd: float
    provider: str
    machine: tuple[object, ...]


def job_of_stage(whole: StagedJob, index: int) -> Job:
    """The job of a stage under the limits of the whole; one that stays has nothing to set up."""
    stage = whole.stages[index]
    deadlines = [s for s in (stage.job.deadline_s, whole.deadline_s) if s is not None]
    budgets = [usd for usd in (stage.job.budget_usd, whole.budget_usd) if usd is not None]
    job = replace(stage.job, deadline_s=min(deadlines, default=None), budget_usd=min(budgets, default=None))
    return replace(job, setup_s=0.0) if stage.stay else job


def check_staged(claim: StagedClaim, parts: Sequence[Part], world: World) -> Iterator[str]:
    """What is wrong with the plan of a job of several stages; nothing if it proves what it says.

    Args:
        claim: The job, the stages and the figures of the answer.
        parts: Every stage with its candidates.
        world: For the prices of moving data.
    """
    if len(claim.stages) != len(parts):
        yield f"{len(claim.stages)} of {len(parts)} stages are planned"
        return
    chosen = []
    for stage, part in zip(claim.stages, parts, strict=True):
        faults = list(plan_faults(stage.plan, part))
        yield from (f"stage {stage.name!r}: {fault}" for fault in faults)
        if faults:
            return
        chosen.append(_way_of(stage.plan, part))
    yield from _wrong_sums(claim, chosen, world)
    goal_usd = claim.certificate.best
    least = _least_chain(claim.job, parts, goal_usd, world)
    bound = claim.certificate.lower_bound if claim.certificate.stopped else goal_usd
    if least < bound * (1 - _SLACK) - _SLACK:
        yield f"no chain is said to be below {bound:g}, there is one of {least:g}"
    gap = goal_usd / bound - 1 if bound > 0 else float(goal_usd > bound)
    if not (same(claim.certificate.lower_bound, bound) and same(1 + claim.certificate.gap_frac, 1 + gap)):
        yield "the bound is not that of the best chain"


def plan_faults(plan: Plan, part: Part) -> Iterator[str]:
    """What is wrong with the plan of one job, held against its candidates alone."""
    question = part.question
    value = question.value(plan.cost_usd.p50, plan.time_s.p50, plan.energy_j or 0.0, plan.carbon_g or 0.0)
    alone = Certificate(
        objective=question.job.minimize,
        best=float(value),
        lower_bound=0.0,
        gap_frac=0.0,
        candidates=0,
        expanded=0,
        estimated=0,
        pruned={},
        wall_s=0.0,
        method="",
    )
    yield from check_plans([plan], alone, question, part.blocks)


def _way_of(plan: Plan, part: Part) -> _Way:
    """What a plan, which is a candidate, counts in a chain."""
    question = part.question
    recipe, name = recipe_of(plan), (plan.provider, plan.instance, plan.region, plan.market, plan.nodes)
    for block in part.blocks.values():
        machine = block.place.machine
        if machine.device.id != plan.device or machine.count != plan.count:
            continue
        for quote, tariff in block.place.prices:
            offer = quote.offer
            if name != (offer.provider, offer.instance, offer.region, market_of(quote), machine.nodes):
                continue
            fleet = question.world.physics.estimate_fleet(question.task.case, recipe, [machine], question.world.model)
            p50_s, p90_s = (question.task.steps * np.asarray(t) for t in (fleet.step_p50_s, fleet.step_p90_s))
            late_s = float(question.late(p50_s, p90_s)[0])
            value = question.value(plan.cost_usd.p50, plan.time_s.p50, plan.energy_j or 0.0, plan.carbon_g or 0.0)
            return _Way(
                float(value),
                float(tariff.wall_s(late_s)),
                float(tariff.outlay_usd(late_s)),
                _provider(quote),
                _name(quote, machine.nodes),
            )
    return _Way(inf, inf, inf, "", ())


def _provider(quote: Quote) -> str:
    return OWNED if quote.market in (OWNED, BOUGHT) else quote.offer.provider


def _name(quote: Quote, nodes: int) -> tuple[object, ...]:
    offer = quote.offer
    return (offer.provider, offer.instance, offer.region, quote.market, offer.device, nodes)


# Sums and moves


def _move(whole: StagedJob, index: int, before: _Way, after: _Way, world: World) -> tuple[float, float] | None:
    """Seconds and dollars from the stage before to this one; None where it had to stay and did not."""
    here, job = whole.stages[index], whole.stages[index].job
    if here.stay:
        return (0.0, 0.0) if before.machine == after.machine else None
    sent_bytes = whole.stages[index - 1].job.checkpoint_bytes or 0.0
    rate = (job.data.download_bytes_per_s if job.data else None) or ASSUMED_DOWNLOAD_BYTES_PER_S
    billing = world.billing.get(before.provider)
    per_gb = (billing.egress_usd_per_gb if billing else None) or 0.0
    usd = 0.0 if before.provider == after.provider else per_gb * sent_bytes / 1e9 * (1 + job.tax_frac)
    return sent_bytes / rate, usd


def _value_of_move(question: Question, move: tuple[float, float]) -> float:
    if question.job.minimize in ("energy", "carbon"):
        return 0.0
    return float(question.value(move[1], move[0], 0.0, 0.0))


def _wrong_sums(claim: StagedClaim, chosen: Sequence[_Way], world: World) -> Iterator[str]:
    """What is wrong with the figures of the whole."""
    late_s, late_usd = sum(way.late_s for way in chosen), sum(way.late_usd for way in chosen)
    moved_s = moved_usd = 0.0
    for index, stage in enumerate(claim.stages):
        move = _move(claim.job, index, chosen[index - 1], chosen[index], world) if index else (0.0, 0.0)
        if move is None:
            yield f"stage {stage.name!r} does not stay on the machines of the one before"
            return
        if not (same(stage.move_s, move[0]) and same(stage.move_usd, move[1])):
            yield f"stage {stage.name!r}: the move takes {move[0]:g} s and {move[1]:g} dollars"
        moved_s, moved_usd = moved_s + move[0], moved_usd + move[1]
    for quantile in ("p10", "p50", "p90"):
        time_s = moved_s + sum(getattr(stage.plan.time_s, quantile) for stage in claim.stages)
        cost_usd = moved_usd + sum(getattr(stage.plan.cost_usd, quantile) for stage in claim.stages)
        if not same(time_s, getattr(claim.time_s, quantile)) or not same(cost_usd, getattr(claim.cost_usd, quantile)):
            yield f"the stages add up to {time_s:g} s and {cost_usd:g} dollars ({quantile})"
    if late_s + moved_s > (inf if claim.job.deadline_s is None else claim.job.deadline_s) * (1 + _SLACK):
        yield "the stages do not keep the deadline together"
    if late_usd + moved_usd > (inf if claim.job.budget_usd is None else claim.job.budget_usd) * (1 + _SLACK):
        yield "the stages do not keep the budget together"


# The least chain


def _least_chain(whole: StagedJob, parts: Sequence[Part], claimed: float, world: World) -> float:
    """The least objective of all chains; those that cannot be below the claimed one are left out."""
    looked = [_Looked(part.question) for part in parts]
    least = [_least_of(part, ways_of) for part, ways_of in zip(parts, looked, strict=True)]
    chains: list[_Way] = []
    for index, part in enumerate(parts):
        most = claimed - sum(least[:index]) - sum(least[index + 1 :])
        live = [b for b in part.blocks.values() if not b.verdict and b.number <= most + _SLACK * max(1.0, claimed)]
        ways = _undominated(way for block in live for way in looked[index](block))
        chains = ways if index == 0 else list(_joined(whole, index, (chains, ways), part.question, world))
        further = claimed - sum(least[index + 1 :]) + _SLACK * max(1.0, claimed)
        chains = _undominated(chain for chain in chains if chain.value <= further)
    deadline_s = inf if whole.deadline_s is None else whole.deadline_s * (1 + _SLACK)
    budget_usd = inf if whole.budget_usd is None else whole.budget_usd * (1 + _SLACK)
    kept = (way.value for way in chains if way.late_s <= deadline_s and way.late_usd <= budget_usd)
    return min(kept, default=inf)


class _Looked:
    """The ways of each block, worked out once."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._found: dict[State, list[_Way]] = {}

    def __call__(self, block: Block) -> list[_Way]:
        if block.state not in self._found:
            self._found[block.state] = _ways(self._question, block)
        return self._found[block.state]


def _least_of(part: Part, ways_of: _Looked) -> float:
    """The least objective of a stage alone: blocks in the order of their bounds, until none can be better."""
    best = inf
    for block in sorted((b for b in part.blocks.values() if not b.verdict), key=lambda b: b.number):
        if block.number >= best:
            break
        best = min([best, *(way.value for way in ways_of(block))])
    return best


def _ways(question: Question, block: Block) -> list[_Way]:
    """All recipes of a block at all prices that keep the limits."""
    task, place, physics = question.task, block.place, question.world.physics
    recipes = question.recipes(block.family, place.machine)
    fleet = physics.estimate_recipes(task.case, recipes, [place.machine], question.world.model)
    p50_s, p90_s = (task.steps * np.asarray(times)[:, 0] for times in (fleet.step_p50_s, fleet.step_p90_s))
    late_s, fits = question.late(p50_s, p90_s), np.asarray(fleet.fit_probability)[:, 0] >= question.job.confidence
    energy_j = task.steps * task.machines * np.asarray(fleet.energy_p50_j)[:, 0]
    found = []
    for quote, tariff in place.prices:
        spent_j, grams = energy_j * tariff.time_factor, question.world.grams_per_kwh(quote)
        value = question.value(tariff.cost_usd(p50_s), tariff.wall_s(p50_s), spent_j, spent_j / 3.6e6 * grams)
        wall_s, usd = tariff.wall_s(late_s), tariff.outlay_usd(late_s)
        allowed = fits & (wall_s <= min(question.deadline_s, place.limit_s)) & (usd <= question.budget_usd)
        name = _name(quote, place.machine.nodes)
        found += [
            _Way(float(value[i]), float(wall_s[i]), float(usd[i]), _provider(quote), name)
            for i in np.flatnonzero(allowed & ~np.isnan(value))
        ]
    return _undominated(found)


def _undominated(ways: Iterator[_Way] | Sequence[_Way]) -> list[_Way]:
    """Of the ways that end on the same machines, those that no other matches in everything."""
    kept: dict[tuple[object, ...], list[_Way]] = {}
    for way in sorted(ways, key=lambda way: way[:3]):
        rivals = kept.setdefault((way.provider, way.machine), [])
        if not any(other.late_s <= way.late_s and other.late_usd <= way.late_usd for other in rivals):
            rivals.append(way)
    return [way for rivals in kept.values() for way in rivals]


def _joined(
    whole: StagedJob, index: int, both: tuple[Sequence[_Way], Sequence[_Way]], question: Question, world: World
) -> Iterator[_Way]:
    for before in both[0]:
        for after in both[1]:
            move = _move(whole, index, before, after, world)
            if move is not None:
                yield _Way(
                    before.value + after.value + _value_of_move(question, move),
                    before.late_s + after.late_s + move[0],
                    before.late_usd + after.late_usd + move[1],
                    after.provider,
                    after.machine,
                )
