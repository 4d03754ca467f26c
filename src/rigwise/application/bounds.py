"""Lower bounds on what placements can reach, from the choices already made; with them A* proves its answer.

Time per item is the load of the busiest resource. For a part of the placement it is at least

1. what is placed already loads a resource with, and what each component keeps its own workers busy;
2. for each open component, the least over its places of its own load on top of what is there;
3. for any weights of the resources, none negative and together 1, the weighted mean of their loads:
   a maximum is never below a mean. The mean is a sum over components and edges, so its minimum over
   the open choices comes from a recursion along a forest of edges; other open edges count nothing.

Latency is at least the longest path so far and the shortest way on, where each path may choose
its places as if the others did not exist. Dollars are at least those of the places in use, and of
one more where an open component can run on none of them.

Source: 3 is the Lagrangian dual of makespan on unrelated machines, whose relaxation is that of
Lenstra, Shmoys & Tardos, Mathematical Programming 46, 1990; the recursion is min-sum dynamic
programming (Bertele & Brioschi, "Nonserial Dynamic Programming", 1972); the weights are found by the
multiplicative updates of Plotkin, Shmoys & Tardos, Math. of OR 20(2), 1995. Any weights are sound.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from rigwise.application.costs import Costed

Array = NDArray[np.float64]

_ROUNDS = 100


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """The costs of an application as arrays; infinite where something cannot be.

    Attributes:
        components, places: Names along the axes; components in topological order.
        resources: Names of the places, then of the directions of links.
        load_s: Components x places x resources: what a component loads them with.
        own_s: Components x places: load of a component's own workers.
        copy_s: Edge (by indices of its ends) -> places x places x resources.
        way_s: Edge -> places x places: time of one item.
        into: Component -> indices of the components that feed it, once each.
        stay_s: Components x places: call and wait for the batch, at the offered rate.
        memory_bytes: Components x places. ``room_bytes``: of each place.
        usd_per_h: Of each place.
        offered_per_s: Rate of the first source, 0 for none.
    """

    components: tuple[str, ...]
    places: tuple[str, ...]
    resources: tuple[str, ...]
    load_s: Array
    own_s: Array
    copy_s: dict[tuple[int, int], Array]
    way_s: dict[tuple[int, int], Array]
    into: tuple[tuple[int, ...], ...]
    stay_s: Array
    memory_bytes: Array
    room_bytes: Array
    usd_per_h: Array
    offered_per_s: float

    def may(self, component: int) -> list[int]:
        """Places where a component may run."""
        return [int(p) for p in np.flatnonzero(np.isfinite(self.own_s[component]))]


def tables(costed: Costed) -> Tables:
    """The arrays of an application."""
    application = costed.application
    components, places = tuple(application.components), tuple(application.places)
    ways = dict.fromkeys(f"link {a} -> {b}" for route in costed.routes.values() for a, b, _ in route)
    resources = (*(f"place {name}" for name in places), *ways)
    shape = (len(components), len(places))
    load_s, own_s, stay_s = np.zeros((*shape, len(resources))), np.full(shape, inf), np.full(shape, inf)
    memory_bytes = np.zeros(shape)
    for i, name in enumerate(components):
        for place in costed.allowed[name]:
            service = costed.services[name][place]
            p, loads = places.index(place), costed.service_load(name, place)
            load_s[i, p, p] = loads[f"place {place}"]
            own_s[i, p] = loads[f"workers {name}"]
            wait_s = costed.wait_s(name, costed.offered_per_s) if costed.offered_per_s else 0.0
            stay_s[i, p] = service.call_s["p50"] + wait_s
            memory_bytes[i, p] = service.memory_bytes
    copy_s, way_s = _edges(costed, components, places, resources)
    room = [place.memory_bytes for place in application.places.values()]
    return Tables(
        components=components,
        places=places,
        resources=resources,
        load_s=load_s,
        own_s=own_s,
        copy_s=copy_s,
        way_s=way_s,
        into=tuple(tuple(sorted({a for a, b in copy_s if b == i})) for i in range(len(components))),
        stay_s=stay_s,
        memory_bytes=memory_bytes,
        room_bytes=np.array([inf if limit is None else limit for limit in room]),
        usd_per_h=np.array([place.usd_per_h for place in application.places.values()]),
        offered_per_s=costed.offered_per_s or 0.0,
    )


def _edges(
    costed: Costed, components: tuple[str, ...], places: tuple[str, ...], resources: tuple[str, ...]
) -> tuple[dict[tuple[int, int], Array], dict[tuple[int, int], Array]]:
    """Loads and times of the edges by the indices of their ends; edges between the same two are one."""
    copy_s: dict[tuple[int, int], Array] = {}
    way_s: dict[tuple[int, int], Array] = {}
    number = {name: r for r, name in enumerate(resources)}
    for edge in costed.application.edges:
        ends = components.index(edge.source), components.index(edge.target)
        loads = copy_s.setdefault(ends, np.zeros((len(places), len(places), len(resources))))
        time_s = way_s.setdefault(ends, np.full((len(places), len(places)), inf))
        for a, source in enumerate(places):
            for b, target in enumerate(places):
                found = costed.copy_load(edge, source, target)
                if found is not None:
                    for name, load in found.items():
                        loads[a, b, number[name]] += load
                    once_s = costed.copy_s(edge, source, target)
                    time_s[a, b] = once_s if time_s[a, b] == inf else max(time_s[a, b], once_s)
    return copy_s, way_s


# The weighted mean of the loads


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Means:
    """Least weighted means of the loads, for several weightings at once.

    Attributes:
        parent: Component -> the component before it in the forest, -1 for none.
        rest_s: Weightings x components x places: least mean of the component there and all below it.
        copy_s: Edge -> weightings x places x places.
    """

    parent: tuple[int, ...]
    rest_s: Array
    copy_s: dict[tuple[int, int], Array]

    def of_tree(self, component: int, place_of_parent: int) -> Array:
        """Weightings x places: the mean of a component and all below it, with the copy into it."""
        above = self.parent[component]
        if above < 0:
            return self.rest_s[:, component]
        return self.rest_s[:, component] + self.copy_s[above, component][:, place_of_parent]


def means(world: Tables, weights: Array) -> Means:
    """Least means for ``weights`` (weightings x resources)."""
    parent = tuple(before[-1] if before else -1 for before in world.into)
    node = np.einsum("cpr,kr->kcp", world.load_s, weights)
    rest = np.where(np.isfinite(world.own_s), node, inf)
    copy = {
        ends: np.where(np.isfinite(world.way_s[ends]), np.einsum("abr,kr->kab", loads, weights), inf)
        for ends, loads in world.copy_s.items()
    }
    for i in range(len(parent) - 1, -1, -1):
        if parent[i] >= 0:
            rest[:, parent[i]] += (copy[parent[i], i] + rest[:, None, i]).min(axis=2)
    return Means(parent=parent, rest_s=rest, copy_s=copy)


def good_weights(world: Tables) -> Array:
    """Weightings x resources: one that makes the bound of the root high, and each place alone."""
    number, places = len(world.resources), len(world.places)
    weight, best, best_bound = np.full(number, 1.0 / number), np.zeros(number), -inf
    for done in range(_ROUNDS):
        found = means(world, weight[None])
        roots = [i for i, above in enumerate(found.parent) if above < 0]
        bound = sum(float(found.rest_s[0, i].min()) for i in roots)
        if bound > best_bound:
            best, best_bound = weight, bound
        loads = _loads_of_best(world, found)
        highest = float(loads.max())
        if not 0 < highest < inf:
            break
        weight = weight * np.exp(2.0 / np.sqrt(1.0 + done) * (loads / highest - 1.0)) + 1e-12
        weight = weight / weight.sum()
    alone = np.eye(number)[:places]
    return np.vstack([best, alone]) / (1.0 + 1e-12)


def _loads_of_best(world: Tables, found: Means) -> Array:
    """Loads of the choice that makes the mean least."""
    chosen: list[int] = []
    loads = np.zeros(len(world.resources))
    for i, above in enumerate(found.parent):
        place = int(found.of_tree(i, chosen[above] if above >= 0 else 0)[0].argmin())
        chosen.append(place)
        loads += world.load_s[i, place]
        if above >= 0:
            loads += world.copy_s[above, i][chosen[above], place]
    return loads


# Latency


def ways_on(world: Tables) -> Array:
    """Components x places: least time from the end of a component's call to the end of the longest path.

    Source: longest path by dynamic programming over a topological order.
    """
    rest = np.zeros(world.own_s.shape)
    for i in range(len(world.components) - 1, -1, -1):
        for before in world.into[i]:
            step = (world.way_s[before, i] + (world.stay_s[i] + rest[i])[None]).min(axis=1)
            rest[before] = np.maximum(rest[before], step)
    return rest
