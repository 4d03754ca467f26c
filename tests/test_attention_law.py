"""The law of fused attention: what must hold whatever its constants are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.estimate.attention import shape_of
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.dequantise import dequantise_s
from rigwise.estimate.op_time import op_times
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import device
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.table import FORMATS, tabulate

SERVED = Setting(runtime="vllm")
CARDS = ("a100-sxm4-80gb", "h100-sxm5-80gb", "rtx-3090", "v100-sxm2-32gb", "t4", "b200", "mi300x")


def attention_op(batch=4, heads=32, queries=2048, keys=None, head=128, *, kv_heads=None, phase=Phase.FORWARD, **attrs):
    q = Tensor((batch, heads, queries, head), "float16")
    k = Tensor((batch, kv_heads or heads, keys or queries, head), "float16")
    flags = {"causal": False, "window": 0, "format": "fp16", **attrs}
    if phase is Phase.FORWARD:
        return Op(
            name="rigwise.attention", kind=Kind.ATTENTION, phase=phase, inputs=(q, k, k), outputs=(q,), attrs=flags
        )
    sums = Tensor((batch, heads, queries), "float32")
    inputs = (q, q, k, k, q, sums)
    return Op(
        name="rigwise.attention_backward",
        kind=Kind.ATTENTION,
        phase=phase,
        inputs=inputs,
        outputs=(q, k, k),
        attrs=flags,
    )


def seconds(op, card="h100-sxm5-80gb", setting=SERVED):
    """Time of one operator on a card of the catalogue, or on a changed one."""
    where = device(card) if isinstance(card, str) else card
    calibration = load_calibration()
    return float(op_times(tabulate([op], {}), columns([where], calibration), calibration, setting).total_s[0, 0, 0])


@settings(max_examples=80, deadline=None)
@given(
    card=st.sampled_from(CARDS),
    shape=st.tuples(
        st.integers(1, 64), st.integers(1, 64), st.integers(1, 9000), st.sampled_from([32, 64, 80, 128, 256])
    ),
    causal=st.booleans(),
    window=st.sampled_from([0, 128, 4096]),
    phase=st.sampled_from([Phase.FORWARD, Phase.BACKWARD]),
)
def test_no_attention_is_quicker_than_either_roof(card, shape, causal, window, phase):
    batch, heads, queries, head = shape
    op = attention_op(batch, heads, queries, head=head, causal=causal, window=window * causal, phase=phase)
    table, where = tabulate([op], {}), device(card)
    arithmetic = table.flops[0, 0] / where.peak(FORMATS[table.number_format[0]])
    traffic = (table.read_bytes + table.write_bytes)[0, 0] / where.memory_bytes_per_s
    assert seconds(op, card) >= max(arithmetic, traffic)


@given(keys=st.integers(1, 100_000), batch=st.integers(1, 512))
def test_decode_never_gets_quicker_with_a_longer_cache(keys, batch):
    shorter = seconds(attention_op(batch, 32, 1, keys, kv_heads=8))
    assert seconds(attention_op(batch, 32, 1, keys + 500, kv_heads=8)) >= shorter


@pytest.mark.parametrize("fact", ["memory_bytes_per_s", "boost_hz"])
@pytest.mark.parametrize("queries", [1, 4096])
def test_a_better_card_is_never_slower(fact, queries):
    card = device("h100-sxm5-80gb")
    better = replace(card, **{fact: 1.5 * getattr(card, fact)})
    op = attention_op(queries=queries, keys=4096, kv_heads=8)
    assert seconds(op, better) <= seconds(op, card)


def test_decode_streams_the_cache_of_key_heads_not_of_query_heads():
    """64 sequences of 8k tokens: a cache of 2 GB or of 8.6 GB, and nearly four times the time."""
    grouped, whole = (seconds(attention_op(64, 32, 1, 8192, kv_heads=kv)) for kv in (8, 32))
    assert 3.5 < whole / grouped <= 4.0


def test_a_causal_mask_saves_almost_half_of_a_long_prompt_and_little_of_a_short_one():
    long, short = (
        seconds(attention_op(queries=n, causal=True)) / seconds(attention_op(queries=n)) for n in (16384, 256)
    )
    assert 0.5 <= long < 0.56
    assert short > long


def test_a_window_makes_a_long_prompt_linear():
    ratio = seconds(attention_op(queries=32768, causal=True, window=1024)) / seconds(
        attention_op(queries=16384, causal=True, window=1024)
    )
    assert ratio == pytest.approx(2.0, rel=0.05)


def test_small_heads_pay_for_their_exponentials_most_where_products_are_cheap():
    """Equal arithmetic, twice the scores: slower everywhere, more so on a B200 than on an A100."""
    loss = {
        card: seconds(attention_op(heads=64, head=64, queries=8192), card)
        / seconds(attention_op(heads=32, head=128, queries=8192), card)
        for card in ("a100-sxm4-80gb", "b200")
    }
    assert 1.0 < loss["a100-sxm4-80gb"] < loss["b200"] < 2.0


def test_backward_takes_longer_than_its_five_products_to_two():
    forward, backward = (seconds(attention_op(queries=8192, phase=phase)) for phase in (Phase.FORWARD, Phase.BACKWARD))
    assert 2.0 < backward / forward < 3.5


def test_pytorch_is_slower_than_a_serving_kernel_on_hopper_only():
    op = attention_op(queries=8192)
    assert seconds(op, setting=Setting()) > 1.3 * seconds(op)
    assert seconds(op, "a100-sxm4-80gb", Setting()) == seconds(op, "a100-sxm4-80gb")


def test_fused_kernels_take_16_bits_only():
    """TF32 multiplies at half the rate of 16 bits, and its kernel reaches less of that."""
    op = attention_op(queries=8192)
    wide = replace(op, attrs={**op.attrs, "format": "tf32"})
    assert seconds(wide, "a100-sxm4-80gb") > 2.2 * seconds(op, "a100-sxm4-80gb")


@pytest.mark.parametrize("change", ["mask", "head"])
def test_what_fused_kernels_do_not_take_is_slower(change):
    """An added mask in PyTorch, or a head of 512 against two of 256 with as much arithmetic."""
    plain = attention_op(heads=32, head=256)
    mask = Tensor((4, 1, 2048, 2048), "float16")
    other = replace(plain, inputs=(*plain.inputs, mask)) if change == "mask" else attention_op(heads=16, head=512)
    assert seconds(other, "a100-sxm4-80gb", Setting()) > 1.25 * seconds(plain, "a100-sxm4-80gb", Setting())


def test_seen_keys_are_counted_by_hand():
    """Four causal queries see 1, 2, 3 and 4 keys; with a window of 2 they see 1, 2, 2 and 2."""
    table = tabulate([attention_op(1, 1, 4, causal=True), attention_op(1, 1, 4, causal=True, window=2)], {})
    shape = shape_of(table)
    assert shape.seen[:, 0].tolist() == [2.5, 1.75]
    assert shape.scores[:, 0].tolist() == [10, 7]


def gemm_op(rows, dtype):
    """Activations of 16 bits times a weight of 4096 x 4096."""
    x, w = Tensor((rows, 4096), "float16"), Tensor((4096, 4096), dtype, role=Role.PARAMETER)
    out = Tensor((rows, 4096), "float16")
    return Op(
        name="aten.mm", kind=Kind.GEMM, phase=Phase.FORWARD, inputs=(x, w), outputs=(out,), attrs={"format": "fp16"}
    )


def test_only_narrow_weights_are_widened_once_for_each_block_of_rows():
    where = columns([device("rtx-3090")], load_calibration())
    assert np.all(dequantise_s(tabulate([gemm_op(64, "float16")], {}), where) == 0.0)
    times = [float(dequantise_s(tabulate([gemm_op(rows, "int4")], {}), where)[0, 0, 0]) for rows in (1, 128, 129, 1024)]
    assert times == pytest.approx([times[0] * blocks for blocks in (1, 1, 2, 8)])
    peak = where.peak_flops_per_s[0, FORMATS.index("fp32")]
    assert times[0] == pytest.approx(2 * 4096**2 / (peak * where.vector_frac[0, 0, 0]))
