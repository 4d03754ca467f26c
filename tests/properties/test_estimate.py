"""What must hold for every estimate, whatever the constants are."""

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import RigwiseError
from rigwise.estimate.bound import LeastWork, cache_bytes, ceiling_flops_per_s, least_step_s
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.collective import (
    Network,
    all_reduce_s,
    crossover_bytes,
    ring_all_reduce_s,
    tree_all_reduce_s,
)
from rigwise.estimate.columns import columns
from rigwise.estimate.fleet import (
    estimate_fleet,
    estimate_recipes,
    least_energy_j,
    least_memory_bytes,
    least_work,
)
from rigwise.estimate.fleet import least_step_s as least_in_fleet_s
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import groups_of, machine_of, predict, work_of
from rigwise.estimate.roofline import compute_s, memory_s
from rigwise.estimate.setting import Setting
from rigwise.estimate.step import step_times
from rigwise.facts.catalogue import device, devices
from rigwise.graph.load import load_model
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case, Parallel
from rigwise.workload.choices import recipes, settle
from rigwise.workload.job import Job
from rigwise.workload.lower import Recipe
from rigwise.workload.resolve import resolve
from rigwise.workload.table import FORMATS

WHOLE = [d for d in devices() if not d.missing()]
CASES = [
    {"model": "resnet50", "task": "train", "dtype": "amp-fp16", "optimizer": "momentum"},
    {"model": "resnet50", "task": "infer", "mode": "compiled"},
    {"model": "bert-base", "task": "train"},
    {"model": "gpt2", "task": "decode", "dtype": "fp16"},
    {"model": "llama-3.1-8b", "task": "train", "method": "lora", "dtype": "fp16", "recompute": "full"},
    {"model": "llama-3.1-8b", "task": "prefill", "dtype": "int8"},
]


def answer(fields, device_id, batch):
    case = Case(device=device_id, batch=batch, **fields)
    try:
        return predict(case, load_model(case.model))
    except RigwiseError:
        return None


@settings(max_examples=150, deadline=None)
@given(fields=st.sampled_from(CASES), where=st.sampled_from(WHOLE), batch=st.integers(1, 512))
def test_an_estimate_is_ordered_finite_and_above_its_bound(fields, where, batch):
    p = answer(fields, where.id, batch)
    if p is None:
        return
    time = p.step_time_s
    assert 0 < p.bound_s <= time["p10"] <= time["p50"] <= time["p90"] < np.inf
    assert p.peak_memory_bytes["p10"] <= p.peak_memory_bytes["p50"] <= p.peak_memory_bytes["p90"]
    assert sum(p.memory_terms.values()) == pytest.approx(p.peak_memory_bytes["p50"])
    assert sum(p.binds.values()) == pytest.approx(1)
    assert 0 <= p.fit_probability <= 1
    assert p.fits == (p.fit_probability >= 0.5)
    assert p.energy_j is None or p.energy_j["p50"] <= (where.tdp_w or 0) * time["p50"] * 1.0001


@settings(max_examples=60, deadline=None)
@given(
    fields=st.sampled_from(CASES),
    where=st.sampled_from(WHOLE),
    quantity=st.sampled_from(["memory_bytes_per_s", "tdp_w"]),
    factor=st.floats(1.01, 4.0),
)
def test_a_better_device_is_never_slower(fields, where, quantity, factor):
    if getattr(where, quantity) is None:
        return
    model = load_model(fields["model"])
    better = replace(where, **{quantity: getattr(where, quantity) * factor})
    resolved = resolve(Case(device=where.id, batch=8, **fields), model)
    try:
        step = work_of(model, resolved, where)
    except RigwiseError:
        return
    calibration, totals = load_calibration(), []
    for one in (where, better):
        on_device = columns([one], calibration)
        micro, _ = micro_step(step.table, on_device, calibration, Setting(layout="nhwc"))
        groups = groups_of(resolved.case, machine_of(resolved.case, one))
        totals.append(step_times(step, micro.pick(), groups, on_device, calibration).total_s[0])
    assert totals[1] <= totals[0] * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(
    fields=st.sampled_from([f for f in CASES if f["task"] == "train"]),
    where=st.sampled_from(WHOLE),
    split=st.sampled_from([(1, 1, 64), (1, 4, 16), (4, 1, 16), (4, 4, 4), (8, 8, 1)]),
    zero=st.integers(0, 3),
)
def test_the_fleet_and_a_single_prediction_agree(fields, where, split, zero):
    """The search and ``predict`` must tell the same story, from two ways of computing it."""
    count, micro_steps, micro_batch = split
    model = load_model(fields["model"])
    recompute = fields.get("recompute", "none")
    parallel = Parallel(zero=zero, micro_batch=micro_batch)
    batch = count * micro_steps * micro_batch
    case = Case(device=where.id, count=count, batch=batch, parallel=parallel, **fields)
    try:
        p = predict(case, model)
    except RigwiseError:
        p = None
    dtype = fields.get("dtype") or ("bf16" if fields["model"].startswith("llama") else "fp32")
    recipe = Recipe(dtype=dtype, micro_batch=micro_batch, recompute=recompute, zero=zero)
    found = estimate_fleet(case, recipe, [Machine(device=where, count=count)], model)
    if p is None:
        assert np.isnan(found.step_p50_s[0])
        return
    assert found.step_p50_s[0] == pytest.approx(p.step_time_s["p50"])
    assert found.step_p90_s[0] == pytest.approx(p.step_time_s["p90"])
    assert found.bound_s[0] == pytest.approx(p.bound_s)
    assert found.memory_p50_bytes[0] == pytest.approx(p.peak_memory_bytes["p50"])
    assert found.fit_probability[0] == pytest.approx(p.fit_probability)
    if p.energy_j:
        assert found.energy_p50_j[0] == pytest.approx(p.energy_j["p50"])


