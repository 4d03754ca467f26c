"""Labs and the hundred days as the terminal shows them, and as documents."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

from rigwise.labs.execute import Executed
from rigwise.labs.notebook import Lab
from rigwise.labs.path import Day, chapters, day, days, next_day
from rigwise.labs.progress import Progress
from rigwise.labs.shelf import exercises, labs

_WIDTH = 79


def list_document(progress: Progress) -> dict[str, Any]:
    """``rigwise.lab.list/1``: every lab, and which of its exercises are solved."""
    return {"schema": "rigwise.lab.list/1", "labs": [_lab(lab, progress) for lab in labs()]}


def _lab(lab: Lab, progress: Progress) -> dict[str, Any]:
    names = exercises(lab.number)
    return {
        "number": lab.number,
        "title": lab.title,
        "question": lab.question,
        "minutes": lab.minutes,
        "exercises": list(names),
        "solved": [name for name in names if name in progress.solved],
    }


def list_lines(progress: Progress, width: int) -> Iterator[str]:
    """A line for each lab with its question below."""
    for row in list_document(progress)["labs"]:
        solved = f"{len(row['solved'])} of {len(row['exercises'])} solved"
        head = f"{row['number']:2d}  {row['title']}"
        gap = max(2, min(width, _WIDTH) - len(head) - len(solved))
        yield f"{head}{' ' * gap}{solved}"
        yield from wrap(row["question"], min(width, _WIDTH), initial_indent="    ", subsequent_indent="    ")


def check_document(lab: Lab, ran: Executed, file: Path | None) -> dict[str, Any]:
    """``rigwise.lab.check/1``: how a notebook ran, and what its exercises said."""
    states = {name: ran.states.get(name, "not reached") for name in exercises(lab.number)}
    return {
        "schema": "rigwise.lab.check/1",
        "lab": lab.number,
        "file": str(file) if file else None,
        "wall_s": ran.wall_s,
        "ran": not ran.fault,
        "fault": ran.fault,
        "exercises": states,
    }


def progress_document(progress: Progress) -> dict[str, Any]:
    """``rigwise.lab.progress/1``: the days with what is done, and the exercises that are solved."""
    chapter_of = [chapter.title for chapter in chapters() for _ in chapter.day]
    rows = [
        {"day": number, "chapter": chapter_of[number - 1], **_day(one), "done": progress.days.get(str(number))}
        for number, one in days().items()
    ]
    return {
        "schema": "rigwise.lab.progress/1",
        "done": sum(row["done"] is not None for row in rows),
        "next": next_day(progress),
        "days": rows,
        "solved": dict(progress.solved),
    }


def _day(one: Day) -> dict[str, Any]:
    keys = ("title", "minutes", "read", "do", "lab", "part", "notice")
    return {key: getattr(one, key) for key in keys}


def progress_lines(progress: Progress, width: int) -> Iterator[str]:
    """A row for each chapter with a mark for each day, then the day that comes next."""
    longest = max(len(chapter.title) for chapter in chapters())
    number = 1
    for chapter in chapters():
        last = number + len(chapter.day) - 1
        marks = "".join("x" if str(n) in progress.days else "." for n in range(number, last + 1))
        between = f"{number}-{last}"
        yield f"{between:>6}  {chapter.title:{longest}}  {marks}"
        number = last + 1
    done = sum(str(n) in progress.days for n in days())
    every = [name for lab in labs() for name in exercises(lab.number)]
    yield ""
    solved = sum(name in progress.solved for name in every)
    yield f"{done} of {len(days())} days done, {solved} of {len(every)} exercises solved"
    following = next_day(progress)
    if following is not None:
        yield ""
        yield from day_lines(following, width)
        yield f"  When it is done: rigwise lab progress --done {following}"


def day_lines(number: int, width: int) -> Iterator[str]:
    """One day in full."""
    one = day(number)
    yield f"Day {number}: {one.title} ({one.minutes} min)"
    if one.read:
        yield f"  Read    docs/{one.read}"
    if one.do:
        yield f"  Do      {one.do}"
    if one.lab is not None:
        yield f"  Do      rigwise lab open {one.lab}" + (f"   ({one.part})" if one.part else "")
    yield from wrap(
        one.notice, min(width, _WIDTH), initial_indent="  Notice  ", subsequent_indent=" " * 10, break_long_words=False
    )


def missing_modules(lab: Lab) -> tuple[str, ...]:
    """Modules that the lab needs and that are not installed."""
    from importlib.util import find_spec

    return tuple(module for module in lab.needs if find_spec(module) is None)
