"""How far a prediction may be off: log-normal, wider the less was measured on a relative.

The spread of the residuals of ln(time) is one constant for each rung of the provenance ladder,
widened where a figure of the device is only assumed.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.facts.device import Device
from rigwise.provenance import Basis, Provenance, worst

#: Quantile of the standard normal at 90 %.
Z90 = NormalDist().inv_cdf(0.9)


def provenance_of(device: Device, calibration: Calibration) -> Provenance:
    """How close the device is to what the constants were fitted on; its worst figure counts."""
    if device.id in calibration.devices:
        near = Provenance.SAME_DEVICE
    elif device.architecture in calibration.architectures:
        near = Provenance.SAME_ARCHITECTURE
    else:
        near = Provenance.OTHER_ARCHITECTURE if device.kind == "gpu" else Provenance.SPEC_ONLY
    return worst([near, Provenance.SPEC_ONLY]) if _is_assumed(device) else near


def time_spread(device: Device, calibration: Calibration) -> float:
    """Standard deviation of ln(time).

    Source: the ``[interval]`` table of the calibration.
    """
    base = float(calibration.interval.values[str(provenance_of(device, calibration))])
    return math.hypot(base, calibration.interval.assumed_fact) if _is_assumed(device) else base


def _is_assumed(device: Device) -> bool:
    """Whether a figure that decides times is only remembered; the size of the memory decides none."""
    return any(basis is Basis.ASSUMED for key, basis in device.basis.items() if key != "memory_bytes")


def quantiles(median: Any, spread: Any, least: Any = 0.0) -> dict[str, Any]:
    """10, 50 and 90 % points of a log-normal, none below ``least``.

    Source: quantiles of ln x = N(ln median, spread).

    >>> {k: round(float(v), 3) for k, v in quantiles(1.0, 0.1).items()}
    {'p10': 0.88, 'p50': 1.0, 'p90': 1.137}
    """
    return {
        "p10": np.maximum(median * np.exp(-Z90 * spread), least),
        "p50": np.maximum(median, least),
        "p90": np.maximum(median * np.exp(Z90 * spread), least),
    }


def fit_probability(peak_bytes: Any, capacity_bytes: Any, spread: Any) -> Any:
    """Chance that the true peak is within the capacity, for a standard deviation of ln(peak).

    Source: the same log-normal.

    >>> float(fit_probability(8e9, 8e9, 0.1))
    0.5
    """
    z = np.log(capacity_bytes / np.maximum(peak_bytes, 1.0)) / spread
    return 0.5 * (1.0 + _erf(z / math.sqrt(2.0)))


def _erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[float])(x)
