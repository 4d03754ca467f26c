"""Convolutions as implicit matrix products; thin groups only stream.

Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014, section 3; Lavin & Gray,
"Fast Algorithms for Convolutional Neural Networks", 2016, for the transform of 3x3 kernels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.gemm import product_s, sustained_flops_per_s
from rigwise.estimate.roofline import memory_s
from rigwise.estimate.setting import Setting
from rigwise.workload.table import FORMATS, Array, OpTable


def convolutions(
    table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting
) -> tuple[Array, Array]:
    """Compute and memory time of every convolution of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    conv = calibration.conv
    is_matrix = device.is_matrix[:, table.number_format, None]
    by_layout = conv.nhwc_frac if setting.layout == "nhwc" else conv.nchw_frac
    transforms = ~is_matrix & ~device.is_cpu & _winograd(table)[None, :, None]
    gain = np.where(transforms, conv.winograd_gain, 1.0)
    rate = sustained_flops_per_s(table, device, calibration) * device.conv_frac * by_layout * gain
    extra = conv.nchw_extra_passes if setting.layout == "nchw" else 0.0
    moved = (table.read_bytes + table.write_bytes)[None] * (1.0 + extra * is_matrix)
    bytes_per_s = device.bytes_per_s * device.memory_frac
    shape = (table.batch[None], table.m[None], table.n[None], table.k[None])
    compute, memory = product_s(shape, moved, (rate, bytes_per_s, device.units), calibration.gemm)
    thin = (np.minimum(shape[2], shape[3]) < 16) & (shape[0] > 1)
    streamed = memory_s(moved, device.bytes_per_s * conv.depthwise_frac)
    vector_peak = device.peak_flops_per_s[:, FORMATS.index("fp32"), None, None]
    vector_peak = np.where(np.isnan(vector_peak), device.peak_flops_per_s[:, table.number_format, None], vector_peak)
    return np.where(thin, table.flops[None] / vector_peak, compute), np.where(thin, streamed, memory)


def _winograd(table: OpTable) -> NDArray[np.bool_]:
    """3x3 convolutions of stride 1 with enough channels, which libraries transform."""

    def suits(index: int) -> bool:
        op = table.ops[index]
        weight = next((t for t in (*op.inputs, *op.outputs) if tuple(t.shape[2:]) == (3, 3)), None)
        return op.attrs.get("stride") == (1, 1) and weight is not None and op.attrs.get("groups", 1) == 1

    return np.array([suits(i) for i in range(len(table.ops))], dtype=bool)