@settings(max_examples=60, deadline=None)
@given(fields=st.sampled_from(CASES), where=st.sampled_from(WHOLE), batch=st.integers(1, 64))
def test_no_operator_is_quicker_than_its_arithmetic_at_peak(fields, where, batch):
    """Only what the cache holds may stay off the memory bus, only Winograd's transform may save arithmetic.

    The peak is the data sheet's, but for GeForce boards, which hold a higher clock: theirs is that of the bound.
    """
    model = load_model(fields["model"])
    resolved = resolve(Case(device=where.id, batch=batch, **fields), model)
    try:
        table = work_of(model, resolved, where).table
    except RigwiseError:
        return
    calibration = load_calibration()
    times = op_times(table, columns([where], calibration), calibration, Setting(layout="nhwc"))
    for row, op in enumerate(table.ops):
        if table.flops[row, 0] and op.kind != "conv":
            number_format = FORMATS[table.number_format[row]]
            is_geforce = where.vendor == "NVIDIA" and where.segment == "consumer"
            peak = ceiling_flops_per_s(where, number_format) if is_geforce else where.peak(number_format)
            floor = compute_s(table.flops[row, 0], peak)
            assert times.total_s[0, row, 0] >= floor
    uncached_bytes = np.maximum(table.read_bytes + table.write_bytes - (where.l2_bytes or 0), 0.0)
    assert (times.total_s[0] >= memory_s(uncached_bytes, where.memory_bytes_per_s) * (1 - 1e-12)).all()


def test_a_larger_batch_takes_longer_but_less_for_each_sample():
    h100 = "h100-sxm5-80gb"
    times = [answer(CASES[0], h100, batch).step_time_s["p50"] for batch in (1, 8, 64, 512)]
    assert times == sorted(times)
    assert times[3] / 512 < times[0]


@given(message=st.floats(1, 1e12), n=st.integers(2, 1024), rate=st.floats(1e8, 1e12))
def test_ring_and_tree_cross_where_they_should(message, n, rate):
    ring_latency, tree_latency = 3e-6, 4.5e-6
    crossing = crossover_bytes(n, rate, ring_latency, tree_latency)
    ring, tree = ring_all_reduce_s(message, n, rate, ring_latency), tree_all_reduce_s(message, n, rate, tree_latency)
    if message > crossing * 1.001:
        assert ring <= tree
    elif message < crossing * 0.999:
        assert tree <= ring


@given(message=st.floats(1, 1e11), per_node=st.integers(1, 8), nodes=st.integers(1, 64))
def test_all_reduce_moves_at_least_its_message(message, per_node, nodes):
    network = Network(
        per_node=per_node, nodes=nodes, intra_bytes_per_s=3e11, inter_bytes_per_s=2e10,
        intra_latency_s=3e-6, tree_latency_s=4e-6, inter_latency_s=1e-5,
    )  # fmt: skip
    time = all_reduce_s(message, network)
    assert time >= (message / 3e11 if per_node > 1 else 0)
    assert time >= (message / 2e10 if nodes > 1 else 0)


def test_more_devices_cost_communication():
    fields = {"model": "bert-base", "task": "train", "batch": 64, "device": "t4"}
    alone = predict(Case(**{**fields, "batch": 16}))
    four = predict(Case(**fields, count=4))
    assert four.exposed_comm_s > 0
    assert four.step_time_s["p50"] > alone.step_time_s["p50"]
    assert four.throughput_per_s > alone.throughput_per_s


def test_zero_stages_divide_what_they_say():
    def terms(zero):
        case = Case(model="gpt2", device="a100-sxm4-80gb", count=8, batch=8, parallel=Parallel(zero=zero))
        return predict(case).memory_terms

    whole = [terms(zero) for zero in (0, 1, 2, 3)]
    assert whole[0]["optimizer"] == pytest.approx(8 * whole[1]["optimizer"])
    assert whole[1]["gradients"] == pytest.approx(8 * whole[2]["gradients"])
    assert whole[2]["weights"] == pytest.approx(8 * whole[3]["weights"])


