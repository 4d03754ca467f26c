"""Answer one case: a model on a machine, with an interval and the reasons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rigwise.errors import InvalidInputError, MissingFactError, UnsupportedError
from rigwise.estimate.bound import least_step_s, least_work
from rigwise.estimate.calibration import Calibration, load_calibration
from rigwise.estimate.collective import alone, as_columns, check_link, network_of
from rigwise.estimate.columns import columns_of
from rigwise.estimate.communication import Groups, taken_for_granted
from rigwise.estimate.cpu import network_on_cores, said_of_pages
from rigwise.estimate.device_memory import Question, device_memory
from rigwise.estimate.interval import provenance_of, quantiles, step_spread, time_spread
from rigwise.estimate.learned import Knowledge, basis, knowledge_of
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.op_time import OpTimes
from rigwise.estimate.setting import setting_of
from rigwise.estimate.step import (
    StepTimes,
    StepWork,
    step_times,
    step_work,
)
from rigwise.facts.catalogue import cpu
from rigwise.facts.device import Device
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind
from rigwise.machine.machine import Machine, on_shared_cores
from rigwise.machine.this import is_local, resolve_device
from rigwise.provenance import Provenance
from rigwise.shown import Shown
from rigwise.units import GB
from rigwise.workload.case import Case
from rigwise.workload.lower import Lowering, lower_model
from rigwise.workload.resolve import Resolved, resolve
from rigwise.workload.table import FORMATS

_PER_NODE_USUAL = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class KindShare:
    """What one kind of operator contributes to a step on one device.

    Attributes:
        kind: Operator kind, or ``update`` for the optimizer step.
        time_s, flops, moved_bytes: Of all its operators in one step.
        binds: The roof most of that time is spent under.
    """

    kind: str
    time_s: float
    flops: float
    moved_bytes: float
    binds: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction(Shown):
    """Answer to a case. Times in seconds, sums over all devices; see docs/reference/json.md."""

    case: Case
    device: Device
    step_time_s: Mapping[str, float]
    forward_s: float
    backward_s: float
    optimizer_s: float
    exposed_comm_s: float
    bubble_s: float
    straggling_s: float
    throughput_per_s: float
    tokens_per_s: float | None
    peak_memory_bytes: Mapping[str, float]
    memory_terms: Mapping[str, float]
    capacity_bytes: float
    fits: bool
    fit_probability: float
    largest_micro_batch: int | None
    energy_j: Mapping[str, float] | None
    flops: float
    macs: float
    moved_bytes: float
    mfu: float
    bound_s: float
    binds: Mapping[str, float]
    by_kind: tuple[KindShare, ...]
    provenance: str
    assumed: tuple[str, ...]
    unknown_ops: tuple[str, ...]


def predict(case: Case, model: Model | None = None) -> Prediction:
    """Predict one case.

    Args:
        case: The question; see ``Case``.
        model: The captured model, if at hand; else ``case.model`` is loaded.

    Raises:
        RigwiseError: Any branch of the tree: unknown names, missing facts, impossible formats.
    """
    model = model or load_model(case.model)
    whole = resolve_device(case.device)
    resolved = resolve(case, model)
    calibration = load_calibration()
    machine = machine_of(resolved.case, whole)
    device = machine.device
    step = work_of(model, resolved, device)
    known = knowledge_of(calibration, [device], resolved.case, step.table)
    on_device = columns_of(machine, known, calibration)
    micro, ops = micro_step(step.table, on_device, calibration, setting_of(resolved.case))
    times = step_times(step, micro.pick(), groups_of(resolved.case, machine), on_device, calibration)
    group_s, usual = micro.pick().group_s, np.array([time_spread(device, calibration)])
    spreads = step_spread(usual, micro.pick(), times.shares_s, resolved.case, calibration)
    spreads = known.spread(spreads, group_s, times.shares_s) if known else spreads
    spread = float(np.hypot(spreads[0], times.comm_spread[0]))
    answer = _prediction(resolved, step, (times, ops, spread), machine, calibration)
    return _as_learned(answer, known, calibration) if known else answer


def machine_of(case: Case, device: Device) -> Machine:
    """The machine a case describes.

    Raises:
        MissingFactError: The catalogue lacks bandwidth, memory or every peak of the device.
        UnsupportedError: The case names a link that does not exist.
        InvalidInputError: It names threads, and the device is no CPU.
    """
    check_link(case.link or "")
    if device.missing():
        raise MissingFactError(
            f"{device.id} has no sourced {' and '.join(device.missing())}",
            hint="rigwise devices --incomplete lists such devices",
        )
    inter = case.inter_node_gbps * GB / 8 if case.inter_node_gbps else None
    host = cpu(case.host).id if case.host else ""
    machine = Machine(
        device=device,
        count=case.count,
        nodes=case.nodes,
        link=case.link or "",
        inter_node_bytes_per_s=inter,
        host=host,
        power_limit_w=case.power_limit_w,
    )
    if device.kind == "cpu":
        return on_shared_cores(machine, case.threads)
    if case.threads is not None:
        raise InvalidInputError(f"threads {case.threads} on {device.id}", hint="threads are of ranks on a CPU")
    return machine


def groups_of(case: Case, machine: Machine) -> Groups:
    """How the devices of one machine share a step."""
    data = float(case.parallel.data or 1)
    micro_steps = case.batch / (data * (case.parallel.micro_batch or 1))
    calibration = load_calibration()
    network = alone(calibration.collective)
    if machine.shares_cores:
        network = network_on_cores(machine, calibration)
    elif machine.count > 1:
        network = network_of(machine, calibration.collective)
    return Groups(
        count=np.array([float(machine.count)]),
        data=np.array([data]),
        micro_steps=np.array([micro_steps]),
        network=as_columns([network]),
    )


def lowering_of(case: Case, best_format: str) -> Lowering:
    """What of a resolved case shapes its operators."""
    return Lowering(
        task=case.task,
        dtype=case.dtype or "fp32",
        mode=case.mode,
        recompute=case.recompute,
        method=case.method,
        lora_rank=case.lora_rank,
        optimizer=case.optimizer or "none",
        attention=_attention_of(case),
        best_format=best_format,
        fast_norm=bool(case.software.fast_norm),
    )


def best_format_of(device: Device) -> str:
    """The 16- or 32-bit format in which a device multiplies quickest."""
    usable = [f for f in ("bf16", "fp16", "fp32") if device.computes(f)]
    if not usable:
        raise MissingFactError(
            f"{device.id} has no sourced 16- or 32-bit peak", hint="see rigwise devices --incomplete"
        )
    return max(usable, key=device.peak)


def work_of(model: Model, resolved: Resolved, device: Device) -> StepWork:
    """The work of a case on a kind of device.

    Raises:
        UnsupportedError: The device has no unit for the format of some operator.
    """
    case = resolved.case
    work = lower_model(model, lowering_of(case, best_format_of(device)))
    step = step_work(case, work, resolved.sizes)
    for number_format in {FORMATS[f] for f in step.table.number_format[step.table.flops[:, 0] > 0]}:
        _check_format(device, number_format, case.dtype or "fp32")
    return step


def _check_format(device: Device, number_format: str, dtype: str) -> None:
    try:
        device.peak(number_format)
    except UnsupportedError as error:
        raise UnsupportedError(f"{device.id} cannot compute {dtype}: {error.message}", hint=error.hint) from None


def _attention_of(case: Case) -> str:
    """Fused attention came to PyTorch with version 2.0 in 2023."""
    if case.software.attention:
        return case.software.attention
    if case.software.torch and case.software.torch.split(".")[0] == "1":
        return "math"
    return "math" if case.software.year and case.software.year < 2023 else "flash"


def _prediction(
    resolved: Resolved,
    step: StepWork,
    timed: tuple[StepTimes, OpTimes, float],
    machine: Machine,
    calibration: Calibration,
) -> Prediction:
    case, device, (times, ops, spread) = resolved.case, machine.device, timed
    case = replace(case, threads=device.units) if machine.shares_cores else case
    bound_s = floor_s(step, machine)
    time_s = _floats(quantiles(float(times.total_s[0]), spread, bound_s))
    memory = device_memory(Question(work=step.work, sizes=step.sizes, case=case, device=device), calibration)
    totals = step_totals(step)
    pages = said_of_pages(step.table, device, ops.total_s[0, :, 0], setting_of(case))
    energy = float(times.energy_j[0])
    samples_per_s = case.batch / time_s["p50"]
    return Prediction(
        case=case,
        device=device,
        step_time_s=time_s,
        forward_s=float(times.forward_s[0]),
        backward_s=float(times.backward_s[0]),
        optimizer_s=float(times.optimizer_s[0]),
        exposed_comm_s=float(times.exposed_comm_s[0]),
        bubble_s=float(times.bubble_s[0]),
        straggling_s=float(times.straggling_s[0]),
        throughput_per_s=samples_per_s,
        tokens_per_s=_tokens(case, step) * samples_per_s if _tokens(case, step) else None,
        peak_memory_bytes=memory.peak_bytes,
        memory_terms=memory.terms_bytes,
        capacity_bytes=memory.capacity_bytes,
        fits=memory.fits,
        fit_probability=memory.fit_probability,
        largest_micro_batch=memory.largest_micro_batch,
        energy_j=_floats(quantiles(energy, spread)) if np.isfinite(energy) else None,
        flops=totals["flops"],
        macs=totals["flops"] / 2,
        moved_bytes=totals["moved_bytes"],
        mfu=_mfu(step, totals["model_flops"], time_s["p50"], device),
        bound_s=bound_s,
        binds=_shares(times),
        by_kind=_by_kind(step, times, ops),
        provenance=str(provenance_of(device, calibration)),
        assumed=(*resolved.assumed, *_assumed(case, machine, calibration), *pages),
        unknown_ops=tuple(sorted({op.name for op in step.table.ops if op.kind is Kind.UNKNOWN})),
    )


def _as_learned(answer: Prediction, known: Knowledge, calibration: Calibration) -> Prediction:
    """The answer, saying which measurements it rests on."""
    provenance = str(Provenance.MEASURED_HERE) if known.measured[0] else answer.provenance
    return replace(answer, provenance=provenance, assumed=(*answer.assumed, basis(calibration, answer.device.id)))


def _floats(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def floor_s(step: StepWork, machine: Machine) -> float:
    """The lower bound of one step of this strategy on this machine.

    Source: ``estimate.bound``.
    """
    case = step.case
    least = least_work(step.whole, step.work, step.micro_steps, case.parallel.data or 1, case.optimizer or "none")
    return least_step_s(least, machine.device, machine.count)


def step_totals(step: StepWork) -> dict[str, float]:
    """FLOPs done, FLOPs of the model alone and bytes moved in one step over all devices."""
    needed = np.array([not op.attrs.get("recomputed") for op in step.table.ops], dtype=bool)
    done = step.table.total(2.0 * step.table.macs)
    model = step.table.total(2.0 * step.table.macs, needed) if needed.any() else done
    moved = step.table.total(step.table.read_bytes + step.table.write_bytes)
    passes = step.micro_steps * (step.case.parallel.data or 1) * step.case.parallel.tensor * step.case.parallel.context
    parallel = step.case.parallel
    copies = step.case.count if parallel.zero == 0 else parallel.tensor * parallel.pipeline
    updated_bytes = step.update.moved_bytes * copies / (parallel.tensor * parallel.pipeline)
    return {
        "flops": float(done[0]) * passes,
        "model_flops": float(model[0]) * passes,
        "moved_bytes": float(moved[0]) * passes + updated_bytes,
    }


def _tokens(case: Case, step: StepWork) -> float:
    """Tokens of one sample in a step; 0 for models without a sequence."""
    if case.task == "decode":
        return 1.0
    return float(step.sizes.get("s", 0))


def _mfu(step: StepWork, model_flops: float, time_s: float, device: Device) -> float:
    """Model FLOPs over what the devices could do at their dense peak.

    Source: Chowdhery et al., "PaLM", 2022, appendix B.
    """
    peak = device.peak(step.work.precision.compute)
    return model_flops / (time_s * step.case.count * peak)


def _shares(times: StepTimes) -> dict[str, float]:
    seconds = {name: float(value[0]) for name, value in times.shares_s.items()}
    whole = sum(seconds.values()) or 1.0
    return {name: value / whole for name, value in seconds.items()}


def _by_kind(step: StepWork, times: StepTimes, ops: OpTimes) -> tuple[KindShare, ...]:
    """Kinds by falling time."""
    table, weight = step.table, step.table.repeat * step.micro_steps
    time_s = ops.total_s[0, :, 0] * weight
    compute_bound = ops.compute_s[0, :, 0] >= ops.memory_s[0, :, 0]
    found = []
    for kind in Kind:
        rows = table.of_kind(kind)
        if rows.any() and time_s[rows].sum() > 0:
            moved = (table.read_bytes + table.write_bytes)[rows, 0]
            found.append(
                KindShare(
                    kind=str(kind),
                    time_s=float(time_s[rows].sum()),
                    flops=float((table.flops[rows, 0] * weight[rows]).sum()),
                    moved_bytes=float((moved * weight[rows]).sum()),
                    binds="compute" if time_s[rows & compute_bound].sum() * 2 >= time_s[rows].sum() else "memory",
                )
            )
    if step.update.kernels:
        update_s, moved = float(times.optimizer_s[0]), step.update.moved_bytes
        found.append(KindShare(kind="update", time_s=update_s, flops=0.0, moved_bytes=moved, binds="memory"))
    return tuple(sorted(found, key=lambda share: -share.time_s))


def _assumed(case: Case, machine: Machine, calibration: Calibration) -> list[str]:
    """What the answer takes for granted about machine and software."""
    words = [f"torch {calibration.torch}" if not case.software.torch else f"constants of torch {calibration.torch}"]
    if is_local(case.device):
        words.append(machine.device.note)
    elif machine.device.kind == "cpu":
        words.append(f"{(machine.device.memory_bytes or 0) / GB:.0f} GB of memory")
    if case.count > 1 and not case.link and not machine.shares_cores:
        words.append("the device's usual link inside a node")
    if case.nodes > 1 and not case.inter_node_gbps:
        words.append(f"{calibration.collective.usual_inter_node_bytes_per_s * 8 / GB:.0f} Gbit/s between nodes")
    words += taken_for_granted(case, machine)
    if machine.devices_per_node > _PER_NODE_USUAL:
        words.append(f"{machine.devices_per_node} devices in one node")
    return words


def predict_document(prediction: Prediction) -> dict[str, Any]:
    """The JSON object of ``rigwise.predict/1``."""
    from rigwise.edge import as_plain

    document = {"schema": "rigwise.predict/1", **as_plain(replace(prediction))}
    document["device"] = prediction.device.id
    document["peak_memory_bytes"]["terms"] = document.pop("memory_terms")
    document["bytes"] = document.pop("moved_bytes")
    for share in document["by_kind"]:
        share["bytes"] = share.pop("moved_bytes")
    return document
