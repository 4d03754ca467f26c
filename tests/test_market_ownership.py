"""What owning costs: terms that add up, a tariff that shares them out, machines from the parts table."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError, MissingFactError, UnknownNameError
from rigwise.facts.catalogue import device, parts
from rigwise.facts.electricity import psu_efficiency_frac
from rigwise.facts.platforms import platform_file
from rigwise.market.break_even import Rent
from rigwise.market.currency import Rates, package_rates
from rigwise.market.home import conditions_at, with_resale
from rigwise.market.ownership import (
    EXPONENTIAL,
    MONTH_H,
    STRAIGHT,
    Conditions,
    Depreciation,
    Loan,
    Purchase,
    annuity_months,
    assumptions,
    hours_of,
    ownership_tariff,
    present_usd,
    standing,
    total_cost,
    wall_w,
)
from rigwise.market.purchase import Offered, offered_quote, purchase_quotes
from rigwise.market.shelf import Wish, price_usd
from rigwise.market.to_buy import against_rent, conditions_of, purchases_for
from rigwise.market.upgrade import owned_tariff, upgrade_quotes
from rigwise.units import DAY_S, GIB, HOUR_S
from rigwise.workload.job import Horizon, Job, OwnedMachine

BOX = Purchase(price_usd=2800.0, host_w=90.0, psu_efficiency_frac=0.9)
HOME = Conditions(usd_per_kwh=0.15)
TODAY = date(2025, 8, 1)
TWO_YEARS = Horizon(months=24.0, hours_per_week=20.0)

fractions = st.floats(0.0, 0.95)
depreciations = st.builds(
    Depreciation,
    first_drop_frac=fractions,
    yearly_loss_frac=fractions,
    shape=st.sampled_from([EXPONENTIAL, STRAIGHT]),
    floor_frac=st.floats(0.0, 0.3),
)
purchases = st.builds(
    Purchase,
    price_usd=st.floats(0, 1e5),
    host_w=st.floats(0, 500),
    psu_efficiency_frac=st.floats(0.5, 1.0),
    idle_w=st.floats(0, 100),
)
homes = st.builds(
    Conditions,
    usd_per_kwh=st.floats(0, 1),
    tax_frac=st.floats(0, 0.3),
    depreciation=depreciations,
    cooling_frac=st.floats(0, 1),
    ops_usd_per_h=st.floats(0, 1),
    ops_usd_per_month=st.floats(0, 100),
    loan=st.none() | st.builds(Loan, rate_frac=st.floats(0, 0.3), months=st.floats(1, 60)),
    discount_frac=st.floats(0, 0.3),
)
horizons = st.builds(Horizon, months=st.floats(1, 60), hours_per_week=st.floats(1, 168))
loads = st.floats(0, 3000)


def test_the_rig_of_the_planning_notes():
    """0.6 kW at the wall at $0.15 is $0.09 an hour: planning section 6 (5)."""
    assert wall_w(BOX, 450.0) == pytest.approx(600.0)
    tariff = ownership_tariff(replace(BOX, price_usd=0.0), HOME, 450.0)
    assert float(tariff.cost_usd(HOUR_S)) == pytest.approx(0.09)


@given(purchases, homes, loads, horizons)
def test_the_terms_add_up_and_none_is_negative(purchase, home, load_w, horizon):
    cost = total_cost(purchase, home, load_w, horizon)
    terms = [getattr(cost, name) for name in type(cost).__dataclass_fields__]
    assert min(terms) >= -1e-6
    assert cost.total_usd == pytest.approx(sum(terms) - 2 * cost.resale_usd, rel=1e-9, abs=1e-6)
    assert cost.resale_usd <= cost.purchase_usd * (1 + 1e-12)


@given(purchases, homes, loads, horizons)
def test_the_hours_of_a_horizon_carry_the_whole_cost_and_no_more(purchase, home, load_w, horizon):
    tariff = ownership_tariff(purchase, home, load_w, horizon)
    everything = float(tariff.cost_usd(hours_of(horizon) * HOUR_S))
    assert everything == pytest.approx(total_cost(purchase, home, load_w, horizon).total_usd, rel=1e-9, abs=1e-6)


@given(purchases, homes, loads, st.none() | horizons, st.floats(0, 1e7))
def test_a_budget_is_held_against_at_least_what_is_paid(purchase, home, load_w, horizon, time_s):
    tariff = ownership_tariff(purchase, home, load_w, horizon)
    draw = wall_w(purchase, load_w, home.cooling_frac) / 1000 * home.usd_per_kwh + home.ops_usd_per_h
    paid = purchase.price_usd * (1 + home.tax_frac) + draw * time_s / HOUR_S
    assert float(tariff.outlay_usd(time_s)) >= paid * (1 - 1e-9)


def test_care_by_the_month_is_paid_and_the_loss_of_value_is_not():
    box = Purchase(price_usd=1000.0, host_w=0.0, psu_efficiency_frac=1.0)
    month = Horizon(months=1.0, hours_per_week=168.0)
    free, cared = (Conditions(usd_per_kwh=0.0, ops_usd_per_month=usd) for usd in (0.0, 30.0))
    whole_s = 365.25 / 12 * 24 * HOUR_S
    outlay = [float(ownership_tariff(box, home, 0.0, month).outlay_usd(whole_s)) for home in (free, cared)]
    assert outlay == pytest.approx([1000.0, 1030.0])


@given(purchases, homes, loads, st.none() | horizons, st.floats(0, 1e7), st.floats(0, 1e7))
def test_more_work_never_costs_less(purchase, home, load_w, horizon, one_s, two_s):
    tariff = ownership_tariff(purchase, home, load_w, horizon)
    low, high = sorted((one_s, two_s))
    assert float(tariff.cost_usd(low)) <= float(tariff.cost_usd(high)) * (1 + 1e-12)
    assert float(tariff.wall_s(low)) <= float(tariff.wall_s(high)) * (1 + 1e-12)


def test_one_job_alone_carries_tax_and_first_drop():
    home = Conditions(usd_per_kwh=0.0, tax_frac=0.19)
    tariff = ownership_tariff(BOX, home, 450.0)
    assert tariff.fixed_usd == pytest.approx(2800 * (0.19 + 0.3))
    assert tariff.capital_usd == pytest.approx(2800 * 0.7)
    year = float(tariff.cost_usd(365.25 * DAY_S))
    assert year == pytest.approx(2800 * 1.19 - 2800 * 0.7 * 0.7)
    worst = max(
        abs(
            float(tariff.cost_usd(months * MONTH_H * HOUR_S))
            - (2800 * 1.19 - 2800 * float(home.depreciation.value_frac(months)))
        )
        for months in range(13)
    )
    assert worst <= 0.013 * 2800


def test_a_horizon_with_fewer_hours_makes_an_hour_dearer():
    rates = [
        ownership_tariff(BOX, HOME, 450.0, Horizon(months=24.0, hours_per_week=hours)).usd_per_h
        for hours in (5.0, 20.0, 80.0, 168.0)
    ]
    assert rates == sorted(rates, reverse=True)


def test_downtime_is_waited_for_and_not_paid():
    whole, down = (ownership_tariff(BOX, replace(HOME, downtime_frac=f), 450.0, TWO_YEARS) for f in (0.0, 0.2))
    assert float(down.wall_s(80.0)) == pytest.approx(100.0)
    assert float(down.cost_usd(80.0)) == pytest.approx(float(whole.cost_usd(80.0)))


@given(depreciations, st.floats(0, 120), st.floats(0, 120))
def test_value_only_falls_and_never_below_its_floor(drop, one, two):
    early, late = sorted((one, two))
    assert 1.0 >= float(drop.value_frac(early)) >= float(drop.value_frac(late)) >= drop.floor_frac


@given(st.floats(0.001, 0.3), st.integers(1, 60), st.integers(0, 90))
def test_a_loan_month_by_month(rate, months, held):
    loan, owed, interest = Loan(rate_frac=rate, months=float(months)), 1000.0, 0.0
    for _ in range(min(held, months)):
        interest += owed * rate / 12
        owed = owed * (1 + rate / 12) - loan.instalment_usd(1000.0)
    assert loan.interest_usd(1000.0, float(held)) == pytest.approx(interest, rel=1e-6, abs=1e-6)
    assert loan.owed_usd(1000.0, float(held)) == pytest.approx(max(owed, 0.0), rel=1e-6, abs=1e-5)


@given(st.integers(1, 120), st.floats(0, 0.5))
def test_an_annuity_month_by_month(months, rate):
    payments = sum((1 + rate) ** (-month / 12) for month in range(1, months + 1))
    assert annuity_months(float(months), rate) == pytest.approx(payments, rel=1e-6)


@given(purchases, homes, loads, horizons)
def test_without_a_rate_the_present_value_is_the_total(purchase, home, load_w, horizon):
    plain = replace(home, discount_frac=0.0)
    total = total_cost(purchase, plain, load_w, horizon).total_usd
    assert present_usd(purchase, plain, load_w, horizon) == pytest.approx(total, rel=1e-6, abs=1e-4)


def test_a_loan_at_the_discount_rate_changes_nothing():
    """The discount rate is a yearly one and a loan's is twelve times a monthly one."""
    yearly = (1 + 0.06 / 12) ** 12 - 1
    own = replace(HOME, discount_frac=yearly)
    lent = replace(own, loan=Loan(rate_frac=0.06, months=36.0))
    assert present_usd(BOX, lent, 450.0, TWO_YEARS) == pytest.approx(present_usd(BOX, own, 450.0, TWO_YEARS))


