"""``rigwise run``: a command where a plan says, or an application; measured, and compared with the prediction."""

from __future__ import annotations

import contextlib
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rigwise.cli.case_options import case_options
from rigwise.cli.output import answer_options, print_json
from rigwise.cli.plot_option import draw, plot_option
from rigwise.cli.run_options import COMMAND_ONLY, command_options
from rigwise.errors import InvalidInputError
from rigwise.units import parse_count, parse_seconds

if TYPE_CHECKING:
    from rigwise.application.types import Application
    from rigwise.execute.stage import Limits

EXAMPLES = """\b
Examples:
  rigwise run plan.json -- python train.py
  rigwise run --model resnet18 --batch 32 -- python train.py
  rigwise run --on torchrun --count 2 -- python train.py
  rigwise run --resume last
  rigwise run app.toml --items 100
"""
_DURATION = "10s"


@click.command("run", epilog=EXAMPLES)
@click.argument("target", required=False, metavar="[PLAN.json | APP.toml]")
@click.argument("rest", nargs=-1, metavar="[-- COMMAND...]")
@command_options
@click.option("--items", help="APP: end after so many items of each source.")
@click.option("--duration", help="APP: end the sources after this time.  [10s, if no --items]")
@click.option("--simulate", is_flag=True, help="APP: components without a call sleep as long as they should take.")
@click.option("--alone", is_flag=True, help="APP: one call at a time: what each function costs by itself.")
@click.option("--call-limit", default="60s", show_default=True, help="APP: longest time of one call of a function.")
@click.option("--grace", help="Time to finish what is under way after a stop.  [30s; APP: 10s]")
@plot_option
@case_options
@answer_options
@click.pass_context
def command(
    context: click.Context, /, target: str | None, rest: tuple[str, ...], as_json: bool, quiet: bool, **flags: Any
) -> int:
    """Do it there, measure, compare with the prediction.

    Runs COMMAND where the plan says, or here, and starts it again after an interruption. Its steps are measured
    where its loop uses rigwise.monitor. MODEL and the flags below it say what to predict where there is no plan.
    Ctrl-C tells it to end; a second one ends it at once.

    With APP.toml it runs the functions that the components of an application name: call = "module:function", looked
    for in the current folder, then in that of the file.
    """
    from rigwise.cli.application import application_at

    application = application_at(target) if target and Path(target).suffix.lower() == ".toml" and not rest else None
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if application is None:
        from rigwise.cli.run_command import run_command

        limits = sorted(given & {"items", "duration", "simulate", "alone", "call_limit"})
        if limits:
            raise InvalidInputError(f"--{limits[0].replace('_', '-')} is for applications: rigwise run app.toml")
        return run_command(target, rest, flags, given, as_json=as_json, quiet=quiet)
    others = sorted((given & set(flags)) - {"items", "duration", "simulate", "alone", "call_limit", "grace"})
    if others:
        what = "a command" if others[0] in COMMAND_ONLY else "the steps of a command"
        raise InvalidInputError(f"--{others[0].replace('_', '-')} is for {what}, not for an application")
    keys = ("items", "duration", "grace", "call_limit", "alone")
    limits_given = {key: flags[key] for key in keys} | {"grace": flags["grace"] or "10s"}
    return _run_application(
        application,
        str(Path(target or "").parent),
        _limits(**limits_given),
        flags["simulate"],
        as_json=as_json,
        quiet=quiet,
    )


def _run_application(
    application: Application, folder: str, when: Limits, simulate: bool, *, as_json: bool, quiet: bool
) -> int:
    from rigwise.execute.application import run_application
    from rigwise.execute.comparison import compare

    prints = contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext()
    with prints:
        comparison = compare(run_application(application, when, folder=folder, simulate=simulate))
    from rigwise.execute.document import run_document

    document = run_document(comparison)
    draw(document, quiet=quiet or as_json)
    if as_json:
        print_json(document)
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
