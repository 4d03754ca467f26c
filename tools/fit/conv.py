"""Fit the constants of convolutions on step times of networks and on single convolutions.

    python tools/fit/conv.py [--graphs DIR] [--every 3] [--left-out] [--write]

DIR holds captured timm networks, ``NAME.rwg``. Matrix-unit, grouped and depthwise constants are fitted on timm rows of
RTX 3090 and 4090 (``timm.csv``), those of vector units on networks of both Titan X (``cnn-benchmarks.csv``) and on
single convolutions of ``neusight_ops.csv`` and ``deepbench.csv``, those of its GTX 1080 Ti left out to judge by. All
stand in ``RIGWISE_MEASURED`` (default ``../shared/data/measured``). What is not a convolution is taken as it is
predicted, so run this after the other fits. Printed: each constant, and geometric error, 90th percentile and bias by group, in sample
and, with ``--left-out``, with each device and with families left out. ``--write`` puts the constants into their section.
"""

from __future__ import annotations

import argparse
import copy
import csv
import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from rigwise.calibrate.question import Question, measured_s, question
from rigwise.calibrate.score import call_s
from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import Calibration, Constants, load_calibration
from rigwise.estimate.columns import DeviceColumns, columns
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.op_time import op_times
from rigwise.estimate.predict import groups_of, machine_of, work_of
from rigwise.estimate.setting import Setting, setting_of
from rigwise.estimate.step import StepWork, step_times
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind, Phase
from rigwise.measurement.measurement import Measurement
from rigwise.measurement.tables import read_tables
from rigwise.workload.case import Case, Software
from rigwise.workload.resolve import resolve
from rigwise.workload.table import OpTable, tabulate

HERE = Path(__file__).parent
MEASURED = Path(os.environ.get("RIGWISE_MEASURED", HERE.parent.parent.parent / "shared/data/measured"))
SECTION = HERE.parent / "calibration/conv.toml"
TIMM_DEVICES = {"RTX 3090": "rtx-3090", "RTX 4090": "rtx-4090"}
TITANS = {"Titan X (Maxwell)": "gtx-titan-x-maxwell", "Titan X (Pascal)": "titan-x-pascal"}
#: Year by version of cuDNN; of 5.0 the large tile of Winograd's transform is switched off.
YEARS = {"4.0": 2015.0, "5.0": 2016.0, "5.1": 2016.0}
#: Networks whose normalisation, not convolution, is mispredicted.
OTHER_TROUBLE = re.compile(r"gn$|_gn_|_gn\b|bit$|frn|evos|_r26|_r50|convnextv2|g16|mobilevitv2")
#: Not the network that was timed: zoo and benchmark differ in groups and normalisation.
OTHER_NETWORK = frozenset({"alexnet"})
#: Least share of a step that convolutions take for its row to tell of them.
LEAST_SHARE = 0.2

Path_ = tuple[str | int, ...]


def _each(
    layout: str, name: str, low: float, high: float, many: Iterable[int] = range(3)
) -> list[tuple[Path_, float, float]]:
    return [((layout, name, i), low, high) for i in many]


