"""What a job makes of a price: terms, sessions, reservations, and what a plan says of them."""

import math
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from rigwise.facts.billing import Billing, billing
from rigwise.facts.catalogue import offers
from rigwise.facts.interruption import InterruptionOverride
from rigwise.facts.offer import Offer
from rigwise.facts.subscription import Subscription
from rigwise.market.offers import ON_DEMAND, OWNED, RESERVED, SPOT, Quote, Rules, select
from rigwise.market.spot import ASSUMED, in_words, overridden
from rigwise.market.tariff import Tariff
from rigwise.market.terms import Terms, in_sessions, saves_checkpoints, tariff_of, to_know
from rigwise.units import DAY_S, GB, HOUR_S
from rigwise.workload.job import Data, Job

TODAY = date(2026, 3, 1)
MONTH_H = 365.25 * 24 / 12
OFFER = Offer(
    provider="alpha", instance="one", region="east", device="t4", accelerator="T4", accel_count=1,
    accel_memory_bytes=None, vcpus=None, memory_bytes=None, disk_bytes=None, link="", inter_node_bytes_per_s=None,
    price_usd_h=1.0, spot_price_usd_h=None, as_of="2026-02-01", source="a test",
)  # fmt: skip
JOB = Job(model="m", amount=1, unit="steps", setup_s=600.0)


def quote(market=ON_DEMAND, **changes) -> Quote:
    return Quote(offer=replace(OFFER, **changes), market=market, usd_per_h=1.0)


def terms(known=None, **changes) -> Terms:
    return Terms.of(replace(JOB, **changes), known or {})


# Billing: the facts


def test_every_provider_has_a_source_and_a_date_and_figures_that_can_be() -> None:
    for provider, known in billing().items():
        assert known.source, provider
        assert date.fromisoformat(known.as_of) <= date(2026, 12, 31), provider
        assert 0 <= known.increment_s <= HOUR_S, provider
        assert known.minimum_s >= 0, provider
        for rate in (known.egress_usd_per_gb, known.disk_usd_per_gb_month, known.idle_disk_usd_per_gb_month):
            assert rate is None or 0 <= rate < 1, provider


def test_the_facts_are_of_providers_that_have_offers() -> None:
    assert set(billing()) <= {offer.provider for offer in offers()}


# Data and disks


def test_data_are_paid_for_where_they_lie_and_held_while_the_job_runs_and_waits() -> None:
    known = {
        "home": Billing(egress_usd_per_gb=0.1),
        "alpha": Billing(disk_usd_per_gb_month=0.2, idle_disk_usd_per_gb_month=0.3),
    }
    job = terms(known, data=Data(size_bytes=500 * GB, at="home/east", download_bytes_per_s=GB))
    tariff = tariff_of(quote(), job)
    assert tariff.fixed_usd == pytest.approx(50)
    assert tariff.usd_per_h == pytest.approx(1 + 500 * 0.2 / MONTH_H)
    assert tariff.idle_usd_per_h == pytest.approx(500 * 0.3 / MONTH_H)
    assert tariff.startup_s == 600 + 500
    whole, divided = (
        tariff.cost_usd(40 * HOUR_S),
        tariff_of(quote(weekly_quota_s=30 * HOUR_S), job).cost_usd(40 * HOUR_S),
    )
    restarts_h = float(tariff_of(quote(weekly_quota_s=30 * HOUR_S), job).paid_s(0.0)) / HOUR_S
    assert divided > whole + (7 * 24 - 30 - restarts_h) * tariff.idle_usd_per_h


def test_data_that_are_there_already_cost_nothing() -> None:
    job = terms({"alpha": Billing(egress_usd_per_gb=0.1)}, data=Data(size_bytes=GB, at="alpha"))
    assert tariff_of(quote(), job).fixed_usd == 0
    assert to_know(quote(), replace(job, held_bytes=0.0), 1, HOUR_S) == ()


