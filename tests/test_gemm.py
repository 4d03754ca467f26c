"""Matrix products: what their law promises on every device, and what it says of measured ones."""

import csv
import math
import os
import re
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.estimate.bound import ceiling_flops_per_s
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import ENGINES, columns
from rigwise.estimate.gemm import blend, lengthened, products, rates_of, rounding_s, tile_sizes, walk_factor, wave_cost
from rigwise.estimate.op_time import op_times
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import device, devices
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.table import FORMATS, tabulate

CALIBRATION = load_calibration()
USUAL = ("bf16", "fp16", "fp32", "fp64", "int8", "fp8")
WHOLE = [d for d in devices() if not d.missing() and d.kind != "cpu" and any(map(d.computes, USUAL))]
SIDES = st.integers(1, 2**15)
MEASURED = Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured"))
WIDTHS = {"fp32": "float32", "fp8": "float8"}


def product(m, n, k, number_format="bf16", batch=1):
    width = WIDTHS.get(number_format, "bfloat16")
    lead = (batch,) if batch > 1 else ()
    role = Role.ACTIVATION if lead else Role.PARAMETER
    return Op(
        name="aten.bmm",
        kind=Kind.GEMM,
        phase=Phase.FORWARD,
        inputs=(Tensor((*lead, m, k), width), Tensor((*lead, k, n), width, role)),
        outputs=(Tensor((*lead, m, n), "bfloat16" if width == "float8" else width),),
        attrs={"format": number_format},
    )


def seconds(ops, where, setting=Setting()):  # noqa: B008
    times = op_times(tabulate(ops, {"b": 1}), columns([where], CALIBRATION), CALIBRATION, setting)
    return times.total_s[0, :, 0]


def usual_format(where):
    return next(f for f in USUAL if where.computes(f))


@settings(max_examples=150, deadline=None)
@given(where=st.sampled_from(WHOLE), m=SIDES, n=SIDES, k=SIDES, batch=st.integers(1, 64))
def test_no_product_is_below_either_roof(where, m, n, k, batch):
    number_format = usual_format(where)
    table = tabulate([product(m, n, k, number_format, batch)], {"b": 1})
    compute, memory = products(table, columns([where], CALIBRATION), CALIBRATION, Setting())
    moved = table.read_bytes[0, 0] + table.write_bytes[0, 0]
    is_geforce = where.vendor == "NVIDIA" and where.segment == "consumer"
    peak = ceiling_flops_per_s(where, number_format) if is_geforce else where.peak(number_format)
    assert compute[0, 0, 0] >= table.flops[0, 0] / peak * (1 - 1e-12)
    assert memory[0, 0, 0] >= moved / where.memory_bytes_per_s * (1 - 1e-12)


@settings(max_examples=150, deadline=None)
@given(
    where=st.sampled_from(WHOLE), m=SIDES, n=SIDES, k=SIDES, factor=st.floats(1.01, 4.0),
    what=st.sampled_from(["memory_bytes_per_s", "tdp_w", "peak_flops_per_s", "boost_hz"]),
)  # fmt: skip
def test_more_of_anything_is_never_slower(where, m, n, k, factor, what):
    value = getattr(where, what)
    if value is None:
        return
    more = {rate: peak * factor for rate, peak in value.items()} if what == "peak_flops_per_s" else value * factor
    ops = [product(m, n, k, usual_format(where))]
    if what == "peak_flops_per_s":  # the energy of an operation is the same, so a limit may bind: lift it
        where = replace(where, tdp_w=None)
    assert seconds(ops, replace(where, **{what: more}))[0] <= seconds(ops, where)[0] * (1 + 1e-9)


@settings(max_examples=60, deadline=None)
@given(where=st.sampled_from(WHOLE), m=SIDES, n=SIDES, k=SIDES, sets=st.integers(1, 5))
def test_warm_operands_are_never_slower_than_cold_ones(where, m, n, k, sets):
    ops = [product(m, n, k, usual_format(where))]
    assert seconds(ops, where, Setting(operand_sets=sets))[0] <= seconds(ops, where)[0] * (1 + 1e-9)


