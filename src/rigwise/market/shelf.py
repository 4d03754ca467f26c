"""The parts table as a shelf: parts with a price that counts, cheapest first.

Prices are the low street prices, which for bands of parts are the 10th percentile; tax is not in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

from rigwise.facts.electricity import psu_efficiency_frac
from rigwise.facts.offer import Offer
from rigwise.facts.part import Part
from rigwise.market.break_even import Machine
from rigwise.market.offers import Quote
from rigwise.market.ownership import Conditions
from rigwise.units import DAY_S, GB, GIB
from rigwise.workload.job import Horizon

#: Cards of one machine that are tried.
COUNTS = (1, 2, 4)
#: Assumed: what memory, disk, board and fans draw while the machine works.
ASSUMED_REST_W = 50.0
#: Assumed of a machine of one's own that does not say: all but its devices, and the efficiency of its supply.
ASSUMED_HOST_W, ASSUMED_PSU_FRAC = 150.0, 0.85
#: Source: planning section 8: a supply is loaded to 80 % at most, with 100 W for all but cards and processor.
_SUPPLY_LOAD_FRAC, _SUPPLY_REST_W = 0.8, 100.0
#: Source: the founding notes: main memory at least twice the memory of the cards.
MEMORY_RATIO = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedPart:
    """One kind of part in a machine: how many, and what one costs before tax."""

    category: str
    name: str
    count: int
    price_usd: float
    as_of: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseQuote:
    """A machine that can be bought, as the planner takes it, and what it consists of.

    Attributes:
        quote: The offer and its tariff; ``market`` is ``bought``.
        parts: What is paid for, part by part.
        machine: The same as something to own, for break-even.
        upgrade_of: Name of the own machine that it extends; empty for a new one.
        why: Remarks, in words.
    """

    quote: Quote
    parts: tuple[PricedPart, ...]
    machine: Machine
    upgrade_of: str = ""
    why: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchases:
    """Machines that can be bought, and how many combinations cannot, by reason."""

    quotes: tuple[PurchaseQuote, ...]
    excluded: Mapping[str, int]

    def paid(self) -> Purchases:
        """The same where an earlier stage has paid for them: what is left is what each hour takes."""

        def paid(quote: Quote) -> Quote:
            tariff = quote.tariff and replace(quote.tariff, fixed_usd=0.0, capital_usd=0.0)
            return replace(quote, tariff=tariff)

        return replace(self, quotes=tuple(replace(one, quote=paid(one.quote)) for one in self.quotes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What may be bought, and how it would be owned.

    Attributes:
        conditions: Where and how.
        horizon: For how long, None: for this job only.
        today: Prices are as old as this day makes them.
        max_age_s: Older prices do not count.
        devices: Only these catalogue ids; empty for any.
        counts: Cards of one machine.
        home: Country or grid where it would stand, by its ISO 3166 code; empty for not said.
    """

    conditions: Conditions
    horizon: Horizon | None
    today: date
    max_age_s: float = 365 * DAY_S
    devices: tuple[str, ...] = ()
    counts: tuple[int, ...] = COUNTS
    home: str = ""

    def too_old(self, as_of: str) -> bool:
        """Whether a price of that day does not count; one without a day is as old as can be."""
        return not as_of or (self.today - date.fromisoformat(as_of)).days * DAY_S > self.max_age_s


def price_usd(part: Part) -> float | None:
    """The low street price of a part, the median where no low one was seen; None for no price."""
    return part.street_low_usd if part.street_low_usd is not None else part.street_median_usd


def supply_w(device_w: float, cpu_w: float) -> float:
    """What a supply must be rated for.

    >>> supply_w(2 * 350.0, 100.0)
    1125.0
    """
    return (device_w + cpu_w + _SUPPLY_REST_W) / _SUPPLY_LOAD_FRAC


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """Parts with a price that counts, cheapest first, by category."""

    by_category: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)

    @staticmethod
    def of(parts: Iterable[Part], wish: Wish) -> Shelf:
        """The parts that a wish allows for their price and its age."""
        rows: dict[str, list[Part]] = {}
        for part in parts:
            if price_usd(part) is not None and not wish.too_old(part.as_of):
                rows.setdefault(part.category, []).append(part)
        by_price = {
            name: sorted(found, key=lambda part: (price_usd(part) or 0.0, part.name)) for name, found in rows.items()
        }
        return Shelf(by_category={name: tuple(found) for name, found in by_price.items()})

    def _first(self, category: str, fits: Callable[[Part], bool]) -> Part | None:
        return next((part for part in self.by_category.get(category, ()) if fits(part)), None)

    def card(self, device: str) -> Part | None:
        """The cheapest card that is a device of the catalogue."""
        return self._first("gpu", lambda part: part.device == device)

    def memory(self, kind: str, least_bytes: float) -> Part | None:
        """The cheapest memory of a kind, DDR5 say, that is large enough."""
        return self._first(
            "ram", lambda part: part.name.startswith(f"{kind} ") and figure(part, "total_gb") * GIB >= least_bytes
        )

    def supply(self, needed_w: float) -> Part | None:
        """The cheapest supply that is rated for so much and whose efficiency is known."""
        return self._first(
            "psu", lambda part: figure(part, "wattage") >= needed_w and efficiency_frac(part) is not None
        )

    def board(self, socket: str, form: str) -> Part | None:
        """The cheapest board with a socket and of a form."""
        return self._first("motherboard", lambda part: part.name == f"{socket} {form}")

    def case(self, kinds: Sequence[str]) -> Part | None:
        """The cheapest case of some kinds."""
        return self._first("case", lambda part: part.name in kinds)

    def storage(self, least_bytes: float) -> Part | None:
        """The cheapest solid-state disk for a board's own slot that is large enough."""
        return self._first(
            "storage", lambda part: "SSD M.2" in part.name and figure(part, "capacity_gb") * GB >= least_bytes
        )

    def cooler(self) -> Part | None:
        """The cheapest air cooler."""
        return self._first("cpu_cooler", lambda part: part.name == "air")


def figure(part: Part, key: str) -> float:
    """A figure of a part's detail, -1 where it has none: never enough."""
    try:
        return float(part.detail.get(key, ""))
    except ValueError:
        return -1.0


def efficiency_frac(part: Part) -> float | None:
    """Efficiency of a supply at half load by its label, None for a supply without one."""
    return psu_efficiency_frac(part.detail.get("efficiency", ""))


def priced(part: Part, count: int = 1) -> PricedPart:
    """A part of the shelf as something that is paid for."""
    return PricedPart(
        category=part.category,
        name=part.name,
        count=count,
        price_usd=price_usd(part) or 0.0,
        as_of=part.as_of,
        source=part.source,
    )


def total_usd(parts: Iterable[PricedPart]) -> float:
    """What parts cost together."""
    return sum(part.price_usd * part.count for part in parts)


def bought_offer(name: str, card: Part, count: int, parts: Sequence[PricedPart], home: str) -> Offer:
    """A machine of parts as a row of the offers: as old as its oldest price, in the region it would stand in."""
    return Offer(
        provider="purchase",
        instance=name,
        region=home,
        device=card.device,
        accelerator=card.name,
        accel_count=count,
        accel_memory_bytes=card.memory_bytes,
        vcpus=None,
        memory_bytes=None,
        disk_bytes=None,
        link="pcie",
        inter_node_bytes_per_s=None,
        price_usd_h=None,
        spot_price_usd_h=None,
        as_of=min(part.as_of for part in parts),
        source="; ".join(dict.fromkeys(text for part in parts for text in part.source.split("; "))),
    )
