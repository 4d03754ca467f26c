"""Machines that can be bought, put together from the parts table.

Each graphics card with a street price goes into the cheapest PC whose parts fit it:

    supply   at least (cards + processor + 100 W) / 0.8
    memory   at least twice that of the cards
    board    slots for all cards, and at least 8 lanes for each
    case     one that the board goes into; storage of 1 TB; an air cooler

These are coarse rules, enough for a price: whether connectors, lengths and heat fit as well, and whether
the processor can feed the cards, is what a check of the parts list says.

Source: power and memory rules of the founding notes and of planning section 8 (``docs/reference/ownership.md``);
sockets and lanes in ``facts/data/platforms.toml``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from rigwise.errors import InvalidInputError
from rigwise.facts.part import Part
from rigwise.facts.platforms import Platform, platform_file
from rigwise.market.break_even import Machine
from rigwise.market.offers import BOUGHT, Quote
from rigwise.market.ownership import Purchase, ownership_tariff
from rigwise.market.shelf import (
    ASSUMED_HOST_W,
    ASSUMED_PSU_FRAC,
    ASSUMED_REST_W,
    MEMORY_RATIO,
    PricedPart,
    PurchaseQuote,
    Purchases,
    Shelf,
    Wish,
    bought_offer,
    efficiency_frac,
    figure,
    price_usd,
    priced,
    supply_w,
    total_usd,
)
from rigwise.units import GIB, TB, format_seconds

_LEAST_LANES = 8
_LEAST_STORAGE_BYTES = 1 * TB


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """A whole machine at a price that the user names: prebuilt, used, or a list of parts of one's own.

    Attributes:
        name: What it is.
        device: Catalogue id of its cards; ``count``: how many.
        price_usd: Asked for all of it, before tax.
        load_w: Power of all its cards while they work.
        host_w: Power of the rest, None for the assumed one.
        memory_bytes: Main memory, None for not known.
        as_of: Day of the price.
    """

    name: str
    device: str
    count: int
    price_usd: float
    load_w: float
    host_w: float | None = None
    memory_bytes: float | None = None
    as_of: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """What is in a machine."""

    card: Part
    count: int
    parts: tuple[PricedPart, ...]
    memory_bytes: float | None


def offered_quote(offered: Offered, wish: Wish) -> PurchaseQuote:
    """A machine at the user's own price, whatever its age: it is as new as the user says.

    Raises:
        InvalidInputError: No card, or a price, conditions or horizon out of range.
    """
    if offered.count < 1:
        raise InvalidInputError(f"{offered.name!r} has {offered.count} cards", hint="give a number from 1")
    purchase = Purchase(
        price_usd=offered.price_usd,
        host_w=ASSUMED_HOST_W if offered.host_w is None else offered.host_w,
        psu_efficiency_frac=ASSUMED_PSU_FRAC,
    )
    part = PricedPart(
        category="machine", name=offered.name, count=1, price_usd=offered.price_usd, as_of=offered.as_of, source="yours"
    )
    card = Part(category="gpu", name=offered.device, device=offered.device)
    content = _Content(card=card, count=offered.count, parts=(part,), memory_bytes=offered.memory_bytes)
    return _quote(offered.name, purchase, offered.load_w, content, wish)


def purchase_quotes(parts: Iterable[Part], wish: Wish) -> Purchases:
    """Each card with a street price in the cheapest machine that takes it, once, twice or four times.

    Raises:
        InvalidInputError: Conditions or horizon out of range.
    """
    rows = tuple(parts)
    shelf = Shelf.of(rows, wish)
    processors = tuple(_processors(shelf))
    excluded: Counter[str] = Counter()
    quotes = []
    for card in rows:
        if card.category != "gpu":
            continue
        fault = _unfit(card, wish)
        if fault:
            excluded[fault] += 1
            continue
        for count in wish.counts:
            built = _cheapest(card, count, processors, shelf)
            if isinstance(built, str):
                excluded[built] += 1
            else:
                quotes.append(_machine(card, count, built, wish))
    return Purchases(quotes=tuple(quotes), excluded=dict(sorted(excluded.items())))


def _unfit(card: Part, wish: Wish) -> str:
    """Why a card is not bought; empty if it can be."""
    if not card.device:
        return "a card that the catalogue does not have"
    if wish.devices and card.device not in wish.devices:
        return "another device"
    if price_usd(card) is None:
        return "a card without a street price"
    if wish.too_old(card.as_of):
        return f"price of a card older than {format_seconds(wish.max_age_s)}"
    return "" if card.tdp_w and card.slots and card.memory_bytes else "a card without power, slots or memory"


def _processors(shelf: Shelf) -> Iterator[tuple[Part, Platform]]:
    """Processors whose platform is known, without those that one of the same platform beats in price and power.

    A dearer one that draws no less needs the same of everything else, so it is in no cheapest machine.
    """
    least: dict[Platform, float] = {}
    for cpu in shelf.by_category.get("cpu", ()):
        platform = platform_file().architectures.get(cpu.detail.get("arch", ""))
        if platform is None or cpu.tdp_w is None or cpu.tdp_w >= least.get(platform, math.inf):
            continue
        least[platform] = cpu.tdp_w
        yield cpu, platform


def _cheapest(
    card: Part, count: int, processors: Iterable[tuple[Part, Platform]], shelf: Shelf
) -> tuple[Part, ...] | str:
    """The cheapest parts around ``count`` cards, processor first; or what is missing, in words."""
    best: tuple[float, tuple[Part, ...]] | None = None
    missing: Counter[str] = Counter()
    for cpu, platform in processors:
        rest = _around(card, count, cpu, platform, shelf)
        if isinstance(rest, str):
            missing[rest] += 1
            continue
        build = (cpu, *rest)
        total = sum(price_usd(part) or 0.0 for part in build)
        if best is None or total < best[0]:
            best = total, build
    if best is not None:
        return best[1]
    return missing.most_common(1)[0][0] if missing else "no processor with a price that counts"


def _around(card: Part, count: int, cpu: Part, platform: Platform, shelf: Shelf) -> tuple[Part, ...] | str:
    """Everything but cards and processor, board first; or what is missing, in words."""
    if count > 1 and platform.graphics_lanes // count < _LEAST_LANES:
        return f"{count} cards: no processor of the parts table has lanes for them"
    memory = shelf.memory(platform.memory, MEMORY_RATIO * count * (card.memory_bytes or 0.0))
    if memory is None:
        return "no memory large enough for the cards"
    slots = count * math.ceil(card.slots or 0.0)
    housed = [
        (board, case)
        for name, form in platform_file().forms.items()
        if form.slots >= slots
        and form.cards >= count
        and (board := shelf.board(platform.board, name)) is not None
        and figure(board, "max_memory_gb") >= figure(memory, "total_gb")
        and (case := shelf.case(form.cases)) is not None
    ]
    if not housed:
        return "no board with slots for the cards and room for their memory"
    board, case = min(housed, key=lambda pair: sum(price_usd(part) or 0.0 for part in pair))
    supply = shelf.supply(supply_w(count * (card.tdp_w or 0.0), cpu.tdp_w or 0.0))
    if supply is None:
        return "no power supply strong enough with a price that counts"
    storage, cooler = shelf.storage(_LEAST_STORAGE_BYTES), shelf.cooler()
    if storage is None or cooler is None:
        return "no storage or no cooler with a price that counts"
    return board, memory, supply, storage, case, cooler


def _machine(card: Part, count: int, build: tuple[Part, ...], wish: Wish) -> PurchaseQuote:
    cpu, _, memory, supply = build[:4]
    parts = (priced(card, count), *(priced(part) for part in build))
    purchase = Purchase(
        price_usd=total_usd(parts),
        host_w=(cpu.tdp_w or 0.0) + ASSUMED_REST_W,
        psu_efficiency_frac=efficiency_frac(supply) or ASSUMED_PSU_FRAC,
    )
    name = f"PC with {count} x {card.name}" if count > 1 else f"PC with {card.name}"
    content = _Content(card=card, count=count, parts=parts, memory_bytes=figure(memory, "total_gb") * GIB)
    return _quote(name, purchase, count * (card.tdp_w or 0.0), content, wish)


def _quote(name: str, purchase: Purchase, load_w: float, content: _Content, wish: Wish) -> PurchaseQuote:
    tariff = ownership_tariff(purchase, wish.conditions, load_w, wish.horizon)
    offer = bought_offer(name, content.card, content.count, content.parts, wish.home)
    return PurchaseQuote(
        quote=Quote(
            offer=replace(offer, memory_bytes=content.memory_bytes),
            market=BOUGHT,
            usd_per_h=tariff.usd_per_h,
            tariff=tariff,
        ),
        parts=content.parts,
        machine=Machine(name=name, purchase=purchase, conditions=wish.conditions, load_w=load_w),
    )
