"""Operators that only move data: elementwise, normalisation, softmax, reductions, copies, look-ups.

Each moves its operands over the memory bus as often as its kernels pass over them; what fits the last-level
cache moves quicker.

Source: passes counted on operator traces of PyTorch (see the calibration file).
"""

from __future__ import annotations

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.roofline import memory_s
from rigwise.estimate.setting import Setting
from rigwise.graph.op import Phase
from rigwise.workload.table import KINDS, Array, OpTable


def streaming(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Compute (none) and memory time of every operator of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    del setting
    constants = calibration.memory
    moved = (table.read_bytes + table.write_bytes)[None]
    memory = memory_s(moved * _passes(table, calibration)[None, :, None], device.bytes_per_s * device.memory_frac)
    fits = moved < constants.cache_fill_frac * device.l2_bytes
    memory = memory / np.where(fits, np.minimum(constants.cache_gain, 1.0 / device.memory_frac), 1.0)
    return np.zeros_like(memory), memory


def _passes(table: OpTable, calibration: Calibration) -> Array:
    """Arrays that real kernels of each kind move for each array counted."""
    passes = calibration.memory.passes_of_kind
    backward = table.of_phase(Phase.BACKWARD)
    factors = np.array([passes.get(str(k), 1.0) for k in KINDS])[table.kind]
    in_backward = np.array([passes.get(f"{k}_backward", passes.get(str(k), 1.0)) for k in KINDS])[table.kind]
    return np.where(backward, in_backward, factors)
