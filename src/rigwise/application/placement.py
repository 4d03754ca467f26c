"""The search for the best placement: what A* must know of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf

import numpy as np

from rigwise.application.bounds import Array, Tables, good_weights, means, ways_on
from rigwise.search.astar import Child, Covered

#: Places of the first components, in topological order, by index.
State = tuple[int, ...]

#: States that are expanded before the search gives up proving.
LIMIT = 30_000

#: A rate is kept if it is missed by no more than rounding.
ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What the choices of a state add up to: see ``bounds``."""

    loads_s: Array
    own_s: float
    mean_s: Array
    held_bytes: Array
    ends_s: tuple[float, ...]
    latency_s: float


class LimitReachedError(Exception):
    """So many states were expanded that the search stops; the one it stopped at is still open."""

    def __init__(self, state: State, bound: float) -> None:
        super().__init__()
        self.state, self.bound = state, bound


class PlacementProblem:
    """All placements of an application; states are placements of its first components.

    Args:
        world: The costs.
        optimize: ``throughput``, ``latency`` or ``cost``.
        limit: States to expand at most; then ``expand`` raises ``LimitReachedError``.
    """

    def __init__(self, world: Tables, optimize: str, limit: int = LIMIT) -> None:
        self.world, self.optimize, self._left = world, optimize, limit
        self.weights = good_weights(world)
        self._means = means(world, self.weights)
        self._ways_on_s = ways_on(world)
        # least own load of each open component from here on
        least = world.own_s.min(axis=1)
        self._least_own_s = np.maximum.accumulate(np.append(least, 0.0)[::-1])[::-1]
        self._known: dict[State, _Known] = {(): self._nothing()}

    def _nothing(self) -> _Known:
        world, forest = self.world, self._means
        roots = [i for i, above in enumerate(forest.parent) if above < 0]
        mean = sum((forest.rest_s[:, i].min(axis=1) for i in roots), np.zeros(len(self.weights)))
        first_s = max(float((world.stay_s[i] + self._ways_on_s[i]).min()) for i in roots)
        return _Known(np.zeros(len(world.resources)), 0.0, mean, np.zeros(len(world.places)), (), first_s)

    def expand(self, state: State) -> Sequence[Child[State]] | None:
        """The next component on each of its places; None if all are placed."""
        if len(state) == len(self.world.components):
            return None
        if not self._left:
            raise LimitReachedError(state, self.bound(state, self._known[state]))
        self._left -= 1
        return list(self._children(state, self._known.pop(state)))

    def estimate(self, block: State) -> Sequence[tuple[float, State]]:
        """The value of a complete placement, which its bound is already."""
        return [(self.bound(block, self._known[block]), block)]

    def dive(self) -> State | None:
        """A placement that keeps the limits: depth first, the least bound first; None if the limit comes before one."""
        stack: list[State] = [()]
        with suppress(LimitReachedError):
            while stack:
                state = stack.pop()
                children = self.expand(state)
                if children is None:
                    return state
                ranked = sorted((c for c in children if not c.cut), key=lambda child: -child.bound)
                stack += [child.state for child in ranked]
        return None

    def way_to(self, leaf: State, start: int) -> Iterator[Covered[State]]:
        """All that lies under the first ``start`` choices of a placement, the placement itself estimated."""
        for length in range(len(leaf)):
            for child in self.expand(leaf[:length]) or ():
                if length >= start and child.state != leaf[: length + 1]:
                    yield Covered(child.state, child.cut or "bound", child.bound)
        yield Covered(leaf, "estimated", self.estimate(leaf)[0][0])

    def _children(self, state: State, known: _Known) -> Iterator[Child[State]]:
        world, forest, new = self.world, self._means, len(state)
        above = forest.parent[new]
        tree = forest.of_tree(new, state[above] if above >= 0 else 0)
        least = tree.min(axis=1)
        open_mean = known.mean_s - np.where(np.isfinite(least), least, 0.0)
        for place in world.may(new):
            loads, mean, start_s = known.loads_s + world.load_s[new, place], open_mean + tree[:, place], 0.0
            for before in world.into[new]:
                loads = loads + world.copy_s[before, new][state[before], place]
                start_s = max(start_s, known.ends_s[before] + float(world.way_s[before, new][state[before], place]))
                if before != above:
                    mean = mean + forest.copy_s[before, new][:, state[before], place]
            child = (*state, place)
            if start_s == inf or not np.isfinite(mean).all():
                yield Child(child, inf, "link")
                continue
            held = known.held_bytes.copy()
            held[place] += world.memory_bytes[new, place]
            if held[place] > world.room_bytes[place]:
                yield Child(child, float(held[place]), "memory")
                continue
            end_s = start_s + float(world.stay_s[new, place])
            found = _Known(
                loads,
                max(known.own_s, float(world.own_s[new, place])),
                mean,
                held,
                (*known.ends_s, end_s),
                max(known.latency_s, end_s + float(self._ways_on_s[new, place])),
            )
            busy = self._time_s(child, found) * world.offered_per_s
            if self.optimize != "throughput" and busy > 1 + ROUNDING:
                yield Child(child, busy, "rate")
                continue
            self._known[child] = found
            yield Child(child, self.bound(child, found))

    def bound(self, state: State, known: _Known) -> float:
        """No placement below has a smaller value; of a complete one this is the value."""
        if self.optimize == "throughput":
            return self._time_s(state, known)
        return known.latency_s if self.optimize == "latency" else self._usd_per_h(state)

    def _time_s(self, state: State, known: _Known) -> float:
        world, done = self.world, len(state)
        placed_s = max(float(known.loads_s.max()), known.own_s)
        if done == len(world.components):
            return placed_s
        here = known.loads_s[: len(world.places)]
        added = np.maximum(here + world.load_s[done:, range(len(here)), range(len(here))], world.own_s[done:])
        return max(placed_s, float(known.mean_s.max()), float(added.min(axis=1).max()))

    def _usd_per_h(self, state: State) -> float:
        """The places in use, and one more where an open component needs one."""
        world, used = self.world, set(state)
        more = [0.0]
        for i in range(len(state), len(world.components)):
            may = world.may(i)
            if used.isdisjoint(may):
                more.append(float(world.usd_per_h[may].min()))
        return float(sum(world.usd_per_h[p] for p in used)) + max(more)
