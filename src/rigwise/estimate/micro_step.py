"""One micro-batch on one device: the part of a step that does not depend on how many there are.

Computed once for many devices and many micro-batch sizes, then used by every strategy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.learned import GROUP_OF_KIND, GROUPS
from rigwise.estimate.op_time import OpTimes, binding_shares, op_times
from rigwise.estimate.setting import Setting
from rigwise.graph.op import Phase
from rigwise.workload.table import Array, OpTable

#: Membership of kinds in groups ``[kinds, groups]``.
_GROUP = np.eye(len(GROUPS))[GROUP_OF_KIND]


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroStep:
    """Times of one micro-batch on the device's own timeline ``[devices, sizes]``.

    Attributes:
        forward_s, backward_s: All kernels of a phase, one after the other.
        compute_s, memory_s, launch_s: The same seconds by what binds them.
        dynamic_j: Energy of operations and bytes.
        throttled_s: Of the kernels, what the power limit adds.
        group_s: By group of operators ``[devices, sizes, groups]``; the host's is 0, and all are without measurements.
    """

    forward_s: Array
    backward_s: Array
    compute_s: Array
    memory_s: Array
    launch_s: Array
    dynamic_j: Array
    throttled_s: Array
    group_s: Array

    def pick(self, size: int = 0) -> MicroStep:
        """One size, columns over devices alone ``[devices]``."""
        return MicroStep(**{f.name: getattr(self, f.name)[:, size] for f in fields(self)})


def micro_step(
    table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting
) -> tuple[MicroStep, OpTimes]:
    """Time one micro-batch on every device, and the operators it is the sum of.

    Source: the sum; each operator's law cites its own.
    """
    times = op_times(table, device, calibration, setting)
    return summed(table, times), times


def summed(table: OpTable, times: OpTimes) -> MicroStep:
    """One micro-batch from the times of its operators; of the table only what no size changes is looked at.

    Source: the sum.
    """
    weight = table.repeat[None, :, None]

    def whole(phase: Phase) -> Array:
        rows = table.of_phase(phase)
        return np.asarray((times.total_s[:, rows] * weight[:, rows]).sum(axis=1))

    shares = binding_shares(table, times)
    return MicroStep(
        forward_s=whole(Phase.FORWARD),
        backward_s=whole(Phase.BACKWARD),
        compute_s=shares["compute"],
        memory_s=shares["memory"],
        launch_s=shares["launch"],
        dynamic_j=np.asarray((times.energy_j * weight).sum(axis=1)),
        throttled_s=np.asarray((times.throttled_s * weight).sum(axis=1)),
        group_s=(times.total_s * weight).transpose(0, 2, 1) @ _GROUP[table.kind],
    )
