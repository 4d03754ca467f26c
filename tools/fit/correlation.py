"""Fit how errors of predicted times go together: what one workload's errors share on different devices.

    python tools/fit/correlation.py FOLDER --graphs DIR [--every 4] [--write]

The error of ln(time) of each step in FOLDER, over the spread that the interval gives it, is averaged over batches and
software for each workload (network, task, format, layout, mode) and device. For every two devices of one table with
workloads in common, the mean product of those figures over their mean square is the share of the variance that both
have. The constant is its mean over pairs of devices, each pair counting alike however many workloads it shares.

Printed beside it: the same for matrix products alone, where each kernel's own error hides what is shared; how many of
the ratios of two devices' times lie within an 80 % interval, by the share of the other pairs and if nothing were
shared; and what networks of one family share on one device.

Source: the tables in FOLDER; analysis of variance with random effects.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from gemm import LEAST_S, NOT_FITTED, Group, csv_rows, device_of, is_possible, medians, operator, predicted_s, tabulate
from interval import features, half_width, in_force
from numpy.typing import NDArray
from steps import Row, rows_of

from rigwise.calibrate.rows import family_of
from rigwise.calibrate.shelf import Shelf
from rigwise.estimate.calibration import Calibration, packaged
from rigwise.estimate.interval import Z90
from rigwise.facts.catalogue import resolve_device

SECTION = Path(__file__).parent.parent / "calibration/correlation.toml"
#: Workloads in common below which two devices say nothing of each other.
LEAST_SHARED = 5
#: An error beyond this many spreads counts as this: a row of another network, or a broken run.
MOST = 4.0
#: What the harness of NeuSight's operators adds, see ``gemm.py``.
HARNESS_S = 45e-6
#: Tables of matrix products on several devices.
PRODUCTS = ("neusight_ops", "vidur", "aiconfigurator_gemm")
Array = NDArray[np.float64]
Workload = tuple[str, ...]
Errors = dict[tuple[str, str], dict[Workload, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two devices of one table: mean product and mean square of their errors over what they share, differences."""

    source: str
    devices: tuple[str, str]
    alike: bool
    shared: int
    product: float
    squares: float
    differences: Array


def workload_of(row: Row) -> Workload:
    """What is the same when only the device changes."""
    case = row.question.case
    size = str(case.image_size or case.seq or "")
    width = "16" if case.dtype.endswith("16") else case.dtype
    return (case.model, case.task, row.question.part, width, case.layout, case.mode, size)


