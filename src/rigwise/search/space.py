"""The candidates: every machine that can be had, at every price, computing in every way.

Offers of equal machines form a *site*: same devices, same links, same limits, different
prices. The candidate tree is family (number format, layout, mode), device class, site, and
below a site, as one block, recipe and price.

Of the prices of a site only the cheapest region of an instance is kept, and of those that
differ in nothing but the hourly price only as many as plans are asked for. A dearer offer of
an equal machine takes the same time for more money, so it cannot push any of them out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.machine.machine import Machine
from rigwise.market.offers import BOUGHT, OWNED, SPOT, Quote, refusal
from rigwise.market.tariff import Tariff, as_row, side_by_side
from rigwise.market.terms import Terms, shortest_s, tariff_of
from rigwise.search.types import Array, site_name
from rigwise.workload.choices import Family, Task, recipes, usable_devices
from rigwise.workload.job import Job
from rigwise.workload.recipes import Recipes

#: Instances that one job may span, where the row states the network between them, if it does not say more.
NODES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Equal machines at different prices.

    Attributes:
        device_class: The offers' device field: a catalogue id, or several.
        name: What tells it from other sites of its class.
        variants: The devices it may have; ``machine`` has the slowest.
        machine: What is estimated.
        idle: Devices that are rented and do not work.
        limit_s: Longest session, of a job that cannot go on in the next one.
        tariff, quote: Of all nodes, and index of the quote, cheapest first ``[kept]``.
        prices: How many there are in all.
    """

    device_class: str
    name: str
    variants: tuple[Device, ...]
    machine: Machine
    idle: int
    limit_s: float
    tariff: Tariff
    quote: NDArray[np.int64]
    prices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All candidates of a task.

    Attributes:
        task: What is to be done.
        quotes: Every usable price.
        sites: The machines that can be made of them.
        first: Index of the first price of each site in the row of all kept prices ``[sites]``.
        tariff, grams_per_kwh: That row ``[prices]``.
    """

    task: Task
    quotes: tuple[Quote, ...]
    sites: tuple[Site, ...]
    first: NDArray[np.int64]
    tariff: Tariff
    grams_per_kwh: Array

    def recipes(self, family: Family, machine: Machine) -> Recipes:
        """How the devices of a machine can compute a step in a family."""
        return recipes(self.task, family, machine.count, machine.nodes)

    def site_of_price(self) -> NDArray[np.int64]:
        """Index of the site of each kept price ``[prices]``."""
        return np.repeat(np.arange(len(self.sites)), [len(site.quote) for site in self.sites])

    def grams_of(self, site: int) -> Array:
        """Carbon intensity at each price of a site."""
        return self.grams_per_kwh[self.first[site] : self.first[site] + len(self.sites[site].quote)]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a space is built from beside prices.

    Attributes:
        device: Looks a catalogue id up.
        terms: What the job makes of a price.
        grams_per_kwh: Carbon intensity of the electricity of a quote, nan where it is not known.
    """

    device: Callable[[str], Device]
    terms: Terms = field(default_factory=Terms)
    grams_per_kwh: Callable[[Quote], float] = field(default=lambda _: np.nan)


def build_space(task: Task, quotes: Sequence[Quote], around: Surroundings) -> Space:
    """Group quotes into sites.

    Args:
        task: What is to be done; its batch decides how many devices can share it.
        quotes: Usable prices, owned machines among them.
        around: What turns them into machines and tariffs.
    """
    cheapest: dict[tuple[object, ...], int] = {}
    number: Counter[tuple[object, ...]] = Counter()
    green = task.job.minimize in ("carbon", "weights")
    for index, quote in enumerate(quotes):
        offer = quote.offer
        grams = float(np.nan_to_num(around.grams_per_kwh(quote), nan=-1.0)) if green else 0.0
        alike = (*_machine_of(quote), *_terms_of(quote, around.terms))
        key = (offer.provider, offer.instance, quote.market, grams, *alike)
        number[key] += 1
        if key not in cheapest or quote.usd_per_h < quotes[cheapest[key]].usd_per_h:
            cheapest[key] = index
    members: dict[_Shape, list[tuple[int, int]]] = {}
    for key, index in cheapest.items():
        for shape in shapes(task, quotes[index], around.terms):
            members.setdefault(shape, []).append((index, number[key]))
    sites = tuple(_site(shape, kept, quotes, around, task.job.top) for shape, kept in members.items())
    kept = np.concatenate([site.quote for site in sites]) if sites else np.zeros(0, dtype=np.int64)
    sizes = np.array([len(site.quote) for site in sites], dtype=np.int64)
    return Space(
        task=task,
        quotes=tuple(quotes),
        sites=sites,
        first=np.cumsum(sizes) - sizes,
        tariff=side_by_side([site.tariff for site in sites]),
        grams_per_kwh=np.array([around.grams_per_kwh(quotes[i]) for i in kept]),
    )


