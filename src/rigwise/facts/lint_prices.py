"""Rules on the prices and dates of one row. Each returns what it found, in words, or nothing."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import TYPE_CHECKING

from rigwise.units import DAY_S

if TYPE_CHECKING:
    from rigwise.facts.lint import Known
    from rigwise.facts.offer import Offer

#: The price that one cloud publishes where it does not sell.
PLACEHOLDER_USD_PER_H = 700.0
#: Providers that sell by auction, and the least bid for one device, which catalogues publish as the price.
#: Source: SkyPilot catalogue v8, mithril, and skypilot-org/skypilot pull request 9156.
BID_FLOORS_USD_PER_H = {"mithril": 1.0}
#: Below this part of what an instance is known to cost, something is left out of the price.
FAR_BELOW_FRAC = 0.4


def not_a_number(offer: Offer, known: Known) -> str:
    """A price that is no number cannot be compared, and makes every sum with it none."""
    for name, price in (("price", offer.price_usd_h), ("spot price", offer.spot_price_usd_h)):
        if price is not None and not math.isfinite(price):
            return f"{name} is no number"
    return ""


def negative(offer: Offer, known: Known) -> str:
    """Nobody pays for being used: a sign, or a mark for "not sold"."""
    for name, price in (("price", offer.price_usd_h), ("spot price", offer.spot_price_usd_h)):
        if price is not None and price < 0:
            return f"{name} of {price:g}"
    return ""


def none_at_all(offer: Offer, known: Known) -> str:
    """Neither price is there."""
    return "neither an on-demand nor a spot price" if offer.price_usd_h is offer.spot_price_usd_h is None else ""


def _limited(offer: Offer) -> bool:
    return offer.session_cap_s is not None or offer.weekly_quota_s is not None


def free_tier(offer: Offer, known: Known) -> str:
    """Free, and limited: right, but no price to plan a long job with."""
    return "free, with a limit on the session or the week" if offer.price_usd_h == 0 and _limited(offer) else ""


def zero(offer: Offer, known: Known) -> str:
    """Zero stands for "unknown" where nothing says that it is a free tier."""
    if offer.price_usd_h == 0 and not _limited(offer):
        return "price of zero without a limit"
    return "spot price of zero" if offer.spot_price_usd_h == 0 else ""


def placeholder(offer: Offer, known: Known) -> str:
    """Exactly 700 marks "not sold here"; 256 chips really cost 691.20, so no threshold finds it."""
    return "placeholder price 700" if PLACEHOLDER_USD_PER_H in (offer.price_usd_h, offer.spot_price_usd_h) else ""


def bid_floor(offer: Offer, known: Known) -> str:
    """Where prices are bids, the least bid is what nobody gets a machine for."""
    floor = BID_FLOORS_USD_PER_H.get(offer.provider)
    prices = [price for price in (offer.price_usd_h, offer.spot_price_usd_h) if price]
    if floor is None or not offer.accel_count or not prices:
        return ""
    if any(math.isclose(price / offer.accel_count, floor) for price in prices):
        return f"{floor:g} a device is the least bid, not a price"
    return ""


def spot_above(offer: Offer, known: Known) -> str:
    """Nobody would buy it: one of the two is wrong or old."""
    price, spot = offer.price_usd_h, offer.spot_price_usd_h
    return f"spot {spot:g} above on-demand {price:g}" if price and spot and spot > price > 0 else ""


def spot_repeats(offer: Offer, known: Known) -> str:
    """The spot price was filled in from the other one, or there is no spot market."""
    price, spot = offer.price_usd_h, offer.spot_price_usd_h
    return "spot price repeats the on-demand price" if price and spot and price == spot > 0 else ""


def far_below(offer: Offer, known: Known) -> str:
    """Less than two fifths of what this instance is known to cost: a host without its accelerators."""
    usual = known.usual_usd_h.get((offer.provider, offer.instance))
    price = offer.price_usd_h
    if usual is None or not price or not 0 < price < FAR_BELOW_FRAC * usual:
        return ""
    return f"{price:g} for an instance known at {usual:g}: perhaps the host alone"


def undated(offer: Offer, known: Known) -> str:
    """A price without a date counts as old."""
    return "price without a date" if not offer.as_of else ""


def future(offer: Offer, known: Known) -> str:
    """A price of tomorrow: a clock was wrong, here or there. One day is left for time zones."""
    if offer.as_of <= (known.today + timedelta(days=1)).isoformat():
        return ""
    return f"dated {offer.as_of}, and today is {known.today.isoformat()}: a clock is wrong"


def old(offer: Offer, known: Known) -> str:
    """Over a year old: it may well be another today."""
    if not offer.as_of:
        return ""
    age_days = (known.today - date.fromisoformat(offer.as_of)).days
    return f"price is {age_days} days old" if age_days * DAY_S > known.max_age_s else ""
