"""Fit the cpu section of the calibration on measured steps of whole networks.

    python tools/fit/cpu.py --graphs FOLDER            constants and errors, in sample
    python tools/fit/cpu.py --graphs FOLDER --left-out also with model families, and each machine, left out
    python tools/fit/cpu.py --graphs FOLDER --write    and write tools/calibration/cpu.toml

FOLDER holds captured graphs, ``NAME.rwg`` for each timm name (``rigwise capture timm:NAME -o NAME.rwg``); names
without one are counted. Read are ``timm.csv`` of ``RIGWISE_MEASURED`` (default ``../shared/data/measured``), rows of
the Core i9-10940X with PyTorch 2.4, and ``tools/fit/data/cpu_epyc_9005_one_core.csv``: seconds of one processor.
A network whose captured parameters differ from the row's by over 1 % is another network, and is left out.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares

from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import Calibration, Constants, load_calibration
from rigwise.estimate.columns import DeviceColumns, columns
from rigwise.estimate.cpu import cpu_times
from rigwise.estimate.overhead import host_frac
from rigwise.estimate.predict import lowering_of
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import cpu
from rigwise.facts.cpu import Cpu, as_device
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model, zoo_names
from rigwise.workload.case import Case
from rigwise.workload.lower import lower_model
from rigwise.workload.resolve import resolve
from rigwise.workload.table import Array, OpTable, tabulate

HERE = Path(__file__).parent
MEASURED = Path(os.environ.get("RIGWISE_MEASURED", HERE.parent.parent.parent / "shared/data/measured"))
SECTION = HERE.parent / "calibration" / "cpu.toml"
#: One core of the machine behind our own rows; a neighbour's threads share its clock and caches.
ONE_CORE = replace(
    cpu("epyc-9755"), cores=1, base_hz=3.85e9, max_hz=3.85e9, memory_bytes_per_s=12 * 6000e6 * 8, l3_bytes=32 * 2**20
)
#: Our own rows are few, and the only ones of other core counts and batches.
WEIGHT = {"timm": 1.0, "rigwise": 3.0}
FOLDS = 5
#: How strongly constants are held near their start: two core counts tell little of how starts grow with the cores.
HELD = 0.5
#: Constants, where the search starts, and what each says.
CONSTANTS = {
    "conv_frac": (0.517, "of the peak at the clock that the cores hold"),
    "grouped_frac": (0.34, ""),
    "depthwise_frac": (0.0762, ""),
    "gemm_frac": (0.918, ""),
    "memory_frac": (0.388, "of the memory rate, weights and activations"),
    "core_bytes_per_cycle": (2.08, "that one core asks for"),
    "gemm_passes": (1.54, "activations over the bus: packed and read again"),
    "other_passes": (0.818, "some never leave the caches"),
    "relayout_bytes_per_cycle": (2.94, "weights of wide convolutions, by one core"),
    "mapped_bytes_per_cycle": (1.6, "of arrays over 32 MiB, into new pages"),
    "conv_cycles": (3760.0, "to start an operator"),
    "grouped_cycles": (7700.0, ""),
    "gemm_cycles": (1520.0, ""),
    "other_cycles": (1240.0, ""),
    "fork_factor": (11.6, "further times that, for each doubling of the cores"),
}
#: Set by hand, by single operators on one core of an EPYC 9005: products of 1 to 16 rows, 3.5 to 5.9; AdamW and SGD with
#: momentum, 4.9 to 20; fp16, linear layers 6.2 to 6.9, other products 0.7, convolutions 1.0 to 1.1. For old software, see
#: docs/founding_notes.md. All-reduces of 26 MB between two ranks took 10 to 15 ms of the processor in each, of 4 kB 0.12 to 0.21.
PRIORS = {
    "core_fetched_bytes_per_cycle": (4.5, "the same of weights of products, and of keys and values"),
    "emulated_row_flop_per_cycle": (6.2, "of a core without fp16, products with rows of a weight and attention"),
    "emulated_flop_per_cycle": (1.05, "the same of convolutions and other products"),
    "core_updated_bytes_per_cycle": (9.0, "the same of optimizer steps, all lines of the rule counted"),
    "unfolded_frac": (0.19, "before oneDNN: each image unfolded, then a product"),
    "plain_passes_factor": (20.0, "further passes of its other operators, which one core ran"),
    "rank_bytes_per_cycle": (0.72, "of a message to another rank of the same CPU, by one core of each"),
    "rank_hop_cycles": (2e5, "of one such message beside its bytes"),
}


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Measured steps of one machine and mode; their operators stand in one table."""

    name: str
    models: Sequence[str]
    table: OpTable
    of_step: Array
    measured_s: Array
    host_s: Array
    device: DeviceColumns
    mode: str
    weight: float

    def predicted_s(self, calibration: Calibration) -> Array:
        times = cpu_times(self.table, self.device, calibration, Setting(mode=self.mode))[2][0, :, 0]
        return np.bincount(self.of_step, times * self.table.repeat, len(self.measured_s)) + self.host_s

    def errors(self, calibration: Calibration) -> Array:
        return np.log(self.predicted_s(calibration) / self.measured_s)


