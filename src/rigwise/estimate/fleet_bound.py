"""What no recipe of a family undercuts where devices only share the batch: the time of its own operators.

Every replica computes its part of the batch in micro-batches of some size. Communication, waiting,
recompute and the optimizer's pass over the weights only add to what that takes, so the quickest size
bounds them all, whatever the ZeRO stage. Recipes that divide operators or layers are not covered.

Source: ``estimate.step``, of which these are the parts that no choice avoids.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import stack
from rigwise.estimate.fleet_columns import Known, facts_of
from rigwise.estimate.fleet_work import Kept, kept_work, of_one_device
from rigwise.estimate.overhead import host_s, host_scale, meet
from rigwise.estimate.setting import setting_of
from rigwise.estimate.straggling import straggling_frac
from rigwise.graph.op import Phase
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case
from rigwise.workload.lower import Recipe
from rigwise.workload.table import Array

#: Sums in another order differ in their last digits, and a bound must not be above.
_ROUNDING = 1.0 - 1e-9


def least_shared_s(case: Case, family: Any, machines: Sequence[Machine], held: Known) -> Array:
    """Lower bound of the median time of a step ``[machines]``, nan where there is none.

    Args:
        case: The job.
        family: Number format, layout and mode.
        machines: Any mixture.
        held: The model.

    Source: see the module.
    """
    found, calibration = np.full(len(machines), np.nan), load_calibration()
    recipe = of_one_device(Recipe(dtype=family.dtype, layout=family.layout, mode=family.mode))
    by_format: dict[str, dict[Known, list[int]]] = {}
    for index, machine in enumerate(machines):
        if not machine.device.missing():
            device = Known(machine.device)
            by_format.setdefault(facts_of(device).best_format, {}).setdefault(device, []).append(index)
    for best_format, where in by_format.items():
        try:
            kept = kept_work(case, recipe, best_format, held, calibration)
        except RigwiseError:
            continue
        able = [device for device in where if kept.formats <= facts_of(device).formats]
        for times_s, device in zip(_by_count(kept, able) if able else (), able, strict=True):
            for index in where[device]:
                found[index] = times_s.get(machines[index].count, np.nan)
    return found


def _by_count(kept: Kept, devices: Sequence[Known]) -> list[dict[int, float]]:
    """Of each device, the least time of a step on so many of them, for the numbers that divide the batch."""
    case, calibration = kept.step.case, kept.calibration
    batches = np.array(kept.batches, dtype=np.float64)
    micro = kept.on(devices, np.arange(len(devices))[:, None], np.arange(len(batches))[None, :])
    column = stack([facts_of(device).column for device in devices])
    # Measurements may have found the host quicker than it is taken to be here.
    scale = 0.0 if calibration.learned else host_scale(case.host, column, calibration.launch)[:, None]
    one_s: Any = 0.0
    for phase, on_device in ((Phase.FORWARD, micro.forward_s), (Phase.BACKWARD, micro.backward_s)):
        dispatch_s = host_s(kept.step.table, phase, setting_of(case), calibration.launch)
        one_s = one_s + meet(on_device, dispatch_s * scale, column.is_cpu[:, 0])
    # Of micro-batches no larger than what a replica gets; the numbers that divide the batch are the sizes themselves.
    sample_s = np.minimum.accumulate(one_s / batches, axis=1)[:, ::-1]
    step_s = sample_s * batches[::-1]
    if case.task == "train":
        waits = 1.0 + straggling_frac(batches, calibration.collective.step_spread)
        step_s = (step_s + calibration.launch.step_s) * waits
    return [dict(zip(kept.batches, row.tolist(), strict=True)) for row in step_s * _ROUNDING]