def test_operands_are_warm_only_where_all_sets_fit_the_cache():
    """An L40S holds five weights of 16 MiB in its 96 MiB of cache, not five of 20 MiB."""
    l40s = columns([device("l40s")], CALIBRATION)

    def rate(n, sets):
        table = tabulate([product(1, n, 4096)], {"b": 1})
        return float(rates_of(table, l40s, CALIBRATION, Setting(operand_sets=sets)).bytes_per_s[0, 0, 0])

    assert rate(2048, 5) > device("l40s").memory_bytes_per_s > rate(2560, 5)
    assert rate(2560, 1) == rate(2048, 5)
    assert rate(2048, 0) == rate(2560, 0) < device("l40s").memory_bytes_per_s


def test_a_long_inner_dimension_is_cut_where_tiles_are_few():
    whole = replace(CALIBRATION, gemm=type(CALIBRATION.gemm)("test", {**CALIBRATION.gemm.values, "splits": [1]}))
    h100 = columns([device("h100-sxm5-80gb")], CALIBRATION)

    def compute_s(calibration, m, n, k):
        return float(products(tabulate([product(m, n, k)], {"b": 1}), h100, calibration, Setting())[0][0, 0, 0])

    assert compute_s(CALIBRATION, 256, 256, 65536) < 0.5 * compute_s(whole, 256, 256, 65536)
    assert compute_s(CALIBRATION, 8192, 8192, 8192) == compute_s(whole, 8192, 8192, 8192)


def test_the_last_wave_costs_more_where_threads_wait_for_the_matrix_unit():
    """129 tiles on 128 multiprocessors; hardly anything since copies run in the background."""
    fracs = [CALIBRATION.gemm.wave_frac[name] for name in ENGINES]
    vector, synchronous, asynchronous = (wave_cost(129.0, 128.0, frac) for frac in fracs)
    assert asynchronous < min(vector, synchronous)
    assert all(129 / 128 <= cost <= 2 for cost in (vector, synchronous, asynchronous))


def test_engines_are_those_of_the_architectures():
    found = {d: columns([device(d)], CALIBRATION).engine[0] for d in ("p4", "t4", "l40s", "h100-sxm5-80gb", "b200")}
    named = {d: ENGINES[row[FORMATS.index("fp16")]] for d, row in found.items()}
    assert named == {
        "p4": "vector", "t4": "synchronous", "l40s": "synchronous", "h100-sxm5-80gb": "asynchronous",
        "b200": "asynchronous",
    }  # fmt: skip
    assert all(ENGINES[row[FORMATS.index("fp32")]] == "vector" for row in found.values())


def test_a_board_limit_throttles_small_cards_and_not_geforce():
    big = product(8192, 8192, 1024, "fp32")
    for name, throttled in (("t4", True), ("p4", True), ("p100-pcie-16gb", False), ("v100-sxm2-16gb", False)):
        where = device(name)
        ratio = seconds([big], where)[0] / seconds([big], replace(where, tdp_w=None))[0]
        assert bool(ratio > 1.2) is throttled, f"{name}: {ratio:.2f}"
    half = product(8192, 8192, 8192, "fp16")
    for name in ("rtx-3090", "rtx-4090", "a100-sxm4-80gb"):
        where = device(name)
        assert seconds([half], where)[0] < 1.02 * seconds([half], replace(where, tdp_w=None))[0]


def test_tiles_of_thin_products_are_narrow():
    rows, cols = tile_sizes(np.array([1.0, 20.0, 100.0, 4096.0]), np.array([4096.0] * 4), 128)
    assert rows.tolist() == [16.0, 32.0, 128.0, 128.0]
    assert cols.tolist() == [128.0] * 4


@given(compute=st.floats(1e-7, 1.0), memory=st.floats(1e-7, 1.0), before=st.floats(1e-8, 1.0))
def test_nothing_hides_a_kernel_that_runs_before(compute, memory, before):
    longer = lengthened(compute, memory, before, 2.5)
    assert blend(compute, longer, 2.5) == pytest.approx(blend(compute, memory, 2.5) + before, rel=1e-9)
    assert lengthened(compute, memory, 0.0, 2.5) == memory


def test_inputs_of_8_bit_products_are_rounded_first():
    """Each element of the left operand is moved with five bytes, whatever the product does with it."""
    h100 = columns([device("h100-sxm5-80gb")], CALIBRATION)
    ops = [product(m, n, k, f) for f in ("fp8", "bf16") for m, n, k in ((4096, 1024, 4096), (4096, 16384, 4096))]
    thin, wide, *of_bf16 = rounding_s(tabulate(ops, {"b": 1}), h100, CALIBRATION.gemm)[0, :, 0]
    assert thin == wide > 5 * 4096 * 4096 / device("h100-sxm5-80gb").memory_bytes_per_s
    assert of_bf16 == [0.0, 0.0]