def _machine_of(quote: Quote) -> tuple[object, ...]:
    """What two quotes must share to be prices of the same machine."""
    offer = quote.offer
    return (offer.device, offer.accel_count, offer.link, offer.inter_node_bytes_per_s)


def _terms_of(quote: Quote, terms: Terms) -> tuple[object, ...]:
    """What two prices of one provider and market must share to differ in nothing but the hourly price."""
    offer = quote.offer
    taken_away = terms.interruption_of(offer) if quote.market == SPOT else None
    return (offer.session_cap_s, offer.weekly_quota_s, offer.term_s, taken_away)


def limit_s(offer: Offer, terms: Terms) -> float:
    """Longest time that a job may take on the offer: one session, within one week's quota.

    A job that saves checkpoints goes on in the next session, which its tariff counts.
    """
    return np.inf if terms.is_divided(offer) else shortest_s(offer)


def numbers_of_nodes(job: Job) -> tuple[int, ...]:
    """Powers of two up to the job's own limit, or the usual one.

    >>> numbers_of_nodes(Job(model="m", amount=1, unit="steps"))
    (1, 2, 4, 8)
    """
    most = job.max_nodes or NODES
    return tuple(2**k for k in range(most.bit_length()))


def shapes(task: Task, quote: Quote, terms: Terms) -> Iterator[_Shape]:
    """The machines that can be made of a quote: one instance, or several whole ones that are known to be joined.

    No more nodes than the job, its hourly cap and its quotas allow.
    """
    offer, job = quote.offer, task.job
    owner = offer.instance if quote.market == OWNED else ""
    have, limit = int(offer.accel_count or 0), limit_s(offer, terms)
    capped = offer.session_cap_s is not None or offer.weekly_quota_s is not None
    joinable = offer.inter_node_bytes_per_s is not None and not capped and quote.market != BOUGHT
    owned = tuple(machine.nodes for machine in job.owned if machine.name == owner)
    for nodes in owned if owner else numbers_of_nodes(job) if joinable else (1,):
        if not owner and refusal(job, quote, nodes):
            break
        used = usable_devices(task.sides, have, nodes)
        if used and (nodes == 1 or used == have or owner):
            link = offer.link if used > 1 else ""
            network = offer.inter_node_bytes_per_s if nodes > 1 else None
            yield _Shape(offer.device, have, used, nodes, link, network, limit, owner)


def _site(
    shape: _Shape, members: Sequence[tuple[int, int]], quotes: Sequence[Quote], around: Surroundings, top: int
) -> Site:
    variants = tuple(around.device(name) for name in shape.device_class.split("|"))
    machine = Machine(
        device=slowest(variants),
        count=shape.used * shape.nodes,
        nodes=shape.nodes,
        link=shape.link,
        inter_node_bytes_per_s=shape.inter_node_bytes_per_s,
    )
    tariff = as_row([tariff_of(quotes[i], around.terms, shape.nodes) for i, _ in members])
    quote = np.array([i for i, _ in members], dtype=np.int64)
    green = np.array([around.grams_per_kwh(quotes[i]) for i, _ in members])
    kept = undominated(tariff, green, quote, top)
    return Site(
        device_class=shape.device_class,
        name=site_name(machine, shape.have, shape.limit_s, shape.owner),
        variants=variants,
        machine=machine,
        idle=(shape.have - shape.used) * shape.nodes,
        limit_s=shape.limit_s,
        tariff=tariff.pick(kept),
        quote=quote[kept],
        prices=sum(number for _, number in members),
    )


def undominated(tariff: Tariff, grams_per_kwh: Array, quote: NDArray[np.int64], top: int) -> NDArray[np.int64]:
    """Prices worth a look, cheapest first: of those that differ in the hourly price alone, the ``top`` lowest.

    A dearer one takes the same time for more money, so it cannot push any of them out.
    """
    order = np.lexsort((quote, tariff.usd_per_h * tariff.time_factor))
    if len(order) <= top:
        return order
    alike = [getattr(tariff, f.name) for f in fields(Tariff) if f.name != "usd_per_h"]
    classes = np.stack([*alike, np.nan_to_num(grams_per_kwh, nan=-1.0)], axis=1)[order]
    _, kind = np.unique(classes, axis=0, return_inverse=True)
    rank = np.zeros(len(order), dtype=np.int64)
    for k in range(int(kind.max()) + 1):
        inside = np.flatnonzero(kind.ravel() == k)
        rank[inside] = np.arange(len(inside))
    return np.asarray(order[rank < top])


def slowest(variants: Sequence[Device]) -> Device:
    """The variant to expect where the provider does not say which: least bandwidth, then least memory."""
    return min(variants, key=lambda d: (d.memory_bytes_per_s or 0.0, d.memory_bytes or 0.0, d.id))
