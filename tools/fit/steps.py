"""Fit how often streaming kernels pass over their operands, and see what else whole steps say about the laws.

    python tools/fit/steps.py FOLDER --graphs DIR [--every 5] [--write]

FOLDER holds measured tables (docs/reference/measurements.md), DIR captured graphs by the name the tables use.
Each step is the sum of the times of its operators, grouped by what they are. Robust ridge regression finds the
factor on each group, with 1 as the prior, that best explains all steps; it is repeated with each device and each
fifth of the families left out. Factors of streaming groups become the passes of ``tools/calibration/memory.toml``
(``--write``); those of other groups are printed, for their own scripts to look into.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from rigwise.calibrate.question import Question, measured_s, question
from rigwise.calibrate.rows import family_of
from rigwise.calibrate.shelf import Shelf, check_same_network
from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import Calibration, packaged
from rigwise.estimate.columns import columns
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.predict import groups_of, machine_of, work_of
from rigwise.estimate.setting import setting_of
from rigwise.estimate.step import step_times
from rigwise.estimate.streaming import pass_names
from rigwise.graph.op import Kind, Op
from rigwise.measurement.tables import read_tables
from rigwise.workload.resolve import resolve

Array = NDArray[np.float64]
SECTION = Path(__file__).parent.parent / "calibration/memory.toml"
#: Streaming groups that get passes of their own.
NAMED = frozenset({
    "native_layer_norm", "native_layer_norm_backward", "native_batch_norm", "batch_norm_training",
    "native_batch_norm_backward", "native_group_norm", "native_group_norm_nhwc", "native_group_norm_backward", "gelu", "gelu_backward",
    "softmax", "softmax_backward_data", "to_copy", "fused_norm", "fused_elementwise", "fused_reduce", "fused_softmax",
})  # fmt: skip
#: Passes as kernels are written: batch normalisation in training reads its input twice, and so on.
PRIOR = {
    "copy": 1.1, "gelu": 1.1, "gelu_backward": 1.1, "native_layer_norm": 1.3, "native_layer_norm_backward": 1.8,
    "native_batch_norm": 1.05, "batch_norm_training": 1.5, "native_batch_norm_backward": 1.67, "softmax": 1.15,
    "native_group_norm": 1.6, "native_group_norm_nhwc": 4.5, "native_group_norm_backward": 2.0,
    "softmax_backward_data": 1.3, "reduce": 1.1, "pool": 1.2, "pool_backward": 1.2, "fused_norm": 1.05,
    "fused_softmax": 1.15, "fused_reduce": 1.05, "index": 1.5, "index_backward": 1.5,
}  # fmt: skip
_LAWS = frozenset({Kind.GEMM, Kind.CONV, Kind.ATTENTION, Kind.RNN, Kind.PAIRWISE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measured step.

    Attributes:
        question: What was measured.
        measured_s, predicted_s: Of the step.
        parts_s: Predicted time by group; what the host or links add is ``rest``.
        throttled: Share of the kernels that the power limit adds.
    """

    question: Question
    measured_s: float
    predicted_s: float
    parts_s: dict[str, float]
    throttled: float

    @property
    def group(self) -> str:
        """Device, task, layout, mode and software."""
        case = self.question.case
        return f"{case.device} {case.task} {case.dtype} {case.layout} {case.mode} {case.software.torch or case.software.year}"


def group_of(op: Op, layout: str) -> str:
    """The group of an operator: streaming ones by name or kind, convolutions by shape."""
    back = "_backward" if op.phase.value == "backward" else ""
    if op.kind is Kind.CONV:
        return f"conv {_conv_group(op)}{back}"
    if op.kind in _LAWS:
        return f"{op.kind}{back}"
    names = pass_names(op, layout)
    return next((name for name in names if name in NAMED), f"{names[-1]}{back}")


