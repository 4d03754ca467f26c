"""Fit how far predictions of whole steps are off, and check that intervals cover.

    python tools/fit/interval.py FOLDER --graphs DIR [--every 4] [--only REGEX]

Residuals of the steps in FOLDER, as ``tools/fit/steps.py`` finds them, are explained by what all steps on a device
share, the share of each kind of operators, compilation and the age of the software. The constants printed minimise
the mean interval score of the 80 % interval (Gneiting & Raftery, 2007). Coverage is printed for every group of thirty
rows or more: with the constants in force, with those printed, and with each fifth of the families, and each
device, left out.
"""

from __future__ import annotations

import argparse
import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from steps import Row, rows_of

from rigwise.calibrate.rows import family_of
from rigwise.calibrate.shelf import Shelf
from rigwise.estimate.calibration import Calibration, packaged
from rigwise.estimate.interval import TERMS, Z90, step_terms
from rigwise.estimate.learned import GROUPS

Array = NDArray[np.float64]
#: Rows below which a share says nothing.
LEAST_ROWS = 30
_OF_PART = {"gemm": "gemm", "rnn": "gemm", "conv": "conv", "attention": "attention", "rest": "host"}
NAMES = ("same-device", "cpu", *TERMS)


def features(row: Row, calibration: Calibration) -> Array:
    """What multiplies each constant: 1, whether it is a CPU, then the terms of the step."""
    shares = dict.fromkeys(GROUPS, 0.0)
    for part, seconds in row.parts_s.items():
        shares[_OF_PART.get(part.split()[0].partition("_backward")[0], "streaming")] += seconds / row.predicted_s
    is_cpu = row.question.device.kind == "cpu"
    terms = step_terms(np.array([list(shares.values())]), np.array([row.throttled]), row.question.case, calibration)[0]
    return np.array([1.0, float(is_cpu), *terms])


def in_force(calibration: Calibration) -> Array:
    """The constants of the calibration, in the order of ``NAMES``."""
    interval = calibration.interval
    return np.array([interval.values["same-device"], interval.cpu, *(interval.of_term[name] for name in TERMS)])


def score(constants: Array, known: Array, off: Array) -> float:
    """Mean interval score of ln(time): width, and ten times what lies outside."""
    half = Z90 * np.sqrt(np.square(known * constants).sum(axis=1))
    return float(np.mean(2.0 * half + 10.0 * np.maximum(np.abs(off) - half, 0.0)))


def fit(known: Array, off: Array, start: Array) -> Array:
    found = minimize(
        lambda logs: score(np.exp(logs), known, off), np.log(start), method="Nelder-Mead", options={"maxfev": 4000}
    )
    return np.asarray(np.exp(found.x))


def half_width(known: Array, constants: Array) -> Array:
    """Half the width of the 80 % interval of ln(time) ``[rows]``."""
    return np.asarray(Z90 * np.sqrt(np.square(known * constants).sum(axis=1)))


def left_out(known: Array, off: Array, start: Array, fold_of: list[str]) -> Array:
    """Half widths of each row with constants fitted on the rows of other folds ``[rows]``."""
    half, folds = np.zeros(len(off)), np.array(fold_of)
    for fold in sorted(set(fold_of)):
        others = folds != fold
        half[~others] = half_width(known[~others], fit(known[others], off[others], start))
    return half


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--only", default="", help="regular expression on source, device, task, mode and layout")
    options = parser.parse_args()
    calibration = packaged()
    rows = list(rows_of(options.folder, Shelf(options.graphs), options.every, options.only, calibration))
    off = np.array([np.log(row.predicted_s / row.measured_s) for row in rows])
    known = np.array([features(row, calibration) for row in rows])
    now = in_force(calibration)
    constants = fit(known, off, now)
    print("  ".join(f"{name} {value:.3f}" for name, value in zip(NAMES, constants, strict=True)))
    families = [
        str(int(hashlib.md5(family_of(r.question.measurement.model).encode()).hexdigest(), 16) % 5) for r in rows
    ]
    halves = {
        "in force": half_width(known, now),
        "fitted": half_width(known, constants),
        "families out": left_out(known, off, now, families),
        "devices out": left_out(known, off, now, [r.question.device.id for r in rows]),
    }
    report(rows, off, halves)


def report(rows: list[Row], off: Array, halves: dict[str, Array]) -> None:
    """Coverage and median p90/p10 of every group of thirty rows or more, for each way of fitting."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[f"{row.question.measurement.source} {row.group}"].append(index)
        groups[f"{row.question.measurement.source} {row.question.device.id}"].append(index)
        groups["all"].append(index)
    print(f"{'covers, p90/p10':<64}{'n':>6}" + "".join(f"{name:>18}" for name in halves))
    for name, members in sorted(groups.items()):
        if len(members) >= LEAST_ROWS:
            cells = (
                f"{np.mean(np.abs(off[members]) <= half[members]):12.0%} {np.exp(2.0 * np.median(half[members])):.2f}"
                for half in halves.values()
            )
            print(f"{name:<64}{len(members):>6}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
