"""``rigwise judge``: predictions and baselines beside measured tables, group by group."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rigwise.calibrate.baselines import BASELINES, TREES, simple_baselines
from rigwise.calibrate.baselines_trees import trees
from rigwise.calibrate.metrics import LEAST_ROWS, Errors, Intervals, errors_of, intervals_of
from rigwise.calibrate.question import Question, question
from rigwise.calibrate.regret import Regret, choices, launch_prices, regret_of
from rigwise.calibrate.rows import FOLDS, Array, Mask, Rows, kind_of, label_of, rows_of, short_label_of
from rigwise.calibrate.score import Progress, Score, score
from rigwise.calibrate.shelf import Shelf
from rigwise.errors import InvalidInputError, MissingExtraError, RigwiseError
from rigwise.measurement.measurement import Measurement, Rejected

GROUP_KEYS = ("source", "device", "what", "task", "precision", "layout", "mode", "software")


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Rows that share their labels.

    Attributes:
        labels: By what they were grouped.
        rigwise: Errors of the prediction.
        intervals: How its intervals hold; None for single operators.
        baselines: Errors of each baseline by fold, ``device`` or ``family``, and name.
        conformal: Intervals around the trees, by fold.
        beats_bound: Rows that beat their bound.
        provenance: How near the devices are to those the constants were fitted on.
    """

    labels: Mapping[str, str]
    rigwise: Errors
    intervals: Intervals | None
    baselines: Mapping[str, Mapping[str, Errors]]
    conformal: Mapping[str, Intervals]
    beats_bound: int
    provenance: str

    @property
    def is_claim(self) -> bool:
        """Whether there are rows enough to say anything."""
        return self.rigwise.n >= LEAST_ROWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """All that ``rigwise judge`` found.

    Attributes:
        rows: Scored rows.
        answers: Predicted seconds by fold and baseline ``[rows]``.
        groups, summary, by_basis: Over the keys that were asked for, over fewer, and by what the answers rest on.
        regret: By what devices cost (``equal``, ``launch price`` or ``given``) and predictor.
        left_out: Rows that were not scored.
        read: Rows of the tables.
        missing: Baselines that could not run, each with what it needs.
        prices_usd_per_h: Given for the regret, by device.
    """

    rows: Rows
    answers: Mapping[str, Mapping[str, Array]]
    groups: tuple[Group, ...]
    summary: tuple[Group, ...]
    by_basis: tuple[Group, ...]
    regret: Mapping[str, Mapping[str, Regret]]
    left_out: tuple[Rejected, ...]
    read: int
    missing: tuple[str, ...] = ()
    prices_usd_per_h: Mapping[str, float] = field(default_factory=dict)


def judge(
    measurements: Sequence[Measurement],
    shelf: Shelf,
    keys: Sequence[str] = GROUP_KEYS,
    prices: Mapping[str, float] | None = None,
    progress: Progress = lambda done, total: None,
) -> Judgement:
    """Score every measurement that can be asked about.

    Args:
        measurements: Rows of tables.
        shelf: Where networks are looked for.
        keys: What to group by, of ``GROUP_KEYS``.
        prices: Dollars per hour by device, for the regret; the same for all if not given.
        progress: Called with rows done and rows in all.

    Raises:
        InvalidInputError: A key that is none, or not one row that can be scored.
    """
    if unknown := [key for key in keys if key not in GROUP_KEYS]:
        raise InvalidInputError(f"there is no group {unknown[0]!r}", hint=f"one of: {', '.join(GROUP_KEYS)}")
    asked, refused = _questions(measurements, shelf)
    scores, failed = score(asked, shelf, progress)
    left_out = (*refused, *failed)
    if not scores:
        reason = f": {left_out[0].where}: {left_out[0].reason}" if left_out else ""
        raise InvalidInputError(f"not one of {len(measurements)} rows can be scored{reason}")
    rows = rows_of(scores)
    answers, halves, missing = _baselines(rows)
    return Judgement(
        rows=rows,
        answers=answers,
        groups=_grouped(rows, answers, halves, lambda one: {key: label_of(one)[key] for key in keys}),
        summary=_grouped(rows, answers, halves, short_label_of),
        by_basis=_grouped(rows, answers, halves, lambda one: {"basis": one.provenance, "what": kind_of(one)}),
        regret=_regrets(rows, answers, prices or {}),
        left_out=left_out,
        read=len(measurements),
        missing=missing,
        prices_usd_per_h=prices or {},
    )


