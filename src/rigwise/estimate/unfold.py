"""Convolutions by a framework's own kernels, without cuDNN: each image unfolded into a matrix, then a product.

Image by image a kernel copies every window of the input into a column of a matrix, and the product of that
matrix with the weights is the result. The copy is as many times the input as the kernel has elements; the
product is no larger than one image, so that late layers do not fill the device.

Source: Chellapilla, Puri & Simard, "High Performance Convolutional Neural Networks for Document Processing",
2006; constants fitted by ``tools/fit/unfold.py`` on cnn-benchmarks rows without cuDNN.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.gemm import product_s, rates_of
from rigwise.estimate.setting import Setting
from rigwise.graph.op import Phase
from rigwise.workload.table import Array, OpTable

#: fp32, and the unfolded matrix is written by one kernel and read by the other.
_WIDTH_BYTES, _PASSES = 4.0, 2.0


def unfolded(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Compute and memory time of every convolution of a table ``[devices, operators, sizes]``.

    The product of one image takes as long as one with a fixed number of further operations at the full rate:
    one of that size runs at half of it. Each path that the gradients take moves the unfolded matrix as the
    forward pass does.

    Source: see the module.
    """
    wgrad = np.array([op.name.endswith("wgrad") for op in table.ops])[:, None]
    dgrad = ~wgrad & ~table.of_phase(Phase.FORWARD)[:, None]
    stride, window = table.stride[:, None], table.window[:, None]
    images = np.where(wgrad, table.k, table.m / np.where(dgrad, stride, 1.0)) / table.pixels
    images = np.maximum(1.0, np.rint(images))
    channels = np.select([wgrad, dgrad], [table.m, table.k * stride / window], table.n)
    column = table.flops / (2.0 * table.batch * images * table.pixels * channels)
    m, n = np.where(wgrad, channels, table.pixels), np.where(wgrad | dgrad, column, channels)
    k = np.select([wgrad, dgrad], [table.pixels, channels], column)
    unfolded_bytes = _WIDTH_BYTES * table.batch * table.pixels * column
    moved = (table.read_bytes + table.write_bytes) / images + _PASSES * unfolded_bytes
    rates = rates_of(table, device, calibration, setting)
    rates = replace(rates, flops_per_s=rates.flops_per_s * calibration.conv.plain_frac)
    compute, memory = product_s((table.batch[None], m[None], n[None], k[None]), moved[None], rates, calibration.gemm)
    filling = calibration.conv.plain_half_flops / rates.flops_per_s
    return (compute + filling) * images[None], memory * images[None]
