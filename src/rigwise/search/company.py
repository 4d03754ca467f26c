"""The plans of an answer among everything else that was estimated: their odds, and what to fall back on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from rigwise.search.explain import plan_of
from rigwise.search.problem import Leaf, PlanProblem
from rigwise.search.robust import fallbacks, kinship, with_odds
from rigwise.search.types import Plan

#: Machines that a ranking is held against, the best of each; and instances among which fallbacks are sought.
_RIVALS, _INSTANCES = 48, 32


class Company(NamedTuple):
    """The parts of an answer that are plans, each with its odds among all of them and their rivals."""

    ranked: tuple[Plan, ...]
    fallbacks: tuple[Plan, ...]
    frontier: tuple[Plan, ...]


def in_company(problem: PlanProblem, ranked: Sequence[Leaf], front: Iterable[Leaf], found: Iterable[Leaf]) -> Company:
    """The ranked leaves, the fallbacks and the frontier as plans, with their odds.

    Args:
        problem: What they come from.
        ranked: Best first.
        front: The frontier.
        found: Everything else that was estimated and keeps the limits; fallbacks are the best of these, so one
            that the search had no reason to look at can be better.
    """
    space = problem.space

    def plan(leaf: Leaf) -> Plan:
        return plan_of(space, problem.estimates, leaf)

    ordered = [*ranked, *_by_value(problem, found)]
    instances = _first_of_each(
        ordered, lambda leaf: (space.quotes[leaf.quote].offer.provider, space.quotes[leaf.quote].offer.instance)
    )
    rivals = _first_of_each(ordered, lambda leaf: problem.estimates.machine_of_site[leaf.site])
    first = [replace(plan(leaf), rank=rank) for rank, leaf in enumerate(ranked, 1)]
    spare = fallbacks(first[0], [plan(leaf) for leaf in instances[:_INSTANCES]])
    along = [plan(leaf) for leaf in front]
    devices = {device.id: device for site in space.sites for device in (*site.variants, site.machine.device)}
    judged = with_odds(
        [*first, *spare, *along], problem.goal, kinship(devices), [plan(leaf) for leaf in rivals[:_RIVALS]]
    )
    here, after = len(first), len(first) + len(spare)
    return Company(judged[:here], judged[here:after], judged[after:])


def _by_value(problem: PlanProblem, leaves: Iterable[Leaf]) -> list[Leaf]:
    """Leaves by the objective, those of which it is not known left out."""
    space, goal, listed = problem.space, problem.goal, list(leaves)
    if not listed:
        return []
    grams = np.array(
        [space.grams_of(leaf.site)[int((space.sites[leaf.site].quote == leaf.quote).argmax())] for leaf in listed]
    )
    time_s, cost_usd, energy_j = np.array([(leaf.time_s, leaf.cost_usd, leaf.energy_j) for leaf in listed]).T
    value = goal.value(cost_usd, time_s, energy_j, grams)
    order = np.lexsort((time_s, cost_usd, value))
    return [listed[i] for i in order if np.isfinite(value[i])]


def _first_of_each(leaves: Iterable[Leaf], key: Any) -> list[Leaf]:
    """The first leaf of each group."""
    kept: dict[Any, Leaf] = {}
    for leaf in leaves:
        kept.setdefault(key(leaf), leaf)
    return list(kept.values())
