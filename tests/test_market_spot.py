"""Interruptions: the expected time against a simulation of them, the interval against the minimum, facts as rows."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.facts.interruption import InterruptionOverride, read_spot_facts, spot_facts
from rigwise.facts.offer import Offer
from rigwise.market.spot import (
    ADVISOR,
    ASSUMED,
    GIVEN,
    MEASURED,
    OPTIMISTIC,
    PESSIMISTIC,
    USUAL,
    Interruption,
    advisor_run_s,
    availability_frac,
    availability_interval_s,
    best_interval_s,
    checkpoint_interval_s,
    daly_interval_s,
    gang_run_s,
    gang_wait_s,
    in_words,
    interruption_of,
    overridden,
    scenarios_of,
    spot_tariff,
    time_factor,
    time_factor_of,
    wait_factor,
    young_interval_s,
)
from rigwise.units import DAY_S, HOUR_S, MINUTE_S


def interruption(run_h=6.0, wait_h=1.0, restart_h=0.1, save_h=0.02) -> Interruption:
    return Interruption(
        mean_run_s=run_h * HOUR_S, mean_wait_s=wait_h * HOUR_S, restart_s=restart_h * HOUR_S, save_s=save_h * HOUR_S
    )


def offer(provider: str, instance: str, region: str = "", price=2.0, spot=0.6) -> Offer:
    blank = dict.fromkeys(("accel_memory_bytes", "vcpus", "memory_bytes", "disk_bytes", "inter_node_bytes_per_s"))
    return Offer(
        provider=provider, instance=instance, region=region, device="t4", accelerator="T4", accel_count=1, link="",
        price_usd_h=price, spot_price_usd_h=spot, as_of="2026-09-01", source="a test", **blank,
    )  # fmt: skip


def simulated_s(run_s, restart_s, interval_s, save_s, segments, seed=1):
    """Mean time of a stretch of work and its checkpoint, over many: each begins again when it is interrupted.

    A restart can be interrupted as well.
    """
    dice = np.random.default_rng(seed)
    spent = np.zeros(segments)
    needed = np.full(segments, interval_s + save_s)
    going = np.arange(segments)
    while len(going):
        until = dice.exponential(run_s, len(going))
        done = until >= needed[going]
        spent[going] += np.where(done, needed[going], until)
        going = going[~done]
        needed[going] = restart_s + interval_s + save_s
    return spent.mean()


@pytest.mark.parametrize("run_h", [0.25, 1.0, 3.0, 6.0, 24.0])
@pytest.mark.parametrize(("restart_h", "save_h"), [(0.1, 0.02), (0.5, 0.1), (0.02, 0.001)])
def test_expected_time_is_that_of_a_simulation_within_1_percent(run_h, restart_h, save_h) -> None:
    capacity = interruption(run_h, restart_h=restart_h, save_h=save_h)
    interval_s = checkpoint_interval_s(capacity)
    stretch_s = simulated_s(capacity.mean_run_s, capacity.restart_s, interval_s, capacity.save_s, 400_000)
    assert stretch_s / interval_s == pytest.approx(time_factor(capacity), rel=0.01)


@pytest.mark.parametrize("instances", [2, 8])
def test_a_gang_is_interrupted_when_any_of_it_is(instances) -> None:
    capacity = interruption()
    dice = np.random.default_rng(2)
    firsts = dice.exponential(capacity.mean_run_s, (200_000, instances)).min(axis=1)
    assert firsts.mean() == pytest.approx(gang_run_s(capacity, instances), rel=0.01)
    there = dice.random((200_000, instances)) < capacity.availability_frac
    assert there.all(axis=1).mean() == pytest.approx(float(availability_frac(capacity, instances)), rel=0.01)


def test_machines_that_come_and_go_together_are_as_one() -> None:
    together = replace(interruption(), together=True)
    assert time_factor(together, 8) == time_factor(together) == time_factor(interruption())
    assert wait_factor(together, 8) == wait_factor(interruption())


def test_worked_examples() -> None:
    """24 hours of work with checkpoints of 0.02 h and restarts of 0.1 h: research on planners, formula 2."""
    for run_h, expected_h in ((1, 32.5), (6, 26.5), (24, 25.1)):
        assert 24 * time_factor(interruption(run_h)) == pytest.approx(expected_h, rel=0.01)


@pytest.mark.parametrize(("run_min", "interval_min"), [(24 * 60, 117), (6 * 60, 57), (15, 9.1)])
def test_the_intervals_of_dalys_figures(run_min, interval_min) -> None:
    """Figures 3 to 5 of Daly 2006: restarts of 10 min, checkpoints of 5 min."""
    assert best_interval_s(5 * MINUTE_S, run_min * MINUTE_S) / MINUTE_S == pytest.approx(interval_min, abs=0.5)
    assert daly_interval_s(5 * MINUTE_S, run_min * MINUTE_S) / MINUTE_S == pytest.approx(interval_min, abs=0.5)


@given(
    run_s=st.floats(60, 1e7),
    save_s=st.floats(0.01, 1e4),
    restart_s=st.floats(0, 1e4),
    other=st.floats(0.01, 100),
)
def test_no_other_interval_is_better(run_s, save_s, restart_s, other) -> None:
    best_s = best_interval_s(save_s, run_s)
    best = time_factor_of(best_s, run_s, restart_s, save_s)
    assert best <= time_factor_of(best_s * other, run_s, restart_s, save_s) * (1 + 1e-9)
    for rule in (young_interval_s(save_s, run_s), daly_interval_s(save_s, run_s)):
        assert best <= time_factor_of(rule, run_s, restart_s, save_s) * (1 + 1e-9)
    assert best <= time_factor_of(availability_interval_s(save_s, run_s, restart_s), run_s, restart_s, save_s) + 1e-9


@given(
    run_h=st.floats(0.1, 1e3),
    wait_h=st.floats(0, 100),
    restart_h=st.floats(0, 2),
    save_h=st.floats(0, 1),
    instances=st.integers(1, 8),
)
def test_more_interruption_is_never_quicker(run_h, wait_h, restart_h, save_h, instances) -> None:
    capacity = interruption(run_h, wait_h, restart_h, save_h)
    factor = time_factor(capacity, instances)
    slack = 1 + 1e-9
    assert factor >= 1
    for worse in (
        replace(capacity, mean_run_s=capacity.mean_run_s / 2),
        replace(capacity, restart_s=capacity.restart_s + 60),
        replace(capacity, save_s=capacity.save_s + 60),
    ):
        assert time_factor(worse, instances) * slack >= factor
    assert time_factor(capacity, instances + 1) * slack >= factor
    assert wait_factor(capacity, instances + 1) * slack >= wait_factor(capacity, instances) >= 1 / slack
    there = float(availability_frac(capacity, instances))
    run_s, wait_s = gang_run_s(capacity, instances), float(gang_wait_s(capacity, instances))
    assert run_s / (run_s + wait_s) == pytest.approx(there)


def test_capacity_that_never_lasts_has_no_expected_time() -> None:
    assert time_factor(interruption(run_h=1e-6)) == math.inf
    assert time_factor(interruption(save_h=0)) == pytest.approx(math.exp(0.1 / 6), rel=1e-4)


def test_formulas_take_arrays() -> None:
    counts = np.array([1, 2, 4, 8])
    assert list(time_factor(ASSUMED, counts)) == pytest.approx([time_factor(ASSUMED, int(n)) for n in counts])
    tariff = spot_tariff(1.5 * counts, ASSUMED, counts)
    each = [spot_tariff(1.5 * int(n), ASSUMED, int(n)) for n in counts]
    assert list(tariff.cost_usd(DAY_S)) == pytest.approx([float(t.cost_usd(DAY_S)) for t in each])
    assert list(tariff.wall_s(DAY_S)) == pytest.approx([float(t.wall_s(DAY_S)) for t in each])


def test_a_tariff_waits_without_paying() -> None:
    tariff = spot_tariff(2.0, interruption(6, 2))
    assert float(tariff.wall_s(DAY_S)) == pytest.approx(float(tariff.paid_s(DAY_S)) * 8 / 6)


def test_what_is_measured_comes_first_and_holds_where_it_was_measured() -> None:
    west = scenarios_of(offer("aws", "p3.2xlarge", "us-west-2"))
    assert list(west) == [MEASURED, PESSIMISTIC, USUAL, OPTIMISTIC]
    assert west[MEASURED].source_class == MEASURED
    assert west[MEASURED].mean_run_s == pytest.approx(math.sqrt(2.7 * 9.8) * HOUR_S)
    assert 0.72 < west[MEASURED].availability_frac < 0.91
    east = interruption_of(offer("aws", "p3.2xlarge", "us-east-1"))
    assert 0.17 < east.availability_frac < 0.59
    for elsewhere in (offer("aws", "p3.2xlarge", "eu-west-1"), offer("gcp", "p3.2xlarge", "us-west-2")):
        assert interruption_of(elsewhere) == ASSUMED
    assert ASSUMED.source_class == "assumed"


def test_the_advisor_is_shown_and_not_planned_with() -> None:
    row = offer("aws", "p5en.48xlarge", "us-east-2")
    assert list(scenarios_of(row)) == [ADVISOR, PESSIMISTIC, USUAL, OPTIMISTIC]
    assert interruption_of(row) == ASSUMED
    assert ADVISOR not in scenarios_of(offer("aws", "g5.xlarge"))


def test_the_advisors_open_bucket_says_nothing() -> None:
    month_h = 365.25 * 24 / 12
    assert advisor_run_s((0, 0, 0, 0, 33)) is None
    assert advisor_run_s((1, 0, 0, 0, 0)) == pytest.approx(-month_h * HOUR_S / math.log(0.95))
    assert advisor_run_s((1, 1, 5, 0, 1)) == pytest.approx(-month_h * HOUR_S / math.log(0.85))


def test_a_user_knows_better() -> None:
    known = overridden(ASSUMED, InterruptionOverride(mean_run_s=7200.0))
    assert (known.mean_run_s, known.mean_wait_s, known.source_class) == (7200.0, ASSUMED.mean_wait_s, GIVEN)
    saves = overridden(ASSUMED, InterruptionOverride(save_s=5.0))
    assert (saves.save_s, saves.source_class) == (5.0, "assumed")
    assert overridden(ASSUMED, InterruptionOverride()) == ASSUMED


@pytest.mark.parametrize(
    ("key", "value"),
    [("mean_run_s", 0.0), ("mean_run_s", -1.0), ("mean_run_s", math.nan), ("save_s", -1.0), ("restart_s", math.inf)],
)
def test_times_that_cannot_be_are_refused(key, value) -> None:
    with pytest.raises(InvalidInputError, match=rf"market\.spot\.{key.removesuffix('_s')} is"):
        overridden(ASSUMED, InterruptionOverride(**{key: value}))


def test_every_fact_has_a_source_and_a_date() -> None:
    facts = spot_facts()
    rows = [facts.lifetimes, facts.assumed, *facts.measured.values(), *facts.advisor.values()]
    assert all(row.source and len(row.as_of) == 10 for row in rows)
    assert all(case.source.startswith("assumed") for case in facts.assumed.cases.values())


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('run = "6h"', 'run = "6 parsecs"', "parsecs"),
        ('run = "6h"', 'run = "-6h"', "no time above 0"),
        ('run = "6h"', 'run = "6h"\nruns = "6h"', "unknown key 'assumed.cases.usual.runs'"),
        ("availability = [0.72, 0.91]", "availability = [0.91, 0.72]", "two fractions in order"),
        ("availability = [0.72, 0.91]", "", "one of wait and availability"),
        ("regions_by_bucket = [2, 5, 2, 1, 1]", "regions_by_bucket = [0, 0, 0, 0, 0]", "counts no region"),
    ],
)
def test_a_fault_in_the_facts_is_named(tmp_path, old, new, named) -> None:
    from rigwise.facts.catalogue import DATA

    text = (DATA / "spot.toml").read_text(encoding="utf-8")
    assert old in text, "the test no longer fits the data"
    file = tmp_path / "spot.toml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=named):
        read_spot_facts(file)


def test_the_sentence_for_a_plan() -> None:
    words = in_words(ASSUMED, 2)
    assert "one of the machines is taken away every 3.00 h (assumed)" in words
    assert f"{time_factor(ASSUMED, 2) * wait_factor(ASSUMED, 2):.2f} x as long" in words
