"""What is wrong with an offer: rules with names, one function each, computed and never stored.

Dirty rows stay in the table. A rule returns what it found, in words, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date

from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.units import DAY_S, GIB

#: A provider's label may leave out what the driver keeps, or round; beyond this it is another device or unit.
MEMORY_TOLERANCE_FRAC = 0.16
#: The price that one cloud publishes where it does not sell.
PLACEHOLDER_USD_PER_H = 700.0
#: Devices on one SXM baseboard.
SXM_BASEBOARD = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one row.

    Attributes:
        row: Index of the offer in the list that was checked.
        name: Name of the rule.
        found: What it found.
    """

    row: int
    name: str
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the rules compare a row with."""

    devices: Mapping[str, Device]
    today: date
    max_age_s: float = 365 * DAY_S


def _blank_count(offer: Offer, known: Known) -> str:
    return "number of accelerators is blank" if offer.accel_count is None else ""


def _fraction(offer: Offer, known: Known) -> str:
    count = offer.accel_count
    return f"{count:g} of an accelerator" if count is not None and count < 1 else ""


def _impossible_count(offer: Offer, known: Known) -> str:
    """A computer holds one baseboard or two whole ones; 12 comes from the digits of an instance's name."""
    count = offer.accel_count or 0
    if any("sxm" in device for device in offer.devices) and count > SXM_BASEBOARD and count % SXM_BASEBOARD:
        return f"{count:g} accelerators on baseboards of {SXM_BASEBOARD}"
    return ""


def _unknown_device(offer: Offer, known: Known) -> str:
    return f"{offer.accelerator} is not in the catalogue" if not offer.device else ""


def _unknown_variant(offer: Offer, known: Known) -> str:
    return f"{offer.accelerator} may be {' or '.join(offer.devices)}" if len(offer.devices) > 1 else ""


def _memory(offer: Offer, known: Known) -> str:
    """Memory of one accelerator against that of the device: GB for MiB, all together, or another device."""
    label, count = offer.accel_memory_bytes, offer.accel_count
    of_device = [d.memory_bytes for name in offer.devices if (d := known.devices.get(name)) and d.memory_bytes]
    if label is None or not of_device or (count is not None and count < 1):
        return ""
    ratio = min((label / size for size in of_device), key=lambda r: abs(r - 1))
    if abs(ratio - 1) <= MEMORY_TOLERANCE_FRAC:
        return ""
    size_gib = of_device[0] / GIB
    found = f"{label / GIB:g} GiB for a device of {size_gib:g}"
    for factor, meaning in ((1 / 1024, "MiB for GiB"), (1024.0, "GiB for MiB"), (count or 1, "all together")):
        if factor != 1 and abs(ratio / factor - 1) <= MEMORY_TOLERANCE_FRAC:
            return f"{found}: {meaning}"
    return found


def _no_price(offer: Offer, known: Known) -> str:
    return "neither an on-demand nor a spot price" if offer.price_usd_h is offer.spot_price_usd_h is None else ""


def _free_tier(offer: Offer, known: Known) -> str:
    limited = offer.session_cap_s is not None or offer.weekly_quota_s is not None
    return "free, with a limit on the session or the week" if offer.price_usd_h == 0 and limited else ""


def _zero_price(offer: Offer, known: Known) -> str:
    limited = offer.session_cap_s is not None or offer.weekly_quota_s is not None
    if offer.price_usd_h == 0 and not limited:
        return "price of zero without a limit"
    return "spot price of zero" if offer.spot_price_usd_h == 0 else ""


def _placeholder(offer: Offer, known: Known) -> str:
    return "placeholder price 700" if PLACEHOLDER_USD_PER_H in (offer.price_usd_h, offer.spot_price_usd_h) else ""


def _spot_above(offer: Offer, known: Known) -> str:
    price, spot = offer.price_usd_h, offer.spot_price_usd_h
    return f"spot {spot:g} above on-demand {price:g}" if price and spot and spot > price else ""


def _spot_repeats(offer: Offer, known: Known) -> str:
    price, spot = offer.price_usd_h, offer.spot_price_usd_h
    return "spot price repeats the on-demand price" if price and price == spot else ""


def _undated(offer: Offer, known: Known) -> str:
    return "price without a date" if not offer.as_of else ""


def _old(offer: Offer, known: Known) -> str:
    if not offer.as_of:
        return ""
    age_days = (known.today - date.fromisoformat(offer.as_of)).days
    return f"price is {age_days} days old" if age_days * DAY_S > known.max_age_s else ""


#: Name -> rule for one row.
RULES: Mapping[str, Callable[[Offer, Known], str]] = {
    "blank-count": _blank_count,
    "fraction-of-device": _fraction,
    "impossible-count": _impossible_count,
    "unknown-device": _unknown_device,
    "unknown-variant": _unknown_variant,
    "memory-mismatch": _memory,
    "no-price": _no_price,
    "free-tier": _free_tier,
    "zero-price": _zero_price,
    "placeholder-price": _placeholder,
    "spot-above-on-demand": _spot_above,
    "spot-repeats-on-demand": _spot_repeats,
    "undated": _undated,
    "old": _old,
}
DUPLICATE = "duplicate"


def duplicates(offers: Iterable[Offer]) -> dict[int, int]:
    """Row -> an earlier row that offers the same thing, whatever its price."""
    first: dict[tuple[object, ...], int] = {}
    found = {}
    for row, offer in enumerate(offers):
        key = (offer.provider, offer.instance, offer.region, offer.device, offer.accelerator, offer.accel_count)
        if key in first:
            found[row] = first[key]
        else:
            first[key] = row
    return found


def lint(offers: Iterable[Offer], known: Known) -> tuple[Fault, ...]:
    """Every fault of every row, by row, in the order of the rules."""
    rows = tuple(offers)
    repeats = duplicates(rows)
    faults = []
    for row, offer in enumerate(rows):
        if row in repeats:
            faults.append(Fault(row=row, name=DUPLICATE, found=f"repeats row {repeats[row] + 1}"))
        faults += [
            Fault(row=row, name=name, found=found) for name, rule in RULES.items() if (found := rule(offer, known))
        ]
    return tuple(faults)
