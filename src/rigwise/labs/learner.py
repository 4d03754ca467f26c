"""What a learner calls in a notebook: a guess first, then the measurement, then an answer.

Guesses and right answers are kept with the progress; where they cannot be kept, a line says so and the lab goes on.
"""

from __future__ import annotations

import math
import os
from numbers import Real
from textwrap import fill
from typing import Any, TypeVar

from rigwise.errors import InvalidInputError, RigwiseError

T = TypeVar("T")

#: Set to 1, labs measure for a shorter time and on smaller sizes.
QUICK = "RIGWISE_LAB_QUICK"

#: What ``check`` says of an answer, after its name: ``labs.execute`` reads it in the outputs of a notebook.
STATES = (RIGHT, WRONG, OPEN) = ("Right", "Not yet", "No answer yet")

_WIDTH = 92

_guesses: dict[str, Any] = {}


def sized(full: T, small: T) -> T:
    """``full``, or ``small`` where ``RIGWISE_LAB_QUICK=1`` asks for a quick run.

    >>> sized(3, 3)
    3
    """
    return small if os.environ.get(QUICK, "") not in ("", "0") else full


def predict(name: str, guess: Any) -> None:
    """Keep a guess before it is measured; ``None`` or ``...`` stands for none yet.

    Raises:
        UnknownNameError: No lab asks for that.
    """
    from rigwise.labs.shelf import prediction

    asked = prediction(name)
    if _is_open(guess):
        _guesses.pop(name, None)
        _say(name, f"No guess yet. {asked.question} Put one in, run the cell again, then go on.")
        return
    _guesses[name] = guess
    _keep_guess(name, guess)
    _say(name, f"Your guess: {_shown(guess, asked.unit)}. Go on and see.")


def reveal(name: str, measured: Any) -> None:
    """Set what was measured beside the guess.

    Raises:
        UnknownNameError: No lab asks for that.
    """
    from rigwise.labs.shelf import prediction

    asked = prediction(name)
    found = _shown(measured, asked.unit)
    if name not in _guesses:
        _say(name, f"Measured: {found}. You had no guess; with one, you would know what surprised you.")
        return
    guess = _guesses[name]
    _say(name, f"You guessed {_shown(guess, asked.unit)}, it is {found}{_distance(guess, measured)}")


def check(name: str, answer: Any, **given: Any) -> None:
    """Say whether an answer is right, and why, or which mistake it shows.

    Args:
        name: Of the exercise.
        answer: ``None`` or ``...`` stands for none yet.
        given: What was measured and decides the right answer.

    Raises:
        UnknownNameError: No lab asks for that.
    """
    from rigwise.labs.shelf import exercise

    asked = exercise(name)
    if _is_open(answer):
        _say(name, f"{OPEN}. {asked.question}")
        return
    try:
        verdict = asked.judge(answer, given)
    except InvalidInputError as error:
        _say(name, f"{WRONG}: {error}")
        return
    if verdict.right:
        _keep_solved(name)
    _say(name, f"{RIGHT if verdict.right else WRONG}: {verdict.because.rstrip('.')}.")


def _say(name: str, words: str) -> None:
    """The words under a name, in lines that a page holds."""
    print(fill(words, _WIDTH, initial_indent=f"{name}  ", subsequent_indent=" " * (len(name) + 2)))


def _is_open(answer: Any) -> bool:
    return answer is None or answer is Ellipsis


def _shown(value: Any, unit: str) -> str:
    text = f"{float(value):,.3g}" if _is_number(value) else str(value)
    return f"{text} {unit}".rstrip()


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _distance(guess: Any, measured: Any) -> str:
    """How far off a guess was, in words."""
    if not (_is_number(guess) and _is_number(measured)):
        return ": right." if str(guess).strip().lower() == str(measured).strip().lower() else "."
    if not (math.isfinite(guess) and guess * measured > 0):
        return "."
    ratio = float(measured) / float(guess)
    if 0.8 <= ratio <= 1.25:
        return ": close."
    return f", {ratio:.3g} times your guess." if ratio > 1 else f", your guess over {1 / ratio:.3g}."


def _keep_guess(name: str, guess: Any) -> None:
    from rigwise.labs.progress import keep_guess

    try:
        keep_guess(name, float(guess) if _is_number(guess) else str(guess)[:200])
    except RigwiseError as error:
        print(f"(The guess is not kept: {error})")


def _keep_solved(name: str) -> None:
    from rigwise.labs.progress import keep_solved

    try:
        keep_solved(name)
    except RigwiseError as error:
        print(f"(That it is solved is not kept: {error})")
