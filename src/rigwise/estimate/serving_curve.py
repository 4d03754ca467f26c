"""How long one replica of a served model takes, for many devices and every number of sequences at once.

A replica is a tensor-parallel group of devices inside one instance. Its two kinds of step are
estimated as ``predict`` estimates them: a decode step of N sequences at their mean context, and
one prompt. Servers replay launches that they recorded for certain numbers of sequences, so a step
of N takes what one of the next recorded number takes.

Source: Kwon et al., "PagedAttention", 2023; the recorded numbers are vLLM's usual ones (pull
request 7894 of vllm-project/vllm: 1, 2, 4 and multiples of 8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rigwise.errors import RigwiseError, UnsupportedError
from rigwise.estimate.calibration import Calibration, Constants, load_calibration
from rigwise.estimate.collective import alone, as_columns, network_of
from rigwise.estimate.columns import columns
from rigwise.estimate.communication import Groups
from rigwise.estimate.device_memory import label_spread, memory_spread
from rigwise.estimate.interval import step_spread, time_spread
from rigwise.estimate.learned import knowledge_of
from rigwise.estimate.memory import capacity_bytes, peak_memory
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.predict import best_format_of
from rigwise.estimate.serving import longest_context
from rigwise.estimate.serving_step import RECORDED, Replica, Step, lowered
from rigwise.estimate.setting import setting_of
from rigwise.estimate.step import StepWork, line_of, step_times, update_work
from rigwise.graph.graph import Model
from rigwise.graph.op import Kind
from rigwise.machine.machine import Machine
from rigwise.workload.serving_load import Serving
from rigwise.workload.table import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Times and memory of a replica on a row of machines; nan where one cannot run it.

    Attributes:
        batches: ``RECORDED`` ``[sizes]``.
        decode_s, decode_spread, decode_floor_s: Median of a decode step, standard deviation of its
            logarithm, and what no step undercuts ``[machines, sizes]``.
        prefill_s, prefill_spread, prefill_floor_s: The same of one prompt ``[machines]``.
        memory_bytes: Median peak of the fullest device ``[machines, sizes]``.
        memory_spread, capacity_bytes: Standard deviation of its logarithm; what the device has ``[machines]``.
    """

    batches: Array
    decode_s: Array
    decode_spread: Array
    decode_floor_s: Array
    prefill_s: Array
    prefill_spread: Array
    prefill_floor_s: Array
    memory_bytes: Array
    memory_spread: Array
    capacity_bytes: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """What no estimate of a replica undercuts, a row of machines ``[machines]``.

    Attributes:
        prefill_s: One prompt.
        decode_s: A decode step of one sequence.
        token_s: A decode step for each of its sequences, however many there are.
        memory_bytes: Weights and one sequence on one device.
        have_bytes: Of one device.
    """

    prefill_s: Array
    decode_s: Array
    token_s: Array
    memory_bytes: Array
    have_bytes: Array


def tensor_sizes(model: Model) -> tuple[int, ...]:
    """Groups of 1, 2, 4 or 8 devices over which heads, and heads of keys, divide evenly.

    Source: Shoeybi et al., "Megatron-LM", 2019, section 3. Keys are never held twice, which some servers do.
    """
    attention = [op for op in model.graph("decode").ops if op.kind is Kind.ATTENTION]
    heads = {t.shape[1] for op in attention for t in op.inputs[:2] if len(t.shape) == 4}
    whole = [h for h in heads if isinstance(h, int)]
    return tuple(t for t in (1, 2, 4, 8) if t == 1 or (whole and all(h % t == 0 for h in whole)))


def check_servable(model: Model, load: Serving) -> None:
    """Whether a model can take such requests at all.

    Raises:
        UnsupportedError: It makes no tokens, or has fewer positions than a request needs.
    """
    if not {"prefill", "decode"} <= set(model.graphs):
        raise UnsupportedError(
            f"{model.name} has no decode step, so it serves no tokens",
            hint=f"plan {model.name} --task infer --samples N",
        )
    longest = longest_context(model)
    if longest is not None and load.longest_context >= longest:
        raise UnsupportedError(
            f"{model.name} has {longest} positions, too few for a prompt of {load.prompt_tokens}"
            f" and an output of {load.output_tokens} tokens",
            hint="a shorter prompt or output, or a model with more positions",
        )