MATRIX: list[tuple[Path_, float, float]] = [
    item
    for layout in ("nhwc", "nchw")
    for item in (
        *_each(layout, "matrix_frac", 0.2, 1.0),
        *_each(layout, "depthwise_frac", 0.03, 1.0),
        ((layout, "depthwise_vector_frac", 0), 0.02, 0.9),
        ((layout, "group_width"), 0.1, 150.0),
        *_each(layout, "wide_vector_frac", 0.003, 0.9),
        *_each(layout, "large_vector_frac", 0.001, 0.9),
        ((layout, "oblong_vector_frac"), 0.001, 0.9),
        ((layout, "oblong_frac"), 0.2, 1.0),
    )
]
MATRIX += [(("nchw", "transform_passes"), 0.0, 2.0), *_each("nchw", "group_frac", 0.05, 1.0)]
MATRIX += [(("nhwc", "group_frac", 0), 0.05, 1.0)]
MATRIX += [(("nhwc", "before", "group_frac", i), 0.02, 1.0) for i in range(3)]
VECTOR: list[tuple[Path_, float, float]] = [
    *((("vector", "direct_frac", i), 0.2, 1.0) for i in range(3)),
    (("vector", "early_frac"), 0.5, 1.0),
    (("vector", "wave_frac"), 0.05, 1.0),
    (("vector", "tile_edge"), 0.5, 60.0),
    (("vector", "ramp_steps"), 0.1, 60.0),
    (("vector", "taps_exponent"), 0.0, 2.0),
    (("vector", "wgrad_wave_frac"), 0.05, 1.0),
    (("vector", "wgrad_ramp_steps"), 0.5, 300.0),
    (("vector", "fused_frac"), 0.1, 1.0),
    (("vector", "fused_ramp_steps"), 0.1, 80.0),
    (("vector", "staged_frac"), 0.1, 1.0),
    (("vector", "staged_passes"), 0.5, 6.0),
]
#: Tables of single convolutions, and the shortest time that is used: short ones tell of the harness.
OPERATORS = {"neusight_ops": 8e-4, "deepbench": 1e-4}
#: Seen by no fit, to judge by.
JUDGED_DEVICE = "gtx-1080-ti"
#: Whole networks count this many times: single convolutions are many, of odd shapes.
NETWORKS_COUNT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Rows of one device and setting.

    Attributes:
        label: For the report.
        device, setting: What the rows share.
        staged: Whether the large Winograd tile was there.
        table: Convolutions of all rows, one after the other; ``row``: which row each belongs to.
        offset_s: Predicted step without its convolutions ``[rows]``.
        measured_s, names: Of each row.
        count: Times that each row counts in a fit.
    """

    label: str
    device: DeviceColumns
    setting: Setting
    staged: bool
    table: OpTable
    row: np.ndarray[Any, Any]
    offset_s: np.ndarray[Any, Any]
    measured_s: np.ndarray[Any, Any]
    names: np.ndarray[Any, Any]
    count: int = 1

    def predict_s(self, calibration: Calibration) -> np.ndarray[Any, Any]:
        """Step time of every row."""
        if not self.staged:
            vector = {**calibration.conv.vector, "staged_passes": 1e9}
            calibration = replace(calibration, conv=Constants("trial", {**calibration.conv.values, "vector": vector}))
        times = op_times(self.table, self.device, calibration, self.setting).total_s[0, :, 0] * self.table.repeat
        return np.asarray(self.offset_s + np.bincount(self.row, times, minlength=len(self.offset_s)))

    def log_error(self, calibration: Calibration) -> np.ndarray[Any, Any]:
        """ln(predicted / measured) ``[rows]``."""
        return np.asarray(np.log(self.predict_s(calibration) / self.measured_s))


def joined(tables: Sequence[OpTable]) -> OpTable:
    """Tables one below the other."""
    arrays = {f.name: np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(OpTable) if f.name != "ops"}
    return OpTable(ops=sum((t.ops for t in tables), ()), **arrays)


def bundle(label: str, device_id: str, setting: Setting, rows: list[tuple[Any, ...]], *, staged: bool = True) -> Bundle:
    """A bundle of ``(table of convolutions, offset_s, measured_s, name)``."""
    tables, offsets, measured, names = zip(*rows, strict=True)
    return Bundle(
        label=label,
        device=columns([resolve_device(device_id)], load_calibration()),
        setting=setting,
        staged=staged,
        table=joined(tables),
        row=np.repeat(np.arange(len(tables)), [len(t.kind) for t in tables]),
        offset_s=np.array(offsets),
        measured_s=np.array(measured),
        names=np.array(names),
    )


# --- timm --------------------------------------------------------------------------------


def timm_rows(graphs: Path, every: int) -> Iterator[tuple[dict[str, str], Model]]:
    """Rows of the fitted software whose network is at hand, with it."""
    by_model: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (MEASURED / "timm.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            fitted = re.search(r"PyTorch (1\.12|2\.1|2\.4)\S* \S+ eager", row["framework"])
            if row["device"] in TIMM_DEVICES and fitted and not OTHER_TROUBLE.search(row["model"]):
                by_model[row["model"]].append(row)
    for name in sorted(by_model)[::every]:
        path = graphs / f"{name}.rwg"
        if not path.exists():
            continue
        model = load_model(str(path))
        for row in by_model[name]:
            stated = re.search(r"params_M=([\d.]+)", row["notes"])
            if stated and abs(model.parameter_count / 1e6 - float(stated[1])) <= 0.01 * float(stated[1]) + 0.006:
                yield row, model


def timm_case(row: dict[str, str]) -> Case:
    """The case that a row of timm measured."""
    version = re.search(r"PyTorch (\d+\.\d+)", row["framework"])
    return Case(
        model=row["model"], device=TIMM_DEVICES[row["device"]], task=row["task"], batch=int(row["batch"]),
        image_size=int(row["input_shape_or_seq"].split("x")[1]), dtype="amp-fp16", layout=row["layout"],
        optimizer="sgd" if row["task"] == "train" else None, software=Software(torch=version[1] if version else None),
    )  # fmt: skip


def without_convolutions(step: StepWork, case: Case) -> tuple[OpTable, float] | None:
    """Convolutions of a step and the predicted time of the rest; None where they hardly count or the host shows."""
    calibration, device = load_calibration(), resolve_device(case.device)
    on_device = columns([device], calibration)
    micro, ops = micro_step(step.table, on_device, calibration, setting_of(case))
    times = step_times(step, micro.pick(), groups_of(case, machine_of(case, device)), on_device, calibration)
    rows = step.table.of_kind(Kind.CONV)
    conv_s = float((ops.total_s[0, rows, 0] * step.table.repeat[rows]).sum())
    kernels_s = float((ops.total_s[0, :, 0] * step.table.repeat).sum())
    total_s = float(times.total_s[0])
    if conv_s < LEAST_SHARE * total_s or total_s - float(times.optimizer_s[0]) > 1.01 * kernels_s:
        return None
    return step.table.take(rows), total_s - conv_s


def timm_bundles(graphs: Path, every: int) -> list[Bundle]:
    """Whole steps of networks on RTX 3090 and 4090."""
    found: dict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
    settings: dict[tuple[str, ...], Setting] = {}
    for row, model in timm_rows(graphs, every):
        case = timm_case(row)
        try:
            resolved = resolve(case, model)
            parts = without_convolutions(work_of(model, resolved, resolve_device(case.device)), resolved.case)
        except RigwiseError:
            continue
        if parts:
            key = (case.device, case.layout, case.task, case.software.torch or "")
            measured_s = int(row["batch"]) / float(row["value"])
            found[key].append((*parts, measured_s, row["model"]))
            settings[key] = setting_of(case)
    return [bundle(" ".join(key), key[0], settings[key], rows) for key, rows in sorted(found.items())]


# --- cnn-benchmarks ----------------------------------------------------------------------


def titan_bundles() -> list[Bundle]:
    """Forward and backward passes of networks on both Titan X."""
    found: dict[tuple[str, str, str], list[tuple[Any, ...]]] = defaultdict(list)
    with (MEASURED / "cnn-benchmarks.csv").open(newline="", encoding="utf-8") as stream:
        rows = [r for r in csv.DictReader(stream) if r["device"] in TITANS and r["task"] in ("fwd", "bwd")]
    for row in rows:
        version = re.search(r" cuDNN (\d\.\d)\.", row["framework"])
        name = row["model"].replace("-v1", "").replace("resnet-", "resnet")
        if version is None or name in OTHER_NETWORK:
            continue
        phase = Phase.FORWARD if row["task"] == "fwd" else Phase.BACKWARD
        parts = phase_without_convolutions(name, TITANS[row["device"]], phase)
        found[TITANS[row["device"]], row["task"], version[1]].append((*parts, float(row["value"]) / 1e3, name))
    return [
        replace(
            bundle(" ".join(key), key[0], Setting(year=YEARS[key[2]]), rows, staged=key[2] == "5.1"),
            count=NETWORKS_COUNT,
        )
        for key, rows in sorted(found.items())
    ]


def phase_without_convolutions(name: str, device_id: str, phase: Phase) -> tuple[OpTable, float]:
    """Convolutions of one phase of training without an optimizer, and the predicted time of its other operators."""
    calibration, device = load_calibration(), resolve_device(device_id)
    model, software = load_model(name), Software(year=2016)
    resolved = resolve(
        Case(model=name, device=device_id, batch=16, image_size=224, dtype="fp32", optimizer="none", software=software),
        model,
    )
    table = work_of(model, resolved, device).table
    times = op_times(table, columns([device], calibration), calibration, setting_of(resolved.case))
    here, is_conv = table.of_phase(phase), table.of_kind(Kind.CONV)
    rest_s = times.total_s[0, :, 0] * table.repeat
    return table.take(here & is_conv), float(rest_s[here & ~is_conv].sum())


# --- single convolutions -----------------------------------------------------------------


def operator_bundles() -> list[Bundle]:
    """Single convolutions on vector units, one bundle for each table, device and direction."""
    tables, _ = read_tables([MEASURED / f"{source}.csv" for source in OPERATORS])
    found: dict[tuple[str, str, str], list[Question]] = defaultdict(list)
    for m in tables:
        if m.model.startswith("op:conv") and m.precision.startswith("fp32") and "storage" not in m.precision:
            asked = question(m)
            if measured_s(m) >= OPERATORS[m.source] and not is_gradient_of_images(m):
                found[asked.device.id, m.source, m.model.removeprefix("op:")].append(asked)
    return [operator_bundle(" ".join(key), group) for key, group in sorted(found.items())]


def is_gradient_of_images(m: Measurement) -> bool:
    """Whether a row is the gradient of what a network is given, which no training needs."""
    return m.model == "op:conv_dgrad" and re.search(r"\bc[1-4]\b", m.shape) is not None


def operator_bundle(label: str, group: Sequence[Question]) -> Bundle:
    """Convolutions that were timed alone, again and again on the same operands."""
    table = tabulate([one.op for one in group if one.op], {"b": 1})
    rows = np.arange(len(group))
    return Bundle(
        label=label,
        device=columns([group[0].device], load_calibration()),
        setting=replace(setting_of(group[0].case), operand_sets=1),
        staged=True,
        table=table,
        row=rows,
        offset_s=np.array([call_s(one) for one in group]),
        measured_s=np.array([measured_s(one.measurement) for one in group]),
        names=np.array([one.measurement.shape for one in group]),
    )


# --- fit ---------------------------------------------------------------------------------


def at(values: Any, path: Path_) -> float:
    for step in path:
        values = values[step]
    return float(values)


def with_values(section: dict[str, Any], parameters: Sequence[tuple[Path_, float, float]], x: Any) -> dict[str, Any]:
    """The section with its parameters set; ``x`` runs over all reals, a parameter between its limits."""
    changed = copy.deepcopy(section)
    for (path, low, high), value in zip(parameters, x, strict=True):
        holder: Any = changed
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = float(low + (high - low) / (1.0 + np.exp(-value)))
    for layout in ("nhwc", "nchw"):
        changed[layout]["depthwise_vector_frac"] = [changed[layout]["depthwise_vector_frac"][0]] * 3
    return changed


def trial(section: dict[str, Any]) -> Calibration:
    return replace(load_calibration(), conv=Constants("trial", section))


def fit(
    bundles: Sequence[Bundle],
    masks: Sequence[Any],
    section: dict[str, Any],
    parameters: Sequence[tuple[Path_, float, float]],
) -> dict[str, Any]:
    """The section that fits the rows of the masks, robustly, and stays near where it was where they say nothing."""

    def inverse(path: Path_, low: float, high: float) -> float:
        share = np.clip((at(section, path) - low) / (high - low), 1e-3, 1 - 1e-3)
        return float(np.log(share / (1 - share)))

    start = np.array([inverse(*p) for p in parameters])

    def residuals(moved: Any) -> Any:
        calibration = trial(with_values(section, parameters, start + moved - 1.0))
        errors = [np.tile(b.log_error(calibration)[m], b.count) for b, m in zip(bundles, masks, strict=True) if m.any()]
        return np.concatenate([*errors, 0.03 * (moved - 1.0)])

    begin = np.ones(len(start))  # steps of the derivative are relative, so no parameter may begin at zero
    found = least_squares(residuals, begin, loss="soft_l1", f_scale=0.08, diff_step=3e-3, max_nfev=25)
    return with_values(section, parameters, start + found.x - 1.0)


def summary(errors: Any) -> str:
    size = np.abs(errors)
    geo, p90, bias = np.expm1(size.mean()), np.expm1(np.quantile(size, 0.9)), np.expm1(np.mean(errors))
    return f"n={len(errors):5d} geo={geo:6.1%} p90={p90:6.1%} bias={bias:+6.1%}"


def report(title: str, bundles: Sequence[Bundle], masks: Sequence[Any], section: dict[str, Any]) -> None:
    print(title)
    for b, m in zip(bundles, masks, strict=True):
        if m.any():
            print(f"  {b.label:<34}{summary(b.log_error(trial(section))[m])}", flush=True)


def left_out(bundles: Sequence[Bundle], section: dict[str, Any], parameters: Any) -> None:
    """Errors with each device left out, and with each third of the families; every fit starts in the middle."""
    section = with_values(section, parameters, np.zeros(len(parameters)))
    devices = sorted({b.label.split()[0] for b in bundles} - {JUDGED_DEVICE})
    for device in devices:
        rest = [np.full(len(b.names), device not in b.label and JUDGED_DEVICE not in b.label) for b in bundles]
        fitted = fit(bundles, rest, section, parameters)
        out = [np.full(len(b.names), device in b.label) for b in bundles]
        report(f"{device} left out", bundles, out, fitted)
    errors: dict[str, list[Any]] = defaultdict(list)
    families = sorted({family(n) for b in bundles for n in b.names})
    for part in range(3):
        out = [np.isin([family(n) for n in b.names], families[part::3]) for b in bundles]
        calibration = trial(fit(bundles, [~m for m in out], section, parameters))
        for b, m in zip(bundles, out, strict=True):
            errors[b.label].append(b.log_error(calibration)[m])
    print("families left out, a third at a time")
    for label, parts in errors.items():
        print(f"  {label:<34}{summary(np.concatenate(parts))}")


def family(name: str) -> str:
    """Of a network the start of its name; a single convolution is one of its own."""
    return name if " " in name else re.split(r"[_\d]", name)[0]


def written(text: str, section: dict[str, Any], parameters: Sequence[tuple[Path_, float, float]]) -> str:
    """The section's text with the fitted numbers in the place of the old ones, comments kept."""
    lines, table = text.splitlines(), ""
    names = {(".".join(str(p) for p in path[:-1] if isinstance(p, str)), path) for path, _, _ in parameters}
    keys = {tuple(p for p in path if isinstance(p, str)) for _, path in names}
    for number, line in enumerate(lines):
        if line.startswith("["):
            table = line[1 : line.index("]")].partition(".")[2]
        key = tuple(part for part in (*table.split("."), line.partition("=")[0].strip()) if part)
        if "=" in line and key in keys:
            value: Any = section
            for step in key:
                value = value[step]
            plain = [float(f"{v:.3g}") for v in value] if isinstance(value, list) else float(f"{value:.3g}")
            comment = line.partition("#")[1] + line.partition("#")[2]
            lines[number] = f"{key[-1]} = {plain}" + (f"  {comment}" if comment else "")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, help="without it the constants of matrix units stay")
    parser.add_argument("--every", type=int, default=3, help="use every n-th network of timm")
    parser.add_argument("--left-out", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    section = tomllib.loads(SECTION.read_text(encoding="utf-8"))["conv"]
    vector = [*titan_bundles(), *operator_bundles()]
    sets = ((vector, VECTOR), (timm_bundles(options.graphs, options.every) if options.graphs else [], MATRIX))
    for bundles, parameters in sets:
        everything = [np.ones(len(b.names), dtype=bool) for b in bundles]
        fitted = [m & (JUDGED_DEVICE not in b.label) for b, m in zip(bundles, everything, strict=True)]
        report("before", bundles, everything, section)
        if not any(m.any() for m in fitted):
            continue
        section = fit(bundles, fitted, section, parameters)
        report("fitted", bundles, everything, section)
        print({".".join(map(str, path)): round(at(section, path), 3) for path, _, _ in parameters})
        if options.left_out:
            left_out(bundles, section, parameters)
    if options.write:
        text = written(SECTION.read_text(encoding="utf-8"), section, [*VECTOR, *MATRIX])
        SECTION.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
