"""The Pareto frontier of time and cost, and of energy if asked: every point of it, proven.

A site whose least time, cost and energy are all matched by a plan that was found holds nothing
for the frontier. Every other site is estimated, so what is left is the whole frontier under the
estimate, not a sample of it. That looks at most of what a search for one best plan leaves aside,
and takes several times as long.

Source: the definition of dominance; Mandow & Perez de la Cruz, "Multiobjective A* Search with
Consistent Heuristics", JACM 57(5), 2010, for pruning by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from rigwise.search.astar import Stop, go_on
from rigwise.search.bounds import Least, site_minima
from rigwise.search.estimates import Indices, Mask
from rigwise.search.problem import Leaf, PlanProblem
from rigwise.search.types import Array
from rigwise.workload.choices import Family

#: Sites that are estimated together, before what they add rules out others.
_AT_ONCE = 64


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
        looked_at: set[int] = set()
        while not stop(np.inf, 0.0):
            worth = _worth_a_look(problem, floor, family, _points(front, energy=energy))
            sites = [site for site in worth.tolist() if site not in looked_at][:_AT_ONCE]
            if not sites:
                break
            looked_at.update(sites)
            front = _with_sites(problem, family, sites, front, energy=energy)
    return front


def _with_sites(
    problem: PlanProblem, family: Family, sites: Sequence[int], front: list[Leaf], *, energy: bool
) -> list[Leaf]:
    """The frontier with the leaves of some sites, recompute only where it may add to it."""
    estimates, machine = problem.estimates, problem.estimates.machine_of_site

    def joined(sites: Iterable[int]) -> list[Leaf]:
        more = (leaf for site in sites for leaf in problem.undominated(family, site, energy=energy))
        return undominated([*front, *more], energy=energy)

    estimates.ensure_rows(family, {int(machine[site]): estimates.rows(family, site)[0] for site in sites})
    front = joined(sites)
    if len(problem.space.task.recomputes) == 1:
        return front
    points = np.zeros((0, 2)) if energy else _points(front, energy=False)
    wanted: dict[int, Indices] = {}
    for site in sites:
        rows = problem.worth_recomputing(family, site, points)
        wanted[int(machine[site])] = np.union1d(wanted.get(int(machine[site]), rows), rows)
    estimates.ensure_rows(family, wanted)
    return joined(site for site in sites if len(wanted[int(machine[site])]))


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
    """Sites that no limit rules out and whose least figures no point matches, what is both cheap and quick first."""
    worth: Mask = np.ones(len(problem.space.sites), dtype=np.bool_)
    for within in (False, True):  # the whole family first: its operators may not need a look
        if worth.any():
            open_ = np.flatnonzero(worth)
            bounds = problem.bounds_within(family, open_) if within else problem.bounds_of((str(family),))
            own_s = problem.estimates.least_s(family, open_) if within else np.nan
            least = np.stack(site_minima(problem.space, floor, family.dtype, own_s), axis=1)[:, : points.shape[1]]
            worth &= bounds.candidate & (bounds.verdict == -1)
            for point in points:
                worth &= ~np.all(point <= least, axis=1)
    sites = np.flatnonzero(worth)
    return np.asarray(sites[np.argsort(least[sites, 0] * least[sites, 1], kind="stable")]) if len(sites) else sites