@pytest.mark.parametrize(
    ("home", "known", "told"),
    [
        ("home", {"alpha": Billing(disk_usd_per_gb_month=0.1)}, ["what home asks for letting 1.00 GB go"]),
        ("home", {"home": Billing(egress_usd_per_gb=0.0)}, ["what alpha asks for a disk of 1.00 GB"]),
        ("local", {}, ["what alpha asks for a disk"]),
        ("home", {}, ["what alpha asks for a disk", "what home asks for letting"]),
        ("", {"alpha": Billing(disk_usd_per_gb_month=0.0)}, []),
    ],
)
def test_what_is_not_known_is_said(home, known, told) -> None:
    said = to_know(quote(), terms(known, data=Data(size_bytes=GB, at=home)), 1, HOUR_S)
    assert len(said) == len(told)
    assert all(
        one.startswith(start) and one.endswith("not known, and not counted")
        for one, start in zip(said, told, strict=True)
    )


def test_an_own_machine_has_its_own_disk() -> None:
    said = to_know(quote(OWNED), terms(data=Data(size_bytes=GB, at="home")), 1, HOUR_S)
    assert [one.split()[1] for one in said] == ["home"]


# Sessions


@pytest.mark.parametrize("task", ["train", "infer", "prefill", "decode"])
def test_only_a_job_that_saves_checkpoints_is_divided(task) -> None:
    job = replace(JOB, task=task)
    tariff = tariff_of(quote(session_cap_s=12 * HOUR_S, weekly_quota_s=30 * HOUR_S), Terms.of(job, {}))
    assert saves_checkpoints(job) == (task == "train")
    assert (tariff.session_s < math.inf) == (tariff.quota_s < math.inf) == (task == "train")


def test_each_session_starts_anew_and_writes_and_reads_a_checkpoint() -> None:
    tariff = tariff_of(quote(session_cap_s=12 * HOUR_S), terms())
    assert (tariff.session_s, tariff.quota_s) == (12 * HOUR_S, math.inf)
    assert (tariff.startup_s, tariff.restart_s) == (600, 600 + 2 * ASSUMED.save_s)
    slow = terms(interruption=InterruptionOverride(save_s=1000.0))
    assert tariff_of(quote(session_cap_s=12 * HOUR_S), slow).restart_s == 600 + 2000


def test_a_session_that_gets_nowhere_is_the_longest_time() -> None:
    """Then the job must end in one: the limit holds, and nothing is divided."""
    short = quote(session_cap_s=600.0)
    assert not terms().is_divided(short.offer)
    assert tariff_of(short, terms()).session_s == math.inf


def test_a_price_without_a_limit_is_not_divided() -> None:
    tariff = tariff_of(quote(), terms())
    assert (tariff.session_s, tariff.quota_s, tariff.restart_s) == (math.inf, math.inf, 0.0)


def test_a_plan_says_that_it_is_divided() -> None:
    (said,) = to_know(quote(session_cap_s=12 * HOUR_S, weekly_quota_s=30 * HOUR_S), terms(), 1, 40 * HOUR_S)
    assert said.startswith("4 sessions of 12 h at most, 30 h in a week:")
    assert to_know(quote(session_cap_s=12 * HOUR_S), terms(), 1, HOUR_S) == ()
    assert in_sessions(Tariff(usd_per_h=0.0, session_s=12 * HOUR_S), 13 * HOUR_S).startswith(
        "2 sessions of 12 h at most, no limit by the week known:"
    )


# Spot


@pytest.mark.parametrize(
    "given", [None, InterruptionOverride(mean_run_s=3600.0), InterruptionOverride(mean_wait_s=1.0)]
)
@pytest.mark.parametrize("nodes", [1, 4])
def test_the_users_word_on_spot_capacity_counts(given, nodes) -> None:
    job = terms(interruption=given)
    belief = overridden(ASSUMED, given or InterruptionOverride())
    assert to_know(quote(SPOT), job, nodes, HOUR_S) == (in_words(belief, nodes),)
    plain = tariff_of(quote(SPOT), terms(), nodes)
    tariff = tariff_of(quote(SPOT), job, nodes)
    if given is None:
        assert tariff == plain
    else:
        assert (tariff.time_factor, tariff.wait_factor) != (plain.time_factor, plain.wait_factor)


