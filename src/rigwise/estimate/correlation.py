"""How errors of predicted times go together: what two estimates of one workload are wrong about together.

The variance of the error of ln(time) has three parts. What the interval adds for a device that nothing was fitted on
is that device's own; what it adds for an architecture that nothing was fitted on is shared by its devices; what is
left comes from the workload's operators, and a fitted share of it is common to all devices of a kind. Two estimates
have in common what the surer of them has of a part: what makes the other less sure is its own.

Source: analysis of variance with random effects; min(s, t) is the covariance of Brownian motion, so sums of it
within groups are covariances too. The share is fitted by ``tools/fit/correlation.py``; what is added for devices and
architectures are the rungs of ``[interval]``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.interval import time_spread
from rigwise.facts.device import Device
from rigwise.workload.table import Array


def covariance(devices: Sequence[Device], spread: Array, calibration: Calibration) -> Array:
    """Of the errors of ln(time) of one workload ``[estimates, estimates]``; singular where estimates are alike.

    Two estimates on one device that are equally sure are wrong alike: their settings are taken to err together.

    Args:
        devices: Of each estimate.
        spread: Standard deviation of ln(time) of each ``[estimates]``.
        calibration: Its ``[correlation]`` and ``[interval]`` tables.
    """
    variance = np.square(np.asarray(spread, dtype=np.float64))
    own, architecture = np.array([_parts(device, calibration) for device in devices]).reshape(-1, 2).T
    shrink = np.minimum(1.0, variance / np.maximum(own + architecture, 1e-300))
    own, architecture = own * shrink, architecture * shrink
    workload = np.maximum(variance - own - architecture, 0.0)
    everywhere = float(calibration.correlation.workload_frac) * workload
    parts = (
        (everywhere, [device.kind for device in devices]),
        (architecture, [device.architecture or device.id for device in devices]),
        (own + workload - everywhere, [device.id for device in devices]),
    )
    found = np.zeros((len(variance), len(variance)))
    for part, names in parts:
        group = np.unique(names, return_inverse=True)[1]
        found += np.where(group[:, None] == group[None, :], np.minimum(part[:, None], part[None, :]), 0.0)
    return found


def _parts(device: Device, calibration: Calibration) -> tuple[float, float]:
    """Parts of the variance of ln(time) that the interval adds to every workload: the device's, its architecture's.

    What it adds for CPUs is left to the workloads, as theirs is the law that is wrong.
    """
    interval = calibration.interval
    known, relative, stranger = (
        float(interval.values[rung]) ** 2 for rung in ("same-device", "same-architecture", "other-architecture")
    )
    is_cpu = device.kind == "cpu"
    is_new = not is_cpu and device.architecture not in calibration.architectures
    architecture = stranger - relative if is_new else 0.0
    base = time_spread(device, calibration) ** 2 - (float(interval.cpu) ** 2 if is_cpu else 0.0)
    return max(base - known - architecture, 0.0), architecture
