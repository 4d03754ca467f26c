"""What would change the answer: prices, limits and the worth of time at which another plan is the best.

Every threshold is exact under the estimate. Cost is linear in a price, so the price at which two plans are level is
a closed form of their tariffs; whether nothing else is better there is found by solving again, and where something
is, the price is found by halving. The times and sums at which limits begin or cease to bind are those of the plans
that solving again just inside them gives. Estimates are made once and kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import Device
from rigwise.machine.machine import Machine
from rigwise.market.offers import BOUGHT, OWNED
from rigwise.market.terms import Terms, tariff_of
from rigwise.search.astar import AStar
from rigwise.search.bounds import Goal, least
from rigwise.search.estimates import Estimates
from rigwise.search.explain import plan_of
from rigwise.search.plan import all_quotes, surroundings
from rigwise.search.problem import Leaf, PlanProblem, quantile_s
from rigwise.search.relax import infeasible, nothing_to_rent
from rigwise.search.space import Space, build_space
from rigwise.search.types import Plan, World
from rigwise.units import HOUR_S
from rigwise.workload.choices import recipes, settle
from rigwise.workload.job import Job

#: Just inside a limit, just beside a threshold.
_LESS = 1.0 - 1e-9
_BESIDE = 1e-6
#: Dollars an hour that nobody pays: as good as not on offer.
_NEVER_USD_PER_H = 1e9
_HALVINGS = 40

PRICE, DEADLINE, BUDGET, TIME_WORTH = "price", "deadline", "budget", "value_of_time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The best leaf under some goal, with what its limits look at.

    Attributes:
        leaf: The leaf.
        value: Of the objective.
        late_s, late_usd: Time and outlay that it keeps with the confidence of the job.
    """

    leaf: Leaf
    value: float
    late_s: float
    late_usd: float

    def is_same(self, other: Answer) -> bool:
        """Whether two answers are one machine at one price."""
        return (self.leaf.site, self.leaf.quote) == (other.leaf.site, other.leaf.quote)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that would change the answer.

    Attributes:
        what: ``price``, ``deadline``, ``budget`` or ``value_of_time``.
        whose: The plan whose price it is, None for what is not a price.
        side: ``below`` or ``above`` the threshold another plan is the best.
        now, at: The figure as it is, None for no limit, and the threshold: dollars an hour for all machines of an
            instance's list price, seconds, dollars, or dollars for an hour of waiting.
        plan: What is the best there, None if nothing keeps the limits.
    """

    what: str
    whose: Plan | None = None
    side: str
    now: float | None
    at: float
    plan: Plan | None


class Again:
    """A job that is solved again and again with something changed.

    Attributes:
        goal: Of the job.
        space: Its candidates.
        first: The answer to it.
    """

    def __init__(self, job: Job, world: World) -> None:
        """Solve it once.

        Raises:
            InfeasibleError: Nothing keeps the limits.
        """
        selection = all_quotes(job, world)
        if not selection.quotes:
            raise nothing_to_rent(selection.excluded)
        self.job, self.world, self.goal = job, world, Goal.of(job)
        self.task, self.around = settle(job, world.model), surroundings(job, world)
        self.space = build_space(self.task, selection.quotes, self.around)
        self._floor = least(self.space, world.physics)
        self._estimates = Estimates(self.space, world.physics)
        found = list(islice(self._search(self.goal, None), 1))
        if not found:
            raise infeasible(self.space, self._floor, self._estimates, self.goal)
        self.first = self._answer(*found[0])

    def solve(self, goal: Goal, among: NDArray[np.bool_] | None = None) -> Answer | None:
        """The best under a goal, None if nothing keeps its limits.

        Args:
            goal: What is minimised, under which limits.
            among: Sites that count, None for all ``[sites]``.
        """
        found = next(self._search(goal, among), None)
        return found and self._answer(*found)

    def ranking(self, number: int) -> list[Answer]:
        """The best of each of so many offers."""
        kept: dict[tuple[int, int], Answer] = {}
        for value, leaf in self._search(self.goal, None):
            kept.setdefault((leaf.site, leaf.quote), self._answer(value, leaf))
            if len(kept) == number:
                break
        return list(kept.values())

    def plan(self, answer: Answer) -> Plan:
        """An answer as a plan."""
        return plan_of(self.space, self._estimates, answer.leaf)

    def at_prices(self, usd_per_h: Mapping[int, float]) -> Again:
        """The same with other list prices of some quotes, by their index."""
        quotes = tuple(
            replace(quote, usd_per_h=usd_per_h.get(index, quote.usd_per_h))
            for index, quote in enumerate(self.space.quotes)
        )
        other = object.__new__(Again)
        other.__dict__ |= self.__dict__
        other.space = build_space(self.task, quotes, self.around)
        if _machines(other.space) != _machines(self.space):
            other._floor = least(other.space, self.world.physics)
            other._estimates = Estimates(other.space, self.world.physics)
        return other

    def undisturbed_s(self, leaf: Leaf) -> tuple[float, float]:
        """Time of the work alone: the median, and what is kept with the confidence of the job."""
        at = leaf.row, self._estimates.machine_of_site[leaf.site]
        columns = self._estimates.table(leaf.family).columns
        p50_s, p90_s = (self.task.steps * float(columns[f"step_{q}_s"][at]) for q in ("p50", "p90"))
        return p50_s, float(quantile_s(np.array(p50_s), np.array(p90_s), self.goal.z))

    def least_bytes(self, count: int) -> float:
        """What each of so many devices must hold at least, in the format in which that is least."""
        dtypes = dict.fromkeys(family.dtype for family in self.task.families)
        physics, task = self.world.physics, self.task
        return min(physics.least_memory_bytes(task.case, dtype, count, task.model) for dtype in dtypes)

    def alone_s(self, device: Device) -> float | None:
        """Median time of the work on one device of a kind, None if it does not fit there."""
        machine = Machine(device=device, count=1, nodes=1, link="", inter_node_bytes_per_s=None)
        times = []
        for family in self.task.families:
            made = recipes(self.task, family, 1)
            if not len(made):
                continue
            fleet = self.world.physics.estimate_recipes(self.task.case, made, [machine], self.task.model)
            step_s = np.where(fleet.fit_probability >= self.goal.confidence, fleet.step_p50_s, np.nan)
            times += [float(np.nanmin(step_s))] if np.isfinite(step_s).any() else []
        return self.task.steps * min(times) if times else None

    def _search(self, goal: Goal, among: NDArray[np.bool_] | None) -> Iterator[tuple[float, Leaf]]:
        problem = PlanProblem(self.space, self._floor, self._estimates, goal)
        if among is not None:
            problem.sites = {
                dtype: replace(sites, candidate=sites.candidate & among) for dtype, sites in problem.sites.items()
            }
        search = AStar(problem, (), stop=self.world.stop)
        for found in search:
            if search.stopped:
                raise KeyboardInterrupt
            yield found

    def _answer(self, value: float, leaf: Leaf) -> Answer:
        site = self.space.sites[leaf.site]
        tariff = site.tariff.pick(int((site.quote == leaf.quote).argmax()))
        _, late_s = self.undisturbed_s(leaf)
        return Answer(
            leaf=leaf,
            value=value,
            late_s=float(tariff.wall_s(late_s)),
            late_usd=float(tariff.outlay_usd(late_s)),
        )


def _machines(space: Space) -> list[tuple[Any, ...]]:
    return [(site.device_class, site.name, site.machine.count, site.machine.nodes) for site in space.sites]


# Prices


def price_changes(again: Again, most: int) -> Iterator[Change]:
    """The price above which the first is not the best any more, and those below which others would be."""
    first, goal = again.first, again.goal
    if _has_list_price(again, first):
        rival = again.at_prices({first.leaf.quote: _NEVER_USD_PER_H})
        second = rival.solve(goal)
        at = _until_price(again, second)
        if at is not None:
            best = rival.plan(second) if second else None
            yield _price_change(again, first, "above", at, best)
    if goal.objective not in ("cost", "weights"):
        return
    told: set[tuple[str, str]] = {_instance(again, first)}
    for other in again.ranking(again.job.top)[1:]:
        if _instance(again, other) in told or not _has_list_price(again, other) or len(told) > most:
            continue
        told.add(_instance(again, other))
        at = _from_price(again, other)
        if at is not None:
            yield _price_change(again, other, "below", at, again.plan(other))


def _price_change(again: Again, whose: Answer, side: str, at: float, plan: Plan | None) -> Change:
    now = again.space.quotes[whose.leaf.quote].usd_per_h
    return Change(what=PRICE, whose=again.plan(whose), side=side, now=now, at=at, plan=plan)


def _instance(again: Again, answer: Answer) -> tuple[str, str]:
    offer = again.space.quotes[answer.leaf.quote].offer
    return offer.provider, offer.instance


def _has_list_price(again: Again, answer: Answer) -> bool:
    quote = again.space.quotes[answer.leaf.quote]
    return quote.tariff is None and quote.market not in (OWNED, BOUGHT)


def _usd_per_list_usd(again: Again, answer: Answer, *, late: bool) -> float:
    """What a dollar more an hour on the list adds to the cost, or to the outlay that is kept."""
    quote, nodes = again.space.quotes[answer.leaf.quote], again.space.sites[answer.leaf.site].machine.nodes
    terms = Terms.of(again.job, again.world.billing)
    slope = float(tariff_of(replace(quote, usd_per_h=quote.usd_per_h + 1.0), terms, nodes).usd_per_h)
    tariff = tariff_of(quote, terms, nodes)
    median_s, late_s = again.undisturbed_s(answer.leaf)
    return (slope - float(tariff.usd_per_h)) * float(tariff.paid_s(late_s if late else median_s)) / HOUR_S


def _until_price(again: Again, second: Answer | None) -> float | None:
    """The list price up to which the first stays the best, None if no price matters."""
    first, goal = again.first, again.goal
    now = again.space.quotes[first.leaf.quote].usd_per_h
    weight = goal.weights.cost if goal.objective in ("cost", "weights") else 0.0
    ends = []
    if second is not None and weight > 0:
        ends.append(now + (second.value - first.value) / (weight * _usd_per_list_usd(again, first, late=False)))
    if goal.budget_usd < np.inf:
        ends.append(now + (goal.budget_usd - first.late_usd) / _usd_per_list_usd(again, first, late=True))
    if not ends:
        return None
    return _settled(again, first.leaf.quote, now, min(ends), falls=False)


def _from_price(again: Again, other: Answer) -> float | None:
    """The list price below which a plan becomes the best, None if not even for nothing."""
    now = again.space.quotes[other.leaf.quote].usd_per_h
    gain = again.goal.weights.cost * _usd_per_list_usd(again, other, late=False)
    at = now - (other.value - again.first.value) / gain if gain > 0 else 0.0
    return _settled(again, other.leaf.quote, now, at, falls=True) if at > 0 else None


def _settled(again: Again, quote: int, now: float, at: float, *, falls: bool) -> float | None:
    """The threshold of a quote's price, beside which the answer is seen to change.

    Args:
        again: The job.
        quote: Whose price.
        now: The price as it is.
        at: Where the closed form has it.
        falls: Whether the quote is the best below it and not above.
    """

    def is_first(usd_per_h: float) -> bool:
        found = again.at_prices({quote: usd_per_h}).solve(again.goal)
        return found is not None and found.leaf.quote == quote

    if is_first(at * (1 - _BESIDE)) and not is_first(at * (1 + _BESIDE)):
        return at
    inside, outside = (0.0, now) if falls else (now, max(at, now) * (1 + _BESIDE))
    return _halved(is_first, max(inside, 1e-9), outside)


def _halved(holds: Callable[[float], bool], inside: float, outside: float) -> float | None:
    """Where a condition ceases to hold between two figures, None if it does not."""
    if not holds(inside) or holds(outside):
        return None
    for _ in range(_HALVINGS):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if holds(middle) else (inside, middle)
    return inside