# Reservations


def test_a_reserved_offer_is_billed_its_whole_term() -> None:
    reserved = quote(RESERVED, term_s=30 * DAY_S)
    tariff = tariff_of(reserved, terms({"alpha": Billing(increment_s=60.0, minimum_s=300.0)}), 2)
    assert tariff.cost_usd(HOUR_S) == 2 * 30 * 24
    assert tariff.cost_usd(60 * DAY_S) == pytest.approx(2 * (60 * 24 + 1 / 6))
    assert tariff.wall_s(HOUR_S) == HOUR_S + 600
    assert to_know(reserved, terms(), 1, HOUR_S) == ("reserved: 30 days are paid for, used or not",)


def test_a_term_is_a_market_of_its_own() -> None:
    rows = [OFFER, *(replace(OFFER, price_usd_h=1 / n, term_s=n * 30 * DAY_S) for n in (1, 12, 36))]
    found = select(rows, Rules(), TODAY)
    assert [(q.market, q.offer.term_s) for q in found.quotes] == [
        (ON_DEMAND, None), *((RESERVED, n * 30 * DAY_S) for n in (1, 12, 36)),
    ]  # fmt: skip
    assert not found.excluded


def test_of_several_machines_a_notebook_is_one() -> None:
    from rigwise.market.offers import refusal

    many = replace(JOB, runs=4, parallel_runs=2)
    assert refusal(many, quote()) == ""
    assert refusal(many, quote(session_cap_s=HOUR_S)).startswith("one session at a time")
    assert refusal(replace(many, parallel_runs=1), quote(session_cap_s=HOUR_S)) == ""


# In the search


def solved(rows, plans=(), known=None, **changes):
    from rigwise.search.plan import Claim, document, plan, read_document, verify

    world = toy_world(rows, plans, known or {})
    result = plan(replace(JOB, **{"model": "toy", "batch": 8, "setup_s": 0.0, **changes}), world)
    claim = read_document(document(result), "a plan")
    assert isinstance(claim, Claim)
    assert verify(claim, world) == []
    return result


def toy_world(rows, plans, known):
    """A market of devices that do one step in a second, whatever they are."""
    from types import SimpleNamespace

    from rigwise.facts.device import Device
    from rigwise.graph.graph import Card, Graph, Model, Parameter
    from rigwise.search.types import World

    def least_step_s(work, device, count=1):
        return 1.0

    def estimate(case, recipes, machines, model=None, wanted=None):
        shape = (len(recipes), len(machines))
        names = {
            "step_p10_s": 0.9,
            "step_p50_s": 1.0,
            "step_p90_s": 1.1,
            "memory_p50_bytes": 1.0,
            "fit_probability": 1.0,
        }
        figures = {name: np.full(shape, value) for name, value in names.items()}
        return SimpleNamespace(
            **figures, memory_capacity_bytes=np.full(shape, 1e9), energy_p50_j=np.full(shape, np.nan)
        )

    def estimate_one(case, recipe, machines, model=None):
        return SimpleNamespace(**{n: v[0] for n, v in vars(estimate(case, [recipe], machines)).items()})

    device = Device(
        id="t4", name="T4", vendor="v", kind="gpu", architecture="a", peak_flops_per_s={"fp32": 1e12},
        memory_bytes=1e9, memory_bytes_per_s=1e11, tdp_w=100.0,
    )  # fmt: skip
    graph = Graph(ops=(), symbols={"b": 1})
    return World(
        offers=rows,
        subscriptions=plans,
        device={"t4": device}.__getitem__,
        model=Model(
            name="toy",
            card=Card(title="Toy", reference_batch=8),
            parameters=(Parameter(name="w", shape=(10,)),),
            graphs={"train": graph, "infer": graph},
        ),
        today=TODAY,
        physics=SimpleNamespace(
            estimate_fleet=estimate_one,
            estimate_recipes=estimate,
            least_work=lambda case, dtype, model=None: None,
            least_step_s=least_step_s,
            least_energy_j=lambda work, device, count=1: 0.0,
            least_memory_bytes=lambda case, dtype, count, model=None: 1.0,
        ),
        billing=known,
    )


