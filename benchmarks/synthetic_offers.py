"""Catalogues of any size, shaped like the public ones: the same number and seed give the same rows.

Instances, devices, counts and prices are those of the catalogue in the package; they are offered
in as many regions and zones as it takes. As in the public catalogues, a few providers have nearly
all rows, an on-demand price is the same in all zones of a region, a spot price differs
three- to fourfold between zones, and about one row in a hundred is dirty.
"""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from rigwise.facts.catalogue import bundled_offers
from rigwise.facts.offer import Offer

#: Share of the rows of the public catalogues in 2026: 58, 41, 14, 5.6, 4 and 2.4 thousand of 125.
SHARES = {"aws": 0.464, "gcp": 0.328, "runpod": 0.112, "azure": 0.045, "oci": 0.032, "": 0.019}
AS_OF = "2026-09-01"
ZONES_OF_A_REGION = 3
DIRTY_FRAC = 0.01
_DIRT = (
    {"price_usd_h": 0.0},
    {"price_usd_h": 700.0},
    {"spot_price_usd_h": 0.0},
    {"accel_count": None},
    {"device": ""},
    {"as_of": "2023-10-30"},
    {"price_usd_h": None, "spot_price_usd_h": None},
)


def synthetic_offers(rows: int, seed: int = 0) -> list[Offer]:
    """A catalogue of exactly ``rows`` rows."""
    dice = random.Random(f"{rows} {seed}")
    templates = _templates()
    wanted = {group: math.floor(rows * share) for group, share in SHARES.items()}
    wanted["aws"] += rows - sum(wanted.values())
    made: list[Offer] = []
    for group, number in wanted.items():
        made.extend(islice(_places(templates[group], dice), number))
    dice.shuffle(made)
    return made


def _templates() -> dict[str, list[Offer]]:
    """Instances of the catalogue by the group their provider counts in."""
    groups: dict[str, list[Offer]] = defaultdict(list)
    seen: Counter[tuple[object, ...]] = Counter()
    for offer in bundled_offers():
        key = (offer.provider, offer.instance, offer.device, offer.accel_count)
        whole = offer.accel_count and offer.accel_count % 1 == 0
        if offer.device and whole and offer.price_usd_h and offer.as_of >= "2025" and not seen[key]:
            seen[key] += 1
            groups[offer.provider if offer.provider in SHARES else ""].append(offer)
    return groups


def _places(templates: Sequence[Offer], dice: random.Random) -> Iterator[Offer]:
    """Every instance in the first region, then every instance in the next, without end."""
    region = 0
    while True:
        name = f"region-{region}"
        dearer = dice.uniform(1.0, 1.6) if region else 1.0
        for template in dice.sample(templates, len(templates)):
            price_usd_h = round((template.price_usd_h or 0.0) * dearer, 5)
            for zone in range(ZONES_OF_A_REGION):
                spot_usd_h = round(price_usd_h * min(0.95, dice.lognormvariate(math.log(0.4), 0.45)), 5)
                dirt = dice.choice(_DIRT) if dice.random() < DIRTY_FRAC else {}
                place = {"region": name, "zone": f"{name}{'abc'[zone]}", "as_of": AS_OF, "source": "synthetic"}
                yield replace(template, **{"price_usd_h": price_usd_h, "spot_price_usd_h": spot_usd_h, **place, **dirt})
        region += 1
