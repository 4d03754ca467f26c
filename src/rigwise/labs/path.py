"""The hundred days: what to read and what to do each day, ten minutes or so, each built on those before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from rigwise.edge import parse, parse_toml
from rigwise.errors import InvalidInputError
from rigwise.labs.progress import Progress

DAYS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """One day of the path.

    Attributes:
        title: What it is about.
        read: A page of the documentation, with the section after ``#``; empty on a day without reading.
        do: A command, or empty where a lab is the work of the day.
        lab: Number of the lab; None where a command is the work of the day.
        part: Which part of the lab.
        notice: What to look for, or what to write down.
        minutes: It takes, about.
    """

    title: str
    notice: str
    read: str = ""
    do: str = ""
    lab: int | None = None
    part: str = ""
    minutes: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """Days that belong together."""

    title: str
    day: tuple[Day, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    chapter: tuple[Chapter, ...]


@cache
def chapters() -> tuple[Chapter, ...]:
    """The chapters in their order."""
    text = files("rigwise.labs").joinpath("path.toml").read_text(encoding="utf-8")
    return parse(parse_toml(text, "path.toml"), _File, "path.toml").chapter


@cache
def days() -> Mapping[int, Day]:
    """The days by their numbers, from 1 on."""
    return dict(enumerate((day for chapter in chapters() for day in chapter.day), start=1))


def day(number: int) -> Day:
    """One day.

    Raises:
        InvalidInputError: There is none of that number.
    """
    if number not in days():
        raise InvalidInputError(f"there is no day {number}", hint=f"they are 1 to {len(days())}")
    return days()[number]


def next_day(progress: Progress) -> int | None:
    """The first day that is not done; None when all are."""
    return next((number for number in days() if str(number) not in progress.days), None)