def replica_curves(replica: Replica, machines: Sequence[Machine]) -> Curves:
    """Estimate a replica on one instance of each kind.

    Args:
        replica: What is served.
        machines: Whole instances: a replica has ``tensor`` of the devices, others stand beside it.

    Source: ``estimate.step`` and ``estimate.memory``.
    """
    sizes, count = len(RECORDED), len(machines)
    links = load_calibration().collective
    wide = {name: np.full((count, sizes), np.nan) for name in _WIDE}
    narrow = {name: np.full(count, np.nan) for name in _NARROW}
    for best_format, rows in _by_format(replica, machines).items():
        decode, prefill = (lowered(replica, task, best_format) for task in ("decode", "prefill"))
        able = [row for row in rows if all(_able(step, machines[row], links) for step in (decode, prefill))]
        if able:
            found = _on(decode, prefill, [machines[row] for row in able])
            for target in (wide, narrow):
                for name, values in target.items():
                    values[able] = found[name]
    return Curves(batches=np.array(RECORDED, dtype=np.float64), **wide, **narrow)


def replica_floors(replica: Replica, machines: Sequence[Machine]) -> Floors:
    """Bound a replica on one instance of each kind, without estimating it.

    A step's floor is the larger of a part that each sequence adds alike and of traffic, which the
    sequences share; so its floor for each sequence is least for one of them or for the most that
    memory holds.

    Source: ``estimate.bound``.
    """
    links = load_calibration().collective
    found = {name: np.full(len(machines), np.nan) for name in Floors.__dataclass_fields__}
    for best_format, rows in _by_format(replica, machines).items():
        decode, prefill = (lowered(replica, task, best_format) for task in ("decode", "prefill"))
        for row in rows:
            machine = machines[row]
            if all(_able(step, machine, links) for step in (decode, prefill)):
                for name, value in _floors_on(decode, prefill, machine).items():
                    found[name][row] = value
    return Floors(**found)


_WIDE = ("decode_s", "decode_spread", "decode_floor_s", "memory_bytes")
_NARROW = ("prefill_s", "prefill_spread", "prefill_floor_s", "memory_spread", "capacity_bytes")


def _by_format(replica: Replica, machines: Sequence[Machine]) -> dict[str, list[int]]:
    """Machines by the format that widened weights are multiplied in; others than int8 and int4 need not ask."""
    rows: dict[str, list[int]] = {}
    for row, machine in enumerate(machines):
        if machine.device.missing() or machine.devices_per_node < replica.tensor:
            continue
        try:
            chosen = best_format_of(machine.device) if replica.dtype in ("int8", "int4") else "bf16"
        except RigwiseError:
            continue
        rows.setdefault(chosen, []).append(row)
    return rows


def _able(step: Step, machine: Machine, constants: Constants) -> bool:
    """Whether the device has the formats, and a known link if the replica needs one."""
    if not all(machine.device.computes(name) for name in step.formats):
        return False
    try:
        return step.resolved.case.count == 1 or bool(network_of(machine, constants))
    except RigwiseError:
        return False


def _on(decode: Step, prefill: Step, machines: Sequence[Machine]) -> dict[str, Array]:
    """The fields of ``Curves`` for machines that can all run the replica."""
    calibration = load_calibration()
    decode_s, decode_spread = _times(decode, machines, calibration)
    prefill_s, prefill_spread = _times(prefill, machines, calibration)
    decode_floor_s = np.array([decode.floor_s(machine, decode.batches) for machine in machines])
    prefill_floor_s = np.array([float(prefill.floor_s(machine, 1.0)) for machine in machines])
    constants = calibration.memory_terms
    kinds = {machine.device.kind == "cpu" for machine in machines}
    peaks = {is_cpu: _peaks(decode, prefill, calibration, is_cpu=is_cpu) for is_cpu in kinds}
    labels = np.array([label_spread(machine.device, calibration) for machine in machines])
    return {
        "decode_s": decode_s,
        "decode_spread": decode_spread,
        "decode_floor_s": decode_floor_s,
        "prefill_s": prefill_s[:, 0],
        "prefill_spread": prefill_spread[:, 0],
        "prefill_floor_s": prefill_floor_s,
        "memory_bytes": np.array([peaks[machine.device.kind == "cpu"] for machine in machines]),
        "memory_spread": np.hypot(memory_spread(decode.resolved.case, calibration), labels),
        "capacity_bytes": np.array([capacity_bytes(machine.device, constants) for machine in machines]),
    }


