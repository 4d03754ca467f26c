"""A table at another batch, by the lines of its columns, is the table that counting gives."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.graph.load import load_model
from rigwise.graph.op import Kind, SameOps
from rigwise.workload.case import Case
from rigwise.workload.lines import PROBES, lines
from rigwise.workload.lower import Lowering, lower_model
from rigwise.workload.resolve import resolve
from rigwise.workload.table import FORMATS, OpTable, _filled, _is_asked_again, tabulate

MODELS = [
    ("resnet50", "train", "amp-fp16"), ("densenet121", "infer", "fp32"), ("gpt2", "train", "amp-bf16"),
    ("gpt2", "decode", "bf16"), ("mixtral-8x7b", "prefill", "bf16"), ("bert-base", "train", "fp32"),
]  # fmt: skip


def step(model, task, dtype):
    loaded = load_model(model)
    case = resolve(Case(model=model, device="h100-sxm5-80gb", task=task, batch=1, dtype=dtype), loaded)
    return lower_model(loaded, Lowering(task=task, dtype=dtype, optimizer="none")).step_ops, case.sizes


@pytest.mark.parametrize(("model", "task", "dtype"), MODELS)
def test_another_batch_is_what_counting_gives_to_the_last_bit(model, task, dtype):
    ops, sizes = step(model, task, dtype)
    tabulate(ops, {**sizes, "b": 4})
    for batch in (1, 2, 7, 33, 512):
        by_lines, counted = tabulate(ops, {**sizes, "b": batch}), _filled(SameOps(ops), {**sizes, "b": batch})
        assert _is_asked_again(SameOps(ops), tuple((k, v) for k, v in sorted(sizes.items()) if k != "b"), batch)
        for column in (f.name for f in fields(OpTable) if f.name != "ops"):
            assert np.array_equal(getattr(by_lines, column), getattr(counted, column)), (batch, column)


@settings(max_examples=100, deadline=None)
@given(start=st.integers(0, 10**9), slope=st.integers(0, 10**6), batch=st.integers(1, 10**6))
def test_a_line_is_found_and_exact(start, slope, batch):
    found = lines(np.array([start + slope * PROBES]))
    assert found.holds.all()
    assert found.at(float(batch))[0][0] == start + slope * batch


@settings(max_examples=100, deadline=None)
@given(bend=st.integers(4, 900), slope=st.integers(1, 1000))
def test_a_bend_or_a_curve_is_no_line(bend, slope):
    assert not lines(np.array([slope * np.minimum(PROBES, bend), slope * PROBES**2])).holds.any()


def test_what_is_too_large_to_be_exact_is_not_taken_from_a_line():
    assert not lines(np.array([2.0**40 * PROBES])).at(2.0**20)[1].any()


def same(one, other, *, but=()):
    columns = [f.name for f in fields(OpTable) if f.name not in but]
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in columns)


def test_what_was_counted_at_some_sizes_is_not_taken_for_others():
    ops, sizes = step("gpt2", "train", "amp-bf16")
    few, many = (tabulate(ops, {**sizes, "b": np.array(batches)}) for batches in ([1.0, 2.0], [8.0, 3.0]))
    assert same(tabulate(ops, {**sizes, "b": np.array([1.0, 2.0])}), few)
    assert np.array_equal(many.flops[:, :1], tabulate(ops, {**sizes, "b": 8}).flops)
    assert not np.array_equal(many.flops, few.flops)


def test_formats_of_one_size_are_counted_alike_and_told_apart():
    sizes = {**step("gpt2", "train", "fp32")[1], "b": np.array([1.0, 2.0])}
    brain, half = (tabulate(step("gpt2", "train", dtype)[0], sizes) for dtype in ("amp-bf16", "amp-fp16"))
    assert same(brain, half, but=("ops", "number_format"))
    of_products = brain.of_kind(Kind.GEMM)
    assert (brain.number_format[of_products] == FORMATS.index("bf16")).all()
    assert (half.number_format[of_products] == FORMATS.index("fp16")).all()
