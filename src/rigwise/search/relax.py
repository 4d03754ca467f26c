"""Why nothing is feasible, and which limit to move by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.errors import InfeasibleError
from rigwise.search.astar import AStar
from rigwise.search.bounds import Goal, Least, why_nowhere
from rigwise.search.estimates import Estimates
from rigwise.search.problem import Leaf, PlanProblem
from rigwise.search.space import Space
from rigwise.units import format_seconds, format_usd
from rigwise.workload.job import Weights


def infeasible(space: Space, floor: Least, estimates: Estimates, goal: Goal) -> InfeasibleError:
    """The error that names the limit that binds, and the nearest change to each that would do.

    Nearest in the quantile that must keep the limits, so that a job with the figure that is
    named has a plan.
    """

    def best(objective: str, **limits: Any) -> Leaf | None:
        relaxed = replace(goal, objective=objective, late=True, **limits)
        return next((leaf for _, leaf in AStar(PlanProblem(space, floor, estimates, relaxed), ())), None)

    anything = best("outlay", deadline_s=np.inf, budget_usd=np.inf)
    if goal.known_energy and best("cost", weights=Weights(), known_energy=False, known_carbon=False):
        region = " in a region of known carbon intensity" if goal.known_carbon else ""
        return InfeasibleError(
            f"no device that keeps the limits has a known power limit{region}, so {goal.objective} cannot be compared",
            hint="minimize cost or time",
        )
    if anything is None:
        return InfeasibleError(
            f"no offer can do {space.task.job.model}: {why_nowhere(space, floor)}",
            hint="--method lora needs less, and a larger --batch can be shared by more devices",
        )
    has_deadline, has_budget = goal.deadline_s < np.inf, goal.budget_usd < np.inf
    dearer = best("outlay", budget_usd=np.inf) if has_budget else None
    slower = best("time", deadline_s=np.inf) if has_deadline else None
    time, money = format_seconds(goal.deadline_s), format_usd(goal.budget_usd)
    ways = []
    if dearer:
        within = f"within {time} and " if has_deadline else ""
        ways.append(f"{within}under {_usd_up(dearer.cost_usd)} there is {_name(space, dearer)}")
    if slower:
        under = f" and {money}" if has_budget else ""
        ways.append(f"within {_time_up(slower.time_s)}{under} there is {_name(space, slower)}")
    if not ways:
        needs = f"{_time_up(anything.time_s)} and {_usd_up(anything.cost_usd)}"
        ways.append(f"the cheapest, {_name(space, anything)}, needs {needs}")
    asked = " and ".join([*([time] if has_deadline else []), *([money] if has_budget else [])])
    binding = _binding(deadline=has_deadline and slower is not None, budget=has_budget and dearer is not None)
    return InfeasibleError(f"no plan under {asked}: {binding}", hint="; ".join(ways))


def _binding(*, deadline: bool, budget: bool) -> str:
    """Which limit is in the way, from which one alone would do if it gave way."""
    if deadline and budget:
        return "deadline and budget do not go together"
    if deadline:
        return "the deadline is too short"
    return "the budget is too small" if budget else "deadline and budget are both too tight"


def nothing_to_rent(excluded: Mapping[str, int]) -> InfeasibleError:
    """The error where no offer is left to choose from."""
    counts = ", ".join(f"{number} {reason}" for reason, number in sorted(excluded.items(), key=lambda p: -p[1]))
    return InfeasibleError("no offer can be used", hint=f"left out: {counts or 'the catalogue is empty'}")


def _name(space: Space, leaf: Leaf) -> str:
    machine, offer = space.sites[leaf.site].machine, space.quotes[leaf.quote].offer
    return f"{machine.count} x {machine.device.id} at {offer.provider}"


def _usd_up(value: float) -> str:
    """Rounded up to what the printed figure shows, so that it suffices."""
    step = 0.01 if value < 100 else 1.0
    return format_usd(math.ceil(value / step) * step)


def _time_up(value: float) -> str:
    """A little more, because the printed figure is rounded to three digits."""
    return format_seconds(1.006 * value)
