"""What a lab asks, and how an answer is judged: a wrong one is told the mistake that it shows.

A judge is a function of the answer and of what was measured (``given``), so that the right answer
may be the learner's own machine's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

Given = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Right or not, and why."""

    right: bool
    because: str


Judge = Callable[[Any, Given], Verdict]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a learner guesses before it is measured.

    Attributes:
        question: With the unit in words.
        unit: After the number; empty for a plain number or a word.
    """

    question: str
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exercise:
    """What a learner answers after the measurement.

    Attributes:
        question: As the notebook asks it.
        judge: Answer and what was measured -> verdict.
    """

    question: str
    judge: Judge


#: A factor that an answer is off by -> the mistake that it shows; those that hold for every figure.
BITS = {8.0: "that is bits where bytes were asked for", 1 / 8: "that is bytes where bits were asked for"}
MULTIPLY_ADD = {
    2.0: "that is twice as much: a multiply-add is 2 FLOP, and it was counted as 4, or reads were counted twice",
    0.5: "that is half as much: a multiply-add is 2 FLOP, not 1",
}
POWERS = {
    factor: f"the digits are right, the power of ten is not: off by {words}"
    for power, words in ((3, "1,000"), (6, "a million"), (9, "1e9"))
    for factor in (10.0**power, 10.0**-power)
}
BINARY = {
    1.024**power: f"{long} was taken for {short}: they differ by {1.024**power - 1:.1%}".replace("%", " %")
    for short, long, power in (("kB", "KiB", 1), ("MB", "MiB", 2), ("GB", "GiB", 3))
}
BINARY |= {
    1.024**-power: f"{short} was taken for {long}: they differ by {1.024**power - 1:.1%}".replace("%", " %")
    for short, long, power in (("kB", "KiB", 1), ("MB", "MiB", 2), ("GB", "GiB", 3))
}
PERCENT = {100.0: "that is percent where a fraction was asked for", 0.01: "that is a hundredth of it"}


def number(
    right: float | Callable[[Given], float],
    because: str,
    *,
    within_frac: float = 0.02,
    mistakes: Mapping[float, str] | Callable[[Given], Mapping[float, str]] | None = None,
) -> Judge:
    """A judge of numbers.

    Args:
        right: The number, or what computes it from what was measured.
        because: Why it is right; ``{right}`` and the names that were given may stand in it, with a format.
        within_frac: How far off still counts as right.
        mistakes: Wrong answer over right answer -> the mistake that it shows; compared within ``within_frac``,
            but no nearer to 1 than that.

    >>> judge = number(12.0, "3 times 4 is {right:g}", mistakes=MULTIPLY_ADD)
    >>> judge(12, {}).because, judge(24.0, {}).because[:24]
    ('3 times 4 is 12', 'that is twice as much: a')
    """

    def judge(answer: Any, given: Given) -> Verdict:
        if isinstance(answer, bool) or not isinstance(answer, Real) or not math.isfinite(float(answer)):
            return Verdict(right=False, because=f"a number was asked for, and {_short(answer)} is none")
        value, wanted = float(answer), float(right(given) if callable(right) else right)
        if math.isclose(value, wanted, rel_tol=within_frac, abs_tol=1e-12):
            return Verdict(right=True, because=because.format(right=wanted, **given))
        if wanted == 0 or value == 0:
            return Verdict(right=False, because="it is not zero" if wanted else "something cancels here")
        if math.isclose(value, -wanted, rel_tol=within_frac):
            return Verdict(right=False, because="the sign is the other way round")
        shown = (mistakes(given) if callable(mistakes) else mistakes) or {}
        for factor, words in {**shown, **POWERS}.items():
            if math.isclose(value / wanted, factor, rel_tol=min(within_frac, abs(factor - 1) / 3)):
                return Verdict(right=False, because=words)
        if wanted != 1 and math.isclose(value, 1 / wanted, rel_tol=within_frac):
            return Verdict(right=False, because="that is one over it: divide the other way round")
        return Verdict(right=False, because="it is too large" if value > wanted else "it is too small")

    return judge


def choice(right: str | Callable[[Given], str], because: Mapping[str, str]) -> Judge:
    """A judge of one word among several, each with why it is right or wrong.

    Args:
        right: The word, or what chooses it from what was measured.
        because: Word -> why it is right where it is, and why not where it is not; with formats as in ``number``.

    >>> choice("b", {"a": "no", "b": "yes"})("B ", {})
    Verdict(right=True, because='yes')
    """

    def judge(answer: Any, given: Given) -> Verdict:
        word = str(answer).strip().lower()
        if word not in because:
            return Verdict(right=False, because=f"{_short(answer)} is none of {', '.join(because)}")
        wanted = right(given) if callable(right) else right
        return Verdict(right=word == wanted, because=because[word].format(**given))

    return judge


def _short(answer: Any) -> str:
    shown = repr(answer)
    return shown if len(shown) <= 40 else shown[:37] + "..."
