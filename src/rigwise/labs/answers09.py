"""What lab 9 asks: estimates that search with, on a map and on the market."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

from rigwise.labs.exercise import Exercise, Given, Prediction, Verdict, choice, number
from rigwise.labs.maze import CELLS, GOAL, Cell, Estimate, ways_home
from rigwise.labs.mistakes import values

_NEAR = 1e-9
#: Who rounds the root of 2 has understood it.
_AS_GOOD = 0.99

PREDICTIONS = {
    "9.1": Prediction(
        question="How many of the cells does the search take up that knows the straight line to the goal?",
        unit="cells",
    ),
    "9.3": Prediction(question="What share of all ways to do the job must be estimated in full?", unit="%"),
}


def judge_estimate(answer: Any, given: Given) -> Verdict:
    """An estimate is right if it never exceeds the way that is left, and is nowhere below the straight line."""
    del given
    if not callable(answer):
        return Verdict(right=False, because="hand over the function itself, without calling it")
    told = {cell: _told(answer, cell) for cell in sorted(CELLS)}
    if all(value is None for value in told.values()):
        return Verdict(right=False, because="it gives no number yet")
    for cell, value in told.items():
        if value is None:
            return Verdict(right=False, because=f"at {cell} it gives no finite number")
        if value > ways_home()[cell] + _NEAR:
            return Verdict(right=False, because=_exceeds(cell, value))
    line = {cell: math.hypot(cell[0] - GOAL[0], cell[1] - GOAL[1]) for cell in CELLS}
    gained = [cell for cell in CELLS if (told[cell] or 0.0) > line[cell] + _NEAR]
    lost = [cell for cell in sorted(CELLS) if (told[cell] or 0.0) < _AS_GOOD * line[cell]]
    if lost:
        words = (
            f"it never exceeds the way left, but at {lost[0]} it says {told[lost[0]]:.4g}, less than the straight line"
        )
        return Verdict(right=False, because=f"{words}, {line[lost[0]]:.4g}")
    if not gained:
        words = "it never exceeds the way left, but is the straight line again; there are eight directions to step in"
        return Verdict(right=False, because=words)
    return Verdict(right=True, because=f"it never exceeds the way left, and is closer to it in {len(gained)} cells")


def _told(estimate: Estimate, cell: Cell) -> float | None:
    """What the estimate says of a cell; None where that is no number."""
    try:
        value = estimate(cell)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(float(value)) else None


def _exceeds(cell: Cell, value: float) -> str:
    """Where an estimate says too much, with the mistake that this shows."""
    across, down, left = abs(cell[0] - GOAL[0]), abs(cell[1] - GOAL[1]), ways_home()[cell]
    words = f"at {cell} it says {value:.4g}, and the way left is only {left:.4g}"
    if math.isclose(value, across + down):
        words += ": it walks around every corner, and steps may go across them"
    elif math.isclose(value, math.sqrt(2) * max(across, down)):
        words += ": it goes every step across a corner, and straight ones are shorter"
    return f"{words}. What exceeds the truth can hide the best way"


def ruled_out(given: Given) -> float:
    """Candidates that were ruled out for each that was estimated.

    >>> ruled_out({"candidates": 100, "estimated": 20})
    4.0
    """
    return float((given["candidates"] - given["estimated"]) / given["estimated"])


def _mistakes(given: Given) -> Mapping[float, str]:
    candidates, estimated = given["candidates"], given["estimated"]
    return values(
        ruled_out(given),
        {
            (candidates - estimated) / given["expanded"]: "that is for each state that was expanded",
            estimated / candidates: "that is the share that was estimated",
            1 - estimated / candidates: "that is the share that was ruled out",
        },
    )


EXERCISES = {
    "9.2": Exercise(
        question="Write an estimate that is closer than the straight line and never exceeds the way left.",
        judge=judge_estimate,
    ),
    "9.4": Exercise(
        question="How many candidates were ruled out for each that was estimated?",
        judge=number(
            ruled_out,
            "{estimated:,} of {candidates:,} were estimated; all the others were ruled out by bounds and limits",
            mistakes=_mistakes,
        ),
    ),
    "9.5": Exercise(
        question="All bounds are halved. The same plan, quicker (a); the same plan, later (b); perhaps a worse"
        " plan (c)?",
        judge=choice(
            "b",
            {
                "a": "a lower bound rules out less, so more is taken up before the rest is excluded",
                "b": "half a bound is still a bound: what it rules out is worse for certain. It only rules out less,"
                " and blind search is what is left when all bounds are 0",
                "c": "a worse plan comes of bounds that are too high; half of a bound that holds, holds",
            },
        ),
    ),
}
