"""Does an environment work: one process for each check, by the environment's own Python, each with a time limit.

The environment needs no rigwise. What cannot be done is unknown, with the reason; a check that crashes or hangs is a
problem, and the others go on.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rigwise.edge import as_plain
from rigwise.errors import InvalidInputError
from rigwise.machine.doctor.checks.surroundings import SHM_LEAST_BYTES
from rigwise.machine.doctor.checkup import Checkup
from rigwise.machine.doctor.types import Severity, Status, problems

SCHEMA = "rigwise.setup.verify/1"
TRIAL = Path(__file__).with_name("trial.py")
#: What the checks are written for.
OLDEST_PYTHON = (3, 9)
#: Time for one check: a framework on a network file system takes a minute to import.
LIMIT_S = 180.0
#: Without a number: as many workers as CPUs may be used, up to this.
MOST_WORKERS = 8
#: Of what a check writes to stderr, the end is kept.
_KEPT_BYTES = 64 * 1024
_SHARED = "/dev/shm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is to be verified.

    Attributes:
        python: The environment's Python.
        framework: The one it is for; empty for the first that is there.
        gpus: How many it has to see; None for any number.
        workers: Of the data loader; None for as many as CPUs may be used, up to ``MOST_WORKERS``.
        folder: Where the job will write.
        disk_bytes: Room that the job needs there; None for 5 % of the disk, at most 20 GiB.
        limit_s: Time for each check.
    """

    python: str = sys.executable
    framework: str = ""
    gpus: int | None = None
    workers: int | None = None
    folder: str = "."
    disk_bytes: float | None = None
    limit_s: float = LIMIT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing that a check looked at: what, how it is, what was seen."""

    what: str
    status: Status
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check, how long it took, and what it saw; ``said`` is what it wrote to stderr."""

    name: str
    time_s: float
    rows: tuple[Row, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    said: str = ""

    @property
    def status(self) -> Status:
        """The worst of its rows."""
        return next((one for one in Status if any(row.status is one for row in self.rows)), Status.UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found: every check, and what the doctor finds where one has a problem.

    Attributes:
        python, python_version: The environment's Python.
        framework, version: What was imported; empty if nothing was.
        checks: In the order in which they ran.
        doctor: Of the machine, with the causes of the errors that were seen; None where nothing is wrong.
    """

    python: str
    python_version: str
    framework: str
    version: str
    checks: tuple[Check, ...]
    doctor: Checkup | None = None

    @property
    def holds(self) -> bool:
        """Whether no check has a problem; what is unknown does not count."""
        return all(check.status is not Status.PROBLEM for check in self.checks)


def python_of(place: str) -> str:
    """The Python of an environment: of its folder, or the program itself.

    Raises:
        InvalidInputError: There is none.
    """
    path = Path(place).expanduser()
    inside = [path / "bin" / "python", path / "Scripts" / "python.exe", path / "python.exe"]
    found = next(
        (one for one in (inside if path.is_dir() else [path]) if one.is_file() and os.access(one, os.X_OK)), None
    )
    if found is None:
        raise InvalidInputError(f"there is no Python in {place!r}", hint="name the folder of an environment")
    return os.path.abspath(found)


def verify(asked: Asked, tell: Callable[[str], None] = lambda _: None) -> Verification:
    """Run every check; ``tell`` gets the name of each before it starts.

    Raises:
        InvalidInputError: The environment's Python cannot be started, is none, or is too old for the checks.
    """
    _start(asked)
    checks: list[Check] = []
    facts: Mapping[str, Any] = {}
    for name, request in _requests(asked):
        tell(name)
        if name in _OF_FRAMEWORK and not facts.get("version"):
            checks.append(_silent(name, "no framework could be imported"))
        elif name in _OF_TORCH and facts.get("framework") != "torch":
            checks.append(_silent(name, "it is asked of PyTorch only"))
        else:
            seen = len(facts.get("gpus") or ())
            told = {**request, "framework": facts.get("framework") or asked.framework, "seen": seen}
            checks.append(_run(asked, name, told))
        facts = checks[-1].facts or facts
    found = Verification(
        python=asked.python, python_version=str(facts.get("python", "")), framework=str(facts.get("framework", "")),
        version=str(facts.get("version", "")), checks=tuple(checks),
    )  # fmt: skip
    return found if found.holds else _examined(found)


def _start(asked: Asked) -> None:
    """Whether the environment's Python runs at all."""
    words = [asked.python, "-c", "import sys; print('python', *sys.version_info[:2])"]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=asked.limit_s,
            check=False,
        )  # fmt: skip
    except OSError as error:
        raise InvalidInputError(f"{asked.python} cannot be started: {error.strerror or error}") from None
    except subprocess.TimeoutExpired:
        raise InvalidInputError(f"{asked.python} did not answer within {asked.limit_s:g} s") from None
    match done.stdout.split():
        case ["python", major, minor] if (int(major), int(minor)) >= OLDEST_PYTHON:
            return
        case ["python", major, minor]:
            raise InvalidInputError(f"{asked.python} is Python {major}.{minor}", hint="the checks need 3.9 or newer")
    said = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
    raise InvalidInputError(f"{asked.python} is no Python that runs: {said[:200]}")


#: Checks that say nothing where no framework can be imported, or none but PyTorch knows.
_OF_FRAMEWORK, _OF_TORCH = ("product", "all-reduce", "loader"), ("all-reduce", "loader")


def _requests(asked: Asked) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each check and what it is told."""
    usable = usable_cpus()
    workers = asked.workers or max(1, min(int(usable or 1), MOST_WORKERS))
    yield "imports", {"gpus": asked.gpus}
    yield "builds", {}
    yield "product", {}
    yield "all-reduce", {}
    yield "loader", {"workers": workers, "usable": usable}
    yield "shared-memory", {"folder": _SHARED, "least_bytes": SHM_LEAST_BYTES, "of": "size"}
    yield "disk", {"folder": os.path.abspath(asked.folder), "least_bytes": asked.disk_bytes, "of": "free"}


def usable_cpus() -> float | None:
    """CPUs that this process may use, by affinity and control group; None where that is unknown."""
    from rigwise.machine.probe.limits import limits
    from rigwise.machine.probe.source import Root

    value = limits(Root())["usable_cpus"].value
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _silent(name: str, why: str) -> Check:
    return Check(name=name, time_s=0.0, rows=(Row(what=name, status=Status.UNKNOWN, evidence=why),))


def _run(asked: Asked, name: str, request: Mapping[str, Any]) -> Check:
    """One check in a process group of its own, which is gone afterwards."""
    begun_s = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [asked.python, str(TRIAL), name, json.dumps(request)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True,
        )  # fmt: skip
        try:
            answer, late = _answer(process, asked.limit_s), False
        except subprocess.TimeoutExpired:
            answer, late = b"", True
        finally:
            _end(process)
        time_s = time.monotonic() - begun_s
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - _KEPT_BYTES))
        said = errors.read().decode("utf-8", "replace")
    fault = f"did not end within {asked.limit_s:g} s and was stopped" if late else _end_text(process.returncode, said)
    return _check(name, time_s, answer, said, fault)


def _answer(process: subprocess.Popen[bytes], limit_s: float) -> bytes:
    """What the process writes until it ends; its stdin stays open, so that it ends if this process does."""
    assert process.stdout is not None
    lines: list[bytes] = []
    import threading

    reader = threading.Thread(target=lambda: lines.append(process.stdout.read(2**22)), daemon=True)  # type: ignore[union-attr]
    reader.start()
    process.wait(timeout=limit_s)
    reader.join(timeout=5.0)
    return b"".join(lines)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and everything that it started."""
    with suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _end_text(code: int, said: str) -> str:
    """Why there is no answer."""
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    if code < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-code).name}" + (f": {last[:200]}" if last else "")
    return f"gave no answer (exit code {code})" + (f": {last[:200]}" if last else "")


