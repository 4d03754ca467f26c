"""From what is asked to a run that is ready to start; everything that can be refused is refused here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.launch import slurm
from rigwise.launch.asked import CLOUDS, THREADS, Asked, case_document
from rigwise.launch.commands import by_torchrun, check_command, check_port, check_torch, starts_ranks
from rigwise.launch.folder import State, new_folder, write_state
from rigwise.launch.secrets import hidden, secrets_of
from rigwise.launch.steps import CHECKPOINT
from rigwise.launch.tracing import MOST_STEPS, TRACE

_RESTARTS_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """How a run is started and kept going.

    Attributes:
        restarts: How often it may be started again after an interruption.
        grace_s: Between SIGTERM and SIGKILL.
        back_off_s: Before the first restart; doubles with each.
        checkpoint_s: Work between two checkpoints; None takes the plan's.
        words: Further words for the place: of ``sbatch``.
        address: Of a Ray cluster; empty starts one here.
        trace_steps: That the monitor records with PyTorch's profiler; 0 for none.
    """

    restarts: int = 3
    grace_s: float = 30.0
    back_off_s: float = 1.0
    checkpoint_s: float | None = None
    words: tuple[str, ...] = ()
    address: str = ""
    trace_steps: int = 0


def prepare(command: Sequence[str], asked: Asked, how: How, predicted: dict[str, Any]) -> tuple[Path, State]:
    """A folder with the state of a run that has not started.

    Raises:
        InvalidInputError: The command cannot be started, or the place refuses it.
        RunError: The place cannot be reached.
        MissingExtraError: What the place needs is not installed.
    """
    _check(how, asked)
    if not command:
        raise InvalidInputError("there is no command to run", hint="rigwise run PLAN.json -- python train.py")
    if asked.on not in CLOUDS:
        check_command(command)
    notes = list(asked.notes)
    if asked.on in ("local", "torchrun") and (words := check_torch(command)):
        notes.append(f"{words[0].upper()}{words[1:]}.")
    started, on = _started(list(command), asked, how)
    if asked.on == "slurm":
        slurm.available()
    own = secrets_of(os.environ)
    (shown, used), (started_shown, more) = hidden(command, own), hidden(started, own)
    place_words, others = hidden((how.address, *how.words), own)
    every_s = how.checkpoint_s or asked.checkpoint_s
    environment = {CHECKPOINT: f"{every_s:.6g}"} if every_s else {}
    if how.trace_steps:
        environment[TRACE] = str(how.trace_steps)
    if asked.threads and asked.on not in CLOUDS:
        environment[THREADS] = str(asked.threads)
    if on == "torchrun" and "GLOO_SOCKET_IFNAME" not in os.environ:  # gloo takes that of the host's name otherwise
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    folder = new_folder()
    state = State(
        id=folder.name,
        command=shown,
        secrets=tuple(dict.fromkeys((*used, *more, *others))),
        started=started_shown,
        environment=environment,
        cwd=_here(),
        on=on,
        ranks=asked.ranks,
        nodes=asked.nodes,
        options={"gpus": asked.gpus if on == "slurm" else 0, "words": place_words[1:], "address": place_words[0]},
        restarts=how.restarts,
        grace_s=how.grace_s,
        back_off_s=how.back_off_s,
        checkpoint_s=every_s,
        case=case_document(asked.case),
        predicted=predicted,
        plan=dict(asked.plan),
        notes=tuple(notes),
    )
    write_state(folder, state)
    return folder, state


def _started(command: list[str], asked: Asked, how: How) -> tuple[list[str], str]:
    """The command with what starts its ranks, and the place by its final name."""
    several = asked.ranks > 1 and not starts_ranks(command)
    if asked.on == "slurm":
        return (by_torchrun(command, asked.ranks, asked.nodes) if several or asked.nodes > 1 else command), "slurm"
    if asked.on in ("local", "torchrun"):
        if asked.nodes > 1:
            raise InvalidInputError(f"{asked.nodes} nodes are not this machine", hint="--on slurm")
        if asked.on == "torchrun" and starts_ranks(command):
            raise InvalidInputError("the command starts its ranks itself", hint="--on local, or leave torchrun out")
        if several or asked.on == "torchrun":
            check_port()
            return by_torchrun(command, asked.ranks), "torchrun"
        return command, "local"
    if asked.on == "ray":
        from rigwise.launch.ray_cluster import driver_command

        return driver_command(command, asked, how.address), "ray"
    raise InvalidInputError(f"--on {asked.on} renders files and starts nothing here")


def _here() -> str:
    """The current folder.

    Raises:
        InvalidInputError: It has been deleted.
    """
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        raise InvalidInputError("the current folder has been deleted", hint="cd to one that exists") from None


def _check(how: How, asked: Asked) -> None:
    if asked.ranks < 1 or asked.nodes < 1 or asked.ranks % asked.nodes:
        words = f"--count {asked.ranks} on --nodes {asked.nodes}"
        raise InvalidInputError(words, hint="give 1 or more; the count is of all nodes together, a multiple of theirs")
    if not 0 <= how.restarts <= _RESTARTS_LIMIT:
        raise InvalidInputError(f"--restarts {how.restarts}", hint=f"0 to {_RESTARTS_LIMIT}")
    if not 0 <= how.trace_steps <= MOST_STEPS:
        raise InvalidInputError(f"--trace {how.trace_steps}", hint=f"0 to {MOST_STEPS} steps")
    times_s = {"--grace": how.grace_s, "--back-off": how.back_off_s, "--checkpoint": how.checkpoint_s}
    for flag, value_s in times_s.items():
        if value_s is not None and not (0 < value_s <= 366 * 86400):
            raise InvalidInputError(f"{flag} is {value_s:g} s", hint="give a time above 0, up to a year")
