"""``rigwise inspect``: what this machine is, from its files and drivers; nothing is changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rigwise.cli.machine_report import write_machine_report
from rigwise.cli.output import answer_options, print_json, write_output
from rigwise.cli.plot_option import draw, plot_option
from rigwise.cli.report_option import report_option
from rigwise.errors import InvalidInputError
from rigwise.units import HOUR_S, parse_seconds

LEAST_S = 0.1


class Seconds(click.ParamType):  # type: ignore[type-arg]  # generic only in newer click
    """A time, 5 or 5s or 2min, from 0.1 s to an hour."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse to seconds, or say which flag is wrong."""
        try:
            seconds = parse_seconds(value)
        except InvalidInputError as error:
            self.fail(str(error), param, ctx)
        if not LEAST_S <= seconds <= HOUR_S:
            self.fail(f"{value} is not between {LEAST_S:g} s and an hour", param, ctx)
        return seconds


EXAMPLES = """\b
Examples:
  rigwise inspect --save server.json
  rigwise predict resnet50 --device server.json
"""


@click.command("inspect", epilog=EXAMPLES)
@click.argument("snapshot", required=False, type=click.Path())
@click.option("--root", type=click.Path(), help="Read a captured tree in place of this machine.")
@click.option("--capture", type=click.Path(), metavar="DIR", help="Write what is read here as a tree for --root.")
@click.option("--save", type=click.Path(), metavar="FILE", help="Write the snapshot; other commands take it as DEVICE.")
@click.option("--all", "every", is_flag=True, help="Every field with its source and how far to trust it.")
@click.option("--wait", type=Seconds(), default="5s", show_default=True, help="A command that takes longer is ended.")
@plot_option
@report_option("Write a self-contained HTML page: what it is, what is wrong, what could stand there instead.")
@answer_options
def command(
    *,
    snapshot: str | None,
    root: str | None,
    capture: str | None,
    save: str | None,
    every: bool,
    wait: float,
    as_json: bool,
    quiet: bool,
) -> int:
    """What this machine is: CPU, memory, GPUs, links, disks, network, software, limits.

    With SNAPSHOT, a machine that was saved before. Needs no rights and changes nothing.
    """
    from rigwise.machine.inspect import inspect
    from rigwise.machine.probe.source import Root, open_root
    from rigwise.machine.snapshot import document, read_snapshot, snapshot_text

    if sum(bool(given) for given in (snapshot, root, capture)) > 1:
        raise InvalidInputError("give one of SNAPSHOT, --root and --capture", hint="each is another machine to read")
    if snapshot:
        found = read_snapshot(snapshot)
    else:
        here = Root(record=_empty(capture) if capture else None, limit_s=wait)
        found = inspect(open_root(root) if root else here)
    if save:
        write_output(save, snapshot_text(found), quiet=quiet or as_json)
    draw(document(found), quiet=quiet or as_json)
    write_machine_report(found, snapshot or ("" if root else "this"), quiet=quiet or as_json)
    if as_json:
        print_json(document(found))
        return 0
    from rigwise.report.inspect_text import all_fields_text, inspect_text

    click.echo(all_fields_text(found) if every else inspect_text(found, brief=quiet), nl=False)
    return 0


def _empty(folder: str) -> Path:
    """The place of a new tree.

    Raises:
        InvalidInputError: There is something already, or it cannot be made.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            raise InvalidInputError(f"{place} is not empty", hint="name a folder that is not there yet")
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{place} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return place.resolve()
