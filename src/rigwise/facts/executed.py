"""How far each part that touches the outside has been tried: ``data/executed.toml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import InvalidInputError, MissingFactError

FILE = Path(__file__).parent / "data" / "executed.toml"
#: Least first.
LEVELS = ("written", "parsed", "schema-valid", "resolved", "built", "executed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One part.

    Attributes:
        part: What it is, for a person.
        level: How far it was tried, one of ``LEVELS``; a link where it is judged elsewhere.
        on: On what, or by what.
        when: A date, or ``every CI run``; ``-`` for never.
        id: What a command looks it up by; empty for none.
    """

    part: str
    level: str
    on: str
    when: str
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    row: list[Row]


@cache
def rows(path: Path = FILE) -> tuple[Row, ...]:
    """Every row, checked.

    Raises:
        InvalidInputError: The file cannot be used, or a row has an unknown level.
    """
    found = parse(parse_toml(read_text(path), path.name), _File, path.name).row
    for row in found:
        if row.level not in LEVELS and not row.level.startswith("see "):
            raise InvalidInputError(
                f"{path.name}: {row.part} has level {row.level!r}", hint=f"one of {', '.join(LEVELS)}"
            )
    return tuple(found)


def row_of(name: str) -> Row:
    """The row with an id.

    Raises:
        MissingFactError: There is none.

    >>> row_of("setup pip").part
    '`rigwise setup pip`'
    """
    found = next((row for row in rows() if row.id == name), None)
    if found is None:
        raise MissingFactError(f"how far {name} was verified is not written down", hint="add it to executed.toml")
    return found
