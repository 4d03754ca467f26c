"""Zones of one region: one row where their prices agree, a row for each where they differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from rigwise.facts.offer import Offer

SAME_IN_ANOTHER_ZONE = "the same prices as in another zone of the region"


def one_for_equal_zones(offers: Iterable[Offer], excluded: Counter[str]) -> Iterator[Offer]:
    """Rows without those that repeat the prices of another zone of their region.

    Where all zones of a region agree, the row that stays is for the region: its zone is empty.
    Two rows for one zone are no such repeat and both stay, for ``lint`` to name.
    """
    groups: dict[tuple[object, ...], dict[tuple[str, str], Offer]] = {}
    repeats: list[Offer] = []
    for offer in offers:
        place = (offer.provider, offer.instance, offer.region, offer.accelerator, offer.accel_count)
        prices = (repr(offer.price_usd_h), repr(offer.spot_price_usd_h))  # NaN is equal to itself as text
        group = groups.setdefault(place, {})
        first = group.setdefault(prices, offer)
        if first is not offer and first.zone != offer.zone:
            excluded[SAME_IN_ANOTHER_ZONE] += 1
        elif first is not offer:
            repeats.append(offer)
    for group in groups.values():
        alone = len(group) == 1
        yield from (replace(offer, zone="") if alone and offer.zone else offer for offer in group.values())
    yield from repeats
