"""Several jobs and the machines that already stand there: which job runs where, after which, and which are rented.

An owned machine does one job after the other, with all its nodes; what is rented is there for each job at once.
What is minimised is the sum over the jobs of what each counts alone; where time counts, the time that a job
waits for a machine counts like the time that it runs. A deadline is kept with the confidence of the jobs if
the times of all that run before, each kept with it, add up to no more: as if they were late together.

Of the ways to do a job on a machine those are kept that no other one matches in the objective, in time where waiting
costs something, and in the time kept with confidence where any job has a deadline; of what can be rented the best.
Neither machines that would be bought for all of the jobs nor sessions of an account that they would have to share are
looked at. Quotas and caps are kept by each job alone.

Source: the module itself; ``sharing`` for the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from math import inf
from typing import Any, NamedTuple

import numpy as np

from rigwise.edge import as_plain, parse
from rigwise.errors import InfeasibleError, InvalidInputError, UnsupportedError
from rigwise.market.offers import Quote
from rigwise.market.terms import Terms
from rigwise.search.astar import AStar, Stop, go_on
from rigwise.search.bounds import Goal, least
from rigwise.search.estimates import Estimates, Indices
from rigwise.search.explain import plan_of
from rigwise.search.plan import owned_machines, surroundings, usable_offers
from rigwise.search.plan import plan as plan_alone
from rigwise.search.problem import Leaf, PlanProblem, quantile_s
from rigwise.search.question import Question, candidates
from rigwise.search.queues import GRID
from rigwise.search.shared_certificate import check_shared
from rigwise.search.shared_types import (
    RENT,
    SCHEMA,
    Option,
    SharedCertificate,
    SharedClaim,
    SharedCover,
    SharedJobs,
    SharedPlan,
    SharedResult,
    Work,
    several_can_have,
)
from rigwise.search.sharing import Found, Sharing
from rigwise.search.space import Space, build_space
from rigwise.search.staged_certificate import Part
from rigwise.search.types import Array, Plan, Quantiles, World
from rigwise.units import HOUR_S
from rigwise.workload.choices import Family, settle
from rigwise.workload.job import Job, check_job
from rigwise.workload.untrusted import refuse_code

MAX_JOBS = 64


class _Counts(NamedTuple):
    """What counts of an option beside its number: how long it takes, and how long if it is late."""

    run: bool
    late: bool


class _Way(NamedTuple):
    """An option with what makes a plan of it."""

    option: Option
    plan: Callable[[], Plan]


def plan_shared(question: SharedJobs, world_of: Callable[[str], World], stop: Stop = go_on) -> SharedResult:
    """The best way to share the machines, and why none is better.

    Args:
        question: The jobs.
        world_of: The world of a model.
        stop: As of ``AStar``.

    Raises:
        InfeasibleError: A job has no plan, or the jobs keep their deadlines only one by one.
        InvalidInputError: The jobs cannot be planned together.
        RigwiseError: A job names something unknown, or means nothing for its model.
    """
    check_question(question)
    worlds = {job.model: world_of(job.model) for job in dict.fromkeys(one.job for one in question.jobs)}
    first = worlds[question.jobs[0].job.model]
    started_s, machines = first.clock_s(), machines_of(question)
    jobs = [job_within(question, one.job) for one in question.jobs]
    counts = _Counts(run=any(map(wait_per_s, jobs)), late=any(job.deadline_s is not None for job in jobs))
    known = dict[Job, list[_Way]]()
    for one, job in zip(question.jobs, jobs, strict=True):
        if job not in known:
            known[job] = _ways(one.name, job, worlds[job.model], machines, counts)
    works = [
        Work(deadline_s=job.deadline_s, wait_per_s=wait_per_s(job), options=tuple(way.option for way in known[job]))
        for job in jobs
    ]
    sharing = Sharing(works, gap_frac=question.gap_frac, stop=stop)
    found = sharing.best()
    if found is None:
        if sharing.stopped:
            raise KeyboardInterrupt
        raise _nothing(question, works, machines)
    certificate = _certificate(jobs[0].minimize, works, sharing, found, first.clock_s() - started_s)
    plans = [known[job][choice].plan() for job, choice in zip(jobs, found.choice, strict=True)]
    return _result(question, plans, found, certificate, partial(_assumed, question, worlds), first.today.isoformat())


def check_question(question: SharedJobs) -> None:
    """Refuse jobs that cannot be planned together.

    Raises:
        InvalidInputError: They do not agree on what is best or sure, or one asks for what only a job alone can have.
    """
    first = question.jobs[0] if question.jobs else None
    if first is None or len(question.jobs) > MAX_JOBS:
        raise InvalidInputError(f"{len(question.jobs)} jobs cannot share machines", hint=f"give 1 to {MAX_JOBS}")
    names = [one.name for one in question.jobs]
    for one in question.jobs:
        job, alike = one.job, (("minimize", "objective.minimize"), ("confidence", "constraints.confidence"))
        for key, said in alike:
            if getattr(job, key) != getattr(first.job, key):
                raise InvalidInputError(
                    f"{one.name}: {said} is {getattr(job, key)}, that of {first.name} is {getattr(first.job, key)}",
                    hint="jobs that share machines must agree on it",
                )
        if names.count(one.name) > 1:
            raise InvalidInputError(f"two jobs are called {one.name}")
        if job.buy:
            raise UnsupportedError(f"{one.name}: market.buy is for a job alone", hint="leave it out, or plan it alone")
        if job.parallel_runs > 1:
            raise UnsupportedError(
                f"{one.name}: {job.parallel_runs} runs at once on one machine", hint="leave workload.parallel_runs out"
            )
    machines_of(question)


def machines_of(question: SharedJobs) -> tuple[str, ...]:
    """The names of the owned machines that any job may use, in order.

    Raises:
        InvalidInputError: Two different machines of one name.
    """
    known: dict[str, Any] = {}
    for one in question.jobs:
        for machine in one.job.owned:
            if known.setdefault(machine.name, machine) != machine:
                raise InvalidInputError(
                    f"{one.name}: the owned machine {machine.name!r} is another one than in the jobs before",
                    hint="give it the same figures everywhere, or another name",
                )
    return tuple(known)


def job_within(question: SharedJobs, job: Job) -> Job:
    """A job under the deadline of all of them."""
    deadlines = [s for s in (job.deadline_s, question.deadline_s) if s is not None]
    return replace(job, deadline_s=min(deadlines, default=None))


def wait_per_s(job: Job) -> float:
    """What a second of waiting adds to the objective."""
    if job.minimize == "time":
        return 1.0
    if job.minimize == "weights" and job.weights is not None:
        return job.weights.time_usd_per_h / HOUR_S
    return job.value_of_time_usd_per_h / HOUR_S if job.minimize == "cost" else 0.0


# The options of one job


def _ways(name: str, job: Job, world: World, machines: Sequence[str], counts: _Counts) -> list[_Way]:
    """What can be rented, the best of it, and the owned machines."""
    rented = [quote for quote in usable_offers(job, world).quotes if several_can_have(quote)]
    ways = [*_rented(job, world, rented), *_owned(job, world, machines, counts)]
    if ways:
        return ways
    try:
        plan_alone(replace(job, top=1), world)
    except InfeasibleError as error:
        raise InfeasibleError(f"{name}: {error.message}", hint=error.hint) from None
    raise InfeasibleError(f"{name}: only sessions of an account would do, which jobs cannot share")


def _rented(job: Job, world: World, quotes: Sequence[Quote]) -> list[_Way]:
    if not quotes:
        return []
    space = build_space(settle(replace(job, top=1), world.model), quotes, surroundings(job, world))
    estimates = Estimates(space, world.physics)
    problem = PlanProblem(space, least(space, world.physics), estimates, Goal.of(job))
    value, leaf = next(AStar(problem, ()), (inf, None))
    if leaf is None:
        return []
    return [_Way(Option(machine=RENT, number=value), partial(plan_of, space, estimates, leaf))]


def _owned(job: Job, world: World, machines: Sequence[str], counts: _Counts) -> list[_Way]:
    quotes = owned_machines(job, world)
    if not quotes:
        return []
    space = build_space(settle(job, world.model), quotes, surroundings(job, world))
    estimates, found = Estimates(space, world.physics), list[_Way]()
    for site in range(len(space.sites)):
        machine = machines.index(space.quotes[int(space.sites[site].quote[0])].offer.instance)
        there: list[_Way] = []
        for family in space.task.families:
            estimates.fill(family)
            rows = np.concatenate(estimates.rows(family, site))
            there += _on_site(job, (space, estimates), (family, site, rows), machine)
        found += _unmatched(there, counts)
    return sorted(found, key=lambda way: way.option.machine)


def _on_site(job: Job, known: tuple[Space, Estimates], where: tuple[Family, int, Indices], machine: int) -> list[_Way]:
    """All recipes of a family on an owned machine that keep the limits of the job."""
    (space, estimates), (family, index, rows) = known, where
    goal, site, tariff, steps = Goal.of(job), space.sites[index], space.sites[index].tariff.pick(0), space.task.steps
    table = estimates.table(family)
    column = {n: c[rows, estimates.machine_of_site[index]] for n, c in table.columns.items()}
    p50_s, p90_s = steps * column["step_p50_s"], steps * column["step_p90_s"]
    late_s = quantile_s(p50_s, p90_s, goal.z)
    energy_j = steps * space.task.machines * column["energy_p50_j"] * tariff.time_factor
    run_s, held_s, grams = tariff.wall_s(p50_s), tariff.wall_s(late_s), space.grams_of(index)[0]
    number: Array = goal.value(tariff.cost_usd(p50_s), run_s, energy_j, grams)
    may = (held_s <= min(goal.deadline_s, site.limit_s)) & (tariff.outlay_usd(late_s) <= goal.budget_usd)
    may &= (column["fit_probability"] >= goal.confidence) & ~np.isnan(number) & ~goal.unknown(energy_j, grams)
    quote = int(site.quote[0])
    return [
        _Way(
            Option(machine=machine, number=float(number[i]), run_s=float(run_s[i]), late_s=float(held_s[i])),
            partial(plan_of, space, estimates, Leaf(family, index, int(rows[i]), quote, float(run_s[i]), 0.0)),
        )
        for i in np.flatnonzero(may).tolist()
    ]


def _unmatched(ways: Sequence[_Way], counts: _Counts) -> list[_Way]:
    """The ways that no other one matches in all that counts."""

    def matches(one: Option, other: Option) -> bool:
        longer = (counts.run and one.run_s > other.run_s) or (counts.late and one.late_s > other.late_s)
        return one.number <= other.number and not longer

    kept: list[_Way] = []
    for way in sorted(ways, key=lambda way: (way.option.number, way.option.late_s, way.option.run_s)):
        if not any(matches(one.option, way.option) for one in kept):
            kept.append(way)
    return kept


# The answer


def _certificate(
    objective: str, works: Sequence[Work], sharing: Sharing, found: Found, wall_s: float
) -> SharedCertificate:
    search = sharing.search
    parts = [SharedCover(state=p.state, verdict=p.verdict, number=p.number) for p in search.cover() if p.number < inf]
    placed = sharing.shares.placed
    parts += [
        SharedCover(state=state, verdict="dominated", number=placed(sharing.shares.chosen(state)), by=by)
        for state, by in sharing.problem.dominated
    ]
    gap = found.number / found.lower_bound - 1 if found.lower_bound > 0 else float(found.number > 0)
    return SharedCertificate(
        objective=objective,
        best=found.number,
        lower_bound=found.lower_bound,
        gap_frac=gap,
        works=tuple(works),
        order=sharing.shares.order,
        worth=sharing.worth,
        grid=GRID,
        multipliers=sharing.multipliers,
        expanded=search.expanded,
        wall_s=wall_s,
        stopped=sharing.stopped,
        cover=tuple(parts),
    )


def _nothing(question: SharedJobs, works: Sequence[Work], machines: Sequence[str]) -> InfeasibleError:
    tied = [
        one.name
        for one, work in zip(question.jobs, works, strict=True)
        if all(option.machine != RENT for option in work.options)
    ]
    return InfeasibleError(
        f"each job has a plan, and together they do not keep their deadlines: on {', '.join(machines)} alone can run"
        f" {', '.join(tied)}",
        hint="move a deadline, or let more be rented",
    )


def _result(
    question: SharedJobs,
    plans: Sequence[Plan],
    found: Found,
    certificate: SharedCertificate,
    assumed: Callable[[], tuple[str, ...]],
    today: str,
) -> SharedResult:
    machines, nothing = machines_of(question), Quantiles(p10=0.0, p50=0.0, p90=0.0)
    shared = {
        i: SharedPlan(name=one.name, machine="", place=0, start_s=nothing, end_s=plan.time_s, plan=plan)
        for i, (one, plan) in enumerate(zip(question.jobs, plans, strict=True))
    }
    for machine, queue in found.queues.items():
        start_s = nothing
        for place, index in enumerate(queue, 1):
            end_s = added((start_s, plans[index].time_s))
            shared[index] = replace(shared[index], machine=machines[machine], place=place, start_s=start_s, end_s=end_s)
            start_s = end_s
    energies = [plan.energy_j for plan in plans]
    ends = [one.end_s for one in shared.values()]
    return SharedResult(
        question=question,
        today=today,
        machines=machines,
        assumed=assumed(),
        plans=tuple(shared[i] for i in range(len(plans))),
        cost_usd=added([plan.cost_usd for plan in plans]),
        end_s=Quantiles(p10=max(e.p10 for e in ends), p50=max(e.p50 for e in ends), p90=max(e.p90 for e in ends)),
        energy_j=None if None in energies else sum(e for e in energies if e is not None),
        certificate=certificate,
    )


def added(parts: Sequence[Quantiles]) -> Quantiles:
    """The sum of what is early or late together."""
    return Quantiles(p10=sum(q.p10 for q in parts), p50=sum(q.p50 for q in parts), p90=sum(q.p90 for q in parts))


def _assumed(question: SharedJobs, worlds: Mapping[str, World]) -> tuple[str, ...]:
    """What was filled in, by job where it is not the same for all."""
    said: dict[str, list[str]] = {}
    for one in question.jobs:
        world = worlds[one.job.model]
        for sentence in (*settle(one.job, world.model).assumed, *Terms.of(one.job, world.billing).assumed):
            said.setdefault(sentence, []).append(one.name)
    return tuple(text if len(names) == len(question.jobs) else f"{_few(names)}: {text}" for text, names in said.items())


def _few(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 3 else f"{len(names)} jobs"


def shared_document(result: SharedResult) -> dict[str, Any]:
    """The answer as ``rigwise plan --share --json`` prints it."""
    return {"schema": SCHEMA, **as_plain(result)}


def shared_infeasible(question: SharedJobs, error: InfeasibleError) -> dict[str, Any]:
    """The answer where there is no plan: the reason in place of one."""
    return {"schema": SCHEMA, "question": as_plain(question), "plans": [], "infeasible": error.as_dict()}


def read_shared(answer: Any, where: str) -> SharedClaim:
    """Read back what ``shared_document`` wrote.

    Raises:
        InvalidInputError: It is no such document, holds no plan, or would have us run code.
    """
    if not answer.get("plans"):
        raise InvalidInputError(f"{where} holds no plan to verify")
    claim = parse({f.name: answer.get(f.name) for f in fields(SharedClaim)}, SharedClaim, where)
    for one in claim.question.jobs:
        refuse_code(one.job.model, where)
        check_job(one.job, f"{where}: {one.name}")
    check_question(claim.question)
    return claim


def verify_shared(claim: SharedClaim, world_of: Callable[[str], World]) -> list[str]:
    """What is wrong with the plan of jobs that share machines; nothing if it proves what it says."""
    worlds = {one.job.model: world_of(one.job.model) for one in claim.question.jobs}
    known: dict[Job, Part] = {}
    for one in claim.question.jobs:
        job, world = job_within(claim.question, one.job), worlds[one.job.model]
        if job not in known:
            to_rent = [quote for quote in usable_offers(job, world).quotes if several_can_have(quote)]
            asked = Question.of(job, world)
            known[job] = Part(asked, candidates(asked, [*owned_machines(job, world), *to_rent]))
    parts = [known[job_within(claim.question, one.job)] for one in claim.question.jobs]
    return list(check_shared(claim, parts, machines_of(claim.question)))
