"""The time of one step: the sum of its parts.

    forward, backward   every operator by the law of its kind, or the host's dispatch if that
                        is longer, for each micro-batch
    pipeline            the same, stretched by the bubble
    optimizer           streaming over all parameters
    communication       what computation does not hide
    input               what the data loader does not deliver in time

Columns run over machines: ``predict`` asks for one, ``fleet`` for all that can be rented.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.communication import Groups, Sent, exposed, straggling_s
from rigwise.estimate.cpu import updated_bytes_per_s
from rigwise.estimate.data_parallel import Passes
from rigwise.estimate.micro_step import MicroStep
from rigwise.estimate.overhead import host_s, host_scale, meet, update_host_s
from rigwise.estimate.pipeline import bubble_passes, passes_of_stage
from rigwise.estimate.setting import setting_of
from rigwise.estimate.sharding import check_supported, kept_frac, shard
from rigwise.estimate.timeline import Timeline, timeline
from rigwise.graph.count import work as cost_of
from rigwise.graph.op import Kind, Op, Phase
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import KINDS, Array, OpTable, tabulate


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateWork:
    """The optimizer step over all parameters.

    Attributes:
        moved_bytes: Read and written by all its kernels.
        kernels: Lines of the update rule.
        launches: Kernels really started.
        tensors: Parameters that each line visits, in all.
    """

    moved_bytes: float
    kernels: int
    launches: float
    tensors: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """What one device does in a step, ready to be timed.

    Attributes:
        case: Resolved.
        work: Lowered operators and parameters.
        whole: Operators of one micro-batch.
        table: Those of one device of its tensor group.
        update: The optimizer step.
        sizes: Symbol sizes of one micro-batch.
        line: When in a pass which weights are needed; None for a device alone.
        size: Column of the table, one for all machines or one for each.
        line_size: Column of the timeline, None where it is the same.
    """

    case: Case
    work: Work
    whole: OpTable
    table: OpTable
    update: UpdateWork
    sizes: dict[str, int]
    line: Timeline | None = None
    size: Any = 0
    line_size: Any = None

    @property
    def of_line(self) -> Any:
        """Column of the timeline."""
        return self.size if self.line_size is None else self.line_size

    @property
    def micro_steps(self) -> int:
        """Micro-batches of one replica in a step."""
        parallel = self.case.parallel
        return self.case.batch // ((parallel.data or 1) * (parallel.micro_batch or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Median times of one step ``[machines]``; ``total_s`` is the sum of the parts.

    Attributes:
        forward_s, backward_s, optimizer_s: With whatever host time shows.
        exposed_comm_s, input_s: Beyond what computation hides; the first with ``straggling_s``.
        bubble_s: Part of forward and backward: idle while a pipeline fills and drains.
        straggling_s: Waiting for the slowest device.
        comm_spread: Standard deviation of ln(time) that links add ``[machines]``.
        shares_s: Seconds by what binds: compute, memory, launch, network, input.
        energy_j: Of all devices together; nan where no TDP is known.
    """

    forward_s: Array
    backward_s: Array
    optimizer_s: Array
    exposed_comm_s: Array
    input_s: Array
    bubble_s: Array
    straggling_s: Array
    comm_spread: Array
    total_s: Array
    shares_s: dict[str, Array]
    energy_j: Array


def update_work(ops: Sequence[Op]) -> UpdateWork:
    """Sum the operators of an optimizer step."""
    costs = [cost_of(op, {}) for op in ops]
    return UpdateWork(
        moved_bytes=float(sum(c.read_bytes + c.write_bytes for c in costs)),
        kernels=len(ops),
        launches=sum(float(op.attrs["launches"]) for op in ops),  # type: ignore[arg-type,misc]
        tensors=sum(float(op.attrs["tensors"]) for op in ops),  # type: ignore[arg-type,misc]
    )


def step_work(case: Case, work: Work, sizes: dict[str, int]) -> StepWork:
    """Tabulate the work of one step.

    Raises:
        UnsupportedError: The strategy has no model (see ``sharding``).
    """
    table = tabulate(work.step_ops, sizes)
    check_supported(case, table)
    return StepWork(
        case=case,
        work=work,
        whole=table,
        table=shard(table, case.parallel),
        update=update_work(work.update_ops),
        sizes=sizes,
        line=line_of(table, work) if case.count > 1 else None,
    )


def line_of(table: OpTable, work: Work) -> Timeline:
    """The timeline of a table for its work.

    Source: ``estimate.timeline``.
    """
    return timeline(table, work.trained_elements + work.frozen_elements + work.packed_elements)


