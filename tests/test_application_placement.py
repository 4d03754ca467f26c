"""Placements of random small applications: A* finds what looking at all finds, and proves it."""

import itertools
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.application.answer import answer, over_memory
from rigwise.application.bounds import good_weights, means, tables
from rigwise.application.certificate import check_placements
from rigwise.application.costs import cost
from rigwise.application.plan import plan_application, value_of
from rigwise.application.reader import application_from_tables
from rigwise.errors import InfeasibleError, InvalidInputError

SEEDS = st.integers(0, 2**32 - 1)
EXACT = settings(max_examples=250, deadline=None)


def random_tables(seed: int) -> dict:
    """A graph of 2 to 6 components on 1 to 4 places; links, costs and memory may be missing."""
    r = random.Random(seed)
    places = [f"p{i}" for i in range(r.randint(1, 4))]
    components = [f"c{i}" for i in range(r.randint(2, 6))]
    feeds = {name: r.sample(components[:i], min(i, r.randint(1, 2))) for i, name in enumerate(components)}
    objective = r.choice(["throughput", "throughput", "latency", "cost"])
    tables: dict = {
        "application": {"flow": []},
        "objective": {"optimize": objective, "top": r.randint(1, 3)},
        "place": {p: {"cores": r.choice([1, 2, 4]), "usd_per_h": r.choice([0, 0.5, 1, 3])} for p in places},
        "link": [
            {"between": list(pair), "bytes_per_s": r.choice([1e5, 1e6, 1e7]), "latency": r.choice([0, 1e-3])}
            for pair in itertools.combinations(places, 2)
            if r.random() < 0.8
        ],
        "component": {},
    }
    for place in places:
        if r.random() < 0.3:
            tables["place"][place]["memory"] = r.choice([1, 2, 3])
    for name in components:
        followers = [other for other in components if name in feeds[other]]
        table: dict = {"workers": r.choice([1, 2, 8]), "batch": r.choice([1, 1, 4])}
        able = r.sample(places, r.randint(1, len(places)))
        table["cost"] = {p: {"time": r.choice([1e-3, 2e-3, 5e-3, 1e-2]) * r.random()} for p in able}
        for cost_table in table["cost"].values():
            cost_table["memory"] = r.choice([0, 1, 1])
        if r.random() < 0.2:
            table |= r.choice([{"on": able[0]}, {"places": able[:2]}])
        if feeds[name]:
            table |= {"inputs": {"x": "x"}, "merge": True}
        elif objective != "throughput" or r.random() < 0.5:
            table["rate"] = r.choice([20, 100, 400])
        if followers:
            table["outputs"] = {"x": {"bytes": r.choice([10, 1000, 30000]), "ratio": r.choice([1, 1, 0.5, 2])}}
        tables["component"][name] = table
        tables["application"]["flow"] += [f"{before} -> {name}" for before in feeds[name]]
    return tables


def everything(costed) -> list[float]:
    """The values of all placements that keep the limits, best first."""
    values = []
    for places in itertools.product(*costed.allowed.values()):
        placement = dict(zip(costed.services, places, strict=True))
        try:
            found = answer(costed, placement)
        except InvalidInputError:  # no link
            continue
        slow = costed.application.optimize != "throughput" and found.capacity_per_s["p50"] < costed.offered_per_s
        if not over_memory(costed, placement) and not slow:
            values.append(value_of(costed, found))
    return sorted(values)


@given(SEEDS)
@EXACT
def test_the_best_are_those_that_looking_at_all_finds(seed: int) -> None:
    application = application_from_tables(random_tables(seed), "random.toml")
    values = everything(cost(application))
    if not values:
        with pytest.raises(InfeasibleError, match=r"random\.toml: no placement"):
            plan_application(application)
        return
    plan = plan_application(application)
    shown = [value_of(plan.costed, found) for found in plan.answers]
    assert shown[0] == pytest.approx(values[0])
    assert plan.certificate.best == pytest.approx(values[0])
    assert plan.certificate.lower_bound <= values[0] * (1 + 1e-9)
    assert plan.certificate.gap_frac == pytest.approx(0, abs=1e-9)
    best = values[: application.top]
    assert all(value <= best[-1] * (1 + 1e-6) for value in shown)
    assert sum(plan.certificate.pruned.values()) + plan.certificate.estimated == plan.certificate.candidates
    assert list(check_placements(plan.certificate, plan.costed, plan.weights)) == []


@given(SEEDS, st.integers(0, 12))
@settings(max_examples=100, deadline=None)
def test_a_search_that_is_stopped_proves_what_it_claims(seed: int, limit: int) -> None:
    application = application_from_tables(random_tables(seed), "random.toml")
    values = everything(cost(application))
    if values:
        plan = plan_application(application, limit=limit)
        assert plan.certificate.lower_bound <= values[0] * (1 + 1e-9) <= plan.certificate.best * (1 + 2e-9)
        assert value_of(plan.costed, plan.answers[0]) == pytest.approx(plan.certificate.best)
        assert list(check_placements(plan.certificate, plan.costed, plan.weights)) == []


