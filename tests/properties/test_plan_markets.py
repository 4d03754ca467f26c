"""Plans on thousands of small random markets, with a toy estimator that is admissible by construction.

A* returns what exhaustive search returns, bounds are bounds, more choice never hurts, and the
checker accepts the genuine certificate and none that was tampered with.
"""

import random
import re
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InfeasibleError
from rigwise.facts.billing import Billing
from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.facts.subscription import Subscription
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.market.break_even import Machine
from rigwise.market.offers import BOUGHT, Quote
from rigwise.market.ownership import Conditions, Purchase
from rigwise.market.shelf import PurchaseQuote, Purchases
from rigwise.market.tariff import Tariff
from rigwise.search.bounds import Goal, least
from rigwise.search.estimates import Estimates
from rigwise.search.exhaustive import exhaustive
from rigwise.search.plan import Claim, all_quotes, plan, surroundings, verify
from rigwise.search.problem import PlanProblem
from rigwise.search.space import build_space
from rigwise.search.types import KEEP, RECOMPUTE, CoverEntry, World
from rigwise.units import parse_seconds, parse_usd
from rigwise.workload.choices import settle
from rigwise.workload.job import Data, Job, OwnedMachine, Quota, Weights
from rigwise.workload.lower import Recipe

TODAY = date(2026, 8, 1)
SEEDS = st.integers(0, 2**32 - 1)
MODEL = Model(
    name="toy",
    card=Card(title="Toy", reference_batch=16),
    parameters=(Parameter(name="w", shape=(1000, 1000)),),
    graphs={"train": Graph(ops=(), symbols={"b": 1}), "infer": Graph(ops=(), symbols={"b": 1})},
)
FORMAT = {"amp-bf16": "bf16", "amp-fp16": "fp16", "bf16": "bf16", "fp16": "fp16", "fp32": "fp32"}

BILLING = {
    "alpha": Billing(increment_s=3600.0, egress_usd_per_gb=0.1, idle_disk_usd_per_gb_month=0.2),
    "beta": Billing(minimum_s=900.0, disk_usd_per_gb_month=0.1),
}


# A toy estimator: time is the bound divided by an efficiency that depends on everything


def _efficiency(*facts: object) -> float:
    return 0.2 + 0.7 * (crc32(repr(facts).encode()) % 1000) / 1000


def _rate(device, dtype):
    return device.peak(FORMAT[dtype]) if device.computes(FORMAT[dtype]) else np.nan


def least_work(case, dtype, model=None):
    return SimpleNamespace(flops=1e12 * case.batch, dtype=dtype)


def least_step_s(work, device, count=1):
    return work.flops / (_rate(device, work.dtype) * count)


def least_energy_j(work, device, count=1):
    return least_step_s(work, device, count) * count * (device.tdp_w or 0.0)


def least_memory_bytes(case, dtype, count, model=None):
    return 4e9 / count


def _step_s(case, recipe, machine):
    """Efficiency is that of the recipe without recompute, which then only adds work."""
    floor_s = least_step_s(least_work(case, recipe.dtype), machine.device, machine.count)
    facts = (recipe.layout, recipe.mode, recipe.dtype, recipe.micro_batch, recipe.zero)
    efficiency = _efficiency(facts, machine.device.id, machine.count, machine.nodes, machine.link)
    return floor_s / efficiency * {"none": 1.0, "selective": 1.1, "full": 1.3}[recipe.recompute]


def _memory_bytes(recipe, count):
    kept = {"none": 1.0, "selective": 0.6, "full": 0.2}[recipe.recompute]
    return 4e9 * (1.5 if recipe.zero == 0 else 1.5 / count) + kept * recipe.micro_batch * 1e9


def estimate_fleet(case, recipe, machines, model=None):
    p50 = np.array([_step_s(case, recipe, m) for m in machines])
    wide = np.array([1.05 + 0.3 * _efficiency(m.device.id) for m in machines])
    memory = np.array([_memory_bytes(recipe, m.count) for m in machines])
    capacity = np.array([m.device.memory_bytes for m in machines])
    watts = np.array([m.device.tdp_w * m.count if m.device.tdp_w else np.nan for m in machines])
    return SimpleNamespace(
        step_p10_s=p50 / wide,
        step_p50_s=p50,
        step_p90_s=p50 * wide,
        memory_p50_bytes=memory,
        memory_capacity_bytes=capacity,
        fit_probability=np.clip(0.9 + (capacity - memory) / 4e9, 0, 1),
        energy_p50_j=p50 * watts,
    )


