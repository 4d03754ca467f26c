"""What a measured step says about the groups of operators: predicted time, and the share of each group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from rigwise.calibrate.question import Question
from rigwise.calibrate.score import OPERAND_SETS, call_s, operator_floor_s
from rigwise.errors import MissingFactError
from rigwise.estimate.calibration import packaged
from rigwise.estimate.columns import DeviceColumns, columns, stack
from rigwise.estimate.learned import GROUP_OF_KIND, GROUPS
from rigwise.estimate.micro_step import MicroStep, micro_step
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import floor_s, groups_of, machine_of, work_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.signature import signature
from rigwise.estimate.step import step_times
from rigwise.graph.graph import Model
from rigwise.graph.op import Op
from rigwise.workload.case import Case
from rigwise.workload.resolve import resolve
from rigwise.workload.table import Array, tabulate

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
    return Linear(
        case=resolved.case,
        predicted_s=float(times_s[0]),
        bound_s=floor_s(step, machine) if question.part == "step" else 0.0,
        shares=_shares(times_s),
        signature=signature(step.table),
    )


def linearise_operators(question: Question, ops: Sequence[Op]) -> Linear:
    """The same for one operator that is run again and again, or for several, one after the other.

    Raises:
        MissingFactError: The device lacks a figure that its law needs.

    Source: finite differences of the estimate itself.
    """
    calibration, device = packaged(), question.device
    table = tabulate(ops, {"b": 1})
    sets = OPERAND_SETS.get(question.measurement.source, 1)
    setting = replace(setting_of(question.case), operand_sets=sets)
    moved = stack(_moved(columns([device], calibration)))
    times_s = op_times(table, moved, calibration, setting).total_s[:, :, 0].sum(axis=1) + call_s(question)
    if not times_s[0] > 0:
        raise MissingFactError(f"nothing is known of {question.case.model} on {device.id} in this number format")
    return Linear(
        case=question.case,
        predicted_s=float(times_s[0]),
        bound_s=sum(operator_floor_s(table, row, question) for row in range(len(ops))),
        shares=_shares(times_s),
        signature=signature(table),
    )


def _shares(times_s: Array) -> dict[str, float]:
    """Share of each group, from the time as it is and with each multiplier moved."""
    slopes = (times_s[1:] / times_s[0] - 1.0) / np.expm1(_NUDGE)
    return {g: round(float(s), 4) for g, s in zip(GROUPS, np.clip(slopes, 0.0, 1.0), strict=True) if s > 1e-4}


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
