"""Fit the gemm section of the calibration, and the energy of operations, on measured matrix products.

    python tools/fit/gemm.py               constants and errors, in sample
    python tools/fit/gemm.py --left-out    also with each architecture left out in turn

Reads ``neusight_ops``, ``vidur``, ``deepbench`` and ``aiconfigurator_gemm`` from ``RIGWISE_MEASURED``
(default ``../shared/data/measured``); where the package aiconfigurator-core and pyarrow are importable, its
whole tables instead of that extract. Rows that no machine could have produced are counted and left out.

Source: the tables named; a time is the median over serving frameworks where several measured the shape.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import least_squares

from rigwise.calibrate.score import CALL_S, OPERAND_SETS
from rigwise.estimate.calibration import Calibration, Constants, load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.op_time import op_times
from rigwise.estimate.setting import Setting
from rigwise.facts.catalogue import device as device_of
from rigwise.facts.device import Device
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.workload.table import OpTable, tabulate

MEASURED = Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured"))
#: Devices of the tables of serving frameworks; RTX PRO 6000 and Arc Pro B60 are held out.
SERVING = {
    "a100_sxm": "a100-sxm4-80gb", "h100_sxm": "h100-sxm5-80gb", "h200_sxm": "h200-sxm-141gb", "l40s": "l40s",
    "b200_sxm": "b200", "b300_sxm": "b300", "gb200": "gb200", "gb300": "gb300",
}  # fmt: skip
DEVICES = {
    ("A100", "SXM4"): "a100-sxm4-80gb", ("H100", "SXM5 80GB"): "h100-sxm5-80gb", ("L40S", ""): "l40s",
    ("A100", "PCIe 40GB"): "a100-pcie-40gb", ("A100", "SXM 80GB"): "a100-sxm4-80gb", ("A40", "48GB"): "a40",
    ("V100", "PCIe 32GB"): "v100-pcie-32gb", ("V100", "SXM2 (DGX-1)"): "v100-sxm2-16gb", ("T4", ""): "t4",
    ("P4", ""): "p4", ("P100", "PCIe 16GB"): "p100-pcie-16gb", ("P100", "PCIe?"): "p100-pcie-16gb",
}  # fmt: skip
FORMATS = {
    "bfloat16": "bf16", "fp8": "fp8", "fp32 (TF32 off)": "fp32", "fp32": "fp32", "fp16": "fp16",
    "fp16 in, fp32 acc": "fp16",
}  # fmt: skip
WIDTHS = {"fp32": "float32", "fp8": "float8"}
#: Rows shorter than this tell more of the harness or of a clock's resolution than of the product.
LEAST_S = {"aiconfigurator_gemm": 0.0, "neusight_ops": 60e-6, "vidur": 20e-6, "deepbench": 30e-6}
GRID = {
    "m": (1, 8, 32, 128, 512, 2048, 8192, 32768),
    "n": (1024, 2048, 4096, 6144, 8192, 12288, 16384),
    "k": (1024, 2048, 4096, 5120, 8192, 16384),
}
ROWS_OF_GROUP = 600
NEVER_MORE_STEPS = 25


class Row(NamedTuple):
    """One measured product."""

    source: str
    device: str
    number_format: str
    batch: int
    m: int
    n: int
    k: int
    has_weight: bool
    time_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows of one source, device and format, as a table of operators."""

    source: str
    device: Device
    number_format: str
    table: OpTable
    time_s: np.ndarray
    call_s: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.source:<20}{self.device.id:<18}{self.number_format}"


