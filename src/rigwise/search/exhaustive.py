"""Exhaustive search: every recipe on every machine at every kept price, a line of NumPy for each recipe.

It needs no bounds and no argument, so it is what A* is tested against. It is also what is used
where A* has nothing to go by, see ``is_quicker``.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rigwise.search.astar import Covered
from rigwise.search.bounds import Goal
from rigwise.search.estimates import Estimates, Table
from rigwise.search.problem import Leaf, quantile_s
from rigwise.search.space import Space
from rigwise.search.types import Array, State
from rigwise.workload.choices import Family, Task


def is_quicker(task: Task, objective: str) -> bool:
    """Whether looking at everything beats A*: only where neither a bound nor recompute spares any look.

    That is the energy of inference, which nothing bounds: a fifth quicker over the bundled
    catalogue. Wherever there is a bound, or recompute to leave aside, A* is 1.2 to 6 times
    quicker (``benchmarks/bench_plan.py``).
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
    best = np.full(len(prices.site), np.inf)
    best_row = np.full(len(prices.site), -1)
    time_s, cost_usd = np.full_like(best, np.inf), np.full_like(best, np.inf)
    for row in range(len(table.recipes)):
        value, row_time_s, row_cost_usd = _values(table, row, machine, goal, prices)
        better = value < best
        for target, source in ((best, value), (time_s, row_time_s), (cost_usd, row_cost_usd)):
            target[better] = source[better]
        best_row[better] = row
    for i in np.flatnonzero(best_row >= 0):
        leaf = Leaf(
            family, int(prices.site[i]), int(best_row[i]), int(prices.quote[i]), float(time_s[i]), float(cost_usd[i])
        )
        yield float(best[i]), leaf


def _values(table: Table, row: int, machine: np.ndarray, goal: Goal, prices: _Prices) -> tuple[Array, Array, Array]:
    """Value (infinite where not allowed), time and cost of one recipe ``[prices]``."""
    column = {name: values[row, machine] for name, values in table.columns.items()}
    p50_s, p90_s = prices.steps * column["step_p50_s"], prices.steps * column["step_p90_s"]
    tariff, late_s = prices.tariff, quantile_s(p50_s, p90_s, goal.z)
    shown_s = late_s if goal.late else p50_s
    time_s, cost = tariff.wall_s(shown_s), goal.money_usd(tariff, shown_s)
    allowed = tariff.wall_s(late_s) <= np.minimum(goal.deadline_s, prices.limit_s)
    allowed &= (column["fit_probability"] >= goal.confidence) & (tariff.outlay_usd(late_s) <= goal.budget_usd)
    energy_j = prices.spent * column["energy_p50_j"] * tariff.time_factor
    value = goal.value(cost, time_s, energy_j, prices.grams_per_kwh)
    allowed &= ~np.isnan(value) & ~goal.unknown(energy_j, prices.grams_per_kwh)
    return np.where(allowed, value, np.inf), time_s, cost
