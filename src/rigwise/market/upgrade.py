"""Own machines as they are, and with more of the cards they have.

Another equal card needs a free slot, a supply that carries all, and main memory of at least twice that
of the cards. What is bought for that loses value; what was there is paid and gone.

Source: the rules of ``market.purchase``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from rigwise.facts.part import Part
from rigwise.market.break_even import Machine
from rigwise.market.offers import BOUGHT, Quote
from rigwise.market.ownership import Purchase, ownership_tariff, wall_w
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
from rigwise.market.tariff import Tariff
from rigwise.units import GIB
from rigwise.workload.job import OwnedMachine

#: Numbers of cards that an upgrade ends with.
_COUNTS = (2, 4, 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Upgrade:
    """What an own machine becomes, before it has a price for its hours."""

    machine: OwnedMachine
    card: Part
    count: int
    parts: tuple[PricedPart, ...]
    memory_bytes: float | None
    psu_frac: float
    why: tuple[str, ...]


def owned_tariff(machine: OwnedMachine, load_w: float) -> Tariff:
    """What an hour on a machine that already stands there costs: its price is gone.

    Args:
        machine: The machine.
        load_w: Power of all its devices while they work.

    >>> box = OwnedMachine(name="box", device="t4", usd_per_kwh=0.2, base_w=100.0)
    >>> round(owned_tariff(box, 70.0).usd_per_h, 3)
    0.04
    """
    box = Purchase(price_usd=0.0, host_w=_host_w(machine) * machine.nodes, psu_efficiency_frac=ASSUMED_PSU_FRAC)
    return Tariff(usd_per_h=machine.usd_per_h + float(wall_w(box, load_w)) / 1000 * (machine.usd_per_kwh or 0.0))


def _host_w(machine: OwnedMachine) -> float:
    return ASSUMED_HOST_W if machine.base_w is None else machine.base_w


def upgrade_quotes(machines: Sequence[tuple[OwnedMachine, str]], parts: Iterable[Part], wish: Wish) -> Purchases:
    """Own machines with more of the cards they have, and what those need: memory, a stronger supply.

    Args:
        machines: Each with the catalogue id of its device.
        parts: The parts table.
        wish: What may be bought.

    Raises:
        InvalidInputError: Conditions or horizon out of range.
    """
    shelf = Shelf.of(parts, wish)
    excluded: Counter[str] = Counter()
    quotes = []
    for machine, device in machines:
        card = shelf.card(device)
        fault = _unfit(machine, card)
        if fault or card is None:
            excluded[f"upgrade: {fault}"] += 1
            continue
        for count in (n for n in _COUNTS if machine.count < n <= machine.count + machine.free_slots):
            found = _upgrade(machine, card, count, shelf)
            if isinstance(found, str):
                excluded[f"upgrade: {found}"] += 1
            else:
                quotes.append(_quote(found, wish))
    return Purchases(quotes=tuple(quotes), excluded=dict(sorted(excluded.items())))


def _unfit(machine: OwnedMachine, card: Part | None) -> str:
    """Why a machine is not extended; empty if it can be."""
    if machine.nodes > 1:
        return "an own machine of several nodes"
    if not machine.free_slots:
        return "an own machine without a free slot (free_slots)"
    if machine.psu_w is None:
        return "an own machine whose supply is not known (psu_w)"
    if card is None or not card.tdp_w or not card.memory_bytes:
        return "a card without a street price that counts"
    return ""


def _upgrade(machine: OwnedMachine, card: Part, count: int, shelf: Shelf) -> _Upgrade | str:
    """A machine with ``count`` cards in place of those it has; or what is missing, in words."""
    parts, why = [priced(card, count - machine.count)], []
    psu_frac, memory_bytes = ASSUMED_PSU_FRAC, machine.memory_bytes
    needed_w = supply_w(count * (card.tdp_w or 0.0), max(_host_w(machine) - ASSUMED_REST_W, 0.0))
    if (machine.psu_w or 0.0) < needed_w:
        supply = shelf.supply(needed_w)
        if supply is None:
            return "no power supply strong enough with a price that counts"
        parts.append(priced(supply))
        psu_frac = efficiency_frac(supply) or psu_frac
        why.append(f"{needed_w:.0f} W are needed where its supply has {machine.psu_w:.0f} W")
    least_bytes = MEMORY_RATIO * count * (card.memory_bytes or 0.0)
    if memory_bytes is None:
        why.append("its main memory is not known, and left as it is")
    elif memory_bytes < least_bytes:
        memory = _any_memory(least_bytes, shelf)
        if memory is None:
            return "no memory large enough for the cards"
        parts.append(priced(memory))
        memory_bytes = figure(memory, "total_gb") * GIB
        why.append("its main memory is replaced, at the dearer price of DDR4 and DDR5")
    return _Upgrade(
        machine=machine,
        card=card,
        count=count,
        parts=tuple(parts),
        memory_bytes=memory_bytes,
        psu_frac=psu_frac,
        why=tuple(why),
    )


def _any_memory(least_bytes: float, shelf: Shelf) -> Part | None:
    """The cheapest memory of a kind that is not known: the dearer of the two."""
    found = [part for kind in ("DDR4", "DDR5") if (part := shelf.memory(kind, least_bytes)) is not None]
    return max(found, key=lambda part: price_usd(part) or 0.0) if found else None


def _quote(upgrade: _Upgrade, wish: Wish) -> PurchaseQuote:
    machine, card, conditions = upgrade.machine, upgrade.card, wish.conditions
    purchase = Purchase(
        price_usd=total_usd(upgrade.parts), host_w=_host_w(machine), psu_efficiency_frac=upgrade.psu_frac
    )
    load_w = upgrade.count * (card.tdp_w or 0.0)
    if machine.usd_per_kwh is None:
        # Electricity of what it has already is in its own hourly price: only what is added counts beside it.
        purchase = replace(purchase, host_w=0.0)
        load_w = (upgrade.count - machine.count) * (card.tdp_w or 0.0)
    else:
        conditions = replace(conditions, usd_per_kwh=machine.usd_per_kwh)
    conditions = replace(conditions, ops_usd_per_h=conditions.ops_usd_per_h + machine.usd_per_h)
    tariff = ownership_tariff(purchase, conditions, load_w, wish.horizon)
    name = f"{machine.name} with {upgrade.count} x {card.name}"
    offer = replace(
        bought_offer(name, card, upgrade.count, upgrade.parts, wish.home),
        memory_bytes=upgrade.memory_bytes,
        link=machine.link or "pcie",
    )
    return PurchaseQuote(
        quote=Quote(offer=offer, market=BOUGHT, usd_per_h=tariff.usd_per_h, tariff=tariff),
        parts=upgrade.parts,
        machine=Machine(name=name, purchase=purchase, conditions=conditions, load_w=load_w),
        upgrade_of=machine.name,
        why=upgrade.why,
    )
