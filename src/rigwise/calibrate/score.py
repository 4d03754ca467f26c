"""Predictions beside measurements, row by row, with what simple baselines need to know about each row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rigwise.calibrate.operators import operator_name
from rigwise.calibrate.question import Question, measured_s
from rigwise.calibrate.shelf import Shelf, check_same_network
from rigwise.errors import RigwiseError, UnsupportedError
from rigwise.estimate.bound import FASTEST, cache_bytes, ceiling_flops_per_s, least_flops
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.collective import Network, all_reduce_s, all_to_all_s, gather_s, network_of, send_s
from rigwise.estimate.columns import columns
from rigwise.estimate.interval import provenance_of
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import Prediction, machine_of, predict
from rigwise.estimate.setting import setting_of
from rigwise.graph.dim import Sizes
from rigwise.graph.graph import Model
from rigwise.graph.op import Op, Phase
from rigwise.measurement.measurement import Rejected
from rigwise.workload.table import FORMATS, OpTable, tabulate

Progress = Callable[[int, int], None]

#: Equal sets of operands that a table's benchmark rotates; others time one set again and again.
OPERAND_SETS = {"aiconfigurator_gemm": 5}
#: Seconds of a row that are not the operator's: that table's events surround the call, so that they include the host's
#: way to the kernel. By operator, else by its kind; where the error of all cards together is least.
CALL_S: Mapping[str, Mapping[str, float]] = {
    "neusight_ops": {
        "elementwise": 12e-6, "softmax": 27e-6, "ln": 34e-6, "bmm": 32e-6, "linear": 49e-6, "conv": 240e-6,
    },
}  # fmt: skip
_BYTES_OF_DTYPE = {"fp64": 8.0, "fp32": 4.0, "tf32": 4.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """One row with its prediction.

    Attributes:
        question: What was asked.
        measured_s, p10_s, p50_s, p90_s, bound_s: Seconds; no interval is given for one operator (nan).
        flops, activation_bytes, parameter_bytes: Of the work, for the baselines.
        peak_flops_per_s, memory_bytes_per_s: Of all its devices, as their data sheets say.
        provenance: How near the device is to those the constants were fitted on.
        call_s: Of the measured time, what the table's way of timing adds; the prediction includes it.
    """

    question: Question
    measured_s: float
    p10_s: float
    p50_s: float
    p90_s: float
    bound_s: float
    flops: float
    activation_bytes: float
    parameter_bytes: float
    peak_flops_per_s: float
    memory_bytes_per_s: float
    provenance: str
    call_s: float = 0.0

    @property
    def beats_bound(self) -> bool:
        """Whether the row says that physics was beaten."""
        return self.measured_s < self.bound_s


def score(
    questions: Sequence[Question], shelf: Shelf, progress: Progress = lambda done, total: None
) -> tuple[list[Score], list[Rejected]]:
    """Predict every row; rows that cannot be predicted come back with the reason.

    Steps are taken model by model, so that each graph is read and lowered once; operators device by device.
    """
    steps: dict[str, list[Question]] = defaultdict(list)
    alone: dict[tuple[object, ...], list[Question]] = defaultdict(list)
    place: dict[int, int] = {}
    for question in questions:
        place[id(question)] = len(place)
        if question.is_step:
            steps[question.case.model].append(question)
        else:
            how = (question.measurement.source, question.case.layout, question.case.runtime, question.case.software)
            key = (question.device.id, how, question.message is None)
            alone[key].append(question)
    total = sum(map(len, (*steps.values(), *alone.values())))
    found: list[Score] = []
    left_out: list[Rejected] = []
    for group in alone.values():
        _extend(found, left_out, _operators(group) if group[0].op else map(_collective_or_reason, group))
        progress(len(found) + len(left_out), total)
    for word, group in steps.items():
        _extend(found, left_out, _steps(word, sorted(group, key=_order), shelf))
        progress(len(found) + len(left_out), total)
    found.sort(key=lambda one: place[id(one.question)])
    return found, left_out


def _extend(found: list[Score], left_out: list[Rejected], answers: Iterable[Score | Rejected]) -> None:
    for answer in answers:
        (found if isinstance(answer, Score) else left_out).append(answer)  # type: ignore[arg-type]


def _order(question: Question) -> tuple[object, ...]:
    case = question.case
    return case.task, case.dtype or "", case.mode, case.optimizer or "", case.device, case.image_size or 0, case.batch


def _reject(question: Question, error: RigwiseError) -> Rejected:
    return Rejected(where=question.measurement.where, reason=str(error))


# --- whole steps --------------------------------------------------------------------------


def _steps(word: str, group: Sequence[Question], shelf: Shelf) -> Iterable[Score | Rejected]:
    try:
        model = shelf.model(word)
    except RigwiseError as error:
        for question in group:
            yield _reject(question, error)
        return
    activations: dict[tuple[int | None, int | None], float] = {}
    for question in group:
        try:
            check_same_network(question.measurement, model)
            sizes = question.case.image_size, question.case.seq
            if sizes not in activations:
                activations[sizes] = activation_elements(model, *sizes)
            yield _step(question, model, activations[sizes])
        except RigwiseError as error:
            yield _reject(question, error)


def _step(question: Question, model: Model, elements_per_sample: float) -> Score:
    case = question.case
    answer = predict(case, model)
    part_s, bound_s = _part(question, answer)
    of_step = part_s / answer.step_time_s["p50"]
    width = _BYTES_OF_DTYPE.get(answer.case.dtype or "fp32", 2.0)
    training = 3.0 if case.task == "train" else 1.0
    share = {"step": 1.0, "forward": 1 / training, "backward": 1 - 1 / training}[question.part]
    return Score(
        question=question,
        measured_s=measured_s(question.measurement),
        p10_s=max(answer.step_time_s["p10"] * of_step, bound_s),
        p50_s=max(part_s, bound_s),
        p90_s=max(answer.step_time_s["p90"] * of_step, bound_s),
        bound_s=bound_s,
        flops=answer.flops * share,
        activation_bytes=elements_per_sample * case.batch * width * training * share,
        parameter_bytes=model.parameter_count * width * case.count,
        peak_flops_per_s=_peak(question, FORMATS_OF_DTYPE.get(answer.case.dtype or "fp32", "fp32")),
        memory_bytes_per_s=(answer.device.memory_bytes_per_s or np.nan) * case.count,
        provenance=answer.provenance,
    )


#: Number format in which a dtype multiplies, where the names differ.
FORMATS_OF_DTYPE = {"amp-fp16": "fp16", "amp-bf16": "bf16", "int8": FASTEST, "int4": FASTEST} | {f: f for f in FORMATS}


def _peak(question: Question, number_format: str) -> float:
    device = question.device
    able = [f for f in ("bf16", "fp16", "fp32") if device.computes(f)] if number_format == FASTEST else [number_format]
    return max(device.peak(f) for f in able) * question.case.count


def _part(question: Question, answer: Prediction) -> tuple[float, float]:
    """Time and bound of the part of the step that was timed; a half is bounded by its arithmetic alone."""
    if question.part == "step":
        return answer.step_time_s["p50"], answer.bound_s
    part_s = answer.forward_s if question.part == "forward" else answer.backward_s
    arithmetic_s = answer.bound_s / 3 if question.part == "forward" else answer.bound_s * 0.5
    return part_s, arithmetic_s


def activation_elements(model: Model, image_size: int | None, seq: int | None) -> float:
    """Elements that all operators of one forward pass over one sample write."""
    graph = model.graph("infer" if "infer" in model.graphs else next(iter(model.graphs)))
    given = {"b": 1, "p": image_size, "s": seq, "c": seq}
    sizes = Sizes({name: np.float64(given.get(name) or usual) for name, usual in graph.symbols.items()})
    return float(
        sum(op.repeat * sum(t.elements(sizes) for t in op.outputs) for op in graph.ops if op.phase is Phase.FORWARD)
    )


# --- single operators ---------------------------------------------------------------------


def _operators(group: Sequence[Question]) -> Iterable[Score | Rejected]:
    """Operators of one device under one software, timed in one call."""
    able: list[Question] = []
    for question in group:
        try:
            _peak(question, _format(question))
            able.append(question)
        except RigwiseError as error:
            yield _reject(question, error)
    if not able:
        return
    calibration = load_calibration()
    device = able[0].device
    table = tabulate([_op(question) for question in able], {"b": 1})
    sets = OPERAND_SETS.get(able[0].measurement.source, 1)
    setting = replace(setting_of(able[0].case), operand_sets=sets)
    times = op_times(table, columns([device], calibration), calibration, setting)
    basis = str(provenance_of(device, calibration))
    for row, question in enumerate(able):
        bound_s, around_s = operator_floor_s(table, row, question), call_s(question)
        yield Score(
            question=question,
            measured_s=measured_s(question.measurement),
            p10_s=np.nan,
            p50_s=float(times.total_s[0, row, 0]) + around_s,
            p90_s=np.nan,
            bound_s=bound_s,
            flops=float(table.flops[row, 0]),
            activation_bytes=float(table.read_bytes[row, 0] + table.write_bytes[row, 0] - table.weight_bytes[row, 0]),
            parameter_bytes=float(table.weight_bytes[row, 0]),
            peak_flops_per_s=_peak(question, _format(question)),
            memory_bytes_per_s=device.memory_bytes_per_s or np.nan,
            provenance=basis,
            call_s=around_s,
        )


def call_s(question: Question) -> float:
    """Seconds that a table's way of timing adds to an operator, see ``CALL_S``."""
    of_table = CALL_S.get(question.measurement.source, {})
    kind = question.op.kind.value if question.op else ""
    return of_table.get(operator_name(question.measurement), of_table.get(kind, 0.0))