@pytest.mark.parametrize(("days", "market"), [(1, ON_DEMAND), (14, ON_DEMAND), (16, RESERVED), (40, RESERVED)])
def test_a_reservation_is_chosen_exactly_when_it_is_cheaper(days, market) -> None:
    """Half the price for 30 days pays from the 15th on."""
    rows = [OFFER, replace(OFFER, price_usd_h=0.5, term_s=30 * DAY_S)]
    result = solved(rows, amount=days * DAY_S)
    best, other = result.plans[:2]
    assert (best.market, {best.market, other.market}) == (market, {ON_DEMAND, RESERVED})
    by_market = {p.market: p.cost_usd.p50 for p in result.plans}
    assert by_market[ON_DEMAND] == pytest.approx(24.0 * days)
    assert by_market[RESERVED] == pytest.approx(max(12.0 * days, 360))


def test_a_job_longer_than_a_session_is_divided_if_it_trains() -> None:
    free = replace(OFFER, price_usd_h=0.0, session_cap_s=12 * HOUR_S, weekly_quota_s=30 * HOUR_S, instance="free")
    month = {"deadline_s": 30 * DAY_S}
    assert solved([OFFER, free], amount=40 * HOUR_S).plans[0].instance == "one"  # nobody said that it may take weeks
    best = solved([OFFER, free], amount=40 * HOUR_S, **month).plans[0]
    assert (best.instance, best.cost_usd.p50) == ("free", 0.0)
    assert 7 * DAY_S + 10 * HOUR_S < best.time_s.p50 < 7 * DAY_S + 11 * HOUR_S
    assert solved([OFFER, free], amount=40 * HOUR_S, task="infer", **month).plans[0].instance == "one"
    assert solved([OFFER, free], amount=40 * HOUR_S, deadline_s=5 * DAY_S).plans[0].instance == "one"
    said = solved([OFFER, free], amount=40 * HOUR_S, **month).advice
    assert any(one.startswith("4 sessions") for one in said)


def test_one_region_is_free_for_longer_than_another() -> None:
    """Prices of one instance that differ in their sessions are kept apart, and the checker agrees."""
    rows = [
        replace(OFFER, price_usd_h=price, session_cap_s=cap, region=region)
        for price, cap, region in ((0.1, HOUR_S, "east"), (0.11, 12 * HOUR_S, "west"))
    ]
    result = solved(rows, amount=24 * HOUR_S, minimize="time", setup_s=None)
    assert result.plans[0].region == "west"


def subscription(**changes) -> Subscription:
    plain = {
        "id": "x", "provider": "alpha", "name": "Pro", "device": "t4", "count": 1, "usd_per_month": 10.0,
        "units_per_month": 100.0, "usd_per_unit": 0.1, "units_per_h": 2.0, "session_s": None,
        "weekly_quota_s": None, "as_of": "2026-01-01", "source": "a test",
    }  # fmt: skip
    return Subscription(**{**plain, **changes})


@pytest.mark.parametrize(("hours", "market"), [(5, ON_DEMAND), (11, "subscription"), (300, "subscription")])
def test_a_subscription_is_a_candidate_like_any_other(hours, market) -> None:
    """$10 for 50 hours and $0.2 for each further one, against $1 an hour."""
    result = solved([OFFER], [subscription()], amount=hours * HOUR_S)
    best = result.plans[0]
    assert (best.kind, best.market) == ("rent", market)
    costs = {p.market: p.cost_usd.p50 for p in result.plans}
    assert costs == pytest.approx({ON_DEMAND: hours, "subscription": max(10, 0.2 * hours)})


def test_a_subscription_whose_price_is_too_old_is_counted() -> None:
    result = solved([OFFER], [subscription(as_of="2024-01-01")], amount=HOUR_S)
    assert [p.market for p in result.plans] == [ON_DEMAND]
    assert result.excluded["subscription: price older than 365 d"] == 1
