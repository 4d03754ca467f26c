"""What each component costs on each place, and each edge between two places: the tables that all answers add up.

A *resource* is something that is busy: a place, the workers of a component, or one direction of
a link. A *load* is how many seconds a resource is busy for one item of the first source. A
placement can carry the rate at which its most loaded resource is busy all the time.

    place      sum of items x time of one item x cores it keeps busy / cores of the place
    workers    items x time of one item / calls side by side
    link       items x bytes / bandwidth

Source: the operational laws of Denning & Buzen, "The Operational Analysis of Queueing Network
Models", Computing Surveys 10(3), 1978: utilisation is throughput times demand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from rigwise.application.flow import bursts, edge_rate, item_rates, offered_per_s
from rigwise.application.reader import case_of
from rigwise.application.types import CPU, Application, Component, Edge, Link, ModelWork, Place
from rigwise.errors import InvalidInputError, MissingFactError, RigwiseError, UnsupportedError
from rigwise.estimate.predict import predict
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.machine.this import resolve_device

#: Resource -> seconds it is busy for one item of the first source.
Loads = Mapping[str, float]

QUANTILES = ("p10", "p50", "p90")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A component on a place.

    Attributes:
        call_s: Time of one call of a full batch: quantiles of an estimate, three times the same if stated.
        cores: Cores that a call keeps busy.
        side_by_side: Calls that run at once.
        memory_bytes: Held there.
        source: Where the time comes from.
    """

    call_s: Mapping[str, float]
    cores: int
    side_by_side: int
    memory_bytes: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Costed:
    """An application with everything its answers add up.

    Attributes:
        offered_per_s: Rate of the first source; None: as fast as the rest.
        rates: Items that each component takes for one item of the first source.
        bursts: Items that reach each component together.
        services: Component -> place -> cost there, wherever it could run.
        allowed: Component -> the places of those that the file leaves open: ``on`` and ``places`` narrow them.
        refused: Component -> place -> why it cannot run there.
        routes: Pair of places -> the links between them, each with its direction; absent if there is no way.
    """

    application: Application
    offered_per_s: float | None
    rates: Mapping[str, float]
    bursts: Mapping[str, float]
    services: Mapping[str, Mapping[str, Service]]
    allowed: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, Mapping[str, str]]
    routes: Mapping[tuple[str, str], tuple[tuple[str, str, Link], ...]]

    def service_load(self, name: str, place: str, quantile: str = "p50") -> dict[str, float]:
        """Loads of a component on a place."""
        service = self.services[name][place]
        component = self.application.components[name]
        busy_s = self.rates[name] * service.call_s[quantile] / component.batch
        return {
            f"place {place}": busy_s * service.cores / self.application.places[place].cores,
            f"workers {name}": busy_s / service.side_by_side,
        }

    def copy_load(self, edge: Edge, source: str, target: str) -> dict[str, float] | None:
        """Loads of an edge whose ends are on two places; None if there is no way between them."""
        if (source, target) not in self.routes:
            return None
        moved_bytes = edge_rate(self.application, self.rates, edge) * self.application.item_bytes(edge)
        return {f"link {a} -> {b}": moved_bytes / link.bytes_per_s for a, b, link in self.routes[source, target]}

    def copy_s(self, edge: Edge, source: str, target: str) -> float:
        """Time that one item needs from one place to another, alone on the way."""
        size = self.application.item_bytes(edge)
        return sum(link.latency_s + size / link.bytes_per_s for _, _, link in self.routes[source, target])

    def wait_s(self, name: str, rate_per_s: float) -> float:
        """Longest wait for a batch to fill: of its first item, at a rate of the first source."""
        component = self.application.components[name]
        if component.batch == 1 or not component.inputs:
            return 0.0
        together = self.bursts[name]
        fill_s = (ceil(component.batch / together - 1e-9) - 1) * together / (rate_per_s * self.rates[name])
        return fill_s if component.max_wait_s is None else min(fill_s, component.max_wait_s)


