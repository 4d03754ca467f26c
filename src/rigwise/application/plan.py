"""Plan an application: the best placements, what moving each component would change, and the proof.

Only the value of the objective is proven. Among placements of equal value the first shown is one
that no single move betters in latency (in throughput, if latency is the objective).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from math import inf, prod

from rigwise.application.answer import Answer, Placement, answer, longest_path, over_memory, total_loads
from rigwise.application.bounds import Tables, tables
from rigwise.application.costs import Costed, cost
from rigwise.application.placement import LIMIT, ROUNDING, LimitReachedError, PlacementProblem, State
from rigwise.application.types import Application
from rigwise.errors import InfeasibleError, InvalidInputError, UnsupportedError
from rigwise.search.astar import AStar, Covered
from rigwise.search.types import Certificate, CoverEntry
from rigwise.units import format_bytes, format_count

#: Rounds of single moves in which a placement settles, at most.
_PASSES = 20

#: Verdict -> what it means. ``bound``: no placement below has a smaller value than the number.
REASONS = {
    "memory": "more memory than the place has, in bytes",
    "rate": "busier than always at the offered rate, as a fraction",
    "link": "places without a link between them",
    "bound": "no better at best",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What one other place for one component would change.

    Attributes:
        component, place: What would go where.
        answer: What that yields; None if it cannot be.
        why_not: Why it cannot be.
        allowed: Whether ``on`` and ``places`` leave it open.
    """

    component: str
    place: str
    allowed: bool
    answer: Answer | None
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationPlan:
    """The answer to an application file.

    Attributes:
        costed: The application and its costs.
        answers: The best placements, best first.
        moves: From the first.
        certificate: That none is better; states are places of components in topological order.
        weights: Resource -> weight, for the means that bound the open choices.
    """

    costed: Costed
    answers: tuple[Answer, ...]
    moves: tuple[Move, ...]
    certificate: Certificate
    weights: Mapping[str, float]


def plan_application(
    application: Application, *, limit: int = LIMIT, clock_s: Callable[[], float] = time.perf_counter
) -> ApplicationPlan:
    """The best placements of an application, and the proof.

    Args:
        application: From ``reader``.
        limit: States to expand; what is found by then is shown with the gap that is left.
        clock_s: A clock, for the time the search took.

    Raises:
        InfeasibleError: No placement keeps the limits.
        InvalidInputError: A component that can run nowhere, contradictory rates, or no rate where one is needed.
    """
    costed = cost(application)
    if application.optimize != "throughput" and costed.offered_per_s is None:
        raise InvalidInputError(
            f"{application.where}: the least {application.optimize} depends on the rate", hint="give each source a rate"
        )
    started_s = clock_s()
    problem = PlacementProblem(tables(costed), application.optimize, limit)
    found = _search(problem, costed)
    if not found.leaves:
        raise _infeasible(costed, problem.world, found.cover)
    placements = [_placement(problem.world, state) for _, state in found.leaves]
    first = _settled(costed, placements[0])
    shown = [first, *(placement for placement in placements if placement != first)][: application.top]
    certificate = _certificate(problem, found, clock_s() - started_s)
    return ApplicationPlan(
        costed=costed,
        answers=tuple(answer(costed, placement) for placement in shown),
        moves=tuple(moves(costed, first)),
        certificate=certificate,
        weights=dict(zip(problem.world.resources, problem.weights[0].tolist(), strict=True)),
    )


def value_of(costed: Costed, found: Answer) -> float:
    """The value of the objective: seconds per item, seconds, or dollars per hour."""
    return {
        "throughput": 1.0 / found.capacity_per_s["p50"],
        "latency": found.latency_s["p50"],
        "cost": found.usd_per_h,
    }[costed.application.optimize]


def moves(costed: Costed, placement: Placement) -> Iterator[Move]:
    """Every other place for every component, one at a time, also against ``on`` and ``places``."""
    for name, services in costed.services.items():
        for place in services:
            if place != placement[name]:
                yield _move(costed, {**placement, name: place}, name)


def _move(costed: Costed, placement: Placement, name: str) -> Move:
    place = placement[name]
    why_not = _why_not(costed, placement, name)
    found = None if why_not else answer(costed, placement)
    return Move(component=name, place=place, allowed=place in costed.allowed[name], answer=found, why_not=why_not)


def _why_not(costed: Costed, placement: Placement, name: str) -> str:
    for edge in costed.application.edges:
        if name in (edge.source, edge.target) and (placement[edge.source], placement[edge.target]) not in costed.routes:
            return f"no link to {placement[edge.target if name == edge.source else edge.source]}"
    full = over_memory(costed, placement)
    if full:
        return f"too little memory on {', '.join(full)}"
    return "" if any(total_loads(costed, placement).values()) else "nothing would limit the throughput"


def _settled(costed: Costed, placement: Placement) -> Placement:
    """Single moves that better the value, or keep it and better the second wish, until none is left."""
    now, worth = dict(placement), _worth(costed, placement)
    for _ in range(_PASSES):
        before = worth
        for name, places in costed.allowed.items():
            for place in places:
                other = {**now, name: place}
                found = _worth(costed, other)
                if _better(found, worth):
                    now, worth = other, found
        if worth == before:
            break
    return now


def _better(found: tuple[float, float], than: tuple[float, float]) -> bool:
    if found[0] < than[0] * (1 - ROUNDING):
        return True
    return found[0] <= than[0] * (1 + ROUNDING) and found[1] < than[1] * (1 - ROUNDING)


