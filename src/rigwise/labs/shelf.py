"""Which labs there are, and what each asks."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import TypeVar

from rigwise.errors import UnknownNameError
from rigwise.labs.exercise import Exercise, Prediction
from rigwise.labs.notebook import Lab, read_lab

T = TypeVar("T")

_FILE = re.compile(r"lab\d\d_\w+\.md")


@cache
def labs() -> tuple[Lab, ...]:
    """All labs in their order."""
    found = [entry for entry in files("rigwise.labs").iterdir() if _FILE.fullmatch(entry.name)]
    ordered = sorted(found, key=lambda entry: entry.name)
    return tuple(read_lab(entry.read_text(encoding="utf-8"), entry.name.removesuffix(".md")) for entry in ordered)


def lab(number: int) -> Lab:
    """One lab.

    Raises:
        UnknownNameError: There is none of that number.
    """
    for one in labs():
        if one.number == number:
            return one
    last = labs()[-1].number
    raise UnknownNameError(f"there is no lab {number}", hint=f"they are 1 to {last}: rigwise lab list")


def prediction(name: str) -> Prediction:
    """What is guessed under a name such as ``1.1``.

    Raises:
        UnknownNameError: No lab asks for that.
    """
    return _asked("PREDICTIONS", name, Prediction)


def exercise(name: str) -> Exercise:
    """What is answered under a name such as ``1.2``.

    Raises:
        UnknownNameError: No lab asks for that.
    """
    return _asked("EXERCISES", name, Exercise)


def exercises(number: int) -> tuple[str, ...]:
    """Names of the exercises of a lab."""
    return tuple(import_module(f"rigwise.labs.answers{number:02d}").EXERCISES)


def _asked(table: str, name: str, kind: type[T]) -> T:
    number, _, _ = str(name).partition(".")
    if number.isdecimal() and any(one.number == int(number) for one in labs()):
        known = getattr(import_module(f"rigwise.labs.answers{int(number):02d}"), table)
        if name in known:
            found = known[name]
            assert isinstance(found, kind)
            return found
        raise UnknownNameError(f"lab {number} has no {name!r} of this kind", hint=f"it has {', '.join(known)}")
    raise UnknownNameError(f"no lab asks {name!r}", hint="a name is the lab and a number: 1.2")
