"""The candidates: which machines can be made of an offer, and what they are called."""

from dataclasses import replace

import numpy as np
import pytest

from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.market.offers import ON_DEMAND, SPOT, Quote, owned_quote
from rigwise.market.spot import ASSUMED, time_factor
from rigwise.search.bounds import Least, why_nowhere
from rigwise.search.space import Surroundings, build_space, slowest
from rigwise.workload.choices import settle
from rigwise.workload.job import Job, OwnedMachine

MODEL = Model(
    name="m",
    card=Card(title="M", reference_batch=8),
    parameters=(Parameter(name="w", shape=(10,)),),
    graphs={"train": Graph(ops=(), symbols={"b": 1})},
)
OFFER = Offer(
    provider="alpha",
    instance="one",
    region="",
    device="slow",
    accelerator="x",
    accel_count=4,
    accel_memory_bytes=None,
    vcpus=None,
    memory_bytes=None,
    disk_bytes=None,
    link="nvlink",
    inter_node_bytes_per_s=None,
    price_usd_h=1.0,
    spot_price_usd_h=None,
    as_of="2026-07-01",
    source="test",
)


def a_device(name, bytes_per_s):
    return Device(
        id=name, name=name, vendor="v", kind="gpu", architecture="a", memory_bytes=1e9, memory_bytes_per_s=bytes_per_s
    )


DEVICES = {"slow": a_device("slow", 1e11), "quick": a_device("quick", 9e11)}


def quote(market=ON_DEMAND, usd_per_h=1.0, **change):
    return Quote(offer=replace(OFFER, **change), market=market, usd_per_h=usd_per_h)


def sites_of(*quotes, **fields):
    job = Job(**{"model": "m", "amount": 100, "unit": "steps", "batch": 8, **fields})
    return build_space(settle(job, MODEL), quotes, Surroundings(device=DEVICES.__getitem__)).sites


def test_one_instance_is_one_machine() -> None:
    (site,) = sites_of(quote())
    assert (site.machine.count, site.machine.nodes, site.idle, site.name) == (4, 1, 0, "1 x 4 nvlink")


def test_instances_are_joined_where_their_network_is_known() -> None:
    sites = sites_of(quote(inter_node_bytes_per_s=5e10), batch=16)
    assert [site.machine.nodes for site in sites] == [1, 2, 4]  # 32 devices do not divide 16 samples
    assert [list(site.tariff.usd_per_h) for site in sites] == [[1.0], [2.0], [4.0]]
    assert sites[1].name == "2 x 4 nvlink 50GB/s"


def test_devices_that_the_batch_does_not_reach_stay_idle() -> None:
    (site,) = sites_of(quote(), batch=6)
    assert (site.machine.count, site.idle, site.name) == (3, 1, "1 x 3 of 4 nvlink")


def test_one_device_has_no_link() -> None:
    first, second = quote(accel_count=1, link="nvlink"), quote(accel_count=1, link="", instance="two")
    assert len(sites_of(first, second)) == 1


def test_equal_machines_are_one_site_and_the_cheapest_prices_are_kept() -> None:
    quotes = [quote(usd_per_h=3.0 - i, instance=str(i)) for i in range(3)]
    (site,) = sites_of(*quotes, top=2)
    assert list(site.tariff.usd_per_h) == [1.0, 2.0]
    assert list(site.quote) == [2, 1]
    assert site.prices == 3


def test_of_the_regions_of_an_instance_the_cheapest_is_kept() -> None:
    (site,) = sites_of(quote(usd_per_h=2.0, region="east"), quote(usd_per_h=1.0, region="west"), top=5)
    assert list(site.quote) == [1]
    assert site.prices == 2


def test_spot_takes_longer() -> None:
    (site,) = sites_of(quote(), quote(SPOT, 0.5))
    assert list(site.tariff.time_factor) == [time_factor(ASSUMED), 1.0]
    assert list(site.tariff.usd_per_h) == [0.5, 1.0]


def test_an_unknown_variant_is_estimated_as_the_slowest() -> None:
    (site,) = sites_of(quote(device="quick|slow"))
    assert site.machine.device.id == "slow"
    assert {device.id for device in site.variants} == {"quick", "slow"}
    assert slowest([DEVICES["quick"], DEVICES["slow"]]).id == "slow"


@pytest.mark.parametrize(("cap", "quota", "limit"), [(100.0, None, 100.0), (None, 50.0, 50.0), (100.0, 50.0, 50.0)])
def test_a_free_tier_is_limited_and_never_joined(cap, quota, limit) -> None:
    (site,) = sites_of(quote(session_cap_s=cap, weekly_quota_s=quota, inter_node_bytes_per_s=5e10))
    assert site.limit_s == limit
    assert site.machine.nodes == 1


@pytest.mark.parametrize(
    ("need_bytes", "time_s", "words"),
    [(2e9, 10.0, "need 2.00 GB"), (1e8, 1000.0, "the longest session 1.67 min"), (1e8, 10.0, "activations")],
)
def test_a_job_that_goes_nowhere_says_why(need_bytes, time_s, words) -> None:
    job = Job(model="m", amount=100, unit="steps", batch=8)
    space = build_space(settle(job, MODEL), [quote(session_cap_s=100.0)], Surroundings(device=DEVICES.__getitem__))
    floor = Least(
        time_s={"fp32": np.array([time_s])},
        memory_bytes={"fp32": np.array([need_bytes])},
        energy_j={"fp32": np.array([0.0])},
        capacity_bytes=np.array([1e9]),
    )
    assert words in why_nowhere(space, floor)


def test_an_owned_machine_is_what_it_is() -> None:
    machine = OwnedMachine(name="lab", device="slow", count=8, nodes=2, usd_per_h=0.3)
    (site,) = sites_of(owned_quote(machine, "slow"), owned=(machine,))
    assert (site.machine.count, site.machine.nodes, list(site.tariff.usd_per_h)) == (8, 2, [0.3])
    assert site.name == "2 x 4 owned lab"
