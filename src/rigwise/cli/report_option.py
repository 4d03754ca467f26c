"""``--report FILE.html``: the answer as one page to give away.

The place is checked before anything is computed. A page names no folder of its writer and no password: what lies
below the current folder or the home folder is named from there.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from rigwise.cli.output import write_output
from rigwise.errors import InvalidInputError

F = TypeVar("F", bound=Callable[..., Any])

_FILE = "rigwise.report"
_ENDINGS = (".html", ".htm")
#: A password in a URL, and the name of a flag that holds one.
_IN_URL = re.compile(r"(?<=://)[^/@\s]+@")
_SECRET_FLAG = re.compile(r"--?[\w-]*(token|password|passwd|secret|credential|api-?key)[\w-]*", re.IGNORECASE)
_HIDDEN = "..."


def report_option(help_text: str) -> Callable[[F], F]:
    """``--report``, which no function takes as a parameter.

    Args:
        help_text: What the page is of.
    """
    return click.option("--report", metavar="FILE.html", help=help_text, expose_value=False, callback=checked_report)


def checked_report(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a place that cannot be written to, and keep the name.

    Raises:
        InvalidInputError: It is no ``.html`` file in a folder that can be written to.
        MissingExtraError: What draws is not installed.
    """
    del parameter
    if value is not None:
        from rigwise.edge import check_writable
        from rigwise.report.figures.save import vl_convert

        if Path(value).suffix.lower() not in _ENDINGS:
            raise InvalidInputError(f"--report {value} does not end in .html", hint="the report is one HTML page")
        check_writable(value, "--report")
        vl_convert()
    context.meta[_FILE] = value
    return value


def is_report_asked() -> bool:
    """Whether ``--report`` was given."""
    return click.get_current_context().meta.get(_FILE) is not None


def write_report(make: Callable[[str], str], *, quiet: bool) -> None:
    """Write the page that ``make`` makes of the command line, if one was asked for.

    Raises:
        InvalidInputError: The file cannot be written.
    """
    path = click.get_current_context().meta.get(_FILE)
    if path is not None:
        write_output(path, without_folders(make(command_line())), quiet=quiet)


def without_report(what: str) -> None:
    """Refuse ``--report`` for something that has none.

    Raises:
        InvalidInputError: It was given.
    """
    if is_report_asked():
        raise InvalidInputError(f"--report cannot show {what}", hint="leave it out, or use --json")


def command_line(words: Sequence[str] | None = None) -> str:
    """The command as it can be pasted into a shell, without passwords and names of the writer's folders.

    >>> command_line(["plan", "job.toml", "--budget", "$100", "--token", "abc"])
    "rigwise plan job.toml --budget '$100' --token ..."
    """
    shown, hide = ["rigwise"], False
    for word in sys.argv[1:] if words is None else words:
        name, equals, _ = word.partition("=")
        if hide:
            shown.append(_HIDDEN)
        elif equals and _SECRET_FLAG.fullmatch(name):
            shown.append(f"{name}={_HIDDEN}")
        else:
            shown.append(_placed(word))
        hide = not hide and not equals and bool(_SECRET_FLAG.fullmatch(word))
    return " ".join(shown)


def _placed(word: str) -> str:
    """One word, quoted; a place below the current folder or the home folder from there."""
    flag, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
    value = _IN_URL.sub(f"{_HIDDEN}@", value)
    for folder, name in ((Path.cwd(), ""), (Path.home(), '"$HOME"/')):
        start = f"{folder}{os.sep}"
        if len(start) > 2 and value.startswith(start):
            return f"{flag}{equals}{name}{shlex.quote(value[len(start) :])}"
    return shlex.quote(flag + equals + value)


def without_folders(text: str) -> str:
    """The text with ``~`` for the user's home folder, and with what lies below the current folder named from there."""
    home, here = str(Path.home()), f"{Path.cwd()}{os.sep}"
    if here not in (os.sep, f"{home}{os.sep}"):
        text = re.sub(rf"(?<![\w.-]){re.escape(here)}", "", text)
    return re.sub(rf"(?<![\w.-]){re.escape(home)}(?=[/\\\s\"'<&]|$)", "~", text) if len(home) > 1 else text
