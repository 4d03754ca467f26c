"""Jobs of several stages on random small markets: the answer is the one that trying every combination gives."""

import importlib.util
import itertools
import json
import random
from dataclasses import replace
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rigwise.errors import InfeasibleError, UnknownNameError
from rigwise.market.offers import BOUGHT, OWNED
from rigwise.search.bounds import Goal
from rigwise.search.chain import Limits, Move, Step, best_chain
from rigwise.search.estimates import Estimates
from rigwise.search.plan import all_quotes, surroundings
from rigwise.search.problem import quantile_s
from rigwise.search.space import build_space
from rigwise.search.staged import plan_staged, read_staged, staged_document, verify_staged
from rigwise.workload.choices import settle
from rigwise.workload.job import Stage, StagedJob

_spec = importlib.util.spec_from_file_location("markets", Path(__file__).with_name("test_plan_markets.py"))
MARKETS = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(MARKETS)


def a_staged_job(seed):
    """Two or three stages on one market, with or without limits of the whole."""
    job, world = MARKETS.a_market(seed)
    dice = random.Random(seed + 1)
    stages = []
    for number in range(dice.choice([1, 2, 2, 3])):
        one = replace(
            job,
            amount=dice.choice([1e3, 1e5, 1e6]),
            deadline_s=dice.choice([None, None, 86400.0]),
            budget_usd=None,
            checkpoint_bytes=dice.choice([None, 5e9, 5e10]),
        )
        stages.append(Stage(name=f"s{number}", job=one, stay=number > 0 and dice.random() < 0.3))
    whole = StagedJob(
        stages=tuple(stages),
        deadline_s=dice.choice([None, 7200.0, 86400.0]),
        budget_usd=dice.choice([None, 5.0, 50.0]),
        minimize=job.minimize,
        confidence=job.confidence,
    )
    return whole, world


def every_way(stage, whole, world):
    """All leaves of a stage: objective, late time, late outlay, provider, machine.

    The limits of the whole hold for each stage too: a free session that ends before the work does is
    stretched over days only where a deadline gives these days a weight.
    """
    limits = {
        name: min((x for x in (getattr(stage.job, name), getattr(whole, name)) if x is not None), default=None)
        for name in ("deadline_s", "budget_usd")
    }
    job = replace(stage.job, top=10**6, **limits, **({"setup_s": 0.0} if stage.stay else {}))
    goal, quotes = Goal.of(job), all_quotes(job, world).quotes
    if not quotes:
        return []
    space = build_space(settle(job, world.model), quotes, surroundings(job, world))
    estimates, steps = Estimates(space, world.physics), space.task.steps
    ways = []
    for family in space.task.families:
        table = estimates.fill(family)
        for index, site in enumerate(space.sites):
            machine = estimates.machine_of_site[index]
            rows = np.concatenate(estimates.rows(family, index))
            column = {name: figures[rows, machine] for name, figures in table.columns.items()}
            for price, quote in enumerate(site.quote):
                tariff, offer = site.tariff.pick(price), space.quotes[quote].offer
                if stage.stay and space.quotes[quote].market == BOUGHT:  # paid for by the stage before
                    tariff = replace(tariff, fixed_usd=0.0, capital_usd=0.0)
                p50_s, p90_s = steps * column["step_p50_s"], steps * column["step_p90_s"]
                late_s = quantile_s(p50_s, p90_s, goal.z)
                energy_j = steps * space.task.machines * column["energy_p50_j"] * tariff.time_factor
                grams = np.full(len(rows), space.grams_of(index)[price])
                value = goal.value(tariff.cost_usd(p50_s), tariff.wall_s(p50_s), energy_j, grams)
                wall_s, usd = tariff.wall_s(late_s), tariff.outlay_usd(late_s)
                allowed = (column["fit_probability"] >= goal.confidence) & (
                    wall_s <= min(goal.deadline_s, site.limit_s)
                )
                allowed &= (usd <= goal.budget_usd) & ~np.isnan(value) & ~goal.unknown(energy_j, grams)
                market = space.quotes[quote].market
                name = (offer.provider, offer.instance, offer.region, market, offer.device, site.machine.nodes)
                provider = OWNED if market in (OWNED, BOUGHT) else offer.provider
                for i in np.flatnonzero(allowed):
                    ways.append((float(value[i]), float(wall_s[i]), float(usd[i]), provider, name))
    return ways


