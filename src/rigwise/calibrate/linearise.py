"""What a measured step says about the groups of operators: predicted time, and the share of each group."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from rigwise.calibrate.question import Question
from rigwise.estimate.calibration import packaged
from rigwise.estimate.columns import DeviceColumns, columns, stack
from rigwise.estimate.learned import GROUP_OF_KIND, GROUPS
from rigwise.estimate.micro_step import MicroStep, micro_step
from rigwise.estimate.predict import floor_s, groups_of, machine_of, work_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.signature import signature
from rigwise.estimate.step import step_times
from rigwise.graph.graph import Model
from rigwise.workload.case import Case
from rigwise.workload.resolve import resolve

#: How far each multiplier is moved to see what depends on it.
_NUDGE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A prediction and its dependence on the multipliers.

    Attributes:
        case: Resolved.
        predicted_s, bound_s: Of what was timed, by the packaged constants alone; the bound is 0 for a part of a step.
        shares: Of that by group.
        signature: What the step computes.
    """

    case: Case
    predicted_s: float
    bound_s: float
    shares: dict[str, float]
    signature: dict[str, float]


def linearise(question: Question, model: Model) -> Linear:
    """Predict a measured step without any multiplier, and with each moved a little.

    Raises:
        RigwiseError: The step cannot be predicted.

    Source: finite differences of the estimate itself.
    """
    calibration, device = packaged(), question.device
    resolved = resolve(question.case, model)
    machine = machine_of(resolved.case, device)
    step = work_of(model, resolved, device)
    moved = _moved(columns([device], calibration, [machine.power_limit_w]))
    whole, _ = micro_step(step.table, stack(moved), calibration, setting_of(resolved.case))
    whole, groups = whole.pick(), groups_of(resolved.case, machine)
    times_s = np.zeros(len(moved))
    for row, on_device in enumerate(moved):
        micro = MicroStep(**{f.name: getattr(whole, f.name)[row : row + 1] for f in fields(whole)})
        times = step_times(step, micro, groups, on_device, calibration)
        times_s[row] = {"forward": times.forward_s, "backward": times.backward_s}.get(question.part, times.total_s)[0]
    slopes = (times_s[1:] / times_s[0] - 1.0) / np.expm1(_NUDGE)
    return Linear(
        case=resolved.case,
        predicted_s=float(times_s[0]),
        bound_s=floor_s(step, machine) if question.part == "step" else 0.0,
        shares={g: round(float(s), 4) for g, s in zip(GROUPS, np.clip(slopes, 0.0, 1.0), strict=True) if s > 1e-4},
        signature=signature(step.table),
    )


def _moved(device: DeviceColumns) -> list[DeviceColumns]:
    """The device as it is, then with each multiplier moved."""
    found = [device]
    for group, name in enumerate(GROUPS):
        if name == "host":
            found.append(replace(device, host_scale=device.host_scale * np.exp(_NUDGE)))
        else:
            of_kind = np.where(group == GROUP_OF_KIND, np.exp(_NUDGE), 1.0)
            found.append(replace(device, time_scale=device.time_scale * of_kind[None, :, None]))
    return found
