"""``rigwise run PLAN -- COMMAND``: start it, follow it, say how it went."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.output import print_json
from rigwise.cli.plot_option import draw
from rigwise.cli.run_options import COMMAND_ONLY
from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.units import parse_seconds

if TYPE_CHECKING:
    from rigwise.launch.asked import Asked
    from rigwise.launch.folder import State
    from rigwise.launch.result import Result

#: Parameters that go with a plan; all others say what a plan says already.
_BESIDE_A_PLAN = COMMAND_ONLY - {"model"} | {"threads", "target", "rest", "grace", "as_json", "quiet"}


def run_command(
    target: str | None, rest: Sequence[str], flags: dict[str, Any], given: set[str], *, as_json: bool, quiet: bool
) -> int:
    """Run what the words ask for.

    Args:
        target: The first word: a plan, or the first of the command.
        rest: The others.
        flags: All flags.
        given: Names of those that were given.
        as_json: Print one document.
        quiet: Print the answer only.
    """
    from rigwise.launch.folder import find_folder, held, read_state

    if flags["resume"]:
        others = sorted(given - {"resume", "as_json", "quiet", "is_kept"})
        if others:
            raise InvalidInputError(
                f"--resume goes on with a run as it was: --{others[0].replace('_', '-')} is too much"
            )
        folder = find_folder(flags["resume"])
        state = read_state(folder)
    else:
        asked, command = _asked(target, list(rest), flags, given)
        if asked.on in ("skypilot", "dstack"):
            from rigwise.cli.run_cloud import rent

            plan = target if asked.plan else None
            rented = rent(plan, flags["rank"], asked, command, yes=flags["yes"], as_json=as_json)
            if rented is None:
                return 0
            folder, state = rented
        else:
            folder, state = _prepared(asked, command, flags)
    with held(folder):
        return _follow(folder, state, is_kept=flags["is_kept"], as_json=as_json, quiet=quiet)


def _asked(target: str | None, rest: list[str], flags: dict[str, Any], given: set[str]) -> tuple[Asked, list[str]]:
    """What to run, and its command."""
    from rigwise.launch.asked import Asked, from_plan, is_plan

    if target and is_plan(target):
        beside = sorted(given - _BESIDE_A_PLAN)
        if beside:
            raise InvalidInputError(
                f"the plan says the {beside[0].replace('_', ' ')}", hint="plan again, or leave it out"
            )
        if not rest:
            raise InvalidInputError("there is no command", hint=f"rigwise run {target} -- python train.py")
        asked = from_plan(target, flags["rank"], flags["on"], flags["device"])
        return _with_threads(asked, rest, flags), rest
    if target is None:
        raise InvalidInputError("there is nothing to run", hint="rigwise run PLAN.json -- python train.py")
    if "rank" in given:
        raise InvalidInputError("--rank goes with a plan", hint="rigwise plan ... --json > plan.json")
    if target.endswith(".toml"):
        hint = f"a job is planned first: rigwise plan {target} --json > plan.json; an application is run alone"
        raise InvalidInputError(f"{target} is no plan", hint=hint)
    names = ("model", "task", "batch", "seq", "dtype")
    if not flags["model"] and (unused := [name for name in names if name in given]):
        raise InvalidInputError(f"--{unused[0]} goes with --model", hint="it says what to predict")
    from rigwise.cli.case_options import case_from

    of_the_case = {name: value for name, value in flags.items() if name not in COMMAND_ONLY}
    case = case_from(flags["model"] or "", flags["device"] or "this", of_the_case)
    on = flags["on"] or "local"
    asked = Asked(case=case if flags["model"] else None, on=on, ranks=case.count, nodes=case.nodes)
    return _with_threads(asked, [target, *rest], flags), [target, *rest]


def _with_threads(asked: Asked, command: list[str], flags: dict[str, Any]) -> Asked:
    from rigwise.launch.asked import here_together

    return here_together(asked, command, os.environ, threads=flags["threads"], words=flags["words"])


def _prepared(asked: Asked, command: Sequence[str], flags: dict[str, Any]) -> tuple[Path, State]:
    from rigwise.launch.start import How, prepare

    predicted: dict[str, Any] = {}
    if asked.case is not None:
        from rigwise.edge import as_plain
        from rigwise.estimate.predict import predict, predict_document

        predicted = as_plain(predict_document(predict(asked.case)))
    how = How(
        restarts=flags["restarts"],
        grace_s=parse_seconds(flags["grace"] or "30s"),
        back_off_s=parse_seconds(flags["back_off"]),
        checkpoint_s=parse_seconds(flags["checkpoint"]) if flags["checkpoint"] else None,
        words=tuple(flags["words"]),
        address=flags["address"],
        trace_steps=flags["trace"],
    )
    return prepare(command, asked, how, predicted)


def _follow(folder: Path, state: State, *, is_kept: bool, as_json: bool, quiet: bool) -> int:
    from rigwise.launch.folder import FINISHED
    from rigwise.launch.launcher import Launcher
    from rigwise.launch.power import sampling
    from rigwise.launch.result import result_of

    told = 0
    energy: dict[str, Any] = {}
    if state.phase != FINISHED:
        if not quiet:
            print(f"rigwise: run {state.id} on {state.on}; its folder is {folder}", file=sys.stderr, flush=True)
        launcher = Launcher(folder, state, _output(as_json=as_json, quiet=quiet))
        with sampling(state.on) as energy:
            state = launcher.run()
        told = launcher.told
    elif not quiet:
        is_kept = False
        print(f"rigwise: run {state.id} has finished; this is what it found", file=sys.stderr)
    result = result_of(folder, state, energy)
    if is_kept and result.measured.steps and state.phase == FINISHED:
        result = replace(result, kept=_keep(folder, result, quiet=quiet or as_json))
    code = _print(result, told, as_json=as_json, quiet=quiet)
    if not quiet:
        _say_traces(folder, state)
    return code


def _say_traces(folder: Path, state: State) -> None:
    """Where the recorded steps lie, where some were asked for."""
    from rigwise.launch.tracing import TRACE, traces

    if TRACE not in state.environment:
        return
    found = traces(folder)
    words = f"rigwise trace {found[-1]}" if found else "no step was recorded: its loop must use rigwise.monitor"
    print(f"rigwise: {words}", file=sys.stderr)


def _output(*, as_json: bool, quiet: bool) -> Any:
    """Where the output of the command goes: past the answer."""
    if quiet:
        return lambda text: None
    stream = sys.stderr.buffer if as_json else sys.stdout.buffer

    def show(text: bytes) -> None:
        stream.write(text)
        stream.flush()

    return show


def _keep(folder: Path, result: Result, *, quiet: bool) -> int:
    """Put the figures into the store; a store that cannot be had costs one line, not the answer."""
    from rigwise.edge import read_text
    from rigwise.launch import keep
    from rigwise.machine.inspect import inspect
    from rigwise.machine.snapshot import snapshot_text

    if os.environ.get("RIGWISE_STORE") == "none":
        return 0
    try:
        from rigwise.measurement.store import open_store

        elsewhere = folder / "snapshot.json"
        if result.state.on in ("slurm", "ray") and not elsewhere.exists():
            return 0
        snapshot = read_text(elsewhere) if elsewhere.exists() else snapshot_text(inspect())
        with open_store() as store:
            return store.add(keep.records(result, snapshot))
    except RigwiseError as error:
        if not quiet:
            print(f"rigwise: not kept for rigwise history: {error}", file=sys.stderr)
        return 0


def _print(result: Result, told: int, *, as_json: bool, quiet: bool) -> int:
    """The answer, and the exit code that it means."""
    from rigwise.launch.folder import FINISHED, INTERRUPTED, LOST
    from rigwise.launch.result import run_document

    state, document = result.state, run_document(result)
    if result.measured.steps:
        draw(document, quiet=quiet or as_json)
    if as_json:
        print_json(document)
    else:
        from rigwise.report.run_text import command_text

        text = command_text(result, brief=quiet)
        click.echo(text if quiet else f"\n{text}", nl=False)
    if state.phase == FINISHED:
        return 0
    words = state.message or state.phase
    print(f"rigwise: {words}; rigwise run --resume {state.id} goes on", file=sys.stderr)
    if told and state.phase in (INTERRUPTED, LOST):
        return 128 + told
    return 1
