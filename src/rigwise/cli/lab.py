"""``rigwise lab``: notebooks that teach one idea each, and the path of a hundred days."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rigwise.cli.actions import Actions
from rigwise.cli.inspect import Seconds
from rigwise.cli.output import answer_options, console, print_json, write_output
from rigwise.errors import InvalidInputError, MissingExtraError, RunError

if TYPE_CHECKING:
    from rigwise.labs.notebook import Lab

F = TypeVar("F", bound=Callable[..., Any])

EXAMPLES = """\b
Examples:
  rigwise lab                      start JupyterLab with the notebooks
  rigwise lab list
  rigwise lab open 1
  rigwise lab check 1              run it without a browser
  rigwise lab progress --done 1
"""
#: The extra that brings a module which labs need.
_EXTRAS = {"PIL": "bench", "altair": "plot", "torch": "torch"}


def _folder_option(function: F) -> F:
    return click.option(
        "--folder", metavar="DIR", help="Where the notebooks are.  [default: rigwise-labs in your home]"
    )(function)


def _serving(function: F) -> F:
    """Options of what starts a server."""
    function = click.option("--debug", is_flag=True, help="Show the traceback of an error.", expose_value=False)(
        function
    )
    function = click.option("--allow-root", is_flag=True, help="Let root run notebooks, in a container for example.")(
        function
    )
    function = click.option(
        "--port", metavar="N", type=click.IntRange(1024, 65535), default=8888, show_default=True, help="On loopback."
    )(function)
    return _folder_option(function)


@click.group("lab", cls=Actions, invoke_without_command=True, epilog=EXAMPLES, subcommand_metavar="[ACTION]")
@_serving
@click.pass_context
def command(context: click.Context, /, *, folder: str | None, port: int, allow_root: bool) -> int:
    """Ten notebooks that teach one idea each, measured on your own machine.

    Without an action it starts JupyterLab on loopback, behind a password that it asks for once, and
    TLS. A notebook that is there already is never written over.
    """
    if context.invoked_subcommand:
        if folder is not None or port != 8888 or allow_root:
            raise click.UsageError(f"options stand after {context.invoked_subcommand}, not before it")
        return 0
    return _serve(folder, None, port, allow_root=allow_root)


@command.command("open")
@click.argument("number", metavar="N", type=int)
@_serving
def open_command(*, number: int, folder: str | None, port: int, allow_root: bool) -> int:
    """Start JupyterLab at lab N."""
    from rigwise.labs.shelf import lab

    asked = lab(number)
    _check_modules(asked)
    return _serve(folder, asked, port, allow_root=allow_root)


@command.command("list")
@answer_options
def list_command(*, as_json: bool, quiet: bool) -> int:
    """The labs, what each asks, and what you have solved."""
    from rigwise.labs import progress
    from rigwise.labs.text import list_document, list_lines

    kept = progress.read()
    if as_json:
        print_json(list_document(kept))
        return 0
    for line in list_lines(kept, console().width - 1):
        click.echo(line)
    if not quiet:
        click.echo("\nrigwise lab open 1 starts the first; rigwise lab progress has the path of a hundred days.")
    return 0


@command.command("check")
@click.argument("number", metavar="N", type=int)
@_folder_option
@click.option("--fresh", is_flag=True, help="The lab as it comes, not your notebook.")
@click.option("--output", metavar="FILE.ipynb", help="Keep the notebook with what it printed and drew.")
@click.option("--timeout", type=Seconds(), default="5min", show_default=True, help="For one cell.")
@answer_options
def check_command(
    *,
    number: int,
    folder: str | None,
    fresh: bool,
    output: str | None,
    timeout: float,
    as_json: bool,
    quiet: bool,
) -> int:
    """Run the notebook of lab N, and say which answers are right.

    Your notebook is run if there is one, and is not changed. Exit code 1 if a cell fails or an answer
    is wrong; an exercise without an answer is no fault.
    """
    from rigwise.labs.execute import execute
    from rigwise.labs.learner import WRONG
    from rigwise.labs.shelf import lab
    from rigwise.labs.text import check_document

    asked = lab(number)
    _check_modules(asked)
    text, file = _notebook_of(asked, folder, fresh=fresh)
    if output is not None and not Path(output).absolute().parent.is_dir():
        raise InvalidInputError(f"--output {output}: there is no folder {Path(output).parent}")
    if not (quiet or as_json):
        print(f"running {file or f'lab {number} as it comes'} ...", file=sys.stderr)
    ran = execute(text, file.parent if file else Path.cwd(), timeout_s=timeout)
    document = check_document(asked, ran, file)
    if output is not None:
        write_output(output, ran.document, quiet=quiet or as_json)
    if as_json:
        print_json(document)
    else:
        for name, state in document["exercises"].items():
            click.echo(f"{name}  {state}")
        if not ran.fault:
            click.echo(f"lab {number} ran to its end in {ran.wall_s:.1f} s")
    if ran.fault and not as_json:
        raise RunError(f"lab {number} stopped at {ran.fault}")
    return 1 if ran.fault or WRONG in document["exercises"].values() else 0


@command.command("progress")
@click.option("--done", type=int, metavar="DAY", help="Note a day as done.")
@click.option("--undo", type=int, metavar="DAY", help="Take it back.")
@click.option("--day", "shown", type=int, metavar="DAY", help="Show one day.")
@click.option("--reset", is_flag=True, help="Start anew; what was kept is put aside.")
@answer_options
def progress_command(
    *, done: int | None, undo: int | None, shown: int | None, reset: bool, as_json: bool, quiet: bool
) -> int:
    """The hundred days: what is done, and what comes next. Kept on this machine only."""
    from rigwise.labs import progress
    from rigwise.labs.path import day
    from rigwise.labs.text import day_lines, progress_document, progress_lines

    given = [name for name, value in (("done", done), ("undo", undo), ("day", shown)) if value is not None]
    if len(given) + reset > 1:
        raise click.UsageError("give one of --done, --undo, --day and --reset")
    for number in (done, undo, shown):
        if number is not None:
            day(number)
    if reset:
        aside = progress.reset()
        if not quiet:
            print(f"put aside as {aside}" if aside else "nothing was kept yet", file=sys.stderr)
    if done is not None:
        kept = progress.done(done)
    elif undo is not None:
        kept = progress.undo(undo)
    else:
        kept = progress.read()
    if as_json:
        print_json(progress_document(kept))
        return 0
    width = console().width - 1
    for line in day_lines(shown, width) if shown is not None else progress_lines(kept, width):
        click.echo(line)
    return 0


def _serve(folder: str | None, lab: Lab | None, port: int, *, allow_root: bool) -> int:
    """Write what is missing and become JupyterLab."""
    from rigwise.labs.server import home_folder, lay_out, prepare
    from rigwise.labs.shelf import labs
    from rigwise.labs.text import missing_modules

    place = Path(folder).expanduser() if folder else home_folder()
    start = prepare(place, lab, port, allow_root=allow_root)
    written = lay_out(place)
    print(f"{len(written)} notebooks written to {place}" if written else f"notebooks in {place}", file=sys.stderr)
    if not start.has_password and sys.stdin.isatty():
        print("Choose a password of at least 12 characters; only its hash is kept.", file=sys.stderr)
    for module in () if lab else sorted({name for one in labs() for name in missing_modules(one)}):
        print(f"Some labs need {module}: {MissingExtraError(module, _EXTRAS.get(module, 'lab')).hint}", file=sys.stderr)
    print(f"Open {start.url} (the certificate is this machine's own: the browser asks once).", file=sys.stderr)
    print("Ctrl-C twice ends it.", file=sys.stderr)
    sys.stderr.flush()
    try:
        os.execvpe(start.command[0], start.command, start.environment)
    except OSError as error:
        raise RunError(f"{start.command[0]} cannot be started: {error.strerror}") from None


def _check_modules(lab: Lab) -> None:
    from rigwise.labs.text import missing_modules

    for module in missing_modules(lab):
        raise MissingExtraError(module, _EXTRAS.get(module, "lab"))


def _notebook_of(lab: Lab, folder: str | None, *, fresh: bool) -> tuple[str, Path | None]:
    """The learner's notebook if there is one, else the lab as it comes."""
    from rigwise.edge import read_text
    from rigwise.labs.notebook import notebook
    from rigwise.labs.server import home_folder, notebook_path

    place = Path(folder).expanduser() if folder else home_folder()
    if folder and not place.is_dir():
        raise InvalidInputError(f"there is no folder {folder}")
    file = notebook_path(lab, place)
    if fresh or not file.exists():
        return notebook(lab), None
    return read_text(file), file
