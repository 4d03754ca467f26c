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
from rigwise.estimate.learned import (
    GROUPS,
    REGIMES,
    Evidence,
    asked,
    noise_variance,
    points_of,
    workload_covariance,
)
from rigwise.facts.device import Device
from rigwise.graph.load import load_model
from rigwise.measurement.measurement import Measurement
from rigwise.workload.case import Case
from rigwise.workload.table import Array

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sureness:
    """How far steps of a device that nobody measured may be off, and what would tell most of them.

    Attributes:
        device: Catalogue id.
        spread: Mean standard deviation of ln(time) of the candidates, as it is now.
        dispersion: How many times further the measured rows stray than was expected of them.
        following: What to measure next; None where every candidate was measured.
    """

    device: str
    spread: float
    dispersion: float
    following: Suggestion | None


def suggest(device: Device, count: int = 5) -> tuple[Suggestion, ...]:
    """Greedily choose workloads that explain most of the variance of all candidates.

    Raises:
        MissingFactError: Not one candidate can be predicted on the device.

    Source: Krause, Singh & Guestrin, "Near-optimal sensor placements in Gaussian processes", 2008, with variance in
    the place of entropy.
    """
    rows, cases = _candidates(device)
    return tuple(_suggestion(cases[index], left) for index, left in design(rows, device, count))


def sureness(device: Device, known: Sequence[Evidence], dispersion: float = 1.0) -> Sureness:
    """How sure predictions for a device are, and the one workload to measure next.

    Args:
        device: Of this device.
        known: Its measured rows.
        dispersion: How many times further they stray than was expected.

    Raises:
        MissingFactError: Not one candidate can be predicted on the device.

    Source: see ``suggest``.
    """
    rows, cases = _candidates(device)
    covariance = _unknown(rows, device, known, dispersion)
    measured = {(row.model, row.task, row.regime, row.batch) for row in known}
    left = [i for i, row in enumerate(rows) if (row.model, row.task, row.regime, row.batch) not in measured]
    choice = _greedy(covariance, 1, left, dispersion)
    following = _suggestion(cases[choice[0][0]], choice[0][1]) if choice else None
    return Sureness(device=device.id, spread=_mean_spread(covariance), dispersion=dispersion, following=following)


def _candidates(device: Device) -> tuple[list[Evidence], list[Case]]:
    """What each candidate computes on a device, and how it is asked."""
    dtype = "amp-fp16" if device.computes("fp16") and device.kind == "gpu" else "fp32"
    rows, cases = [], []
    for model, task, batch in _CANDIDATES:
        case = Case(model=model, device=device.id, task=task, batch=batch, dtype=dtype)
        try:
            asking = Question(measurement=_nothing(model), device=device, case=case)
            with calibrated_with(None):
                linear = linearise(asking, load_model(model))
        except RigwiseError:
            continue
        rows.append(replace(asked(device, linear.case, linear.signature, packaged().torch), shares=linear.shares))
        cases.append(case)
    if not rows:
        raise MissingFactError(f"no workload can be predicted on {device.id}", hint="see rigwise devices --incomplete")
    return rows, cases


def _suggestion(case: Case, left: float) -> Suggestion:
    return Suggestion(model=case.model, task=case.task, dtype=case.dtype or "", batch=case.batch, spread_left=left)


def design(rows: Sequence[Evidence], device: Device, count: int) -> list[tuple[int, float]]:
    """Rows to measure, of one device: index of each, and the mean spread of all once it is measured.

    Source: see ``suggest``.
    """
    return _greedy(_unknown(rows, device, (), 1.0), count, range(len(rows)), 1.0)


def _unknown(rows: Sequence[Evidence], device: Device, known: Sequence[Evidence], dispersion: float) -> Array:
    """Covariance of ln(time) of rows of one device, given that others were measured ``[rows, rows]``.

    Source: Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, equation 2.24.
    """
    calibration, every = packaged(), [*known, *rows]
    slopes = np.zeros((len(every), len(REGIMES), len(GROUPS)))
    for index, row in enumerate(every):
        slopes[index, REGIMES.index(row.regime)] = [row.shares.get(group, 0.0) for group in GROUPS]
    flat, points = slopes.reshape(len(every), -1), points_of(every)
    covariance = flat @ prior_covariance([device], calibration) @ flat.T
    covariance += dispersion**2 * workload_covariance(points, points, calibration)
    noise = dispersion**2 * noise_variance(points, calibration.learning)
    at, of = slice(len(known)), slice(len(known), None)
    gain = np.linalg.solve(covariance[at, at] + np.diag(noise[at]), covariance[at, of])
    return np.asarray(covariance[of, of] - covariance[of, at] @ gain)


def _greedy(covariance: Array, count: int, allowed: Sequence[int], dispersion: float) -> list[tuple[int, float]]:
    """Index of each choice in turn, and the mean spread of all that it leaves."""
    found: list[tuple[int, float]] = []
    noise = (dispersion * packaged().learning.noise) ** 2
    for _ in range(min(count, len(allowed))):
        spread = np.diag(covariance) + noise
        gain = ((covariance**2).sum(axis=0) / spread)[list(allowed)]
        best = int(allowed[int(np.argmax(gain))])
        covariance = covariance - np.outer(covariance[:, best], covariance[best]) / spread[best]
        found.append((best, _mean_spread(covariance)))
    return found


def _mean_spread(covariance: Array) -> float:
    return float(np.sqrt(np.maximum(np.diag(covariance), 0.0)).mean())


def _nothing(model: str) -> Measurement:
    """A row that measured nothing."""
    words: dict[str, Any] = dict.fromkeys(
        ("source", "device", "device_variant", "task", "precision", "layout", "shape"), ""
    )
    rest: dict[str, Any] = dict.fromkeys(("framework", "notes", "where"), "")
    return Measurement(model=model, count=1, batch=1, metric="s_per_step", value=1.0, **words, **rest)