def estimate_recipes(case, recipes, machines, model=None, wanted=None):
    every = [vars(estimate_fleet(case, recipe, machines, model)) for recipe in recipes]
    names = vars(estimate_fleet(case, Recipe(dtype="fp32"), machines, model))
    return SimpleNamespace(**{n: np.array([one[n] for one in every]).reshape(-1, len(machines)) for n in names})


def least_family_s(case, family, machines, recipes, model=None):
    """No recipe reaches nine tenths of the bound; and of some devices nothing is known."""
    quickest_s = [least_step_s(least_work(case, family.dtype), m.device, m.count) / 0.9 for m in machines]
    known = [m.device.id != "d3" for m in machines]
    return np.where(known, quickest_s, np.nan)


PHYSICS = SimpleNamespace(
    estimate_fleet=estimate_fleet,
    estimate_recipes=estimate_recipes,
    least_work=least_work,
    least_step_s=least_step_s,
    least_energy_j=least_energy_j,
    least_memory_bytes=least_memory_bytes,
)
CLOSE_PHYSICS = SimpleNamespace(**vars(PHYSICS), least_family_s=least_family_s)


# Random devices, offers and jobs


def a_device(dice, name):
    fp32 = dice.choice([5e12, 10e12, 20e12])
    peaks = {"fp32": fp32}
    if dice.random() < 0.7:
        peaks["fp16_acc32"] = fp32 * dice.choice([2, 4, 8])
    if dice.random() < 0.5:
        peaks["bf16_acc32"] = fp32 * dice.choice([2, 4, 8])
    return Device(
        id=name,
        name=name.upper(),
        vendor="v",
        kind="gpu",
        architecture="a",
        peak_flops_per_s=peaks,
        memory_bytes=dice.choice([3e9, 8e9, 16e9, 48e9]),
        memory_bytes_per_s=dice.choice([3e11, 1e12]),
        tdp_w=dice.choice([None, 100.0, 300.0]),
    )


def an_offer(dice, devices, number):
    names = dice.sample(sorted(devices), k=min(len(devices), dice.choice([1, 1, 1, 2])))
    free = dice.random() < 0.1
    divided = free or dice.random() < 0.2
    price = 0.0 if free else dice.choice([None, 0.1, 0.5, 1.0, 2.0, 5.0])
    return Offer(
        provider=dice.choice(["alpha", "beta"]),
        instance=f"i{number}",
        region=dice.choice(["", "east", "west"]),
        device="|".join(sorted(names)),
        accelerator="x",
        accel_count=dice.choice([1, 1, 2, 3, 4, 8]),
        accel_memory_bytes=None,
        vcpus=None,
        memory_bytes=None,
        disk_bytes=None,
        link=dice.choice(["", "pcie", "nvlink"]),
        inter_node_bytes_per_s=dice.choice([None, None, 5e9]),
        price_usd_h=price,
        spot_price_usd_h=dice.choice([None, 0.05, 0.3, 1.0]),
        as_of=dice.choice(["2026-07-01", "2026-02-01"]),
        source="toy",
        session_cap_s=dice.choice([300.0, 3600.0, 7200.0]) if divided else None,
        weekly_quota_s=dice.choice([None, 1800.0, 9000.0]) if divided else None,
        term_s=None if divided else dice.choice([None, None, None, 86400.0]),
    )


def a_subscription(dice, devices):
    return Subscription(
        id="pro",
        provider="delta",
        name="Pro",
        device=dice.choice(sorted(devices)),
        count=dice.choice([1, 2]),
        usd_per_month=dice.choice([0.0, 10.0, 15.0]),
        units_per_month=0.0,
        usd_per_unit=0.1,
        units_per_h=dice.choice([None, 2.0]),
        session_s=dice.choice([None, 3600.0]),
        weekly_quota_s=dice.choice([None, 9000.0]),
        as_of="2026-07-01",
        source="toy",
    )