@given(purchases, homes, st.floats(0, 60), st.floats(0, 60))
def test_what_it_would_bring_today_goes_on_falling_as_before(purchase, home, age, later):
    today, conditions = standing(purchase, home, age, sunk=False)
    was = purchase.price_usd * float(home.depreciation.value_frac(age + later))
    assert today.price_usd * float(conditions.depreciation.value_frac(later)) == pytest.approx(was, rel=1e-6, abs=1e-6)
    gone, bare = standing(purchase, home, age, sunk=True)
    assert gone.price_usd == 0
    assert bare.tax_frac == 0


@pytest.mark.parametrize(
    ("what", "change", "named"),
    [
        ("purchase", {"price_usd": math.nan}, "price_usd"),
        ("purchase", {"price_usd": -1.0}, "price_usd"),
        ("purchase", {"psu_efficiency_frac": 0.0}, "psu_efficiency_frac"),
        ("purchase", {"psu_efficiency_frac": 90.0}, "psu_efficiency_frac"),
        ("conditions", {"usd_per_kwh": math.inf}, "usd_per_kwh"),
        ("conditions", {"tax_frac": 19.0}, "tax_frac"),
        ("conditions", {"downtime_frac": 1.0}, "downtime_frac"),
        ("conditions", {"depreciation": Depreciation(shape="linear")}, "linear"),
        ("conditions", {"depreciation": Depreciation(first_drop_frac=1.1)}, "first_drop_frac"),
        ("conditions", {"loan": Loan(rate_frac=0.05, months=0.0)}, "months"),
        ("horizon", {"months": 0.0}, "months"),
        ("horizon", {"hours_per_week": 169.0}, "hours_per_week"),
        ("horizon", {"hours_per_week": math.nan}, "hours_per_week"),
    ],
)
def test_what_cannot_be_is_refused_by_name(what, change, named):
    given_ = {"purchase": BOX, "conditions": HOME, "horizon": TWO_YEARS}
    given_[what] = replace(given_[what], **change)
    with pytest.raises(InvalidInputError, match=named) as caught:
        ownership_tariff(given_["purchase"], given_["conditions"], 450.0, given_["horizon"])
    assert "\n" not in str(caught.value)


