"""The proposed build is the best that the rules allow: A* against looking at every build, and the reasons it gives."""

import re
from dataclasses import replace
from datetime import date
from functools import cache
from itertools import product
from math import inf
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rigwise.errors import InfeasibleError
from rigwise.graph.load import load_model
from rigwise.rig.build import Ask, build, document
from rigwise.rig.check import RULES, check, judged
from rigwise.rig.judged import Given
from rigwise.rig.names import described
from rigwise.rig.options import Option, Wish, new_options, upgrade_options
from rigwise.rig.problem import TIE_PER_USD, BuildProblem, Goal, Question, refusals
from rigwise.rig.reader import read_rig
from rigwise.rig.speed import Speed, demand_of, setup_of, speeds
from rigwise.rig.types import KINDS, PROBLEM, WARNING, Demand, Feed, Rig
from rigwise.search.astar import AStar
from rigwise.workload.choices import settle
from rigwise.workload.job import Job

R12 = Path(__file__).parents[1] / "examples" / "rigs" / "alienware-aurora-r12.toml"


@cache
def all_options() -> dict[str, tuple[Option, ...]]:
    return new_options(Wish())


@cache
def task():
    return settle(Job(model="resnet50", amount=1e6, unit="samples"), load_model("resnet50"))


def by_tdp(task, setups, confidence):
    """A toy estimator: cards are as fast as they are hungry, two are 1.8 times one."""
    cards = {option.parts[0].device: option.parts[0] for option in all_options()["gpu"]}
    cards["rtx-3080-10gb"] = described("gpu", "RTX 3080")
    return {
        s: Speed(samples_per_s=cards[s.device].tdp_w * s.count**0.85, fit_probability=1.0)
        for s in setups
        if s.device in cards
    }


def every_build(question: Question):
    """Value, cost and choice of every build that no rule and no limit refuses: no bound, no A*."""
    goal = question.goal
    for choice in product(*(range(len(question.options[kind])) for kind in KINDS)):
        chosen = {kind: question.options[kind][i] for kind, i in zip(KINDS, choice, strict=True)}
        cost = sum(option.price_usd for option in chosen.values())
        demand = question.demands[choice[0]]
        rate = demand.samples_per_s if demand else None
        if cost > goal.budget_usd or not rate or 1 / rate > goal.most_s_per_sample:
            continue
        rig = replace(question.base, **{kind: option.parts for kind, option in chosen.items()})
        found = [judged(rule, rig, Given(mains=question.mains, demand=demand)) for rule in RULES]
        if any(f and f.severity in (PROBLEM, WARNING) for f in found):
            continue
        yield (cost if goal.minimize == "cost" else (1 + TIE_PER_USD * cost) / rate), choice


#: Parts that go together more often than any do: of each kind about half beside half of the others.
POOL = {
    "gpu": "^(GeForce RTX (3060 12|4060|4070|5060 Ti|5070)|2 x GeForce RTX 5060 Ti|Arc)",
    "cpu": "7600|7700|7900|9600X|Ryzen 5 5600",
    "motherboard": "AM5 (ATX|Micro|Mini)|AM4 ATX",
    "ram": "DDR5 [24]x(16|32)|DDR4 2x32",
    "psu": "(650|750|850|1000) W 80. (bronze|gold|platinum)",
    "case": "ATX|ITX Tower",
    "cpu_cooler": "",
    "storage": "SSD M|HDD SATA 4000",
}


@cache
def pool(kind: str) -> tuple[Option, ...]:
    return tuple(option for option in all_options()[kind] if re.search(POOL[kind], option.name))


@st.composite
def questions(draw):
    """A few parts of each kind, cards as fast as it pleases, a budget that may or may not do."""
    sizes = {"gpu": 3, "cpu": 2, "motherboard": 2, "ram": 2, "psu": 3, "case": 2, "cpu_cooler": 2, "storage": 2}
    options = {}
    for kind in KINDS:
        listed = st.lists(
            st.sampled_from(pool(kind)), min_size=min(2, sizes[kind]), max_size=sizes[kind], unique_by=lambda o: o.name
        )
        options[kind] = tuple(sorted(draw(listed), key=lambda o: o.price_usd))
    rate = st.one_of(*(st.floats(300, 5000),) * 5, st.none())
    rates = [draw(rate) for _ in options["gpu"]]
    demands = tuple(Demand(model="m", samples_per_s=rate, fit_probability=1.0 if rate else 0.0) for rate in rates)
    goal = Goal(
        minimize=draw(st.sampled_from(["time", "cost"])),
        budget_usd=draw(st.sampled_from([1000.0, 1300.0, 2000.0, inf])),
        most_s_per_sample=draw(st.sampled_from([inf, 1 / 500])),
    )
    feed = draw(st.sampled_from([Feed(), Feed(decode="jpeg", bytes_per_sample=110e3)]))
    mains = draw(st.sampled_from(["", "us-15", "eu"]))
    return Question(base=Rig(feed=feed), options=options, demands=demands, mains=mains, goal=goal)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(questions())