def brute_force(whole, world):
    """The least objective over all combinations, infinite if none keeps the limits."""
    stages = []
    for stage in whole.stages:
        best = {}
        for way in every_way(stage, whole, world):
            rivals = best.setdefault(way[3:], [])
            if not any(all(r[i] <= way[i] for i in range(3)) for r in rivals):
                best[way[3:]] = [r for r in rivals if not all(way[i] <= r[i] for i in range(3))] + [way]
        stages.append([way for rivals in best.values() for way in rivals])
    goal, least = Goal.of(whole.stages[0].job), inf
    for chain in itertools.product(*stages):
        value, time_s, usd = (sum(way[i] for way in chain) for i in range(3))
        possible = True
        for number in range(1, len(chain)):
            here, before = whole.stages[number], chain[number - 1]
            if here.stay:
                possible &= before[4] == chain[number][4]
                continue
            sent = whole.stages[number - 1].job.checkpoint_bytes or 0.0
            move_s = sent / (1e9 / 8)
            fee = 0.1 * sent / 1e9 * (1 + here.job.tax_frac) if before[3] == "alpha" != chain[number][3] else 0.0
            time_s, usd = time_s + move_s, usd + fee
            if goal.objective == "time":
                value += move_s
            elif goal.objective in ("cost", "weights"):
                value += goal.weights.cost * fee + goal.weights.time_usd_per_h * move_s / 3600
        in_time = whole.deadline_s is None or time_s <= whole.deadline_s * (1 + 1e-9)
        if possible and in_time and (whole.budget_usd is None or usd <= whole.budget_usd * (1 + 1e-9)):
            least = min(least, value)
    return least


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
@example(458964924)
@example(17464)
def test_the_best_chain_is_that_of_brute_force(seed) -> None:
    whole, world = a_staged_job(seed)
    least = brute_force(whole, world)
    if least == inf:
        with pytest.raises(InfeasibleError):
            plan_staged(whole, lambda _: world)
        return
    result = plan_staged(whole, lambda _: world)
    assert result.certificate.best == pytest.approx(least, rel=1e-9)
    assert result.certificate.gap_frac == 0
    assert result.cost_usd.p50 == pytest.approx(sum(s.plan.cost_usd.p50 + s.move_usd for s in result.stages))
    assert result.time_s.p50 == pytest.approx(sum(s.plan.time_s.p50 + s.move_s for s in result.stages))
    assert staged_document(result)["schema"] == "rigwise.plan.staged/1"


NUMBER = st.integers(0, 8).map(float)
CHOICE = st.tuples(NUMBER, NUMBER, NUMBER, st.sampled_from("abc"))
STAGES = st.lists(st.lists(CHOICE, min_size=1, max_size=6), min_size=1, max_size=4)
LIMIT = st.one_of(st.just(inf), NUMBER.map(lambda x: 2 * x))
PLACES = st.tuples(st.sampled_from("abc"), st.sampled_from("abc"))
WAYS = st.dictionaries(PLACES, st.one_of(st.none(), st.tuples(NUMBER, NUMBER, NUMBER)), max_size=9)


@settings(max_examples=300, deadline=None)
@given(STAGES, LIMIT, LIMIT, WAYS)
def test_label_setting_is_brute_force(choices, time_s, usd, ways) -> None:
    stages = [[Step(*choice, index) for index, choice in enumerate(stage)] for stage in choices]

    def moves(stage, before, after):
        way = ways.get((before, after), (0.0, 0.0, 0.0))
        return None if way is None else Move(*way)

    least = inf
    for chain in itertools.product(*stages):
        steps = [moves(i, a.place, b.place) for i, (a, b) in enumerate(itertools.pairwise(chain), 1)]
        if None in steps:
            continue
        total = [sum(part[i] for part in (*chain, *steps)) for i in range(3)]
        if total[1] <= time_s and total[2] <= usd:
            least = min(least, total[0])
    found = best_chain(stages, Limits(time_s=time_s, usd=usd), moves)
    assert (found.number if found else inf) == least


# The checker


def answered(seed):
    """A staged job, its world and its answer as a document; None where it has no plan."""
    whole, world = a_staged_job(seed)
    try:
        return whole, world, json.loads(json.dumps(staged_document(plan_staged(whole, lambda _: world))))
    except InfeasibleError:
        return whole, world, None


def faults(document, world):
    return verify_staged(read_staged(document, "plan.json"), lambda _: world)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_checker_accepts_what_was_found_and_nothing_falsified(seed) -> None:
    _, world, document = answered(seed)
    if document is None:
        return
    assert faults(document, world) == []
    first, last, certificate = document["stages"][0], document["stages"][-1], document["certificate"]
    for part, key, value in (
        (last["plan"]["cost_usd"], "p50", last["plan"]["cost_usd"]["p50"] * 0.5 + 1e-3),
        (first["plan"]["time_s"], "p90", first["plan"]["time_s"]["p90"] * 0.9),
        (first["plan"], "fit_probability", first["plan"]["fit_probability"] * 0.99),
        (document["time_s"], "p90", document["time_s"]["p90"] * 0.9),
        (last, "move_s", last["move_s"] + 1.0),
        (certificate, "lower_bound", certificate["best"] * 0.9 - 1.0),
        (document, "stages", document["stages"][1:] or [first, first]),
    ):
        before, part[key] = part[key], value
        assert faults(document, world) != [], key
        part[key] = before


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_checker_finds_a_chain_that_the_search_was_kept_from(seed) -> None:
    """A genuine answer of half the market, said to be that of the whole of it."""
    whole, world, document = answered(seed)
    if document is None:
        return
    half = [replace(stage, job=replace(stage.job, providers=("alpha",), spot=False)) for stage in whole.stages]
    try:
        poorer = staged_document(plan_staged(replace(whole, stages=tuple(half)), lambda _: world))
    except (InfeasibleError, UnknownNameError):
        return
    poorer = {**json.loads(json.dumps(poorer)), "job": document["job"]}
    is_worse = poorer["certificate"]["best"] > document["certificate"]["best"] * (1 + 1e-6) + 1e-6
    assert bool(faults(poorer, world)) == is_worse
