"""``rigwise run PLAN --on skypilot|dstack``: files first, money only with ``--yes``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.output import print_json
from rigwise.edge import parse_json, read_text
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.launch.asked import Asked
    from rigwise.launch.folder import State

SCHEMA = "rigwise.run.files/1"


def rent(
    plan: str | None, rank: int, asked: Asked, command: Sequence[str], *, yes: bool, as_json: bool
) -> tuple[Path, State] | None:
    """Write the files; with ``yes`` a run that is ready to start, else what was written is shown.

    Raises:
        InvalidInputError: There is no plan, or the program is not installed.
        RunError: The program refuses the files.
    """
    from rigwise.launch import cloud

    if plan is None:
        raise InvalidInputError(f"--on {asked.on} needs a plan", hint="rigwise plan ... --json > plan.json")
    if yes:
        cloud.require(asked.on)
    rented = cloud.prepare(asked.on, parse_json(read_text(plan), plan), plan, rank, command)
    if yes:
        return _ready(asked, rented, command)
    said = cloud.check(asked.on, rented)
    if as_json:
        files = {name: read_text(rented.folder / name) for name in rented.files}
        document: dict[str, Any] = {"schema": SCHEMA, "on": asked.on, "folder": str(rented.folder), "files": files}
        print_json({**document, "command": list(rented.command), "level": rented.level, "checked": said})
    else:
        click.echo(f"{rented.folder}: {', '.join(rented.files)}")
        click.echo(f"{said} Verified by us: {rented.level}.")
        if rented.secrets:
            click.echo(f"The job needs {', '.join(rented.secrets)}; the values are in no file.")
        click.echo(f"Nothing was started. --yes starts: {shlex.join(rented.command)}")
    return None


def _ready(asked: Asked, rented: Any, command: Sequence[str]) -> tuple[Path, State]:
    import os
    from dataclasses import replace

    from rigwise.launch.folder import State, new_folder, write_state
    from rigwise.launch.secrets import hidden, secrets_of

    folder = new_folder()
    shown, secrets = hidden(command, secrets_of(os.environ))
    state = State(
        id=folder.name, command=shown, secrets=secrets, started=rented.command, cwd=str(Path.cwd()), on=asked.on,
        ranks=asked.ranks, nodes=asked.nodes, plan=dict(asked.plan), notes=asked.notes,
    )  # fmt: skip
    state = replace(state, notes=(*state.notes, f"Steps were measured there; {rented.name} prints them in the log."))
    write_state(folder, state)
    print(f"rigwise: money is spent while {rented.name} runs", file=sys.stderr)
    return folder, state
