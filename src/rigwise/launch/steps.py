"""The file of lines in which a training process says what it has done, and how it is read.

One line of JSON for many steps, written at once and only ever appended, so that a process that is killed leaves
whole lines behind; a torn last line is passed over. Times of single steps are thinned as their number grows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Tell a process where to write, which attempt it is, and after how much work to save.
FOLDER, ATTEMPT, CHECKPOINT = "RIGWISE_RUN", "RIGWISE_ATTEMPT", "RIGWISE_CHECKPOINT_S"

_NAME = re.compile(r"steps-(\d+)-(\d+)-(\d+)\.jsonl")
_LIMIT_BYTES = 256 * 2**20
#: A process may say at most so much of its software.
_FACTS = 16


class StepFile:
    """Appends lines; after a fault it writes no more and says so once.

    Attributes:
        lines: What was written, where there is no file.
        fault: Why nothing is written any more; empty while all is well.
    """

    def __init__(self, path: Path | None) -> None:
        self.lines: list[dict[str, Any]] = []
        self.fault = ""
        self._handle = -1
        self._path = path
        if path is not None:
            try:
                self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            except OSError as error:
                self.fault = f"{path}: {error.strerror or error}"

    def write(self, line: dict[str, Any], *, lasting: bool = False) -> None:
        """Append a line; ``lasting`` waits until the disk has it."""
        if self._path is None:
            self.lines.append(line)
        if self._handle < 0:
            return
        text = json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            while text:  # a disk that fills up takes a part, then nothing
                text = text[os.write(self._handle, text) :]
            if lasting:
                os.fsync(self._handle)
        except OSError as error:
            self.fault = f"{self._path}: {error.strerror or error}"
            self.close()

    def close(self) -> None:
        """Give the file back."""
        if self._handle >= 0:
            with suppress(OSError):
                os.close(self._handle)
            self._handle = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """One checkpoint: the last step that it holds, when it was whole (time of day), how long it took."""

    step: int
    at_s: float
    took_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one process said between entering and leaving ``monitor``.

    Attributes:
        rank, attempt, pid: Whose it is.
        began_s, first_s, last_s: Time of day at the beginning, at the end of the first step and of the last one
            that was told; None where there is none.
        first_step, steps: Number of the step before the first, and how many were done.
        times_s: Pairs of the time of a step and the steps it stands for.
        work_s, wait_s: Sum of all steps, and of that the time spent waiting for input.
        samples: That the steps consumed; 0 where the process does not say.
        memory_bytes, gpu_bytes, cpu_s: Peaks, and CPU time of the process since it entered.
        saves: Its checkpoints.
        facts: Software, device, threads, whether the model was compiled.
        ended: ``ok``, ``stopped`` or what was raised; empty where the process ended without a word.
    """

    rank: int
    attempt: int
    pid: int
    began_s: float | None = None
    first_s: float | None = None
    last_s: float | None = None
    first_step: int = 0
    steps: int = 0
    times_s: Sequence[tuple[float, int]] = ()
    work_s: float = 0.0
    wait_s: float = 0.0
    samples: float = 0.0
    memory_bytes: float = 0.0
    gpu_bytes: float = 0.0
    cpu_s: float = 0.0
    saves: tuple[Save, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    ended: str = ""

    @property
    def last_step(self) -> int:
        """Number of the last step that was told."""
        return self.first_step + self.steps


def file_name(attempt: int, rank: int, pid: int) -> str:
    """The name of the file of one process.

    >>> file_name(1, 0, 42)
    'steps-1-0-42.jsonl'
    """
    return f"steps-{attempt}-{rank}-{pid}.jsonl"


def sessions(folder: Path) -> tuple[Session, ...]:
    """What every process of a run has said so far, by attempt and rank; one for each time that it entered."""
    found = []
    for path in folder.glob("steps-*.jsonl"):
        match = _NAME.fullmatch(path.name)
        if match:
            attempt, rank, pid = (int(part) for part in match.groups())
            found += [session(lines, rank=rank, attempt=attempt, pid=pid) for lines in _entered(_lines(path))]
    return tuple(sorted(found, key=lambda one: (one.attempt, one.rank, one.began_s or 0.0)))


def _entered(lines: Iterable[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    parts: list[list[Mapping[str, Any]]] = []
    for line in lines:
        if not parts or line.get("is") == "begin":
            parts.append([])
        parts[-1].append(line)
    return parts


def session(lines: Iterable[Mapping[str, Any]], *, rank: int = 0, attempt: int = 1, pid: int = 0) -> Session:
    """The lines of one process as one thing; lines that it did not write that way are passed over."""
    values: dict[str, Any] = {"times_s": [], "saves": (), "facts": {}, "ended": ""}
    for line in lines:
        with suppress(KeyError, TypeError, ValueError, AttributeError, OverflowError):
            _take(values, line)
    return Session(rank=rank, attempt=attempt, pid=pid, **values)


def _take(values: dict[str, Any], line: Mapping[str, Any]) -> None:
    kind = line["is"]
    if kind == "begin":
        values |= {"began_s": float(line["at"]), "first_step": int(line["step"])}
    elif kind == "steps":
        times = [(float(time_s), int(line["every"])) for time_s in line["s"]]
        first_s = values.get("first_s")
        values |= {
            "first_s": float(line["first"]) if first_s is None and "first" in line else first_s,
            "last_s": float(line["at"]),
            "steps": int(line["n"]),
            "work_s": float(line["work"]),
            "wait_s": float(line["wait"]),
            "samples": float(line["samples"]),
            "memory_bytes": float(line["memory"]),
            "gpu_bytes": float(line["gpu"]),
            "cpu_s": float(line["cpu"]),
        }
        values["times_s"].extend(times)
    elif kind == "save":
        save = Save(step=int(line["step"]), at_s=float(line["at"]), took_s=float(line["took"]))
        values["saves"] = (*values["saves"], save)
    elif kind == "facts":
        pairs = list(line["facts"].items())[:_FACTS]
        values["facts"] = {str(key)[:40]: value for key, value in pairs if isinstance(value, str | int | float | bool)}
    elif kind == "end":
        values["ended"] = str(line["how"])[:200]


def _lines(path: Path) -> Iterable[Mapping[str, Any]]:
    with suppress(OSError):
        if path.stat().st_size > _LIMIT_BYTES:
            return
        with path.open("rb") as stream:
            for text in stream:
                with suppress(ValueError, RecursionError):
                    line = json.loads(text)
                    if isinstance(line, dict):
                        yield line
