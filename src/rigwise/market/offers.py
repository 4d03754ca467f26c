"""Which offers a plan may use, and why the others not.

A row of the catalogue can hold an on-demand and a spot price; each is a quote of its own.
Rows are dirty: blank counts, prices of years ago, two rows for one thing. No row is dropped
in silence: every quote is either usable or counted under the reason it is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from rigwise.errors import UnknownNameError, near_matches
from rigwise.facts.lint import RULES, Known
from rigwise.facts.offer import Offer
from rigwise.market.tariff import Tariff
from rigwise.units import DAY_S, format_seconds, format_usd
from rigwise.workload.job import Job, OwnedMachine, Quota

ON_DEMAND, SPOT, RESERVED, OWNED, BOUGHT = "on-demand", "spot", "reserved", "owned", "bought"
SUBSCRIPTION = "subscription"

#: Faults of ``facts.lint`` after which nothing else in a row can be trusted: in its prices, and in what is priced.
_PRICE_FAULTS = ("placeholder-price", "bid-floor")
_OTHER_FAULTS = ("impossible-count", "future-date", "host-without-accelerator", "accelerator-without-host")
#: How an excluded row is counted, and what finds it.
_PRICE_JUDGES, _OTHER_JUDGES = (
    tuple((f"{name} (rigwise offers lint)", RULES[name]) for name in names) for names in (_PRICE_FAULTS, _OTHER_FAULTS)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One price of one offer.

    Attributes:
        offer: The row.
        market: ``on-demand``, ``spot``, ``reserved``, ``subscription``; ``owned`` or ``bought``.
        usd_per_h: Price of the whole instance.
        tariff: What a subscription or an owned or bought machine costs, where that is more than an hourly price.
    """

    offer: Offer
    market: str
    usd_per_h: float
    tariff: Tariff | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a job allows.

    Attributes:
        providers, regions, devices: Only these, in lower case; empty for any. Devices are catalogue ids.
        spot: Whether spot prices count.
        max_age_s: Prices older than this do not.
    """

    providers: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    spot: bool = False
    max_age_s: float = 365 * DAY_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Quotes that may be used, in catalogue order, and how many may not, by reason."""

    quotes: tuple[Quote, ...]
    excluded: Mapping[str, int]


def select(offers: Iterable[Offer], rules: Rules, today: date, unfit: Callable[[str], str] = lambda _: "") -> Selection:
    """Sort the quotes of a catalogue into usable and not.

    Args:
        offers: Rows of the catalogue.
        rules: What the job allows.
        today: Prices are as old as this day makes them.
        unfit: Why a device id cannot be planned with, empty if it can.

    Raises:
        UnknownNameError: No row has a provider or region that the rules ask for.
    """
    rows = tuple(offers)
    if rules.providers:
        _check_names("provider", rules.providers, {row.provider.lower() for row in rows})
    if rules.regions:
        _check_names("region", rules.regions, {row.region.lower() for row in rows})
    excluded: Counter[str] = Counter()
    newest: dict[tuple[object, ...], Quote] = {}
    too_old = f"price older than {format_seconds(rules.max_age_s)}"
    oldest = _oldest_day(today, rules.max_age_s)
    faults: dict[tuple[object, ...], str] = {}
    known = Known(devices={}, today=today)
    for row in rows:
        fault = _fault(row, rules) or (too_old if row.as_of < oldest else "")
        if not fault:
            # all that decides of these faults: the rules on prices look at more
            alike = (row.provider, row.instance, row.device, row.accelerator, row.accel_count, row.vcpus, row.as_of)
            if alike not in faults:
                faults[alike] = _nonsense(row, known, _OTHER_JUDGES) or _first(map(unfit, row.devices))
            fault = _nonsense(row, known, _PRICE_JUDGES) or faults[alike]
        if fault:
            excluded[fault] += 1
            continue
        for market, usd_per_h in _prices(row, rules, excluded):
            key = (row.provider, row.instance, row.region, market, row.device, row.accel_count, row.term_s)
            other = newest.get(key)
            if other is not None:
                excluded["an older or dearer row of the same offer"] += 1
            if other is None or (row.as_of, -usd_per_h) > (other.offer.as_of, -other.usd_per_h):
                newest[key] = Quote(offer=row, market=market, usd_per_h=usd_per_h)
    return Selection(quotes=tuple(newest.values()), excluded=dict(sorted(excluded.items())))


def _check_names(kind: str, asked: tuple[str, ...], known: set[str]) -> None:
    for name in asked:
        if name not in known:
            close = near_matches(name, sorted(known - {""}))
            raise UnknownNameError(
                f"no offer has the {kind} {name!r}", hint=close or f"rigwise offers lists every {kind}"
            )


