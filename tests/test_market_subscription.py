"""Subscriptions: work over sessions and weeks, fees and units, and plans as quotes."""

import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.facts.catalogue import DATA, device
from rigwise.facts.offer import Offer
from rigwise.facts.subscription import Subscription, read_subscriptions, subscriptions
from rigwise.market.offers import SUBSCRIPTION, Rules
from rigwise.market.sessions import WEEK_S, sessions
from rigwise.market.subscription import MONTH_S, subscription_quotes, subscription_tariff
from rigwise.units import DAY_S, HOUR_S

TODAY = date(2026, 3, 1)


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
    tariff = replace(subscription_tariff(plan()), session_s=60.0, restart_s=90.0)
    assert tariff.wall_s(HOUR_S) == tariff.cost_usd(HOUR_S) == math.inf
    assert tariff.wall_s(59.0) == 59.0


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
    costs = subscription_tariff(plan()).cost_usd(works)
    assert list(costs) == [float(subscription_tariff(plan()).cost_usd(work)) for work in works]


def test_limits_of_several_offers_at_once() -> None:
    caps, quotas = (
        np.array([12.0, math.inf, 12.0, math.inf]) * HOUR_S,
        np.array([30.0, 30.0, math.inf, math.inf]) * HOUR_S,
    )
    many = sessions(np.array([[40.0], [1.0]]) * HOUR_S, caps, quotas, 360.0)
    for i, work_h in enumerate((40.0, 1.0)):
        for j in range(4):
            one = sessions(work_h * HOUR_S, caps[j], quotas[j], 360.0)
            assert (many.wall_s[i, j], many.held_s[i, j]) == (one.wall_s, one.held_s)


def exact_usd(one, held_s, wall_s):
    """Whole months of the fee, and the units beyond those it includes."""
    months = max(math.ceil(wall_s / MONTH_S - 1e-9), 1)
    beyond = max((one.units_per_h or 0.0) * held_s / HOUR_S - months * one.units_per_month, 0.0)
    return months * one.usd_per_month + beyond * (one.usd_per_unit or 0.0)


def test_fees_and_units_by_hand() -> None:
    # 2 units an hour, 100 of them in the fee of $10, further ones at $0.1.
    tariff = subscription_tariff(plan())
    assert float(tariff.cost_usd(10 * HOUR_S)) == 10
    assert float(tariff.cost_usd(50 * HOUR_S)) == 10
    assert float(tariff.cost_usd(80 * HOUR_S)) == pytest.approx(10 + 60 * 0.1)
    # Six weeks are two months: two fees and 200 units.
    assert float(tariff.cost_usd(MONTH_S * 1.4)) == pytest.approx(20 + (2 * MONTH_S * 1.4 / HOUR_S - 200) * 0.1)
    assert float(subscription_tariff(plan(units_per_h=None)).cost_usd(300 * HOUR_S)) == 10


@given(
    work_h=st.floats(0.1, 3000),
    fee=st.floats(10, 30),
    restart_h=st.floats(0, 1),
    session_h=st.one_of(st.just(math.inf), st.floats(2, 24)),
    quota_h=st.one_of(st.just(math.inf), st.floats(2, 60)),
)
def test_the_tariff_is_the_exact_sum(work_h, fee, restart_h, session_h, quota_h) -> None:
    one, work_s = plan(usd_per_month=fee), work_h * HOUR_S
    limits = {"session_s": session_h * HOUR_S, "quota_s": quota_h * HOUR_S, "restart_s": restart_h * HOUR_S}
    tariff = replace(subscription_tariff(one), startup_s=restart_h * HOUR_S, **limits)
    stretch = sessions(work_s, *limits.values())
    assert float(tariff.wall_s(work_s)) == pytest.approx(float(stretch.wall_s), rel=1e-9)
    expected = exact_usd(one, float(stretch.held_s), float(stretch.wall_s))
    assert float(tariff.cost_usd(work_s)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("changes", [{"usd_per_unit": None}, {"usd_per_unit": 0.2}])
def test_units_that_cost_more_later_are_no_price_of_the_time(changes) -> None:
    with pytest.raises(InvalidInputError, match="further units"):
        subscription_tariff(plan(**changes))
    assert subscription_quotes([plan(**changes)], [], Rules(), TODAY).excluded == {
        "subscription: a plan whose further units cost more than those in its fee": 1
    }


def quoted(*plans, offers=(), **rules):
    return subscription_quotes(plans, offers, Rules(**rules), TODAY)


def test_a_plan_is_a_quote() -> None:
    (quote,) = quoted(plan(session_s=24 * HOUR_S)).quotes
    assert (quote.market, quote.offer.instance, quote.usd_per_h) == (SUBSCRIPTION, "X", 0.2)
    assert (quote.offer.session_cap_s, quote.offer.weekly_quota_s) == (24 * HOUR_S, None)
    assert quote.tariff == subscription_tariff(plan())


@pytest.mark.parametrize(
    ("changes", "rules", "why"),
    [
        ({"as_of": "2025-01-01"}, {}, "price older than 365 d"),
        ({}, {"providers": ("aws",)}, "another provider"),
        ({}, {"regions": ("east",)}, "another region"),
        ({}, {"devices": ("l4",)}, "another device"),
    ],
)
def test_a_plan_that_does_not_count_is_counted(changes, rules, why) -> None:
    found = quoted(plan(**changes), **rules)
    assert (found.quotes, found.excluded) == ((), {f"subscription: {why}": 1})


def test_an_old_plan_counts_where_old_prices_do() -> None:
    assert quoted(plan(as_of="2025-01-01"), max_age_s=900 * DAY_S).quotes


@pytest.mark.parametrize(("as_of", "kept"), [("2025-12-31", True), ("2026-01-01", False), ("2026-02-01", False)])
def test_a_free_plan_gives_way_to_an_offer_that_is_no_older(as_of, kept) -> None:
    row = Offer(
        provider="x", instance="free", region="", device="t4", accelerator="T4", accel_count=1, accel_memory_bytes=None,
        vcpus=None, memory_bytes=None, disk_bytes=None, link="", inter_node_bytes_per_s=None, price_usd_h=0.0,
        spot_price_usd_h=None, as_of=as_of, source="a test",
    )  # fmt: skip
    free = plan(usd_per_month=0.0, units_per_month=0.0, units_per_h=None, session_s=12 * HOUR_S)
    assert bool(quoted(free, offers=[row]).quotes) == kept
    assert quoted(plan(), offers=[row]).quotes


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
