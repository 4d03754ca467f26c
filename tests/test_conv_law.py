"""How long convolutions take: directions, layouts, groups, transforms and generations of software."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rigwise.estimate.bound import ceiling_flops_per_s, winograd_gain
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import predict
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import device
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.case import Case, Software
from rigwise.workload.table import GRADIENTS, tabulate

MEASURED = Path(os.environ.get("RIGWISE_MEASURED", Path(__file__).parents[2] / "shared/data/measured"))
TITANS = {"Titan X (Maxwell)": "gtx-titan-x-maxwell", "Titan X (Pascal)": "titan-x-pascal"}


def conv(channels=(64, 64), side=56, kernel=3, stride=1, batch=16, groups=1, width="float32", gradient="", dilation=1):
    """A convolution that keeps its padding 'same', or a gradient of it."""
    c_in, c_out = channels
    x = Tensor((batch, c_in, side, side), width)
    w = Tensor((c_out, c_in // groups, kernel, kernel), width, Role.PARAMETER)
    y = Tensor((batch, c_out, -(-side // stride), -(-side // stride)), width)
    inputs, outputs = {"": ((x, w), (y,)), "dgrad": ((y, w), (x,)), "wgrad": ((y, x), (w,))}[gradient]
    return Op(
        name=f"rigwise.conv_{gradient}" if gradient else "aten.convolution",
        kind=Kind.CONV,
        phase=Phase.BACKWARD if gradient else Phase.FORWARD,
        inputs=inputs,
        outputs=outputs,
        attrs={
            "stride": (stride, stride), "dilation": (dilation, dilation), "groups": groups,
            "format": {"float64": "fp64", "float32": "fp32"}.get(width, "fp16"),
        },
    )  # fmt: skip


def seconds(op, where, layout="nchw", year=None):
    where = device(where) if isinstance(where, str) else where
    table, calibration = tabulate([op], {"b": 1}), load_calibration()
    times = op_times(table, columns([where], calibration), calibration, Setting(layout=layout, year=year))
    return float(times.total_s[0, 0, 0])


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_the_table_knows_the_window_of_a_convolution(gradient):
    table = tabulate([conv((32, 64), side=28, kernel=5, stride=2, gradient=gradient)], {"b": 1})
    assert (table.window[0], table.stride[0], table.dilation[0], table.pixels[0, 0]) == (25, 4, 1, 14 * 14)
    assert GRADIENTS[table.gradient[0]] == gradient
    assert table.macs[0, 0] == 16 * 14 * 14 * 64 * 32 * 25


def test_other_operators_have_no_window():
    a = Tensor((64, 64))
    table = tabulate([Op(name="aten.mm", kind=Kind.GEMM, phase=Phase.FORWARD, inputs=(a, a), outputs=(a,))], {"b": 1})
    assert table.window[0] == table.stride[0] == table.dilation[0] == table.pixels[0, 0] == 1


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_matrix_units_want_channels_last(gradient):
    op = conv((256, 256), batch=64, kernel=1, width="float16", gradient=gradient)
    assert seconds(op, "rtx-3090", "nhwc") < seconds(op, "rtx-3090", "nchw")


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_winograd_came_in_2016_for_small_dense_kernels_of_stride_one(gradient):
    def gain(**fields):
        op = conv((256, 256), gradient=gradient, **fields)
        return seconds(op, "titan-x-pascal", year=2015) / seconds(op, "titan-x-pascal", year=2016)

    assert gain() > 1.2
    for other in ({"kernel": 5}, {"stride": 2}, {"dilation": 2}, {"groups": 4}, {"kernel": 1}):
        assert gain(**other) == 1.0


@pytest.mark.parametrize("gradient", GRADIENTS)
def test_nothing_is_transformed_in_fp64(gradient):
    op, card = conv((256, 256), width="float64", gradient=gradient), device("rtx-2080-ti")
    flops = 2.0 * 16 * 56 * 56 * 256 * 256 * 9
    assert seconds(op, card, year=2020) == seconds(op, card, year=2015) > flops / card.peak_flops_per_s["fp64"]


def test_transforms_of_5x5_came_later():
    op = conv((256, 256), kernel=5)
    of_2017, of_2018 = (seconds(op, "v100-sxm2-16gb", year=year) for year in (2017, 2018))
    assert of_2018 < 0.8 * of_2017


def test_a_transform_needs_less_energy_than_the_products_in_its_place():
    """Of a card that its power limit holds back, what counts is the work that is done."""
    limited, free = device("t4"), replace(device("t4"), tdp_w=None)
    slowed = [
        seconds(conv((256, 256)), limited, year=y) / seconds(conv((256, 256)), free, year=y) for y in (2015, 2020)
    ]
    assert 1.0 < slowed[1] < slowed[0]


def test_the_fused_transform_pays_for_whole_patches():
    """An image of 17 pixels along a side costs far more than one of 16, which costs what one of 15 does."""
    of_15, of_16, of_17 = (
        seconds(conv((64, 64), side=side, batch=512), "titan-x-pascal", year=2016) for side in (15, 16, 17)
    )
    assert of_16 == pytest.approx(of_15, rel=0.02)
    assert of_17 > 1.5 * of_16


@pytest.mark.parametrize(("kernel", "least"), [(1, 1.5), (2, 0.9), (3, 1.2)])
def test_the_gradient_of_a_strided_input_wastes_taps(kernel, least):
    """Beside the forward pass, which multiplies as often: every class of pixels waits for the one with most taps."""
    shape = {"kernel": kernel, "stride": 2, "batch": 64}
    back, forth = (seconds(conv((256, 256), gradient=g, **shape), "p100-pcie-16gb") for g in ("dgrad", ""))
    assert back > least * forth


def test_matrix_units_do_not_transform():
    op = conv((256, 256), width="float16")
    older, newer = (seconds(op, "rtx-3090", year=year) for year in (2015, 2016))
    assert newer < older <= newer / (1.0 - load_calibration().gemm.gain_per_year)  # age alone


def test_groups_waste_what_they_cannot_fill():
    for where, layout in (("titan-x-pascal", "nchw"), ("rtx-3090", "nhwc"), ("rtx-3090", "nchw")):
        width = "float32" if where == "titan-x-pascal" else "float16"
        rates = []
        for groups in (1, 4, 16):
            op = conv((384, 384), batch=64, kernel=5, groups=groups, width=width)
            rates.append(1 / groups / seconds(op, where, layout))
        assert rates == sorted(rates, reverse=True)


def test_packed_kernels_for_wide_groups_came_in_2024_for_channels_last():
    op = conv((512, 512), batch=64, groups=8, width="float16")
    assert seconds(op, "rtx-3090", "nhwc", 2024) < seconds(op, "rtx-3090", "nhwc", 2023)
    older, newer = (seconds(op, "rtx-3090", "nchw", year) for year in (2023, 2024))
    assert newer < older <= newer / (1.0 - load_calibration().gemm.gain_per_year)  # age alone


def test_a_depthwise_kernel_costs_by_its_elements_once_traffic_does_not_bind():
    small, large = (conv((384, 384), kernel=k, groups=384, batch=64, width="float16") for k in (5, 11))
    assert seconds(large, "rtx-3090", "nhwc") > 3 * seconds(small, "rtx-3090", "nhwc")


SHAPES = st.fixed_dictionaries(
    {
        "channels": st.tuples(st.sampled_from([8, 24, 64, 256]), st.sampled_from([8, 24, 64, 256])),
        "side": st.integers(4, 112),
        "kernel": st.sampled_from([1, 3, 5, 7]),
        "stride": st.sampled_from([1, 2]),
        "batch": st.sampled_from([1, 16, 128]),
        "groups": st.sampled_from([1, 4, 8]),
        "width": st.sampled_from(["float32", "float16"]),
        "gradient": st.sampled_from(GRADIENTS),
    }
)
WHERE = st.sampled_from(["gtx-titan-x-maxwell", "titan-x-pascal", "p100-pcie-16gb", "t4", "rtx-3090", "h100-sxm5-80gb"])


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, where=WHERE, layout=st.sampled_from(["nchw", "nhwc"]), year=st.sampled_from([None, 2015, 2020]))
def test_no_convolution_beats_its_roofs(shape, where, layout, year):
    """The compute roof, at the clock that a board may hold, only by what Winograd's transform saves."""
    op, where = conv(**shape), device(where)
    table, time_s = tabulate([op], {"b": 1}), seconds(op, where, layout, year)
    saved = winograd_gain(shape["kernel"]) if shape["kernel"] in (3, 5) and shape["stride"] == 1 else 1.0
    assert time_s >= table.flops[0, 0] / ceiling_flops_per_s(where, op.attrs["format"]) / saved
    assert time_s >= (table.read_bytes + table.write_bytes)[0, 0] / where.memory_bytes_per_s


