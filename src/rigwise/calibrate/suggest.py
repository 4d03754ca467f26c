"""Which workloads to measure: those that leave the least uncertain about all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rigwise.calibrate.linearise import linearise
from rigwise.calibrate.question import Question
from rigwise.calibrate.update import prior_covariance
from rigwise.errors import MissingFactError, RigwiseError
from rigwise.estimate.calibration import calibrated_with, packaged
from rigwise.estimate.learned import GROUPS, REGIMES, Evidence, asked, kernel, points_of, workload_spread
from rigwise.facts.device import Device
from rigwise.graph.load import load_model
from rigwise.measurement.measurement import Measurement
from rigwise.workload.case import Case

#: Candidates and the workloads to be predicted: (model, task, batch), small and alike in effort.
_CANDIDATES = (
    ("resnet18", "infer", 64), ("resnet50", "infer", 64), ("resnet50", "train", 32), ("vgg16", "infer", 32),
    ("mobilenet-v2", "infer", 64), ("efficientnet-b0", "infer", 64), ("convnext-tiny", "infer", 32),
    ("densenet121", "infer", 32), ("vit-b-16", "infer", 32), ("vit-b-16", "train", 16), ("bert-base", "infer", 16),
    ("bert-base", "train", 8), ("gpt2", "infer", 4), ("gpt2", "train", 2), ("alexnet", "infer", 128),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Suggestion:
    """A workload worth measuring.

    Attributes:
        model, task, dtype, batch: What to run, eager.
        spread_left: Mean standard deviation of ln(time) of all candidates, once this and those before are measured.
    """

    model: str
    task: str
    dtype: str
    batch: int
    spread_left: float


def suggest(device: Device, count: int = 5) -> tuple[Suggestion, ...]:
    """Greedily choose workloads that explain most of the variance of all candidates.

    Raises:
        MissingFactError: Not one candidate can be predicted on the device.

    Source: Krause, Singh & Guestrin, "Near-optimal sensor placements in Gaussian processes", 2008, with variance in
    the place of entropy.
    """
    calibration = packaged()
    dtype = "amp-fp16" if device.computes("fp16") and device.kind == "gpu" else "fp32"
    rows, cases, shares = [], [], []
    for model, task, batch in _CANDIDATES:
        case = Case(model=model, device=device.id, task=task, batch=batch, dtype=dtype)
        try:
            asking = Question(measurement=_nothing(model), device=device, case=case)
            with calibrated_with(None):
                linear = linearise(asking, load_model(model))
        except RigwiseError:
            continue
        rows.append(asked(device, linear.case, linear.signature, calibration.torch))
        cases.append(case)
        shares.append(linear.shares)
    if not rows:
        raise MissingFactError(f"no workload can be predicted on {device.id}", hint="see rigwise devices --incomplete")
    measured = [replace(row, shares=of) for row, of in zip(rows, shares, strict=True)]
    return tuple(
        Suggestion(
            model=cases[index].model, task=cases[index].task, dtype=dtype, batch=cases[index].batch, spread_left=left
        )
        for index, left in design(measured, device, count)
    )


def design(rows: Sequence[Evidence], device: Device, count: int) -> list[tuple[int, float]]:
    """Rows to measure, of one device and regime: index of each, and the mean spread of all once it is measured.

    Source: see ``suggest``.
    """
    calibration = packaged()
    first = REGIMES.index(rows[0].regime) * len(GROUPS)
    prior = prior_covariance([device], calibration)[first : first + len(GROUPS), first : first + len(GROUPS)]
    points, slopes = points_of(rows), np.array([[row.shares.get(group, 0.0) for group in GROUPS] for row in rows])
    errors = workload_spread(calibration) ** 2 * kernel(points, points, calibration.learning)
    covariance = slopes @ prior @ slopes.T + errors
    found: list[tuple[int, float]] = []
    for _ in range(min(count, len(rows))):
        spread = np.diag(covariance) + calibration.learning.noise**2
        best = int(np.argmax((covariance**2).sum(axis=0) / spread))
        covariance = covariance - np.outer(covariance[:, best], covariance[best]) / spread[best]
        found.append((best, float(np.sqrt(np.maximum(np.diag(covariance), 0.0)).mean())))
    return found


def _nothing(model: str) -> Measurement:
    """A row that measured nothing."""
    words: dict[str, Any] = dict.fromkeys(
        ("source", "device", "device_variant", "task", "precision", "layout", "shape"), ""
    )
    rest: dict[str, Any] = dict.fromkeys(("framework", "notes", "where"), "")
    return Measurement(model=model, count=1, batch=1, metric="s_per_step", value=1.0, **words, **rest)
