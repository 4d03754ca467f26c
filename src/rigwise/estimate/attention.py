"""Whole (fused) attention: tiles of queries over the multiprocessors; decode only reads the cache.

Source: Dao, "FlashAttention-2", 2023; constants: see the calibration file.
"""

from __future__ import annotations

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.roofline import compute_s, memory_s
from rigwise.estimate.setting import Setting
from rigwise.workload.table import Array, OpTable


def attention(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Compute and memory time of every attention of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    del setting
    constants = calibration.attention
    peak = device.peak_flops_per_s[:, table.number_format, None]
    is_matrix = device.is_matrix[:, table.number_format, None]
    frac = np.where(is_matrix, constants.flash_frac, constants.vector_frac)
    blocks = table.batch[None] * np.ceil(table.m[None] / 128.0)
    waves = np.maximum(blocks / device.units, 1e-9)
    filled = np.maximum(waves, np.ceil(waves) * 0.5 + waves * 0.5) / waves
    decoding = table.m[None] < 16
    filled = np.where(decoding, 1.0, filled)
    compute = compute_s(table.flops[None], peak * frac) * filled
    moved = (table.read_bytes + table.write_bytes)[None]
    rate = device.bytes_per_s * np.minimum(device.memory_frac, constants.decode_frac)
    return compute, memory_s(moved, rate)
