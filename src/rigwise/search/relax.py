"""Why nothing is feasible, and which limit to move by how much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.errors import InfeasibleError
from rigwise.search.astar import AStar
from rigwise.search.bounds import Goal, Least, capacity_words
from rigwise.search.estimates import Estimates
from rigwise.search.problem import Leaf, PlanProblem
from rigwise.search.space import Space
from rigwise.units import format_seconds, format_usd


def infeasible(space: Space, floor: Least, estimates: Estimates, goal: Goal) -> InfeasibleError:
    """The error that names the limits, and the nearest change to each that would do.

    Nearest in the quantile that must keep the limits, so that a job with the figure that is
    named has a plan.
    """
    deadline, budget = goal.deadline_s, goal.budget_usd
    asked = " and ".join(
        words
        for words in (
            f"{format_seconds(deadline)}" if deadline < np.inf else "",
            format_usd(budget) if budget < np.inf else "",
        )
        if words
    )

    def best(objective: str, **limits: Any) -> Leaf | None:
        relaxed = replace(goal, objective=objective, late=True, **limits)
        return next((leaf for _, leaf in AStar(PlanProblem(space, floor, estimates, relaxed), ())), None)

    free = {"deadline_s": np.inf, "budget_usd": np.inf}
    if best("cost", **free) is None:
        dtype = next(iter(floor.time_s))
        return InfeasibleError(
            f"no machine holds {space.task.job.model}: {capacity_words(floor, dtype)}",
            hint="add devices (--own), a smaller batch, or --method lora",
        )
    if goal.known_energy and best("cost", known_energy=False):
        return InfeasibleError(
            "no device that keeps the limits has a known power limit, so their energy cannot be compared",
            hint="minimize cost or time",
        )
    ways = []
    if budget < np.inf and (cheaper := best("cost", budget_usd=np.inf)):
        within = f"within {format_seconds(deadline)} and " if deadline < np.inf else ""
        ways.append(f"{within}under {_usd_up(cheaper.cost_usd)} there is {_name(space, cheaper)}")
    if deadline < np.inf and (quicker := best("time", deadline_s=np.inf)):
        under = f" and {format_usd(budget)}" if budget < np.inf else ""
        ways.append(f"within {_time_up(quicker.time_s)}{under} there is {_name(space, quicker)}")
    if not ways and (cheapest := best("cost", **free)):
        ways.append(
            f"the cheapest, {_name(space, cheapest)}, needs {_time_up(cheapest.time_s)}"
            f" and {_usd_up(cheapest.cost_usd)}"
        )
    return InfeasibleError(f"no plan under {asked}" if asked else "no plan", hint="; ".join(ways))


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
