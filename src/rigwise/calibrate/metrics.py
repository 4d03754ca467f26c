"""How far predictions are from measurements: the figures of ``rigwise judge``.

With e = ln(predicted / measured), over n rows:

    MAPE            mean of |predicted / measured - 1|; flatters predictions that are too low
    geo-err         exp(mean |e|) - 1; a factor of 2 counts the same either way
    p90             exp(90 % point of |e|) - 1
    bias            exp(mean e) - 1; above 0: predicted too slow
    coverage        share of rows inside the 80 % interval
    width           median of p90 / p10
    interval score  of ln(time) at 80 %: width plus 10 times the distance of what lies outside

Source: Gneiting & Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", 2007,
equation 43, for the interval score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rigwise.calibrate.rows import Array, Mask

#: Fewer rows are no basis for a claim.
LEAST_ROWS = 30
_MISS_WEIGHT = 2.0 / 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Errors of one predictor over some rows; see the module for each word.

    Attributes:
        n: Rows that it answered.
        mape_frac, geo_err_frac, p90_frac, bias_frac: Its errors.
    """

    n: int
    mape_frac: float
    geo_err_frac: float
    p90_frac: float
    bias_frac: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """How well 80 % intervals hold over some rows.

    Attributes:
        n: Rows with an interval.
        coverage_frac: Share of them inside.
        width: Median of p90 / p10.
        interval_score: Mean; lower is better.
    """

    n: int
    coverage_frac: float
    width: float
    interval_score: float


def errors_of(predicted_s: Array, measured_s: Array, rows: Mask) -> Errors | None:
    """Errors over the rows that have a prediction; None where none has.

    >>> e = errors_of(np.array([2.0, 0.5]), np.array([1.0, 1.0]), np.array([True, True]))
    >>> (e.n, e.mape_frac, round(e.geo_err_frac, 9), round(e.bias_frac, 9)) if e else None
    (2, 0.75, 1.0, 0.0)
    """
    known = rows & np.isfinite(predicted_s)
    if not known.any():
        return None
    ratio = predicted_s[known] / measured_s[known]
    logs = np.log(ratio)
    return Errors(
        n=int(known.sum()),
        mape_frac=float(np.abs(ratio - 1.0).mean()),
        geo_err_frac=float(np.exp(np.abs(logs).mean()) - 1.0),
        p90_frac=float(np.exp(np.quantile(np.abs(logs), 0.9)) - 1.0),
        bias_frac=float(np.exp(logs.mean()) - 1.0),
    )


def intervals_of(low_s: Array, high_s: Array, measured_s: Array, rows: Mask) -> Intervals | None:
    """How the intervals hold over the rows that have one; None where none has."""
    known = rows & np.isfinite(low_s) & np.isfinite(high_s)
    if not known.any():
        return None
    low, high, true = np.log(low_s[known]), np.log(high_s[known]), np.log(measured_s[known])
    missed = np.maximum(low - true, 0.0) + np.maximum(true - high, 0.0)
    return Intervals(
        n=int(known.sum()),
        coverage_frac=float(((low <= true) & (true <= high)).mean()),
        width=float(np.median(np.exp(high - low))),
        interval_score=float((high - low + _MISS_WEIGHT * missed).mean()),
    )


def coverage_at(low_s: Array, middle_s: Array, high_s: Array, measured_s: Array, levels: Array) -> Array:
    """Share of rows inside the central interval of each nominal level ``[levels]``.

    A prediction's p10, p50 and p90 are taken as quantiles of two halves of a log-normal, so that intervals of
    other levels follow from them.
    """
    from statistics import NormalDist

    z90 = NormalDist().inv_cdf(0.9)
    true = np.log(measured_s / middle_s)
    half = np.where(true < 0, np.log(middle_s / low_s), np.log(high_s / middle_s)) / z90
    with np.errstate(divide="ignore", invalid="ignore"):
        away = np.where(true == 0, 0.0, np.abs(true) / half)
    reach = np.array([NormalDist().inv_cdf(0.5 + level / 2) for level in levels])
    return np.asarray((away[None, :] <= reach[:, None]).mean(axis=1))
