"""How far a prediction may be off: log-normal, wider the less was measured on a relative.

The spread of the residuals of ln(time) is one constant for each rung of the provenance ladder, widened where a
figure of the device is only assumed, by what each kind of operators takes of the step, by compilation, and by the
age of the software: libraries change how they convolve from year to year.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.learned import GROUPS, group_shares
from rigwise.estimate.micro_step import MicroStep
from rigwise.estimate.setting import setting_of
from rigwise.facts.device import Device
from rigwise.provenance import Basis, Provenance, worst
from rigwise.workload.case import Case
from rigwise.workload.table import Array

#: Quantile of the standard normal at 90 %.
Z90 = NormalDist().inv_cdf(0.9)
#: Constants that what a step does multiplies, see ``step_terms``.
TERMS = ("conv_per_year", "compiled", "gemm", "conv_nchw", "conv_nhwc", "attention", "streaming", "host", "throttled")


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
    """Standard deviation of ln(time) that all steps on a device share.

    Source: the ``[interval]`` table of the calibration.
    """
    base = float(calibration.interval.values[str(provenance_of(device, calibration))])
    base = math.hypot(base, calibration.interval.cpu) if device.kind == "cpu" else base
    return math.hypot(base, calibration.interval.assumed_fact) if _is_assumed(device) else base


def step_spread(
    usual: Any, micro: MicroStep, shares_s: Mapping[str, Array], case: Case, calibration: Calibration
) -> Array:
    """Standard deviation of ln(time) of whole steps ``[machines]``.

    Operators of one kind err together, so what a kind takes of the step counts in full; kinds err apart, so their
    parts add up in squares.

    Args:
        usual: What all steps on the device share, see ``time_spread`` ``[machines]``.
        micro: One micro-batch on each machine ``[machines]``.
        shares_s: Of a step by what binds ``[machines]``.
        case: Resolved.
        calibration: Its ``[interval]`` table.

    Source: variance of a sum; constants fitted on residuals (see the calibration file).
    """
    constants = np.array([calibration.interval.of_term[name] for name in TERMS])
    throttled = micro.throttled_s / np.maximum(micro.forward_s + micro.backward_s, 1e-300)
    terms = step_terms(group_shares(micro.group_s, shares_s), throttled, case, calibration)
    return np.asarray(np.sqrt(np.square(usual) + np.square(terms * constants).sum(axis=1)))


def step_terms(shares: Array, throttled: Array, case: Case, calibration: Calibration) -> Array:
    """What multiplies each constant of ``TERMS`` ``[machines, terms]``.

    Convolutions are known less well channels last, and under software of other years; a clock that the power limit
    holds down less well than the rated one.

    Args:
        shares: Of the step by group of operators ``[machines, groups]``.
        throttled: Share of the kernels that the power limit adds ``[machines]``.
        case: Resolved.
        calibration: Says of which year its constants are.
    """
    of_group = dict(zip(GROUPS, shares.T, strict=True))
    conv = of_group.pop("conv")
    years = min(software_age_years(case, calibration), calibration.interval.most_years)
    found = {
        **of_group,
        "throttled": throttled,
        "conv_per_year": years * conv,
        "compiled": np.full_like(conv, case.mode == "compiled"),
        "conv_nchw": conv * (setting_of(case).layout == "nchw"),
        "conv_nhwc": conv * (setting_of(case).layout == "nhwc"),
    }
    return np.stack([found[name] for name in TERMS], axis=1)


def software_age_years(case: Case, calibration: Calibration) -> float:
    """Years between the software of a case and that of the calibration, whichever is newer."""
    year = setting_of(case).year
    return 0.0 if year is None else abs(year - float(calibration.launch.reference_year))


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
