"""Serving fleets on small random markets, with a toy estimator: search, bounds and checker against brute force."""

import random
from dataclasses import replace
from datetime import date
from statistics import NormalDist
from types import SimpleNamespace
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InfeasibleError
from rigwise.estimate.serving_curve import Curves, Floors
from rigwise.estimate.serving_step import Replica
from rigwise.estimate.steady_state import fitting_sequences, times_at
from rigwise.facts.device import Device
from rigwise.facts.offer import Offer
from rigwise.graph.graph import Card, Graph, Model, Parameter
from rigwise.machine.machine import Machine
from rigwise.market.spot import interruption_of
from rigwise.search.plan import owned_machines, usable_offers
from rigwise.search.serving import plan_serving
from rigwise.search.serving_certificate import check_serving
from rigwise.search.serving_types import ServingClaim, ServingCover
from rigwise.search.types import World
from rigwise.workload.job import Job, OwnedMachine, Quota
from rigwise.workload.serving_load import Serving, ServingJob

TODAY = date(2026, 8, 1)
SEEDS = st.integers(0, 2**32 - 1)

MODEL = Model(
    name="toy",
    card=Card(title="Toy"),
    parameters=(Parameter(name="w", shape=(1000, 1000)),),
    graphs={task: Graph(ops=(), symbols={"b": 1}) for task in ("prefill", "decode")},
)
SIZES = np.array([1.0, 2.0, 4.0, 8.0, 16.0])


def _share(*facts):
    return (crc32(repr(facts).encode()) % 1000) / 1000


def _floor(device, dtype, tensor):
    """Seconds of a prompt, of a step of none, of each sequence; bytes of weights, of each sequence."""
    rate, bits = device.memory_bytes_per_s / 1e12 * tensor, {"bf16": 1.0, "fp16": 1.0}.get(dtype, 0.5)
    return 0.2 * bits / rate, 0.02 * bits / rate, 0.004 / rate, 6e9 * bits / tensor, 8e8 / tensor


def toy_floors(replica, machines):
    rows = []
    for machine in machines:
        prefill, step, each, weights, cache = _floor(machine.device, replica.dtype, replica.tensor)
        rows.append((prefill, step + each, each + step / SIZES[-1], weights + cache, machine.device.memory_bytes))
    columns = np.array(rows).reshape(-1, 5).T
    return Floors(**dict(zip(Floors.__dataclass_fields__, columns, strict=True)))


def toy_curves(replica, machines):
    found = []
    for machine in machines:
        name = (machine.device.id, replica.dtype, replica.tensor)
        prefill, step, each, weights, cache = _floor(machine.device, replica.dtype, replica.tensor)
        slower = np.array([1.05 + _share(name, size) for size in SIZES])
        found.append(
            {
                "decode_s": (step + each * SIZES) * slower,
                "decode_spread": 0.05 + 0.2 * np.array([_share(*name, "s", size) for size in SIZES]),
                "decode_floor_s": step + each * SIZES,
                "prefill_s": prefill * (1.05 + _share(*name, "p")),
                "prefill_spread": 0.05 + 0.2 * _share(*name, "ps"),
                "prefill_floor_s": prefill,
                "memory_bytes": weights + cache * SIZES * (1.0 + 0.1 * _share(*name, "m")),
                "memory_spread": 0.01 + 0.1 * _share(machine.device.id),
                "capacity_bytes": machine.device.memory_bytes,
            }
        )
    return Curves(batches=SIZES, **{name: np.array([row[name] for row in found]) for name in found[0]})


TOY = SimpleNamespace(
    tensor_sizes=lambda model: (1, 2),
    check_servable=lambda model, load: None,
    replica_floors=toy_floors,
    replica_curves=toy_curves,
)