def _check(name: str, time_s: float, answer: bytes, said: str, fault: str) -> Check:
    """A check from the line that it wrote; without one, or with another, the fault is its result."""
    try:
        document = json.loads(answer)
        rows = tuple(
            Row(what=str(what), status=Status(status), evidence=str(seen)) for what, status, seen in document["rows"]
        )
        facts = dict(document["facts"])
    except (ValueError, TypeError, KeyError):
        return Check(name=name, time_s=time_s, rows=(Row(what=name, status=Status.PROBLEM, evidence=fault),), said=said)
    return Check(name=name, time_s=time_s, rows=rows, facts=facts, said=said)


def _examined(found: Verification) -> Verification:
    """With what the doctor finds, and with the causes of the errors that the checks met."""
    from dataclasses import replace

    from rigwise.machine.doctor.checkup import check, with_diagnoses

    text = "\n".join(
        f"{row.evidence}\n{one.said}" for one in found.checks for row in one.rows if row.status is Status.PROBLEM
    )
    return replace(found, doctor=with_diagnoses(check(), text))


def document(found: Verification) -> dict[str, Any]:
    """The answer as ``rigwise setup verify --json`` prints it."""
    rows = [row for one in found.checks for row in one.rows]
    doctor = found.doctor
    return {
        "schema": SCHEMA,
        "holds": found.holds,
        "python": found.python,
        "python_version": found.python_version,
        "framework": found.framework,
        "version": found.version,
        "counts": {str(status): sum(row.status is status for row in rows) for status in Status},
        "checks": [
            {"name": one.name, "status": str(one.status), "time_s": round(one.time_s, 3), "rows": as_plain(one.rows)}
            for one in found.checks
        ],
        "findings": as_plain(tuple(problems(doctor.findings, *Severity))) if doctor else [],
        "errors": as_plain(doctor.diagnoses) if doctor else [],
    }
