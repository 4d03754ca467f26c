"""Convolutions without cuDNN: one image at a time."""

import numpy as np
import pytest

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.predict import work_of
from rigwise.estimate.setting import Setting
from rigwise.estimate.unfold import unfolded
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind
from rigwise.workload.case import Case
from rigwise.workload.resolve import resolve

TITAN = resolve_device("titan-x-pascal")


def convolutions_of(batch, model="resnet18"):
    loaded = load_model(model)
    case = Case(model=model, device=TITAN.id, task="train", batch=batch, dtype="fp32", optimizer="none")
    table = work_of(loaded, resolve(case, loaded), TITAN).table
    return table.take(table.of_kind(Kind.CONV))


def times(table):
    calibration = load_calibration()
    return unfolded(table, columns([TITAN], calibration), calibration, Setting(plain_convolution=True))


@pytest.mark.parametrize("model", ["resnet18", "googlenet"])
def test_sixteen_images_take_sixteen_times_as_long(model):
    """Image by image; the weights, read with each, may tip the choice of a tile."""
    one, many = (times(convolutions_of(batch, model)) for batch in (1, 16))
    assert many[0].sum() == pytest.approx(16 * one[0].sum(), rel=0.02)


def test_no_convolution_is_quicker_than_its_arithmetic_at_peak():
    table = convolutions_of(16)
    compute, memory = times(table)
    assert (compute >= table.flops[None] / TITAN.peak("fp32")).all()
    assert (memory >= (table.read_bytes + table.write_bytes)[None] / TITAN.memory_bytes_per_s).all()


def test_forward_and_both_gradients_are_there():
    """The three products of a convolution have the same arithmetic, so that they take similar times."""
    table = convolutions_of(16)
    compute = times(table)[0][0, :, 0]
    by_name = {op.name for op in table.ops}
    assert by_name == {"aten.convolution", "rigwise.conv_dgrad", "rigwise.conv_wgrad"}
    sums = [compute[np.array([op.name == name for op in table.ops])].sum() for name in sorted(by_name)]
    assert max(sums) < 2 * min(sums)
