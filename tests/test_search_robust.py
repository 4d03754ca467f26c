"""Odds and regret of ranked plans."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.estimate.calibration import packaged
from rigwise.estimate.correlation import covariance
from rigwise.estimate.interval import time_spread
from rigwise.facts.catalogue import resolve_device as device
from rigwise.search.bounds import Goal
from rigwise.search.robust import fallbacks, is_tied, kinship, with_odds
from rigwise.search.types import Plan, Quantiles
from rigwise.workload.case import Parallel


def a_plan(device, usd, spread=1.2, hours=1.0):
    def around(value):
        return Quantiles(p10=value / spread, p50=value, p90=value * spread)

    return Plan(
        kind="rent",
        provider="alpha",
        instance="one",
        region="",
        market="on-demand",
        device=device,
        count=1,
        nodes=1,
        usd_per_h=usd,
        dtype="fp32",
        layout="nchw",
        mode="eager",
        micro_batch=1,
        accumulation=1,
        recompute="none",
        parallel=Parallel(),
        time_s=around(3600 * hours),
        cost_usd=around(usd),
        cost_terms={"compute": usd},
        energy_j=None,
        memory_bytes=1.0,
        memory_capacity_bytes=2.0,
        fit_probability=1.0,
        price_date="2026-07-01",
    )


def test_odds_are_a_distribution() -> None:
    plans = with_odds([a_plan("a", 1.0), a_plan("b", 1.1), a_plan("c", 5.0)], Goal(objective="cost", confidence=0.9))
    assert sum(p.p_best for p in plans) == pytest.approx(1)
    assert plans[0].p_best > plans[1].p_best > plans[2].p_best
    assert all(p.expected_regret_usd >= 0 for p in plans)


def test_equal_plans_on_different_devices_share_the_odds() -> None:
    first, second = with_odds([a_plan("a", 1.0), a_plan("b", 1.0)], Goal(objective="cost", confidence=0.9))
    assert first.p_best == pytest.approx(0.5, abs=0.03)
    assert second.p_best == pytest.approx(0.5, abs=0.03)


def test_one_device_at_two_prices_is_wrong_once() -> None:
    first, second = with_odds(
        [a_plan("a", 1.0, spread=3.0), a_plan("a", 1.01, spread=3.0)], Goal(objective="cost", confidence=0.9)
    )
    assert (first.p_best, second.p_best) == (1.0, 0.0)
    assert first.expected_regret_usd == 0


def test_regret_of_a_sure_thing_is_the_difference() -> None:
    first, second = with_odds(
        [a_plan("a", 1.0, spread=1.0 + 1e-9), a_plan("b", 3.0, spread=1.0 + 1e-9)],
        Goal(objective="cost", confidence=0.9),
    )
    assert first.p_best == 1
    assert second.expected_regret_usd == pytest.approx(2.0, rel=1e-6)


def test_free_plans_tie() -> None:
    plans = with_odds([a_plan("a", 0.0), a_plan("b", 0.0)], Goal(objective="cost", confidence=0.9))
    assert [p.p_best for p in plans] == [0.5, 0.5]


def test_the_same_on_every_run() -> None:
    plans = [a_plan("a", 1.0), a_plan("b", 1.1)]
    assert with_odds(plans, Goal(objective="time", confidence=0.9)) == with_odds(
        plans, Goal(objective="time", confidence=0.9)
    )
    assert with_odds([], Goal(objective="cost", confidence=0.9)) == ()


def test_a_tie_is_an_order_that_is_no_more_than_likely() -> None:
    goal = Goal(objective="cost", confidence=0.9)
    first, near, far, same = with_odds([a_plan("a", 1.0), a_plan("b", 1.1), a_plan("c", 3.0), a_plan("a", 3.1)], goal)
    assert (is_tied(near), is_tied(far), is_tied(same)) == (True, False, False)
    assert first.p_ahead == same.p_ahead == 0


def test_rivals_take_their_part_of_the_odds() -> None:
    goal = Goal(objective="cost", confidence=0.9)
    (alone,) = with_odds([a_plan("a", 1.0)], goal)
    (among,) = with_odds([a_plan("a", 1.0)], goal, rivals=[a_plan("b", 1.0)])
    assert alone.p_best == 1
    assert among.p_best == pytest.approx(0.5, abs=0.03)
    assert with_odds([a_plan("a", 1.0)], goal, rivals=[a_plan("a", 1.0)]) == (alone,)


def test_what_two_devices_share_makes_their_order_surer() -> None:
    goal = Goal(objective="cost", confidence=0.9)
    names = {"rtx-3090": device("rtx-3090"), "rtx-4090": device("rtx-4090")}
    plans = [a_plan("rtx-3090", 1.0), a_plan("rtx-4090", 1.1)]
    apart, together = with_odds(plans, goal)[0], with_odds(plans, goal, kinship(names))[0]
    assert together.p_best > apart.p_best + 0.05
    assert together.expected_regret_usd < apart.expected_regret_usd


DEVICES = ("rtx-3090", "rtx-4090", "rtx-5090", "rtx-5070", "h100-sxm5-80gb", "b200", "mi300x", "core-i9-10940x")


@given(st.lists(st.tuples(st.sampled_from(DEVICES), st.floats(1e-4, 1.0)), min_size=1, max_size=12))
def test_a_covariance_is_one(estimates) -> None:
    spread = np.array([width for _, width in estimates])
    found = covariance([device(name) for name, _ in estimates], spread, packaged())
    assert np.allclose(np.diag(found), spread**2)
    assert np.array_equal(found, found.T)
    assert np.linalg.eigvalsh(found / np.outer(spread, spread)).min() > -1e-9


def test_kin_share_more() -> None:
    """One device all, one architecture that nothing was measured on more than two, a CPU nothing with a GPU."""
    calibration = packaged()
    names = ("rtx-5090", "rtx-5090", "rtx-5070", "mi300x", "core-i9-10940x")
    devices = [device(name) for name in names]
    spread = np.array([1.1 * time_spread(d, calibration) for d in devices])
    found = covariance(devices, spread, calibration) / np.outer(spread, spread)
    assert found[0, 1] == pytest.approx(1)
    assert 1 > found[0, 2] > found[0, 3] > 0
    assert found[0, 4] == 0


def test_what_is_less_sure_of_one_device_is_its_own() -> None:
    found = covariance([device("rtx-4090")] * 2, np.array([0.1, 0.2]), packaged())
    assert found[0, 1] == pytest.approx(0.1**2)


def at(plan, provider, instance):
    return replace(plan, provider=provider, instance=instance)


def test_fallbacks_are_not_where_the_first_is() -> None:
    first = at(a_plan("a", 1.0), "alpha", "one")
    spot = at(a_plan("a", 1.1), "alpha", "one")
    near = at(a_plan("a", 1.2), "alpha", "two")
    device_apart = at(a_plan("b", 1.3), "alpha", "three")
    provider_apart = at(a_plan("a", 1.4), "beta", "one")
    both_apart = at(a_plan("b", 9.0), "gamma", "one")
    found = fallbacks(first, [first, spot, near, device_apart, provider_apart, both_apart])
    assert [(p.provider, p.instance) for p in found] == [("alpha", "three"), ("beta", "one"), ("gamma", "one")]
    assert found[0].why[0] == "device b: $0.30 dearer (30 %), as quick"
    assert found[2].why[0].startswith("provider gamma, device b: $8.00 dearer")
    assert [(p.provider, p.instance) for p in fallbacks(first, [first, spot, near])] == [("alpha", "two")]
    assert fallbacks(first, [first, spot]) == ()
