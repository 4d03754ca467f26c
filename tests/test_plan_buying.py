"""``rigwise plan --explain buying``: the best machine to buy against the best to rent."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date

import pytest

from rigwise.cli.main import main
from rigwise.errors import InfeasibleError
from rigwise.facts.catalogue import offers, parts
from rigwise.report.plan_text import plan_text
from rigwise.search.buying import best_to_buy, best_to_rent, buying_answer, what_to_buy
from rigwise.search.plan import catalogue_world, plan
from rigwise.units import DAY_S, format_usd
from rigwise.workload.job import Horizon, Job, OwnedMachine

TODAY = date(2026, 8, 1)
JOB = Job(
    model="resnet18",
    amount=1e8,
    unit="samples",
    batch=256,
    buy=True,
    devices=("rtx-4090",),
    horizon=Horizon(months=24.0, hours_per_week=20.0),
    max_price_age_s=500 * DAY_S,
)
FLAGS = ["resnet18", "--samples", "1e8", "--batch", "256", "--device", "rtx-4090", "--max-price-age", "3000d"]


@pytest.fixture(scope="module")
def world():
    market = [row for row in offers() if row.device == "rtx-4090" and row.accel_count == 1]
    return replace(catalogue_world("resnet18", TODAY), offers=market)


@pytest.fixture
def run(capfd):
    """Run the command line in this process: exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as stop:
            main(["plan", *FLAGS, *arguments])
        out, err = capfd.readouterr()
        return stop.value.code, out, err

    return run


def test_the_rent_is_that_of_the_same_work(world):
    answer, machine = buying_answer(JOB, world, parts())
    bought, quote = best_to_buy(JOB, world, what_to_buy(JOB, world, parts()))
    rented = best_to_rent(JOB, world)
    assert quote == machine
    assert answer.rent.usd_per_own_h * bought.time_s.p50 / 3600 == pytest.approx(rented.cost_usd.p50)
    assert bought.kind == "buy"
    assert rented.kind == "rent"


@pytest.mark.parametrize(("hours_per_week", "is_free"), [(1.0, True), (160.0, False)])
def test_free_sessions_count_only_for_as_many_hours_as_they_are_given(world, hours_per_week, is_free):
    kaggle = [one for one in catalogue_world("resnet18", TODAY).subscriptions if one.weekly_quota_s]
    assert kaggle
    assert not any(one.usd_per_month for one in kaggle)
    horizon = Horizon(months=24.0, hours_per_week=hours_per_week)
    job = replace(JOB, amount=1e7, devices=(), deadline_s=60 * DAY_S, horizon=horizon)
    today = max(date.fromisoformat(one.as_of) for one in kaggle)
    answer, _ = buying_answer(job, replace(world, subscriptions=kaggle, today=today), parts())
    assert (answer.rent.usd_per_own_h == 0) == is_free
    assert ("kaggle" in answer.rent.name) == is_free


def test_the_price_counts_against_the_budget_and_only_its_share_as_cost(world):
    found = what_to_buy(JOB, world, parts())
    cheapest = min(quote.machine.purchase.price_usd for quote in found.quotes)
    bought, _ = best_to_buy(replace(JOB, budget_usd=10 * cheapest), world, found)
    assert bought.cost_usd.p50 < cheapest / 10
    with pytest.raises(InfeasibleError, match="budget"):
        best_to_buy(replace(JOB, budget_usd=0.9 * cheapest), world, found)


def test_a_longer_horizon_makes_the_same_job_cheaper_to_own(world):
    costs = []
    for hours in (5.0, 20.0, 80.0):
        job = replace(JOB, horizon=Horizon(months=24.0, hours_per_week=hours))
        costs.append(best_to_buy(job, world, what_to_buy(job, world, parts()))[0].cost_usd.p50)
    assert costs == sorted(costs, reverse=True)


def test_nothing_to_buy_says_why(world):
    job = replace(JOB, max_price_age_s=DAY_S)
    with pytest.raises(InfeasibleError, match=r"older than .*--max-price-age"):
        buying_answer(job, world, parts())


def test_one_line_answers_in_text_and_json(run):
    code, out, err = run("--explain", "buying", "--horizon", "24mo", "--hours-per-week", "20")
    assert (code, err) == (0, "")
    assert "break-even" in out
    assert max(len(line) for line in out.splitlines()) <= 80
    code, out, err = run("--explain", "buying", "--json")
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert answer["schema"] == "rigwise.plan.buying/1"
    assert answer["horizon"] == {"months": 24.0, "hours_per_week": 20.0}
    assert any("24 months" in note for note in answer["assumed"])
    assert sum(part["price_usd"] * part["count"] for part in answer["parts"]) == pytest.approx(
        answer["own"]["purchase_usd"]
    )


def test_a_plan_that_buys_says_so_with_the_price_and_what_is_assumed(world):
    result = plan(JOB, replace(world, offers=[]))
    best, lines = result.plans[0], plan_text(result).splitlines()
    assert best.kind == "buy"
    assert lines[2].split() == ["buy", str(best.count), "x", "rtx-4090"]
    assert lines[3].split(maxsplit=1) == ["as", best.instance]
    cheapest = next(q for q in what_to_buy(JOB, world, parts()).quotes if q.quote.offer.instance == best.instance)
    price_usd = sum(part.price_usd * part.count for part in cheapest.parts)
    assert lines[4].split()[:2] == ["price", format_usd(price_usd)]
    assert max(map(len, lines)) <= 80
    for words in ("board power", "electricity at", "worth 70 % of its price"):
        assert any(words in told for told in result.assumed), words


def test_electricity_of_an_own_machine_is_said_to_be_more_than_the_energy(world):
    box = OwnedMachine(name="box", device="rtx-4090", usd_per_kwh=0.3)
    told = plan(replace(JOB, buy=False, owned=(box,)), world).assumed
    assert [words for words in told if "board power" in words and "150 W beside them" in words]
    assert not any("board power" in words for words in plan(replace(JOB, buy=False), world).assumed)


def test_what_cannot_be_bought_is_one_line_and_exit_code_1(run):
    code, out, err = run("--explain", "buying", "--budget", "$10")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert "budget" in err


def test_what_the_own_machine_cannot_do_by_the_deadline_is_rented() -> None:
    from rigwise.market.break_even import UnitCosts, split_until

    unit = UnitCosts(fixed_usd=50.0, own_usd_per_h=0.1, rent_usd_per_h=0.6)
    hours = [h / 10 * 3600.0 for h in range(1681)]
    for work_s in (100 * 3600.0, 168 * 3600.0, 300 * 3600.0):
        split = split_until(work_s, 168 * 3600.0, unit)
        bought = min(unit.cost_usd(1, own_s, work_s - own_s) for own_s in hours if own_s <= work_s)
        assert split.cost_usd == pytest.approx(min(bought, unit.cost_usd(0, 0.0, work_s)))
        assert split.owned_s + split.rented_s == pytest.approx(work_s)
        assert split.owned_s <= 168 * 3600.0