def test_defaults_that_stand_are_named_and_others_are_not():
    assert any("30 %" in text for text in assumptions(HOME))
    known = with_resale(HOME, resale_frac=0.4, months=24.0)
    assert not any("30 %" in text for text in assumptions(known))
    assert float(known.depreciation.value_frac(24.0)) == pytest.approx(0.4)


def test_electricity_of_a_country_is_its_price_at_a_dated_rate():
    german = conditions_at(package_rates(), country="DE")
    assert german.usd_per_kwh == pytest.approx(0.3835 * package_rates().of("EUR").usd)
    assert "Germany" in german.assumed[0]
    with pytest.raises(MissingFactError, match="Japan"):
        conditions_at(package_rates(), country="JP")
    with pytest.raises(UnknownNameError, match="atlantis"):
        conditions_at(package_rates(), country="atlantis")
    with pytest.raises(InvalidInputError, match="EUR"):
        conditions_at(Rates(), country="DE")


# Machines from the parts table.


def wish(**changes):
    return replace(Wish(conditions=HOME, horizon=TWO_YEARS, today=TODAY), **changes)


QUOTES = purchase_quotes(parts(), wish())


def fits(card, count, build):
    """The rules of the module, written again for one set of parts."""
    cpu, board, memory, supply, storage, case, cooler = build
    platform = platform_file().architectures.get(cpu.detail.get("arch", ""))
    if platform is None:
        return False
    socket, _, form = board.name.partition(" ")
    size = platform_file().forms.get(form)
    return (
        size is not None
        and socket == platform.board
        and memory.name.split()[0] == platform.memory
        and float(memory.detail["total_gb"]) * GIB >= 2 * count * card.memory_bytes
        and float(memory.detail["total_gb"]) <= float(board.detail["max_memory_gb"])
        and count * math.ceil(card.slots) <= size.slots
        and count <= size.cards
        and (count == 1 or platform.graphics_lanes / count >= 8)
        and case.name in size.cases
        and float(supply.detail["wattage"]) * 0.8 >= count * card.tdp_w + cpu.tdp_w + 100
        and psu_efficiency_frac(supply.detail["efficiency"]) is not None
        and "SSD M.2" in storage.name
        and float(storage.detail["capacity_gb"]) >= 1000
        and cooler.name == "air"
    )


