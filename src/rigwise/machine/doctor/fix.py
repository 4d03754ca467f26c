"""Safe fixes: shown first, applied one by one, written down so that they can be undone.

Only what can be put back exactly is offered: modes of the user's own files, values of the kernel, persistence mode.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rigwise.edge import parse, parse_json, read_text, write_atomically
from rigwise.errors import InvalidInputError
from rigwise.machine.doctor.types import Finding
from rigwise.machine.probe.source import Root, Unreadable

JOURNAL_SCHEMA = "rigwise.doctor.undo/1"
THP = "/sys/kernel/mm/transparent_hugepage/enabled"
CPUFREQ = "/sys/devices/system/cpu/cpufreq"
JOURNAL_LIMIT_BYTES = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One thing that a fix changes.

    Attributes:
        rule: The rule that asks for it.
        kind: ``mode`` of a file, ``value`` of the kernel, ``persistence`` of a GPU.
        place: File, or number of the GPU.
        before, after: What it is, and what it becomes.
        refused: Why it cannot be done; empty if it can.
    """

    rule: str
    kind: str
    place: str
    before: str
    after: str
    refused: str = ""

    def __str__(self) -> str:
        """What is changed, in one line."""
        what = {"mode": "mode of {}", "value": "{}", "persistence": "persistence mode of GPU {}"}[self.kind]
        return f"{what.format(self.place)}: {self.before} -> {self.after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The file of what was changed, oldest first."""

    schema: str
    changes: tuple[Change, ...]


def journal_path() -> Path:
    """Where changes are written down, below the state folder of the user."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "rigwise" / "doctor-undo.json"


def planned(findings: Sequence[Finding]) -> tuple[Change, ...]:
    """Every change that the safe fixes of these findings would make."""
    found: list[Change] = []
    for finding in findings:
        if finding.repair == "private-files":
            found += [_mode_change(finding.rule, path) for path in finding.changes]
        elif finding.repair == "huge-pages":
            found.append(_value_change(finding.rule, THP, "madvise"))
        elif finding.repair == "governor":
            folders = sorted(Path(CPUFREQ).glob("policy*/scaling_governor"))
            found += [_value_change(finding.rule, str(path), "performance") for path in folders]
        elif finding.repair == "persistence":
            found += [_persistence_change(finding.rule, place) for place in finding.changes]
    return tuple(change for change in found if change.before != change.after)


def _mode_change(rule: str, path: str) -> Change:
    """Only a regular file of this user, reached by no link; what others may do with it is taken away."""
    try:
        status = os.lstat(path)
    except OSError as error:
        return Change(
            rule=rule, kind="mode", place=path, before="?", after="600", refused=error.strerror or "it is gone"
        )
    mode = stat.S_IMODE(status.st_mode)
    refused = "" if stat.S_ISREG(status.st_mode) else "it is a link or no file"
    if not refused and status.st_uid != os.getuid():
        refused = "it belongs to another user"
    return Change(rule=rule, kind="mode", place=path, before=f"{mode:o}", after=f"{mode & 0o700:o}", refused=refused)


def _value_change(rule: str, path: str, wanted: str) -> Change:
    try:
        text = read_text(path, limit_bytes=4096).strip()
    except InvalidInputError as error:
        return Change(rule=rule, kind="value", place=path, before="?", after=wanted, refused=error.message)
    refused = "" if os.access(path, os.W_OK) else "only root may write it"
    return Change(rule=rule, kind="value", place=path, before=_chosen(text), after=wanted, refused=refused)


def _chosen(text: str) -> str:
    """The value of the kernel's file: the word in brackets of a choice, else the text.

    >>> _chosen("always madvise [never]"), _chosen("powersave")
    ('never', 'powersave')
    """
    inside = text.partition("[")[2].partition("]")[0]
    return inside or text


def _persistence_change(rule: str, place: str) -> Change:
    refused = "" if os.geteuid() == 0 else "only root may set it"
    return Change(rule=rule, kind="persistence", place=place, before="0", after="1", refused=refused)


def apply(change: Change) -> None:
    """Make one change, if the place is still as it was.

    Raises:
        InvalidInputError: It is not, or it cannot be changed.
    """
    if change.refused:
        raise InvalidInputError(f"{change.place}: {change.refused}")
    _set(change, change.before, change.after)


def undo(change: Change) -> None:
    """Put back what a change did, if nobody has changed it since; same errors."""
    _set(change, change.after, change.before)


def is_moot(change: Change) -> bool:
    """Whether there is nothing left to put back: the file is gone, or somebody has changed it since."""
    try:
        if change.kind == "mode":
            return stat.S_IMODE(os.lstat(change.place).st_mode) != int(change.after, 8)
        return change.kind == "value" and _chosen(read_text(change.place, limit_bytes=4096).strip()) != change.after
    except FileNotFoundError:
        return True
    except (OSError, ValueError, InvalidInputError):
        return False


def _set(change: Change, expected: str, wanted: str) -> None:
    try:
        if change.kind == "mode":
            _set_mode(change.place, expected, wanted)
        elif change.kind == "value":
            _set_value(change.place, expected, wanted)
        elif change.kind == "persistence":
            Root().run("nvidia-smi", "-i", str(int(change.place)), "-pm", str(int(wanted)), limit_s=20.0)
        else:
            raise InvalidInputError(f"{change.kind!r} is no kind of change")
    except Unreadable as error:
        raise InvalidInputError(f"persistence mode could not be set: {error}") from None
    except OSError as error:
        raise InvalidInputError(f"{change.place} cannot be changed: {error.strerror or error}") from None
    except ValueError:
        raise InvalidInputError(f"{change.place}: what was written down of it cannot be used") from None


def _set_mode(path: str, expected: str, wanted: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(handle)
        mode = stat.S_IMODE(status.st_mode)
        if not stat.S_ISREG(status.st_mode) or mode != int(expected, 8):
            raise InvalidInputError(f"{path} has mode {mode:o} by now", hint="it was left as it is")
        os.fchmod(handle, int(wanted, 8) & 0o777)
    finally:
        os.close(handle)


def _set_value(path: str, expected: str, wanted: str) -> None:
    if path != THP and not (path.startswith(CPUFREQ) and path.endswith("/scaling_governor") and ".." not in path):
        raise InvalidInputError(f"{path} is nothing that a fix changes")
    now = _chosen(read_text(path, limit_bytes=4096).strip())
    if now != expected:
        raise InvalidInputError(f"{path} is {now} by now", hint="it was left as it is")
    with open(path, "w", encoding="ascii") as stream:
        stream.write(wanted)


def read_journal() -> tuple[Change, ...]:
    """What was changed and not undone, oldest first; empty if nothing was.

    Raises:
        InvalidInputError: The file cannot be used.
    """
    path = journal_path()
    if not path.exists():
        return ()
    found = parse(parse_json(read_text(path, limit_bytes=JOURNAL_LIMIT_BYTES), str(path)), Journal, str(path))
    if found.schema != JOURNAL_SCHEMA:
        raise InvalidInputError(f"{path} was written by another version of rigwise")
    return found.changes


def write_journal(changes: Sequence[Change]) -> None:
    """Write down what was changed, readable by this user only.

    Raises:
        InvalidInputError: It cannot be written.
    """
    from rigwise.edge import as_plain

    path = journal_path()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInputError(
            f"{path.parent} cannot be made: {error.strerror or error}", hint="nothing was changed"
        ) from None
    text = json.dumps({"schema": JOURNAL_SCHEMA, "changes": as_plain(tuple(changes))}, indent=1) + "\n"
    write_atomically(path, text)