def _worth(costed: Costed, placement: Placement) -> tuple[float, float]:
    """The value, and latency (time of one item, if latency is the value); infinite if a limit is not kept."""
    application, offered = costed.application, costed.offered_per_s
    if any((placement[edge.source], placement[edge.target]) not in costed.routes for edge in application.edges):
        return inf, inf
    time_s = max(total_loads(costed, placement).values())
    late = offered is not None and time_s * offered > 1 + ROUNDING
    if not time_s or over_memory(costed, placement) or (late and application.optimize != "throughput"):
        return inf, inf
    path = longest_path(costed, placement, min(offered or inf, 1 / time_s))
    latency_s = sum(leg.copy_s + leg.wait_s + leg.call_s for leg in path)
    if application.optimize == "latency":
        return latency_s, time_s
    usd_per_h = sum(application.places[place].usd_per_h for place in set(placement.values()))
    return (time_s if application.optimize == "throughput" else usd_per_h), latency_s


def _placement(world: Tables, state: State) -> dict[str, str]:
    return {name: world.places[place] for name, place in zip(world.components, state, strict=True)}


@dataclass(frozen=True, slots=True)
class _Found:
    """Leaves with their values, best first; every placement once; states expanded."""

    leaves: list[tuple[float, State]]
    cover: list[Covered[State]]
    expanded: int


def _search(problem: PlacementProblem, costed: Costed) -> _Found:
    """The best leaves; where the limit comes first, one that single moves cannot better."""
    search = AStar(problem, ())
    leaves: list[tuple[float, State]] = []
    try:
        leaves.extend(islice(search, costed.application.top))
    except LimitReachedError as stop:
        cover = [*search.cover(), Covered(stop.state, "bound", stop.bound)]
        if leaves:
            return _Found(leaves, cover, search.expanded)
        return _incumbent(problem, costed, cover, search.expanded)
    return _Found(leaves, search.cover(), search.expanded)


def _incumbent(problem: PlacementProblem, costed: Costed, cover: list[Covered[State]], expanded: int) -> _Found:
    """The best that was added up, or else a dive, bettered by single moves and taken out of the part it lies in."""
    world = problem.world
    known = min((part for part in cover if part.verdict == "estimated"), key=lambda part: part.number, default=None)
    leaf = known.state if known else PlacementProblem(world, problem.optimize).dive()
    if leaf is None:
        raise UnsupportedError(
            f"{costed.application.where}: no placement was found in {expanded:,} states",
            hint="pin some components with on",
        )
    names = _settled(costed, _placement(world, leaf))
    leaf = tuple(world.places.index(names[component]) for component in world.components)
    inside = next(part for part in cover if part.state == leaf[: len(part.state)])
    way = list(PlacementProblem(world, problem.optimize).way_to(leaf, len(inside.state)))
    cover = [*(part for part in cover if part is not inside), *way]
    return _Found([(way[-1].number, leaf)], cover, expanded)


def _certificate(problem: PlacementProblem, found: _Found, wall_s: float) -> Certificate:
    world, cover, best = problem.world, found.cover, found.leaves[0][0]
    choices = [len(world.may(i)) for i in range(len(world.components))]
    counts = Counter(dict.fromkeys(("estimated", *REASONS), 0))
    for part in cover:
        counts[part.verdict] += prod(choices[len(part.state) :])
    numbers = [part.number for part in cover if part.verdict == "bound"]
    lower_bound = min([best, *numbers])
    return Certificate(
        objective=problem.optimize,
        best=best,
        lower_bound=lower_bound,
        gap_frac=best / lower_bound - 1 if lower_bound > 0 else 0.0,
        candidates=prod(choices),
        expanded=found.expanded,
        estimated=counts["estimated"],
        pruned={reason: counts[reason] for reason in REASONS},
        wall_s=wall_s,
        method="astar",
        reasons=REASONS,
        cover=tuple(_entry(world, part) for part in cover),
    )


def _entry(world: Tables, part: Covered[State]) -> CoverEntry:
    state = tuple(world.places[place] for place in part.state)
    return CoverEntry(state=state, verdict=part.verdict, number=None if part.number == inf else part.number)


def _infeasible(costed: Costed, world: Tables, cover: list[Covered[State]]) -> InfeasibleError:
    """Why there is no placement: the limit that most parts of the search broke, and how far it is."""
    where, verdicts = costed.application.where, {part.verdict for part in cover}
    if "rate" in verdicts:
        free = replace(costed.application, optimize="throughput", top=1)
        fastest = plan_application(free).answers[0].capacity_per_s["p50"]
        return InfeasibleError(
            f"{where}: no placement keeps up with {format_count(costed.offered_per_s or 0)} items/s",
            hint=f"the quickest carries {format_count(fastest)} items/s",
        )
    if "memory" in verdicts:
        tightest = min(
            (part for part in cover if part.verdict == "memory"),
            key=lambda part: part.number / world.room_bytes[part.state[-1]],
        )
        place = tightest.state[-1]
        room = format_bytes(float(world.room_bytes[place]))
        return InfeasibleError(
            f"{where}: no placement fits in memory",
            hint=f"the nearest needs {format_bytes(tightest.number)} of the {room} on {world.places[place]}",
        )
    return InfeasibleError(f"{where}: no placement has links for all its edges", hint="add a [[link]]")