def test_lora_trains_little_and_recompute_trades_memory_for_work():
    base = {"model": "llama-3.1-8b", "device": "h100-sxm5-80gb", "batch": 4, "seq": 2048}
    full, lora = predict(Case(**base)), predict(Case(**base, method="lora"))
    qlora, again = predict(Case(**base, method="qlora")), predict(Case(**base, recompute="full"))
    assert lora.memory_terms.get("optimizer", 0) < 0.02 * full.memory_terms["optimizer"]
    assert qlora.memory_terms["weights"] < 0.4 * lora.memory_terms["weights"]
    assert lora.flops < 0.8 * full.flops
    assert again.flops == pytest.approx(full.flops * 4 / 3, rel=0.06)
    assert again.memory_terms.get("activations", 0) < 0.2 * full.memory_terms.get("activations", 1e12)
    assert again.mfu < 1


def test_a_bound_allows_for_caches_that_the_catalogue_does_not_list():
    """An RX 7900 XTX has 96 MiB behind its 6 MiB of L2; an H100 has nothing behind its 50."""
    assert cache_bytes(device("rx-7900-xtx")) >= 96 * 2**20
    assert cache_bytes(device("apple-m2-max-38c")) >= 96 * 2**20
    assert cache_bytes(device("h100-sxm5-80gb")) == device("h100-sxm5-80gb").l2_bytes
    weights = LeastWork(flops_by_format={}, compulsory_bytes=50e6)
    assert least_step_s(weights, device("rx-7900-xtx")) == 0
    assert least_step_s(weights, device("t4")) > 0


def test_device_lookup_of_these_tests_is_not_empty():
    assert len(WHOLE) > 200
    assert device("t4").tdp_w == 70


JOBS = [
    {"model": "resnet50", "batch": 48},
    {"model": "gpt2", "batch": 16, "seq": 8192},
    {"model": "bert-base", "batch": 12, "task": "infer"},
    {"model": "llama-3.1-8b", "batch": 8, "method": "lora"},
    {"model": "mixtral-8x7b", "batch": 16, "seq": 512},
    {"model": "llama-3.1-70b", "batch": 4, "task": "decode"},
]


def a_fleet(dice, size):
    """Machines of one shape, on devices drawn by chance."""
    nodes = dice.choice([1, 1, 2, 4])
    count = nodes * dice.choice([1, 2, 4, 6, 8])
    links = (dice.choice([None, 5e9, 50e9]) for _ in range(size))
    return [Machine(device=dice.choice(WHOLE), count=count, nodes=nodes, inter_node_bytes_per_s=rate) for rate in links]


@settings(max_examples=60, deadline=None)
@given(fields=st.sampled_from(JOBS), seed=st.integers(0, 2**32 - 1))
def test_no_layout_undercuts_a_bound_and_recompute_never_pays_in_time(fields, seed):
    """What the search and its certificate rest on, for every recipe that a plan may choose."""
    dice, model = random.Random(seed), load_model(fields["model"])
    task = settle(Job(amount=1e6, unit="samples", **fields), model)
    family, machines = dice.choice(task.families), a_fleet(dice, 6)
    every = recipes(task, family, machines[0].count, machines[0].nodes)
    found = estimate_recipes(task.case, every, machines, model)
    least = least_work(task.case, family.dtype, model)
    held = least_memory_bytes(task.case, family.dtype, machines[0].count, model)
    for column, machine in enumerate(machines):
        time_s, energy_j = found.step_p50_s[:, column], found.energy_p50_j[:, column]
        if np.isnan(time_s).all():
            continue
        assert np.nanmin(time_s) >= least_in_fleet_s(least, machine.device, machine.count) * (1 - 1e-9)
        if not np.isnan(energy_j).all():
            least_j = least_energy_j(least, machine.device, machine.count)
            assert np.nanmin(energy_j) >= least_j * (1 - 1e-9)
        assert np.nanmin(found.memory_p50_bytes[:, column]) >= held
        for figures in (time_s, energy_j):
            runs = figures.reshape(-1, len(task.recomputes))
            runs = runs[~np.isnan(runs).any(axis=1)]
            assert (runs >= runs[:, :1] * (1 - 1e-9)).all()


def test_a_bound_of_energy_is_close_where_the_arithmetic_decides():
    """A batch that fills an H100 draws at most twice what its operations and bytes take at least."""
    h100 = Machine(device=device("h100-sxm5-80gb"))
    case = Case(model="llama-3.1-8b", device="", task="prefill", batch=8, seq=4096)
    found = estimate_fleet(case, Recipe(dtype="bf16", mode="compiled", micro_batch=8), [h100])
    least_j = least_energy_j(least_work(case, "bf16"), h100.device)
    assert 0.5 < least_j / found.energy_p50_j[0] <= 1
    assert least_energy_j(least_work(case, "bf16"), h100.device, 8) >= least_j
