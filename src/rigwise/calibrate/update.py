"""The Bayesian update: measured rows move the constants of their devices, as far as they can be trusted.

    ln(measured / predicted) = ln(sum of shares x e^scale) + error of the workload + noise

The logarithms of the multipliers have a normal prior around 0: a part that all groups of a device share and one for
each group, correlated between regimes and between devices that are alike. Errors of workloads are a Gaussian process
over what they compute. Outliers are weighted down as a Student-t distribution would. Where the rows of a device stray
further than errors and noise were expected to, both are widened by what brings them together.

Source: Rasmussen & Williams, "Gaussian Processes for Machine Learning", 2006, sections 2.7, 5.4.2 and 9.3; Birge, "The
Calculation of Errors by the Method of Least Squares", Physical Review 40, 1932; Lange, Little & Taylor, "Robust
Statistical Modeling Using the t Distribution", 1989.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.interval import time_spread
from rigwise.estimate.learned import (
    GROUPS,
    REGIMES,
    Evidence,
    Regime,
    asked,
    device_correlation,
    noise_variance,
    points_of,
    workload_covariance,
)
from rigwise.facts.device import Device
from rigwise.workload.case import Case
from rigwise.workload.table import Array

_ITERATIONS = 8
_LARGEST_STEP = 0.7


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """What the rows say about the multipliers.

    Attributes:
        mean: Logarithms ``[devices, regimes, groups]``.
        covariance: ``[devices, regimes, groups, groups]``.
        prior: Their standard deviations before ``[devices, regimes, groups]``.
        residual: ln(measured / predicted) after them ``[rows]``.
        left_out: The same of each row, predicted from all others ``[rows]``.
        weight: 1 for a usual row, less for an outlier ``[rows]``.
        dispersion: How many times further rows stray than was expected, 1 or more ``[devices]``.
    """

    mean: Array
    covariance: Array
    prior: Array
    residual: Array
    left_out: Array
    weight: Array
    dispersion: Array


def update(rows: Sequence[Evidence], devices: Sequence[Device], calibration: Calibration) -> Posterior:
    """Condition the multipliers of all devices on the rows.

    Args:
        rows: Measured; every device of theirs is among ``devices``.
        devices: Whose multipliers are asked for.
        calibration: For the prior.

    Source: see the module; Gauss-Newton steps for the logarithm of the sum.
    """
    constants = calibration.learning
    prior = prior_covariance(devices, calibration)
    shares = np.array([[row.shares.get(g, 0.0) for g in GROUPS] for row in rows])
    measured = np.array([row.log_ratio for row in rows])
    place = _places(rows, devices)
    points = points_of(rows)
    errors, own = workload_covariance(points, points, calibration), noise_variance(points, constants)
    of_device = points.device == np.array([[device.id] for device in devices])
    weight, dispersion, mean = np.ones(len(rows)), np.ones(len(devices)), np.zeros(len(prior))
    for _ in range(_ITERATIONS):
        predicted, slope = _predicted(shares, mean[place])
        whole_slope = np.zeros((len(rows), len(prior)))
        np.put_along_axis(whole_slope, place, slope, axis=1)
        noise = own / weight + np.diag(errors) * (1.0 / weight - 1.0)
        around, strays = errors + np.diag(noise), dispersion @ of_device
        inverse = np.linalg.inv(whole_slope @ prior @ whole_slope.T + around * strays[:, None] * strays)
        weights = inverse @ (measured - predicted + (slope * mean[place]).sum(axis=1))
        mean = mean + np.clip(prior @ whole_slope.T @ weights - mean, -_LARGEST_STEP, _LARGEST_STEP)
        covariance = prior - prior @ whole_slope.T @ inverse @ whole_slope @ prior
        left_out = weights / np.diag(inverse)
        expected = np.sqrt(1.0 / np.diag(inverse) + (own - noise) * strays**2)
        weight = _student_weight(left_out / expected, float(constants.student_t))
        residual = measured - _predicted(shares, mean[place])[0]
        squares = np.outer(residual, residual) + whole_slope @ covariance @ whole_slope.T
        dispersion = np.array([_dispersion(squares, around, at, constants) for at in of_device])
    shape = (len(devices), len(REGIMES), len(GROUPS))
    blocks = covariance.reshape(*shape, *shape)
    return Posterior(
        mean=mean.reshape(shape),
        covariance=np.array([[blocks[d, r, :, d, r] for r in range(shape[1])] for d in range(shape[0])]),
        prior=np.sqrt(np.diag(prior)).reshape(shape),
        residual=residual,
        left_out=left_out,
        weight=weight,
        dispersion=dispersion,
    )


def _dispersion(squares: Array, around: Array, of_device: Any, constants: Constants) -> float:
    """How many times further the rows of a device stray than was expected of errors and noise, never less than 1.

    The ratio of Birge: rows are compared with each other, so that what they have in common is no disagreement. Rows
    that strayed as expected are put before them: a few cannot say much. Outliers count with their weight.

    Args:
        squares: Expected products of what the multipliers leave of two rows ``[rows, rows]``.
        around: Covariance of errors and noise ``[rows, rows]``.
        of_device: Which rows are the device's ``[rows]``.
        constants: The ``[learning]`` table.

    Source: see the module; as the inverse gamma prior of a variance has it.

    >>> one = Constants("here", {"dispersion_rows": 2.0})
    >>> round(_dispersion(np.diag([4.0, 9.0, 11.0]), np.eye(3), np.array([True, True, True]), one) ** 2, 3)
    4.5
    """
    count, of = int(of_device.sum()), np.ix_(of_device, of_device)
    if count < 2:
        return 1.0
    inverse = np.linalg.inv(around[of])
    level = inverse.sum(axis=1)
    chi_square = float(((inverse - np.outer(level, level) / level.sum()) * squares[of]).sum())
    before = float(constants.dispersion_rows)
    return max(1.0, math.sqrt((before + chi_square) / (before + count - 1)))


def _predicted(shares: Array, log_scale: Array) -> tuple[Array, Array]:
    """Logarithm of the scaled over the unscaled prediction, and its derivative by each multiplier ``[rows, groups]``.

    >>> predicted, slope = _predicted(np.array([[0.5, 0.5]]), np.log([[2.0, 4.0]]))
    >>> round(float(np.exp(predicted[0])), 3), slope.round(3).tolist()
    (3.0, [[0.333, 0.667]])
    """
    scaled = shares * np.exp(log_scale)
    total = 1.0 - shares.sum(axis=1) + scaled.sum(axis=1)
    return np.log(total), scaled / total[:, None]


def _student_weight(score: Array, degrees: float) -> Array:
    """Weight of a row that lies this many deviations from where the others put it, 1 within two.

    Source: Lange, Little & Taylor, "Robust Statistical Modeling Using the t Distribution", 1989.
    """
    return np.minimum(1.0, (degrees + 4.0) / (degrees + score**2))


def _places(rows: Sequence[Evidence], devices: Sequence[Device]) -> Any:
    """Where the multipliers of each row stand among all ``[rows, groups]``."""
    of_device = {device.id: index for index, device in enumerate(devices)}
    of_regime = {regime: index for index, regime in enumerate(REGIMES)}
    first = np.array([(of_device[row.device] * len(REGIMES) + of_regime[row.regime]) * len(GROUPS) for row in rows])
    return first[:, None] + np.arange(len(GROUPS))


def prior_covariance(devices: Sequence[Device], calibration: Calibration) -> Array:
    """Covariance of all multipliers before any row, devices by regimes by groups, each as one axis.

    Its size follows the spread that the packaged constants state for each device, without that of a workload.

    Source: the ``[learning]`` table.
    """
    constants = calibration.learning
    places = points_of([asked(device, Case(model="", device=device.id), {}, "") for device in devices])
    alike = device_correlation(places, places, constants)
    shared = float(constants.shared_frac)
    alike = shared * alike + (1.0 - shared) * np.eye(len(devices))
    spread = np.array([_device_spread(device, calibration) for device in devices])
    of_regimes = np.einsum("gh,rs->rgsh", np.ones((len(GROUPS),) * 2), _regime_correlation("common", constants))
    of_regimes = of_regimes * constants.common_frac**2
    for index, group in enumerate(GROUPS):
        own = constants.host_frac if group == "host" else constants.group_frac
        of_regimes[:, index, :, index] += own**2 * _regime_correlation(group, constants)
    size = len(REGIMES) * len(GROUPS)
    return np.kron(alike * spread[:, None] * spread, of_regimes.reshape(size, size))


def _device_spread(device: Device, calibration: Calibration) -> float:
    """What is uncertain about a device: what all its steps share, at least half of what one step has to itself."""
    return max(time_spread(device, calibration), float(calibration.learning.workload_spread) / 2)


def _regime_correlation(group: str, constants: Constants) -> Array:
    """How alike the multiplier of a group is in two regimes ``[regimes, regimes]``."""
    mode, layout, width = constants.group_correlation[group]

    def of(a: Regime, b: Regime) -> float:
        same_layout = a.layout == b.layout
        found = (1.0 if a.mode == b.mode else mode) * (1.0 if same_layout else layout)
        return float(found * (1.0 if a.width == b.width else width))

    return np.array([[of(a, b) for b in REGIMES] for a in REGIMES])
