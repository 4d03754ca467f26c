"""When spot capacity was there and when not: read from a file, or drawn at random.

A trace is a row of steps of equal length, each with capacity or without. Drawn traces alternate
runs and waits whose lengths are exponential, or log-normal with the heavy tail that published
traces show; runs can be capped, as some providers end every machine after a day.

Source: Wu et al., "Can't Be Late", NSDI 2024, for the form of the public traces and the shape of
their runs; Kadupitige et al., arXiv 1911.05160, for lifetimes with a cap of 24 h.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray

from rigwise.edge import parse_json
from rigwise.errors import InvalidInputError
from rigwise.market.spot import Interruption, gang_run_s, gang_wait_s
from rigwise.units import HOUR_S

EXPONENTIAL, HEAVY = "exponential", "heavy-tailed"

_MOST_STEPS = 5_000_000
_COLUMNS = ["hour", "available"]
_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}
_FORM = "a CSV file with the columns hour,available, or JSON with metadata.gap_seconds and data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Capacity over time.

    Attributes:
        step_s: Length of a step.
        available: Whether there was capacity for the whole job in each step ``[steps]``.
    """

    step_s: float
    available: NDArray[np.bool_]

    @property
    def length_s(self) -> float:
        """How long the trace is."""
        return self.step_s * len(self.available)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a trace says in figures; the lengths of runs and waits that it cuts off at its ends count as they are."""

    availability_frac: float
    runs: int
    mean_run_s: float | None
    median_run_s: float | None
    mean_wait_s: float | None


def shape_of(trace: Trace) -> Shape:
    """The figures of a trace.

    >>> shape = shape_of(Trace(step_s=3600.0, available=np.array([1, 1, 0, 1, 0, 0], dtype=bool)))
    >>> shape.availability_frac, shape.runs, shape.mean_run_s, shape.mean_wait_s
    (0.5, 2, 5400.0, 5400.0)
    """
    there = trace.available
    edges = np.flatnonzero(np.diff(there)) + 1
    lengths = np.diff(np.concatenate(([0], edges, [len(there)]))) * trace.step_s
    first = 0 if there[0] else 1
    runs, waits = lengths[first::2], lengths[1 - first :: 2]
    return Shape(
        availability_frac=float(there.mean()),
        runs=len(runs),
        mean_run_s=float(runs.mean()) if len(runs) else None,
        median_run_s=float(np.median(runs)) if len(runs) else None,
        mean_wait_s=float(waits.mean()) if len(waits) else None,
    )


def read_trace(text: str, where: str, instances: int = 1) -> Trace:
    """Read a trace, in either form; where it counts machines, there must be as many as the job needs.

    Raises:
        InvalidInputError: Neither form, steps of unequal length, values that mean nothing; names file and line.
    """
    step_s, counts = _read_json(text, where) if text.lstrip()[:1] in ("{", "[") else _read_csv(text, where)
    if len(counts) < 2:
        raise InvalidInputError(f"{where} has {len(counts)} steps", hint="a trace needs at least two")
    if len(counts) > _MOST_STEPS:
        raise InvalidInputError(f"{where} has {len(counts):,} steps", hint=f"at most {_MOST_STEPS:,} are read")
    values = np.array(counts)
    least = instances if values.max() > 1 else 1
    return Trace(step_s=step_s, available=values >= least)


def _read_json(text: str, where: str) -> tuple[float, list[float]]:
    document = parse_json(text, where)
    metadata = document.get("metadata") if isinstance(document, dict) else None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(metadata, dict) or not isinstance(data, list):
        raise InvalidInputError(f"{where} is no trace", hint=f"give {_FORM}")
    gap_s = metadata.get("gap_seconds")
    if not (_is_number(gap_s) and 0 < gap_s < 1e9):
        raise InvalidInputError(f"{where}: metadata.gap_seconds is {str(gap_s)[:40]}", hint="give seconds above 0")
    for index, count in enumerate(data):
        if not _is_number(count) or count < 0:
            raise InvalidInputError(f"{where}: data[{index}] is {str(count)[:40]}", hint="give a number of machines")
    return float(gap_s), [float(count) for count in data]


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_csv(text: str, where: str) -> tuple[float, list[float]]:
    try:
        rows = [row for row in csv.reader(io.StringIO(text)) if row]
    except csv.Error as error:
        raise InvalidInputError(f"{where} is not CSV: {error}") from None
    if not rows or [name.strip().lower() for name in rows[0]] != _COLUMNS:
        raise InvalidInputError(f"{where} is no trace", hint=f"give {_FORM}")
    hours, counts = [], []
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != len(_COLUMNS):
            raise InvalidInputError(f"{where}: line {line} has {len(row)} cells, not {len(_COLUMNS)}")
        hours.append(_cell(row[0], where, line, "hour"))
        counts.append(_cell(row[1], where, line, "available"))
        if counts[-1] < 0:
            raise InvalidInputError(f"{where}: line {line}: available is {row[1]!r}", hint="give 0, 1 or a count")
    if len(hours) < 2:
        return HOUR_S, counts
    step_h = hours[1] - hours[0]
    for line, (before, after) in enumerate(pairwise(hours), start=3):
        if not step_h > 0 or abs(after - before - step_h) > 1e-3 * step_h:
            raise InvalidInputError(
                f"{where}: line {line}: hour {after:g} does not follow {before:g} by the step of {step_h:g}",
                hint="give steps of equal length, in order",
            )
    return (hours[-1] - hours[0]) / (len(hours) - 1) * HOUR_S, counts


def _cell(text: str, where: str, line: int, column: str) -> float:
    word = text.strip().lower()
    try:
        number = _WORDS[word] if word in _WORDS else float(word)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidInputError(f"{where}: line {line}: {column} is {text[:40]!r}, not a number")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """How to draw a trace.

    Attributes:
        step_s: Length of a step; runs and waits are rounded to steps, some to none, so that their means stay.
        steps: How many.
        law: ``exponential`` or ``heavy-tailed``.
        mean_over_median: Of heavy-tailed lengths.
        longest_run_s: Every run ends after this, None for no such cap.
        seed: Of the random numbers.
    """

    step_s: float
    steps: int
    law: str = EXPONENTIAL
    mean_over_median: float = 6.5
    longest_run_s: float | None = None
    seed: int = 0


def draw(interruption: Interruption, instances: int, how: Draw) -> Trace:
    """A trace with the mean runs and waits of a gang, starting somewhere in the middle of its history.

    A cap on runs shortens their mean. A gang runs shorter and waits longer than one of its machines.
    """
    dice = np.random.default_rng(how.seed)
    run_s, wait_s = float(gang_run_s(interruption, instances)), float(gang_wait_s(interruption, instances))
    # Enough history before the first step that it is forgotten how it began.
    total = how.steps + int(20 * (run_s + wait_s) / how.step_s) + 1
    lengths: list[NDArray[np.int64]] = []
    there: list[NDArray[np.bool_]] = []
    drawn = 0
    while drawn < total:
        cycles = int((total - drawn) * how.step_s / (run_s + wait_s) * 1.1) + 16
        runs = _lengths(dice, run_s, cycles, how)
        runs = runs if how.longest_run_s is None else np.minimum(runs, how.longest_run_s)
        both = np.stack([runs, _lengths(dice, wait_s, cycles, how)], axis=1).ravel() / how.step_s
        steps = np.floor(np.minimum(both, total) + dice.random(len(both))).astype(np.int64)
        lengths.append(steps)
        there.append(np.tile([True, False], cycles))
        drawn += int(steps.sum())
    available = np.repeat(np.concatenate(there), np.concatenate(lengths))
    start = total - how.steps
    return Trace(step_s=how.step_s, available=available[start : start + how.steps])


def _lengths(dice: np.random.Generator, mean_s: float, number: int, how: Draw) -> NDArray[np.float64]:
    if how.law == EXPONENTIAL:
        return dice.exponential(mean_s, number)
    # Mean over median of a log-normal is exp(sigma^2 / 2).
    sigma = math.sqrt(2.0 * math.log(how.mean_over_median))
    return dice.lognormal(math.log(mean_s / how.mean_over_median) if mean_s > 0 else -np.inf, sigma, number)


def windows(trace: Trace, number: int, steps: int) -> NDArray[np.bool_]:
    """Stretches of a trace ``[number, steps]`` that start evenly over it; at its end it begins again."""
    length = len(trace.available)
    starts = (np.arange(number) * length) // number
    return np.asarray(trace.available[(starts[:, None] + np.arange(steps)[None, :]) % length])


def refined(trace: Trace, step_s: float) -> Trace:
    """The same trace in steps no longer than ``step_s``."""
    parts = min(max(1, math.ceil(trace.step_s / step_s - 1e-9)), max(1, _MOST_STEPS // len(trace.available)))
    return Trace(step_s=trace.step_s / parts, available=np.repeat(trace.available, parts))
