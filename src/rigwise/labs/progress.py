"""What a learner has done: days of the path, guesses, exercises that are solved; one file on this machine.

Every change reads the file under a lock and replaces it whole, so that neither two writers nor a machine
that stops lose anything. A file that cannot be read is never written over: it is put aside under a name of its own
only when the learner asks for a new start.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from rigwise.edge import parse, parse_json, read_text, write_atomically
from rigwise.errors import InvalidInputError

SCHEMA = "rigwise.lab.kept/1"
#: Names the file; else it stands with what the user's programs keep.
VARIABLE = "RIGWISE_LAB_PROGRESS"
_WAIT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What was done, each with its date.

    Attributes:
        schema: Version of the file.
        days: Number of a day of the path -> when it was done.
        solved: Name of an exercise -> when it was solved first.
        guesses: Name of a prediction -> the last guess.
    """

    schema: str = SCHEMA
    days: Mapping[str, str] = field(default_factory=dict)
    solved: Mapping[str, str] = field(default_factory=dict)
    guesses: Mapping[str, float | str] = field(default_factory=dict)


def place() -> Path:
    """Where progress is kept: ``RIGWISE_LAB_PROGRESS``, else the platform's place for data.

    Raises:
        InvalidInputError: The user has no home.
    """
    from rigwise.measurement.place import data_folder

    chosen = os.environ.get(VARIABLE, "")
    try:
        return Path(chosen).expanduser() if chosen else data_folder() / "labs" / "progress.json"
    except (InvalidInputError, RuntimeError):
        hint = f"{VARIABLE}=FILE names a place"
        raise InvalidInputError("there is no home folder to keep progress in", hint=hint) from None


def read() -> Progress:
    """What was done until now; nothing where there is no file.

    Raises:
        InvalidInputError: The file is damaged, or of a newer version.
    """
    path = place()
    if not path.exists():
        return Progress()
    hint = "mend it, or rigwise lab progress --reset puts it aside and starts anew"
    try:
        found = parse(parse_json(read_text(path), str(path)), Progress, str(path))
    except InvalidInputError as error:
        raise InvalidInputError(f"the progress cannot be read: {error.message}", hint=hint) from None
    if found.schema != SCHEMA:
        raise InvalidInputError(f"{path} is {found.schema[:40]!r}, not {SCHEMA!r}: another version wrote it", hint=hint)
    return found


def done(day: int) -> Progress:
    """Note a day as done, today."""
    return _change(lambda now: replace(now, days={str(day): date.today().isoformat(), **now.days}))


def undo(day: int) -> Progress:
    """Take a day back."""
    return _change(lambda now: replace(now, days={key: on for key, on in now.days.items() if key != str(day)}))


def keep_solved(name: str) -> Progress:
    """Note an exercise as solved; the first time counts."""
    return _change(lambda now: replace(now, solved={name: date.today().isoformat(), **now.solved}))


def keep_guess(name: str, guess: float | str) -> Progress:
    """Note the last guess."""
    return _change(lambda now: replace(now, guesses={**now.guesses, name: guess}))


def reset() -> Path | None:
    """Start anew; what was kept stays beside it under another name, which is returned.

    Raises:
        InvalidInputError: The folder cannot be written.
    """
    path = place()
    with _alone(path):
        if not path.exists():
            return None
        for number in range(1, 10_000):
            aside = path.with_name(f"{path.name}.before-{date.today().isoformat()}-{number}")
            if not aside.exists():
                try:
                    path.rename(aside)
                except OSError as error:
                    raise InvalidInputError(f"{path} cannot be put aside: {error.strerror}") from None
                return aside
    raise InvalidInputError(f"{path} was put aside ten thousand times today")


def _change(change: Callable[[Progress], Progress]) -> Progress:
    path = place()
    with _alone(path):
        before = read()
        after = change(before)
        if after != before:
            write_atomically(path, _text(after))
    return after


def _text(progress: Progress) -> str:
    days = dict(sorted(progress.days.items(), key=lambda pair: int(pair[0]) if pair[0].isdecimal() else 0))
    document: dict[str, Any] = {
        "schema": SCHEMA,
        "days": days,
        "solved": dict(progress.solved),
        "guesses": dict(progress.guesses),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Nobody else changes the file meanwhile.

    Raises:
        InvalidInputError: The folder cannot be written, or another process holds the file for too long.
    """
    lock = path.with_name(path.name + ".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        hint = f"{VARIABLE}=FILE names another place"
        raise InvalidInputError(f"progress cannot be kept in {path.parent}: {error.strerror}", hint=hint) from None
    try:
        _hold(handle, lock)
        yield
    finally:
        os.close(handle)


def _hold(handle: int, lock: Path) -> None:
    """Hold the lock until the handle is closed; the system lets go of it if the process dies."""
    try:
        import fcntl
    except ImportError:  # Windows, where rigwise is not tested: the last writer wins
        return
    ends_s = time.monotonic() + _WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > ends_s:
                raise InvalidInputError(f"another process holds {lock}", hint="end it, or try again") from None
            time.sleep(0.02)
        else:
            return
