"""What an operator finds in the last-level cache, because the one before has just written it.

A result that is smaller than the cache is still there when the next operator reads it; of a larger one only a
part is. So the share of such reads that need not come from memory falls with the traffic since the write began.

Source: the form is a smooth step between the two cases; its constants are fitted (see the calibration file).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rigwise.estimate.calibration import Constants
from rigwise.estimate.columns import DeviceColumns
from rigwise.workload.table import Array, OpTable


def memory_share(table: OpTable, device: DeviceColumns, constants: Constants) -> Array:
    """Share of each operator's traffic that crosses the memory bus ``[devices, operators, sizes]``.

    Source: see the module.
    """
    moved = np.maximum(table.read_bytes + table.write_bytes, 1.0)[None]
    found = table.near_bytes[None] * hit_frac(table.near_span_bytes[None], device.l2_bytes, constants)
    return np.asarray(1.0 - constants.reuse_gain * found / moved)


def hit_frac(span_bytes: Any, cache_bytes: Any, constants: Constants) -> Any:
    """Share of a read that hits the cache, from 1 for a small span to 0 for a large one.

    Source: see the module.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        crowding = span_bytes / (constants.reuse_fill_frac * cache_bytes)
        return np.where(cache_bytes > 0, 1.0 / (1.0 + crowding**constants.reuse_exponent), 0.0)