@pytest.mark.parametrize(("card_id", "count"), [("rtx-3060-12gb", 1), ("rtx-4090", 2), ("rtx-a6000", 2)])
def test_no_set_of_parts_that_fits_is_cheaper(card_id, count):
    """Against every combination of processor, board and case; the others by themselves."""
    found = next(q for q in QUOTES.quotes if q.quote.offer.device == card_id and q.quote.offer.accel_count == count)
    card = next(p for p in parts() if p.device == card_id and p.category == "gpu")
    shelf = {}
    for part in parts():
        if price_usd(part) is not None:
            shelf.setdefault(part.category, []).append(part)
    single = [
        min(
            (p for p in shelf["storage"] if "SSD M.2" in p.name and float(p.detail["capacity_gb"]) >= 1000),
            key=price_usd,
        ),
        next(p for p in shelf["cpu_cooler"] if p.name == "air"),
    ]
    cheapest = math.inf
    for cpu, board, case in itertools.product(shelf["cpu"], shelf["motherboard"], shelf["case"]):
        sets = (
            (cpu, board, memory, supply, single[0], case, single[1])
            for memory in shelf["ram"]
            for supply in shelf["psu"]
            if price_usd(memory) + price_usd(supply) + price_usd(cpu) + price_usd(board) + price_usd(case) < cheapest
        )
        for build in sets:
            if fits(card, count, build):
                cheapest = min(cheapest, sum(price_usd(p) for p in build[:4]) + price_usd(case))
    rest = sum(price_usd(p) for p in single) + count * price_usd(card)
    assert found.machine.purchase.price_usd == pytest.approx(cheapest + rest)


def test_every_quote_adds_up_and_names_a_device_of_the_catalogue():
    assert len(QUOTES.quotes) > 100
    for quote in QUOTES.quotes:
        offer = quote.quote.offer
        assert device(offer.device).id == offer.device
        assert quote.machine.purchase.price_usd == pytest.approx(sum(p.price_usd * p.count for p in quote.parts))
        assert offer.as_of == min(p.as_of for p in quote.parts)
        assert offer.memory_bytes >= 2 * offer.accel_count * offer.accel_memory_bytes
        assert quote.quote.tariff.capital_usd == pytest.approx(quote.machine.purchase.price_usd)


def test_everything_left_out_is_counted():
    cards = [p for p in parts() if p.category == "gpu"]
    unfit = {"a card that the catalogue does not have", "a card without a street price"}
    left_out = sum(QUOTES.excluded[name] for name in unfit)
    others = sum(n for name, n in QUOTES.excluded.items() if name not in unfit)
    assert len(QUOTES.quotes) + others == 3 * (len(cards) - left_out)
    assert any("lanes" in name for name in QUOTES.excluded)


def test_old_prices_do_not_count_and_are_counted():
    late = purchase_quotes(parts(), wish(today=date(2027, 1, 1)))
    assert late.quotes == ()
    assert sum(n for name, n in late.excluded.items() if "older" in name) > 50


def test_only_the_asked_devices():
    only = purchase_quotes(parts(), wish(devices=("rtx-4090",), counts=(1,)))
    assert [q.quote.offer.device for q in only.quotes] == ["rtx-4090"]


DESK = OwnedMachine(
    name="desk", device="RTX 3080 10GB", psu_w=750.0, memory_bytes=16 * GIB, base_w=150.0, free_slots=1, usd_per_kwh=0.3
)


def upgrades(machine):
    return upgrade_quotes([(machine, "rtx-3080-10gb")], parts(), wish())


def test_a_second_card_comes_with_the_supply_and_memory_it_needs():
    (quote,) = upgrades(DESK).quotes
    bought = {p.category: p for p in quote.parts}
    assert set(bought) == {"gpu", "psu", "ram"}
    assert bought["gpu"].count == 1
    watts = next(float(p.detail["wattage"]) for p in parts() if p.name == bought["psu"].name)
    assert watts * 0.8 >= 2 * 320 + 100 + 100
    assert quote.quote.offer.memory_bytes >= 2 * 2 * 10 * GIB
    assert quote.upgrade_of == "desk"
    assert quote.machine.load_w == 640


