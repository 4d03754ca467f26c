"""A grid of streets with some quicker roads and some closed ones, and the quickest way through it by A*.

Every crossing has up to four neighbours. The time between two of them is the distance over the speed of the road, so
the distance left over the highest speed never exceeds the time left: an admissible bound, and a consistent one, so the
first time that a crossing comes up is the quickest way to it.

Source: Hart, Nilsson & Raphael, "A Formal Basis for the Heuristic Determination of Minimum Cost Paths", 1968;
Dijkstra, "A Note on Two Problems in Connexion with Graphs", 1959, for what is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rigwise.search.astar import AStar, Child

#: Speeds of streets and main roads, in crossings a second; every so many streets is a main road; share closed.
SLOW, QUICK, EVERY, CLOSED = (0.5, 1.0), 2.0, 8, 0.08

Crossing = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Roads:
    """A grid of crossings; times to the right and down, infinite where closed.

    Attributes:
        side: Crossings along an edge.
        right_s, down_s: Seconds from a crossing to its neighbour, and back, as rows of lists.
    """

    side: int
    right_s: Sequence[Sequence[float]]
    down_s: Sequence[Sequence[float]]

    def leaving(self, at: Crossing) -> list[tuple[Crossing, float]]:
        """Neighbours that can be reached, with the seconds to them."""
        row, column = at
        found = []
        if column + 1 < self.side:
            found.append(((row, column + 1), self.right_s[row][column]))
        if row + 1 < self.side:
            found.append(((row + 1, column), self.down_s[row][column]))
        if column:
            found.append(((row, column - 1), self.right_s[row][column - 1]))
        if row:
            found.append(((row - 1, column), self.down_s[row - 1][column]))
        return [(there, seconds) for there, seconds in found if seconds < float("inf")]

    def bound_s(self, at: Crossing, goal: Crossing) -> float:
        """Least time left: blocks to go at the highest speed.

        >>> Roads(3, [], []).bound_s((0, 0), (1, 2))
        1.5
        """
        return (abs(goal[0] - at[0]) + abs(goal[1] - at[1])) / QUICK

    def edges(self) -> tuple[Any, Any, Any]:
        """All roads once, by numbers of crossings, with their seconds, as NumPy arrays."""
        import numpy as np

        numbers = np.arange(self.side**2).reshape(self.side, self.side)
        begins = np.concatenate([numbers[:, :-1].ravel(), numbers[:-1].ravel()])
        ends = np.concatenate([numbers[:, 1:].ravel(), numbers[1:].ravel()])
        times = np.concatenate([np.asarray(self.right_s)[:, :-1].ravel(), np.asarray(self.down_s)[:-1].ravel()])
        is_open = np.isfinite(times)
        return begins[is_open], ends[is_open], times[is_open]


def roads(side: int, seed: int) -> Roads:
    """Random streets, the same for one seed."""
    import numpy as np

    random = np.random.default_rng(seed)
    along = []
    for place in (0, 1):
        speed = random.uniform(*SLOW, (side, side))
        speed[random.random((side, side)) < CLOSED] = 0.0
        lines = (slice(None, None, EVERY), slice(None)) if place == 0 else (slice(None), slice(None, None, EVERY))
        speed[lines] = QUICK  # main roads are never closed
        with np.errstate(divide="ignore"):
            along.append((1.0 / speed).tolist())
    return Roads(side, *along)


@dataclass(frozen=True, slots=True)
class Trip:
    """The way between two crossings, as a problem for A*: a state is a crossing with the time it took to get there.

    Attributes:
        map: The roads.
        goal: Where it ends.
        seen: Crossings that have come up; a later way to one is no quicker.
    """

    map: Roads
    goal: Crossing
    seen: set[Crossing] = field(default_factory=set)

    def expand(self, state: tuple[Crossing, float]) -> list[Child[tuple[Crossing, float]]] | None:
        """Where to go from here; None at the goal."""
        at, passed_s = state
        if at == self.goal:
            return None
        if at in self.seen:
            return []
        self.seen.add(at)
        left = [(there, passed_s + seconds) for there, seconds in self.map.leaving(at) if there not in self.seen]
        return [Child((there, time_s), time_s + self.map.bound_s(there, self.goal)) for there, time_s in left]

    def estimate(self, block: tuple[Crossing, float]) -> list[tuple[float, Crossing]]:
        """The time of the whole trip."""
        return [(block[1], block[0])]


def quickest(city: Roads, start: Crossing, goal: Crossing) -> tuple[float, int]:
    """Seconds of the quickest way, and how many crossings A* looked at; infinite where there is no way.

    >>> quickest(Roads(2, [[1.0], [1.0]], [[2.0, 3.0]]), (0, 0), (1, 1))
    (3.0, 3)
    """
    trip = Trip(city, goal)
    search: AStar[tuple[Crossing, float], Crossing] = AStar(trip, (start, 0.0))
    found, _ = next(search, (float("inf"), None))
    return found, len(trip.seen)


def by_networkx(networkx: Any, city: Roads, start: Crossing, goal: Crossing) -> tuple[Callable[[], float], int]:
    """A call of NetworkX's A* with the same bound, and how many crossings it looks at."""
    graph = networkx.Graph()
    for row in range(city.side):
        for column in range(city.side):
            for there, seconds in city.leaving((row, column)):
                graph.add_edge((row, column), there, weight=seconds)
    looked_at: set[Crossing] = set()

    def weight(at: Crossing, there: Crossing, road: dict[str, float]) -> float:
        looked_at.add(at)
        return road["weight"]

    networkx.astar_path_length(graph, start, goal, heuristic=city.bound_s, weight=weight)

    def call() -> float:
        return float(networkx.astar_path_length(graph, start, goal, heuristic=city.bound_s, weight="weight"))

    return call, len(looked_at)


def by_scipy(csgraph: Any, sparse: Any, city: Roads, start: Crossing, goal: Crossing) -> Callable[[], float]:
    """A call of SciPy's Dijkstra, which finds the times to all crossings."""
    begins, ends, times = city.edges()
    count = city.side**2
    matrix = sparse.coo_array((times, (begins, ends)), shape=(count, count)).tocsr()
    first, last = (at[0] * city.side + at[1] for at in (start, goal))
    return lambda: float(csgraph.dijkstra(matrix, directed=False, indices=first)[last])