def csv_rows(source: str) -> Iterator[Row]:
    """Rows of one table of the measured folder that time one product."""
    with (MEASURED / f"{source}.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found = re.match(r"op:(gemm|bmm|linear)", row["model"])
            number_format = FORMATS.get(row["precision"])
            device = DEVICES.get((row["device"], row["device_variant"]))
            if not found or number_format is None or device is None:
                continue
            if source == "neusight_ops" and "split=test" not in row["notes"]:
                continue  # the training split has odd sizes that no model uses
            sizes = {key: int(n) for key, n in re.findall(r"\b([BMNK])(\d+)", row["input_shape_or_seq"])}
            batch, m, n, k = sizes.get("B", 1), sizes["M"], sizes["N"], sizes["K"]
            if source == "neusight_ops":
                n, k = k, n  # its N is the inner dimension, see calibrate/operators.py
            if found[1] == "linear":
                batch, m = 1, m * batch
            time_s = float(row["value"]) / 1e3
            yield Row(source, device, number_format, batch, m, n, k, found[1] != "bmm", time_s)


def serving_rows() -> Iterator[Row]:
    """The whole tables of aiconfigurator-core, if it is installed: the grid of the extract and as many others."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    if spec is None or not spec.submodule_search_locations:
        yield from csv_rows("aiconfigurator_gemm")
        return
    from pyarrow import parquet

    folder = Path(next(iter(spec.submodule_search_locations))) / "systems" / "data"
    for name, device in SERVING.items():
        for path in sorted((folder / name / "gemm").glob("*/*/gemm_perf.parquet")):
            if path.parent.name == "0.5.6.post2":
                continue  # an older run of a framework that has a newer one
            table = parquet.read_table(path, columns=["gemm_dtype", "m", "n", "k", "latency"]).to_pydict()
            for kind, m, n, k, latency in zip(*table.values(), strict=True):
                if kind in FORMATS and min(n, k) >= 64:
                    yield Row("aiconfigurator_gemm", device, FORMATS[kind], 1, m, n, k, True, latency / 1e3)


def medians(rows: Iterator[Row]) -> list[Row]:
    """One row for each shape."""
    times: dict[Row, list[float]] = defaultdict(list)
    for row in rows:
        times[row._replace(time_s=0.0)].append(row.time_s)
    return [row._replace(time_s=float(np.median(found))) for row, found in times.items()]


def operator(row: Row) -> Op:
    """The product as an operator of a graph."""
    width = WIDTHS.get(row.number_format, "bfloat16")
    lead = (row.batch,) if row.batch > 1 else ()
    role = Role.PARAMETER if row.has_weight else Role.ACTIVATION
    return Op(
        name="aten.bmm",
        kind=Kind.GEMM,
        phase=Phase.FORWARD,
        inputs=(Tensor((*lead, row.m, row.k), width), Tensor((*lead, row.k, row.n), width, role)),
        outputs=(Tensor((*lead, row.m, row.n), "bfloat16" if width == "float8" else width),),
        attrs={"format": row.number_format},
    )


def groups_of(rows: Sequence[Row], only_grid: bool = False) -> list[Group]:
    """Possible rows by source, device and format; of large groups a random part, or the grid of the extract."""
    by_group: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    impossible: Counter[str] = Counter()
    for row in rows:
        if row.time_s < LEAST_S[row.source]:
            continue
        if is_possible(row):
            by_group[row[:3]].append(row)
        else:
            impossible[f"{row.source} {row.device} {row.number_format}"] += 1
    print("quicker than physics allows, left out:", dict(impossible))
    draw = np.random.default_rng(0)
    groups = []
    for (source, device, number_format), members in sorted(by_group.items()):
        chosen = members
        if only_grid and source == "aiconfigurator_gemm":
            chosen = [r for r in members if r.m in GRID["m"] and r.n in GRID["n"] and r.k in GRID["k"]]
        elif len(members) > ROWS_OF_GROUP:
            chosen = [members[i] for i in draw.choice(len(members), ROWS_OF_GROUP, replace=False)]
        groups.append(
            Group(
                source=source,
                device=device_of(device),
                number_format=number_format,
                table=tabulate([operator(r) for r in chosen], {"b": 1}),
                time_s=np.array([r.time_s for r in chosen]),
                call_s=np.array([CALL_S.get(source, {}).get("linear" if r.has_weight else "bmm", 0.0) for r in chosen]),
            )
        )
    return groups


def is_possible(row: Row) -> bool:
    """Whether peak and bandwidth allow the time, with three percent for boards above their rated clock."""
    device = device_of(row.device)
    width = {"fp32": 4.0, "fp8": 1.0}.get(row.number_format, 2.0)
    moved = row.batch * (width * (row.m * row.k + row.k * row.n) + max(width, 2.0) * row.m * row.n)
    flops = 2.0 * row.batch * row.m * row.n * row.k
    cached = device.l2_bytes or 128e6
    least_s = max(flops / device.peak(row.number_format), (moved - 5 * cached) / (device.memory_bytes_per_s or np.inf))
    return row.time_s > 0.97 * least_s


def with_constants(base: Calibration, values: Mapping[str, float]) -> Calibration:
    """The calibration with some constants replaced; a key is ``section.name`` or ``section.name.entry``."""
    sections: dict[str, Any] = {}
    for key, value in values.items():
        section, name, *entry = key.split(".")
        if section not in sections:
            sections[section] = dict(getattr(base, section).values)
        if entry:
            sections[section][name] = {**sections[section][name], entry[0]: value}
        else:
            sections[section][name] = value
    changed: dict[str, Any] = {s: Constants(getattr(base, s).where, values) for s, values in sections.items()}
    return replace(base, **changed)


def predicted_s(group: Group, calibration: Calibration) -> np.ndarray:
    """Times that the package would give, with what the table's way of timing adds."""
    year = 2017 if group.source == "deepbench" else None
    setting = Setting(operand_sets=OPERAND_SETS.get(group.source, 1), year=year)
    times = op_times(group.table, columns([group.device], calibration), calibration, setting)
    return np.asarray(times.total_s[0, :, 0] + group.call_s)


#: Constants that are fitted, with the value to start from.
SHARED = {
    "gemm.ramp_steps": 60.0, "gemm.cache_bytes_per_cycle": 5.5,
    "gemm.lanes.frac": 0.95, "gemm.lanes.ramp_steps": 6.0, "gemm.lanes.tile_edge": 20.0, "gemm.lanes.batched_tile_edge": 1000.0,
    "gemm.lanes.wave_frac": 0.35, "gemm.lanes.split_cycles": 8000.0,
    "gemm.older_frac": 0.8, "gemm.walk_bytes": 512.0, "gemm.walk_most": 4.0, "gemm.walk_exponent": 0.7,
    "power.vector_j_per_flop": 8.9e-12, "power.settle_s": 3e-3,
    "power.matrix_j_per_flop_of_architecture.Ada Lovelace": 1.1e-12,
    "power.matrix_j_per_flop_of_architecture.Blackwell": 0.65e-12,
    "power.matrix_j_per_flop_of_architecture.Blackwell Ultra": 0.65e-12,
}  # fmt: skip
OF_ENGINE = {
    "vector": {"memory_frac": 0.70},
    "synchronous": {
        "wave_frac": 0.4, "tile_edge": 15.0, "split_cycles": 2300.0, "memory_frac": 0.78,
        "first_cycles": 5500.0, "memory_cycles": 3200.0,
    },
    "asynchronous": {
        "wave_frac": 0.08, "feed_bytes_per_cycle": 117.0, "split_cycles": 3840.0, "memory_frac": 0.84,
        "first_cycles": 4580.0, "memory_cycles": 1290.0,
    },
}  # fmt: skip
ARCHITECTURES = {
    "Volta": 0.9,
    "Ampere": 0.83,
    "Ada Lovelace": 0.75,
    "Hopper": 0.81,
    "Blackwell": 0.73,
    "Blackwell Ultra": 0.8,
}
#: Fitted after the others, on 8-bit rows alone: frameworks scale and round the inputs, each in its own way.
EIGHT_BIT = {
    "gemm.matrix_frac_of_format.fp8": 0.9, "gemm.rounding_cycles_of_format.fp8": 10000.0,
    "gemm.rounding_element_cycles_of_format.fp8": 0.3, "power.matrix_energy_of_format.fp8": 0.5,
}  # fmt: skip
#: Its short rows run above the clock that it sustains in whole steps: scored, not fitted.
NOT_FITTED = "p4"


def start_values() -> dict[str, float]:
    """Every fitted constant by its key, where the search begins."""
    by_engine = {f"gemm.{k}.{engine}": v for engine, entries in OF_ENGINE.items() for k, v in entries.items()}
    by_architecture = {f"gemm.matrix_frac_of_architecture.{name}": v for name, v in ARCHITECTURES.items()}
    return SHARED | by_engine | by_architecture


def residuals(groups: Sequence[Group], values: Mapping[str, float], base: Calibration) -> list[np.ndarray]:
    """Logarithm of predicted over measured time, group by group."""
    calibration = with_constants(base, values)
    return [np.log(predicted_s(g, calibration) / g.time_s) for g in groups]


def fit(groups: Sequence[Group], base: Calibration, start: Mapping[str, float]) -> dict[str, float]:
    """Robust least squares over logarithms; every group weighs the same, constants stay near their start."""
    names, first = list(start), np.log(list(start.values()))

    def values_at(point: np.ndarray) -> dict[str, float]:
        values = dict(zip(names, np.exp(point), strict=True))
        return {k: min(v, 1.0) if "_frac" in k else float(v) for k, v in values.items()}

    def cost(point: np.ndarray) -> np.ndarray:
        found = residuals(groups, values_at(point), base)
        weighted = [20.0 * r / np.sqrt(len(r)) for r in found]
        return np.concatenate([*weighted, 0.3 * (point - first)])

    solved = least_squares(cost, first, loss="soft_l1", f_scale=0.1, diff_step=1e-3, max_nfev=NEVER_MORE_STEPS)
    return values_at(solved.x)


def line(name: str, errors: np.ndarray) -> str:
    """Errors of a group in the words of the metric."""
    size = np.abs(errors)
    ape = np.mean(np.abs(np.exp(errors) - 1))
    geo, p90, bias = (np.exp(x) - 1 for x in (size.mean(), np.quantile(size, 0.9), errors.mean()))
    return f"{name:<46}{len(errors):>6}{geo:>8.1%}{ape:>8.1%}{p90:>8.1%}{bias:>+8.1%}"


def report(groups: Sequence[Group], errors: Sequence[np.ndarray]) -> None:
    """Rows, geometric error, MAPE, 90th percentile and bias of every group."""
    print(f"{'group':<46}{'rows':>6}{'geo':>8}{'MAPE':>8}{'p90':>8}{'bias':>8}")
    for group, error in zip(groups, errors, strict=True):
        print(line(group.name, error))


def left_out(groups: Sequence[Group], base: Calibration) -> None:
    """Each architecture, and both power-limited cards, predicted from the others.

    An architecture that is left out reaches the median share of its peak of the others, at the energy of its process.
    """
    families = sorted({g.device.architecture.split()[0] for g in groups})
    folds = {name: {g.name for g in groups if g.device.architecture.split()[0] == name} for name in families}
    folds["P4 and T4"] = {g.name for g in groups if g.device.id in ("p4", "t4")}
    for fold, names in folds.items():
        kept, others = [g for g in groups if g.name not in names], [g for g in groups if g.name in names]
        values = fit(kept, base, start_values())
        frac, energy = "gemm.matrix_frac_of_architecture.", "power.matrix_j_per_flop_of_architecture."
        usual = float(np.median([v for k, v in values.items() if k.startswith(frac) and fold not in k]))
        values |= {k: usual for k in values if k.startswith(frac + fold)}
        values = {k: v for k, v in values.items() if not k.startswith(energy + fold)}
        rest = {k: v for k, v in base.power.matrix_j_per_flop_of_architecture.items() if not k.startswith(fold)}
        print(f"without {fold}:")
        power = Constants(base.power.where, {**base.power.values, "matrix_j_per_flop_of_architecture": rest})
        report(others, residuals(others, values, replace(base, power=power)))


def eight_bit_left_out(groups: Sequence[Group], base: Calibration) -> None:
    """Each architecture's 8-bit products, predicted with the constants that those of the others give."""
    for fold in sorted({g.device.architecture.split()[0] for g in groups}):
        others = [g for g in groups if g.device.architecture.split()[0] == fold]
        values = fit([g for g in groups if g not in others], base, EIGHT_BIT)
        print(f"8-bit products without {fold}:")
        report(others, residuals(others, values, base))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--left-out", action="store_true", help="also with each architecture left out in turn")
    options = parser.parse_args()
    base = load_calibration()
    rows = medians(serving_rows())
    for source in ("neusight_ops", "vidur", "deepbench"):
        rows += medians(csv_rows(source))
    groups = groups_of(rows)
    wide = [g for g in groups if g.number_format != "fp8"]
    values = fit([g for g in wide if g.device.id != NOT_FITTED], base, start_values())
    values |= fit([g for g in groups if g not in wide], with_constants(base, values), EIGHT_BIT)
    for key, value in values.items():
        print(f"{key} = {value:.4g}")
    for title, scored in (("whole tables", groups), ("grid of the extract", groups_of(rows, only_grid=True))):
        print(title)
        report(scored, residuals(scored, values, base))
    if options.left_out:
        left_out(wide, base)
        eight_bit_left_out([g for g in groups if g not in wide], with_constants(base, values))


if __name__ == "__main__":
    main()
