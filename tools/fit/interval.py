"""Fit how far predictions of whole steps are off, and check that intervals cover.

    python tools/fit/interval.py FOLDER --graphs DIR [--every 4]

Residuals of the steps in FOLDER, as ``tools/fit/steps.py`` finds them, are explained by what all steps on a device
share, the share of each kind of operators and the age of the software. The constants printed minimise the mean
interval score of the 80 % interval (Gneiting & Raftery, 2007), in sample and with each fifth of the families left
out; coverage and width are printed for every group of thirty rows or more.
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
from rigwise.estimate.calibration import packaged
from rigwise.estimate.interval import Z90, software_age_years
from rigwise.estimate.learned import GROUPS

Array = NDArray[np.float64]
_OF_PART = {"gemm": "gemm", "rnn": "gemm", "conv": "conv", "attention": "attention", "rest": "host"}
NAMES = ("same-device", "cpu", "per_year", "compiled", *GROUPS)


def features(row: Row, most_years: float) -> Array:
    """What multiplies each constant: 1, whether it is a CPU, years, whether it is compiled, shares."""
    shares = dict.fromkeys(GROUPS, 0.0)
    for part, seconds in row.parts_s.items():
        shares[_OF_PART.get(part.split()[0].partition("_backward")[0], "streaming")] += seconds / row.predicted_s
    age_years = min(software_age_years(row.question.case, packaged()), most_years)
    is_cpu = row.question.device.kind == "cpu"
    is_compiled = row.question.case.mode == "compiled" and not is_cpu
    return np.array([1.0, float(is_cpu), age_years, float(is_compiled), *shares.values()])


def score(constants: Array, known: Array, off: Array) -> float:
    """Mean interval score of ln(time): width, and ten times what lies outside."""
    half = Z90 * np.sqrt(np.square(known * constants).sum(axis=1))
    return float(np.mean(2.0 * half + 10.0 * np.maximum(np.abs(off) - half, 0.0)))


def fit(known: Array, off: Array) -> Array:
    start = np.array([0.07, 0.15, 0.03, 0.06, 0.1, 0.15, 0.2, 0.12, 0.25])
    found = minimize(lambda logs: score(np.exp(logs), known, off), np.log(start), method="Nelder-Mead")
    return np.asarray(np.exp(found.x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--graphs", type=Path)
    parser.add_argument("--every", type=int, default=4)
    options = parser.parse_args()
    calibration = packaged()
    rows = list(rows_of(options.folder, Shelf(options.graphs), options.every, "", calibration))
    off = np.array([np.log(row.predicted_s / row.measured_s) for row in rows])
    known = np.array([features(row, calibration.interval.most_years) for row in rows])
    constants = fit(known, off)
    print("  ".join(f"{name} {value:.3f}" for name, value in zip(NAMES, constants, strict=True)))
    half = Z90 * np.sqrt(np.square(known * constants).sum(axis=1))
    folds = [int(hashlib.md5(family_of(r.question.measurement.model).encode()).hexdigest(), 16) % 5 for r in rows]
    apart = np.zeros(len(rows))
    for fold in set(folds):
        others = np.array([f != fold for f in folds])
        apart[~others] = Z90 * np.sqrt(np.square(known[~others] * fit(known[others], off[others])).sum(axis=1))
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[f"{row.question.measurement.source} {row.group}"].append(index)
        groups["all"].append(index)
    for name, members in sorted(groups.items()):
        if len(members) >= 30:
            inside, kept = (np.mean(np.abs(off[members]) <= h[members]) for h in (half, apart))
            width = np.exp(2.0 * np.median(half[members]))
            print(f"{name:<64}{len(members):>6}  covers {inside:4.0%}, families out {kept:4.0%}  p90/p10 {width:.2f}")


if __name__ == "__main__":
    main()