def a_device(dice, name, **fields):
    return Device(
        id=name,
        name=name.upper(),
        vendor="v",
        kind="gpu",
        architecture="a",
        peak_flops_per_s={"fp32": 1e13},
        **{
            "memory_bytes": dice.choice([4e9, 8e9, 16e9, 48e9]),
            "memory_bytes_per_s": dice.choice([5e11, 1e12, 3e12]),
            **fields,
        },
    )


def an_offer(dice, devices, number):
    names = dice.sample(sorted(devices), k=min(len(devices), dice.choice([1, 1, 1, 2])))
    return Offer(
        provider=dice.choice(["alpha", "beta"]),
        instance=f"i{number}",
        region=dice.choice(["", "east", "west"]),
        device="|".join(sorted(names)),
        accelerator="x",
        accel_count=dice.choice([1, 1, 2, 3, 4]),
        accel_memory_bytes=None,
        vcpus=None,
        memory_bytes=None,
        disk_bytes=None,
        link=dice.choice(["", "nvlink"]),
        inter_node_bytes_per_s=None,
        price_usd_h=dice.choice([None, 0.1, 0.5, 1.0, 2.0]),
        spot_price_usd_h=dice.choice([None, 0.05, 0.3]),
        as_of="2026-07-01",
        source="toy",
        session_cap_s=7200.0 if dice.random() < 0.1 else None,
    )


def a_market(seed):
    dice = random.Random(seed)
    devices = {f"d{i}": a_device(dice, f"d{i}") for i in range(dice.randint(1, 4))}
    offers = [an_offer(dice, devices, i) for i in range(dice.randint(1, 8))]
    offers += [replace(o, region="north", price_usd_h=1.5) for o in offers if dice.random() < 0.3]
    world = World(offers=tuple(offers), device=devices.__getitem__, model=MODEL, today=TODAY, physics=TOY)
    load = Serving(
        rate_per_s=dice.choice([0.1, 3.0, 20.0]),
        prompt_tokens=100,
        output_tokens=dice.choice([1, 20, 200]),
        ttft_s=dice.choice([None, 0.3, 1.0]),
        tpot_s=dice.choice([None, 0.04, 0.1]),
        utilisation_frac=dice.choice([1.0, 0.7]),
        duration_s=dice.choice([3600.0, 730 * 3600.0]),
    )
    own = OwnedMachine(name="box", device="d0", count=dice.choice([1, 4]), usd_per_h=dice.choice([0.0, 0.2]))
    job = Job(
        model="toy",
        amount=float(load.output_tokens),
        unit="tokens",
        task="decode",
        confidence=dice.choice([0.5, 0.9, 0.95]),
        spot=dice.random() < 0.5,
        allow_quantised=dice.random() < 0.3,
        budget_usd=dice.choice([None, None, 5.0, 5000.0]),
        max_nodes=dice.choice([None, None, 2]),
        max_usd_per_h=dice.choice([None, None, 3.0]),
        tax_frac=dice.choice([0.0, 0.19]),
        quota=dice.choice([(), (), (Quota(provider="alpha", region="east", max_count=4),)]),
        owned=(own,) if dice.random() < 0.2 else (),
        top=dice.choice([1, 3, 20]),
    )
    return ServingJob(load=load, job=job), world


def prices_of(request, world):
    selection = usable_offers(request.job, world)
    return (*owned_machines(request.job, world), *selection.quotes), selection.excluded


def solved(request, world):
    """The answer, or None where there is none."""
    try:
        return plan_serving(request, world, TOY, *prices_of(request, world))
    except InfeasibleError:
        return None


def cost_of(result):
    return float("inf") if result is None else result.plans[0].cost_usd.p50


def faults(result, request, world):
    claim = ServingClaim(job=request, today=result.today, plans=result.plans, certificate=result.certificate)
    return check_serving(claim, world, TOY, prices_of(request, world)[0])


