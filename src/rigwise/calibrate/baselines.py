"""Four simple predictors that an accurate one must beat, each fitted without the rows it is judged on.

Boosted trees, the fifth, stand in ``baselines_trees.py``.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations

import numpy as np

from rigwise.calibrate.names import release_of
from rigwise.calibrate.rows import Array, Rows, folds
from rigwise.calibrate.score import Score

FLOPS, ROOFLINE, LINEAR, SIBLING, TREES = "flops", "roofline", "linear", "sibling", "trees"

#: What each baseline is, in the order in which reports list them.
BASELINES = {
    FLOPS: "FLOPs over 0.45 of the peak",
    ROOFLINE: "roofline with one efficiency, fitted",
    LINEAR: "a FLOPs / peak + b activation bytes / bandwidth + c parameter bytes / bandwidth, fitted",
    SIBLING: "the same workload measured on the nearest other device, times sqrt(peak x bandwidth)",
    TREES: "gradient-boosted trees on figures of card and work, fitted",
}

#: Share of the peak that the first baseline assumes.
PEAK_FRAC = 0.45


def flops_over_peak(rows: Rows) -> Array:
    """Seconds if ``PEAK_FRAC`` of the data sheet's peak were reached; nan where there is no arithmetic.

    It is told what the table's way of timing adds.

    Source: the rule of thumb of capacity planning.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(rows.flops > 0, rows.flops / (PEAK_FRAC * rows.peak_flops_per_s) + rows.call_s, np.nan)


def roofline(rows: Rows, fold: str) -> Array:
    """Roofline over one efficiency, the geometric mean of the training rows'.

    It is told what the table's way of timing adds.

    Source: Williams, Waterman & Patterson, "Roofline", CACM 52(4), 2009.
    """
    roof = np.maximum(*_terms(rows)[:2])
    worked_s = np.maximum(rows.measured_s - rows.call_s, np.minimum(rows.measured_s, roof))
    found = np.full(len(rows.scores), np.nan)
    for test, train in folds(rows, fold):
        found[test] = roof[test] * np.exp(np.mean(np.log(worked_s[train] / roof[train]))) + rows.call_s[test]
    return found


def _terms(rows: Rows) -> tuple[Array, Array, Array]:
    """Seconds at full rate of arithmetic, of all bytes, and of parameters alone."""
    bytes_s = (rows.activation_bytes + rows.parameter_bytes) / rows.memory_bytes_per_s
    return rows.flops / rows.peak_flops_per_s, bytes_s, rows.parameter_bytes / rows.memory_bytes_per_s


def linear(rows: Rows, fold: str) -> Array:
    """Three non-negative coefficients by least relative squares, then scaled to no bias on the training rows."""
    compute_s, _, parameter_s = _terms(rows)
    terms = np.stack([compute_s, rows.activation_bytes / rows.memory_bytes_per_s, parameter_s], axis=1)
    found = np.full(len(rows.scores), np.nan)
    for test, train in folds(rows, fold):
        weights = non_negative_fit(terms[train] / rows.measured_s[train, None])
        fitted = terms[train] @ weights
        if (fitted > 0).all():
            unbiased = np.exp(np.mean(np.log(rows.measured_s[train] / fitted)))
            answer = terms[test] @ weights * unbiased
            found[test] = np.where(answer > 0, answer, np.nan)
    return found


def non_negative_fit(relative: Array) -> Array:
    """Coefficients of at least 0 that bring ``relative @ coefficients`` nearest to 1.

    With three columns the best of all seven supports is found by trying each.

    >>> non_negative_fit(np.array([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]])).round(9).tolist()
    [2.0, 0.0, 0.0]
    """
    columns = relative.shape[1]
    best, best_error = np.zeros(columns), np.inf
    target = np.ones(len(relative))
    for size in range(1, columns + 1):
        for support in map(list, combinations(range(columns), size)):
            some, *_ = np.linalg.lstsq(relative[:, support], target, rcond=None)
            error = float(((relative[:, support] @ some - 1.0) ** 2).sum())
            if (some >= 0).all() and error < best_error - 1e-12:
                best, best_error = np.zeros(columns), error
                best[support] = some
    return best


def sibling(rows: Rows) -> Array:
    """The nearest measured relative, by time per sample, scaled by the root of peak times bandwidth.

    Nearest in peak and bandwidth among the devices that ran the same workload, under the same software
    where that was measured, at the nearest batch. It needs a measurement of the very model.
    """
    members: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, one in enumerate(rows.scores):
        if rows.trusted[row]:
            members[workload_key(one)].append(row)
    card = np.log(np.stack([rows.peak_flops_per_s, rows.memory_bytes_per_s], axis=1))
    batch = np.array([float(one.question.case.batch) for one in rows.scores])
    release = np.array([release_of(one.question.measurement.framework) for one in rows.scores])
    found = np.full(len(rows.scores), np.nan)
    for row, one in enumerate(rows.scores):
        others = np.array(members.get(workload_key(one), ()), dtype=np.int64)
        others = others[rows.device[others] != rows.device[row]] if others.size else others
        if not others.size:
            continue
        away = np.abs(card[others] - card[row]).sum(axis=1)
        order = np.lexsort((np.abs(np.log(batch[others] / batch[row])), away, release[others] != release[row]))
        near = others[order[0]]
        scale = np.exp(0.5 * (card[near] - card[row]).sum())
        found[row] = rows.measured_s[near] / batch[near] * batch[row] * scale
    return found


def workload_key(score: Score) -> tuple[str, ...]:
    """Rows of equal key ran the same work, but for batch, device and software."""
    m, question = score.question.measurement, score.question
    return (m.model, m.task, m.precision, m.layout, question.case.mode, m.shape, str(m.count), question.part)


def simple_baselines(rows: Rows, fold: str) -> dict[str, Array]:
    """Every baseline of this module in one kind of fold; nan where it has no answer.

    A sibling needs the very model, so it has an answer only where devices are left out.
    """
    answers = {FLOPS: flops_over_peak(rows), ROOFLINE: roofline(rows, fold), LINEAR: linear(rows, fold)}
    return answers | {SIBLING: sibling(rows)} if fold == "device" else answers
