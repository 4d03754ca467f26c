"""The usual price of some devices: what serving is charged at where no price is given."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

from rigwise.estimate.serving import Price
from rigwise.facts.offer import Offer
from rigwise.market.offers import Quote, Rules, select
from rigwise.units import format_usd


def usual_price(device: str, count: int, group: int, offers: Iterable[Offer], today: date) -> Price | None:
    """The cheapest on-demand offer of that many of a device, or of as many instances as make them up.

    An instance holds whole groups of devices that work as one. Left out are offers that do not say which variant
    of a device they have, free tiers, shares of a device and prices of over a year ago. None where nothing is left.
    """
    quotes = select(offers, Rules(devices=(device,)), today).quotes
    found = [(_usd_per_h(quote, count), quote) for quote in quotes if _makes_up(quote, device, count, group)]
    if not found:
        return None
    usd_per_h, quote = min(found, key=lambda pair: (pair[0], pair[1].offer.instance, pair[1].offer.region))
    offer, each = quote.offer, count // int(quote.offer.accel_count or 1)
    several = f"{each} x " if each > 1 else ""
    words = f"{several}{offer.provider} {offer.instance}".strip()
    return Price(usd_per_h=usd_per_h, basis=f"{words}, on demand, {format_usd(quote.usd_per_h)}/h on {offer.as_of}")


def _makes_up(quote: Quote, device: str, count: int, group: int) -> bool:
    accelerators = quote.offer.accel_count or 0.0
    whole = accelerators >= 1 and count % accelerators == 0 and accelerators % group == 0
    return quote.offer.device == device and whole and quote.usd_per_h > 0


def _usd_per_h(quote: Quote, count: int) -> float:
    return quote.usd_per_h * count / float(quote.offer.accel_count or 1)