def test_the_search_finds_what_looking_at_every_build_finds(question):
    problem = BuildProblem(question)
    search = AStar(problem, ())
    value, state = next(search, (inf, None))
    best = min(every_build(question), default=(inf, None))
    assert value == pytest.approx(best[0], rel=1e-12)
    if state is not None:
        findings = check(problem.rig(state), problem.given(state[0]))
        assert not [f for f in findings if f.severity in (PROBLEM, WARNING)]
    assert sum(refusals(question, search.cover()).values()) == question.candidates


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(questions(), st.data())
def test_a_bound_never_exceeds_a_build_below_it(question, data):
    found = list(every_build(question))
    if not found:
        return
    value, choice = data.draw(st.sampled_from(found))
    problem = BuildProblem(question)
    for depth in range(len(KINDS)):
        child = problem.expand(choice[:depth])[choice[depth]]
        assert not child.cut
        assert child.bound <= value * (1 + 1e-12)


def test_the_examples_would_find_a_fault():
    """Without the rules the answer is another: the comparison above is not of nothing."""
    options = {kind: found[:2] for kind, found in all_options().items()}
    options["psu"] = all_options()["psu"][:9]
    options["ram"] = all_options()["ram"][::4]
    demands = tuple(Demand(model="m", samples_per_s=100.0, fit_probability=1.0) for _ in options["gpu"])
    question = Question(base=Rig(), options=options, demands=demands, goal=Goal(minimize="cost"))
    allowed, _ = min(every_build(question), default=(inf, None))
    unruled = sum(options[kind][0].price_usd for kind in KINDS)
    assert allowed > unruled


def asked(**changes) -> Ask:
    return Ask(task=task(), **{"budget_usd": 2000.0, **changes})


@pytest.mark.parametrize("budget", [800.0, 1500.0, 3000.0, inf])
def test_a_build_keeps_the_rules_the_budget_and_the_count(budget):
    answer = build(asked(budget_usd=budget, mains="us-15"), by_tdp)
    assert answer.total_usd == pytest.approx(sum(c.price_usd for c in answer.chosen))
    assert answer.total_usd <= budget
    assert not [f for f in answer.findings if f.severity in (PROBLEM, WARNING)]
    proof = answer.proof
    assert proof.estimated + sum(proof.pruned.values()) == proof.candidates
    assert proof.lower_bound == proof.best
    assert proof.candidates > 1e9
    assert proof.expanded < 1000
    assert all(c.why for c in answer.chosen)


def test_more_money_is_never_slower_and_what_it_buys_is_faster():
    rates = []
    for budget in (800.0, 2500.0):
        answer = build(asked(budget_usd=budget), by_tdp)
        rates.append(answer.speed.samples_per_s)
        if answer.further:
            assert answer.further.total_usd > budget
            richer = build(asked(budget_usd=answer.further.total_usd + 0.01), by_tdp)
            assert richer.speed.samples_per_s >= answer.further.samples_per_s > rates[-1]
    assert rates == sorted(rates)


def test_the_cheapest_build_for_a_device_and_a_number_of_cards():
    wish = Wish(devices=("rtx-4090",), count=1)
    answer = build(asked(budget_usd=inf, minimize="cost", wish=wish), by_tdp)
    assert [card.device for card in answer.rig.gpu] == ["rtx-4090"]
    assert answer.rig.psu[0].rated_w >= (450 + answer.rig.cpu[0].power_w + 100) / 0.8
    assert sum(kit.total_bytes for kit in answer.rig.ram) >= 2 * answer.rig.gpu[0].memory_bytes
    assert "refused by supply-load" in next(c.why for c in answer.chosen if c.kind == "psu")


def test_a_used_part_with_a_price_of_ones_own_is_a_candidate():
    text = '[[part]]\nkind = "gpu"\nname = "RTX 3090"\nprice = "$10"\ncondition = "used"'
    wish = Wish(extra=read_rig(text, "mine.toml"), devices=("rtx-3090",), count=1)
    answer = build(asked(minimize="cost", wish=wish), by_tdp)
    assert (answer.chosen[0].name, answer.chosen[0].price_usd) == ("GeForce RTX 3090 (used)", 10.0)