def _oldest_day(today: date, max_age_s: float) -> str:
    """The oldest usable ``as_of``; ISO dates sort as text."""
    day = today.toordinal() - int(max_age_s // DAY_S)
    return date.fromordinal(day).isoformat() if day > 0 else ""


def _fault(row: Offer, rules: Rules) -> str:
    """Why no quote of the row can be used, whatever its price says."""
    if rules.providers and row.provider.lower() not in rules.providers:
        return "another provider"
    if rules.regions and row.region.lower() not in rules.regions:
        return "another region"
    if not row.device:
        return "a device that the catalogue does not have"
    if rules.devices and not set(row.devices) <= set(rules.devices):
        return "another device"
    if not row.accel_count or row.accel_count % 1:
        return "number of devices blank, or a fraction of one"
    return "" if row.as_of else "price without a date"


def _first(words: Iterable[str]) -> str:
    return next((word for word in words if word), "")


def _nonsense(row: Offer, known: Known, judges: Iterable[tuple[str, Callable[[Offer, Known], str]]]) -> str:
    """The name of a fault that leaves a row without meaning, if it has one."""
    for fault, found in judges:
        if found(row, known):
            return fault
    return ""


def _prices(row: Offer, rules: Rules, excluded: Counter[str]) -> list[tuple[str, float]]:
    """The usable prices of a row by market. Zero is a price only for a free tier, whose session is capped."""
    prices = []
    capped = row.session_cap_s is not None or row.weekly_quota_s is not None
    price, spot = row.price_usd_h, row.spot_price_usd_h
    if price is not None and (price > 0 or (price == 0 and capped)):
        prices.append((RESERVED if row.term_s else ON_DEMAND, price))
    elif price is not None:
        excluded["price of zero without a session cap"] += 1
    if spot is None:
        if price is None:
            excluded["no price"] += 1
    elif not rules.spot:
        excluded["spot price, and spot is not allowed"] += 1
    elif spot <= 0:
        excluded["spot price of zero"] += 1
    elif price is not None and spot > price:
        excluded["spot price above on-demand"] += 1
    else:
        prices.append((SPOT, spot))
    return prices


def owned_quote(machine: OwnedMachine, device: str, tariff: Tariff | None = None, region: str = "") -> Quote:
    """A machine that already stands there, as a quote for all its nodes together.

    Args:
        machine: The machine.
        device: Catalogue id of its devices.
        tariff: What it costs to run, None for its hourly price.
        region: Country or grid where it stands, empty for not said.
    """
    gbps = machine.inter_node_gbps
    offer = Offer(
        provider="owned",
        instance=machine.name,
        region=region,
        device=device,
        accelerator=machine.device,
        accel_count=machine.count // machine.nodes,
        accel_memory_bytes=None,
        vcpus=None,
        memory_bytes=None,
        disk_bytes=None,
        link=machine.link,
        inter_node_bytes_per_s=None if gbps is None else gbps * 1e9 / 8,
        price_usd_h=machine.usd_per_h,
        spot_price_usd_h=None,
        as_of="",
        source="its owner",
    )
    usd_per_h = machine.usd_per_h if tariff is None else tariff.usd_per_h
    return Quote(offer=offer, market=OWNED, usd_per_h=usd_per_h, tariff=tariff)


def refusal(job: Job, quote: Quote, nodes: int = 1) -> str:
    """Why a job may not hold that many machines of a quote; empty if it may."""
    machines = nodes * min(job.runs, job.parallel_runs)
    if machines == 1 and job.max_usd_per_h is None and not job.quota:
        return ""
    tax_frac = 0.0 if quote.market == BOUGHT else job.tax_frac
    if job.max_nodes is not None and nodes > job.max_nodes:
        return f"more than {job.max_nodes} nodes"
    if job.max_usd_per_h is not None and quote.usd_per_h * machines * (1 + tax_frac) > job.max_usd_per_h:
        return f"more than {format_usd(job.max_usd_per_h)} an hour"
    offer = quote.offer
    if machines > 1 and (offer.session_cap_s or offer.weekly_quota_s or quote.market == SUBSCRIPTION):
        return "one session at a time, and several machines at once are asked for"
    asked = machines * (offer.accel_count or 0)
    beyond = any(asked > quota.max_count for quota in job.quota if _of_quota(offer, quota))
    return "more devices than the quota" if beyond else ""


def _of_quota(offer: Offer, quota: Quota) -> bool:
    """Whether a quota holds for an offer; a blank in it holds for all."""
    return (
        quota.provider.lower() in ("", offer.provider)
        and quota.region.lower() in ("", offer.region)
        and (not quota.device or quota.device in offer.devices)
    )
