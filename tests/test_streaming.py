"""Operators that only move data: what they read again, and what decides it."""

from dataclasses import replace

import numpy as np
import pytest

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.op_time import op_times
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import device
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.table import tabulate

CALIBRATION = load_calibration()
ELEMENTS = 2**26
NORM, SOFTMAX = ("aten.native_layer_norm", Kind.NORM), ("aten._softmax", Kind.SOFTMAX)


def over_rows(kind, length: int, phase: Phase = Phase.FORWARD) -> Op:
    """As many numbers as always, in rows of this length."""
    x, scale = Tensor((ELEMENTS // length, length), "float32"), Tensor((length,), "float32", Role.PARAMETER)
    inputs = (x, scale, scale) if kind == NORM else (x,)
    return Op(name=kind[0], kind=kind[1], phase=phase, inputs=inputs, outputs=(x,), attrs={"format": "fp32"})


def times(ops: list[Op], name: str, setting: Setting | None = None) -> np.ndarray:
    table = tabulate(ops, {"b": 1})
    found = op_times(table, columns([device(name)], CALIBRATION), CALIBRATION, setting or Setting())
    return np.asarray(found.total_s[0, :, 0])


@pytest.mark.parametrize("name", ["v100-pcie-32gb", "t4", "rtx-4090", "h100-sxm5-80gb"])
@pytest.mark.parametrize("kind", [NORM, SOFTMAX])
def test_longer_rows_are_never_quicker_and_cost_at_most_what_is_read_again(kind, name):
    found = times([over_rows(kind, 2**power) for power in range(8, 18)], name)
    again = CALIBRATION.memory.read_again[kind[0].partition(".")[2].strip("_")]
    assert (np.diff(found) >= -1e-3 * found[:-1]).all()
    assert found[-1] <= found[0] * (1 + again / 2) * 1.01


def test_a_row_is_read_again_from_memory_where_the_cache_is_too_small_for_the_rows_at_work():
    small, large = device("v100-pcie-32gb"), replace(device("v100-pcie-32gb"), l2_bytes=200e6)
    table = tabulate([over_rows(NORM, 4096)], {"b": 1})
    slow, quick = (
        op_times(table, columns([one], CALIBRATION), CALIBRATION, Setting()).total_s.item() for one in (small, large)
    )
    assert slow > 1.3 * quick


def test_a_softmax_row_that_one_warp_holds_is_read_once():
    short, long = times([over_rows(SOFTMAX, 1024), over_rows(SOFTMAX, 16384)], "p100-pcie-16gb")
    assert long > 1.5 * short
    assert short == pytest.approx(times([over_rows(SOFTMAX, 64)], "p100-pcie-16gb")[0])


def test_backward_kernels_have_passes_of_their_own():
    forward, backward = over_rows(SOFTMAX, 16384), over_rows(SOFTMAX, 16384, Phase.BACKWARD)
    assert times([backward], "v100-pcie-32gb") < times([forward], "v100-pcie-32gb")


def test_older_software_streams_slower():
    op = Op(
        name="aten.add", kind=Kind.ELEMENTWISE, phase=Phase.FORWARD, attrs={"format": "fp32"},
        inputs=(Tensor((ELEMENTS,), "float32"),), outputs=(Tensor((ELEMENTS,), "float32"),),
    )  # fmt: skip
    old, older = (times([op], "rtx-3090", Setting(year=year))[0] for year in (2022, 2020))
    assert older > old > times([op], "rtx-3090")[0] == times([op], "rtx-3090", Setting(year=2030))[0]
