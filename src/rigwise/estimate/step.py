"""The time of one step: the sum of its parts.

    forward, backward   every operator by the law of its kind, or the host's dispatch if that
                        is longer, for each micro-batch
    pipeline            the same, stretched by the bubble
    optimizer           streaming over all parameters
    communication       what computation does not hide
    input               what the data loader does not deliver in time

Everything is computed for many devices at once; ``predict`` asks for one, ``fleet`` for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.collective import network_of
from rigwise.estimate.columns import DeviceColumns, columns
from rigwise.estimate.op_time import OpTimes, binding_shares, op_times, phase_rows
from rigwise.estimate.overhead import host_s, meet
from rigwise.estimate.sharding import (
    bubble_factor,
    check_supported,
    data_parallel_s,
    group_network,
    shard,
    tensor_parallel_s,
)
from rigwise.graph.op import Op, Phase
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import Array, OpTable, tabulate

_OFTEN = (Phase.FORWARD, Phase.BACKWARD)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepWork:
    """One step of a case, ready to be timed on any machine.

    Attributes:
        case: Resolved.
        work: Lowered operators and parameters.
        table: Operators of one micro-batch on one device of its tensor group.
        update: Operators of the optimizer step on one device.
        sizes: Symbol sizes of one micro-batch.
        micro_steps: Micro-batches of one replica in a step.
    """

    case: Case
    work: Work
    table: OpTable
    update: OpTable
    sizes: dict[str, int]
    micro_steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Median times of one step ``[machines]``; ``total_s`` is the sum of the parts.

    Attributes:
        forward_s, backward_s, optimizer_s: With whatever host time shows.
        exposed_comm_s, input_s: Beyond what computation hides.
        shares_s: Seconds by what binds: compute, memory, launch, network, input.
        energy_j: Of all devices together; nan where no TDP is known.
        ops: Times of the operators of one micro-batch ``[machines, operators, 1]``.
    """

    forward_s: Array
    backward_s: Array
    optimizer_s: Array
    exposed_comm_s: Array
    input_s: Array
    total_s: Array
    shares_s: dict[str, Array]
    energy_j: Array
    ops: OpTimes


def step_work(case: Case, work: Work, sizes: dict[str, int]) -> StepWork:
    """Tabulate the work of one step.

    Raises:
        UnsupportedError: The strategy has no model (see ``sharding``).
    """
    parallel = case.parallel
    table = tabulate(work.step_ops, sizes)
    check_supported(case, table)
    shards = parallel.tensor * parallel.pipeline * ((parallel.data or 1) if parallel.zero >= 1 else 1)
    return StepWork(
        case=case,
        work=work,
        table=shard(table, parallel),
        update=_share(tabulate(work.update_ops, {"b": 1}), shards),
        sizes=sizes,
        micro_steps=case.batch // ((parallel.data or 1) * (parallel.micro_batch or 1)),
    )


def _share(table: OpTable, shards: int) -> OpTable:
    """The optimizer step over one shard of the parameters."""
    return replace(table, read_bytes=table.read_bytes / shards, write_bytes=table.write_bytes / shards)


def step_times(step: StepWork, machines: Sequence[Machine], calibration: Calibration) -> StepTimes:
    """Median step time on each machine.

    Source: the module's sum; each part cites its own.
    """
    case = step.case
    limits = [m.power_limit_w or case.power_limit_w for m in machines]
    device = columns([m.device for m in machines], calibration, limits)
    layout = "nhwc" if case.mode == "compiled" else case.layout  # a compiler picks the layout itself
    times = op_times(step.table, device, calibration, layout)
    bubble = bubble_factor(case.parallel, step.micro_steps)
    scale = step.micro_steps / case.parallel.pipeline * bubble
    phases, launch_s = {}, np.zeros(len(machines))
    for phase in _OFTEN:
        on_device, on_host = _phase_s(step.table, times, phase), _host_s(step.table, phase, case, calibration)
        whole = meet(on_device, on_host, device.is_cpu[:, 0, 0])
        phases[phase] = scale * whole
        launch_s = launch_s + scale * (whole - on_device)
    optimizer_s, update_shares, update_j, update_wait_s = _update(step, device, calibration)
    compute_s = phases[Phase.FORWARD] + phases[Phase.BACKWARD]
    exposed = _exposed_comm_s(step, machines, phases[Phase.BACKWARD], compute_s, calibration)
    shares = {name: value[:, 0] * scale for name, value in binding_shares(step.table, times).items()}
    for name, value in update_shares.items():
        shares[name] = shares[name] + value[:, 0]
    busy_s = compute_s + optimizer_s + exposed
    input_s = _input_s(case, busy_s)
    shares |= {"launch": shares["launch"] + launch_s + update_wait_s, "network": exposed, "input": input_s}
    dynamic_j = (times.energy_j * step.table.repeat[None, :, None]).sum(axis=(1, 2)) * step.micro_steps
    return StepTimes(
        forward_s=phases[Phase.FORWARD],
        backward_s=phases[Phase.BACKWARD],
        optimizer_s=optimizer_s,
        exposed_comm_s=exposed,
        input_s=input_s,
        total_s=busy_s + input_s,
        shares_s=shares,
        energy_j=_energy_j(dynamic_j * case.parallel.tensor, update_j, busy_s + input_s, device, (case, calibration)),
        ops=times,
    )


