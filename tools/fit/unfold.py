"""Fit what unfolded convolutions reach of a product's rate, and the size that runs at half of it, without cuDNN.

    python tools/fit/unfold.py

Reads rows without cuDNN of ``cnn-benchmarks.csv`` in ``RIGWISE_MEASURED`` (default ``../shared/data/measured``);
prints ``conv.plain_frac``, ``conv.plain_half_flops`` and the errors in sample and with each card left out. The GTX 1080 and 1080 Ti are held out.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rigwise.estimate.calibration import Constants, load_calibration
from rigwise.estimate.columns import columns
from rigwise.estimate.micro_step import micro_step
from rigwise.estimate.predict import work_of
from rigwise.estimate.setting import setting_of
from rigwise.facts.catalogue import resolve_device
from rigwise.graph.load import load_model
from rigwise.workload.case import Case, Software
from rigwise.workload.resolve import resolve

HERE = Path(__file__).parent
MEASURED = Path(os.environ.get("RIGWISE_MEASURED", HERE.parent.parent.parent / "shared/data/measured"))
DEVICES = {"Titan X (Maxwell)": "gtx-titan-x-maxwell", "Titan X (Pascal)": "titan-x-pascal"}
FRACS = np.arange(0.30, 1.0, 0.02)
HALF_FLOPS = np.arange(0.0, 3.1e8, 2e7)
GRID = [(float(frac), float(half)) for frac in FRACS for half in HALF_FLOPS]


class Row(NamedTuple):
    """One network on one card, and the logarithm of predicted over measured time for each of ``GRID``."""

    device: str
    model: str
    errors: np.ndarray


def read() -> list[Row]:
    """Forward and backward together, without an optimizer step."""
    found = []
    with (MEASURED / "cnn-benchmarks.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["task"] == "train" and "no cuDNN" in row["framework"] and row["device"] in DEVICES:
                name = row["model"].replace("-v1", "").replace("-", "")
                found.append(Row(row["device"], name, _errors(name, row)))
    return found


def _errors(name: str, row: dict[str, str]) -> np.ndarray:
    software = Software(year=2016, convolution="plain")
    case = Case(
        model=name, device=DEVICES[row["device"]], task="train", batch=16, image_size=224, dtype="fp32",
        optimizer="none", software=software,
    )  # fmt: skip
    model, device, known = load_model(name), resolve_device(case.device), load_calibration()
    step = work_of(model, resolve(case, model), device)
    predicted = []
    for frac, half in GRID:
        constants = {**known.conv.values, "plain_frac": frac, "plain_half_flops": half}
        calibration = replace(known, conv=Constants("fit", constants))
        micro, _ = micro_step(step.table, columns([device], calibration), calibration, setting_of(case))
        predicted.append(float(micro.forward_s[0, 0] + micro.backward_s[0, 0]))
    return np.log(np.array(predicted) / (float(row["value"]) / 1e3))


def best(rows: Sequence[Row]) -> int:
    return int(np.argmin(np.mean([np.abs(row.errors) for row in rows], axis=0)))


def summary(errors: Sequence[float]) -> str:
    size = np.sort(np.abs(errors))
    geo, p90, bias = np.expm1([size.mean(), size[int(0.9 * (len(size) - 1))], np.mean(errors)])
    return f"n {len(size):2d}  geo-err {geo:6.1%}  p90 {p90:6.1%}  bias {bias:+6.1%}"


def main() -> None:
    rows = read()
    index = best(rows)
    frac, half = GRID[index]
    print(
        f"plain_frac = {frac:.2f}, plain_half_flops = {half:.1e}    in sample  {summary([row.errors[index] for row in rows])}"
    )
    for device in DEVICES:
        left = best([row for row in rows if row.device != device])
        print(f"{device:18} left out  {summary([row.errors[left] for row in rows if row.device == device])}")


if __name__ == "__main__":
    main()
