"""What every command shares: ``--json``, ``--quiet``, ``--debug``, tables and files."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rigwise.edge import as_plain, write_atomically

if TYPE_CHECKING:
    from rich.console import Console

F = TypeVar("F", bound=Callable[..., Any])
#: Letters that a column of words keeps on the narrowest terminal.
_LEAST_COLUMN = 8


def answer_options(function: F) -> F:
    """Options of every command that answers."""
    function = click.option("--debug", is_flag=True, help="Show the traceback of an error.", expose_value=False)(
        function
    )
    function = click.option("--quiet", is_flag=True, help="Print the answer only.")(function)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(function)


def json_bytes(document: Any, *, indent: int | None = None) -> bytes:
    """A document, strictly JSON, in UTF-8; a byte of a file's name that is none stands as an escape."""
    text = json.dumps(as_plain(document), indent=indent, allow_nan=False, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace")


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """One document on stdout, strictly JSON."""
    sys.stdout.buffer.write(json_bytes(document, indent=indent) + b"\n")
    sys.stdout.flush()


def console() -> Console:
    """A terminal writer that sends no escape codes into a pipe or under NO_COLOR."""
    import os

    from rich.console import Console

    plain = "NO_COLOR" in os.environ or not sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=False, no_color=plain, force_terminal=False if plain else None)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[str] = (), title: str = ""
) -> None:
    """A table that keeps to the width of the terminal; on a very narrow one it is wider, rather than without its words.

    Args:
        columns: Headings; columns of numbers are never cut, others to no less than 8 letters.
        rows: Cells as text, one sequence for each row.
        right: Headings of columns of numbers, aligned to the right.
        title: A line above the table.
    """
    from rich import box
    from rich.table import Table

    aligned, cells = set(right), [tuple(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for place, name in enumerate(columns):
        is_number, widest = name in aligned, max(map(len, (name, *(row[place] for row in cells))))
        table.add_column(
            name,
            justify="right" if is_number else "left",
            overflow="ellipsis",
            no_wrap=is_number,
            min_width=widest if is_number else min(widest, _LEAST_COLUMN),
        )
    for row in cells:
        table.add_row(*row)
    writer = console()
    least = writer.measure(table, options=writer.options.update(width=10_000)).minimum
    writer.width = max(writer.width, least)
    writer.print(table)


def write_output(path: str, content: str | bytes, *, quiet: bool) -> None:
    """Write a file that the user asked for and say so on stderr."""
    write_atomically(path, content)
    if not quiet:
        print(f"wrote {path}", file=sys.stderr)
