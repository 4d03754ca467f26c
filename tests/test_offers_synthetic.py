"""The catalogues that benchmarks use are shaped like real ones, and the same every time."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from rigwise.facts.catalogue import devices


@pytest.fixture(scope="module")
def synthetic() -> ModuleType:
    path = Path(__file__).parents[1] / "benchmarks" / "synthetic_offers.py"
    spec = importlib.util.spec_from_file_location("synthetic_offers", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_there_are_as_many_rows_as_asked_for_and_always_the_same(synthetic, rows):
    offers = synthetic.synthetic_offers(rows, seed=3)
    assert len(offers) == rows
    assert offers == synthetic.synthetic_offers(rows, seed=3)
    assert offers != synthetic.synthetic_offers(rows, seed=4)


def test_they_are_shaped_like_the_public_ones(synthetic):
    offers = synthetic.synthetic_offers(20_000, seed=0)
    places = Counter((o.provider, o.instance, o.region, o.zone, o.accelerator) for o in offers)
    providers = Counter(o.provider for o in offers)
    assert [name for name, _ in providers.most_common(3)] == ["aws", "gcp", "runpod"]
    assert len(providers) > 20
    assert max(places.values()) == 1
    assert {d for o in offers for d in o.devices} <= {d.id for d in devices()}
    dirty = [o for o in offers if not (o.price_usd_h and o.device and o.accel_count) or o.price_usd_h == 700]
    assert 0.002 < len(dirty) / len(offers) < 0.02


def test_spot_differs_between_zones_and_on_demand_does_not(synthetic):
    clean = [o for o in synthetic.synthetic_offers(20_000, seed=0) if o.price_usd_h not in (None, 0.0, 700.0)]
    on_demand, spot = {}, {}
    for offer in clean:
        place = (offer.provider, offer.instance, offer.device, offer.accel_count)
        on_demand.setdefault((*place, offer.region), set()).add(offer.price_usd_h)
        if offer.spot_price_usd_h:
            spot.setdefault(place, []).append(offer.spot_price_usd_h / offer.price_usd_h)
    assert {len(prices) for prices in on_demand.values()} == {1}
    spreads = sorted(max(parts) / min(parts) for parts in spot.values() if len(parts) >= 30)
    assert spreads[len(spreads) // 2] > 3