def _times(step: Step, machines: Sequence[Machine], calibration: Calibration) -> tuple[Array, Array]:
    """Median time of a step and its spread ``[machines, sizes]``."""
    case, devices = step.resolved.case, [machine.device for machine in machines]
    work = StepWork(
        case=case,
        work=step.work,
        whole=step.whole,
        table=step.table,
        update=update_work(step.work.update_ops),
        sizes=step.resolved.sizes,
        line=line_of(step.whole, step.work) if case.count > 1 else None,
    )
    on_device, sizes = columns(devices, calibration), len(step.batches)
    known = knowledge_of(calibration, devices, case, step.table, range(sizes))
    micro, _ = micro_step(step.table, known.scaled(on_device) if known else on_device, calibration, setting_of(case))
    constants = calibration.collective
    networks = [network_of(m, constants) if case.count > 1 else alone(constants) for m in machines]
    ones = np.ones(len(machines))
    groups = Groups(count=ones * case.count, data=ones, micro_steps=ones, network=as_columns(networks))
    usual = np.array([time_spread(device, calibration) for device in devices])
    time_s, spread = np.zeros((2, len(machines), sizes))
    for size in range(sizes):
        known = knowledge_of(calibration, devices, case, step.table, [size])
        at = micro.pick(size)
        scaled = known.scaled(on_device) if known else on_device
        times = step_times(replace(work, size=size), at, groups, scaled, calibration)
        spreads = step_spread(usual, at, times.shares_s, case, calibration)
        spreads = known.spread(spreads, at.group_s, times.shares_s) if known else spreads
        time_s[:, size], spread[:, size] = times.total_s, np.hypot(spreads, times.comm_spread)
    return time_s, spread


def _peaks(decode: Step, prefill: Step, calibration: Calibration, *, is_cpu: bool) -> Array:
    """Median peak of one device with each number of sequences at their longest, a prompt among them ``[sizes]``."""
    constants, alone_ = calibration.memory_terms, np.ones(1)

    def memory(step: Step, size: int) -> tuple[float, float]:
        batch = int(step.batches[size])
        parallel = replace(step.resolved.case.parallel, data=1, micro_batch=batch)
        case = replace(step.resolved.case, batch=batch, parallel=parallel)
        found = peak_memory(step.work, step.held[size], case, alone_, constants, is_cpu=is_cpu)
        passing = sum(float(found.terms[name][0]) for name in ("transient", "allocator") if name in found.terms)
        return float(found.peak_bytes[0]), passing

    _, prompt = memory(prefill, 0)
    every = [memory(decode, size) for size in range(len(decode.batches))]
    return np.array([peak + max(0.0, prompt - passing) for peak, passing in every])


def _floors_on(decode: Step, prefill: Step, machine: Machine) -> dict[str, float]:
    device = machine.device
    have = max(device.memory_bytes or 0.0, device.usable_bytes or 0.0)
    weights = decode.weight_bytes
    sequence = decode.held[0].cache_bytes
    most = np.clip((have - weights) / sequence if sequence > 0 else np.inf, 1.0, float(RECORDED[-1]))
    ends = np.array([1.0, most])
    floors = decode.floor_s(machine, ends)
    return {
        "prefill_s": float(prefill.floor_s(machine, 1.0)),
        "decode_s": float(floors[0]),
        "token_s": float((floors / ends).min()),
        "memory_bytes": weights + sequence,
        "have_bytes": have,
    }
