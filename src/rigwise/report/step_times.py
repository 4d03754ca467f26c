"""The operators of one step on a device, each with its time: what ``predict`` times, row by row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.columns import columns_of
from rigwise.estimate.learned import knowledge_of
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.op_time import OpTimes
from rigwise.estimate.pipeline import passes_of_stage
from rigwise.estimate.predict import groups_of, machine_of, work_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.step import StepTimes, StepWork, step_times
from rigwise.graph.graph import Model
from rigwise.graph.op import Op
from rigwise.graph.summary import Cost, cost_of, costs_of
from rigwise.graph.tree import Load, Row
from rigwise.machine.this import resolve_device
from rigwise.report.step_rows import Step
from rigwise.workload.case import Case
from rigwise.workload.resolve import resolve
from rigwise.workload.table import FORMATS, OpTable

#: Launch gaps longer than this are idle units, not launches; as ``op_time.binding_shares`` cuts them.
_LONGEST_GAP_S = 1e-5


def timed_step(case: Case, model: Model) -> Step:
    """The step on a device, as ``predict`` estimates it.

    Raises:
        RigwiseError: As ``predict``.
    """
    whole, resolved, calibration = resolve_device(case.device), resolve(case, model), load_calibration()
    machine = machine_of(resolved.case, whole)
    device = machine.device
    costs_of(model.graph(case.task).ops, resolved.sizes, model.name)
    step = work_of(model, resolved, device)
    on_device = columns_of(machine, knowledge_of(calibration, [device], resolved.case, step.table), calibration)
    micro, ops = micro_step(step.table, on_device, calibration, setting_of(resolved.case))
    groups = groups_of(resolved.case, machine)
    times = step_times(step, micro.pick(), groups, on_device, calibration)
    scale = float(passes_of_stage(resolved.case, step.line, groups.micro_steps)[0])
    kernels_s = scale * float(micro.pick().forward_s[0] + micro.pick().backward_s[0])
    return Step(
        case=resolved.case,
        sizes=resolved.sizes,
        rows=_rows(step, ops, scale),
        beside=_beside(step, times, kernels_s),
        device=device.id,
        dtype=str(resolved.case.dtype),
        assumed=resolved.assumed,
    )


def _rows(step: StepWork, ops: OpTimes, scale: float) -> tuple[Row, ...]:
    """Every operator: its work over all devices, its time in the step, its saved activations on one device."""
    table, parallel = step.table, step.case.parallel
    passes = step.micro_steps * (parallel.data or 1) * parallel.tensor
    binds = binds_s(table, ops, scale)
    work = {name: getattr(table, name)[:, 0] * table.repeat * passes for name in ("macs", "read_bytes", "write_bytes")}
    return tuple(
        Row(
            op=op,
            cost=Cost(
                calls=op.repeat * step.micro_steps,
                flops=2.0 * float(work["macs"][row]),
                macs=float(work["macs"][row]),
                read_bytes=float(work["read_bytes"][row]),
                write_bytes=float(work["write_bytes"][row]),
                saved_bytes=_saved_bytes(op, step.sizes),
            ),
            binds_s={name: float(seconds[row]) for name, seconds in binds.items()},
            number_format=FORMATS[table.number_format[row]],
        )
        for row, op in enumerate(table.ops)
    )


def _saved_bytes(op: Op, sizes: Mapping[str, int]) -> float:
    return cost_of(op, sizes).saved_bytes if any(t.saved for t in op.outputs) else 0.0


def binds_s(table: OpTable, times: OpTimes, scale: float = 1.0) -> dict[str, np.ndarray]:
    """Seconds of a step that each operator spends bound by compute, memory and launches ``[operators]``.

    Their sums over operators are ``op_time.binding_shares``.
    """
    total, compute, memory = (a[0, :, 0] for a in (times.total_s, times.compute_s, times.memory_s))
    gap = np.minimum(total - np.maximum(compute, memory), table.launches * _LONGEST_GAP_S)
    by_compute, weight = compute >= memory, table.repeat * scale
    return {
        "compute": np.where(by_compute, total - gap, 0.0) * weight,
        "memory": np.where(by_compute, 0.0, total - gap) * weight,
        "launch": gap * weight,
    }


def _beside(step: StepWork, times: StepTimes, kernels_s: float) -> dict[str, Load]:
    """Seconds outside the operators, by what a person would call them."""
    update_s = float(times.optimizer_s[0])
    moved = Cost(calls=step.update.kernels, read_bytes=step.update.moved_bytes if step.update.kernels else 0.0)
    parts = {
        "waiting for the host": Load(binds_s={"launch": float((times.forward_s + times.backward_s)[0]) - kernels_s}),
        "optimizer": Load(cost=moved, binds_s={"memory": update_s}),
        "communication": Load(binds_s={"network": float(times.exposed_comm_s[0])}),
        "input": Load(binds_s={"input": float(times.input_s[0])}),
    }
    return {name: load for name, load in parts.items() if load.time_s > 0}