def _conv_group(op: Op) -> str:
    weight = next((t for t in (*op.inputs[1:], *op.outputs) if t.role.value == "parameter" and len(t.shape) > 2), None)
    if op.attrs.get("groups", 1) != 1:
        return "thin" if weight is not None and weight.shape[1] == 1 else "grouped"
    return "1x1" if weight is not None and weight.shape[2] == 1 else "dense"


def rows_of(tables: Path, shelf: Shelf, every: int, only: str, calibration: Calibration) -> Iterator[Row]:
    measurements, _ = read_tables([tables])
    questions = []
    for m in measurements:
        digest = hashlib.md5(f"{m.model}{m.framework}{m.layout}{m.task}{m.batch}".encode()).hexdigest()
        if m.model.startswith("op:") or int(digest, 16) % every:
            continue
        try:
            asked = question(m, shelf.names)
        except RigwiseError:
            continue
        if re.search(only, f"{m.source} {asked.device.id} {asked.case.task} {asked.case.mode} {asked.case.layout}"):
            questions.append(asked)
    for asked in sorted(questions, key=lambda q: q.case.model):
        try:
            yield _row(asked, shelf, calibration)
        except RigwiseError:
            continue


def _row(asked: Question, shelf: Shelf, calibration: Calibration) -> Row:
    model = shelf.model(asked.case.model)
    check_same_network(asked.measurement, model)
    resolved, device = resolve(asked.case, model), asked.device
    machine = machine_of(resolved.case, device)
    step = work_of(model, resolved, device)
    on_device = columns([device], calibration, [None])
    micro, ops = micro_step(step.table, on_device, calibration, setting_of(resolved.case))
    one = micro.pick()
    times = step_times(step, one, groups_of(resolved.case, machine), on_device, calibration)
    whole = {"forward": times.forward_s, "backward": times.backward_s}.get(asked.part, times.total_s)
    parts: dict[str, float] = defaultdict(float)
    weight = ops.total_s[0, :, 0] * step.table.repeat * step.micro_steps
    for op, seconds in zip(step.table.ops, weight, strict=True):
        if asked.part in ("step", op.phase.value):
            parts[group_of(op, resolved.case.layout)] += float(seconds)
    predicted_s = float(whole[0])
    parts["rest"] = predicted_s - sum(parts.values())
    return Row(
        question=asked,
        measured_s=measured_s(asked.measurement),
        predicted_s=predicted_s,
        parts_s=dict(parts),
        throttled=float(one.throttled_s[0] / (one.forward_s[0] + one.backward_s[0])),
    )


def fit(rows: Sequence[Row], groups: Sequence[str], ridge: float) -> Array:
    """Factor on each group: least robust relative error, held to the prior by the ridge; no passes below one."""
    parts = np.array([[row.parts_s.get(g, 0.0) for g in groups] for row in rows])
    measured = np.array([row.measured_s for row in rows])
    now = np.array([passes_now(g) for g in groups])
    prior = np.array([PRIOR.get(g, 1.0) if passes else 1.0 for g, passes in zip(groups, now, strict=True)])
    prior = np.where(now > 0, prior / np.where(now > 0, now, 1.0), 1.0)
    least = np.where(now > 0, 1.0 / np.where(now > 0, now, 1.0), 0.3) - 1e-9
    weight, factors = 1.0 / measured, prior
    for _ in range(10):
        left = np.vstack([weight[:, None] * parts, math.sqrt(ridge) * np.eye(len(groups))])
        right = np.concatenate([weight * measured, math.sqrt(ridge) * prior])
        factors = lsq_linear(left, right, bounds=(least, np.maximum(3.0 * prior, least + 1.0))).x
        off = np.abs(np.log(np.maximum(parts @ factors, 1e-3 * measured) / measured))
        weight = np.minimum(1.0, 0.15 / np.maximum(off, 1e-3)) / measured
    return np.asarray(factors)


def passes_now(group: str) -> float:
    """Passes in force for a streaming group, 0 for one that has a law."""
    if group.startswith("conv ") or group.partition("_backward")[0] in {*map(str, _LAWS), "rest"}:
        return 0.0
    passes = packaged().memory.passes
    return float(passes.get(group, passes.get(group.partition("_backward")[0], 1.0)))


