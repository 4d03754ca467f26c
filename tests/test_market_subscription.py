"""Subscriptions: work over sessions and weeks, fees and units, and the tariff beside the exact sum."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.facts.catalogue import DATA, device
from rigwise.facts.subscription import Subscription, read_subscriptions, subscriptions
from rigwise.market.subscription import (
    MONTH_S,
    WEEK_S,
    sessions,
    subscription_cost_usd,
    subscription_stretch,
    subscription_tariff,
)
from rigwise.units import HOUR_S


def plan(**changes) -> Subscription:
    plain = {
        "id": "x", "provider": "x", "name": "X", "device": "t4", "count": 1, "usd_per_month": 10.0,
        "units_per_month": 100.0, "usd_per_unit": 0.1, "units_per_h": 2.0, "session_s": None,
        "weekly_quota_s": None, "as_of": "2026-01-01", "source": "a test",
    }  # fmt: skip
    return Subscription(**{**plain, **changes})


def walked(work_s, cap_s, quota_s, restart_s):
    """The same by walking through sessions and weeks one by one."""
    now, held, used, count = 0.0, 0.0, 0.0, 0
    while True:
        length = min(cap_s, quota_s - used)
        if length <= restart_s:
            now = (math.floor(now / WEEK_S + 1e-12) + 1) * WEEK_S
            used = 0.0
            continue
        count += 1
        spent = min(length, restart_s + work_s)
        work_s -= spent - restart_s
        now, held, used = now + spent, held + spent, used + spent
        if work_s <= 1e-6:
            return now, held, count


@given(
    work_h=st.floats(0.1, 400),
    cap_h=st.floats(0.5, 24),
    quota_h=st.floats(1, 60),
    restart_h=st.floats(0, 0.4),
)
def test_sessions_are_those_of_a_walk_through_them(work_h, cap_h, quota_h, restart_h) -> None:
    quota_h = max(quota_h, 0.5)
    rest_h = quota_h % cap_h
    # A stretch that ends with a session to within rounding may count one more or less.
    assume(abs(rest_h - restart_h) > 1e-6 and min(rest_h, cap_h - rest_h) > 1e-6)
    stretch = sessions(work_h * HOUR_S, cap_h * HOUR_S, quota_h * HOUR_S, restart_h * HOUR_S)
    wall_s, held_s, count = walked(work_h * HOUR_S, cap_h * HOUR_S, quota_h * HOUR_S, restart_h * HOUR_S)
    if int(stretch.sessions) == count:
        assert float(stretch.wall_s) == pytest.approx(wall_s, rel=1e-9)
        assert float(stretch.held_s) == pytest.approx(held_s, rel=1e-9)
    else:
        assert abs(int(stretch.sessions) - count) == 1
        assert float(stretch.held_s) == pytest.approx(held_s, abs=restart_h * HOUR_S + 1e-3)


def test_by_hand() -> None:
    """40 h on Kaggle: 30 h in three sessions of the first week, 10 h at the start of the second."""
    stretch = sessions(40 * HOUR_S, 12 * HOUR_S, 30 * HOUR_S)
    assert float(stretch.wall_s) == WEEK_S + 10 * HOUR_S
    assert (float(stretch.held_s), int(stretch.sessions)) == (40 * HOUR_S, 4)
    once = sessions(10 * HOUR_S, 12 * HOUR_S, 30 * HOUR_S)
    assert (float(once.wall_s), int(once.sessions)) == (10 * HOUR_S, 1)
    free = sessions(1000 * HOUR_S)
    assert (float(free.wall_s), int(free.sessions)) == (1000 * HOUR_S, 1)


def test_a_session_shorter_than_its_restart_gets_nowhere() -> None:
    assert math.isinf(float(sessions(HOUR_S, cap_s=60.0, restart_s=60.0).wall_s))
    assert math.isinf(float(subscription_cost_usd(plan(session_s=60.0), HOUR_S, restart_s=90.0)))
    assert subscription_tariff(plan(session_s=60.0), restart_s=90.0).time_factor == math.inf


@given(
    work_h=st.floats(0.1, 400), more_h=st.floats(0, 50), cap_h=st.floats(0.5, 24), quota_h=st.floats(1, 60),
    restart_h=st.floats(0, 0.4),
)  # fmt: skip
def test_more_work_never_ends_sooner(work_h, more_h, cap_h, quota_h, restart_h) -> None:
    limits = (cap_h * HOUR_S, quota_h * HOUR_S, restart_h * HOUR_S)
    one, other = sessions(work_h * HOUR_S, *limits), sessions((work_h + more_h) * HOUR_S, *limits)
    assert work_h * HOUR_S <= one.held_s * (1 + 1e-9)
    assert one.held_s <= one.wall_s * (1 + 1e-9)
    assert one.wall_s <= other.wall_s * (1 + 1e-9)
    assert one.held_s <= other.held_s * (1 + 1e-9)


def test_arrays() -> None:
    works = np.array([1.0, 20.0, 40.0, 400.0]) * HOUR_S
    many = sessions(works, 12 * HOUR_S, 30 * HOUR_S, 360.0)
    for i, work in enumerate(works):
        one = sessions(work, 12 * HOUR_S, 30 * HOUR_S, 360.0)
        assert (many.wall_s[i], many.held_s[i], many.sessions[i]) == (one.wall_s, one.held_s, one.sessions)
    costs = subscription_cost_usd(plan(), works)
    assert list(costs) == [float(subscription_cost_usd(plan(), work)) for work in works]


def test_fees_and_units_by_hand() -> None:
    # 2 units an hour, 100 of them in the fee of $10, further ones at $0.1.
    assert float(subscription_cost_usd(plan(), 10 * HOUR_S)) == 10
    assert float(subscription_cost_usd(plan(), 50 * HOUR_S)) == 10
    assert float(subscription_cost_usd(plan(), 80 * HOUR_S)) == pytest.approx(10 + 60 * 0.1)
    # Six weeks are two months: two fees and 200 units.
    assert float(subscription_cost_usd(plan(), MONTH_S * 1.4)) == pytest.approx(
        20 + (2 * MONTH_S * 1.4 / HOUR_S - 200) * 0.1
    )
    assert math.isinf(float(subscription_cost_usd(plan(usd_per_unit=None), 51 * HOUR_S)))
    assert float(subscription_cost_usd(plan(units_per_h=None), 300 * HOUR_S)) == 10


@given(work_h=st.floats(0.1, 600), restart_h=st.floats(0, 1), session_h=st.one_of(st.none(), st.floats(2, 24)))
def test_the_tariff_is_at_most_one_restart_above_the_exact_sum(work_h, restart_h, session_h) -> None:
    work_s, restart_s = work_h * HOUR_S, restart_h * HOUR_S
    one = plan(session_s=None if session_h is None else session_h * HOUR_S)
    stretch = subscription_stretch(one, work_s, restart_s)
    assume(float(stretch.wall_s) < MONTH_S)
    tariff = subscription_tariff(one, restart_s)
    over_s = float(tariff.wall_s(work_s)) - float(stretch.wall_s)
    assert -1e-6 <= over_s <= restart_s * (1 + 1e-9) + 1e-6
    over_usd = float(tariff.cost_usd(work_s)) - float(subscription_cost_usd(one, work_s, restart_s))
    assert -1e-9 <= over_usd <= 0.2 * restart_h + 1e-9


def test_every_plan_has_a_source_a_date_and_known_devices() -> None:
    rows = subscriptions()
    assert {row.provider for row in rows} == {"colab", "kaggle", "paperspace"}
    for row in rows:
        assert row.source
        assert len(row.as_of) == 10
        for name in row.device.split("|"):
            assert device(name).id == name


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('session = "12h"', 'session = "12 blinks"', "blinks"),
        ('session = "12h"', 'session = "0h"', "no time above 0"),
        ("usd_per_month = 9.99", "usd_per_month = -9.99", "below what it can be"),
        ("usd_per_month = 9.99", "usd_per_month = nan", "nan"),
        ("usd_per_month = 9.99", "usd_per_week = 9.99\nusd_per_month = 9.99", "unknown key"),
    ],
)
def test_a_fault_in_the_plans_is_named(tmp_path, old, new, named) -> None:
    text = (DATA / "subscriptions.toml").read_text(encoding="utf-8")
    assert old in text, "the test no longer fits the data"
    file = tmp_path / "subscriptions.toml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=named):
        read_subscriptions(file)