def test_too_little_money_says_what_the_cheapest_costs():
    cheapest = build(asked(budget_usd=inf, minimize="cost"), by_tdp)
    with pytest.raises(InfeasibleError, match=f"the cheapest costs \\${cheapest.total_usd:,.0f}"):
        build(asked(budget_usd=300.0), by_tdp)
    with pytest.raises(InfeasibleError, match="no card costs"):
        build(asked(budget_usd=1.0), by_tdp)


def test_what_no_rule_allows_names_the_rules():
    wish = Wish(devices=("rtx-4090",), count=1)
    with pytest.raises(InfeasibleError, match="deadline"):
        build(asked(wish=wish, budget_usd=inf, deadline_s=1e-3), by_tdp)
    with pytest.raises(InfeasibleError, match="no gpu with a price"):
        build(asked(wish=Wish(devices=("h100-sxm5-80gb",))), by_tdp)


def r12() -> Rig:
    return read_rig(R12.read_text(), "r12.toml")


def test_the_upgrade_path_of_the_notes():
    answer = build(asked(owned=r12(), budget_usd=800.0), by_tdp)
    steps = {(s.kind, s.gain): s for s in answer.steps}
    assert (steps["ram", "96 GiB"].action, steps["ram", "128 GiB"].action) == ("add", "replace")
    assert steps["psu", "1000 W"].refused == ""
    second = next(s for s in answer.steps if s.kind == "gpu" and s.action == "add")
    assert "sold-whole" in second.refused
    assert answer.total_usd <= 800
    kept = {c.kind for c in answer.chosen if c.action == "keep"}
    assert {"motherboard", "case"} <= kept
    assert len(answer.rig.gpu) == 1
    assert not [f for f in answer.findings if f.severity == PROBLEM]


def test_a_supply_that_is_not_known_carries_no_more_than_now():
    hungrier = build(asked(owned=r12(), budget_usd=2500.0, wish=Wish(devices=("rtx-5080",))), by_tdp)
    assert hungrier.rig.gpu[0].device == "rtx-5080"
    assert hungrier.rig.psu[0].rated_w == 1000
    assert next(c.action for c in hungrier.chosen if c.kind == "psu") == "buy"


def test_a_computer_without_a_card_gets_one():
    bare = replace(r12(), gpu=())
    answer = build(asked(owned=bare, budget_usd=inf, minimize="cost"), by_tdp)
    assert (answer.chosen[0].action, len(answer.rig.gpu)) == ("buy", 1)
    assert answer.now_per_s is None


def test_whatever_is_cheaper_is_refused_by_a_rule_or_a_limit():
    """Were it not, the build would not be the best: all cheaper parts are accounted for by name."""
    for changes in ({"budget_usd": 1500.0}, {"minimize": "cost", "budget_usd": inf, "deadline_s": 1e6 / 300}):
        answer = build(asked(**changes), by_tdp)
        for part in answer.chosen:
            cheaper = sum(option.price_usd < part.price_usd for option in all_options()[part.kind])
            named = sum(map(int, re.findall(r"\((\d+)\)", part.why)))
            assert named == cheaper or (part.kind == "gpu" and answer.ask.minimize == "time"), part


def test_an_upgrade_without_money_changes_nothing():
    options = upgrade_options(r12(), Wish())
    assert all(options[kind][0].action == "keep" for kind in KINDS)
    answer = build(asked(owned=r12(), budget_usd=30.0, minimize="cost"), by_tdp)
    assert answer.total_usd == 0


def test_the_estimator_answers_for_cards_and_lanes():
    card = described("gpu", "RTX 3090")
    one, two = setup_of(card, 1), setup_of(card, 2, described("cpu", "AMD Ryzen 7 7700"))
    assert (one.link, two.link) == ("", "pcie4x8")
    found = speeds(task(), [one, two], 0.9)
    assert found[one].samples_per_s < found[two].samples_per_s < 2.001 * found[one].samples_per_s
    assert found[one].low_per_s <= found[one].samples_per_s <= found[one].high_per_s
    rig = Rig(gpu=(card, card), cpu=(described("cpu", "AMD Ryzen 7 7700"),))
    assert demand_of(rig, task()).samples_per_s == pytest.approx(found[two].samples_per_s)


def test_a_document_is_plain():
    plain = document(build(asked(mains="eu", today=date(2026, 7, 23)), by_tdp))
    assert plain["prices"] == {"as_of": "2025-07-23", "age_days": 365}
    assert plain["schema"] == "rigwise.rig.build/1"
    assert plain["asked"]["budget_usd"] == 2000.0
    assert len(plain["chosen"]) == len(KINDS)
