"""Which offers count: the newest of each, priced, dated and young enough, and every other one is counted."""

from dataclasses import replace
from datetime import date

import pytest

from rigwise.errors import UnknownNameError
from rigwise.facts.offer import Offer
from rigwise.market.money import rental_usd
from rigwise.market.offers import OWNED, Rules, owned_quote, select
from rigwise.units import DAY_S, HOUR_S
from rigwise.workload.job import OwnedMachine

TODAY = date(2026, 8, 1)
OFFER = Offer(
    provider="alpha",
    instance="one",
    region="east",
    device="t4",
    accelerator="T4",
    accel_count=1,
    accel_memory_bytes=16e9,
    vcpus=4,
    memory_bytes=32e9,
    disk_bytes=None,
    link="",
    inter_node_bytes_per_s=None,
    price_usd_h=1.0,
    spot_price_usd_h=None,
    as_of="2026-07-01",
    source="test",
)


def chosen(*offers, **rules):
    return select(offers, Rules(**rules), TODAY)


def prices(selection):
    return [(quote.market, quote.usd_per_h) for quote in selection.quotes]


def test_a_plain_offer_counts() -> None:
    selection = chosen(OFFER)
    assert prices(selection) == [("on-demand", 1.0)]
    assert selection.excluded == {}


def test_spot_is_a_quote_of_its_own_where_it_is_allowed() -> None:
    both = replace(OFFER, spot_price_usd_h=0.3)
    assert prices(chosen(both, spot=True)) == [("on-demand", 1.0), ("spot", 0.3)]
    assert prices(chosen(both)) == [("on-demand", 1.0)]
    assert chosen(both).excluded == {"spot price, and spot is not allowed": 1}


def test_of_two_rows_for_one_thing_the_newest_counts_by_market() -> None:
    older = replace(OFFER, as_of="2026-01-01", price_usd_h=0.5, spot_price_usd_h=0.2)
    for rows in ((older, OFFER), (OFFER, older)):
        assert sorted(prices(chosen(*rows, spot=True))) == [("on-demand", 1.0), ("spot", 0.2)]
        assert chosen(*rows, spot=True).excluded == {"an older or dearer row of the same offer": 1}


def test_of_two_rows_of_one_day_the_cheaper_counts() -> None:
    dearer = replace(OFFER, price_usd_h=2.0)
    for rows in ((dearer, OFFER), (OFFER, dearer)):
        assert prices(chosen(*rows)) == [("on-demand", 1.0)]


@pytest.mark.parametrize("change", [{"region": "west"}, {"instance": "two"}, {"device": "l4"}, {"accel_count": 2}])
def test_rows_that_differ_in_what_they_offer_are_kept_apart(change) -> None:
    """One host type can carry different accelerators; provider, instance and region do not tell them apart."""
    assert len(chosen(OFFER, replace(OFFER, **change)).quotes) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"accel_count": None}, "number of devices blank, or a fraction of one"),
        ({"accel_count": 0.5}, "number of devices blank, or a fraction of one"),
        ({"device": ""}, "a device that the catalogue does not have"),
        ({"price_usd_h": None}, "no price"),
        ({"price_usd_h": 0.0}, "price of zero without a session cap"),
        ({"as_of": ""}, "price without a date"),
        ({"as_of": "2025-07-31"}, "price older than 365 d"),
        ({"price_usd_h": 700.0}, "placeholder-price (rigwise offers lint)"),
        ({"device": "h100-sxm5-80gb", "accel_count": 12}, "impossible-count (rigwise offers lint)"),
    ],
)
def test_what_does_not_count_is_counted(change, reason) -> None:
    selection = chosen(replace(OFFER, **change))
    assert selection.quotes == ()
    assert selection.excluded == {reason: 1}


def test_a_year_is_not_too_old() -> None:
    assert chosen(replace(OFFER, as_of="2025-08-01")).quotes
    assert not chosen(replace(OFFER, as_of="2025-08-01"), max_age_s=300 * DAY_S).quotes


@pytest.mark.parametrize(("price", "reason"), [(2.0, "spot price above on-demand"), (0.0, "spot price of zero")])
def test_nonsense_on_the_spot_market_leaves_the_other_price(price, reason) -> None:
    selection = chosen(replace(OFFER, spot_price_usd_h=price), spot=True)
    assert prices(selection) == [("on-demand", 1.0)]
    assert selection.excluded == {reason: 1}


def test_a_free_tier_counts_because_its_session_is_capped() -> None:
    assert prices(chosen(replace(OFFER, price_usd_h=0.0, session_cap_s=12 * HOUR_S))) == [("on-demand", 0.0)]


def test_rules_leave_out_and_count() -> None:
    other = replace(OFFER, provider="beta", region="west", device="l4")
    assert chosen(OFFER, other, providers=("beta",)).excluded == {"another provider": 1}
    assert chosen(OFFER, other, regions=("west",)).excluded == {"another region": 1}
    assert len(chosen(replace(OFFER, region="EAST"), regions=("east",)).quotes) == 1
    assert chosen(OFFER, other, devices=("l4",)).excluded == {"another device": 1}
    assert chosen(replace(OFFER, device="l4|t4"), devices=("l4",)).quotes == ()
    assert chosen(replace(OFFER, device="l4|t4"), devices=("l4", "t4")).quotes


@pytest.mark.parametrize(("rule", "value"), [("providers", "alfa"), ("regions", "eest")])
def test_a_name_that_no_offer_has_lists_near_ones(rule, value) -> None:
    with pytest.raises(UnknownNameError, match=f"{value}.*did you mean (alpha|east)"):
        chosen(OFFER, **{rule: (value,)})


def test_every_row_is_used_or_counted() -> None:
    rows = [
        replace(OFFER, instance=str(i), price_usd_h=p, as_of=d) for i, p in enumerate((1.0, None)) for d in ("", "2026")
    ]
    selection = chosen(*rows)
    assert len(selection.quotes) + sum(selection.excluded.values()) == len(rows)


def test_what_is_unfit_says_why() -> None:
    selection = select([OFFER], Rules(), TODAY, lambda device: f"{device} is odd")
    assert selection.excluded == {"t4 is odd": 1}


def test_an_owned_machine_is_a_quote_for_all_its_nodes() -> None:
    quote = owned_quote(
        OwnedMachine(name="lab", device="t4", count=8, nodes=2, inter_node_gbps=100, usd_per_h=0.3), "t4"
    )
    assert (quote.market, quote.usd_per_h) == (OWNED, 0.3)
    assert quote.offer.accel_count == 4
    assert quote.offer.inter_node_bytes_per_s == 100e9 / 8


def test_money_is_price_times_hours() -> None:
    assert rental_usd(2.5, 1.5 * HOUR_S) == 2.5 * 1.5