@settings(max_examples=150, deadline=None)
@given(shape=SHAPES, where=WHERE, layout=st.sampled_from(["nchw", "nhwc"]), factor=st.floats(1.01, 4.0))
def test_a_better_device_convolves_no_slower(shape, where, layout, factor):
    op, where = conv(**shape), device(where)
    assume(seconds(op, where, layout) > 1e-4)  # below, how a product is cut is chosen without its start
    wider = replace(where, memory_bytes_per_s=where.memory_bytes_per_s * factor)
    assert seconds(op, wider, layout) <= seconds(op, where, layout) * (1 + 1e-9)
    quicker = replace(where, peak_flops_per_s={k: v * factor for k, v in where.peak_flops_per_s.items()}, tdp_w=None)
    assert seconds(op, quicker, layout) <= seconds(op, replace(where, tdp_w=None), layout) * (1 + 1e-9)


def titan_rows():
    """Training without an optimizer by name and card: AlexNet apart, which is another network in the zoo."""
    path = MEASURED / "cnn-benchmarks.csv"
    if not path.exists():
        print(f"skipped: no measured tables in {MEASURED}")
        pytest.skip("no measured tables")
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            name = row["model"].replace("-v1", "").replace("resnet-", "resnet")
            timed = row["task"] == "train" and "cuDNN 5.1" in row["framework"] and row["device"] in TITANS
            if timed and name != "alexnet":
                yield name, TITANS[row["device"]], float(row["value"]) / 1e3


def test_networks_of_2016_on_both_titans():
    """Two cards were fitted, so this guards against a loss; ResNet-200 timed out of line on one of them."""
    errors, speedups = [], {}
    for name, where, measured_s in titan_rows():
        case = Case(
            model=name,
            device=where,
            batch=16,
            image_size=224,
            dtype="fp32",
            optimizer="none",
            software=Software(year=2016),
        )
        p = predict(case, load_model(name))
        time_s = p.forward_s + p.backward_s
        errors.append(abs(np.log(time_s / measured_s)))
        speedups.setdefault(name, {})[where] = time_s, measured_s
    assert np.expm1(np.mean(errors)) < 0.10
    for name, both in speedups.items():
        slow, quick = both["gtx-titan-x-maxwell"], both["titan-x-pascal"]
        if name != "resnet200":
            assert slow[0] / quick[0] == pytest.approx(slow[1] / quick[1], rel=0.08)
