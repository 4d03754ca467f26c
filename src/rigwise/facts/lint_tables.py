"""Rules that need other rows. Each yields the index of a row and what it found there, in words."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING

from rigwise.facts.lint_sizes import is_mixed_up

if TYPE_CHECKING:
    from rigwise.facts.lint import Known
    from rigwise.facts.offer import Offer

#: So many rows of several devices with one and the same discount are a formula, not a market.
ESTIMATED_ROWS = 5
#: From this ratio on, where a spot instance runs decides more than what it is.
SPREAD = 3.0


def duplicate(rows: Sequence[Offer], known: Known) -> Iterator[tuple[int, str]]:
    """The same thing offered twice, whatever the price: two rows with one name."""
    first: dict[tuple[object, ...], int] = {}
    for row, offer in enumerate(rows):
        place = (offer.provider, offer.instance, offer.region, offer.zone)
        earlier = first.setdefault((*place, offer.device, offer.accelerator, offer.accel_count, offer.term_s), row)
        if earlier != row:
            yield row, f"repeats row {earlier + 1}"


def estimated_spot(rows: Sequence[Offer], known: Known) -> Iterator[tuple[int, str]]:
    """Every spot price of a provider the same part of its on-demand price: computed, not asked."""
    found: dict[str, list[tuple[int, float, str]]] = defaultdict(list)
    for row, offer in enumerate(rows):
        price, spot = offer.price_usd_h, offer.spot_price_usd_h
        if price and spot and 0 < spot < price:
            found[offer.provider].append((row, round(spot / price, 3), offer.device or offer.accelerator))
    for members in found.values():
        parts = {part for _, part, _ in members}
        if len(parts) == 1 and len(members) >= ESTIMATED_ROWS and len({device for *_, device in members}) > 1:
            for row, part, _ in members:
                yield row, f"{part:.1%} of the on-demand price, as all spot prices of this provider"


def spot_spread(rows: Sequence[Offer], known: Known) -> Iterator[tuple[int, str]]:
    """The same instance at three times the spot price of another place: never to be averaged."""
    cheapest: dict[tuple[object, ...], float] = {}
    keys = [(offer.provider, offer.instance, offer.device, offer.accel_count) for offer in rows]
    for key, offer in zip(keys, rows, strict=True):
        if (spot := offer.spot_price_usd_h) and 0 < spot < math.inf:
            cheapest[key] = min(spot, cheapest.get(key, spot))
    for row, (key, offer) in enumerate(zip(keys, rows, strict=True)):
        spot = offer.spot_price_usd_h
        if spot and key in cheapest and SPREAD * cheapest[key] <= spot < math.inf:
            yield row, f"spot {spot:g}, and {cheapest[key]:g} in another place"


def host_gb_as_gib(rows: Sequence[Offer], known: Known) -> Iterator[tuple[int, str]]:
    """Memory of a host seven per cent above or below what this instance is known to have: GB and GiB mixed up."""
    for row, offer in enumerate(rows):
        usual_bytes = known.usual_memory_bytes.get((offer.provider, offer.instance))
        if usual_bytes and offer.memory_bytes and (words := is_mixed_up(offer.memory_bytes / usual_bytes)):
            yield row, f"memory of the host is {words}"


def usual(offers: Sequence[Offer], field: str) -> Mapping[tuple[str, str], float]:
    """The median of a figure of each instance over its rows, for ``Known``; only of instances that are always the same.

    >>> from rigwise.facts.catalogue import bundled_offers
    >>> round(usual(bundled_offers(), "price_usd_h")["gcp", "a2-highgpu-1g"], 2)
    3.71
    """
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    held: dict[tuple[str, str], set[tuple[object, ...]]] = defaultdict(set)
    for offer in offers:
        value = getattr(offer, field)
        if offer.instance and value and value > 0:
            found[offer.provider, offer.instance].append(value)
            held[offer.provider, offer.instance].add((offer.device, offer.accel_count))
    return {key: median(values) for key, values in found.items() if len(held[key]) == 1}
