"""The Pareto frontier of time and cost, and of energy if asked: every point of it, proven.

A site whose least time, cost and energy are all matched by a plan that was found holds nothing
for the frontier. Every other site is estimated, so what is left is the whole frontier under the
estimate, not a sample of it. That looks at most of what a search for one best plan leaves aside,
and takes several times as long.

Source: the definition of dominance; Mandow & Perez de la Cruz, "Multiobjective A* Search with
Consistent Heuristics", JACM 57(5), 2010, for pruning by it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rigwise.search.astar import Stop, go_on
from rigwise.search.bounds import Least, site_minima
from rigwise.search.estimates import Indices, Mask
from rigwise.search.problem import Leaf, PlanProblem
from rigwise.search.types import Array
from rigwise.workload.choices import Family


def frontier(
    problem: PlanProblem, floor: Least, found: Iterable[Leaf], *, energy: bool = False, stop: Stop = go_on
) -> list[Leaf]:
    """All leaves that no other leaf matches in cost, time and, if asked, energy; cheapest first.

    Args:
        problem: Space, estimates and limits; its objective does not matter.
        floor: What no recipe undercuts.
        found: Leaves known already, which rule much out at once.
        energy: Whether energy is a third axis; what it is not known of is then left out.
        stop: Ends it early with what was found by then.
    """
    front = undominated(found, energy=energy)
    for family in problem.space.task.families:
        if stop(np.inf, 0.0):
            break
        sites = _worth_a_look(problem, floor, family, _points(front, energy=energy))
        problem.estimates.ensure_many(
            family, np.unique(problem.estimates.machine_of_site[sites]), problem.goal.confidence
        )
        more = (leaf for site in sites for leaf in problem.undominated(family, int(site), energy=energy))
        front = undominated([*front, *more], energy=energy)
    return front


def undominated(leaves: Iterable[Leaf], *, energy: bool = False) -> list[Leaf]:
    """Those that no other matches in cost, time and, if asked, energy; cheapest first.

    Of two that are alike the first is kept.
    """
    front: list[Leaf] = []
    ordered = sorted(leaves, key=lambda leaf: (leaf.cost_usd, leaf.time_s, leaf.energy_j if energy else 0.0))
    for leaf in ordered:
        if energy and np.isnan(leaf.energy_j):
            continue
        if not any(
            other.time_s <= leaf.time_s and (not energy or other.energy_j <= leaf.energy_j)
            for other in (front if energy else front[-1:])
        ):
            front.append(leaf)
    return front


def _points(front: Iterable[Leaf], *, energy: bool) -> Array:
    """Cost, time and perhaps energy of leaves ``[leaves, axes]``."""
    axes = 3 if energy else 2
    return np.array([(leaf.cost_usd, leaf.time_s, leaf.energy_j)[:axes] for leaf in front]).reshape(-1, axes)


def _worth_a_look(problem: PlanProblem, floor: Least, family: Family, points: Array) -> Indices:
    """Sites that no limit rules out, and whose least figures no point matches."""
    sites = problem.sites[family.dtype]
    least = np.stack(site_minima(problem.space, floor, family.dtype), axis=1)[:, : points.shape[1]]
    matched: Mask = np.zeros(len(least), dtype=np.bool_)
    for point in points:
        matched |= np.all(point <= least, axis=1)
    return np.flatnonzero(sites.candidate & (sites.verdict == -1) & ~matched)