def test_what_is_there_already_is_not_bought_again():
    (quote,) = upgrades(replace(DESK, psu_w=1600.0, memory_bytes=64 * GIB)).quotes
    assert [p.category for p in quote.parts] == ["gpu"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"free_slots": 0}, "free_slots"),
        ({"psu_w": None}, "psu_w"),
        ({"nodes": 2, "count": 2}, "several nodes"),
    ],
)
def test_an_upgrade_that_cannot_be_judged_is_counted_and_not_guessed(change, named):
    found = upgrades(replace(DESK, **change))
    assert found.quotes == ()
    assert [n for name, n in found.excluded.items() if named in name] == [1]


@settings(max_examples=30)
@given(st.floats(0, 1), st.floats(0, 2000), st.floats(0, 3))
def test_electricity_of_an_own_machine_is_beside_its_hourly_price(usd_per_kwh, load_w, usd_per_h):
    bare = replace(DESK, usd_per_h=usd_per_h, usd_per_kwh=None)
    plugged = replace(bare, usd_per_kwh=usd_per_kwh)
    assert owned_tariff(bare, load_w).usd_per_h == usd_per_h
    drawn = (load_w + 150.0) / 0.85 / 1000 * usd_per_kwh
    assert owned_tariff(plugged, load_w).usd_per_h == pytest.approx(usd_per_h + drawn)


# What a job may buy.


def job(**changes):
    return Job(model="resnet50", amount=1e6, unit="samples", buy=True, max_price_age_s=100 * DAY_S, **changes)


def found_for(asked, today=TODAY):
    return purchases_for(asked, parts(), lambda name: device(name).id, today)


def test_a_job_buys_new_machines_and_extends_its_own():
    found = found_for(job(devices=("RTX 3080 10GB",), owned=(DESK,), horizon=TWO_YEARS, tax_frac=0.2))
    assert {q.quote.offer.device for q in found.quotes} == {"rtx-3080-10gb"}
    assert {q.upgrade_of for q in found.quotes} == {"", "desk"}
    for quote in found.quotes:
        assert quote.quote.market == "bought"
        assert quote.machine.conditions.usd_per_kwh == 0.3
        assert quote.quote.tariff.capital_usd == pytest.approx(quote.machine.purchase.price_usd * 1.2)


def test_electricity_is_that_of_the_only_country_of_the_job():
    german = conditions_of(job(countries=("DE",)))
    assert {q.quote.offer.region for q in found_for(job(countries=("DE",))).quotes} == {"DE"}
    assert german.usd_per_kwh == conditions_at(package_rates(), country="DE").usd_per_kwh
    for countries in ((), ("DE", "FR"), ("JP",), ("XX",)):
        assert conditions_of(job(countries=countries)).usd_per_kwh == conditions_at(package_rates()).usd_per_kwh


def test_prices_of_last_year_are_counted_and_not_used():
    late = found_for(job(), today=date(2026, 11, 21))
    assert late.quotes == ()
    assert sum(n for name, n in late.excluded.items() if "older than" in name) > 50


def test_a_predicted_power_takes_the_place_of_the_board_power():
    quote = next(q for q in QUOTES.quotes if q.quote.offer.device == "rtx-4090")
    rent = Rent(usd_per_h=0.5)
    full, half = (against_rent(quote, rent, TWO_YEARS, load_w=watts) for watts in (None, 225.0))
    assert half.own.electricity_usd < full.own.electricity_usd
    assert any("board power" in text for text in full.assumed)
    assert not any("board power" in text for text in half.assumed)
    unsaid = against_rent(quote, rent, None)
    assert "24 months" in unsaid.assumed[0]


USED = Offered(name="used box", device="rtx-3090", count=2, price_usd=1600.0, load_w=700.0)


def test_a_machine_at_the_users_own_price_is_a_quote_like_any_other():
    quote = offered_quote(USED, wish(today=date(2030, 1, 1)))
    assert (quote.quote.offer.device, quote.quote.offer.accel_count, quote.quote.market) == ("rtx-3090", 2, "bought")
    assert quote.quote.tariff == ownership_tariff(quote.machine.purchase, HOME, 700.0, TWO_YEARS)
    assert sum(part.price_usd for part in quote.parts) == 1600.0


@pytest.mark.parametrize("change", [{"count": 0}, {"price_usd": math.nan}, {"price_usd": -1.0}, {"host_w": math.inf}])
def test_an_offered_machine_that_cannot_be_is_refused(change):
    with pytest.raises(InvalidInputError):
        offered_quote(replace(USED, **change), wish())
