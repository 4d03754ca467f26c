"""Scored rows as columns, and the folds in which baselines are fitted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rigwise.calibrate.names import release_of
from rigwise.calibrate.operators import operator_name
from rigwise.calibrate.score import Score
from rigwise.graph.op import Kind

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

FOLDS = ("device", "family")
#: Families are left out in this many groups.
FAMILY_FOLDS = 5
#: Of operators that take no longer, launch and timer are a good part of what was measured.
SHORT_S = 200e-6
#: A baseline is fitted on at least this many rows.
LEAST_TRAINING_ROWS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Columns over scored rows ``[rows]``.

    Attributes:
        scores: The rows themselves.
        measured_s, predicted_s: Seconds.
        flops, activation_bytes, parameter_bytes: Of the work.
        peak_flops_per_s, memory_bytes_per_s: Of the devices, as their data sheets say.
        call_s: Of the measured time, what the table's way of timing adds.
        device: Catalogue id.
        family_fold: Fold of the model's family; -1 for single operators, which have none.
        cell, wide_cell: What a baseline is fitted for: kind, task and mode, with and without the source.
        is_cpu: Rows of CPUs.
        trusted: Rows that do not beat their bound; only they are fitted.
    """

    scores: tuple[Score, ...]
    measured_s: Array
    predicted_s: Array
    flops: Array
    activation_bytes: Array
    parameter_bytes: Array
    peak_flops_per_s: Array
    memory_bytes_per_s: Array
    call_s: Array
    device: NDArray[np.str_]
    family_fold: NDArray[np.int64]
    cell: NDArray[np.str_]
    wide_cell: NDArray[np.str_]
    is_cpu: Mask
    trusted: Mask

    @property
    def is_step(self) -> Mask:
        """Which rows time whole networks."""
        return self.family_fold >= 0


def rows_of(scores: Sequence[Score]) -> Rows:
    """Lay scores out as columns."""

    def column(name: str) -> Array:
        return np.array([getattr(one, name) for one in scores], dtype=np.float64)

    wide = [_cell(one) for one in scores]
    return Rows(
        scores=tuple(scores),
        measured_s=column("measured_s"),
        predicted_s=column("p50_s"),
        flops=column("flops"),
        activation_bytes=column("activation_bytes"),
        parameter_bytes=column("parameter_bytes"),
        peak_flops_per_s=column("peak_flops_per_s"),
        memory_bytes_per_s=column("memory_bytes_per_s"),
        call_s=column("call_s"),
        device=np.array([one.question.device.id for one in scores], dtype=np.str_),
        family_fold=np.array([_family_fold(one) for one in scores], dtype=np.int64),
        cell=np.array([f"{one.question.measurement.source} {w}" for one, w in zip(scores, wide, strict=True)], np.str_),
        wide_cell=np.array(wide, dtype=np.str_),
        is_cpu=np.array([one.question.device.kind == "cpu" for one in scores], dtype=np.bool_),
        trusted=np.array([not one.beats_bound for one in scores], dtype=np.bool_),
    )


def what_of(score: Score) -> str:
    """``step``, or the operator that was timed."""
    question = score.question
    if question.is_step:
        return "step"
    elementwise = question.op is not None and question.op.kind is Kind.ELEMENTWISE
    return "elementwise" if elementwise else operator_name(question.measurement)


def kind_of(score: Score) -> str:
    """``steps`` or ``operators``."""
    return "steps" if score.question.is_step else "operators"


def _cell(score: Score) -> str:
    question = score.question
    kernels = question.case.software.convolution or ""
    return f"{what_of(score)} {question.case.task} {question.part} {question.case.mode} {kernels}"


def family_of(model: str) -> str:
    """A network's family: its name up to the first digit, dash or underscore.

    >>> family_of("timm:convnext_tiny"), family_of("resnet-34"), family_of("vgg16")
    ('convnext', 'resnet', 'vgg')
    """
    return re.split(r"[\d_\-. ]", model.removeprefix("timm:").lower(), maxsplit=1)[0]


def _family_fold(score: Score) -> int:
    if not score.question.is_step:
        return -1
    digest = hashlib.md5(family_of(score.question.measurement.model).encode(), usedforsecurity=False).hexdigest()
    return int(digest, 16) // FAMILY_FOLDS % FAMILY_FOLDS


def folds(rows: Rows, fold: str) -> Iterator[tuple[Mask, Mask]]:
    """Pairs of test and training rows.

    ``device``: rows of one device in one cell, against the same cell of the other devices, CPUs and accelerators
    apart: of the same source where that has enough rows, else of all. ``family``: rows of some families on one
    device, against its rows of the others, or all devices' where they are too few. Test rows without training rows
    are not yielded.
    """
    keys = [rows.cell, rows.device] if fold == "device" else [rows.cell, rows.device, rows.family_fold.astype(np.str_)]
    labels = np.array(["\t".join(parts) for parts in zip(*keys, strict=True)], dtype=np.str_)
    eligible = np.ones(len(rows.scores), dtype=bool) if fold == "device" else rows.is_step
    for label in np.unique(labels[eligible]):
        test = (labels == label) & eligible
        first = int(np.flatnonzero(test)[0])
        other_device = rows.device != rows.device[first]
        other_family = rows.family_fold != rows.family_fold[first]
        narrow, wide = rows.cell == rows.cell[first], rows.wide_cell == rows.wide_cell[first]
        if fold == "device":
            alike = other_device & (rows.is_cpu == rows.is_cpu[first])
            choices = [narrow & alike, wide & alike]
        else:
            choices = [narrow & ~other_device & other_family, narrow & other_family, wide & other_family]
        enough = (c & rows.trusted for c in choices if (c & rows.trusted).sum() >= LEAST_TRAINING_ROWS)
        train = next(enough, None)
        if train is not None:
            yield test, train


def label_of(score: Score) -> dict[str, str]:
    """What a row is grouped by."""
    question, m = score.question, score.question.measurement
    return {
        "source": m.source,
        "device": question.device.id + (f" x{m.count}" if m.count > 1 else ""),
        "what": what_of(score),
        "task": m.task,
        "precision": m.precision,
        "layout": m.layout,
        "mode": question.case.mode,
        "software": release_of(m.framework),
    }


def short_label_of(score: Score) -> dict[str, str]:
    """What a row is summed up by: steps by device, operators by kind, those too short to time well apart."""
    full = label_of(score)
    if score.question.is_step:
        return {key: full[key] for key in ("source", "device", "task", "mode")}
    return {"source": full["source"], "what": full["what"], "size": "" if score.measured_s > SHORT_S else "short"}
