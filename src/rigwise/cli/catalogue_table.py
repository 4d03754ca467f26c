"""Filter, sort and print a table of the catalogue: shared by ``devices``, ``cpus``, ``offers`` and ``parts``.

A table is data: its fields, each with how to read it from a row, parse what a person
writes, and print it. Flags, filters, headings and help all follow from the fields.
"""

from __future__ import annotations

import operator
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, TypeVar

import click

from rigwise.cli.output import print_json
from rigwise.errors import InvalidInputError, near_matches
from rigwise.units import GIB, MIB, format_usd, parse_bytes, parse_count, parse_usd, parse_watts

F = TypeVar("F", bound=Callable[..., Any])

ROWS_ON_SCREEN = 40
_GAP = 2  # spaces between columns
_NARROWEST = 6  # columns of text that are never cut further
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}
_BARE_NUMBER = re.compile(r"^[\d.,_]+(e[+-]?\d+)?$", re.IGNORECASE)
#: What a bare number means in a column of this unit.
_UNIT_OF_BARE = {"GiB": "GiB", "MiB": "MiB", "GB/s": "GB", "GHz": "G", "TFLOP/s": "T"}
_CONDITION = re.compile(r"^\s*(>=|<=|!=|>|<|=|~)?\s*(.*?)\s*$", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column.

    Attributes:
        name: Its flag, ``--name``, and its name after ``--sort``.
        read: From a row to its value, None where the row has none.
        attribute: The row's attribute that it reads, which has a basis; empty if computed.
        parse: From what a person writes to a value; None for text.
        show: From a value to a cell.
        unit: Stands in the heading, so that cells can be bare numbers.
    """

    name: str
    read: Callable[[Any], Any]
    attribute: str = ""
    parse: Callable[[str], float] | None = None
    show: Callable[[Any], str] = str
    unit: str = ""

    def cell(self, row: Any) -> str:
        """The row's value in print, blank where it has none."""
        value = self.read(row)
        return "" if value is None else self.show(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A command's table: its name, its fields, and which of them are printed unasked."""

    name: str
    fields: tuple[Field, ...]
    shown: tuple[str, ...]

    def field(self, name: str) -> Field:
        """The field of this name.

        Raises:
            InvalidInputError: There is none; the message lists near matches.
        """
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        names = [f.name for f in self.fields]
        close = near_matches(name, names) or f"the fields are {', '.join(names)}"
        raise InvalidInputError(f"{self.name} have no field {name!r}", hint=close)


def text(name: str, attribute: str = "") -> Field:
    """A field of words."""
    attribute = attribute or name
    return Field(name=name, read=lambda row: getattr(row, attribute) or None, attribute=attribute)


def _figure(name: str, attribute: str, parse: Callable[[str], float], show: Callable[[float], str], unit: str) -> Field:
    return Field(name=name, read=attrgetter(attribute), attribute=attribute, parse=parse, show=show, unit=unit)


def number(name: str, attribute: str = "") -> Field:
    """A count."""
    return _figure(name, attribute or name, parse_count, lambda value: f"{value:.4g}", "")


def usd(name: str, attribute: str) -> Field:
    """Dollars."""
    return _figure(name, attribute, parse_usd, format_usd, "")


def watts(name: str, attribute: str) -> Field:
    """Power."""
    return _figure(name, attribute, parse_watts, lambda value: f"{value:g}", "W")


def parse_memory(written: str) -> float:
    """Bytes of a memory as it is marketed: a card of "24GB" holds 24 GiB.

    >>> parse_memory("24GB") == parse_memory("24 GiB") == 24 * 2**30
    True
    """
    return parse_bytes(re.sub(r"(?i)([kmgtp])b\s*$", r"\1ib", written))


def memory(name: str, attribute: str) -> Field:
    """Size of a memory."""
    return _figure(name, attribute, parse_memory, lambda value: f"{value / GIB:.4g}", "GiB")


def cache(name: str, attribute: str) -> Field:
    """Size of a cache."""
    return _figure(name, attribute, parse_memory, lambda value: f"{value / MIB:.4g}", "MiB")


def rate(name: str, attribute: str) -> Field:
    """Bytes in a second; "2TB/s" and "2TB" are the same."""
    return _figure(name, attribute, _parse_rate, lambda value: f"{value / 1e9:,.4g}", "GB/s")


def _parse_rate(written: str) -> float:
    return parse_bytes(re.sub(r"/s\s*$", "", written))


def clock(name: str, attribute: str) -> Field:
    """A clock; "2.5GHz" and "2.5G" are the same."""
    return _figure(name, attribute, _parse_clock, lambda value: f"{value / 1e9:.3g}", "GHz")


def _parse_clock(written: str) -> float:
    return parse_count(re.sub(r"(?i)hz\s*$", "", written))


def peak(name: str, read: Callable[[Any], float | None]) -> Field:
    """FLOP in a second; "100TFLOPS", "100TFLOP/s" and "100T" are the same."""
    return Field(name=name, read=read, parse=_parse_peak, show=show_tera, unit="TFLOP/s")


def _parse_peak(written: str) -> float:
    return parse_count(re.sub(r"(?i)(fl)?ops?(/s)?\s*$", "", written))


def show_tera(value: float) -> str:
    """FLOP/s in units of 1e12, three digits or whole.

    >>> show_tera(82.6e12), show_tera(1978.9e12)
    ('82.6', '1,979')
    """
    return f"{value / 1e12:,.0f}" if value >= 99.95e12 else f"{value / 1e12:.3g}"


def catalogue_options(table: Table) -> Callable[[F], F]:
    """``--FIELD`` for every field, ``--sort`` and ``--limit``."""

    def decorate(function: F) -> F:
        function = click.option(
            "--limit",
            type=click.IntRange(min=0),
            help=f"Rows to print; 0 for all.  [default: {ROWS_ON_SCREEN}; all with --json]",
        )(function)
        function = click.option("--sort", metavar="FIELD", help="Order, smallest first; -FIELD for largest first.")(
            function
        )
        for field in reversed(table.fields):
            function = click.option(f"--{field.name}", multiple=True, metavar=_metavar(field))(function)
        return function

    return decorate


def _metavar(field: Field) -> str:
    if field.parse is None:
        return "[OP]WORD"
    return f"[OP]{field.unit or ('USD' if field.parse is parse_usd else 'NUMBER')}"


def condition(field: Field, written: str) -> Callable[[Any], bool]:
    """A test of one row: ``>=24GB``, ``!=amd``, ``~RTX``, or a bare value; a bare number has the column's unit.

    Bare words must stand whole in the text (``l4`` is not ``l40s``), ``=`` asks for all of it
    and ``~`` for a part; commas separate alternatives. A row without the figure fails.

    Raises:
        InvalidInputError: The value is not one of this field.
    """
    match = _CONDITION.match(written)
    sign, wanted = match.groups() if match else (None, "")
    if not wanted:
        raise InvalidInputError(f"--{field.name} {written!r} has no value")
    if field.parse is None:
        return _text_condition(field, sign, wanted.lower())
    if sign == "~":
        raise InvalidInputError(f"--{field.name} {written!r}: ~ compares text, and {field.name} is a number")
    if _BARE_NUMBER.match(wanted):
        wanted += _UNIT_OF_BARE.get(field.unit, "")
    try:
        value = field.parse(wanted)
    except InvalidInputError as error:
        raise InvalidInputError(f"--{field.name}: {error.message}", hint=error.hint) from None
    compare = _OPERATORS[sign or "="]
    return lambda row: (found := field.read(row)) is not None and compare(found, value)


def _text_condition(field: Field, sign: str | None, wanted: str) -> Callable[[Any], bool]:
    alternatives = [word.strip() for word in wanted.split(",") if word.strip()]
    if sign in (">=", "<=", ">", "<"):
        compare = _OPERATORS[sign]
        return lambda row: (found := field.read(row)) is not None and compare(str(found).lower(), wanted)
    whole = [re.compile(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])") for word in alternatives]

    def holds(row: Any) -> bool:
        found = str(field.read(row) or "").lower()
        if sign == "~":
            return any(word in found for word in alternatives)
        if sign in ("=", "!="):
            return (found in alternatives) == (sign == "=")
        return any(pattern.search(found) for pattern in whole)

    return holds


def select(table: Table, rows: Iterable[Any], filters: Mapping[str, Sequence[str]], sort: str | None) -> list[Any]:
    """The rows that pass every filter, sorted; rows without the sorted figure come last.

    Raises:
        InvalidInputError: An unknown field or a value that is none of its.
    """
    tests = [condition(table.field(name), one) for name, written in filters.items() for one in written]
    kept = [row for row in rows if all(test(row) for test in tests)]
    if sort is None:
        return kept
    field = table.field(sort.removeprefix("-"))
    known = [row for row in kept if field.read(row) is not None]
    unknown = [row for row in kept if field.read(row) is None]
    return sorted(known, key=field.read, reverse=sort.startswith("-")) + unknown


def chosen(table: Table, rows: Iterable[Any], flags: Mapping[str, Any]) -> list[Any]:
    """The rows that the command's flags ask for; flags of fields stand under the fields' names."""
    return select(table, rows, _filters(table, flags), flags["sort"])


def _filters(table: Table, flags: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    asked = {field.name: flags[field.name.replace("-", "_")] for field in table.fields}
    return {name: written for name, written in asked.items() if written}


def document(table: Table, rows: Iterable[Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """The rows that the flags ask for, as ``--json`` prints them; same errors as ``select``."""
    return {"schema": f"rigwise.{table.name}/1", table.name: chosen(table, rows, flags)[: flags["limit"] or None]}


def answer(table: Table, rows: Iterable[Any], flags: Mapping[str, Any]) -> None:
    """What every table command does: filter, sort, print; same errors as ``select``."""
    if flags["as_json"]:
        print_json(document(table, rows, flags))
        return
    rows = list(rows)
    found = chosen(table, rows, flags)
    limit = flags["limit"]
    asked = [name for name in _filters(table, flags) if table.field(name).parse is not None]
    asked += [flags["sort"].removeprefix("-")] if flags["sort"] else []
    fields = [table.field(name) for name in dict.fromkeys([*table.shown, *asked])]
    printed = found[: (ROWS_ON_SCREEN if limit is None else limit) or None]
    lines = layout(fields, [[field.cell(row) for field in fields] for row in printed], terminal_width())
    click.echo("\n".join(lines))
    if len(printed) < len(found) and not flags["quiet"]:
        click.echo(f"{len(found) - len(printed)} more of {len(found)}; --limit 0 prints all", err=True)
    if not found and rows and not flags["quiet"]:
        click.echo(_why_none(table, rows, _filters(table, flags)), err=True)


def _why_none(table: Table, rows: Sequence[Any], filters: Mapping[str, Sequence[str]]) -> str:
    """Which filter no row at all passes, with near matches; else that none passes all of them."""
    for name, written in filters.items():
        field = table.field(name)
        alone = next((one for one in written if not any(map(condition(field, one), rows))), None)
        if alone is not None:
            names = {str(field.read(row)).lower() for row in rows if field.read(row)} if field.parse is None else set()
            close = near_matches(alone.lower(), sorted(names))
            return f"none of {len(rows)} {table.name} has --{name} {alone}" + (f"; {close}" if close else "")
    return f"none of {len(rows)} {table.name} is like all of that at once"


def terminal_width() -> int | None:
    """Columns of the terminal, None where the output goes elsewhere and need not be cut."""
    if "COLUMNS" not in os.environ and not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def layout(fields: Sequence[Field], rows: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lines of a table, one for each row.

    Where the terminal is too narrow, the widest text is cut, then the next widest; figures never are.
    """
    units = [field.unit for field in fields]
    heads = [[field.name for field in fields], *([units] if any(units) else [])]
    widths = [max(len(line[column]) for line in [*heads, *rows]) for column in range(len(fields))]
    texts = [column for column, field in enumerate(fields) if field.parse is None]
    while width and texts and sum(widths) + _GAP * (len(widths) - 1) > width:
        widest = max(texts, key=widths.__getitem__)
        if widths[widest] <= _NARROWEST:
            break
        widths[widest] -= 1
    table = [_line(cells, widths, fields) for cells in [*heads, *rows]]
    return [*table[: len(heads)], (" " * _GAP).join("─" * w for w in widths), *table[len(heads) :]]


def _line(cells: Sequence[str], widths: Sequence[int], fields: Sequence[Field]) -> str:
    cut = [cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(cells, widths, strict=True)]
    aligned = [
        cell.ljust(width) if field.parse is None else cell.rjust(width)
        for cell, width, field in zip(cut, widths, fields, strict=True)
    ]
    return (" " * _GAP).join(aligned).rstrip()


def print_words(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table of text alone."""
    fields = [Field(name=heading, read=str) for heading in headings]
    click.echo("\n".join(layout(fields, list(rows), terminal_width())))


def print_one(table: Table, row: Any, more: Iterable[tuple[str, str, str]] = ()) -> None:
    """One row in full: every figure with its basis, the note, every source.

    Args:
        table: Its table.
        row: A device or CPU, with ``basis``, ``note`` and ``source``.
        more: Further figures as name, value, basis.
    """
    from rigwise.facts.catalogue import cited

    usual = row.basis.get("", "")
    figures = [
        (f.name, f"{f.show(value)} {f.unit}".rstrip(), str(row.basis.get(f.attribute, usual)) if f.parse else "")
        for f in table.fields
        if f.attribute and (value := f.read(row)) is not None
    ]
    print_words(["figure", "value", "basis"], [*figures, *more])
    for title, lines in (("note", [row.note] if row.note else []), ("source", cited(row.source))):
        for line in lines:
            click.echo(f"{title}: {line}")