@given(SEEDS, st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_any_weights_bound_the_mean(seed: int, r) -> None:
    """Of every placement, not only of those that the search looks at."""
    costed = cost(application_from_tables(random_tables(seed), "random.toml"))
    world = tables(costed)
    weights = good_weights(world)
    assert (weights.sum(axis=1) <= 1).all()
    forest = means(world, weights)
    roots = [i for i, above in enumerate(forest.parent) if above < 0]
    bound = max(sum(forest.rest_s[k, i].min() for i in roots) for k in range(len(weights)))
    placement = {name: r.choice(places) for name, places in costed.allowed.items()}
    try:
        found = answer(costed, placement)
    except InvalidInputError:
        return
    assert bound <= 1 / found.capacity_per_s["p50"] * (1 + 1e-9)


def _plan(seed: int):
    """A plan that had something to cut."""
    while True:
        try:
            plan = plan_application(application_from_tables(random_tables(seed), "random.toml"))
        except InfeasibleError:
            seed += 1
            continue
        if any(entry.verdict == "bound" for entry in plan.certificate.cover):
            return plan
        seed += 1


def _faults(plan, **changes) -> list[str]:
    certificate = replace(plan.certificate, **changes)
    return list(check_placements(certificate, plan.costed, plan.weights))


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_a_certificate_that_was_tampered_with_falls(seed: int, r) -> None:
    plan = _plan(seed)
    cover = plan.certificate.cover
    i = r.randrange(len(cover))
    entry, others = cover[i], cover[:i] + cover[i + 1 :]
    assert _faults(plan, cover=others)
    assert _faults(plan, cover=(*cover, entry))
    assert _faults(plan, cover=(*others, replace(entry, state=("nowhere",))))
    assert _faults(plan, cover=(*others, replace(entry, verdict="boredom")))
    bounded = next(e for e in cover if e.verdict == "bound")
    higher = replace(bounded, number=(bounded.number or 1.0) * 1.01)
    assert _faults(plan, cover=(*(e for e in cover if e is not bounded), higher)) or not bounded.number
    estimated = next(e for e in cover if e.verdict == "estimated")
    assert _faults(plan, cover=(*(e for e in cover if e is not estimated), replace(estimated, number=0.5e-9)))
    for verdict in ("memory", "rate", "link"):
        assert _faults(plan, cover=(*(e for e in cover if e is not bounded), replace(bounded, verdict=verdict)))
    assert _faults(plan, best=plan.certificate.best * 0.9 + 1)
    assert _faults(plan, lower_bound=plan.certificate.best * 2 + 1)
    assert _faults(plan, candidates=plan.certificate.candidates + 1)
    assert _faults(plan, estimated=plan.certificate.estimated + 1)
    assert _faults(plan, objective="joy")


def test_weights_that_sum_to_more_than_one_prove_nothing() -> None:
    plan = _plan(7)
    heavy = {name: weight * 2 + 1 for name, weight in plan.weights.items()}
    negative = {name: -1.0 for name in plan.weights}
    for weights in (heavy, negative):
        assert list(check_placements(plan.certificate, plan.costed, weights)) == [
            "the weights are negative, or sum to more than 1"
        ]


def test_weights_of_nothing_prove_less() -> None:
    """Bounds that rest on the weights are not believed without them."""
    seeds = range(200)
    plans = (plan_application(application_from_tables(chain(seed), "chain.toml")) for seed in seeds)
    assert any(list(check_placements(plan.certificate, plan.costed, {})) for plan in plans)


def chain(seed: int, length: int = 6) -> dict:
    """A chain on three places, all linked."""
    r = random.Random(seed)
    names = ["p", "q", "s"]
    tables: dict = {
        "application": {"flow": [" -> ".join(f"c{i}" for i in range(length))]},
        "place": {name: {"cores": 2} for name in names},
        "link": [{"between": list(pair), "bytes_per_s": 1e7} for pair in itertools.combinations(names, 2)],
        "component": {},
    }
    for i in range(length):
        table: dict = {"workers": 2, "cost": {name: {"time": r.uniform(1e-4, 1e-2)} for name in names}}
        table |= {"inputs": {"x": "x"}} if i else {}
        table |= {"outputs": {"x": {"bytes": r.choice([10, 10000])}}} if i < length - 1 else {}
        tables["component"][f"c{i}"] = table
    return tables


def test_a_faster_place_never_hurts() -> None:
    for seed in range(20):
        slow, fast = chain(seed), chain(seed)
        for table in fast["component"].values():
            table["cost"]["p"]["time"] /= 2
        before, after = (plan_application(application_from_tables(t, "chain.toml")) for t in (slow, fast))
        assert after.certificate.best <= before.certificate.best * (1 + 1e-9)


def test_of_equal_placements_the_one_of_least_latency_is_shown() -> None:
    tables = chain(0, 3)
    tables["component"]["c1"]["cost"] = {"p": {"time": 1.0}, "q": {"time": 1.0}}  # always the bottleneck
    for name in ("c0", "c2"):
        tables["component"][name]["cost"] = {"p": {"time": 1e-3}, "q": {"time": 2e-3}, "s": {"time": 3e-3}}
    first = plan_application(application_from_tables(tables, "chain.toml")).answers[0]
    costed = cost(application_from_tables(tables, "chain.toml"))
    latencies = []
    for places in itertools.product(*costed.allowed.values()):
        found = answer(costed, dict(zip(costed.services, places, strict=True)))
        if found.capacity_per_s["p50"] >= first.capacity_per_s["p50"] * (1 - 1e-9):
            latencies.append(found.latency_s["p50"])
    assert first.latency_s["p50"] == pytest.approx(min(latencies))
