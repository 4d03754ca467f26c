"""``rigwise run app.toml``: execute an application and compare with the prediction."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rigwise.cli.output import answer_options, print_json
from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.units import parse_count, parse_seconds

if TYPE_CHECKING:
    from rigwise.execute.stage import Limits

_DURATION = "10s"


@click.command("run")
@click.argument("target", metavar="APP.toml")
@click.argument("rest", nargs=-1, metavar="")
@click.option("--items", help="End after so many items of each source.")
@click.option("--duration", help="End the sources after this time and finish what is under way.  [10s, if no --items]")
@click.option("--simulate", is_flag=True, help="Components without a call sleep as long as they should take.")
@click.option("--alone", is_flag=True, help="One call at a time: what each function costs by itself.")
@click.option("--grace", default="10s", show_default=True, help="Time to finish what is under way after a stop.")
@click.option("--call-limit", default="60s", show_default=True, help="Longest time of one call of a function.")
@answer_options
def command(
    target: str, rest: tuple[str, ...], simulate: bool, as_json: bool, quiet: bool, **limits: str | bool | None
) -> int:
    """Do it there, measure, compare with the prediction.

    Runs the functions that the components of an application name: call = "module:function", looked for in the
    current folder, then in that of the file. Ctrl-C ends the sources and reports; a second one stops at once.
    """
    from rigwise.cli.application import application_at

    application = application_at(target) if Path(target).suffix.lower() == ".toml" and not rest else None
    if application is None:
        raise UnsupportedError(
            f"{' '.join((target, *rest))[:200]}: only applications are run so far",
            hint="give a .toml file with [component.NAME] tables: rigwise run app.toml",
        )
    from rigwise.execute.application import run_application
    from rigwise.execute.comparison import compare

    when = _limits(**limits)  # type: ignore[arg-type]
    prints = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    with prints:
        folder = str(Path(target).parent)
        comparison = compare(run_application(application, when, folder=folder, simulate=simulate))
    if as_json:
        from rigwise.execute.document import run_document

        print_json(run_document(comparison))
    else:
        from rigwise.report.running import run_text

        click.echo(run_text(comparison, brief=quiet), nl=False)
    return _exit_code(comparison.run.measured.signal)


def _limits(*, items: str | None, duration: str | None, grace: str, call_limit: str, alone: bool) -> Limits:
    from rigwise.execute.stage import Limits

    most = None if items is None else parse_count(items)
    if most is not None and (most < 1 or most != int(most)):
        raise InvalidInputError(f"--items is {items}", hint="give a whole number of 1 or more")
    time = duration or (None if most else _DURATION)
    seconds = {
        name: parse_seconds(text)
        for name, text in (("duration", time), ("grace", grace), ("call-limit", call_limit))
        if text is not None
    }
    for name, value in seconds.items():
        if not 0 < value <= 366 * 86400:
            raise InvalidInputError(f"--{name} is {value:g} s", hint="give a time above 0, up to a year")
    return Limits(
        items=None if most is None else int(most),
        duration_s=seconds.get("duration"),
        grace_s=seconds["grace"],
        call_s=seconds["call-limit"],
        one_at_a_time=alone,
    )


def _exit_code(number: int) -> int:
    """As a shell says it for a program that a signal ended; 0 if none came."""
    if not number:
        return 0
    print("rigwise: interrupted" if number == signal.SIGINT else "rigwise: terminated", file=sys.stderr)
    return 128 + number