def step_times(
    step: StepWork, micro: MicroStep, groups: Groups, device: DeviceColumns, calibration: Calibration
) -> StepTimes:
    """Median step time on each machine.

    Args:
        step: The work; its case decides everything that ``groups`` does not.
        micro: One micro-batch on the device of each machine ``[machines]``.
        groups: How many devices share the step, and their links.
        device: Columns of the devices.
        calibration: Fitted constants.

    Source: the module's sum; each part cites its own.
    """
    case, is_cpu = step.case, device.is_cpu[:, 0, 0]
    scale = passes_of_stage(case, step.line, groups.micro_steps, step.of_line)
    phases, waits = {}, np.zeros_like(scale)
    for phase, on_device in ((Phase.FORWARD, micro.forward_s), (Phase.BACKWARD, micro.backward_s)):
        dispatch_s = host_s(step.table, phase, setting_of(case), calibration.launch)
        whole = meet(on_device, dispatch_s * host_scale(case.host, device, calibration.launch), is_cpu)
        phases[phase] = scale * whole
        waits = waits + scale * (whole - on_device)
    compute_s = phases[Phase.FORWARD] + phases[Phase.BACKWARD]
    update_s, update_wait_s, update_j = _update(step, groups, device, calibration)
    bubble_s = bubble_passes(case) * compute_s / scale
    sent_s = _sent_s(step, groups, (phases[Phase.FORWARD] / scale, phases[Phase.BACKWARD] / scale), calibration)
    late_s = straggling_s(case, compute_s + update_s + sent_s, groups, calibration.collective)
    exposed_s = sent_s + late_s
    busy_s = compute_s + update_s + exposed_s
    input_s = _input_s(case, busy_s)
    members = case.parallel.tensor * case.parallel.context
    dynamic_j = micro.dynamic_j * members * groups.micro_steps * groups.data + update_j * groups.count
    return StepTimes(
        forward_s=phases[Phase.FORWARD],
        backward_s=phases[Phase.BACKWARD],
        optimizer_s=update_s,
        exposed_comm_s=exposed_s,
        input_s=input_s,
        bubble_s=bubble_s,
        straggling_s=late_s,
        comm_spread=groups.network.spread * sent_s / (busy_s + input_s),
        total_s=busy_s + input_s,
        shares_s={
            "compute": scale * micro.compute_s,
            "memory": scale * micro.memory_s + update_s - update_wait_s,
            "launch": scale * micro.launch_s + waits + update_wait_s,
            "network": exposed_s,
            "input": input_s,
        },
        energy_j=_energy_j(dynamic_j, (busy_s + input_s) * groups.count, device, calibration),
    )


def _update(
    step: StepWork, groups: Groups, device: DeviceColumns, calibration: Calibration
) -> tuple[Array, Array, Array]:
    """Time of the optimizer step on one device, the host's part of it, and its energy."""
    case, update, launch = step.case, step.update, calibration.launch
    zero = np.zeros_like(groups.count)
    if case.task != "train":
        return zero, zero, zero
    fixed_s = zero + launch.step_s
    if not update.kernels:
        return fixed_s, fixed_s, zero
    parallel = case.parallel
    replicas = groups.data * parallel.context
    shards: Any = parallel.tensor * parallel.pipeline
    kept = kept_frac(step.work.step_ops, parallel)
    shards = np.where(np.greater_equal(parallel.zero, 1), shards * replicas, shards / kept)
    moved = update.moved_bytes / shards
    by_cores = updated_bytes_per_s(device, calibration.cpu)
    sustained = np.where(device.is_cpu, by_cores, device.bytes_per_s * device.memory_frac)[:, 0, 0]
    measured = np.maximum(device.time_scale[:, KINDS.index(Kind.OPTIMIZER), 0], device.memory_frac[:, 0, 0])
    streaming_s = moved / sustained * measured + update.launches / shards * launch.kernel_s
    dispatch_s = update_host_s(update.kernels, update.tensors, launch) * host_scale(case.host, device, launch)
    whole_s = meet(streaming_s, dispatch_s, device.is_cpu[:, 0, 0])
    wait_s = whole_s - streaming_s + fixed_s
    return whole_s + fixed_s, wait_s, device.memory_j_per_byte[:, 0, 0] * moved


def _sent_s(step: StepWork, groups: Groups, whole_s: tuple[Array, Array], calibration: Calibration) -> Array:
    """Exposed communication; ``whole_s`` is one micro-batch's forward and backward through all stages."""
    case = step.case
    if step.line is None:
        return np.zeros_like(whole_s[0])
    sent = Sent(
        case=case,
        work=step.work,
        table=step.table,
        line=step.line,
        size=step.size,
    )
    forward_s, backward_s = (time_s / case.parallel.pipeline for time_s in whole_s)
    passes = Passes(forward_s=forward_s, backward_s=backward_s, micro_steps=groups.micro_steps, size=step.of_line)
    return exposed(sent, groups, passes, calibration.collective).total_s


def _input_s(case: Case, busy_s: Array) -> Array:
    """Time the devices wait for samples: reading, while they work on the batch before."""
    if case.input is None or not case.input.read_bytes_per_s:
        return np.zeros_like(busy_s)
    read_s = case.batch * case.input.bytes_per_sample / (case.input.read_bytes_per_s * case.nodes)
    return np.maximum(0.0, read_s - busy_s)


def _energy_j(dynamic_j: Array, device_seconds: Array, device: DeviceColumns, calibration: Calibration) -> Array:
    """Energy of all devices: what they draw while busy, and each operation and byte, to the TDP.

    Source: the form of predictors of kernel power; constants in the ``[power]`` table.
    """
    tdp_w = device.tdp_w[:, 0, 0]
    drawn = calibration.power.static_frac * tdp_w * device_seconds + dynamic_j
    return np.where(np.isfinite(tdp_w), np.minimum(drawn, tdp_w * device_seconds), np.nan)


def without_recompute(ops: Sequence[Op]) -> tuple[Op, ...]:
    """The operators a model needs, without those that recompute runs again."""
    again = any(op.attrs.get("recomputed") for op in ops)
    return tuple(op for op in ops if not op.attrs.get("recomputed")) if again else tuple(ops)
