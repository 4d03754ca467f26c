"""Money of other countries, tax, and the grids behind the regions of providers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError
from rigwise.facts import electricity
from rigwise.facts.catalogue import DATA, offers
from rigwise.facts.currencies import currency_file
from rigwise.facts.data_files import read_sources
from rigwise.facts.platforms import platform_file
from rigwise.market.carbon import carbon_g, grams_per_kwh, rate_at_home, rate_of
from rigwise.market.currency import Money, Rates, package_rates, parse_money, to_usd, used, with_own, with_tax_usd


@pytest.mark.parametrize(
    ("text", "number", "currency"),
    [
        ("€100", 100, "EUR"),
        ("100 EUR", 100, "EUR"),
        ("100eur", 100, "EUR"),
        ("EUR 100", 100, "EUR"),
        ("$1.5k", 1500, "USD"),
        ("1.5k", 1500, "USD"),
        ("2M usd", 2e6, "USD"),
        ("100", 100, "USD"),
        (99.5, 99.5, "USD"),
        ("NT$ 46,400", 46400, "TWD"),
        ("46,400 TWD", 46400, "TWD"),
        ("CA$20", 20, "CAD"),
        ("£1_000", 1000, "GBP"),
        ("120 zł", 120, "PLN"),
        ("1k CHF", 1000, "CHF"),
        ("  € 7 ", 7, "EUR"),
        ("1e3 JPY", 1000, "JPY"),
    ],
)
def test_amounts_as_people_write_them(text, number, currency):
    assert parse_money(text) == Money(number=pytest.approx(number), currency=currency)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("¥100", "JPY or CNY"),
        ("100 kr", "SEK or NOK"),
        ("€100 USD", "two currencies"),
        ("100,50 EUR", "decimal point"),
        ("ten euros", "not a number"),
        ("", "not a number"),
        ("€", "not a number"),
        ("100 euros", "unknown currency"),
        ("100 %", "unknown currency"),
        ("-5 EUR", "not a number"),
        (-5.0, "below zero"),
        ("1e999 EUR", "too large"),
        ("1.2.3 EUR", "not a number"),
        ("Ħ 5", "unknown currency"),
    ],
)
def test_amounts_that_mean_nothing_are_refused_in_one_line(text, named):
    with pytest.raises(InvalidInputError, match=named) as caught:
        parse_money(text)
    assert "\n" not in str(caught.value)


def test_a_currency_without_a_rate_is_refused_with_the_way_out():
    with pytest.raises(InvalidInputError, match=r"no rate is known for the currency 'XYZ'.*--exchange XYZ=DOLLARS"):
        to_usd("100 XYZ", package_rates())


def test_rates_go_by_way_of_the_dollar():
    """ECB of 2026-05-08: a euro is 1.1761 dollars and 184.37 yen. Federal Reserve of 2024-02-02: 31.22 NT$."""
    rates = package_rates()
    assert rates.of("EUR").usd == pytest.approx(1.1761)
    assert rates.of("JPY").usd == pytest.approx(1.1761 / 184.37)
    assert rates.of("TWD").usd == pytest.approx(1 / 31.22)
    assert rates.of("TWD").as_of == "2024-02-02"
    assert rates.of("USD").usd == 1


def test_the_home_box_of_the_founding_notes_in_dollars():
    """NT$ 46,400 of 2018, at a rate of 2024: about $1,490."""
    assert to_usd("NT$46,400", package_rates()) == pytest.approx(46_400 / 31.22)


def test_the_users_own_rate_wins_and_is_said():
    rates = with_own(package_rates(), ["EUR=1.08", "xyz=2"])
    assert to_usd("€100", rates) == pytest.approx(108)
    assert to_usd("1 XYZ", rates) == 2
    assert used("€100", rates) == "EUR 1 = $1.0800 (yours)"
    assert "2026-05-08" in used("£1", rates)
    assert used("$5", rates) == ""


@pytest.mark.parametrize(
    "text", ["EUR", "EUR=", "EUR=0", "EUR=-1", "EUR=nan", "EUR=inf", "EURO=1", "=1", "EUR=1,08", "USD=2", "E1R=1"]
)
def test_a_rate_that_cannot_be_is_refused(text):
    with pytest.raises(InvalidInputError, match="rate"):
        with_own(Rates(), [text])


def test_two_rates_for_one_currency_are_refused():
    with pytest.raises(InvalidInputError, match="two rates"):
        with_own(Rates(), ["EUR=1", "eur=2"])


@given(st.floats(0, 1e6), st.sampled_from(sorted(package_rates().by_code)))
def test_an_amount_is_its_number_times_its_rate(number, code):
    usd = to_usd(f"{number!r} {code}", package_rates())
    assert usd == pytest.approx(number * package_rates().of(code).usd, rel=1e-12)


@pytest.mark.parametrize("tax_frac", [-0.1, 1.0, 19.0, math.nan])
def test_tax_is_a_fraction(tax_frac):
    with pytest.raises(InvalidInputError, match="tax"):
        with_tax_usd(100.0, tax_frac)


# Facts: every figure has a source that is listed, and every code a meaning.


def test_every_figure_cites_a_source_that_we_list():
    known = read_sources(DATA)
    rows = [*electricity.countries().values(), *electricity.grids().values()]
    cited = [row.source for row in rows] + [table.source for table in currency_file().tables]
    cited += [row.price_source for row in electricity.countries().values() if row.price_per_kwh is not None]
    cited += [platform_file().source, electricity._regions().source, electricity._electricity().psu_efficiency.source]
    cited += [row.source for row in electricity._electricity().pue.values()]
    assert {text.partition(" ")[0] for text in cited} <= set(known)


def test_prices_have_a_currency_with_a_rate_and_a_date():
    priced = [row for row in electricity.countries().values() if row.price_per_kwh is not None]
    assert len(priced) >= 10
    for row in priced:
        assert 0.01 < row.price_per_kwh * package_rates().of(row.currency).usd < 1
        assert len(row.price_as_of) == 10


def test_grams_are_those_of_a_grid():
    for row in [*electricity.countries().values(), *electricity.grids().values()]:
        assert 0 < row.g_per_kwh < 1000
        assert row.scope in ("operation", "whole life")


def test_every_region_of_the_table_has_a_grid():
    for provider, regions in electricity._regions().regions.items():
        for region, code in regions.items():
            assert electricity.grid(code) is not None, (provider, region, code)


def test_every_region_of_the_catalogue_is_placed():
    """A region that is written down has a country; a blank one has none and is not guessed."""
    places = {(row.provider, row.region) for row in offers()}
    unplaced = {place for place in places if place[1] and not electricity.country_code(*place)}
    assert unplaced == set()
    assert {electricity.country_code(*place) for place in places if not place[1]} == {""}


@pytest.mark.parametrize(
    ("provider", "region", "code"),
    [
        ("vast", "British Columbia CA NA", "CA"),
        ("vast", "Georgia US NA", "US"),
        ("vast", "CN AS", "CN"),
        ("lambda", "sanjose-usa-2", "US"),
        ("verda", "ICE-01", "IS"),
        ("oci", "af-casablanca-1", "MA"),
        ("aws", "US-EAST-1", "US-VA"),
        ("denvr", "calgary-canada-1", "CA"),
        ("x", "indianapolis", ""),
        ("x", "na", ""),
    ],
)
def test_regions_lie_where_their_names_say(provider, region, code):
    assert electricity.grid_code(provider, region) == code


def test_carbon_by_hand():
    """1 kWh of the devices in Iowa: 1.10 x 431.95 g. At home in France: 15.83 g."""
    assert rate_of("gcp", "us-central1").g_per_j * 3.6e6 == pytest.approx(1.10 * 431.95)
    assert rate_at_home("FR").g_per_j * 3.6e6 == pytest.approx(15.83)
    assert carbon_g(7.2e6, 100.0) == pytest.approx(200.0)
    assert rate_of("salad", "") is None
    assert rate_at_home("") is None


def test_grams_of_an_offer_are_nan_where_nobody_knows_its_place():
    row = next(row for row in offers() if row.provider == "gcp" and row.region == "us-central1")
    assert grams_per_kwh(row) == pytest.approx(1.10 * 431.95)
    assert math.isnan(grams_per_kwh(replace(row, region="")))
    own = replace(row, provider="owned", region="")
    assert math.isnan(grams_per_kwh(own))
    assert grams_per_kwh(own, "DE") == grams_per_kwh(replace(own, region="DE")) == pytest.approx(275.81)
    assert electricity.country_code("purchase", "DE") == "DE"
    placed = [row for row in offers() if not math.isnan(grams_per_kwh(row))]
    assert 0 < len(placed) < len(offers())
