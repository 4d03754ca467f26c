"""How many items pass each component and edge, for each item of the first source."""

from __future__ import annotations

from collections.abc import Mapping
from math import isclose, isfinite

from rigwise.application.types import Application, Component, Edge
from rigwise.errors import InvalidInputError

_SLACK_FRAC = 1e-6


def sources(application: Application) -> tuple[Component, ...]:
    """The components without inputs."""
    return tuple(component for component in application.components.values() if not component.inputs)


def offered_per_s(application: Application) -> float | None:
    """The rate of the first source, None if sources give as much as the rest can take.

    Raises:
        InvalidInputError: Some sources have a rate and some have none.
    """
    rates = {component.name: component.rate_per_s for component in sources(application)}
    without = [name for name, rate in rates.items() if rate is None]
    if without and len(without) < len(rates):
        raise InvalidInputError(
            f"{application.where}: sources with and without a rate", hint=f"give {', '.join(without)} one too"
        )
    return next(iter(rates.values()))


def item_rates(application: Application) -> dict[str, float]:
    """Items that each component takes (a source: gives), for one item of the first source.

    A component that joins takes one item of each input, so those rates must agree; one that
    merges takes the sum. Sources without rates run in step.

    Raises:
        InvalidInputError: Rates that contradict each other at a join, or overflow.
    """
    first = offered_per_s(application)
    rates: dict[str, float] = {}
    for component in application.components.values():
        if not component.inputs:
            rates[component.name] = (
                1.0 if first is None or component.rate_per_s is None else component.rate_per_s / first
            )
            continue
        arriving = {edge: edge_rate(application, rates, edge) for edge in application.into(component.name)}
        rates[component.name] = sum(arriving.values()) if component.merge else _joined(application, component, arriving)
        if not isfinite(rates[component.name]):
            raise InvalidInputError(f"{application.where}: component.{component.name} takes infinitely many items")
    return rates


def bursts(application: Application) -> dict[str, float]:
    """Items that reach each component together: those of one call before it, at least 1.

    A call that makes several items of one hands them on at once, and so does a call of a batch
    that is always waited for until it is full. Where several edges end, the largest counts.
    """
    found: dict[str, float] = {}
    for name in application.components:
        together = [1.0]
        for edge in application.into(name):
            before = application.components[edge.source]
            full = before.batch if before.max_wait_s is None else 1
            together.append(max(found[edge.source], full) * before.outputs[edge.output].ratio_frac)
        found[name] = max(together)
    return found


def edge_rate(application: Application, rates: Mapping[str, float], edge: Edge) -> float:
    """Items on an edge for one item of the first source."""
    return rates[edge.source] * application.components[edge.source].outputs[edge.output].ratio_frac


def _joined(application: Application, component: Component, arriving: Mapping[Edge, float]) -> float:
    (first, rate), *others = arriving.items()
    for edge, other in others:
        if not isclose(rate, other, rel_tol=_SLACK_FRAC):
            raise InvalidInputError(
                f"{application.where}: component.{component.name} joins {rate:g} items of {first.source} with"
                f" {other:g} of {edge.source}",
                hint="mend ratio or rate, or say merge = true",
            )
    return rate
