"""The folder of a run: its state, its log, what its processes said.

``state.json`` is written whole or not at all, by the launcher alone. A file of a few kilobytes is kept in reserve and
given up when the disk is full, so that the last state can still be written.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rigwise.edge import parse, parse_json, read_text, write_atomically
from rigwise.errors import InvalidInputError, UnknownNameError, near_matches
from rigwise.measurement.place import data_folder

SCHEMA = "rigwise.run-state/1"
VARIABLE = "RIGWISE_RUNS"
STATE, LOG, RESERVE, LOCK = "state.json", "log.txt", "reserve", "lock"

#: Where a run stands. Those that end are in ``ENDED``.
PREPARED, RUNNING, RESTARTING = "prepared", "running", "restarting"
FINISHED, FAILED, INTERRUPTED, LOST = "finished", "failed", "interrupted", "lost"
ENDED = (FINISHED, FAILED, INTERRUPTED, LOST)

_RESERVE_BYTES = 64 * 1024
_STATE_LIMIT_BYTES = 4 * 2**20
_NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{4}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of the command.

    Attributes:
        number: From 1.
        started_s, ended_s: Time of day; None while it runs.
        handle: What the place knows it by: a process, a job.
        exit_code: None where a signal ended it, or nobody knows.
        reason: How it ended, in words.
        lost_s: Work after the last checkpoint; None where nothing was lost or nobody knows.
    """

    number: int
    started_s: float
    ended_s: float | None = None
    handle: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    reason: str = ""
    lost_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Everything that has to be known to go on with a run.

    Attributes:
        id: Its name, and its folder's.
        phase: Where it stands.
        message: How it ended, in one line.
        command: As it was given; a value of a secret variable is written ``${NAME}``.
        secrets: Those variables: names only.
        started: The command with what starts its ranks around it.
        environment: Variables that are added.
        cwd: Where it is started.
        on: The place: ``local``, ``torchrun``, ``slurm``, ``ray``, ``skypilot``, ``dstack``.
        ranks, nodes: Processes of it, and computers.
        options: Of the place: ``--option`` words, address.
        restarts: How often it may be started again.
        grace_s, back_off_s, checkpoint_s: Times; see the flags of those names.
        attempts: So far.
        pid: The launcher.
        case, predicted: The question and the answer of ``predict``; empty where no model was named.
        plan: The plan's entry, if it came from one.
        notes: Sentences for the end.
    """

    schema: str = SCHEMA
    id: str
    phase: str = PREPARED
    message: str = ""
    command: tuple[str, ...]
    secrets: tuple[str, ...] = ()
    started: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    cwd: str = ""
    on: str = "local"
    ranks: int = 1
    nodes: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    restarts: int = 0
    grace_s: float = 30.0
    back_off_s: float = 1.0
    checkpoint_s: float | None = None
    attempts: tuple[Attempt, ...] = ()
    pid: int = 0
    case: dict[str, Any] = field(default_factory=dict)
    predicted: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def runs_folder() -> Path:
    """Where runs are kept: ``RIGWISE_RUNS``, else ``runs`` in the platform's place for data.

    Raises:
        InvalidInputError: There is no such place.
    """
    chosen = os.environ.get(VARIABLE)
    return Path(chosen) if chosen else data_folder() / "runs"


def new_folder() -> Path:
    """A folder for a new run; others cannot read it.

    Raises:
        InvalidInputError: It cannot be made.
    """
    parent = runs_folder()
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(2).hex()}"
    folder = parent.absolute() / name
    try:
        folder.mkdir(parents=True, mode=0o700)
        with (folder / RESERVE).open("wb") as stream:
            stream.write(b"\0" * _RESERVE_BYTES)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        with contextlib.suppress(OSError):
            (folder / RESERVE).unlink(missing_ok=True)
            folder.rmdir()
        raise InvalidInputError(
            f"no run can be kept in {parent}: {error.strerror or error}", hint=f"{VARIABLE} names another folder"
        ) from None
    return folder


def find_folder(name: str) -> Path:
    """The folder of a run: by its id, the beginning of one, ``last``, or a path.

    Raises:
        UnknownNameError: There is none.
    """
    if not name or (("/" in name or os.sep in name) and not (Path(name) / STATE).is_file()):
        raise UnknownNameError(f"there is no run in {name!r}")
    if "/" in name or os.sep in name:
        return Path(name).absolute()
    parent = runs_folder()
    known = sorted(path.name for path in parent.glob("*") if _NAME.fullmatch(path.name)) if parent.is_dir() else []
    found = known[-1:] if name == "last" else [one for one in known if one.startswith(name)]
    if len(found) == 1:
        return (parent / found[0]).absolute()
    if found:
        raise UnknownNameError(f"{len(found)} runs begin with {name}: {', '.join(found[-3:])}")
    hint = near_matches(name, known) or (f"the last is {known[-1]}" if known else f"{parent} has none")
    raise UnknownNameError(f"there is no run {name[:60]!r}", hint=hint)


def read_state(folder: Path) -> State:
    """What is known of a run.

    Raises:
        InvalidInputError: The state is damaged, or of another version of rigwise.
    """
    path = folder / STATE
    document = parse_json(read_text(path, limit_bytes=_STATE_LIMIT_BYTES), str(path))
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise InvalidInputError(f"{path} is of another version of rigwise: {str(schema)[:40]}", hint=f"not {SCHEMA}")
    return parse(document, State, str(path))


def write_state(folder: Path, state: State) -> None:
    """Write it whole, with the reserve if the disk is full.

    Raises:
        InvalidInputError: It cannot be written even so.
    """
    from rigwise.edge import as_plain

    text = json.dumps(as_plain(state), indent=1, allow_nan=False) + "\n"
    try:
        write_atomically(folder / STATE, text)
    except InvalidInputError:
        if not give_up_reserve(folder):
            raise
        write_atomically(folder / STATE, text)


def give_up_reserve(folder: Path) -> bool:
    """Make some room on a full disk; whether there was any."""
    try:
        (folder / RESERVE).unlink()
    except OSError:
        return False
    return True


def with_attempt(state: State, attempt: Attempt, **changes: Any) -> State:
    """The state with this attempt in the place of the one of its number, or after the others."""
    others = tuple(one for one in state.attempts if one.number != attempt.number)
    return replace(state, attempts=(*others, attempt), **changes)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """One launcher at a time.

    Raises:
        InvalidInputError: Another has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise InvalidInputError(f"{folder} cannot be used: {error.strerror or error}") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InvalidInputError(
            f"another rigwise follows run {folder.name}", hint=f"{folder / LOG} shows what it does"
        ) from None
    finally:
        os.close(handle)


def ended_file(folder: Path, attempt: int) -> Path:
    """Where the keeper of an attempt says how it ended."""
    return folder / f"ended-{attempt}.json"


def started_file(folder: Path, attempt: int) -> Path:
    """Where the keeper of an attempt says which process it started."""
    return folder / f"started-{attempt}.json"


def stop_file(folder: Path, attempt: int) -> Path:
    """What tells the keeper of an attempt to end, where the place does not answer."""
    return folder / f"stop-{attempt}"


def read_plain(path: Path) -> Mapping[str, Any] | None:
    """A small JSON object that a keeper wrote; None where there is none, or none yet."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