def keeps_up(curves, row, load, rate, z, confidence):
    """Whether a replica takes a rate: the fixed point by plain iteration, from an empty batch up."""
    times = times_at(curves, z)
    decode_s, prefill_s = times.decode_s[row], times.prefill_s[row]
    fitting = fitting_sequences(curves, confidence)[row]
    if rate * prefill_s >= 1 or fitting < 1:
        return False
    size, sequences = 0, 0.0
    for _ in range(len(curves.batches) + 1):
        each_s = decode_s[size] / (1 - rate * prefill_s) if load.decode_steps else 0.0
        sequences = rate * load.decode_steps * each_s
        if sequences > curves.batches[-1] * (1 + 1e-9):
            return False
        size = int(np.flatnonzero(sequences <= curves.batches * (1 + 1e-9))[0])
    quick = load.ttft_s is None or decode_s[size] + prefill_s <= load.ttft_s * (1 + 1e-9)
    return bool(quick and sequences <= fitting * (1 + 1e-9) and each_s <= (load.tpot_s or np.inf) * (1 + 1e-9))


def _usd(job, quote, instances, hours):
    """What instances cost, infinite if they may not be had."""
    if quote.market == "owned":
        usd, held = quote.usd_per_h * hours, instances <= 1
    else:
        each = quote.usd_per_h * (1 + job.tax_frac)
        usd, held = each * instances * hours, instances <= (job.max_nodes or instances)
        held = held and each * instances <= (job.max_usd_per_h or np.inf)
        limited = job.quota and (quote.offer.provider, quote.offer.region) == ("alpha", "east")
        held = held and not (limited and instances * quote.offer.accel_count > 4)
    return usd if held and usd <= (np.inf if job.budget_usd is None else job.budget_usd) else np.inf