def _op(question: Question) -> Op:
    if question.op is None:
        raise UnsupportedError(f"{question.measurement.model} is no operator")
    return question.op


def _format(question: Question) -> str:
    return str(_op(question).attrs["format"])


def operator_floor_s(table: OpTable, row: int, question: Question) -> float:
    """The least time of one operator: arithmetic at the highest clock, or what the cache cannot hold over the bus.

    Source: ``estimate.bound``.
    """
    device, op = question.device, table.ops[row]
    arithmetic_s = least_flops(op, float(table.flops[row, 0])) / ceiling_flops_per_s(device, _format(question))
    moved = float(table.read_bytes[row, 0] + table.write_bytes[row, 0])
    streamed_s = max(0.0, moved - cache_bytes(device)) / (device.memory_bytes_per_s or np.inf)
    return max(arithmetic_s, streamed_s)


def _collective_or_reason(question: Question) -> Score | Rejected:
    try:
        return _collective(question)
    except RigwiseError as error:
        return _reject(question, error)


def _sent_s(message_bytes: float, network: Network) -> Any:
    return send_s(message_bytes, network, between_nodes=network.nodes > 1)


#: Law of every collective that is not a gather or its mirror image.
_LAWS: Mapping[str, Callable[..., Any]] = {
    "all_reduce": all_reduce_s,
    "alltoall": all_to_all_s,
    "send_recv": _sent_s,
}


def _collective(question: Question) -> Score:
    message, case = question.message, question.case
    if message is None:
        raise UnsupportedError(f"{question.measurement.model} is no collective")
    calibration = load_calibration()
    network = network_of(machine_of(replace(case, model=""), question.device), calibration.collective)
    law: Callable[..., Any] = _LAWS.get(message.collective, gather_s)
    peer = question.device.peer_bytes_per_s_each_way or question.device.host_bytes_per_s_each_way or np.nan
    return Score(
        question=question,
        measured_s=measured_s(question.measurement),
        p10_s=np.nan,
        p50_s=float(law(message.message_bytes, network)),
        p90_s=np.nan,
        bound_s=0.0,
        flops=0.0,
        activation_bytes=message.message_bytes,
        parameter_bytes=0.0,
        peak_flops_per_s=1.0,
        memory_bytes_per_s=peer,
        provenance=str(provenance_of(question.device, calibration)),
    )
