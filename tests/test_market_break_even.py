"""Buying against renting: break-even counted in work, the founding notes' arithmetic, and the split of a load."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.market.break_even import (
    WEEKS,
    Machine,
    Rent,
    UnitCosts,
    break_even,
    break_even_s,
    buy_or_rent,
    buy_some_rent_the_rest,
    months_to_break_even,
    rent_of,
    sensitivity,
    split_until,
)
from rigwise.market.ownership import (
    MONTH_H,
    Conditions,
    Depreciation,
    Loan,
    Purchase,
    hours_of,
    running_usd_per_h,
    total_cost,
)
from rigwise.market.shelf import PricedPart
from rigwise.report.break_even_text import break_even_document, break_even_text
from rigwise.units import HOUR_S
from rigwise.workload.job import Horizon

FREE = Conditions(usd_per_kwh=0.0, depreciation=Depreciation(first_drop_frac=1.0))
RIG = Purchase(price_usd=2800.0, host_w=90.0, psu_efficiency_frac=0.9)
TWO_YEARS = Horizon(months=24.0, hours_per_week=20.0)

# The founding notes of 2018: docs/founding_notes.md, rent and buy.

SERVER = Purchase(price_usd=8500.0, host_w=250.0, psu_efficiency_frac=0.9)
K80S = Rent(usd_per_h=4 * 0.90, name="4 x K80")
#: 45 s for a batch of 32 against 15 s for one of 64.
SIX_TIMES = (45 / 32) / (15 / 64)


def test_four_titan_x_against_four_k80_on_the_clock():
    """$8,500 / $3.60 = 2,361 h, about 100 days: no electricity, nothing for a resale, a K80 as quick."""
    even = break_even(SERVER, FREE, 4 * 250.0, K80S, TWO_YEARS)
    assert even.clock_s / HOUR_S == pytest.approx(8500 / 3.60)
    assert round(even.clock_s / HOUR_S) == 2361
    assert even.clock_s / HOUR_S / 24 == pytest.approx(98.4, abs=0.1)


def test_the_same_on_the_work_when_the_k80_is_six_times_slower():
    assert SIX_TIMES == 6
    even = break_even(SERVER, FREE, 4 * 250.0, replace(K80S, work_ratio_frac=SIX_TIMES), TWO_YEARS)
    assert even.work_s / HOUR_S == pytest.approx(8500 / 21.60)
    assert round(even.work_s / HOUR_S) == 394
    assert round(even.rented_s / HOUR_S) == 2361


def test_a_week_on_the_titans_is_six_weeks_and_3600_dollars_on_the_k80s():
    job = rent_of("4 x K80", cost_usd=168 * SIX_TIMES * 3.60, rented_s=168 * SIX_TIMES * HOUR_S, owned_s=168 * HOUR_S)
    assert job.work_ratio_frac * 168 == pytest.approx(1008)
    assert job.usd_per_own_h * 168 == pytest.approx(3628.8)


def test_electricity_moves_it_by_some_per_cent_and_our_ratio_by_more():
    plugged = replace(FREE, usd_per_kwh=0.15)
    six = break_even(SERVER, plugged, 1000.0, replace(K80S, work_ratio_frac=6.0), TWO_YEARS)
    assert running_usd_per_h(SERVER, plugged, 1000.0) == pytest.approx(1250 / 0.9 / 1000 * 0.15)
    assert six.work_s / HOUR_S == pytest.approx(8500 / (21.60 - 0.20833), rel=1e-4)
    assert 1 < six.work_s / HOUR_S / 393.5 < 1.02
    three = break_even(SERVER, plugged, 1000.0, replace(K80S, work_ratio_frac=3.0), TWO_YEARS)
    assert round(three.work_s / HOUR_S) == 803


def test_a_1700_dollar_box_against_70_dollars_a_month():
    """Two years, if it stands for nothing at the end and draws nothing."""
    assert [round(1700 / usd, 1) for usd in (70, 60)] == [24.3, 28.3]
    hours = 70 / 0.90 / (MONTH_H / 168)
    box = Purchase(price_usd=1700.0, host_w=100.0, psu_efficiency_frac=0.9)
    months = months_to_break_even(box, FREE, 250.0, Rent(usd_per_h=0.90), hours)
    assert months == pytest.approx(1700 / 70, rel=1e-6)
    plugged = months_to_break_even(box, replace(FREE, usd_per_kwh=0.15), 250.0, Rent(usd_per_h=0.90), hours)
    assert plugged == pytest.approx(1700 / (70 - 70 / 0.90 * 0.35 / 0.9 * 0.15), rel=1e-6)


def test_own_when_you_train_over_1500_hours():
    """On the clock it holds if the box brings a fifth of its price; on the work it is 500 to 800 hours."""
    assert break_even_s(1700 * 0.8, 0.90) / HOUR_S == pytest.approx(1511, abs=1)
    running = 0.35 / 0.9 * 0.15
    on_the_work = [float(break_even_s(1700 * 0.8, 0.90, running, ratio)) / HOUR_S for ratio in (2.0, 3.0)]
    assert [round(hours) for hours in on_the_work] == [781, 515]


def test_the_rig_of_the_planning_notes_against_community_and_secure_prices():
    """$2,800, $0.09 an hour, no resale or 40 %: 11,200 and 6,720 h against $0.34, 4,670 and 2,800 against $0.69."""
    hours = [float(break_even_s(2800 * keep, rent, 0.09)) / HOUR_S for rent in (0.34, 0.69) for keep in (1.0, 0.6)]
    assert hours == pytest.approx([11_200, 6_720, 4_667, 2_800], rel=1e-3)


# Laws.

purchases = st.builds(
    Purchase, price_usd=st.floats(10, 1e5), host_w=st.floats(0, 500), psu_efficiency_frac=st.floats(0.5, 1.0)
)
homes = st.builds(
    Conditions,
    usd_per_kwh=st.floats(0, 0.5),
    tax_frac=st.floats(0, 0.3),
    depreciation=st.builds(Depreciation, first_drop_frac=st.floats(0, 0.9), yearly_loss_frac=st.floats(0, 0.9)),
    ops_usd_per_month=st.floats(0, 50),
    loan=st.none() | st.builds(Loan, rate_frac=st.floats(0, 0.2), months=st.floats(6, 60)),
)
rents = st.builds(Rent, usd_per_h=st.floats(0, 20), work_ratio_frac=st.floats(0.1, 10))
horizons = st.builds(Horizon, months=st.floats(1, 60), hours_per_week=st.floats(1, 168))
loads = st.floats(0, 2000)


@given(purchases, homes, loads, rents, horizons)
def test_at_break_even_both_cost_the_same_and_on_either_side_they_do_not(purchase, home, load_w, rent, horizon):
    even = break_even(purchase, home, load_w, rent, horizon)
    assume(0.01 < even.utilisation_frac < 0.5)

    def excess(share):
        part = replace(horizon, hours_per_week=168 * share)
        return total_cost(purchase, home, load_w, part).total_usd - rent.usd_per_own_h * hours_of(part)

    scale = purchase.price_usd
    assert excess(even.utilisation_frac) == pytest.approx(0, abs=1e-6 * scale)
    assert excess(even.utilisation_frac * 0.9) > 0 > excess(even.utilisation_frac * 1.1)
    assert even.rented_s == pytest.approx(even.work_s * rent.work_ratio_frac)


@given(purchases, homes, loads, rents, horizons)
def test_never_is_said_with_a_reason_exactly_when_renting_costs_no_more_than_running(
    purchase, home, load_w, rent, horizon
):
    even = break_even(purchase, home, load_w, rent, horizon)
    running = float(running_usd_per_h(purchase, home, load_w))
    no_gain = rent.usd_per_own_h - running <= 1e-12 * max(running, 1.0)
    assert math.isinf(even.work_s) == no_gain == bool(even.reason)


@given(purchases, homes, loads, rents, st.floats(1, 168))
def test_the_month_of_break_even_is_the_first_and_the_only_one(purchase, home, load_w, rent, hours):
    months = months_to_break_even(purchase, home, load_w, rent, hours)

    def excess(m):
        horizon = Horizon(months=m, hours_per_week=hours)
        return total_cost(purchase, home, load_w, horizon).total_usd - rent.usd_per_own_h * hours_of(horizon)

    tolerance = 1e-6 * purchase.price_usd
    if math.isinf(months):
        assert min(excess(m) for m in range(1, 241)) >= -tolerance
        return
    assert excess(months) <= tolerance
    assert all(excess(m) >= -tolerance for m in range(1, 241) if m < months)
    assert all(excess(m) <= tolerance for m in range(1, 241) if m > months)


@given(purchases, homes, loads, rents)
def test_owning_gains_on_renting_with_every_hour_or_loses_with_every_hour(purchase, home, load_w, rent):
    rows = sensitivity(purchase, home, load_w, rent, 24.0)
    assert [row.hours_per_week for row in rows] == list(WEEKS)
    excess = [row.own_usd - row.rent_usd for row in rows]
    slope = float(running_usd_per_h(purchase, home, load_w)) - rent.usd_per_own_h
    steps = [b - a for a, b in itertools.pairwise(excess)]
    assert all(step * slope >= -1e-6 * purchase.price_usd for step in steps)


units = st.builds(
    UnitCosts, fixed_usd=st.floats(0, 1e4), own_usd_per_h=st.floats(0, 2), rent_usd_per_h=st.floats(0, 10)
)


@given(st.lists(st.floats(0, 900), max_size=30), units, st.floats(1, 168))
def test_no_other_number_of_machines_is_cheaper(demand, costs, available):
    split = buy_some_rent_the_rest([hours * HOUR_S for hours in demand], costs, available * HOUR_S)

    def cost(machines):
        owned = sum(min(hours, machines * available) for hours in demand)
        rented = sum(demand) - owned
        return machines * costs.fixed_usd + owned * costs.own_usd_per_h + rented * costs.rent_usd_per_h

    most = math.ceil(max(demand, default=0) / available) + 1
    assume(most < 2000)
    best = min(cost(n) for n in range(most + 1))
    assert split.cost_usd == pytest.approx(best, rel=1e-9, abs=1e-6)
    assert split.cost_usd == pytest.approx(cost(split.machines), rel=1e-9, abs=1e-6)
    assert (split.owned_s + split.rented_s) / HOUR_S == pytest.approx(sum(demand), rel=1e-9, abs=1e-6)


@given(st.floats(0, 1e4), st.floats(0, 1e4), units)
def test_no_other_share_of_a_job_is_cheaper(work_h, deadline_h, costs):
    split = split_until(work_h * HOUR_S, deadline_h * HOUR_S, costs)
    most = min(work_h, deadline_h)
    shares = [work_h * costs.rent_usd_per_h]
    shares += [
        costs.fixed_usd + x * costs.own_usd_per_h + (work_h - x) * costs.rent_usd_per_h
        for x in (most * i / 50 for i in range(51))
    ]
    assert split.cost_usd == pytest.approx(min(shares), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("demand", [[math.nan], [math.inf]])
def test_a_load_that_is_no_number_is_refused(demand):
    with pytest.raises(InvalidInputError, match="finite"):
        buy_some_rent_the_rest(demand, UnitCosts(fixed_usd=1.0, own_usd_per_h=0.0, rent_usd_per_h=1.0))


@pytest.mark.parametrize(("rented_s", "owned_s"), [(0.0, 1.0), (1.0, 0.0), (math.nan, 1.0)])
def test_a_job_that_takes_no_time_has_no_rent(rented_s, owned_s):
    with pytest.raises(InvalidInputError, match="takes"):
        rent_of("x", 1.0, rented_s, owned_s)


# What is shown.


def machine(**changes):
    return Machine(
        name="PC with RTX 4090", purchase=RIG, conditions=Conditions(usd_per_kwh=0.15), load_w=450.0, **changes
    )


PARTS = (PricedPart(category="gpu", name="RTX 4090", count=2, price_usd=1820.0, as_of="2025-07-23", source="x"),)
ASSUMED = ("electricity at $0.150 a kWh, " + "and a long sentence after it " * 4,)


@given(rents, horizons)
def test_the_text_keeps_to_80_columns_and_the_document_to_finite_numbers(rent, horizon):
    answer = buy_or_rent(
        machine(), replace(rent, name="a provider with a long name and a longer region"), horizon, ASSUMED
    )
    text = break_even_text(answer, PARTS)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text == text.rstrip() + "\n"
    document = json.loads(json.dumps(break_even_document(answer, PARTS), allow_nan=False))
    assert document["schema"] == "rigwise.plan.buying/1"
    assert document["own"]["total_usd"] == pytest.approx(answer.own.total_usd)
    assert len(document["usage"]) == len(WEEKS)


def test_the_answer_names_the_cheaper_way_and_what_is_saved():
    dear = break_even_text(buy_or_rent(machine(), Rent(usd_per_h=5.0), TWO_YEARS), brief=True)
    assert "  buy  " in dear
    cheap = break_even_text(buy_or_rent(machine(), Rent(usd_per_h=0.05), TWO_YEARS))
    assert "  rent  " in cheap
    assert "never: to run one's own costs $0.090 an hour, to rent the same work $0.050" in cheap


@pytest.mark.parametrize(
    "rent", [Rent(usd_per_h=-1.0), Rent(usd_per_h=math.nan), Rent(usd_per_h=1.0, work_ratio_frac=0.0)]
)
def test_a_rent_that_cannot_be_is_refused(rent):
    with pytest.raises(InvalidInputError, match="rent is"):
        buy_or_rent(machine(), rent, TWO_YEARS)
