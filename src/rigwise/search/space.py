"""The candidates: every machine that can be had, at every price, computing in every way.

Offers of equal machines form a *site*: same devices, same links, same limits, different
prices. The candidate tree is family (number format, layout, mode), device class, site, and
below a site, as one block, recipe and price.

Of the prices of a site only the cheapest region of an instance is kept, and of those only as
many as plans are asked for. A dearer offer of an equal machine takes the same time for more
money, so it cannot push any of them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.machine.machine import Machine
from rigwise.market.offers import OWNED, SPOT, Quote
from rigwise.market.spot import ASSUMED, time_factor
from rigwise.search.types import Array, site_name
from rigwise.workload.choices import Family, Task, recipes, usable_devices
from rigwise.workload.lower import Recipe

#: Instances that one job may span, where the row states the network between them.
NODES = (1, 2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Equal machines at different prices.

    Attributes:
        device_class: The offers' device field: a catalogue id, or several.
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


class _Shape(NamedTuple):
    """What makes two quotes the same machine."""

    device_class: str
    have: int
    used: int
    nodes: int
    link: str
    inter_node_bytes_per_s: float | None
    limit_s: float
    owner: str


def build_space(task: Task, quotes: Sequence[Quote], device: Callable[[str], Device]) -> Space:
    """Group quotes into sites.

    Args:
        task: What is to be done; its batch decides how many devices can share it.
        quotes: Usable prices, owned machines among them.
        device: Looks a catalogue id up.
    """
    cheapest: dict[tuple[object, ...], int] = {}
    number: Counter[tuple[object, ...]] = Counter()
    for index, quote in enumerate(quotes):
        offer = quote.offer
        key = (offer.provider, offer.instance, quote.market, *_machine_of(quote))
        number[key] += 1
        if key not in cheapest or quote.usd_per_h < quotes[cheapest[key]].usd_per_h:
            cheapest[key] = index
    nodes_of = {machine.name: machine.nodes for machine in task.job.owned}
    members: dict[_Shape, list[tuple[int, int]]] = {}
    for key, index in cheapest.items():
        for shape in _shapes(task.case.batch, quotes[index], nodes_of):
            members.setdefault(shape, []).append((index, number[key]))
    sites = (_site(shape, kept, quotes, device, task.job.top) for shape, kept in members.items())
    return Space(task=task, quotes=tuple(quotes), sites=tuple(sites))


def _machine_of(quote: Quote) -> tuple[object, ...]:
    """What two quotes must share to be prices of the same machine."""
    offer = quote.offer
    return (offer.device, offer.accel_count, offer.link, offer.inter_node_bytes_per_s, limit_s(offer))


def limit_s(offer: Offer) -> float:
    """Longest time that a job may take on the offer: one session, within one week's quota."""
    return min(offer.session_cap_s or np.inf, offer.weekly_quota_s or np.inf)


def _shapes(batch: int, quote: Quote, nodes_of: dict[str, int]) -> Iterator[_Shape]:
    """The machines that can be made of a quote: one instance, or several whole ones that are known to be joined."""
    offer = quote.offer
    owner = offer.instance if quote.market == OWNED else ""
    have, limit = int(offer.accel_count or 0), limit_s(offer)
    joinable = offer.inter_node_bytes_per_s is not None and limit == np.inf
    for nodes in (nodes_of[owner],) if owner else NODES if joinable else (1,):
        used = usable_devices(batch, have, nodes)
        if used and (nodes == 1 or used == have or owner):
            link = offer.link if used > 1 else ""
            network = offer.inter_node_bytes_per_s if nodes > 1 else None
            yield _Shape(offer.device, have, used, nodes, link, network, limit, owner)


def _site(
    shape: _Shape,
    members: Sequence[tuple[int, int]],
    quotes: Sequence[Quote],
    device: Callable[[str], Device],
    top: int,
) -> Site:
    variants = tuple(device(name) for name in shape.device_class.split("|"))
    machine = Machine(
        device=slowest(variants),
        count=shape.used * shape.nodes,
        nodes=shape.nodes,
        link=shape.link,
        inter_node_bytes_per_s=shape.inter_node_bytes_per_s,
    )
    rented_nodes = 1 if shape.owner else shape.nodes
    usd_per_h = np.array([quotes[i].usd_per_h for i, _ in members]) * rented_nodes
    spot_factor = time_factor(ASSUMED, shape.nodes)
    factor = np.array([spot_factor if quotes[i].market == SPOT else 1.0 for i, _ in members])
    quote = np.array([i for i, _ in members], dtype=np.int64)
    order = np.lexsort((quote, usd_per_h * factor))
    kept = order[np.sort(np.concatenate([np.flatnonzero(factor[order] == f)[:top] for f in np.unique(factor)]))]
    return Site(
        device_class=shape.device_class,
        name=site_name(machine, shape.have, shape.limit_s, shape.owner),
        variants=variants,
        machine=machine,
        idle=(shape.have - shape.used) * shape.nodes,
        limit_s=shape.limit_s,
        usd_per_h=usd_per_h[kept],
        time_factor=factor[kept],
        quote=quote[kept],
        prices=sum(number for _, number in members),
    )


def slowest(variants: Sequence[Device]) -> Device:
    """The variant to expect where the provider does not say which: least bandwidth, then least memory."""
    return min(variants, key=lambda d: (d.memory_bytes_per_s or 0.0, d.memory_bytes or 0.0, d.id))
