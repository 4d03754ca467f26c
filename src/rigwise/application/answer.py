"""What a placement yields: throughput, latency, the bottleneck, what piles up, how busy everything is.

Steady state of a fluid: items are counted as if they could be divided, and nothing varies. So
``throughput = min(offered, 1 / largest load)``, a busy fraction is load x throughput, and
latency is the longest path of calls, filling batches and copies, **without queueing**.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf

from rigwise.application.costs import QUANTILES, Costed
from rigwise.application.flow import edge_rate
from rigwise.application.types import Edge
from rigwise.errors import InvalidInputError

#: Component -> place.
Placement = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One component on the longest path: the copy into it, the wait for its batch, its call."""

    component: str
    copy_s: float
    wait_s: float
    call_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What piles up where a source is faster than the rest.

    Attributes:
        edge: ``source -> target`` behind which it piles up; the name of a source that is itself too slow.
        items_per_s, bytes_per_s: How quickly.
    """

    edge: str
    items_per_s: float
    bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one placement yields; rates are those of the first source unless a component is named.

    Attributes:
        placement: Component -> place.
        capacity_per_s: What it could carry: quantiles.
        throughput_per_s: What it does carry: the same, or what is offered if that is less.
        latency_s: Along ``path``, at that throughput, without queueing: quantiles.
        path: The longest path, at the median.
        bottleneck: The most loaded resource: ``place gpu``, ``workers decode`` or ``link cpu -> gpu``.
        limiting: The components and edges that load it, heaviest first.
        busy_frac: Resource -> fraction of the time that it is busy.
        rates_per_s: Items that each component takes.
        backlog: What piles up.
        memory_bytes: Place -> held there.
        usd_per_h: Of all places where anything runs.
    """

    placement: Placement
    capacity_per_s: Mapping[str, float]
    throughput_per_s: Mapping[str, float]
    latency_s: Mapping[str, float]
    path: tuple[Leg, ...]
    bottleneck: str
    limiting: tuple[str, ...]
    busy_frac: Mapping[str, float]
    rates_per_s: Mapping[str, float]
    backlog: tuple[Backlog, ...]
    memory_bytes: Mapping[str, float]
    usd_per_h: float


def answer(costed: Costed, placement: Placement) -> Answer:
    """What a placement yields.

    Raises:
        InvalidInputError: A component on a place where it cannot run, two places without a link
            between them, or nothing that limits the throughput.
    """
    check_placement(costed, placement)
    spread = any(len(set(costed.services[name][place].call_s.values())) > 1 for name, place in placement.items())
    likely = total_loads(costed, placement)
    loads = {q: total_loads(costed, placement, q) if spread else likely for q in QUANTILES}
    capacity = {q: 1.0 / max(loads[r].values()) for q, r in zip(QUANTILES, reversed(QUANTILES), strict=True)}
    offered = inf if costed.offered_per_s is None else costed.offered_per_s
    carried = {q: min(offered, capacity[q]) for q in QUANTILES}
    rate = carried["p50"]
    likely_path = longest_path(costed, placement, rate)
    paths = {q: longest_path(costed, placement, rate, q) if spread else likely_path for q in QUANTILES}
    bottleneck = max(loads["p50"], key=lambda name: loads["p50"][name])
    application = costed.application
    return Answer(
        placement={name: placement[name] for name in application.components},
        capacity_per_s=capacity,
        throughput_per_s=carried,
        latency_s={q: sum(leg.copy_s + leg.wait_s + leg.call_s for leg in path) for q, path in paths.items()},
        path=paths["p50"],
        bottleneck=bottleneck,
        limiting=_limiting(costed, placement, bottleneck),
        busy_frac={name: load * rate for name, load in loads["p50"].items()},
        rates_per_s={name: items * rate for name, items in costed.rates.items()},
        backlog=_backlog(costed, placement, bottleneck, 0.0 if offered == inf else offered - rate),
        memory_bytes=held_bytes(costed, placement),
        usd_per_h=sum(application.places[place].usd_per_h for place in set(placement.values())),
    )


