"""A device holds the clock that its power limit allows for this mix of work.

Board power is what is drawn at rest, plus energy per byte moved, plus energy per operation.
At full speed a T4 or P4, and large dies on 70 to 300 W, would exceed their limit, so they
run slower: that alone is a factor of two.

Source: form and vector constants fitted on NeuSight operator times; process nodes and the
energy of matrix units are priors (see the calibration file).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rigwise.estimate.calibration import Constants


def clock_frac(flops: Any, moved_bytes: Any, time_s: Any, device: Any, constants: Constants) -> Any:
    """Sustained clock over boost clock for an operator that would take ``time_s`` unthrottled.

    Args:
        flops: Arithmetic of the operator.
        moved_bytes: Its memory traffic.
        time_s: Its time at full clock.
        device: ``(tdp_w, j_per_flop, j_per_byte)``.
        constants: The ``[power]`` table.

    Returns:
        A fraction from ``least_clock_frac`` to 1.

    Source: see the module.
    """
    tdp_w, j_per_flop, j_per_byte = device
    at_rest = np.minimum(constants.idle_w, constants.idle_frac_max * tdp_w)
    left_w = constants.usable_frac * tdp_w - at_rest - j_per_byte * moved_bytes / time_s
    wanted_w = j_per_flop * flops / time_s
    with np.errstate(divide="ignore", invalid="ignore"):
        frac = np.where(wanted_w > 0, left_w / wanted_w, 1.0)
    return np.clip(np.where(np.isfinite(tdp_w), frac, 1.0), constants.least_clock_frac, 1.0)
