"""Exhaustive search: every recipe on every machine at every kept price, side by side in arrays.

It needs no bounds and no argument, so it is what A* is tested against. It is also what is used
where bounds spare too little, see ``is_quicker``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rigwise.search.astar import Covered
from rigwise.search.bounds import Goal
from rigwise.search.estimates import Estimates, Indices, Table
from rigwise.search.problem import Leaf, quantile_s
from rigwise.search.space import Space
from rigwise.search.types import Array, State
from rigwise.workload.choices import Family, Task

#: Most pairs of a price and a recipe that are looked at in one go: what bounds the memory of temporary arrays.
_MOST_PAIRS = 262_144


def is_quicker(task: Task, objective: str) -> bool:
    """Whether looking at everything beats A*: where the bound is loose and there is no recompute to leave aside.

    That is the energy of inference: A* estimates a third of the bundled catalogue for it, which saves less than
    telling apart what to estimate costs (a tenth quicker). Everywhere else A* is quicker
    (``benchmarks/bench_plan.py``).
    """
    return objective == "energy" and task.recomputes == ("none",)


class Exhaustive:
    """Exhaustive search in the manner of ``AStar``: iterate for the leaves in order."""

    expanded = 0
    stopped = False
    lower_bound = np.inf

    def __init__(self, space: Space, estimates: Estimates, goal: Goal) -> None:
        self.leaves = exhaustive(space, estimates, goal)

    def __iter__(self) -> Iterator[tuple[float, Leaf]]:
        return iter(self.leaves)

    def cover(self) -> list[Covered[State]]:
        """The whole tree, estimated."""
        return [Covered((), "estimated", self.leaves[0][0] if self.leaves else np.inf)]


def exhaustive(space: Space, estimates: Estimates, goal: Goal) -> list[tuple[float, Leaf]]:
    """The best allowed recipe of every family on every site at every kept price, best first."""
    prices = _Prices(space)
    found: list[tuple[float, Leaf]] = []
    for family in space.task.families:
        found.extend(_of_family(family, estimates, goal, prices))
    return sorted(found, key=lambda pair: (pair[0], pair[1].cost_usd, pair[1].time_s))


class _Prices:
    """All kept prices of all sites in a row ``[prices]``."""

    def __init__(self, space: Space) -> None:
        self.site = space.site_of_price()
        self.quote = np.concatenate([s.quote for s in space.sites])
        self.tariff, self.grams_per_kwh = space.tariff, space.grams_per_kwh
        self.limit_s: Array = np.array([s.limit_s for s in space.sites])[self.site]
        self.steps, self.spent = space.task.steps, space.task.steps * space.task.machines


def _of_family(family: Family, estimates: Estimates, goal: Goal, prices: _Prices) -> Iterator[tuple[float, Leaf]]:
    table = estimates.fill(family)
    machine = estimates.machine_of_site[prices.site]
    usable = np.array([table.held[i].shape[1] if i in table.held else 0 for i in range(len(estimates.machines))])
    able = np.flatnonzero(usable[machine] > 0)
    ends = np.cumsum(usable[machine[able]])
    parts = max(1, -(-int(ends[-1]) // _MOST_PAIRS)) if len(able) else 0
    edges = np.searchsorted(ends, np.arange(1, parts) * (ends[-1] / parts)) if parts else []
    for part in np.split(able, edges):
        if len(part):
            yield from _best_of_each(family, _Pairs(table, machine[part], part), goal, prices)


class _Pairs:
    """Some prices, each with every recipe that its machine can use ``[pairs]``.

    Attributes:
        start: First pair of each price.
        price, row: Of each pair: index of the price, row of the table.
        column: Estimates by name.
    """

    def __init__(self, table: Table, machine: Indices, price: Indices) -> None:
        held = {i: table.held[i] for i in np.unique(machine).tolist()}
        number = np.array([held[i].shape[1] for i in machine.tolist()])
        self.start = np.cumsum(number) - number
        self.price = np.repeat(price, number)
        inside = np.arange(len(self.price)) - np.repeat(self.start, number)
        self.row = np.repeat(table.known.first[machine], number) + inside
        figures = np.concatenate([held[i] for i in machine.tolist()], axis=1)
        self.column = {name: figures[column.figure] for name, column in table.columns.items()}

    def first_of_best(self, value: Array) -> Indices:
        """The first pair with the least value of each price, of those that have a finite one."""
        least = np.minimum.reduceat(value, self.start)
        number = np.diff(self.start, append=len(value))
        best = np.flatnonzero((value == np.repeat(least, number)) & (value < np.inf))
        return np.asarray(best[np.unique(self.price[best], return_index=True)[1]])


def _best_of_each(family: Family, pairs: _Pairs, goal: Goal, prices: _Prices) -> Iterator[tuple[float, Leaf]]:
    """The best allowed recipe at each price."""
    value, time_s, cost_usd = _values(pairs, goal, prices)
    for i in pairs.first_of_best(value).tolist():
        price, figures = pairs.price[i], (float(time_s[i]), float(cost_usd[i]))
        site, quote = int(prices.site[price]), int(prices.quote[price])
        yield float(value[i]), Leaf(family, site, int(pairs.row[i]), quote, *figures)


def _values(pairs: _Pairs, goal: Goal, prices: _Prices) -> tuple[Array, Array, Array]:
    """Value (infinite where not allowed), time and cost of each pair."""
    column, at = pairs.column, pairs.price
    p50_s, p90_s = prices.steps * column["step_p50_s"], prices.steps * column["step_p90_s"]
    tariff, late_s = prices.tariff.pick(at), quantile_s(p50_s, p90_s, goal.z)
    shown_s = late_s if goal.late else p50_s
    time_s, cost = tariff.wall_s(shown_s), goal.money_usd(tariff, shown_s)
    allowed = tariff.wall_s(late_s) <= np.minimum(goal.deadline_s, prices.limit_s[at])
    allowed &= (column["fit_probability"] >= goal.confidence) & (tariff.outlay_usd(late_s) <= goal.budget_usd)
    energy_j = prices.spent * column["energy_p50_j"] * tariff.time_factor
    value = goal.settled(goal.value(cost, time_s, energy_j, prices.grams_per_kwh[at]), time_s)
    allowed &= ~np.isnan(value) & ~goal.unknown(energy_j, prices.grams_per_kwh[at])
    return np.where(allowed, value, np.inf), time_s, cost