def family(model: str) -> str:
    return re.split(r"[_\d]", model)[0]


def rows() -> Iterator[dict[str, str]]:
    """Rows of both tables."""
    with (MEASURED / "timm.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["device"] == "Core i9-10940X" and "PyTorch 2.4" in row["framework"]:
                yield row
    with (HERE / "data" / "cpu_epyc_9005_one_core.csv").open(newline="", encoding="utf-8") as stream:
        yield from csv.DictReader(stream)


def seconds(row: Mapping[str, str]) -> float:
    value = float(row["value"])
    return value / 1e3 if row["metric"] == "ms_per_step" else int(row["batch"]) / value


def table_of(model: Model, row: Mapping[str, str], mode: str) -> OpTable:
    """Operators of one step."""
    image = re.fullmatch(r"3x(\d+)x\d+", row["input_shape_or_seq"])
    case = Case(
        model=row["model"],
        device="",
        task=row["task"],
        optimizer="none",
        batch=int(row["batch"]),
        image_size=int(image.group(1)) if image else None,
        seq=None if image else int(row["input_shape_or_seq"]),
        dtype=row["precision"].replace("_", "-"),
        mode=mode,
    )
    resolved = resolve(case, model)
    work = lower_model(model, lowering_of(resolved.case, "bf16"))
    return tabulate(work.step_ops, resolved.sizes)


def is_same(model: Model, row: Mapping[str, str]) -> bool:
    found = re.search(r"params_M=([\d.]+)", row["notes"])
    return (
        found is None or abs(model.parameter_count / 1e6 - float(found.group(1))) <= 0.01 * float(found.group(1)) + 0.01
    )


def read(graphs: Path) -> list[Steps]:
    """Steps by source and mode; prints what could not be used."""
    groups: dict[tuple[str, str], list[tuple[dict[str, str], OpTable]]] = {}
    skipped, models = 0, {}
    for row in rows():
        name = row["model"]
        path = graphs / f"{name}.rwg"
        if name not in models:
            models[name] = (
                load_model(str(path) if path.exists() else name) if path.exists() or name in zoo_names() else None
            )
        model, mode = models[name], "compiled" if "compile" in row["framework"] else "eager"
        try:
            if model is None or not is_same(model, row):
                skipped += 1
                continue
            key = (row["source"], f"{row['task']} {row['precision']} {mode}")
            groups.setdefault(key, []).append((row, table_of(model, row, mode)))
        except RigwiseError:
            skipped += 1
    print(f"{skipped} rows without a captured graph of the same network")
    return [_steps(source, what, members) for (source, what), members in groups.items()]


def _steps(source: str, what: str, members: Sequence[tuple[dict[str, str], OpTable]]) -> Steps:
    tables = [table for _, table in members]
    arrays = {
        f.name: np.concatenate([getattr(table, f.name) for table in tables]) for f in fields(OpTable) if f.name != "ops"
    }
    host: Cpu = cpu("core-i9-10940x") if source == "timm" else ONE_CORE
    mode = what.rpartition(" ")[2]
    launch = load_calibration().launch
    op_s = (
        (launch.host_compiled_op_s if mode == "compiled" else launch.host_op_s)
        * launch.cpu_dispatch_frac
        * host_frac(host, launch)
    )
    return Steps(
        name=f"{source} {what}",
        models=[row["model"] for row, _ in members],
        table=OpTable(ops=(), **arrays),
        of_step=np.repeat(np.arange(len(tables)), [len(table.kind) for table in tables]),
        measured_s=np.array([seconds(row) for row, _ in members]),
        host_s=np.array([op_s * (table.repeat * (table.launches > 0)).sum() for table in tables]),
        device=columns([as_device(host)], load_calibration()),
        mode=mode,
        weight=WEIGHT[source],
    )


def calibrated(values: Array) -> Calibration:
    known = load_calibration()
    constants = {**known.cpu.values, **{name: float(v) for name, v in zip(CONSTANTS, np.exp(values), strict=True)}}
    fractions = {name: min(float(value), 1.0) for name, value in constants.items() if name.endswith("_frac")}
    return replace(known, cpu=Constants("fit", constants | fractions))


def fit(steps: Sequence[Steps], used: Sequence[Array]) -> Calibration:
    """Least squares of ln(predicted/measured) over the used steps, each constant held near its start."""
    start = np.log([value for value, _ in CONSTANTS.values()])

    def residuals(values: Array) -> Array:
        calibration = calibrated(values)
        errors = [one.errors(calibration)[keep] * one.weight for one, keep in zip(steps, used, strict=True)]
        return np.concatenate([*errors, HELD * (values - start)])

    found = least_squares(residuals, start, loss="soft_l1", f_scale=0.3, max_nfev=40)
    return calibrated(found.x)


def summary(errors: Array) -> str:
    size = np.sort(np.abs(errors))
    geo, p90, bias = np.expm1([size.mean(), size[int(0.9 * (len(size) - 1))], errors.mean()])
    return f"n {len(size):4d}  geo-err {geo:6.1%}  p90 {p90:6.1%}  bias {bias:+6.1%}"


def left_out(steps: Sequence[Steps]) -> None:
    """Errors on model families, and on each machine, that took no part in the fit."""
    folds = [
        np.array([int(hashlib.sha256(family(m).encode()).hexdigest(), 16) % FOLDS for m in s.models]) for s in steps
    ]
    errors = [np.zeros(len(s.measured_s)) for s in steps]
    for fold in range(FOLDS):
        calibration = fit(steps, [of != fold for of in folds])
        for one, of, into in zip(steps, folds, errors, strict=True):
            into[of == fold] = one.errors(calibration)[of == fold]
    for one, into in zip(steps, errors, strict=True):
        print(f"families left out  {one.name:28} {summary(into)}")
    for source in WEIGHT:
        calibration = fit(steps, [np.full(len(s.measured_s), not s.name.startswith(source)) for s in steps])
        for one in steps:
            if one.name.startswith(source):
                print(f"machine left out   {one.name:28} {summary(one.errors(calibration))}")


def text(calibration: Calibration) -> str:
    lines = [
        "[cpu]                           # written by tools/fit/cpu.py",
        'source = "least squares on timm step times of a Core i9-10940X, torch 2.4, compiled, batch 1 (Apache-2.0), and on our '
        'own of one core of an EPYC 9005, torch 2.13, batch 1 and 8, held near what earlier rows gave; core_fetched_bytes_per_cycle, core_updated_bytes_per_cycle, emulated_row_flop_per_cycle, emulated_flop_per_cycle: set by hand, by single operators on that core; rank_bytes_per_cycle, rank_hop_cycles: set by hand, by processor seconds of all-reduces of gloo between two ranks on two such cores; unfolded_frac, plain_passes_factor: set by hand, so that networks of 2016 take 49 to 74 times what they take on a Titan X (Pascal)"',
    ]
    for name, (_, note) in {**CONSTANTS, **PRIORS}.items():
        value = PRIORS[name][0] if name in PRIORS else float(calibration.cpu.values[name])
        line = f"{name} = {float(f'{value:.3g}')!r}"
        lines.append(f"{line:32}# {note}" if note else line)
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, required=True)
    parser.add_argument("--left-out", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    steps = read(options.graphs)
    calibration = fit(steps, [np.ones(len(s.measured_s), dtype=bool) for s in steps])
    print(text(calibration))
    for one in steps:
        print(f"in sample          {one.name:28} {summary(one.errors(calibration))}")
        worst: dict[str, list[float]] = {}
        for model, error in zip(one.models, one.errors(calibration), strict=True):
            worst.setdefault(family(model), []).append(float(error))
        ranked = sorted(worst.items(), key=lambda item: -abs(np.mean(item[1])))[:8]
        print("    " + ", ".join(f"{name} x{math.exp(np.mean(e)):.2f} ({len(e)})" for name, e in ranked))
    if options.left_out:
        left_out(steps)
    if options.write:
        SECTION.write_text(text(calibration), encoding="utf-8")
        print(f"wrote {SECTION.name}; run tools/write_calibration.py")


if __name__ == "__main__":
    main()