def brute_force(request, world):
    """The least cost of each offer, trying one instance more until the replicas keep up."""
    load, job, best = request.load, request.job, {}
    z = NormalDist().inv_cdf(job.confidence)
    for quote in prices_of(request, world)[0]:
        offer = quote.offer
        if offer.session_cap_s:
            continue
        device = min(
            (world.device(d) for d in offer.devices), key=lambda d: (d.memory_bytes_per_s, d.memory_bytes, d.id)
        )
        up = paid = 1.0
        if quote.market == "spot":
            known = interruption_of(offer)
            cycle_s = known.mean_run_s + known.mean_wait_s + known.restart_s
            up, paid = known.mean_run_s / cycle_s, 1 - known.mean_wait_s / cycle_s
        for dtype in ("bf16", "fp16", "fp8", "int8", "int4")[: 5 if job.allow_quantised else 2]:
            for tensor in (t for t in (1, 2) if t <= offer.accel_count):
                replica = Replica(model=MODEL, load=load, dtype=dtype, tensor=tensor)
                curves = toy_curves(replica, [Machine(device=device, count=int(offer.accel_count))])
                takes_any = keeps_up(curves, 0, load, 1e-9, z, job.confidence)
                for instances in range(1, 4000 if takes_any else 1):
                    each = load.rate_per_s / load.utilisation_frac / up / (instances * (offer.accel_count // tensor))
                    if keeps_up(curves, 0, load, each, z, job.confidence):
                        usd = _usd(job, quote, instances, load.duration_s / 3600 * paid)
                        key = (offer.provider, offer.instance, offer.device, quote.market)
                        best[key] = min(usd, best.get(key, np.inf))
                        break
    return sorted(usd for usd in best.values() if usd < np.inf)


@settings(max_examples=150, deadline=None)
@given(SEEDS)
def test_the_search_finds_what_brute_force_finds_and_the_proof_holds(seed) -> None:
    request, world = a_market(seed)
    result, expected = solved(request, world), brute_force(request, world)
    assert (result is None) == (not expected)
    if result is not None:
        costs = [plan.cost_usd.p50 for plan in result.plans]
        assert costs == pytest.approx(expected[: request.job.top], rel=1e-9)
        assert faults(result, request, world) == []
        certificate = result.certificate
        assert certificate.candidates == certificate.estimated + sum(certificate.pruned.values())


def test_the_random_markets_are_of_every_kind() -> None:
    results = [(request, solved(request, world)) for request, world in map(a_market, range(150))]
    assert 20 < sum(result is None for _, result in results) < 120
    pruned = [result.certificate.pruned for _, result in results if result]
    assert all(any(p[reason] for p in pruned) for reason in ("memory", "ttft", "tpot", "limits", "bound"))
    markets = {result.plans[0].market for _, result in results if result}
    assert markets == {"on-demand", "spot", "owned"}


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_more_work_is_never_cheaper_and_less_strict_never_dearer(seed) -> None:
    request, world = a_market(seed)
    load, cost = request.load, cost_of(solved(request, world))

    def instead(**fields):
        return cost_of(solved(replace(request, load=replace(load, **fields)), world))

    assert instead(rate_per_s=1.7 * load.rate_per_s) >= cost * (1 - 1e-9)
    assert instead(utilisation_frac=0.5 * load.utilisation_frac) >= cost * (1 - 1e-9)
    assert instead(ttft_s=None) <= cost * (1 + 1e-9)
    assert instead(tpot_s=None) <= cost * (1 + 1e-9)
    assert instead(ttft_s=1.5 * (load.ttft_s or 1.0), tpot_s=1.5 * (load.tpot_s or 1.0)) <= cost * (1 + 1e-9) or (
        load.ttft_s is None or load.tpot_s is None
    )


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_more_memory_more_offers_and_more_formats_are_never_worse(seed) -> None:
    request, world = a_market(seed)
    cost = cost_of(solved(request, world))
    devices = {name: world.device(name) for offer in world.offers for name in offer.devices}
    if request.job.owned:
        devices["d0"] = world.device("d0")
    single = all(len(offer.devices) == 1 for offer in world.offers)
    larger = {name: replace(device, memory_bytes=2 * device.memory_bytes) for name, device in devices.items()}
    if single:
        assert cost_of(solved(request, replace(world, device=larger.__getitem__))) <= cost * (1 + 1e-9)
    another = an_offer(random.Random(seed + 1), devices, 99)
    assert cost_of(solved(request, replace(world, offers=(*world.offers, another)))) <= cost * (1 + 1e-9)
    free = replace(request, job=replace(request.job, allow_quantised=True))
    assert cost_of(solved(free, world)) <= cost * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_odds_are_shared_out_and_the_dearer_of_two_equal_instances_never_wins(seed) -> None:
    request, world = a_market(seed)
    result = solved(request, world)
    if result is None:
        return
    plans = result.plans
    assert sum(plan.p_best for plan in plans) <= 1 + 1e-9
    assert sum(plan.p_best for plan in plans) > 0.5
    assert all(plan.expected_regret_usd >= 0 for plan in plans)
    for one in plans:
        for other in plans:
            alike = ("device", "dtype", "parallel", "market", "nodes", "count", "idle")
            equal = all(getattr(one, name) == getattr(other, name) for name in alike) and one.market != "owned"
            if equal and one.cost_usd.p50 < other.cost_usd.p50 * (1 - 1e-9):
                assert other.p_best == 0


def _mutations(result):
    """Results that say something else, by what is wrong with them."""
    first, certificate = result.plans[0], result.certificate
    work = first.serving

    def plan(**fields):
        return replace(result, plans=(replace(first, **fields), *result.plans[1:]))

    def figures(**fields):
        return plan(serving=replace(work, **fields))

    def proof(**fields):
        return replace(result, certificate=replace(certificate, **fields))

    half = replace(first.cost_usd, p10=first.cost_usd.p10 / 2, p50=first.cost_usd.p50 / 2, p90=first.cost_usd.p90 / 2)
    entry = certificate.cover[0]
    yield "cost", plan(cost_usd=half)
    yield "cost and best", replace(plan(cost_usd=half), certificate=replace(certificate, best=half.p50))
    yield "price", plan(usd_per_h=first.usd_per_h * 0.9)
    yield "instances", plan(nodes=first.nodes + 1)
    yield "devices", plan(count=first.count + 1)
    yield "format", plan(dtype="int2")
    yield "memory", plan(memory_bytes=first.memory_bytes * 0.9)
    yield "capacity", plan(memory_capacity_bytes=first.memory_capacity_bytes * 1.1)
    yield "fit", plan(fit_probability=first.fit_probability * 0.99)
    yield "region", plan(region="moon")
    yield "rank", plan(rank=2)
    yield "replicas", figures(replicas=work.replicas + 1)
    yield "rate", figures(rate_per_s=work.rate_per_s * 0.9)
    yield "first token", figures(ttft_s=replace(work.ttft_s, p50=work.ttft_s.p50 * 0.9))
    if work.tpot_s:
        yield "token", figures(tpot_s=replace(work.tpot_s, p90=work.tpot_s.p90 * 0.9))
        yield "sequences", figures(sequences=work.sequences * 0.9)
    yield "dollars", figures(usd_per_million_tokens={**work.usd_per_million_tokens, "all": 1e-3})
    yield "no plans", replace(result, plans=())
    yield "best", proof(best=certificate.best * 0.9)
    yield "lower bound", proof(lower_bound=certificate.lower_bound * 1.1)
    yield "gap", proof(gap_frac=0.1)
    yield "candidates", proof(candidates=certificate.candidates + 1)
    yield "estimated", proof(estimated=certificate.estimated + 1)
    yield "dropped", proof(cover=certificate.cover[1:])
    yield "twice", proof(cover=(*certificate.cover, entry))
    yield (
        "added",
        proof(cover=(*certificate.cover, ServingCover(state=("bf16", "x", "1", 1), verdict="bound", number=9))),
    )
    for index in range(0, len(certificate.cover), 9):
        other = certificate.cover[index]
        for verdict in {"estimated", "memory", "ttft", "tpot", "limits", "bound"} - {other.verdict, "estimated"}:
            wrong = replace(other, verdict=verdict)
            yield "verdict", proof(cover=(*certificate.cover[:index], wrong, *certificate.cover[index + 1 :]))
        if other.number:
            wrong = replace(other, number=other.number * 1.01)
            yield "number", proof(cover=(*certificate.cover[:index], wrong, *certificate.cover[index + 1 :]))


def test_the_checker_finds_every_falsified_figure() -> None:
    seen = 0
    for seed in range(40):
        request, world = a_market(seed)
        result = solved(request, world)
        if result is None or not result.plans[0].cost_usd.p50:
            continue
        for what, falsified in _mutations(result):
            assert faults(falsified, request, world), (seed, what)
            seen += 1
    assert seen > 400


def test_the_checker_finds_a_plan_that_answers_another_question() -> None:
    for seed in range(40):
        request, world = a_market(seed)
        result = solved(request, world)
        if result is not None and result.plans[0].cost_usd.p50:
            more = replace(request, load=replace(request.load, rate_per_s=3 * request.load.rate_per_s + 10))
            assert faults(result, more, world)
            dearer = tuple(
                replace(o, price_usd_h=(o.price_usd_h or 1) * 1.1, spot_price_usd_h=None) for o in world.offers
            )
            owned = result.plans[0].market == "owned"
            assert faults(result, request, replace(world, offers=dearer)) or owned


def test_a_hidden_cheaper_offer_is_found_out() -> None:
    """A proof over a market with one offer removed does not hold in the whole market."""
    found = 0
    for seed in range(60):
        request, world = a_market(seed)
        result = solved(request, world)
        if result is None or result.plans[0].market == "owned" or len(world.offers) < 2:
            continue
        best = result.plans[0]
        rest = tuple(o for o in world.offers if o.instance != best.instance)
        without = solved(request, replace(world, offers=rest)) if rest else None
        if without is not None:
            assert faults(without, request, world)
            found += 1
    assert found > 5