def a_market(seed):
    dice = random.Random(seed)
    devices = {f"d{i}": a_device(dice, f"d{i}") for i in range(dice.randint(1, 4))}
    offers = tuple(an_offer(dice, devices, i) for i in range(dice.randint(1, 8)))
    world = World(
        offers=offers,
        device=devices.__getitem__,
        model=MODEL,
        today=TODAY,
        physics=PHYSICS if seed % 2 else CLOSE_PHYSICS,
        billing=BILLING,
        subscriptions=(a_subscription(dice, devices),) if dice.random() < 0.2 else (),
        grams_per_kwh=lambda quote: {"east": 100.0, "west": 400.0}.get(quote.offer.region, float("nan")),
        to_buy=lambda _: to_buy(sorted(devices)),
    )
    minimize = dice.choice(["cost", "cost", "time", "energy", "carbon", "weights"])
    own = OwnedMachine(name="box", device="d0", count=dice.choice([1, 2]), usd_per_h=dice.choice([0.0, 0.2]))
    job = Job(
        model="toy",
        amount=dice.choice([1e3, 1e5, 1e6]),
        unit="samples",
        task=dice.choice(["train", "train", "infer"]),
        batch=dice.choice([None, 1, 6, 8]),
        deadline_s=dice.choice([None, 600.0, 7200.0, 86400.0]),
        budget_usd=dice.choice([None, 0.5, 5.0, 50.0]),
        confidence=dice.choice([0.5, 0.9, 0.95]),
        spot=dice.random() < 0.5,
        owned=(own,) if dice.random() < 0.2 else (),
        minimize=minimize,
        weights=Weights(time_usd_per_h=1.0, energy_usd_per_kwh=0.5, carbon_usd_per_t=dice.choice([0.0, 50.0]))
        if minimize == "weights"
        else None,
        value_of_time_usd_per_h=dice.choice([0.0, 0.0, 2.0]) if minimize == "cost" else 0.0,
        top=dice.choice([1, 3]),
        **a_life(dice),
    )
    return job, world


def a_life(dice):
    """What else a job may say."""
    return {
        "setup_s": dice.choice([None, 0.0, 900.0]),
        "data": dice.choice([None, None, Data(size_bytes=5e9, at="alpha"), Data(size_bytes=5e9, at="elsewhere")]),
        "max_usd_per_h": dice.choice([None, None, 3.0, 0.0]),
        "max_nodes": dice.choice([None, None, 2]),
        "quota": dice.choice([(), (), (Quota(provider="alpha", device="d0", max_count=2),)]),
        "tax_frac": dice.choice([0.0, 0.19]),
        **dice.choice([{}, {}, {"runs": 5}, {"runs": 5, "parallel_runs": 2}]),
        "buy": dice.random() < 0.3,
    }


def to_buy(devices):
    """One machine of each device, for its loss of value and its electricity."""
    tariff = Tariff(usd_per_h=0.05, fixed_usd=3.0, capital_usd=20.0)
    row = Offer(
        provider="shop",
        instance="",
        region="east",
        device="",
        accelerator="x",
        accel_count=2,
        accel_memory_bytes=None,
        vcpus=None,
        memory_bytes=None,
        disk_bytes=None,
        link="",
        inter_node_bytes_per_s=None,
        price_usd_h=None,
        spot_price_usd_h=None,
        as_of="2026-07-01",
        source="toy",
    )
    rows = (replace(row, instance=f"box with {device}", device=device) for device in devices)
    quotes = (Quote(offer=row, market=BOUGHT, usd_per_h=0.05, tariff=tariff) for row in rows)
    box = Purchase(price_usd=23.0, host_w=50.0, psu_efficiency_frac=1.0)
    machine = Machine(name="box", purchase=box, conditions=Conditions(usd_per_kwh=0.1), load_w=100.0)
    return Purchases(
        quotes=tuple(PurchaseQuote(quote=quote, parts=(), machine=machine) for quote in quotes), excluded={}
    )


def quotes_of(job, world):
    return all_quotes(job, world).quotes


def faults(certificate, plans, job, world):
    """What the checker says."""
    return verify(Claim(job=job, today=TODAY, plans=tuple(plans), certificate=certificate), world)


def solved(job, world):
    """The plan, or None where there is none."""
    try:
        return plan(job, world)
    except InfeasibleError:
        return None


def value_of(result):
    return float("inf") if result is None else result.certificate.best