def errors_of(rows: Sequence[Row], calibration: Calibration) -> Errors:
    """Mean error in spreads of each workload on each device of each table."""
    known = np.array([features(row, calibration) for row in rows])
    spread = half_width(known, in_force(calibration)) / Z90
    found: dict[tuple[str, str], dict[Workload, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, width in zip(rows, spread, strict=True):
        error = float(np.clip(np.log(row.measured_s / row.predicted_s) / width, -MOST, MOST))
        found[row.question.measurement.source, row.question.device.id][workload_of(row)].append(error)
    return {key: {w: float(np.mean(e)) for w, e in of.items()} for key, of in found.items()}


def product_errors(calibration: Calibration) -> Errors:
    """The same of matrix products: a workload is one weight, averaged over what it is multiplied with."""
    found: Errors = {}
    spread = float(np.hypot(calibration.interval.values["same-device"], calibration.interval.of_term["gemm"]))
    for source in PRODUCTS:
        rows = [row for row in medians(csv_rows(source)) if row.time_s >= LEAST_S[source] and is_possible(row)]
        for device, number_format in sorted({(r.device, r.number_format) for r in rows if r.device != NOT_FITTED}):
            chosen = [row for row in rows if (row.device, row.number_format) == (device, number_format)]
            group = Group(
                source=source,
                device=device_of(device),
                number_format=number_format,
                table=tabulate([operator(row) for row in chosen], {"b": 1}),
                time_s=np.array([row.time_s for row in chosen]),
            )
            errors: dict[Workload, list[float]] = defaultdict(list)
            for row, predicted in zip(chosen, predicted_s(group, calibration, HARNESS_S), strict=True):
                error = float(np.clip(np.log(row.time_s / predicted) / spread, -MOST, MOST))
                errors[number_format, str(row.batch), str(row.n), str(row.k)].append(error)
            known = found.setdefault((source, device), {})
            known |= {workload: float(np.mean(of)) for workload, of in errors.items()}
    return found


def pairs_of(errors: Errors) -> list[Pair]:
    """Every two devices of one table that share workloads; pairs of a GPU and a CPU aside."""
    pairs = []
    for (source, one), (other_source, other) in combinations(errors, 2):
        shared = sorted(errors[source, one].keys() & errors[other_source, other].keys())
        first, second = resolve_device(one), resolve_device(other)
        if source != other_source or len(shared) < LEAST_SHARED or first.kind != second.kind:
            continue
        a, b = (np.array([errors[source, device][w] for w in shared]) for device in (one, other))
        pairs.append(
            Pair(
                source=source,
                devices=(one, other),
                alike=first.architecture == second.architecture,
                shared=len(shared),
                product=float(np.mean(a * b)),
                squares=float(np.mean((a * a + b * b) / 2)),
                differences=a - b,
            )
        )
    return pairs


def share(pairs: Sequence[Pair]) -> float:
    """Share of the variance that two devices have in common, the mean over pairs."""
    return float(np.clip(np.mean([pair.product / pair.squares for pair in pairs]), 0.0, 1.0))


def family_share(errors: Errors) -> float:
    """Share of the variance that workloads of one family of networks have in common on one device, over tables."""
    products, squares = [], []
    for of_device in errors.values():
        families: dict[Workload, list[float]] = defaultdict(list)
        for workload, error in of_device.items():
            families[family_of(workload[0]), *workload[1:]].append(error)
        for members in (np.array(found) for found in families.values() if len(found) > 1):
            n = len(members)
            products.append((members.sum() ** 2 - np.square(members).sum()) / (n * (n - 1)))
            squares.append(np.square(members).mean())
    return float(np.sum(products) / np.sum(squares)) if squares else 0.0


def report(steps: Sequence[Pair], products: Sequence[Pair]) -> None:
    print(f"{'devices':<56}{'alike':>6}{'shared':>8}{'corr':>8}")
    for pair in (*steps, *products):
        names = f"{pair.source} {' '.join(pair.devices)}"
        print(f"{names:<56}{pair.alike!s:>6}{pair.shared:>8}{pair.product / pair.squares:8.2f}")
    print(f"steps: {share(steps):.2f} of the variance, n {len(steps)}")
    for alike in (False, True):
        kind = [pair for pair in products if pair.alike is alike]
        if kind:
            print(f"products, {'one architecture' if alike else 'others'}: {share(kind):.2f}, n {len(kind)}")
    if len(steps) < 2:
        return
    print("80 % intervals of the ratio of two times that cover it: if nothing were shared, by the share of the others")
    for pair in steps:
        others = share([other for other in steps if other is not pair])
        names = f"{pair.source} {' '.join(pair.devices)}"
        print(f"  {names:<54}{covered(pair, 0.0):8.0%}{covered(pair, others):8.0%}")


def covered(pair: Pair, common: float) -> float:
    """Part of the ratios of two times that lie within their 80 % interval, for a share of the variance in common."""
    return float(np.mean(np.abs(pair.differences) <= Z90 * np.sqrt(2 * (1 - common))))


def write(pairs: Sequence[Pair]) -> None:
    """The section of the calibration."""
    names = ", ".join(f"{p.source} {' and '.join(p.devices)} ({p.shared}): {p.product / p.squares:.2f}" for p in pairs)
    SECTION.write_text(
        "[correlation]                   # of errors of ln(time) on different devices\n"
        f'source = "tools/fit/correlation.py: mean over pairs of devices of what the errors of whole steps share;'
        f' {names}. Of what the interval adds for devices and architectures that were not fitted, see [interval]"\n'
        f"workload_frac = {share(pairs):.2f}            # of the variance of what a workload's operators add\n",
        encoding="utf-8",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--only", default="", help="regular expression on source, device, task, mode and layout")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    calibration = packaged()
    rows = list(rows_of(options.folder, Shelf(options.graphs), options.every, options.only, calibration))
    errors = errors_of(rows, calibration)
    steps = pairs_of(errors)
    report(steps, pairs_of(product_errors(calibration)))
    print(f"networks of one family on one device: {family_share(errors):.2f}")
    if options.write:
        write(steps)


if __name__ == "__main__":
    main()
