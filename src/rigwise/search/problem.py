"""The planning problem as A* sees it: states, choices, bounds, and blocks of recipes at prices.

A state names a family (number format, layout, mode), a device class, a site, and whether
activations are kept or computed again; below that, recipes and prices form a block.

Recompute repeats part of the forward pass and changes nothing else, so no recipe is quicker
with it than without. A recipe that fits without recompute is therefore no worse than with it and
is left out of the block that computes activations again; what the others would take if memory
were no limit bounds what they take there.
"""

from __future__ import annotations

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

_NEEDED = ("step_p50_s", "step_p90_s", "fit_probability", "energy_p50_j")


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
        self._site = {(site.device_class, site.name): i for i, site in enumerate(space.sites)}
        classes: dict[str, list[int]] = {}
        for index, site in enumerate(space.sites):
            classes.setdefault(site.device_class, []).append(index)
        self._classes = {name: np.array(members) for name, members in classes.items()}
        self._values: dict[tuple[int, int], float] = {}
        self._found: dict[State, Outcome] = {}

    # What A* asks

    def expand(self, state: State) -> Sequence[Child[State]] | None:
        """The next choice: family, device class, site, recompute or not; then comes a block."""
        if len(state) == 4:
            return None
        if len(state) == 3:
            return self._recompute_or_not(state)
        return [child for further in self._next(state) for child in self._child(further)]

    def estimate(self, block: State) -> Sequence[tuple[float, Leaf]]:
        """The best recipe of a block at each price, if any keeps the limits."""
        family, site, rows = self._block(block)
        found = self._found.pop(block, None) or self._outcome(family, site, rows)
        leaves = []
        for price, row in enumerate(np.argmin(found.value, axis=0) if len(rows) else ()):
            value = float(found.value[row, price])
            if value < np.inf:
                leaf = self._leaf(family, site, rows, found, (int(row), price))
                leaves.append((value, leaf))
                self._values[site, leaf.quote] = min(value, self._values.get((site, leaf.quote), np.inf))
        self.leaves += [leaf for _, leaf in leaves]
        return sorted(leaves, key=lambda pair: (pair[0], pair[1].cost_usd, pair[1].time_s))

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
        """What the bounds say of the sites below a state: those of a whole family do not look at its operators."""
        family = self._family[state[0]]
        if len(state) == 1:
            return self.sites[family.dtype]
        if family not in self._bounds:
            own = judge(self.space, self._floor, self.goal, family.dtype, self.estimates.least_s(family))
            self._bounds[family] = replace(own, candidate=self.sites[family.dtype].candidate)
        return self._bounds[family]

    def _next(self, state: State) -> Iterable[State]:
        if not state:
            return ((name,) for name in self._family)
        if len(state) == 1:
            return ((*state, name) for name in self._classes)
        return ((*state, self.space.sites[i].name) for i in self._classes[state[1]])

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
        found = self._found[keep.state] = self._outcome(*self._block(keep.state))
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
        if not table.known[rows, machine].all():
            self.estimates.ensure(family, rows, site, self._urgency(family), self.goal.confidence)
        return table

    # Estimates

    def _outcome(self, family: Family, site: int, rows: Indices) -> Outcome:
        """Time, cost and value of recipes on one site at all its kept prices."""
        goal, here, steps = self.goal, self.space.sites[site], self.space.task.steps
        table, machine = self._ensured(family, site, rows), self.estimates.machine_of_site[site]
        column = {name: table.columns[name][rows, machine] for name in _NEEDED}
        p50_s, p90_s = steps * column["step_p50_s"], steps * column["step_p90_s"]
        tariff, late_s = here.tariff, quantile_s(p50_s, p90_s, goal.z)[:, None]
        shown_s = late_s if goal.late else p50_s[:, None]
        time_s, cost = tariff.wall_s(shown_s), goal.money_usd(tariff, shown_s)
        energy_j = (steps * self.space.task.machines * column["energy_p50_j"])[:, None] * tariff.time_factor
        grams_per_kwh = self.space.grams_of(site)
        value = goal.value(cost, time_s, energy_j, grams_per_kwh)
        allowed = tariff.wall_s(late_s) <= min(goal.deadline_s, here.limit_s)
        allowed &= tariff.outlay_usd(late_s) <= goal.budget_usd
        allowed &= ~np.isnan(value) & ~goal.unknown(energy_j, grams_per_kwh)
        relaxed = np.where(allowed, value, np.inf)
        fits = column["fit_probability"] >= goal.confidence
        value = np.where(fits[:, None], relaxed, np.inf)
        return Outcome(value=value, relaxed=relaxed, fits=fits, time_s=time_s, cost_usd=cost, energy_j=energy_j)

    def _urgency(self, family: Family) -> Array:
        """Bounds of the machines that may still be better than the plans asked for, as far as they are known."""
        top, bound = self.space.task.job.top, self._by_machine(family)
        known = nsmallest(top, self._values.values())
        return np.where(bound < (known[-1] if len(known) == top else np.inf), bound, np.inf)

    def _by_machine(self, family: Family) -> Array:
        sites = self.bounds_of((str(family), ""))
        bound = np.full(len(self.estimates.machines), np.inf)
        free = sites.candidate & (sites.verdict == -1)
        np.minimum.at(bound, self.estimates.machine_of_site[free], sites.number[free])
        return bound


def quantile_s(p50_s: Array, p90_s: Array, z: float) -> Array:
    """An upper quantile of a lognormal time.

    >>> float(quantile_s(np.array(10.0), np.array(20.0), Z90))
    20.0
    """
    return np.asarray(p50_s * (p90_s / p50_s) ** (z / Z90))
