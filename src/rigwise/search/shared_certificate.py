"""A second opinion on jobs that share machines: derive their options again, and prove each part of the cover.

Candidates and values come from ``question``, as for a single job, and nothing from the search. The options that the
certificate names must leave none out that could be better; ``shared_tree`` then checks that its tree holds every
choice of them and that nothing below its leaves is better. The plans, their order on each machine, their deadlines and
the sums are added up again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf
from typing import NamedTuple

import numpy as np

from rigwise.market.offers import OWNED
from rigwise.search.certificate import same
from rigwise.search.question import Block, Question
from rigwise.search.shared_tree import check_tree
from rigwise.search.shared_types import RENT, Option, SharedClaim, SharedPlan, Work
from rigwise.search.staged_certificate import Part, plan_faults
from rigwise.search.types import Array, Quantiles

_SLACK = 1e-9
_NOTHING = Quantiles(p10=0.0, p50=0.0, p90=0.0)


def check_shared(claim: SharedClaim, parts: Sequence[Part], machines: Sequence[str]) -> Iterator[str]:
    """What is wrong with the plan of jobs that share machines; nothing if it proves what it says.

    Args:
        claim: The jobs, the plans and the figures of the answer.
        parts: Every job, under the deadline of all, with its candidates.
        machines: The owned machines, in the order in which the options count them.
    """
    works, certificate = claim.certificate.works, claim.certificate
    if not len(claim.plans) == len(works) == len(parts):
        yield f"{len(claim.plans)} of {len(parts)} jobs are planned, of {len(works)} the options are told"
        return
    faults = [*_wrong_options(claim, parts, machines), *_wrong_plans(claim, parts, machines)]
    yield from faults
    if faults:
        return
    yield from _wrong_queues(claim, machines)
    yield from _wrong_sums(claim)
    if certificate.objective != parts[0].question.job.minimize:
        yield f"the objective is {certificate.objective}, that of the jobs is {parts[0].question.job.minimize}"
    if certificate.gap_frac > claim.question.gap_frac + _SLACK and not certificate.stopped:
        yield f"the gap is {certificate.gap_frac:g}, {claim.question.gap_frac:g} is allowed"
    yield from check_tree(certificate)


# Options


def _wrong_options(claim: SharedClaim, parts: Sequence[Part], machines: Sequence[str]) -> Iterator[str]:
    if tuple(claim.machines) != tuple(machines):
        yield f"the machines are said to be {', '.join(claim.machines)}, they are {', '.join(machines)}"
        return
    known: dict[int, list[str]] = {}
    for name, work, part in zip((one.name for one in claim.plans), claim.certificate.works, parts, strict=True):
        job = part.question.job
        if work.deadline_s != job.deadline_s or not same(work.wait_per_s, _wait_per_s(part.question)):
            yield f"{name}: its deadline is {job.deadline_s}, a second of waiting adds {_wait_per_s(part.question):g}"
            return
        if any(not RENT <= option.machine < len(machines) for option in work.options):
            yield f"{name}: an option is on no machine"
            return
    counts = (
        any(work.wait_per_s for work in claim.certificate.works),
        any(work.deadline_s is not None for work in claim.certificate.works),
    )
    for one, work, part in zip(claim.plans, claim.certificate.works, parts, strict=True):
        key = hash((work, id(part)))
        if key not in known:
            known[key] = list(_left_out(work, part, machines, counts))
        yield from (f"{one.name}: {fault}" for fault in known[key])


def _wait_per_s(question: Question) -> float:
    """What a second adds to the objective where nothing else does."""
    return float(question.value(0.0, 1.0, 0.0, 0.0) - question.value(0.0, 0.0, 0.0, 0.0))


class _Ways(NamedTuple):
    """All recipes of a block at one price that keep the limits: objective, median time and late time."""

    number: Array
    run_s: Array
    late_s: Array


def _left_out(work: Work, part: Part, machines: Sequence[str], counts: tuple[bool, bool]) -> Iterator[str]:
    """Where a candidate is better than every option that is told, if the median and the late time count or do not."""
    rented, owned = list[Block](), list[Block]()
    for block in part.blocks.values():
        if not block.verdict:
            (owned if block.place.prices[0][0].market == OWNED else rented).append(block)
    least = min((option.number for option in work.options if option.machine == RENT), default=inf)
    for block in sorted(rented, key=lambda block: block.number):
        if block.number >= least:
            break
        for ways in _ways(part.question, block):
            if (number := float(ways.number.min(initial=inf))) < least * (1 - _SLACK) - _SLACK:
                yield f"it can be rented for {number:g}"
                return
    for block in owned:
        for (quote, _), ways in zip(block.place.prices, _ways(part.question, block), strict=True):
            here = [o for o in work.options if o.machine >= 0 and machines[o.machine] == quote.offer.instance]
            if not _all_matched(ways, here, counts):
                yield f"a way to do it on {quote.offer.instance} is left out"
                return


def _all_matched(ways: _Ways, options: Sequence[Option], counts: tuple[bool, bool]) -> bool:
    waits, ends = counts
    missed = np.ones(len(ways.number), dtype=np.bool_)
    for option in options:
        worse = ways.number * (1 + _SLACK) + _SLACK >= option.number
        if ends:
            worse &= ways.late_s * (1 + _SLACK) >= option.late_s
        if waits:
            worse &= ways.run_s * (1 + _SLACK) >= option.run_s
        missed &= ~worse
    return not missed.any()


def _ways(question: Question, block: Block) -> Iterator[_Ways]:
    """By price of the block."""
    task, place, physics = question.task, block.place, question.world.physics
    recipes = question.recipes(block.family, place.machine)
    fleet = physics.estimate_recipes(task.case, recipes, [place.machine], question.world.model)
    p50_s, p90_s = (task.steps * np.asarray(times)[:, 0] for times in (fleet.step_p50_s, fleet.step_p90_s))
    late_s, fits = question.late(p50_s, p90_s), np.asarray(fleet.fit_probability)[:, 0] >= question.job.confidence
    energy_j = task.steps * task.machines * np.asarray(fleet.energy_p50_j)[:, 0]
    for quote, tariff in place.prices:
        spent_j, grams = energy_j * tariff.time_factor, question.world.grams_per_kwh(quote)
        number = question.value(tariff.cost_usd(p50_s), tariff.wall_s(p50_s), spent_j, spent_j / 3.6e6 * grams)
        held_s = tariff.wall_s(late_s)
        may = fits & (held_s <= min(question.deadline_s, place.limit_s)) & ~np.isnan(number)
        may &= tariff.outlay_usd(late_s) <= question.budget_usd
        yield _Ways(*(np.asarray(x)[may] for x in (number, tariff.wall_s(p50_s), held_s)))


# Plans, their order and their sums


def _wrong_plans(claim: SharedClaim, parts: Sequence[Part], machines: Sequence[str]) -> Iterator[str]:
    names = [one.name for one in claim.question.jobs]
    for name, one, part in zip(names, claim.plans, parts, strict=True):
        if one.name != name:
            yield f"{one.name} stands where {name} belongs"
        yield from (f"{one.name}: {fault}" for fault in plan_faults(one.plan, part))
        on = one.plan.instance if one.plan.market == OWNED else ""
        if on != one.machine or (on and on not in machines):
            yield f"{one.name}: its plan is on {one.plan.place}, not on {one.machine or 'a rented machine'}"


def _option_of(one: SharedPlan, work: Work, machines: Sequence[str]) -> Option | None:
    """The option that a plan is; its late time is that of the option."""
    machine = machines.index(one.machine) if one.machine else RENT
    alike = [o for o in work.options if o.machine == machine]
    alike = [o for o in alike if machine == RENT or same(o.run_s, one.plan.time_s.p50)]
    return min(alike, key=lambda o: (o.late_s, o.number), default=None)


_Entry = tuple[SharedPlan, Work, Option]


def _wrong_queues(claim: SharedClaim, machines: Sequence[str]) -> Iterator[str]:
    """What is wrong with the order of the jobs, their deadlines and the objective."""
    queues: dict[str, list[_Entry]] = {}
    for one, work in zip(claim.plans, claim.certificate.works, strict=True):
        option = _option_of(one, work, machines)
        if option is None:
            yield f"{one.name}: its plan is none of its options"
            return
        queues.setdefault(one.machine, []).append((one, work, option))
    total = sum(option.number for queue in queues.values() for _, _, option in queue)
    for one, _, _ in queues.pop("", []):
        if one.place or not _same_time(one.start_s, _NOTHING) or not _same_time(one.end_s, one.plan.time_s):
            yield f"{one.name}: what is rented starts at once and ends when its plan does"
    for machine, queue in queues.items():
        queue.sort(key=lambda entry: entry[0].place)
        if [one.place for one, _, _ in queue] != list(range(1, len(queue) + 1)):
            yield f"the jobs on {machine} do not follow each other"
        before = [sum(option.run_s for _, _, option in queue[:place]) for place in range(len(queue))]
        total += sum(work.wait_per_s * wait_s for (_, work, _), wait_s in zip(queue, before, strict=True))
        yield from _wrong_times(queue)
    if not same(total, claim.certificate.best):
        yield f"the {claim.certificate.objective} is said to be {claim.certificate.best:g}, it is {total:g}"


def _wrong_times(queue: Sequence[_Entry]) -> Iterator[str]:
    """Jobs of a machine that do not run when they say, or miss their deadlines."""
    start_s, late_s = _NOTHING, 0.0
    for one, work, option in queue:
        late_s, end_s = late_s + option.late_s, _sum(start_s, one.plan.time_s)
        if not (_same_time(one.start_s, start_s) and _same_time(one.end_s, end_s)):
            yield f"{one.name}: it runs from {start_s.p50:g} s to {end_s.p50:g} s"
        if work.deadline_s is not None and late_s > work.deadline_s * (1 + _SLACK):
            yield f"{one.name}: it does not keep its deadline with the confidence of the jobs"
        start_s = end_s


def _wrong_sums(claim: SharedClaim) -> Iterator[str]:
    for quantile in ("p10", "p50", "p90"):
        cost_usd = sum(getattr(one.plan.cost_usd, quantile) for one in claim.plans)
        end_s = max(getattr(one.end_s, quantile) for one in claim.plans)
        if not (same(getattr(claim.cost_usd, quantile), cost_usd) and same(getattr(claim.end_s, quantile), end_s)):
            yield f"the jobs cost {cost_usd:g} dollars together and end after {end_s:g} s ({quantile})"


def _same_time(one: Quantiles, other: Quantiles) -> bool:
    return same(one.p10, other.p10) and same(one.p50, other.p50) and same(one.p90, other.p90)


def _sum(one: Quantiles, other: Quantiles) -> Quantiles:
    return Quantiles(p10=one.p10 + other.p10, p50=one.p50 + other.p50, p90=one.p90 + other.p90)
