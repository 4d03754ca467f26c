"""The candidates for serving: every instance that can be had, cut into replicas in every way.

Offers of equal instances form a *site*. A state is a number format, a site and how many devices
make a replica; below it stand the site's prices. Of the regions of an instance that differ in
the price alone only the cheapest is kept: a dearer one serves the same for more money.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from rigwise.estimate.serving_curve import Floors
from rigwise.estimate.serving_step import Replica
from rigwise.facts.device import Device
from rigwise.graph.graph import Model
from rigwise.machine.machine import Machine
from rigwise.market.offers import BOUGHT, OWNED, SPOT, SUBSCRIPTION, Quote, refusal
from rigwise.market.spot import interruption_of
from rigwise.market.tariff import Tariff
from rigwise.market.terms import Terms, tariff_of
from rigwise.search.serving_types import ServingPhysics, ServingState, instance_name
from rigwise.search.space import slowest
from rigwise.workload.job import Job
from rigwise.workload.serving_load import Serving, ServingJob

DTYPES = ("bf16", "fp16")
QUANTISED = ("fp8", "int8", "int4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one instance costs and gives.

    Attributes:
        quote: Its offer.
        usd, outlay_usd: One instance for the load's duration, and what must be at hand for it; all of them if owned.
        up_frac: Part of the time that it serves, below 1 for spot capacity.
        most: Instances that may be held, None for no limit.
        regions: How many prices this one stands for.
    """

    quote: Quote
    usd: float
    outlay_usd: float
    up_frac: float
    most: int | None
    regions: int = 1

    def cost_usd(self, instances: int) -> float:
        """Of that many instances."""
        return self.usd if self.quote.market == OWNED else self.usd * instances


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Equal instances at different prices.

    Attributes:
        device_class: The offers' device field: a catalogue id, or several.
        name: What tells it from other sites of its class.
        variants: The devices it may have; ``machine`` has the slowest.
        machine: One instance.
        prices: What it can be had for.
    """

    device_class: str
    name: str
    variants: tuple[Device, ...]
    machine: Machine
    prices: tuple[Price, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One state: a site cut into replicas of one format.

    Attributes:
        site, dtype, tensor: The choices.
        verdict, number: The limit that it cannot keep and by how much; empty if none is known.
        bound_usd: It costs at least this.
    """

    site: Site
    dtype: str
    tensor: int
    verdict: str = ""
    number: float | None = None
    bound_usd: float = math.inf

    @property
    def state(self) -> ServingState:
        """Its name."""
        return (self.dtype, self.site.device_class, self.site.name, self.tensor)

    @property
    def per_instance(self) -> int:
        """Replicas that one instance holds."""
        return self.site.machine.count // self.tensor


def up_frac(quote: Quote) -> float:
    """Part of the time that an instance serves: spot capacity is gone, awaited and started again.

    Source: the mean of a renewal process; figures in ``market.spot``.
    """
    if quote.market != SPOT:
        return 1.0
    known = interruption_of(quote.offer)
    return known.mean_run_s / (known.mean_run_s + known.mean_wait_s + known.restart_s)


def paid_frac(quote: Quote) -> float:
    """Part of the time that is paid for: waiting for spot capacity costs nothing."""
    if quote.market != SPOT:
        return 1.0
    known = interruption_of(quote.offer)
    held_s = known.mean_run_s + known.restart_s
    return held_s / (held_s + known.mean_wait_s)


def steady(tariff: Tariff) -> Tariff:
    """The tariff of something that runs on: nothing is started, saved or done again."""
    return replace(tariff, startup_s=0.0, time_factor=1.0, wait_factor=1.0)


def instances_needed(load: Serving, most_rate_per_s: float, per_instance: int, up: float) -> int:
    """Whole instances that take a load, each replica at most at its planned part of what it can take.

    >>> load = Serving(rate_per_s=20.0, prompt_tokens=8, output_tokens=8, utilisation_frac=0.5)
    >>> instances_needed(load, 5.0, 2, 1.0)
    4
    """
    replicas = math.ceil(load.rate_per_s / (most_rate_per_s * load.utilisation_frac * up) * (1 - 1e-12))
    return math.ceil(max(replicas, 1) / per_instance)


def unusable(quote: Quote) -> str:
    """Why a price that may be used for a job cannot be for serving; empty if it can."""
    if quote.offer.session_cap_s is not None or quote.offer.weekly_quota_s is not None:
        return "free tier, whose sessions end"
    if quote.market == SUBSCRIPTION:
        return "a notebook by subscription, which serves nobody else"
    return "to be bought, which is not planned for serving" if quote.market == BOUGHT else ""