def brute_force(job, world):
    """The best values of all offers, by looking at every leaf."""
    quotes = quotes_of(job, world)
    if not quotes:
        return []
    space = build_space(settle(job, world.model), quotes, surroundings(job, world))
    goal = Goal.of(job)
    best: dict[tuple[int, int], float] = {}
    for value, leaf in exhaustive(space, Estimates(space, world.physics), goal):
        best.setdefault((leaf.site, leaf.quote), value)
    return list(best.values())[: job.top]


def objective(job, p):
    """What the job minimises, from the figures of a plan."""
    kwh, tonnes = (p.energy_j or 0) / 3.6e6, (p.carbon_g or 0) / 1e6
    weights = job.weights or Weights()
    return {
        "cost": p.cost_usd.p50 + job.value_of_time_usd_per_h * p.time_s.p50 / 3600,
        "time": p.time_s.p50,
        "energy": p.energy_j,
        "carbon": p.carbon_g,
        "weights": p.cost_usd.p50
        + weights.time_usd_per_h * p.time_s.p50 / 3600
        + weights.energy_usd_per_kwh * kwh
        + weights.carbon_usd_per_t * tonnes,
    }[job.minimize]


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_a_star_returns_what_exhaustive_search_returns(seed) -> None:
    job, world = a_market(seed)
    result, expected = solved(job, world), brute_force(job, world)
    assert (result is None) == (not expected)
    if result is not None:
        assert [objective(job, p) for p in result.plans] == pytest.approx(expected, rel=1e-12, abs=1e-9)
        assert result.certificate.gap_frac == 0
        looked_at_all = job.minimize == "energy" and job.task == "infer"
        assert result.certificate.method == ("exhaustive" if looked_at_all else "astar")


def walk(problem):
    """The bound of every state, and the states that a limit rules out."""
    bound_of, ruled_out, states = {(): 0.0}, [], [()]
    while states:
        for child in problem.expand(states.pop()) or ():
            if child.cut:
                ruled_out.append(child.state)
            else:
                bound_of[child.state] = child.bound
                states.append(child.state)
    return bound_of, ruled_out


def blocks_below(problem, state):
    family, below = problem.sites_below(state)
    sites = [problem.space.sites[i] for i in below]
    kinds = (KEEP, RECOMPUTE)[: len(problem.space.task.recomputes)]
    return [(str(family), site.device_class, site.name, kind) for site in sites for kind in kinds]


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_every_bound_is_below_every_leaf(seed) -> None:
    job, world = a_market(seed)
    quotes = quotes_of(job, world)
    if not quotes:
        return
    space, goal = build_space(settle(job, MODEL), quotes, surroundings(job, world)), Goal.of(job)
    estimates = Estimates(space, world.physics)
    problem = PlanProblem(space, least(space, PHYSICS), estimates, goal)
    bound_of, ruled_out = walk(problem)
    for state in ruled_out:
        assert not any(problem.estimate(block) for block in blocks_below(problem, state))
    for block in (state for state in bound_of if len(state) == 4):
        bounds = [bound_of[block[:length]] for length in range(5)]
        if block[3] == RECOMPUTE:  # bounded, or no better than what fits without
            bounds[4] = min([bounds[4], *(value for value, _ in problem.estimate((*block[:3], KEEP)))])
        for value, _ in problem.estimate(block)[:1]:
            assert max(bounds) <= value * (1 + 1e-12)


