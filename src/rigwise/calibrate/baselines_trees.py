"""Boosted trees on figures of card and work: the strongest of the baselines, with conformal intervals.

Source: Ke et al., "LightGBM", 2017, as scikit-learn's histogram gradient boosting implements it; Lei et al.,
"Distribution-Free Predictive Inference for Regression", 2018, section 2.2, for split-conformal intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from rigwise.calibrate.names import software_of
from rigwise.calibrate.rows import FAMILY_FOLDS, LEAST_TRAINING_ROWS, Array, Mask, Rows
from rigwise.errors import MissingExtraError

#: Stands for what nobody knows: below every value.
_UNKNOWN = -99.0
#: Share of the time that an interval is to cover.
COVERAGE_FRAC = 0.8


def trees(rows: Rows, fold: str) -> tuple[Array, Array]:
    """Predicted seconds, and the half-width of an 80 % interval of ln(time); nan where there is no answer.

    The trees see how much the roofs are exceeded, which they extrapolate better than seconds. One part of the
    training rows, whole families (or operators at random), is kept aside: its residuals give the interval.

    Raises:
        MissingExtraError: scikit-learn is not installed.
    """
    found, half = (np.full(len(rows.scores), np.nan) for _ in range(2))
    parts = list(_folds(rows, fold))
    if not parts:
        return found, half
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
    except ImportError:
        raise MissingExtraError("scikit-learn", "judge") from None
    features, roof = _features(rows), _roof_s(rows)
    target = np.log(rows.measured_s / roof)
    for test, train in parts:
        aside = train & _kept_aside(rows)
        model = HistGradientBoostingRegressor(random_state=0, max_iter=200).fit(features[train], target[train])
        found[test] = roof[test] * np.exp(model.predict(features[test]))
        if aside.sum() >= LEAST_TRAINING_ROWS and (train & ~aside).sum() >= LEAST_TRAINING_ROWS:
            part: Any = HistGradientBoostingRegressor(random_state=0, max_iter=200)
            part.fit(features[train & ~aside], target[train & ~aside])
            off = np.sort(np.abs(target[aside] - part.predict(features[aside])))
            half[test] = off[min(len(off) - 1, int(np.ceil(COVERAGE_FRAC * (len(off) + 1))) - 1)]
    return found, half


def _folds(rows: Rows, fold: str) -> Iterator[tuple[Mask, Mask]]:
    """One device, or one group of families on all devices, against the rest: networks and operators apart."""
    for kind in (rows.is_step, ~rows.is_step):
        if fold == "device":
            parts = [kind & (rows.device == name) for name in np.unique(rows.device[kind])]
        else:
            parts = [kind & rows.is_step & (rows.family_fold == f) for f in range(FAMILY_FOLDS)]
        for test in parts:
            train = kind & ~test & rows.trusted
            if test.any() and train.sum() >= 2 * LEAST_TRAINING_ROWS:
                yield test, train


def _kept_aside(rows: Rows) -> Mask:
    """A fifth of the rows: one group of families, and every fifth operator."""
    by_turn = np.arange(len(rows.scores)) % FAMILY_FOLDS == 0
    return np.asarray(np.where(rows.is_step, rows.family_fold % FAMILY_FOLDS == 1, by_turn), dtype=np.bool_)


def _roof_s(rows: Rows) -> Array:
    """Both roofs together, never 0."""
    moved_s = (rows.activation_bytes + rows.parameter_bytes) / rows.memory_bytes_per_s
    return rows.flops / rows.peak_flops_per_s + moved_s + 1e-9


def _features(rows: Rows) -> Array:
    """Logarithms of work and card, and codes of task, mode, layout and software ``[rows, features]``."""
    cards = {one.question.device.id: one.question.device for one in rows.scores}
    of_card = {
        name: [float(d.units or np.nan), d.l2_bytes or np.nan, d.tdp_w or np.nan, d.boost_hz or np.nan]
        for name, d in cards.items()
    }
    card = np.array([of_card[one.question.device.id] for one in rows.scores])
    batch = np.array([float(one.question.case.batch * one.question.case.count) for one in rows.scores])
    work = np.stack([rows.flops + 1.0, rows.activation_bytes + 1.0, rows.parameter_bytes + 1.0, batch], axis=1)
    rates = np.stack([rows.peak_flops_per_s, rows.memory_bytes_per_s], axis=1)
    codes = np.array([_codes(one.question.case.layout, one.question.case.mode) for one in rows.scores])
    _, cell = np.unique(rows.wide_cell, return_inverse=True)
    version = np.array([_version(one.question.measurement.framework) for one in rows.scores])
    found = np.column_stack([np.log(work), np.log(rates), np.log(card), codes, cell, version])
    return np.asarray(np.nan_to_num(found, nan=_UNKNOWN), dtype=np.float64)


def _codes(layout: str, mode: str) -> tuple[float, float]:
    return float(layout == "nhwc"), float(mode == "compiled")


def _version(framework: str) -> float:
    """2.04 for PyTorch 2.4; nan for other software."""
    torch = software_of(framework).torch
    major, _, minor = (torch or "nan.0").partition(".")
    return float(major) + (float(minor) / 100 if major != "nan" else 0.0)