def errors(rows: Sequence[Row], groups: Sequence[str], factors: Array) -> Array:
    """ln(predicted / measured) with these factors ``[rows]``."""
    parts = np.array([[row.parts_s.get(g, 0.0) for g in groups] for row in rows])
    measured = np.array([row.measured_s for row in rows])
    return np.asarray(np.log(np.maximum(parts @ factors, 1e-3 * measured) / measured))


def left_out(rows: Sequence[Row], groups: Sequence[str], ridge: float, fold_of: list[str]) -> Array:
    """The errors of each row with factors fitted on the rows of other folds ``[rows]``."""
    off = np.zeros(len(rows))
    for fold in sorted(set(fold_of)):
        others = [r for r, f in zip(rows, fold_of, strict=True) if f != fold]
        inside = [i for i, f in enumerate(fold_of) if f == fold]
        off[inside] = errors([rows[i] for i in inside], groups, fit(others, groups, ridge))
    return off


def geo(off: Array) -> str:
    return f"{np.expm1(np.abs(off).mean()):7.1%} {np.expm1(off.mean()):+7.1%}"


def report(rows: Sequence[Row], columns_of: dict[str, Array]) -> None:
    """Error and bias by group of rows, with a pair of columns for each way of fitting."""
    members: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        members[row.group].append(index)
        members["all"].append(index)
    print(f"{'geo-err and bias':<48}{'n':>6}  " + "".join(f"{name:>18}" for name in columns_of))
    for name, found in sorted(members.items()):
        if len(found) >= 5:
            print(f"{name:<48}{len(found):>6}  " + "".join(f"   {geo(off[found])}" for off in columns_of.values()))


def write(groups: Sequence[str], factors: Array, calibration: Calibration) -> None:
    """Multiply the passes of the section by the factors of streaming groups."""
    passes = dict(calibration.memory.passes)
    for name, factor in zip(groups, factors, strict=True):
        if now := passes_now(name):
            passes[name] = round(max(now * float(factor), 1.0), 3)
    head, _, tail = SECTION.read_text(encoding="utf-8").partition("[memory.passes]")
    first, _, rest = tail.partition("\n")
    _, bracket, after = rest.partition("\n[")
    lines = "".join(f"{name} = {value}\n" for name, value in sorted(passes.items()))
    SECTION.write_text(f"{head}[memory.passes]{first}\n{lines}{bracket}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--every", type=int, default=1, help="fit every n-th row only")
    parser.add_argument("--only", default="", help="regular expression on source, device, task, mode and layout")
    parser.add_argument("--ridge", type=float, default=0.3)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    calibration = packaged()
    rows = list(rows_of(options.folder, Shelf(options.graphs), options.every, options.only, calibration))
    total: dict[str, float] = defaultdict(float)
    for row in rows:
        for name, seconds in row.parts_s.items():
            total[name] += seconds / row.predicted_s / len(rows)
    groups = sorted(total, key=lambda name: -total[name])
    factors = fit(rows, groups, options.ridge)
    families = [
        str(int(hashlib.md5(family_of(r.question.measurement.model).encode()).hexdigest(), 16) % 5) for r in rows
    ]
    devices = [r.question.device.id for r in rows]
    one = np.ones(len(groups))
    report(rows, {
        "as it is": errors(rows, groups, one),
        "fitted": errors(rows, groups, factors),
        "family left out": left_out(rows, groups, options.ridge, families),
        **({"device left out": left_out(rows, groups, options.ridge, devices)} if len(set(devices)) > 1 else {}),
    })  # fmt: skip
    for name, factor in zip(groups, factors, strict=True):
        if total[name] > 0.002:
            print(f"  {name:<32} share {total[name]:6.1%}  factor {factor:.3f}")
    if options.write:
        write(groups, factors, calibration)


if __name__ == "__main__":
    main()