@settings(max_examples=100, deadline=None)
@given(SEEDS, SEEDS)
def test_another_offer_never_worsens_the_best_plan(seed, other) -> None:
    job, world = a_market(seed)
    dice = random.Random(other)
    devices = {d for offer in world.offers for d in offer.devices}
    more = replace(an_offer(dice, {name: None for name in devices}, 99), as_of="2026-01-01")
    assert value_of(solved(job, replace(world, offers=(*world.offers, more)))) <= value_of(solved(job, world))


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.floats(1, 10))
def test_relaxing_a_limit_never_worsens_the_best_plan(seed, factor) -> None:
    job, world = a_market(seed)
    best = value_of(solved(job, world))
    for limit in ("deadline_s", "budget_usd"):
        if getattr(job, limit) is not None:
            assert value_of(solved(replace(job, **{limit: getattr(job, limit) * factor}), world)) <= best


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_a_gap_is_kept_and_certified(seed) -> None:
    job, world = a_market(seed)
    best, loose = solved(job, world), solved(replace(job, gap_frac=0.5, top=1), world)
    assert (best is None) == (loose is None)
    if loose is not None and best.certificate.best < float("inf"):
        assert loose.certificate.best <= 1.5 * best.certificate.best * (1 + 1e-12)
        assert loose.certificate.gap_frac <= 0.5 + 1e-12
        found = faults(loose.certificate, loose.plans, loose.job, world)
        assert found == []


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.integers(1, 40))
def test_a_search_that_is_stopped_returns_its_best_and_what_it_cannot_rule_out(seed, steps) -> None:
    job, world = a_market(seed)
    best, left = solved(job, world), iter(range(steps))
    hurried = replace(world, stop=lambda found, bound: found < float("inf") and next(left, None) is None)
    found = solved(job, hurried)
    assert (found is None) == (best is None)
    if found is not None:
        certificate = found.certificate
        assert certificate.lower_bound <= best.certificate.best * (1 + 1e-12) <= certificate.best * (1 + 1e-9)
        assert certificate.stopped or certificate.gap_frac == 0
        assert faults(certificate, found.plans, job, world) == []


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.booleans())
def test_the_frontier_is_every_point_that_nothing_beats(seed, energy) -> None:
    job, world = a_market(seed)
    job = replace(job, frontier_energy=energy)
    result = solved(job, world)
    if result is None:
        return
    space, goal = build_space(settle(job, MODEL), quotes_of(job, world), surroundings(job, world)), Goal.of(job)
    problem = PlanProblem(space, least(space, PHYSICS), Estimates(space, PHYSICS), goal)
    points = set()
    for family in space.task.families:
        for site in np.flatnonzero(problem.sites[family.dtype].candidate):
            for rows in problem.estimates.rows(family, site):
                problem.estimates.ensure(family, rows, site, np.full(len(problem.estimates.machines), np.inf))
                found = problem._outcome(family, site, rows)
                every = zip(found.value.flat, found.cost_usd.flat, found.time_s.flat, found.energy_j.flat, strict=True)
                allowed = (point for point in every if point[0] < np.inf and not (energy and np.isnan(point[3])))
                points |= {(cost, time, joules if energy else 0.0) for _, cost, time, joules in allowed}
    beaten = {p for p in points if any(q != p and all(a <= b for a, b in zip(q, p, strict=True)) for q in points)}
    front = {(p.cost_usd.p50, p.time_s.p50, p.energy_j if energy else 0.0) for p in result.frontier}
    assert np.array(sorted(front)) == pytest.approx(np.array(sorted(points - beaten)), rel=1e-12)


@settings(max_examples=100, deadline=None)
@given(SEEDS)
def test_a_genuine_certificate_holds(seed) -> None:
    job, world = a_market(seed)
    result = solved(job, world)
    if result is not None:
        assert faults(result.certificate, result.plans, job, world) == []


def _bent(number, dice):
    return 1.0 if number is None else number * dice.choice([0.9, 1.1]) + 0.0137


def _without_an_entry(dice, certificate):
    cover = list(certificate.cover)
    cover.pop(dice.randrange(len(cover)))
    return replace(certificate, cover=tuple(cover))


def _with_an_entry_twice(dice, certificate):
    return replace(certificate, cover=(*certificate.cover, dice.choice(certificate.cover)))


def _with_a_candidate_that_is_none(dice, certificate):
    extra = CoverEntry(state=("fp64 nchw eager", "no-such-device", "1 x 1"), verdict="bound", number=1e9)
    return replace(certificate, cover=(*certificate.cover, extra))


def _with_a_bent_number(dice, certificate):
    at = dice.randrange(len(certificate.cover))
    entry = certificate.cover[at]
    changed = replace(entry, number=_bent(entry.number, dice))
    return replace(certificate, cover=(*certificate.cover[:at], changed, *certificate.cover[at + 1 :]))


def _with_another_verdict(dice, certificate):
    at = dice.randrange(len(certificate.cover))
    entry = certificate.cover[at]
    others = [v for v in ("estimated", "memory", "deadline", "budget", "bound") if v != entry.verdict]
    changed = replace(entry, verdict=dice.choice(others))
    return replace(certificate, cover=(*certificate.cover[:at], changed, *certificate.cover[at + 1 :]))


