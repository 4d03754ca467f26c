"""The planning problem as A* sees it: states, choices, bounds, and blocks of recipes at prices.

A state names a family (number format, layout, mode), a device class, a site, and whether
activations are kept or computed again; below that, recipes and prices form a block.

Recompute repeats part of the forward pass and changes nothing else, so no recipe is quicker
with it than without. A recipe that fits without recompute is therefore no worse than with it and
is left out of the block that computes activations again; what the others would take if memory
were no limit bounds what they take there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from math import nan
from typing import NamedTuple

import numpy as np

from rigwise.search.astar import Child
from rigwise.search.bounds import Z90, Goal, Least, SiteBounds, judge
from rigwise.search.estimates import Estimates, Indices, Mask, Table
from rigwise.search.space import Space
from rigwise.search.types import KEEP, REASONS, RECOMPUTE, Array, State
from rigwise.workload.choices import Family

#: Device classes whose sites come along with those that are asked for, at first: twice as many each time. Fewer where
#: devices can divide the operators, so that each site has many ways to look at.
_CLASSES, _CLASSES_OF_DIVIDED = 64, 16
#: Pairs of a recipe and a price of which the outcome is kept: it is looked at again soon, if ever.
_MOST_KEPT = 262_144


class Leaf(NamedTuple):
    """A complete choice: a recipe (row of the family's table) on a site at a price.

    ``time_s`` and ``cost_usd`` are at the goal's quantile of the objective.
    """

    family: Family
    site: int
    row: int
    quote: int
    time_s: float
    cost_usd: float
    energy_j: float = nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What recipes take at prices; arrays ``[recipes, prices]``.

    Attributes:
        value: Of the objective, infinite where a limit is not kept.
        relaxed: The same if memory were no limit.
        fits: Whether memory is enough ``[recipes]``.
        time_s, cost_usd: At the goal's quantile.
        energy_j: Of all devices, nan where nothing is known of it.
    """

    value: Array
    relaxed: Array
    fits: Mask
    time_s: Array
    cost_usd: Array
    energy_j: Array


class PlanProblem:
    """One goal on a space. Several problems share one set of estimates.

    Attributes:
        sites: What the bounds say, by number format: of a whole family. ``bounds_of`` says what is below it.
        leaves: Best allowed leaf of every block that was estimated, at each of its prices.
    """

    def __init__(self, space: Space, floor: Least, estimates: Estimates, goal: Goal) -> None:
        self.space, self.estimates, self.goal, self._floor = space, estimates, goal, floor
        self._bounds: dict[Family, SiteBounds] = {}
        self.sites = {dtype: judge(space, floor, goal, dtype) for dtype in floor.time_s}
        self.leaves: list[Leaf] = []
        self._family = {str(family): family for family in space.task.families}
        self._rank = {family: index for index, family in enumerate(space.task.families)}
        self._site = {(site.device_class, site.name): i for i, site in enumerate(space.sites)}
        classes: dict[str, list[int]] = {}
        for index, site in enumerate(space.sites):
            classes.setdefault(site.device_class, []).append(index)
        self._classes = {name: np.array(members) for name, members in classes.items()}
        self._looked_into: dict[Family, Mask] = {}
        self._calls: Counter[Family] = Counter()
        self._values: dict[tuple[int, int], float] = {}
        self._outcomes: dict[tuple[Family, int, bytes], Outcome] = {}
        self._kept = 0

    # What A* asks

    def expand(self, state: State) -> Sequence[Child[State]] | None:
        """The next choice: family, device class, site, recompute or not; then comes a block."""
        if len(state) == 4:
            return None
        if len(state) == 3:
            return self._recompute_or_not(state)
        if len(state) == 2:
            return self._sites_of(state)
        return [child for further in self._next(state) for child in self._child(further)]

    def estimate(self, block: State) -> Sequence[tuple[float, Leaf]]:
        """The best recipe of a block at each price, if any keeps the limits."""
        family, site, rows = self._block(block)
        found = self._outcome(family, site, rows)
        leaves = []
        for price, row in enumerate(np.argmin(found.value, axis=0) if len(rows) else ()):
            value = float(found.value[row, price])
            if value < np.inf:
                leaf = self._leaf(family, site, rows, found, (int(row), price))
                leaves.append((value, leaf))
                self._values[site, leaf.quote] = min(value, self._values.get((site, leaf.quote), np.inf))
        self.leaves += [leaf for _, leaf in leaves]
        return sorted(leaves, key=lambda pair: (pair[0], pair[1].cost_usd, pair[1].time_s))

    def rank(self, leaf: Leaf) -> tuple[float, float, int]:
        """Of leaves of equal value the cheaper comes first, then the quicker, then whose family a task names first."""
        return leaf.cost_usd, leaf.time_s, self._rank[leaf.family]

    def undominated(self, family: Family, site: int, *, energy: bool) -> Iterator[Leaf]:
        """The allowed leaves of a site in a family that no other there matches in time and, if asked, energy.

        At one price the quicker recipe is the cheaper one, so cost need not be looked at. Only of what
        ``estimates`` knows.
        """
        rows = self.estimates.known_rows(family, site)
        found = self._outcome(family, site, rows)
        for price, quickest in enumerate(np.argmin(np.where(found.value < np.inf, found.time_s, np.inf), axis=0)):
            least_j = np.inf
            for row in np.argsort(found.time_s[:, price], kind="stable") if energy else [quickest]:
                spent_j = float(found.energy_j[row, price])
                if found.value[row, price] < np.inf and (not energy or spent_j < least_j):
                    yield self._leaf(family, site, rows, found, (int(row), price))
                    least_j = spent_j

    def worth_recomputing(self, family: Family, site: int, points: Array) -> Indices:
        """Rows with recompute that may be on a frontier: those of recipes that do not fit without it.

        Without recompute none of them costs more or takes longer, so where a point matches that, it matches all.

        Args:
            family: Of the rows.
            site: Where every recipe without recompute is known.
            points: Cost and time of a frontier, cheapest first ``[points, 2]``; none to match nothing.
        """
        plain, again = self.estimates.rows(family, site)
        found, table = self._outcome(family, site, plain), self.estimates.table(family)
        cheaper = np.searchsorted(points[:, 0], found.cost_usd, side="right")
        quickest_s = np.concatenate([[np.inf], points[:, 1]])[cheaper]  # of the points that are no dearer
        open_ = (found.relaxed < np.inf) & (found.time_s < quickest_s)
        mine = np.isin(table.plain[again], plain[open_.any(axis=1) & ~found.fits])
        return np.asarray(again[mine])

    def _leaf(self, family: Family, site: int, rows: Indices, found: Outcome, at: tuple[int, int]) -> Leaf:
        row, price = at
        figures = (float(column[row, price]) for column in (found.time_s, found.cost_usd, found.energy_j))
        return Leaf(family, site, int(rows[row]), int(self.space.sites[site].quote[price]), *figures)

    # States

    def sites_below(self, state: State) -> tuple[Family, Indices]:
        """The family of a state, and the sites below it that can compute in its number format."""
        family = self._family[state[0]]
        if len(state) == 1:
            members = np.arange(len(self.space.sites))
        else:
            members = self._classes[state[1]] if len(state) == 2 else np.array([self._site[state[1], state[2]]])
        return family, members[self.sites[family.dtype].candidate[members]]

    def bounds_of(self, state: State) -> SiteBounds:
        """What the bounds say of the sites below a state: only those of a single site look at a family's operators."""
        family = self._family[state[0]]
        if len(state) < 3:
            return self.sites[family.dtype]
        return self.bounds_within(family, np.array([self._site[state[1], state[2]]]))

    def bounds_within(self, family: Family, sites: Indices) -> SiteBounds:
        """What the bounds say that look at the operators of a family, at these sites and where they were asked before.

        What is likely to be asked for next comes along, more each time.
        """
        least_s, at_large = self.estimates.least_s, self.sites[family.dtype]
        looked = self._looked_into.setdefault(family, np.zeros(len(self.space.sites), dtype=np.bool_))
        if family not in self._bounds or not looked[sites].all():
            looked[sites] = True
            looked[self._company(family)] = True
            own = judge(self.space, self._floor, self.goal, family.dtype, least_s(family, np.flatnonzero(looked)))
            self._bounds[family] = replace(own, candidate=at_large.candidate)
        return self._bounds[family]

    def _company(self, family: Family) -> Indices:
        """Sites of the next few device classes that no bound of the whole family excludes."""
        at_large, looked = self.sites[family.dtype], self._looked_into[family]
        number = np.where(at_large.candidate & (at_large.verdict == -1) & ~looked, at_large.number, np.inf)
        number[number >= self._worst_of_best()] = np.inf
        classes = sorted((float(number[members].min()), name) for name, members in self._classes.items())
        first = _CLASSES_OF_DIVIDED if self.space.task.sides.layers else _CLASSES
        few = [name for least, name in classes[: first << self._calls[family]] if least < np.inf]
        self._calls[family] += 1
        return np.concatenate([np.zeros(0, dtype=np.int64), *(self._classes[name] for name in few)])

    def _next(self, state: State) -> Iterable[State]:
        if not state:
            return ((name,) for name in self._family)
        return ((*state, name) for name in self._classes)

    def _sites_of(self, state: State) -> Sequence[Child[State]]:
        """The sites of a device class with their bounds."""
        family, inside = self.sites_below(state)
        if not inside.size:
            return ()
        bounds, names = self.bounds_within(family, inside), self.space.sites
        told = zip(inside.tolist(), bounds.number[inside].tolist(), bounds.verdict[inside].tolist(), strict=True)
        return [
            Child((*state, names[site].name), number, "" if verdict == -1 else REASONS[verdict])
            for site, number, verdict in told
        ]

    def _child(self, state: State) -> Sequence[Child[State]]:
        """The state with its bound; its children in its place if they are ruled out for different reasons."""
        _, inside = self.sites_below(state)
        bounds = self.bounds_of(state)
        verdict, number = bounds.verdict[inside], bounds.number[inside]
        free = verdict == -1
        if not inside.size:
            return ()
        if free.any():
            return (Child(state, float(number[free].min())),)
        if (verdict == verdict[0]).all():
            return (Child(state, float(number.min()), REASONS[verdict[0]]),)
        return self.expand(state) or ()

    def _recompute_or_not(self, state: State) -> Sequence[Child[State]]:
        _, (site,) = self.sites_below(state)
        keep = Child((*state, KEEP), float(self.bounds_of(state).number[site]))
        if len(self.space.task.recomputes) == 1:
            return (keep,)
        found = self._outcome(*self._block(keep.state))
        return keep, Child((*state, RECOMPUTE), float(found.relaxed[~found.fits].min(initial=np.inf)))

    def _block(self, block: State) -> tuple[Family, int, Indices]:
        """Family, site and recipes of a block, as rows of the family's table: with recompute where it is needed."""
        family, site = self._family[block[0]], self._site[block[1], block[2]]
        plain, again = self.estimates.rows(family, site)
        if block[3] == KEEP:
            return family, site, plain
        table, machine = self._ensured(family, site, plain), self.estimates.machine_of_site[site]
        fits = table.columns["fit_probability"][table.plain[again], machine] >= self.goal.confidence
        return family, site, again[~fits]

    def _ensured(self, family: Family, site: int, rows: Indices) -> Table:
        """The table of a family with these rows of a site filled in."""
        table, machine = self.estimates.table(family), self.estimates.machine_of_site[site]
        if not table.is_known(rows, int(machine)):
            self.estimates.ensure(family, rows, site, self._urgency(family), self.goal.confidence)
        return table

    # Estimates

    def _outcome(self, family: Family, site: int, rows: Indices) -> Outcome:
        """Time, cost and value of recipes on one site at all its kept prices."""
        key = (family, site, rows.tobytes())
        if key not in self._outcomes:
            found = self._priced(family, site, rows)
            if self._kept > _MOST_KEPT:
                self._outcomes.clear()
                self._kept = 0
            self._outcomes[key] = found
            self._kept += found.value.size
        return self._outcomes[key]

    def _priced(self, family: Family, site: int, rows: Indices) -> Outcome:
        goal, here, steps = self.goal, self.space.sites[site], self.space.task.steps
        table, machine = self._ensured(family, site, rows), self.estimates.machine_of_site[site]
        column = table.read(rows, int(machine))
        p50_s, p90_s = steps * column["step_p50_s"], steps * column["step_p90_s"]
        tariff, late_s = here.tariff, quantile_s(p50_s, p90_s, goal.z)[:, None]
        shown_s = late_s if goal.late else p50_s[:, None]
        time_s, cost = goal.wall_and_money(tariff, shown_s)
        energy_j = (steps * self.space.task.machines * column["energy_p50_j"])[:, None] * tariff.time_factor
        grams_per_kwh = self.space.grams_of(site)
        value = goal.settled(goal.value(cost, time_s, energy_j, grams_per_kwh), time_s)
        late_wall_s, outlay_usd = tariff.wall_and_outlay(late_s)
        allowed = (late_wall_s <= min(goal.deadline_s, here.limit_s)) & (outlay_usd <= goal.budget_usd)
        allowed &= ~np.isnan(value) & ~goal.unknown(energy_j, grams_per_kwh)
        relaxed = np.where(allowed, value, np.inf)
        fits = column["fit_probability"] >= goal.confidence
        value = np.where(fits[:, None], relaxed, np.inf)
        return Outcome(value=value, relaxed=relaxed, fits=fits, time_s=time_s, cost_usd=cost, energy_j=energy_j)

    def _urgency(self, family: Family) -> Array:
        """Bounds of the machines that may still be better than the plans asked for, as far as they are known."""
        bound = self._by_machine(family)
        return np.where(bound < self._worst_of_best(), bound, np.inf)

    def _worst_of_best(self) -> float:
        """Value that a plan must be below to be among those that are asked for, as far as is known."""
        top = self.space.task.job.top
        known = nsmallest(top, self._values.values())
        return known[-1] if len(known) == top else np.inf

    def _by_machine(self, family: Family) -> Array:
        sites = self.bounds_within(family, np.zeros(0, dtype=np.int64))
        bound = np.full(len(self.estimates.machines), np.inf)
        free = sites.candidate & (sites.verdict == -1) & self._looked_into[family]
        np.minimum.at(bound, self.estimates.machine_of_site[free], sites.number[free])
        return bound


def quantile_s(p50_s: Array, p90_s: Array, z: float) -> Array:
    """An upper quantile of a lognormal time.

    >>> float(quantile_s(np.array(10.0), np.array(20.0), Z90))
    20.0
    """
    return np.asarray(p50_s * (p90_s / p50_s) ** (z / Z90))
