"""The candidates: every machine that can be had, at every price, computing in every way.

Offers of equal machines form a *site*: same devices, same links, same limits, different
prices. The candidate tree is family (number format, layout, mode), device class, site, and
below a site, as one block, recipe and price.

Of the prices of a site only the cheapest few are kept, as many as plans are asked for. A dearer
offer of an equal machine takes the same time for more money, so it cannot push any of them out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import Device
from rigwise.machine.machine import Machine
from rigwise.market.offers import OWNED, SPOT, Quote
from rigwise.market.spot import ASSUMED, time_factor
from rigwise.search.types import Array, site_name
from rigwise.workload.choices import Family, Task, recipes, usable_devices
from rigwise.workload.lower import Recipe

#: Instances that one job may span. Only where the row states the network between them.
NODES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Equal machines at different prices.

    Attributes:
        device_class: The offer's device field, a catalogue id or several.
        name: What tells it from other sites of its class.
        variants: The devices it may have; ``machine`` has the slowest.
        machine: What is estimated.
        idle: Devices that are rented and do not work.
        limit_s: Longest session.
        usd_per_h, time_factor, quote: Price of all nodes, time over undisturbed time, and index of
            the quote, cheapest first ``[kept]``.
        prices: How many there are in all.
    """

    device_class: str
    name: str
    variants: tuple[Device, ...]
    machine: Machine
    idle: int
    limit_s: float
    usd_per_h: Array
    time_factor: Array
    quote: NDArray[np.int64]
    prices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All candidates of a task."""

    task: Task
    quotes: tuple[Quote, ...]
    sites: tuple[Site, ...]

    def recipes(self, family: Family, count: int) -> tuple[Recipe, ...]:
        """How ``count`` devices can compute a step in a family."""
        task = self.task
        return recipes(family, task.case.batch, count, task.case.task == "train", task.recomputes)


def build_space(task: Task, quotes: Sequence[Quote], device: Callable[[str], Device]) -> Space:
    """Group quotes into sites.

    Args:
        task: What is to be done; its batch decides how many devices can share it.
        quotes: Usable prices, owned machines among them.
        device: Looks a catalogue id up.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, quote in enumerate(quotes):
        offer = quote.offer
        owner = offer.instance if quote.market == OWNED else ""
        limit_s = min(offer.session_cap_s or np.inf, offer.weekly_quota_s or np.inf)
        key = (offer.device, offer.accel_count, offer.link, offer.inter_node_bytes_per_s, limit_s, owner)
        groups.setdefault(key, []).append(index)
    nodes_of = {machine.name: machine.nodes for machine in task.job.owned}
    sites: dict[tuple[str, str], Site] = {}
    for members in groups.values():
        first = quotes[members[0]]
        owned_nodes = nodes_of[first.offer.instance] if first.market == OWNED else None
        variants = tuple(device(name) for name in first.offer.devices)
        for nodes in _node_counts(first, owned_nodes):
            site = _site(task, quotes, members, variants, nodes)
            if site is not None:
                _merge(sites, site, task.job.top)
    return Space(task=task, quotes=tuple(quotes), sites=tuple(sites.values()))


def _node_counts(quote: Quote, owned_nodes: int | None) -> tuple[int, ...]:
    """A cluster needs a network that somebody stated, and a session that does not end on its own."""
    if owned_nodes is not None:
        return (owned_nodes,)
    offer = quote.offer
    joinable = offer.inter_node_bytes_per_s is not None and offer.session_cap_s is None
    return NODES if joinable else (1,)


def _site(
    task: Task, quotes: Sequence[Quote], members: Sequence[int], variants: tuple[Device, ...], nodes: int
) -> Site | None:
    first = quotes[members[0]]
    offer = first.offer
    have = offer.accel_count or 0
    used = usable_devices(task.case.batch, have, nodes)
    if used == 0:
        return None
    machine = Machine(
        device=slowest(variants),
        count=used * nodes,
        nodes=nodes,
        link=offer.link if used > 1 else "",
        inter_node_bytes_per_s=offer.inter_node_bytes_per_s if nodes > 1 else None,
    )
    limit_s = min(offer.session_cap_s or np.inf, offer.weekly_quota_s or np.inf)
    owner = offer.instance if first.market == OWNED else ""
    spot_factor = time_factor(ASSUMED, nodes)
    usd_per_h = np.array([quotes[i].usd_per_h for i in members]) * (1 if owner else nodes)
    factor = np.array([spot_factor if quotes[i].market == SPOT else 1.0 for i in members])
    return Site(
        device_class=offer.device,
        name=site_name(machine, have, limit_s, owner),
        variants=variants,
        machine=machine,
        idle=(have - used) * nodes,
        limit_s=limit_s,
        usd_per_h=usd_per_h,
        time_factor=factor,
        quote=np.array(members),
        prices=len(members),
    )


def _merge(sites: dict[tuple[str, str], Site], site: Site, top: int) -> None:
    """Add a site, or its prices to the equal one, and keep the cheapest of each market."""
    key = (site.device_class, site.name)
    other = sites.get(key)
    parts = [site] if other is None else [other, site]
    usd_per_h, factor, quote = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("usd_per_h", "time_factor", "quote")
    )
    order = np.lexsort((quote, usd_per_h * factor))
    kept = np.sort(np.concatenate([np.flatnonzero(factor[order] == f)[:top] for f in np.unique(factor)]))
    chosen = order[kept]
    sites[key] = Site(
        device_class=site.device_class,
        name=site.name,
        variants=site.variants,
        machine=site.machine,
        idle=site.idle,
        limit_s=site.limit_s,
        usd_per_h=usd_per_h[chosen],
        time_factor=factor[chosen],
        quote=quote[chosen],
        prices=sum(part.prices for part in parts),
    )


def slowest(variants: Sequence[Device]) -> Device:
    """The variant to expect where the provider does not say which: least bandwidth, then least memory."""
    return min(variants, key=lambda d: (d.memory_bytes_per_s or 0.0, d.memory_bytes or 0.0, d.id))