def _with_a_better_best(dice, certificate):
    return replace(certificate, best=certificate.best * 0.9 - 0.001)


def _with_a_better_bound(dice, certificate):
    return replace(certificate, lower_bound=certificate.lower_bound * 0.9 - 0.001)


def _with_other_counts(dice, certificate):
    name = dice.choice(["candidates", "estimated"])
    return replace(certificate, **{name: getattr(certificate, name) + dice.choice([-1, 1])})


@pytest.mark.parametrize(
    "tamper",
    [
        _without_an_entry,
        _with_an_entry_twice,
        _with_a_candidate_that_is_none,
        _with_a_bent_number,
        _with_another_verdict,
        _with_a_better_best,
        _with_a_better_bound,
        _with_other_counts,
    ],
)
@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_a_certificate_that_was_tampered_with_is_rejected(tamper, seed) -> None:
    job, world = a_market(seed)
    result = solved(job, world)
    if result is not None:
        false = tamper(random.Random(seed), result.certificate)
        assert faults(false, result.plans, job, world)


@pytest.mark.parametrize(
    "tamper",
    [
        lambda p: replace(p, usd_per_h=p.usd_per_h * 0.83 + 0.0137),
        lambda p: replace(p, time_s=replace(p.time_s, p50=p.time_s.p50 * 0.99)),
        lambda p: replace(p, cost_usd=replace(p.cost_usd, p90=p.cost_usd.p90 * 0.5 + 0.01)),
        lambda p: replace(p, fit_probability=p.fit_probability * 0.999),
        lambda p: replace(p, memory_bytes=p.memory_bytes * 0.9),
        lambda p: replace(p, memory_capacity_bytes=p.memory_capacity_bytes * 2),
        lambda p: replace(p, provider="gamma"),
        lambda p: replace(p, count=p.count + 1),
        lambda p: replace(p, dtype="fp64"),
        lambda p: replace(p, micro_batch=7),
        lambda p: replace(p, market="barter"),
    ],
)
@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_a_plan_that_was_tampered_with_is_rejected(tamper, seed) -> None:
    job, world = a_market(seed)
    result = solved(job, world)
    if result is not None:
        at = random.Random(seed).randrange(len(result.plans))
        false = (*result.plans[:at], tamper(result.plans[at]), *result.plans[at + 1 :])
        assert faults(result.certificate, false, job, world)


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_a_market_that_changed_is_noticed(seed) -> None:
    """A cheaper price for every machine, or a candidate more, leaves no certificate of cost standing."""
    job, world = a_market(seed)
    job = replace(job, minimize="cost", weights=None, owned=(), buy=False, quota=(), max_usd_per_h=None)
    job, world = replace(job, value_of_time_usd_per_h=0.0, data=None), replace(world, subscriptions=())
    result = solved(job, world)
    if result is None or result.certificate.best == 0:
        return
    cheaper = tuple(
        replace(
            offer,
            price_usd_h=offer.price_usd_h and offer.price_usd_h / 2,
            spot_price_usd_h=offer.spot_price_usd_h and offer.spot_price_usd_h / 2,
        )
        for offer in world.offers
    )
    free = {"session_cap_s": None, "weekly_quota_s": None, "term_s": None}
    new = replace(world.offers[0], instance="new", price_usd_h=0.01, **free)
    for changed in (cheaper, (*world.offers, new)):
        other = replace(world, offers=changed)
        assert faults(result.certificate, result.plans, job, other)


def why_not(job, world):
    """Hint of the error of an infeasible job; empty for a feasible one."""
    try:
        plan(job, world)
    except InfeasibleError as error:
        return error.hint
    return ""


@settings(max_examples=80, deadline=None)
@given(SEEDS)
def test_an_infeasible_job_names_a_change_that_is_feasible(seed) -> None:
    """With the figures that the message names, rounded as printed, there is a plan."""
    job, world = a_market(seed)
    for way in why_not(job, world).split("; "):
        changed = job
        if dollars := re.search(r"under (\$[\d.,]+) there is", way):
            changed = replace(changed, budget_usd=parse_usd(dollars[1]))
        if time := re.search(r"within ([\d.,]+ \w+)(?: and \$[\d.,]+)? there is", way):
            changed = replace(changed, deadline_s=parse_seconds(time[1]))
        if changed != job:
            assert solved(changed, world) is not None, way