def check_placement(costed: Costed, placement: Placement) -> None:
    """See that a placement can be: each component where it may run, places of each edge linked.

    Raises:
        InvalidInputError: It cannot; names the component or edge.
    """
    where = costed.application.where
    for component, services in costed.services.items():
        place = placement.get(component)
        if place not in services:
            why = costed.refused[component].get(str(place), "there is no such place")
            raise InvalidInputError(f"{where}: component.{component} cannot run on {place}: {why}")
    for edge in costed.application.edges:
        pair = (placement[edge.source], placement[edge.target])
        if pair not in costed.routes:
            raise InvalidInputError(f"{where}: {edge}: no link from {pair[0]} to {pair[1]}", hint="add a [[link]]")
    if not max(total_loads(costed, placement).values()) > 0:
        raise InvalidInputError(f"{where}: nothing limits the throughput", hint="give at least one component a time")


def total_loads(costed: Costed, placement: Placement, quantile: str = "p50") -> dict[str, float]:
    """Load of every resource that a placement uses."""
    loads: Counter[str] = Counter()
    for name, place in placement.items():
        loads.update(costed.service_load(name, place, quantile))
    for edge in costed.application.edges:
        loads.update(costed.copy_load(edge, placement[edge.source], placement[edge.target]) or {})
    return dict(loads)


def held_bytes(costed: Costed, placement: Placement) -> dict[str, float]:
    """Memory held on each place."""
    held: Counter[str] = Counter()
    for name, place in placement.items():
        held.update({place: costed.services[name][place].memory_bytes})
    return dict(held)


def over_memory(costed: Costed, placement: Placement) -> list[str]:
    """Places that hold more than they have."""
    limits = {name: place.memory_bytes for name, place in costed.application.places.items()}
    return [name for name, held in held_bytes(costed, placement).items() if held > (limits[name] or inf)]


def longest_path(costed: Costed, placement: Placement, rate_per_s: float, quantile: str = "p50") -> tuple[Leg, ...]:
    """The path of the greatest latency from a source to a sink, at a rate of the first source."""
    paths: dict[str, tuple[float, tuple[Leg, ...]]] = {}
    for name in costed.application.components:
        best: tuple[float, tuple[Leg, ...]] = (0.0, ())
        copy_s = 0.0
        for edge in costed.application.into(name):
            before_s, legs = paths[edge.source]
            step_s = costed.copy_s(edge, placement[edge.source], placement[name])
            if not best[1] or before_s + step_s > best[0]:
                best, copy_s = (before_s + step_s, legs), step_s
        wait_s, call_s = costed.wait_s(name, rate_per_s), costed.services[name][placement[name]].call_s[quantile]
        leg = Leg(component=name, copy_s=copy_s, wait_s=wait_s, call_s=call_s)
        paths[name] = (best[0] + wait_s + call_s, (*best[1], leg))
    return max(paths.values(), key=lambda path: path[0])[1]


def _limiting(costed: Costed, placement: Placement, resource: str) -> tuple[str, ...]:
    """Components and edges that load a resource, heaviest first."""
    parts = {name: costed.service_load(name, place).get(resource, 0.0) for name, place in placement.items()}
    for edge in costed.application.edges:
        loads = costed.copy_load(edge, placement[edge.source], placement[edge.target]) or {}
        parts[str(edge)] = parts.get(str(edge), 0.0) + loads.get(resource, 0.0)
    return tuple(sorted((name for name in parts if parts[name] > 0), key=lambda name: -parts[name]))


def _backlog(costed: Costed, placement: Placement, resource: str, excess_per_s: float) -> tuple[Backlog, ...]:
    """Where the excess piles up: before the first component, or on the first edges, that load the bottleneck."""
    if excess_per_s <= 0:
        return ()
    application, limiting = costed.application, set(_limiting(costed, placement, resource))
    edges = [edge for edge in application.edges if str(edge) in limiting]
    if not edges:
        first = next(name for name in application.components if name in limiting)
        edges = list(application.into(first))
        if not edges:
            return (Backlog(edge=first, items_per_s=excess_per_s * costed.rates[first], bytes_per_s=0.0),)
    return tuple(_piled(costed, edge, excess_per_s) for edge in edges)


def _piled(costed: Costed, edge: Edge, excess_per_s: float) -> Backlog:
    items_per_s = excess_per_s * edge_rate(costed.application, costed.rates, edge)
    size = costed.application.item_bytes(edge)
    return Backlog(edge=str(edge), items_per_s=items_per_s, bytes_per_s=items_per_s * size)
