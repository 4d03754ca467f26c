"""The leaves of one stage of a job, best first, as far as a search for the best chain asks for them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from itertools import islice
from math import inf
from typing import Any, NamedTuple

import numpy as np

from rigwise.errors import InfeasibleError
from rigwise.market.offers import BOUGHT, OWNED
from rigwise.search.astar import AStar
from rigwise.search.bounds import Goal, least
from rigwise.search.chain import Step
from rigwise.search.estimates import Estimates
from rigwise.search.plan import all_quotes, surroundings
from rigwise.search.problem import Leaf, PlanProblem, quantile_s
from rigwise.search.relax import infeasible, nothing_to_rent
from rigwise.search.space import Space, build_space
from rigwise.search.types import World
from rigwise.workload.choices import settle
from rigwise.workload.job import Job, Stage, StagedJob

#: How many leaves a list has at first.
_FIRST = 24
#: Of equal machines so many of the cheapest are told apart, where it matters whose they are.
_TOLD_APART = 64
#: Stands for whatever is not listed.
UNLISTED = -1


class Place(NamedTuple):
    """Where a stage ends, as far as that matters to the next: the provider, and the machines if one stays."""

    provider: str
    machine: tuple[Hashable, ...]


class Found(NamedTuple):
    """A leaf of a list, with what a chain counts of it."""

    leaf: Leaf
    step: Step


def world_of_stage(stage: Stage, world: World) -> World:
    """The world as a stage finds it: what stays from the stage before has been paid for there."""
    return replace(world, to_buy=lambda job: world.to_buy(job).paid()) if stage.stay else world


class Listing:
    """The leaves of a stage, as far as they were asked for.

    Attributes:
        found: Leaves that were told apart.
        stopped: Whether the list will not grow any more, as the search was ended.
    """

    def __init__(self, stage: Stage, whole: StagedJob, world: World, index: int) -> None:
        world = world_of_stage(stage, world)
        self.stage, self.world = stage, world
        following = whole.stages[index + 1] if index + 1 < len(whole.stages) else None
        before = whole.stages[index - 1] if index else None
        self.tied = stage.stay or bool(following and following.stay)
        moved = any(one is not None and one.job.checkpoint_bytes for one in (stage if following else None, before))
        self.apart = self.tied or moved
        own = stage.job.deadline_s, stage.job.budget_usd
        both = (own[0], whole.deadline_s), (own[1], whole.budget_usd)
        deadline_s, budget_usd = (min((x for x in pair if x is not None), default=None) for pair in both)
        job = replace(
            stage.job, deadline_s=deadline_s, budget_usd=budget_usd, top=_TOLD_APART if self.apart else stage.job.top
        )
        if stage.stay:
            job = replace(job, setup_s=0.0)
        self.space = _space(job, world)
        self.goal = Goal.of(job)
        floor = least(self.space, world.physics)
        self.estimates = Estimates(self.space, world.physics)
        late = replace(self.goal, late=True)
        self._limited = whole.deadline_s is not None, whole.budget_usd is not None
        goals = [self.goal]
        goals += [replace(late, objective="time")] if whole.deadline_s is not None else []
        goals += [replace(late, objective="outlay")] if whole.budget_usd is not None else []
        few = replace(self.space, task=replace(self.space.task, job=replace(job, top=1)))
        problems = [PlanProblem(few, floor, self.estimates, goal) for goal in goals]
        self._searches = [AStar(problem, (), stop=world.stop) for problem in problems]
        self._problem, self._floor = problems[0], floor
        self.found: list[Found] = []
        self.stopped = False
        self._known: set[tuple[Any, ...]] = set()
        self._quota = _FIRST

    def grow(self) -> None:
        """Take more leaves from every search, twice as many each time.

        Raises:
            InfeasibleError: There is none at all.
            KeyboardInterrupt: The search was ended before there was one.
        """
        for search in self._searches:
            for _, leaf in islice(search, self._quota):
                self._admit(leaf)
                if self.goal.known_energy:
                    self._admit_rivals(leaf)
        self.stopped = any(search.stopped for search in self._searches)
        if self.stopped and not self.found:
            raise KeyboardInterrupt
        self._quota *= 2
        if not self.found:
            error = infeasible(self.space, self._floor, self.estimates, self.goal)
            raise InfeasibleError(f"stage {self.stage.name!r}: {error.message}", hint=error.hint)

    def steps(self) -> list[Step]:
        """The choices of a chain: the leaves that no other makes superfluous, and what is not listed."""
        front: list[Step] = []
        by_place: dict[Hashable, list[Step]] = {}
        for one in sorted(self.found, key=lambda found: found.step[:3]):
            rivals = by_place.setdefault(one.step.place, [])
            if not any(other.time_s <= one.step.time_s and other.usd <= one.step.usd for other in rivals):
                rivals.append(one.step)
                front.append(one.step)
        bounds = [search.lower_bound for search in self._searches]
        if min(bounds) < inf:
            late = iter(bound if bound < inf else 0.0 for bound in bounds[1:])
            late_s = next(late) if self._limited[0] else 0.0
            late_usd = next(late) if self._limited[1] else 0.0
            front.append(Step(bounds[0], late_s, late_usd, None, UNLISTED))
        return [step for step in front if step.value < inf]

    @property
    def unlisted_value(self) -> float | None:
        """The least objective of a leaf that is not listed, None if there is no other leaf."""
        bound = self._searches[0].lower_bound
        return None if bound == inf else bound

    def _admit(self, leaf: Leaf) -> None:
        key = leaf.family, leaf.site, leaf.row, leaf.quote
        if key in self._known:
            return
        self._known.add(key)
        quote, site = self.space.quotes[leaf.quote], self.space.sites[leaf.site]
        offer = quote.offer
        machine = (offer.provider, offer.instance, offer.region, quote.market, offer.device, site.machine.nodes)
        provider = OWNED if quote.market in (OWNED, BOUGHT) else offer.provider
        place = Place(provider if self.apart else "", machine if self.tied else ())
        value, late_s, late_usd = self._counts(leaf)
        step = Step(value, late_s, late_usd, place, len(self.found))
        self.found.append(Found(leaf, step))

    def _admit_rivals(self, leaf: Leaf) -> None:
        """The other recipes of a site in a family, where a slower one may need less energy."""
        nobody = np.full(len(self.estimates.machines), np.inf)
        for rows in self.estimates.rows(leaf.family, leaf.site):
            if len(rows):
                self.estimates.ensure(leaf.family, rows, leaf.site, nobody)
        for other in self._problem.undominated(leaf.family, leaf.site, energy=True):
            self._admit(other)

    def _counts(self, leaf: Leaf) -> tuple[float, float, float]:
        """The objective at the median, and time and outlay that are kept with the confidence of the job."""
        site, steps = self.space.sites[leaf.site], self.space.task.steps
        price = int((site.quote == leaf.quote).argmax())
        tariff, place = site.tariff.pick(price), (leaf.row, self.estimates.machine_of_site[leaf.site])
        column = self.estimates.table(leaf.family).columns
        p50_s, p90_s = (steps * float(column[f"step_{q}_s"][place]) for q in ("p50", "p90"))
        energy_j = steps * self.space.task.machines * float(column["energy_p50_j"][place]) * tariff.time_factor
        grams = self.space.grams_of(leaf.site)[price]
        value = self.goal.value(tariff.cost_usd(p50_s), tariff.wall_s(p50_s), energy_j, grams)
        late_s = float(quantile_s(np.array(p50_s), np.array(p90_s), self.goal.z))
        return float(value), float(tariff.wall_s(late_s)), float(tariff.outlay_usd(late_s))


def _space(job: Job, world: World) -> Space:
    selection = all_quotes(job, world)
    quotes = selection.quotes
    if not quotes:
        raise nothing_to_rent(selection.excluded)
    return build_space(settle(job, world.model), quotes, surroundings(job, world))
