"""What a comparison is between: two machines, or two times on one machine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

from rigwise.errors import AmbiguousNameError, InvalidInputError, UnknownNameError, near_matches
from rigwise.measurement.records import Record, Selection, utc

_MONTH = re.compile(r"(\d{4})-(\d{2})")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a comparison.

    Attributes:
        words: As the user named it.
        machine: The machine id; empty where the side is a time.
        since, until: The time, from the first on, before the second; empty for open ends and for a machine.
    """

    words: str
    machine: str = ""
    since: str = ""
    until: str = ""


def side(words: str, machines: Sequence[str]) -> Side:
    """The side that ``words`` names: a machine id or its beginning, a day, a month, or ``FROM..TO``.

    Raises:
        UnknownNameError: It is neither.
        AmbiguousNameError: Several machine ids begin with it.

    >>> side("2026-02", ()).until
    '2026-03-01T00:00:00.000000Z'
    """
    if words in machines:
        return Side(words=words, machine=words)
    found = span(words)
    if found:
        return Side(words=words, since=found[0], until=found[1])
    close = [name for name in machines if words and name.startswith(words)]
    if len(close) > 1:
        raise AmbiguousNameError(f"{words!r} begins several machines", hint=", ".join(close[:6]))
    if close:
        return Side(words=words, machine=close[0])
    hint = near_matches(words, machines) or "rigwise history machines lists them; a date is 2026-11-21 or 2026-11"
    raise UnknownNameError(f"{words[:60]!r} is no machine in the store and no date", hint=hint)


def span(words: str) -> tuple[str, str] | None:
    """The time that a day, a month or ``FROM..TO`` stands for; None where it is none of them.

    The end of a range is included: ``2026-11-01..2026-11-07`` is a week.

    Raises:
        InvalidInputError: A range ends before it begins, or an end is no date or time.

    >>> span("2026-11-01..")
    ('2026-11-01T00:00:00.000000Z', '')
    """
    first, dots, last = words.partition("..")
    if dots:
        since, until = _edges(first)[0] if first else "", _edges(last)[1] if last else ""
        if not (since or until) or (since and until and since >= until):
            raise InvalidInputError(f"{words[:60]!r} is an empty time", hint="as in 2026-11-01..2026-11-07")
        return since, until
    return _edges(words) if _DAY.fullmatch(words) or _MONTH.fullmatch(words) else None


def _edges(words: str) -> tuple[str, str]:
    """From when to when a day or a month lasts; a moment has no length."""
    if month := _MONTH.fullmatch(words):
        year, number = int(month[1]), int(month[2])
        following = f"{year + number // 12:04d}-{number % 12 + 1:02d}-01"
        return utc(f"{words}-01"), utc(following)
    if _DAY.fullmatch(words):
        start = utc(words)
        try:
            return start, utc((date.fromisoformat(words) + timedelta(days=1)).isoformat())
        except OverflowError:
            raise InvalidInputError(f"{words} is no date that can be used") from None
    return utc(words), utc(words)


def selections(first: Side, second: Side, asked: Selection) -> tuple[Selection, Selection]:
    """What to read for each side.

    Raises:
        InvalidInputError: The sides are the same, overlap, or are a machine and a time.
    """
    if bool(first.machine) != bool(second.machine):
        raise InvalidInputError(
            f"{first.words} and {second.words} are a machine and a time",
            hint="compare two machines, or two times with --machine",
        )
    if first.machine:
        if first.machine == second.machine:
            raise InvalidInputError(f"both sides are {first.machine}", hint="compare two times with --machine")
        if asked.machines:
            raise InvalidInputError("--machine and two machines were given", hint="leave one away")
        return replace(asked, machines=(first.machine,)), replace(asked, machines=(second.machine,))
    early, late = sorted((first, second), key=lambda one: one.since)
    if not early.until or early.until > (late.since or ""):
        raise InvalidInputError(f"{first.words} and {second.words} overlap", hint="name two times that do not")
    return tuple(replace(asked, since=one.since, until=one.until) for one in (first, second))  # type: ignore[return-value]


def one_machine(records: Sequence[Record]) -> str:
    """The machine that all records were measured on.

    Raises:
        InvalidInputError: They are of several: figures of different machines are not merged.
    """
    machines = sorted({record.machine_id for record in records})
    if len(machines) > 1:
        shown = ", ".join(machines[:4]) + (" ..." if len(machines) > 4 else "")
        raise InvalidInputError(f"these are {len(machines)} machines: {shown}", hint="name one with --machine")
    return machines[0] if machines else ""
