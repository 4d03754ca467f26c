"""Spreading a step: what each strategy divides, sends, hides and waits for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.estimate.collective import Network, all_reduce_s
from rigwise.estimate.communication import group_network
from rigwise.estimate.context_parallel import context_parallel_s
from rigwise.estimate.data_parallel import Messages, Passes, data_parallel_s
from rigwise.estimate.pipeline import bubble_factor, imbalance, passes_of_stage
from rigwise.estimate.predict import predict
from rigwise.estimate.sharding import blocks_s, exchanged_frac, expert_parallel_s, hidden_bytes, kept_frac, shard
from rigwise.estimate.straggling import expected_largest, straggling_frac
from rigwise.estimate.timeline import Timeline, timeline
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind, Phase
from rigwise.workload.case import Case, Parallel
from rigwise.workload.lower import Lowering, lower_model
from rigwise.workload.table import tabulate

H100 = "h100-sxm5-80gb"
CONSTANTS = SimpleNamespace(bucket_bytes=25e6, overlap_slowdown=1.08)


def link(rate, per_node=8, nodes=1, latency=0.0):
    return Network(
        per_node=per_node, nodes=nodes, intra_bytes_per_s=rate, inter_bytes_per_s=rate,
        intra_latency_s=latency, tree_latency_s=latency, inter_latency_s=latency,
    )  # fmt: skip


@cache
def lowered(name, dtype="bf16"):
    return lower_model(load_model(name), Lowering(task="train", dtype=dtype, optimizer="adamw"))


@cache
def table_of(name, batch=2, seq=512):
    return tabulate(lowered(name).step_ops, {"b": batch, "s": seq})


def ask(model="llama-3.1-8b", batch=64, seq=2048, count=8, nodes=1, recompute="none", **parallel):
    case = Case(
        model=model, device=H100, count=count, nodes=nodes, batch=batch, seq=seq, dtype="bf16",
        inter_node_gbps=3200.0 if nodes > 1 else None, recompute=recompute, parallel=Parallel(**parallel),
    )  # fmt: skip
    return predict(case, load_model(model))


def even_line(units=10):
    return Timeline(
        repeat=np.ones(units), cost_frac=np.full((units, 1), 1 / units), weight_frac=np.full(units, 1 / units),
        is_root=np.zeros(units),
    )  # fmt: skip


def exposed(zero, rate, *, micro_steps=1.0, gradients=1e9, line=None, passes=(0.1, 0.2)):
    case = Case(model="m", device="d", task="train", parallel=Parallel(data=8, zero=zero))
    work = Passes(
        forward_s=np.array([passes[0]]), backward_s=np.array([passes[1]]), micro_steps=np.array([micro_steps])
    )
    sent = Messages(gradient_bytes=gradients, weight_bytes=gradients)
    return float(data_parallel_s(case, sent, line or even_line(), link(rate), work, CONSTANTS)[0])


def test_buckets_hide_behind_the_backward_pass_but_for_the_last():
    plain = SimpleNamespace(bucket_bytes=25e6, overlap_slowdown=1.0)
    case = Case(model="m", device="d", task="train", parallel=Parallel(data=8))
    work = Passes(forward_s=np.array([1.0]), backward_s=np.array([2.0]), micro_steps=np.array([1.0]))
    sent = Messages(gradient_bytes=1e9, weight_bytes=1e9)
    fast, slow = (float(data_parallel_s(case, sent, even_line(40), link(rate), work, plain)[0]) for rate in (1e12, 1e8))
    assert fast == pytest.approx(float(all_reduce_s(25e6, link(1e12))))
    # a slow link starts with the first bucket, a fortieth into the pass, and never rests
    assert slow == pytest.approx(float(all_reduce_s(1e9, link(1e8))) - 2.0 * 39 / 40)


def test_gradients_that_come_late_hide_less():
    early = replace(even_line(2), weight_frac=np.array([0.1, 0.9]))  # the last layers, whose gradients come first
    late = replace(even_line(2), weight_frac=np.array([0.9, 0.1]))
    assert exposed(0, 1e10, line=early) < exposed(0, 1e10, line=late)


@settings(max_examples=60)
@given(
    zero=st.integers(0, 3),
    rate=st.floats(1e8, 1e12),
    factor=st.floats(1.01, 10),
    micro_steps=st.sampled_from([1.0, 4.0]),
    passes=st.tuples(st.floats(1e-3, 1.0), st.floats(1e-3, 1.0)),
)
def test_quicker_links_and_quicker_devices_never_lengthen_a_step(zero, rate, factor, micro_steps, passes):
    more = {"micro_steps": micro_steps, "passes": passes}
    assert exposed(zero, rate * factor, **more) <= exposed(zero, rate, **more) * (1 + 1e-9)
    quicker = (passes[0] / factor, passes[1] / factor)
    step = micro_steps * sum(passes) + exposed(zero, rate, **more)
    assert micro_steps * sum(quicker) + exposed(zero, rate, micro_steps=micro_steps, passes=quicker) <= step * (
        1 + 1e-9
    )


def test_accumulated_micro_batches_reduce_once_gather_each_time():
    once, four = (exposed(0, 1e9, micro_steps=n) for n in (1.0, 4.0))
    assert once == pytest.approx(four)
    assert exposed(3, 1e9, micro_steps=4.0) == pytest.approx(4 * exposed(3, 1e9))


def test_gathers_over_a_slow_link_are_not_hidden():
    """Each layer waits for its own weights: what a fast layer saves cannot pay for a later one."""
    fast, slow = exposed(3, 1e12), exposed(3, 1e9)
    assert fast < 0.1 * (0.1 + 0.2)
    whole = 3 * 7 / 8 * 1e9 / 1e9
    assert slow > whole - (0.1 + 0.2)


def test_the_line_of_a_model_adds_up_and_shared_weights_come_last():
    work = lowered("gpt2", "fp32")
    line = timeline(table_of("gpt2"), work.trained_elements)
    assert line.cost_frac.sum() == pytest.approx(1)
    assert line.weight_frac.sum() == pytest.approx(1)
    assert line.repeat.max() == 12
    embedding = 50257 * 768 / work.trained_elements
    before = np.flatnonzero(line.repeat > 1)[0]
    assert line.weight_frac[:before].sum() == pytest.approx(embedding + 1024 * 768 / work.trained_elements, rel=1e-3)
    assert line.weight_frac[before + 1 :].sum() < 1e-3  # the head shares the embedding
    ready = line.ready_frac(np.linspace(0, 1, 50), 0)
    assert (np.diff(ready) >= 0).all()
    assert ready[-1] == pytest.approx(1)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt2", "mixtral-8x7b"])
def test_members_of_a_tensor_group_share_the_arithmetic_and_hold_whole_products(name):
    whole = table_of(name)
    part = shard(whole, Parallel(tensor=4))
    gemms = whole.of_kind(Kind.GEMM)
    assert part.total(part.macs, gemms) == pytest.approx(whole.total(whole.macs, gemms) / 4)
    sides = [part.batch * part.m * part.n * part.k, whole.batch * whole.m * whole.n * whole.k]
    assert sides[0][gemms] == pytest.approx(sides[1][gemms] / 4)
    assert (part.read_bytes[gemms] >= whole.read_bytes[gemms] / 4 * (1 - 1e-12)).all()  # one operand may be whole
    assert (part.read_bytes[gemms] <= whole.read_bytes[gemms]).all()


def test_what_a_tensor_group_sums_is_as_wide_as_the_model():
    for name, width in (("llama-3.1-8b", 4096), ("gpt2", 768)):
        for tensor in (1, 2, 4):
            part = shard(table_of(name), Parallel(tensor=tensor))
            assert hidden_bytes(part)[0] == 2 * 512 * width * 2


def test_norms_and_residual_sums_are_divided_with_the_sequence_only():
    whole, plain = table_of("llama-3.1-8b"), shard(table_of("llama-3.1-8b"), Parallel(tensor=4))
    along = shard(whole, Parallel(tensor=4, sequence=True))
    norms = np.array(["layernorm" in op.module and op.phase is Phase.FORWARD for op in whole.ops])
    norms &= whole.repeat > 1
    assert norms.any()
    assert plain.total(plain.read_bytes, norms) == pytest.approx(whole.total(whole.read_bytes, norms))
    assert along.total(along.read_bytes, norms) < 0.6 * whole.total(whole.read_bytes, norms)


def test_recompute_sums_again():
    again = lower_model(
        load_model("gpt2"), Lowering(task="train", dtype="bf16", optimizer="adamw", recompute="full")
    ).step_ops
    case = Case(model="gpt2", device=H100, parallel=Parallel(tensor=2))
    network = link(1e9, per_node=2)
    once = blocks_s(shard(table_of("gpt2"), case.parallel), case, network)
    twice = blocks_s(shard(tabulate(again, {"b": 2, "s": 512}), case.parallel), case, network)
    assert twice == pytest.approx(once * 3 / 2)


def test_experts_are_kept_in_part_and_their_tokens_travel():
    table, work = table_of("mixtral-8x7b"), lowered("mixtral-8x7b")
    part = shard(table, Parallel(expert=4))
    rows = np.array([op.name == "aten._grouped_mm" for op in table.ops])
    assert part.macs == pytest.approx(table.macs)
    assert part.weight_bytes[rows] == pytest.approx(table.weight_bytes[rows] / 4)
    assert (part.batch * part.m)[rows] == pytest.approx((table.batch * table.m)[rows])
    experts = sum(p.elements for p in work.trained if "experts" in p.name) / work.trained_elements
    assert kept_frac(work.step_ops, Parallel(expert=4)) == pytest.approx(1 - experts * 3 / 4, rel=1e-3)
    assert exchanged_frac(work.step_ops, Parallel(expert=8), 8) == pytest.approx(1 - experts, rel=1e-3)
    assert exchanged_frac(work.step_ops, Parallel(expert=4), 8) == pytest.approx(
        1 - experts + experts / 4 * (1 / 2) / (7 / 8), rel=1e-3
    )
    case = Case(model="mixtral-8x7b", device=H100, parallel=Parallel(expert=4))
    sent = float(expert_parallel_s(part, case, link(1.0, per_node=4)))
    tokens = 2 * 512 * 2  # each visits two experts
    assert sent == pytest.approx(32 * 4 * 3 / 4 * tokens * 4096 * 2, rel=1e-4)


@pytest.mark.parametrize("groups", [{"expert": 4}, {"tensor": 2, "expert": 8}, {"tensor": 4}, {"context": 2}])
def test_no_operator_finds_more_in_a_cache_than_it_reads(groups):
    ops = lowered("mixtral-8x7b", "amp-bf16").step_ops  # each expert reads the copy that was just cast of its weights
    part = shard(tabulate(ops, {"b": 2, "s": 512}), Parallel(**groups))
    assert (part.near_bytes <= part.read_bytes).all()


def test_experts_of_other_ranks_take_no_memory():
    work = lowered("mixtral-8x7b")
    whole, part = (ask("mixtral-8x7b", 8, 128, 8, expert=n).memory_terms for n in (1, 4))
    kept = kept_frac(work.step_ops, Parallel(expert=4))
    for name in ("weights", "optimizer"):
        assert part[name] == pytest.approx(whole[name] * kept)
    sharded = [ask("mixtral-8x7b", 8, 128, 8, expert=n, zero=3).memory_terms["optimizer"] for n in (1, 4)]
    assert sharded[0] == pytest.approx(sharded[1])  # spread over all ranks either way


def test_gathered_blocks_of_an_expert_rank_are_counted_by_hand():
    """A block of Mixtral: attention, router and two norms, and of its eight experts those of one rank in four."""
    attention = 4096 * (2 * 4096 + 2 * 1024) + 8 * 4096 + 2 * 4096
    block, outside = attention + 2 * 3 * 4096 * 14336, 2 * 32000 * 4096 + 4096
    terms = ask("mixtral-8x7b", 8, 4096, 8, expert=4, zero=3).memory_terms
    assert terms["gathered"] == pytest.approx(2 * (outside + 2 * block + max(block, outside)), rel=0.01)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt2"])
def test_members_of_a_context_group_share_tokens_and_meet_every_key(name):
    whole = table_of(name)
    part = shard(whole, Parallel(context=4))
    assert part.flops == pytest.approx(whole.flops / 4)
    assert part.weight_bytes == pytest.approx(whole.weight_bytes)
    gemms, attention = whole.of_kind(Kind.GEMM), whole.of_kind(Kind.ATTENTION)
    sides = [t.batch * t.m * t.n * t.k for t in (part, whole)]
    assert sides[0][gemms | attention] == pytest.approx(sides[1][gemms | attention] / 4)
    forward = attention & whole.of_phase(Phase.FORWARD)
    assert (part.read_bytes[forward] > whole.read_bytes[forward] / 4).all()


def test_keys_go_round_unless_attention_hides_them():
    part = shard(table_of("llama-3.1-8b", 1, 4096), Parallel(context=4))
    slow, fast = link(1e9, per_node=4), link(1e12, per_node=4)
    alone = float(context_parallel_s(part, 4, slow, (0.0, 0.0)))
    keys = 4096 * 8 * 128 * 2 * 2  # of 8 heads, and values, in 16 bits
    assert alone == pytest.approx(32 * 3 * keys / 4 * (1 + 2) / 1e9)
    assert float(context_parallel_s(part, 4, fast, (1.0, 2.0))) == 0
    long = [ask(batch=8, seq=32768, context=c, zero=3, micro_batch=1, recompute="full") for c in (1, 4)]
    assert long[1].step_time_s["p50"] == pytest.approx(long[0].step_time_s["p50"], rel=0.05)
    assert long[1].flops == pytest.approx(long[0].flops)
    assert long[1].memory_terms["activations"] < long[0].memory_terms["activations"] / 3


def test_stages_are_as_slow_as_the_fullest():
    line = Timeline(
        repeat=np.array([1.0, 8.0, 1.0]), cost_frac=np.array([[0.0], [0.8], [0.2]]),
        weight_frac=np.array([0.1, 0.8, 0.1]), is_root=np.array([1.0, 0.0, 1.0]),
    )  # fmt: skip
    assert imbalance(line, 1) == 1
    assert imbalance(line, 4) == pytest.approx((0.2 + 0.2) * 4)  # two layers and the head
    assert imbalance(line, 3) == pytest.approx((0.8 / 3 + 0.2) * 3)
    case = Case(model="m", device="d", parallel=Parallel(pipeline=4))
    assert passes_of_stage(case, line, 8) == pytest.approx(8 * 0.4 + 3 / 4)
    assert bubble_factor(case.parallel, 1e9) == pytest.approx(1)


def test_interleaving_shortens_the_bubble_and_sends_more():
    plain = ask(pipeline=4, micro_batch=1)
    split = ask(pipeline=4, micro_batch=1, schedule="interleaved", virtual=4)
    assert split.bubble_s == pytest.approx(plain.bubble_s / 4)
    assert split.exposed_comm_s > plain.exposed_comm_s


def test_data_groups_that_share_a_node_share_its_way_out():
    whole = link(1e10, per_node=8, nodes=4)
    data = group_network(whole, np.float64(8), 4, "data")  # 2 members in each of 4 nodes, 4 groups side by side
    assert (float(data.per_node), float(data.nodes)) == (2, 4)
    assert float(data.inter_bytes_per_s) == pytest.approx(1e10 / 4)
    tensor = group_network(whole, np.float64(8), 4, "tensor")
    assert (float(tensor.per_node), float(tensor.nodes)) == (4, 1)


def test_the_slowest_of_more_is_later_and_staleness_helps():
    assert [float(expected_largest(n)) for n in (1, 2)] == pytest.approx([0, 1 / np.sqrt(np.pi)], abs=1e-4)
    fracs = [float(straggling_frac(n, 0.03)) for n in (1, 2, 8, 64, 4096)]
    assert fracs == sorted(fracs)
    assert fracs[0] == 0
    assert float(straggling_frac(64, 0.03, 3)) == pytest.approx(np.exp(0.015 * 2.3437) - 1, rel=1e-3)


def test_looser_updates_are_no_slower_and_name_their_staleness():
    strict, stale, free = (
        ask("gpt2", 64, 512, 8, update=update, staleness=k)
        for update, k in (("synchronous", 0), ("stale", 4), ("asynchronous", 0))
    )
    assert strict.straggling_s > stale.straggling_s > free.straggling_s == 0
    assert strict.step_time_s["p50"] > stale.step_time_s["p50"]
    assert any("up to 4 steps old" in word for word in stale.assumed)
    assert any("7 updates old on average" in word for word in free.assumed)
    assert not any("old" in word for word in strict.assumed)


def test_servers_fill_up():
    """Asynchronous workers go on at their own pace until the servers' links are full: then throughput stands still."""
    rates = []
    for count in (8, 16, 32):
        case = Case(
            model="gpt2", device="rtx-4090", count=count, batch=count, seq=128, dtype="amp-fp16",
            parallel=Parallel(update="asynchronous"),
        )  # fmt: skip
        rates.append(predict(case, load_model("gpt2")).throughput_per_s)
    assert rates[2] < 1.1 * rates[1]


@pytest.mark.parametrize(
    ("parallel", "error", "words"),
    [
        ({"context": 2, "seq": 511}, InvalidInputError, "511 tokens do not divide over 2"),
        ({"tensor": 8}, InvalidInputError, "12 heads do not divide over 8"),
        ({"expert": 2}, UnsupportedError, "gpt2 has no experts to spread"),
        ({"pipeline": 8, "schedule": "interleaved", "virtual": 2}, InvalidInputError, "16 pipeline stages for the 12"),
        ({"update": "late"}, InvalidInputError, "parallel.update is 'late'"),
        ({"update": "stale"}, InvalidInputError, "staleness of 1 or more"),
        ({"staleness": 2}, InvalidInputError, "staleness 2 with synchronous"),
        ({"update": "asynchronous", "zero": 3}, InvalidInputError, "without ZeRO"),
    ],
)
def test_what_cannot_be_answered_is_one_line(parallel, error, words):
    with pytest.raises(error) as caught:
        ask("gpt2", 64, parallel.pop("seq", 512), 8, **parallel)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_experts_must_divide():
    with pytest.raises(InvalidInputError, match="8 data-parallel replicas do not divide over 3"):
        ask("mixtral-8x7b", 8, 128, 8, expert=3)
