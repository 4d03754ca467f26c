"""Jobs that follow each other: each on machines of its own or on those of the stage before, best as a whole.

Every stage has lists of its leaves, best first: by the objective, and by whatever the whole has a
limit of. The best chain over the lists is exact (``chain``). What the lists do not hold yet
stands in them as one more choice that has the least that any unlisted leaf can have, at no cost to
get there; if the best chain does without it, no leaf of the catalogue makes a better one.
Otherwise the lists grow, and the chain is looked for again. On one offer the quickest recipe is told
apart, and where energy counts those that need less; that a slower one is more certain to be in time
is left out.

Times and costs that must be kept with some probability are added up as they are: stages that run
late together, as those of one model mostly do, make the whole as late as their sum, and those that
do not make it less late.

What moves between machines is the checkpoint of the stage before, if its size is given: at the
rate of a download, and at the egress price of the provider that it leaves, where one is known.

Source: the module itself; ``chain`` and ``astar`` for the searches.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import fields
from math import inf
from typing import Any

from rigwise.edge import as_plain, parse
from rigwise.errors import InfeasibleError, InvalidInputError
from rigwise.market.terms import ASSUMED_DOWNLOAD_BYTES_PER_S, Terms
from rigwise.search.chain import Chain, Limits, Move, Step, best_chain
from rigwise.search.explain import plan_of
from rigwise.search.listing import UNLISTED, Found, Listing, Place, world_of_stage
from rigwise.search.plan import all_quotes
from rigwise.search.question import Question, candidates
from rigwise.search.staged_certificate import Part, check_staged, job_of_stage
from rigwise.search.staged_types import SCHEMA, StagedCertificate, StagedClaim, StagedResult, StagePlan
from rigwise.search.types import Quantiles, World
from rigwise.units import GB, HOUR_S, format_seconds, format_usd
from rigwise.workload.job import StagedJob, check_job
from rigwise.workload.untrusted import refuse_code


def plan_staged(job: StagedJob, world_of: Callable[[str], World]) -> StagedResult:
    """The best way to do all stages, and why none is better.

    Raises:
        InfeasibleError: A stage has no plan, or the stages keep their limits only one by one.
        KeyboardInterrupt: The search was ended before it had found anything.
        RigwiseError: A stage names something unknown, or means nothing for its model.
    """
    worlds = {stage.job.model: world_of(stage.job.model) for stage in job.stages}
    first = worlds[job.stages[0].job.model]
    started_s = first.clock_s()
    listings = [Listing(stage, job, worlds[stage.job.model], index) for index, stage in enumerate(job.stages)]
    road = _Road(job, listings)
    limits = Limits(
        time_s=inf if job.deadline_s is None else job.deadline_s, usd=inf if job.budget_usd is None else job.budget_usd
    )
    for listing in listings:
        listing.grow()
    best, bound, labels = _best_over(listings, limits, road)
    if best is None:
        raise _nothing(job, listings, road)
    chosen = [listing.found[choice] for listing, choice in zip(listings, best.choices, strict=True)]
    lower_bound = min(best.number, bound)
    certificate = StagedCertificate(
        objective=job.minimize,
        best=best.number,
        lower_bound=lower_bound,
        gap_frac=best.number / lower_bound - 1 if lower_bound > 0 else float(best.number > lower_bound),
        listed=tuple(len(listing.found) for listing in listings),
        unlisted=tuple(listing.unlisted_value for listing in listings),
        labels=labels,
        wall_s=first.clock_s() - started_s,
        stopped=lower_bound < best.number,
    )
    return _result(job, listings, chosen, road, certificate, first)


def _best_over(listings: Sequence[Listing], limits: Limits, road: _Road) -> tuple[Chain | None, float, int]:
    """The best chain, what no other is below, and how many chains were looked at; lists grow until one is certain.

    If the search is ended before, it is the best chain over what is listed.

    Raises:
        KeyboardInterrupt: It was ended before there was a chain.
    """
    labels = 0
    while True:
        best = best_chain([listing.steps() for listing in listings], limits, road.move)
        if best is None:
            return None, inf, labels
        labels += best.labels
        short = [listing for listing, choice in zip(listings, best.choices, strict=True) if choice == UNLISTED]
        if not short:
            return best, best.number, labels
        if any(listing.stopped for listing in listings):
            listed = [[step for step in listing.steps() if step.choice != UNLISTED] for listing in listings]
            so_far = best_chain(listed, limits, road.move)
            if so_far is None:
                raise KeyboardInterrupt
            return so_far, best.number, labels + so_far.labels
        for listing in short:
            listing.grow()


class _Road:
    """What it takes to get from the machines of one stage to those of the next."""

    def __init__(self, job: StagedJob, listings: Sequence[Listing]) -> None:
        self._job, self._listings = job, listings

    def move(self, stage: int, before: Hashable, after: Hashable) -> Move | None:
        """As ``chain.Moves``; nothing is known of the place of what is not listed, so it is taken to be near."""
        here = self._job.stages[stage]
        if not (isinstance(before, Place) and isinstance(after, Place)):
            return Move()
        if here.stay:
            return Move() if before.machine == after.machine else None
        sent_bytes = self._job.stages[stage - 1].job.checkpoint_bytes or 0.0
        data = here.job.data
        move_s = sent_bytes / ((data and data.download_bytes_per_s) or ASSUMED_DOWNLOAD_BYTES_PER_S)
        billing = self._listings[stage].world.billing.get(before.provider)
        rate = (billing and billing.egress_usd_per_gb) or 0.0
        usd = 0.0 if before.provider == after.provider else rate * sent_bytes / GB * (1 + here.job.tax_frac)
        return Move(value=self._value(stage, move_s, usd), time_s=move_s, usd=usd)

    def _value(self, stage: int, move_s: float, usd: float) -> float:
        goal = self._listings[stage].goal
        if goal.objective in ("energy", "carbon"):
            return 0.0
        if goal.objective == "time":
            return move_s
        return goal.weights.cost * usd + goal.weights.time_usd_per_h * move_s / HOUR_S


def _nothing(job: StagedJob, listings: Sequence[Listing], road: _Road) -> InfeasibleError:
    """Which limit of the whole binds, and what would do."""
    ways = []
    for objective, limit in (("time", job.deadline_s), ("outlay", job.budget_usd)):
        if limit is None:
            continue
        stages = [
            [Step(s.time_s if objective == "time" else s.usd, *s[1:]) for s in listing.steps()] for listing in listings
        ]
        other = Limits(
            time_s=inf if objective == "time" or job.deadline_s is None else job.deadline_s,
            usd=inf if objective == "outlay" or job.budget_usd is None else job.budget_usd,
        )
        chain = best_chain(stages, other, road.move)
        if chain:
            show = format_seconds if objective == "time" else format_usd
            named = "deadline" if objective == "time" else "budget"
            ways.append(f"the {named} is {show(limit)}, and the stages take {show(chain.number)} at least")
    if not ways and not any(stage.stay for stage in job.stages):
        ways = ["deadline and budget are both too low for the stages together"]
    ways = ways or ["no machine can do a stage and the one that is to stay on it"]
    return InfeasibleError(f"no plan for all stages: {'; '.join(ways)}", hint="move that limit, or let a stage go")


def _result(
    job: StagedJob,
    listings: Sequence[Listing],
    chosen: Sequence[Found],
    road: _Road,
    certificate: StagedCertificate,
    world: World,
) -> StagedResult:
    stages = []
    for index, (listing, found) in enumerate(zip(listings, chosen, strict=True)):
        move = road.move(index, chosen[index - 1].step.place, found.step.place) if index else Move()
        stages.append(
            StagePlan(
                name=listing.stage.name,
                stay=listing.stage.stay,
                plan=plan_of(listing.space, listing.estimates, found.leaf),
                move_s=move.time_s if move else 0.0,
                move_usd=move.usd if move else 0.0,
            )
        )
    energies = [stage.plan.energy_j for stage in stages]
    return StagedResult(
        job=job,
        today=world.today.isoformat(),
        assumed=_assumed(job, listings),
        stages=tuple(stages),
        time_s=_sum((stage.plan.time_s for stage in stages), sum(stage.move_s for stage in stages)),
        cost_usd=_sum((stage.plan.cost_usd for stage in stages), sum(stage.move_usd for stage in stages)),
        energy_j=None if None in energies else sum(e for e in energies if e is not None),
        certificate=certificate,
    )


def _sum(parts: Iterable[Quantiles], more: float) -> Quantiles:
    """The sum of what is early or late together."""
    every = list(parts)
    return Quantiles(
        p10=more + sum(q.p10 for q in every),
        p50=more + sum(q.p50 for q in every),
        p90=more + sum(q.p90 for q in every),
    )


def _assumed(job: StagedJob, listings: Sequence[Listing]) -> tuple[str, ...]:
    """What was filled in, by stage where it is not the same for all."""
    said: dict[str, list[str]] = {}
    for listing in listings:
        terms = Terms.of(listing.space.task.job, listing.world.billing)
        for sentence in (*listing.space.task.assumed, *terms.assumed):
            said.setdefault(sentence, []).append(listing.stage.name)
    sentences = [
        sentence if len(names) == len(listings) else f"{', '.join(names)}: {sentence}"
        for sentence, names in said.items()
    ]
    if any(stage.job.checkpoint_bytes is None for stage in job.stages[:-1]):
        sentences.append("nothing is moved between stages whose data.checkpoint is not given")
    return tuple(sentences)


def staged_document(result: StagedResult) -> dict[str, Any]:
    """The answer as ``rigwise plan --json`` prints it."""
    return {"schema": SCHEMA, **as_plain(result)}


def staged_infeasible(job: StagedJob, error: InfeasibleError) -> dict[str, Any]:
    """The answer where there is no plan: the reason in place of one."""
    return {"schema": SCHEMA, "job": as_plain(job), "stages": [], "infeasible": error.as_dict()}


def read_staged(answer: Any, where: str) -> StagedClaim:
    """Read back what ``staged_document`` wrote.

    Raises:
        InvalidInputError: It is no such document, holds no plan, or would have us run code.
    """
    if not answer.get("stages"):
        raise InvalidInputError(f"{where} holds no plan to verify")
    names = [field.name for field in fields(StagedClaim)]
    claim = parse({name: answer.get(name) for name in names}, StagedClaim, where)
    for stage in claim.job.stages:
        refuse_code(stage.job.model, where)
        check_job(stage.job, f"{where}: stage {stage.name!r}")
    return claim


def verify_staged(claim: StagedClaim, world_of: Callable[[str], World]) -> list[str]:
    """What is wrong with the plan of a job of several stages; nothing if it proves what it says."""
    worlds = {stage.job.model: world_of(stage.job.model) for stage in claim.job.stages}
    parts = []
    for index, stage in enumerate(claim.job.stages):
        job, world = job_of_stage(claim.job, index), world_of_stage(claim.job.stages[index], worlds[stage.job.model])
        question = Question.of(job, world)
        parts.append(Part(question, candidates(question, all_quotes(job, world).quotes)))
    return list(check_staged(claim, parts, worlds[claim.job.stages[0].job.model]))