def cost(application: Application) -> Costed:
    """Look up and estimate every component on every place.

    Raises:
        InvalidInputError: Rates that contradict each other, or a component that can run nowhere.
        RigwiseError: A model that cannot be captured; names the component.
    """
    rates = item_rates(application)
    services: dict[str, dict[str, Service]] = {}
    refused: dict[str, dict[str, str]] = {}
    allowed: dict[str, tuple[str, ...]] = {}
    for name, component in application.components.items():
        services[name], refused[name] = _services(application, component)
        wanted = (component.on,) if component.on else component.places or tuple(application.places)
        allowed[name] = tuple(place for place in services[name] if place in wanted)
        if not allowed[name]:
            reasons = "; ".join(f"{place}: {refused[name][place]}" for place in wanted)
            raise InvalidInputError(f"{application.where}: component.{name} can run nowhere ({reasons})")
    return Costed(
        application=application,
        offered_per_s=offered_per_s(application),
        rates=rates,
        bursts=bursts(application),
        services=services,
        allowed=allowed,
        refused=refused,
        routes=_routes(application),
    )


def _services(application: Application, component: Component) -> tuple[dict[str, Service], dict[str, str]]:
    """What a component costs on each place, wherever the file wants it; why it cannot run on the others."""
    found: dict[str, Service] = {}
    refused: dict[str, str] = {}
    model: Model | None = None
    for name, place in application.places.items():
        if name in component.costs:
            found[name] = _stated(component, place)
        elif component.model is None:
            refused[name] = "no cost is stated"
        elif not place.device:
            refused[name] = "the place has no device to estimate the model on"
        elif place.kind == CPU and place.cores != resolve_device(place.device).units:
            refused[name] = f"models are estimated on all cores of {place.device}, and the place has {place.cores}"
        else:
            try:
                model = model or _load(component.model.name, f"{application.where}: component.{component.name}.model")
                found[name] = _estimated(component, component.model, place, model)
            except (UnsupportedError, MissingFactError) as error:
                refused[name] = error.message
    return found, refused


def _load(name: str, where: str) -> Model:
    try:
        return load_model(name)
    except RigwiseError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from None


def _stated(component: Component, place: Place) -> Service:
    stated = component.costs[place.name]
    item_s = stated.time_s + (stated.read_bytes / place.read_bytes_per_s if place.read_bytes_per_s else 0.0)
    call_s = stated.time_per_batch_s + component.batch * item_s
    return Service(
        call_s=dict.fromkeys(QUANTILES, call_s),
        cores=stated.cores,
        side_by_side=min(component.workers, place.cores // stated.cores),
        memory_bytes=stated.memory_bytes + component.memory_bytes,
        source=stated.source,
    )


def _estimated(component: Component, work: ModelWork, place: Place, model: Model) -> Service:
    """One call of the model; on a CPU it keeps all cores busy."""
    prediction = predict(case_of(work, component.batch, place.device), model)
    return Service(
        call_s=prediction.step_time_s,
        cores=place.cores if place.kind == CPU else 1,
        side_by_side=1,
        memory_bytes=prediction.peak_memory_bytes["p50"] + component.memory_bytes,
        source=f"estimate on {place.device}, {prediction.provenance}",
    )


def _routes(application: Application) -> dict[tuple[str, str], tuple[tuple[str, str, Link], ...]]:
    """The way with the fewest links between each two places; among equals the one that the file names first."""
    routes: dict[tuple[str, str], tuple[tuple[str, str, Link], ...]] = {}
    for start in application.places:
        routes[start, start] = ()
        reached = deque([start])
        while reached:
            here = reached.popleft()
            for link in application.links:
                if here in link.between:
                    there = link.between[1] if link.between[0] == here else link.between[0]
                    if (start, there) not in routes:
                        routes[start, there] = (*routes[start, here], (here, there, link))
                        reached.append(there)
    return routes