def _phase_s(table: OpTable, times: OpTimes, phase: Phase) -> Array:
    rows = phase_rows(table, phase)
    return np.asarray((times.total_s[:, rows] * table.repeat[None, rows, None]).sum(axis=(1, 2)))


def _host_s(table: OpTable, phase: Phase, case: Case, calibration: Calibration) -> float:
    return float(host_s(table, phase, case.mode, case.runtime, calibration.launch)[0]) if table.ops else 0.0


def _update(
    step: StepWork, device: DeviceColumns, calibration: Calibration
) -> tuple[Array, dict[str, Array], Array, Array]:
    """Time, shares, energy and host wait of the optimizer step on one device."""
    if not step.update.ops:
        zero = np.zeros(len(device.devices))
        fixed = np.full_like(zero, calibration.launch.step_s if step.case.task == "train" else 0.0)
        return fixed, {}, zero, fixed
    times = op_times(step.update, device, calibration)
    on_device = _phase_s(step.update, times, Phase.OPTIMIZER)
    whole = meet(on_device, _host_s(step.update, Phase.OPTIMIZER, step.case, calibration), device.is_cpu[:, 0, 0])
    whole = whole + calibration.launch.step_s
    energy = (times.energy_j * step.update.repeat[None, :, None]).sum(axis=(1, 2))
    return whole, binding_shares(step.update, times), energy, whole - on_device


def _exposed_comm_s(
    step: StepWork, machines: Sequence[Machine], backward_s: Array, compute_s: Array, calibration: Calibration
) -> Array:
    case, constants = step.case, calibration.collective
    exposed = np.zeros(len(machines))
    if case.count == 1:
        return exposed
    for row, machine in enumerate(machines):
        network = network_of(machine, constants)
        last_backward = np.array([backward_s[row] / step.micro_steps])
        hidden = (last_backward, np.array([compute_s[row]]))
        data = data_parallel_s(step.work, case, group_network(network, case.parallel, "data"), hidden, constants)
        tensor = tensor_parallel_s(step.table, case, group_network(network, case.parallel, "tensor"), step.micro_steps)
        exposed[row] = float(data[0] + tensor[0] / case.parallel.pipeline)
    return exposed


def _input_s(case: Case, busy_s: Array) -> Array:
    """Time the devices wait for samples: reading, while they work on the batch before."""
    if case.input is None or not case.input.read_bytes_per_s:
        return np.zeros_like(busy_s)
    read_s = case.batch * case.input.bytes_per_sample / (case.input.read_bytes_per_s * case.nodes)
    return np.maximum(0.0, read_s - busy_s)


def _energy_j(
    dynamic_j: Array, update_j: Array, total_s: Array, device: DeviceColumns, context: tuple[Case, Calibration]
) -> Array:
    """Energy of all devices: what they draw while busy, and each operation and byte, to the TDP.

    Source: the form of predictors of kernel power; constants in the ``[power]`` table.
    """
    case, calibration = context
    tdp_w = device.tdp_w[:, 0, 0]
    replicas = case.parallel.data or 1
    static_j = calibration.power.static_frac * tdp_w * total_s * case.count
    total = static_j + replicas * dynamic_j + case.count * update_j
    capped = np.minimum(total, tdp_w * total_s * case.count)
    return np.where(np.isfinite(tdp_w), capped, np.nan)


def without_recompute(ops: Sequence[Op]) -> tuple[Op, ...]:
    """The operators a model needs, without those that recompute runs again."""
    return tuple(op for op in ops if not op.attrs.get("recomputed"))