def test_long_rows_of_a_weight_are_walked_slowly_by_newer_libraries_on_pascal():
    ops = [product(2048, 1024, k, "fp32") for k in (4096, 32768)]
    for name, slow in (("p100-pcie-16gb", True), ("v100-pcie-32gb", False)):
        new, old = (seconds(ops, device(name), Setting(year=year)) for year in (2023, 2016))
        assert bool(new[0] > 1.1 * old[0]) is slow
        assert bool(new[1] > 1.5 * new[0] / old[0] * old[1]) is slow
    assert walk_factor(1e6, 0.0, CALIBRATION.gemm) == 1 / CALIBRATION.gemm.older_frac


def test_batched_products_are_left_to_wide_tiles_on_vector_lanes():
    """Half as wide, a product of a batch still loads three quarters of the operands; one alone gets another kernel."""
    batch = [product(rows, 1024, 1024, "fp32", batch=256) for rows in (64, 128)]
    alone = [product(rows, 256 * 1024, 1024, "fp32") for rows in (64, 128)]
    (thin, wide), (narrow, whole) = (seconds(ops, device("a100-pcie-40gb")) for ops in (batch, alone))
    assert thin / wide > 0.7 > narrow / whole


def test_weights_of_4_bits_are_walked_from_end_to_end_by_kernels_that_do_not_cut():
    """16,384 elements at 4 cycles each, on 8 of 108 multiprocessors."""
    op = replace(product(1, 1024, 16384), outputs=(Tensor((1, 1024), "bfloat16"),))
    narrow = replace(op, inputs=(op.inputs[0], Tensor((16384, 1024), "int4", Role.PARAMETER)))
    a100 = device("a100-sxm4-80gb")
    cut, uncut = (seconds([narrow], a100, Setting(runtime=name))[0] for name in ("vllm", "tensorrt-llm"))
    assert uncut > 4 * 16384 / a100.boost_hz > cut
    same = [seconds([op], a100, Setting(runtime=name))[0] for name in ("vllm", "tensorrt-llm")]
    assert same[0] == same[1]


#: Geometric error allowed on published rows, which the constants were fitted on: source, device, format, operand sets.
PUBLISHED = {
    ("aiconfigurator_gemm", "A100", "bfloat16"): ("a100-sxm4-80gb", "bf16", 5, 0.10),
    ("aiconfigurator_gemm", "H100", "bfloat16"): ("h100-sxm5-80gb", "bf16", 5, 0.09),
    ("aiconfigurator_gemm", "L40S", "bfloat16"): ("l40s", "bf16", 5, 0.17),
    ("aiconfigurator_gemm", "H100", "fp8"): ("h100-sxm5-80gb", "fp8", 5, 0.17),
    ("vidur", "A100", "fp16"): ("a100-sxm4-80gb", "fp16", 1, 0.08),
    ("vidur", "A40", "fp16"): ("a40", "fp16", 1, 0.08),
}


def published_rows():
    rows = defaultdict(list)
    for source in sorted({key[0] for key in PUBLISHED}):
        with (MEASURED / f"{source}.csv").open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                key, time_s = (source, row["device"], row["precision"]), float(row["value"]) / 1e3
                if key in PUBLISHED and row["model"].startswith("op:gemm") and (source != "vidur" or time_s > 20e-6):
                    m, n, k = (int(x) for x in re.findall(r"[MNK](\d+)", row["input_shape_or_seq"]))
                    rows[key].append((m, n, k, time_s))
    return rows


def test_published_products_are_met():
    if not MEASURED.is_dir():
        print(f"no measured tables at {MEASURED}: skipped")
        pytest.skip(f"no measured tables at {MEASURED}")
    for key, rows in published_rows().items():
        name, number_format, sets, allowed = PUBLISHED[key]
        assert len(rows) > 300
        found = seconds([product(*row[:3], number_format) for row in rows], device(name), Setting(operand_sets=sets))
        error = math.exp(float(np.mean(np.abs(np.log(found / [row[3] for row in rows]))))) - 1
        print(f"{key}: {len(rows)} rows, {error:.1%}")
        assert error < allowed, f"{key}: {error:.1%} of {len(rows)} rows"
