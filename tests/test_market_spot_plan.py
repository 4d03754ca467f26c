"""From a plan to the question about its interruptions: which offer, which beliefs, what on demand costs."""

import pytest

from rigwise.errors import InvalidInputError
from rigwise.facts.interruption import InterruptionOverride
from rigwise.facts.offer import Offer
from rigwise.market.spot import ASSUMED, GIVEN, MEASURED, USUAL, spot_tariff
from rigwise.search.spot import alike, beliefs_of, require_spot
from rigwise.workload.job import Job


def offer(**changes) -> Offer:
    blank = dict.fromkeys(("accel_memory_bytes", "vcpus", "memory_bytes", "disk_bytes", "inter_node_bytes_per_s"))
    plain = {
        "provider": "aws", "instance": "p3.2xlarge", "region": "us-west-2a", "device": "v100-sxm2-16gb",
        "accelerator": "V100", "accel_count": 1, "link": "", "price_usd_h": 3.06, "spot_price_usd_h": 0.92,
        "as_of": "2026-09-01", "source": "a test",
    }  # fmt: skip
    return Offer(**{**blank, **plain, **changes})


def test_the_users_word_comes_first() -> None:
    beliefs, in_force = beliefs_of(offer(), InterruptionOverride(mean_run_s=7200.0))
    assert (in_force, next(iter(beliefs))) == (GIVEN, GIVEN)
    assert beliefs[GIVEN].mean_run_s == 7200
    assert beliefs[GIVEN].mean_wait_s == beliefs[MEASURED].mean_wait_s


def test_times_of_the_job_hold_under_every_belief() -> None:
    beliefs, in_force = beliefs_of(offer(), InterruptionOverride(save_s=5.0))
    assert in_force == MEASURED
    assert {belief.save_s for belief in beliefs.values()} == {5.0}
    assert beliefs_of(offer(provider="gcp"), InterruptionOverride())[1] == USUAL


def test_only_equal_devices_stand_in_on_demand() -> None:
    assert alike(offer(), offer(provider="gcp", instance="n1", price_usd_h=2.5))
    for other in ({"device": "t4"}, {"accel_count": 2}, {"link": "nvlink"}, {"inter_node_bytes_per_s": 1e9}):
        assert not alike(offer(), offer(**other))


def test_a_job_without_spot_is_refused_before_it_is_planned() -> None:
    with pytest.raises(InvalidInputError, match="add --spot"):
        require_spot(Job(model="resnet50", amount=1.0, unit="samples"))


def test_the_same_belief_is_worked_out_once_and_is_the_same() -> None:
    assert spot_tariff(1.0, ASSUMED, 4).time_factor == spot_tariff(2.0, ASSUMED, 4).time_factor