def _questions(measurements: Sequence[Measurement], shelf: Shelf) -> tuple[list[Question], list[Rejected]]:
    asked: list[Question] = []
    refused: list[Rejected] = []
    for m in measurements:
        try:
            asked.append(question(m, shelf.names))
        except RigwiseError as error:
            refused.append(Rejected(where=m.where, reason=str(error)))
    return asked, refused


def _baselines(rows: Rows) -> tuple[dict[str, dict[str, Array]], dict[str, Array], tuple[str, ...]]:
    """Answers of all baselines by fold, half-widths of the trees' intervals by fold, and what is missing."""
    answers, halves, missing = {}, {}, []
    for fold in FOLDS:
        answers[fold] = simple_baselines(rows, fold)
        try:
            answers[fold][TREES], halves[fold] = trees(rows, fold)
        except MissingExtraError as error:
            missing.append(f"{TREES}: {error}")
    return answers, halves, tuple(dict.fromkeys(missing))


def _grouped(
    rows: Rows,
    answers: Mapping[str, Mapping[str, Array]],
    halves: Mapping[str, Array],
    labels_of: Callable[[Score], dict[str, str]],
) -> tuple[Group, ...]:
    members: dict[tuple[tuple[str, str], ...], list[int]] = defaultdict(list)
    for row, one in enumerate(rows.scores):
        members[tuple(labels_of(one).items())].append(row)
    ordered = sorted(members, key=lambda labels: [value for _, value in labels])
    return tuple(_group(dict(labels), rows, _mask(rows, members[labels]), answers, halves) for labels in ordered)


def _mask(rows: Rows, members: Sequence[int]) -> Mask:
    mask = np.zeros(len(rows.scores), dtype=bool)
    mask[list(members)] = True
    return mask


def _group(
    labels: dict[str, str],
    rows: Rows,
    mask: Mask,
    answers: Mapping[str, Mapping[str, Array]],
    halves: Mapping[str, Array],
) -> Group:
    own = errors_of(rows.predicted_s, rows.measured_s, mask)
    if own is None:
        own = Errors(n=0, mape_frac=0.0, geo_err_frac=0.0, p90_frac=0.0, bias_frac=0.0)
    low, high = (np.array([getattr(one, name) for one in rows.scores]) for name in ("p10_s", "p90_s"))
    conformal = {}
    for fold, half in halves.items():
        middle = answers[fold][TREES]
        around = intervals_of(middle * np.exp(-half), middle * np.exp(half), rows.measured_s, mask)
        if around:
            conformal[fold] = around
    basis = Counter(rows.scores[row].provenance for row in np.flatnonzero(mask))
    return Group(
        labels=labels,
        rigwise=own,
        intervals=intervals_of(low, high, rows.measured_s, mask),
        baselines={
            fold: {name: found for name, p in by_name.items() if (found := errors_of(p, rows.measured_s, mask))}
            for fold, by_name in answers.items()
        },
        conformal=conformal,
        beats_bound=int((mask & ~rows.trusted).sum()),
        provenance=", ".join(sorted(basis)),
    )


def _regrets(
    rows: Rows, answers: Mapping[str, Mapping[str, Array]], given: Mapping[str, float]
) -> dict[str, dict[str, Regret]]:
    predictors = {"rigwise": rows.predicted_s, **answers["device"]}
    pricings = {"given": given} if given else {"equal": {}, "launch price": launch_prices(rows)}
    found = {}
    for pricing, prices in pricings.items():
        groups = choices(rows, prices) if prices or pricing == "equal" else []
        by_name = {name: regret_of(predicted, rows, groups, prices) for name, predicted in predictors.items()}
        if any(by_name.values()):
            found[pricing] = {name: one for name, one in by_name.items() if one}
    return found


