"""A device takes at least as long as its power limit needs to deliver the energy of the work.

Energy is that of every byte moved and of every operation; the board limit, less what is lost in
conversion and drawn at rest, delivers it. At full speed a T4 or P4, and large dies on 70 to
300 W, would exceed their limit, so they hold a lower clock: that alone is a factor of two.

Source: form and vector constants fitted on NeuSight operator times; process nodes and the
energy of matrix units are priors (see the calibration file).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.columns import DeviceColumns
from rigwise.workload.table import FORMATS, Array, OpTable


def energy_per_flop_j(
    table: OpTable, rows: NDArray[np.int64], device: DeviceColumns, calibration: Calibration
) -> Array:
    """Energy of one operation of each operator ``[devices, operators, 1]``: by engine, format and process node.

    Source: see the module.
    """
    power = calibration.power
    formats = table.number_format[rows]
    by_format = np.array([power.matrix_energy_of_format.get(f, 1.0) for f in FORMATS])[formats][None, :, None]
    is_matrix = device.is_matrix[:, formats, None]
    return np.asarray(np.where(is_matrix, device.matrix_j_per_flop * by_format, device.vector_j_per_flop))


def limited_s(time_s: Any, dynamic_j: Any, tdp_w: Any, constants: Constants) -> Any:
    """Time of an operator under the board limit: not before its energy has been delivered.

    Args:
        time_s: At full clock.
        dynamic_j: Of its operations and bytes.
        tdp_w: Board limit.
        constants: The ``[power]`` table.

    Source: see the module.

    >>> from types import SimpleNamespace
    >>> board = SimpleNamespace(usable_frac=0.85, idle_w=25.0, idle_frac_max=0.25)
    >>> [float(limited_s(t, 4.2, 70.0, board)) for t in (0.05, 0.2)]
    [0.1, 0.2]
    """
    return np.maximum(time_s, dynamic_j / sustained_w(tdp_w, constants))


def sustained_w(tdp_w: Any, constants: Constants) -> Any:
    """What a board limit leaves for operations and bytes: less what is lost in conversion and drawn at rest.

    Source: see the module.

    >>> from types import SimpleNamespace
    >>> float(sustained_w(70.0, SimpleNamespace(usable_frac=0.85, idle_w=25.0, idle_frac_max=0.25)))
    42.0
    """
    return constants.usable_frac * tdp_w - np.minimum(constants.idle_w, constants.idle_frac_max * tdp_w)


def settled_s(time_s: Any, limited_s: Any, constants: Constants) -> Any:
    """Time of a kernel that is timed alone: the limit acts only after a while.

    Source: fitted form.

    >>> from types import SimpleNamespace
    >>> settled_s(2.0, 4.0, SimpleNamespace(settle_s=2.0))
    3.0
    """
    return time_s + (limited_s - time_s) * time_s / (time_s + constants.settle_s)