def sites_of(request: ServingJob, quotes: Iterable[Quote], terms: Terms, device: Callable[[str], Device]) -> list[Site]:
    """Group usable quotes into sites."""
    cheapest: dict[tuple[object, ...], Quote] = {}
    number: Counter[tuple[object, ...]] = Counter()
    for quote in quotes:
        key = _alike(quote, request.job)
        number[key] += 1
        if key not in cheapest or quote.usd_per_h < cheapest[key].usd_per_h:
            cheapest[key] = quote
    members: dict[tuple[str, int, str, str], list[Price]] = {}
    for key, quote in cheapest.items():
        owner = quote.offer.instance if quote.market == OWNED else ""
        have = int(quote.offer.accel_count or 0)
        shape = (quote.offer.device, have, quote.offer.link if have > 1 else "", owner)
        members.setdefault(shape, []).append(_price(request, quote, terms, number[key]))
    return [_site(shape, prices, device) for shape, prices in members.items()]


def _alike(quote: Quote, job: Job) -> tuple[object, ...]:
    """What two prices share that differ in nothing else a plan depends on."""
    offer = quote.offer
    region = offer.region if job.quota else ""
    machine = (offer.device, offer.accel_count, offer.link, offer.term_s)
    return (offer.provider, offer.instance, quote.market, region, up_frac(quote), paid_frac(quote), *machine)


def _price(request: ServingJob, quote: Quote, terms: Terms, regions: int) -> Price:
    tariff = steady(tariff_of(quote, terms, 1))
    paid_s = request.load.duration_s * paid_frac(quote)
    owned = next((m.nodes for m in request.job.owned if m.name == quote.offer.instance), 0)
    return Price(
        quote=quote,
        usd=float(tariff.cost_usd(paid_s)),
        outlay_usd=float(tariff.outlay_usd(paid_s)),
        up_frac=up_frac(quote),
        most=owned if quote.market == OWNED else None,
        regions=regions,
    )


def _site(shape: tuple[str, int, str, str], prices: Sequence[Price], device: Callable[[str], Device]) -> Site:
    device_class, have, link, owner = shape
    variants = tuple(device(name) for name in device_class.split("|"))
    return Site(
        device_class=device_class,
        name=instance_name(have, link, owner),
        variants=variants,
        machine=Machine(device=slowest(variants), count=have, link=link),
        prices=tuple(prices),
    )


def allowed(request: ServingJob, price: Price, instances: int) -> bool:
    """Whether that many instances keep what the job says of money, quotas and what is owned."""
    budget = math.inf if request.job.budget_usd is None else request.job.budget_usd
    outlay = price.outlay_usd if price.quote.market == OWNED else price.outlay_usd * instances
    if outlay > budget or (price.most is not None and instances > price.most):
        return False
    return price.quote.market == OWNED or not refusal(request.job, price.quote, instances)


def dtypes_of(job: Job) -> tuple[str, ...]:
    """Formats that a plan may choose; fewer bits change the answers, so only if that is allowed."""
    return (*DTYPES, *(QUANTISED if job.allow_quantised else ()))


def candidates(
    request: ServingJob, sites: Sequence[Site], model: Model, physics: ServingPhysics
) -> Iterator[Candidate]:
    """Every state that can be estimated, bounded."""
    for dtype in dtypes_of(request.job):
        for tensor in physics.tensor_sizes(model):
            able = [site for site in sites if site.machine.count >= tensor]
            replica = Replica(model=model, load=request.load, dtype=dtype, tensor=tensor)
            floors = physics.replica_floors(replica, [site.machine for site in able])
            for row, site in enumerate(able):
                if not math.isnan(floors.prefill_s[row]):
                    yield _bounded(request, Candidate(site=site, dtype=dtype, tensor=tensor), floors, row)


def _bounded(request: ServingJob, candidate: Candidate, floors: Floors, row: int) -> Candidate:
    """The candidate with the limit that it cannot keep, or with the least that it costs."""
    load = request.load
    first_s = float(floors.prefill_s[row] + floors.decode_s[row])
    if floors.memory_bytes[row] > floors.have_bytes[row]:
        return replace(candidate, verdict="memory", number=float(floors.memory_bytes[row]))
    if load.ttft_s is not None and first_s > load.ttft_s:
        return replace(candidate, verdict="ttft", number=first_s)
    if load.tpot_s is not None and load.decode_steps and floors.decode_s[row] > load.tpot_s:
        return replace(candidate, verdict="tpot", number=float(floors.decode_s[row]))
    most = 1.0 / float(floors.prefill_s[row] + load.decode_steps * floors.token_s[row])
    costs = [
        price.cost_usd(instances)
        for price in candidate.site.prices
        for instances in [instances_needed(load, most, candidate.per_instance, price.up_frac)]
        if allowed(request, price, instances)
    ]
    if not costs:
        return replace(candidate, verdict="limits")
    return replace(candidate, bound_usd=min(costs))


def counted(candidates_: Iterable[Candidate], verdicts: Mapping[ServingState, str]) -> Counter[str]:
    """Prices by what became of their state."""
    counts: Counter[str] = Counter()
    for candidate in candidates_:
        counts[verdicts[candidate.state]] += sum(price.regions for price in candidate.site.prices)
    return counts