def sampled(measurements: Sequence[Measurement], count: int | None) -> Sequence[Measurement]:
    """About ``count`` rows, evenly over the tables; all for None.

    >>> [len(sampled(range(10), n)) for n in (None, 20, 5, 1)]
    [10, 10, 5, 1]
    """
    if count is None or count >= len(measurements):
        return measurements
    return [measurements[index * len(measurements) // count] for index in range(count)]


def judge_document(
    found: Judgement, rejected: Sequence[Rejected], paths: Sequence[Path], worst: int = 0
) -> dict[str, Any]:
    """The JSON object of ``rigwise.judge/1``; ``worst`` rows that are farthest off are listed."""
    scores = found.rows.scores
    beaten = [one for one in scores if one.beats_bound]
    return {
        "schema": "rigwise.judge/1",
        "tables": [str(path) for path in paths],
        "rows": {
            "read": found.read + len(rejected),
            "unreadable": len(rejected),
            "left_out": len(found.left_out),
            "scored": len(scores),
            "steps": int(found.rows.is_step.sum()),
            "beat_bound": len(beaten),
        },
        "baselines": {name: words for name, words in BASELINES.items() if name in found.answers["device"]},
        "missing": list(found.missing),
        "summary": [_plain(group) for group in found.summary],
        "by_basis": [_plain(group) for group in found.by_basis],
        "groups": [_plain(group) for group in found.groups],
        "regret": found.regret,
        "prices_usd_per_h": dict(found.prices_usd_per_h),
        "beat_bound": _beaten_rows(beaten, scores),
        "worst": farthest(found, worst),
        "left_out": reasons([*rejected, *found.left_out]),
    }


def _plain(group: Group) -> dict[str, Any]:
    return {
        "labels": group.labels,
        "claim": group.is_claim,
        "provenance": group.provenance,
        "rigwise": group.rigwise,
        "intervals": group.intervals,
        "beat_bound": group.beats_bound,
        "baselines": group.baselines,
        "conformal": group.conformal,
    }


def _beaten_rows(beaten: Sequence[Score], scores: Sequence[Score]) -> list[dict[str, Any]]:
    """Rows that beat their bound, and what speaks against each: how the other rows of the same work keep theirs."""
    kept: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for other in scores:
        if not other.beats_bound and other.bound_s > 0:
            kept[_work(other)].append(other.measured_s / other.bound_s)
    names = ("where", "source", "device", "device_variant", "model", "task", "precision", "batch", "shape", "framework")
    rows = []
    for one in beaten:
        ratios = kept.get(_work(one), [])
        evidence = {"others": len(ratios), "others_median_frac": float(np.median(ratios)) if ratios else None}
        times = {"measured_s": one.measured_s, "bound_s": one.bound_s}
        rows.append({**{name: getattr(one.question.measurement, name) for name in names}, **times, **evidence})
    return rows


def _work(one: Score) -> tuple[str, ...]:
    m = one.question.measurement
    return m.model, m.task, m.shape


#: What tells two equal reasons apart.
_NAMES_AND_NUMBERS = re.compile(r"model '[^']*'|timm's \S+|row's \S+|^\S+ (?=takes images)|[\d.]+|; .*")


def reasons(left_out: Sequence[Rejected]) -> list[dict[str, Any]]:
    """Why rows were left out, the commonest first, each with its number and the first of its rows.

    Reasons that differ only in a name or a number count as one, in the words of the first.
    """
    by_reason: dict[str, list[Rejected]] = defaultdict(list)
    for one in left_out:
        by_reason[_NAMES_AND_NUMBERS.sub("", one.reason)].append(one)
    common = sorted(by_reason.values(), key=len, reverse=True)
    return [{"reason": rows[0].reason, "rows": len(rows), "first": rows[0].where} for rows in common]


def farthest(found: Judgement, count: int) -> list[dict[str, Any]]:
    """The rows whose prediction is farthest off, by the factor."""
    order = np.argsort(-np.abs(np.log(found.rows.predicted_s / found.rows.measured_s)))[:count]
    return [
        {
            "where": found.rows.scores[row].question.measurement.where,
            **label_of(found.rows.scores[row]),
            "model": found.rows.scores[row].question.measurement.model,
            "batch": found.rows.scores[row].question.measurement.batch,
            "measured_s": float(found.rows.measured_s[row]),
            "predicted_s": float(found.rows.predicted_s[row]),
        }
        for row in order
    ]
