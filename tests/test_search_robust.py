"""Odds and regret of ranked plans."""

from dataclasses import replace

import pytest

from rigwise.search.bounds import Goal
from rigwise.search.robust import overlaps, with_odds
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


def test_intervals_overlap_or_not() -> None:
    cheap, near, far = a_plan("a", 1.0), a_plan("b", 1.3), a_plan("b", 2.0)
    assert overlaps(cheap, near, Goal(objective="cost", confidence=0.9))
    assert not overlaps(cheap, far, Goal(objective="cost", confidence=0.9))
    assert not overlaps(cheap, replace(near, device="a"), Goal(objective="cost", confidence=0.9))
