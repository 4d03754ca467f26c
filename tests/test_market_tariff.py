"""Tariffs: time into money, in sessions, weeks and periods; monotone, and no cheaper divided than whole."""

import math
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.market.sessions import WEEK_S
from rigwise.market.tariff import Tariff, as_row, side_by_side

HOUR_S = 3600.0
TARIFFS = st.builds(
    Tariff,
    usd_per_h=st.floats(0, 10),
    fixed_usd=st.floats(0, 50),
    capital_usd=st.floats(0, 50),
    idle_usd_per_h=st.sampled_from([0.0, 0.01]),
    startup_s=st.floats(0, 1800),
    time_factor=st.floats(1, 2),
    wait_factor=st.floats(1, 3),
    increment_s=st.sampled_from([0.0, 1.0, 60.0, 3600.0]),
    minimum_s=st.sampled_from([0.0, 60.0, 86400.0]),
    period_s=st.sampled_from([math.inf, 30 * 86400.0]),
    session_s=st.sampled_from([math.inf, 6 * HOUR_S, 12 * HOUR_S]),
    quota_s=st.sampled_from([math.inf, 20 * HOUR_S, 30 * HOUR_S]),
    restart_s=st.floats(0, 1800),
)
WORK_S = st.floats(0, 1000 * HOUR_S)


def test_an_hour_is_an_hour() -> None:
    plain = Tariff(usd_per_h=2.0)
    assert (plain.wall_s(HOUR_S), plain.cost_usd(HOUR_S), plain.sessions(HOUR_S)) == (HOUR_S, 2.0, 1.0)


@pytest.mark.parametrize(("work_s", "billed_s"), [(10.0, 300.0), (300.0, 300.0), (301.0, 360.0), (360.0, 360.0)])
def test_steps_and_minimum(work_s, billed_s) -> None:
    assert Tariff(usd_per_h=1.0, increment_s=60.0, minimum_s=300.0).paid_s(work_s) == billed_s


def test_sessions_by_hand() -> None:
    """25 h of work, 6 min to start, 12 h a session, 12 min to go on: three sessions, two of which go on."""
    tariff = Tariff(usd_per_h=1.0, startup_s=360.0, session_s=12 * HOUR_S, restart_s=720.0)
    assert tariff.sessions(25 * HOUR_S) == 3
    assert tariff.wall_s(25 * HOUR_S) == 25.5 * HOUR_S
    assert tariff.cost_usd(25 * HOUR_S) == 25.5


def test_the_rest_of_a_quota_waits_for_the_next_week() -> None:
    tariff = Tariff(usd_per_h=1.0, quota_s=30 * HOUR_S, idle_usd_per_h=0.5)
    assert tariff.wall_s(30 * HOUR_S) == 30 * HOUR_S
    assert tariff.wall_s(40 * HOUR_S) == WEEK_S + 10 * HOUR_S
    # Held for 40 h, and idle for the rest of the first week.
    assert tariff.cost_usd(40 * HOUR_S) == 40 + 0.5 * (7 * 24 - 30)


def test_a_fee_of_each_month() -> None:
    month_s = 30 * 86400.0
    tariff = Tariff(usd_per_h=0.0, fixed_usd=10.0, period_s=month_s)
    assert [float(tariff.cost_usd(n * month_s)) for n in (0.1, 1.0, 1.1, 3.0)] == [10, 10, 20, 30]


@given(TARIFFS, WORK_S, WORK_S)
def test_more_work_is_never_sooner_done_or_cheaper(tariff, work_s, more_s) -> None:
    """What makes a bound of the time a bound of the cost."""
    for figure in (tariff.wall_s, tariff.paid_s, tariff.cost_usd, tariff.outlay_usd):
        assert figure(work_s) <= figure(work_s + more_s) * (1 + 1e-8) + 1e-6


@given(TARIFFS, WORK_S)
def test_a_limit_never_makes_it_quicker_or_cheaper(tariff, work_s) -> None:
    changes = {"session_s": math.inf, "quota_s": math.inf}
    free = Tariff(**{f.name: changes.get(f.name, getattr(tariff, f.name)) for f in fields(Tariff)})
    assert free.wall_s(work_s) <= tariff.wall_s(work_s) * (1 + 1e-9) + 1e-6
    assert free.cost_usd(work_s) <= tariff.cost_usd(work_s) * (1 + 1e-8) + 1e-6
    assert tariff.paid_s(work_s) >= work_s * tariff.time_factor * (1 - 1e-8)


@given(TARIFFS, WORK_S)
def test_the_terms_of_a_cost_add_up_and_none_is_negative(tariff, work_s) -> None:
    terms = tariff.terms_usd(work_s)
    assert sum(terms.values()) == pytest.approx(float(tariff.cost_usd(work_s)))
    assert min(terms.values()) >= -1e-6
    assert terms["rounding"] <= tariff.usd_per_h * tariff.increment_s / HOUR_S + 1e-6


@given(st.lists(TARIFFS, min_size=1, max_size=4), st.lists(WORK_S, min_size=1, max_size=3))
def test_a_row_is_its_members(tariffs, works_s) -> None:
    """To the last digit: the search and its checker put prices side by side in different rows."""
    row = side_by_side([as_row(tariffs[:1]), as_row(tariffs[1:])])
    work_s = np.array(works_s)[:, None]
    for name in ("wall_s", "paid_s", "cost_usd", "outlay_usd"):
        table = np.broadcast_to(getattr(row, name)(work_s), (len(works_s), len(tariffs)))
        for j, tariff in enumerate(tariffs):
            assert list(table[:, j]) == [float(getattr(tariff, name)(one)) for one in works_s]
            assert list(table[:, j]) == list(np.ravel(getattr(row.pick(np.array([j])), name)(work_s)))


def test_what_is_not_known_stays_unknown() -> None:
    row = as_row([Tariff(usd_per_h=1.0), Tariff(usd_per_h=1.0, session_s=HOUR_S, quota_s=HOUR_S, restart_s=1.0)])
    assert np.isnan(row.wall_s(math.nan)).all()
    assert np.isnan(row.cost_usd(np.array([math.nan])))[0]


def test_the_shortest_job_is_billed_one_step() -> None:
    hourly = Tariff(usd_per_h=2.0, increment_s=HOUR_S)
    assert [float(hourly.paid_s(s)) for s in (1e-45, 1.0, HOUR_S, HOUR_S + 1.0)] == [HOUR_S, HOUR_S, HOUR_S, 2 * HOUR_S]
