"""``rigwise bench --fleet``: the suite on many nodes at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rigwise.cli.output import print_json, write_output
from rigwise.errors import InvalidInputError, RigwiseError

if TYPE_CHECKING:
    from rigwise.bench.suite import Request
    from rigwise.measurement.records import Record

F = TypeVar("F", bound=Callable[..., Any])

_CLEAR = "\r\x1b[K"


def fleet_options(function: F) -> F:
    """The flags that say which nodes and how long they may take; the command gets them as ``**fleet``."""
    for option in reversed(
        (
            click.option(
                "--fleet", metavar="NODES", help="On many nodes: local:4, ray, ray:ADDRESS, slurm, slurm:PARTITION:8."
            ),
            click.option("--start-limit", metavar="TIME", help="How long a node may take to start.  [default: 10min]"),
            click.option("--benchmark-limit", metavar="TIME", help="How long one benchmark may take on a node."),
            click.option("--node-limit", metavar="TIME", help="How long a node may take once it has started."),
            click.option("--shared", metavar="FOLDER", type=click.Path(), help="A folder that Slurm's nodes see too."),
            click.option(
                "--confirm/--no-confirm", default=None, help="Measure again what looks odd.  [default: confirm]"
            ),
        )
    ):
        function = option(function)
    return function


def disk_folder(folder: str | None, fleet: Mapping[str, Any]) -> str:
    """Where the disk is tested if nothing is said: here, and on a node of a fleet where its temporary files are.

    Raises:
        InvalidInputError: Flags of a fleet were given, and none of a fleet's nodes.
    """
    given = [name for name, value in fleet.items() if name != "fleet" and value is not None]
    if given and fleet["fleet"] is None:
        raise InvalidInputError(f"--{given[0].replace('_', '-')} goes with --fleet", hint="--fleet local:4")
    return folder or ("." if fleet["fleet"] is None else "")


def answer(
    suite: Request, fleet: Mapping[str, Any], *, save: str | None, is_kept: bool, as_json: bool, quiet: bool
) -> int:
    """Measure the nodes, print the answer, return the exit code.

    Raises:
        InvalidInputError: The nodes or a limit cannot be understood.
        MissingExtraError: Ray is not installed.
        RunError: The cluster cannot be reached.
    """
    from rigwise.bench.fleet import FleetRequest, run_fleet
    from rigwise.bench.fleet_place import fleet_place
    from rigwise.bench.node_ledger import limits_of
    from rigwise.report.fleet_text import document, fleet_text
    from rigwise.units import parse_seconds

    if save and not save.endswith(".json"):
        raise InvalidInputError(f"--save {save} does not end in .json", hint="rigwise history --export has tables")
    names = {"start_s": "start_limit", "benchmark_s": "benchmark_limit", "node_s": "node_limit"}
    seconds = {key: parse_seconds(fleet[name]) if fleet[name] else None for key, name in names.items()}
    request = FleetRequest(
        place=fleet_place(fleet["fleet"], fleet["shared"] or "."),
        suite=suite,
        limits=limits_of(seconds, quick=suite.quick),
        confirm=fleet["confirm"] is not False,
    )
    is_shown = sys.stderr.isatty() and not quiet
    with ExitStack() as stack:
        keep = _keeper(stack, quiet=quiet or as_json) if is_kept else lambda records: None
        report = run_fleet(request, keep, _shown if is_shown else lambda ended, of, words: None)
    if is_shown:
        sys.stderr.write(_CLEAR)
    if save:
        import json

        write_output(save, json.dumps(document(report), indent=1, allow_nan=False) + "\n", quiet=quiet or as_json)
    if as_json:
        print_json(document(report))
    else:
        click.echo(fleet_text(report, brief=quiet, is_kept=is_kept), nl=False)
    return 130 if report.interrupted else 1 if report.bad else 0


def _keeper(stack: ExitStack, *, quiet: bool) -> Callable[[Sequence[Record]], None]:
    """Puts records into the store; a store that cannot be had or is full costs one line, not the answer."""
    if os.environ.get("RIGWISE_STORE") == "none":
        return lambda records: None
    faults: list[str] = []

    def failed(error: RigwiseError) -> None:
        faults.append(str(error))
        if not quiet:
            print(f"not kept for rigwise history: {error}", file=sys.stderr)

    try:
        from rigwise.measurement.store import open_store

        store = stack.enter_context(open_store())
    except RigwiseError as error:
        failed(error)

    def keep(records: Sequence[Record]) -> None:
        if faults:
            return
        try:
            store.add(records)
        except RigwiseError as error:
            failed(error)

    return keep


def _shown(ended: int, of: int, words: str) -> None:
    """How many nodes have ended and what was heard last, on one line that is written over."""
    sys.stderr.write(f"{_CLEAR}{ended} of {of} nodes; {words}"[:79])
    sys.stderr.flush()
