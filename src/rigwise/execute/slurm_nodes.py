"""One call on each node of a Slurm cluster: a job for each node, bound to it, whose lines come through a shared folder.

A job for each node and no array: the elements of an array cannot name their nodes, and the quickest node would be
given two of them. ``sbatch`` is called and ``submitit`` is not, which pickles what it sends and what comes back.
What a site needs (account, partition, time limit) goes into sbatch's own environment variables.

Source: the manual pages of sbatch, sinfo, squeue and scancel (Slurm 22.05).
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from rigwise.errors import InvalidInputError, RunError
from rigwise.execute.nodes import LINE_LIMIT_BYTES, Call, Said, last_words

#: Slurm's own word for a state, without the marks that sinfo puts behind it.
_STATE = re.compile(r"[a-z_]+")
#: Nodes in these can be given work, now or when what runs there has ended. Source: sinfo(1), "NODE STATE CODES".
_USABLE = frozenset({"idle", "allocated", "alloc", "mixed", "mix", "completing", "comp", "reserved", "resv"})
#: Jobs in these have not ended. Source: squeue(1), "JOB STATE CODES".
_WAITING = frozenset({"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SUSPENDED"})
_RUNNING = frozenset({"RUNNING", "COMPLETING", "STAGE_OUT", "SIGNALING"})
#: How often the controller is asked, and how long one answer may take.
_ASK_EVERY_S, _ANSWER_S = 2.0, 60.0
#: Files are looked at this often, and less often for each of them, so that a shared folder is not worn out.
_LOOK_S, _LOOK_FILE_S = 0.2, 0.005


class _Job:
    """A job and how far its output was read."""

    def __init__(self, number: str, output: Path, errors: Path) -> None:
        self.id = number
        self.output = output
        self.errors = errors
        self.read = 0
        self.rest = b""
        self.state = "PENDING"
        self.reason = ""
        self.ended = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmPlace:
    """Which nodes of a cluster.

    Attributes:
        partition: Empty for the cluster's default.
        count: So many nodes, those that are idle first; None for all.
        names: These nodes and no others; empty for whatever there is.
        folder: Shared by all nodes and this computer; the lines go through it.
        limit_s: Slurm ends a job after so long.
    """

    partition: str = ""
    count: int | None = None
    names: tuple[str, ...] = ()
    folder: str = "."
    limit_s: float = 3600.0


class SlurmNodes:
    """Jobs of one node each."""

    def __init__(self, place: SlurmPlace, call: Call) -> None:
        """Submit the jobs.

        Raises:
            InvalidInputError: There is no Slurm, no such partition, too few nodes, or the folder cannot be written.
            RunError: Slurm does not answer.
        """
        usable, self.refused = nodes_of(place)
        self.names = (*usable, *self.refused)
        self._jobs: dict[str, _Job] = {}
        self._asked_s = 0.0
        self._folder = _new_folder(place.folder)
        try:
            (self._folder / "request.json").write_text(call.request + "\n", encoding="utf-8")
            script = self._folder / "job.sh"
            words = [sys.executable, "-P", "-m", call.module, str(self._folder / "request.json")]
            script.write_text(f"#!/bin/sh\nexec {shlex.join(words)}\n", encoding="utf-8")
            refused = dict(self.refused)
            for name in usable:
                output, errors = self._folder / f"{name}.out", self._folder / f"{name}.err"
                answer = _slurm(*_sbatch(place, name, output, errors), str(script))
                job = answer.stdout.strip().partition(";")[0]
                if answer.returncode or not job.isdigit():
                    refused[name] = _said(answer)
                else:
                    self._jobs[name] = _Job(job, output, errors)
            self.refused = refused
        except BaseException:
            self.close()
            raise

    def poll(self, wait_s: float) -> list[Said]:
        """As ``Nodes`` says."""
        until_s = time.monotonic() + wait_s
        while True:
            if time.monotonic() - self._asked_s > _ASK_EVERY_S:
                self._ask()
            going = [(name, job) for name, job in self._jobs.items() if not job.ended and job.state not in _WAITING]
            found = [said for name, job in going for said in self._news(name, job)]
            if found or time.monotonic() >= until_s:
                return found
            time.sleep(min(_LOOK_S + _LOOK_FILE_S * len(going), max(wait_s, _LOOK_S)))

    def _news(self, name: str, job: _Job) -> list[Said]:
        over = job.state not in _WAITING | _RUNNING  # before the file is read for the last time
        found = [Said(node=name, line=line) for line in _lines(job)]
        if over:
            job.ended = True
            found.append(Said(node=name, ended=_how(job)))
        return found

    def _ask(self) -> None:
        """One question for all jobs; a controller that does not answer is asked again later."""
        self._asked_s = time.monotonic()
        running = {job.id: job for job in self._jobs.values() if not job.ended}
        with suppress(RunError):
            answer = _slurm("squeue", "--noheader", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(running)}")
            if answer.returncode and "Invalid job id" not in answer.stderr:
                return
            listed = {row[0]: row[1:] for line in answer.stdout.splitlines() if len(row := line.split("|", 2)) == 3}
            for number, job in running.items():  # the controller forgets jobs some minutes after their end
                job.state, job.reason = listed.get(number, ["gone", ""])
        self._asked_s = time.monotonic()

    def waiting(self, node: str) -> str:
        """As ``Nodes`` says: Slurm's own reason."""
        job = self._jobs.get(node)
        return f"Slurm: {job.state.lower()}, {job.reason}" if job and job.state in _WAITING else ""

    def end(self, node: str) -> None:
        """As ``Nodes`` says."""
        job = self._jobs[node]
        job.ended = True
        with suppress(RunError):
            _slurm("scancel", job.id)

    def close(self) -> None:
        """As ``Nodes`` says: jobs that have not ended are cancelled by their ids."""
        left = [job.id for job in self._jobs.values() if not job.ended]
        for start in range(0, len(left), 100):
            with suppress(RunError):
                _slurm("scancel", *left[start : start + 100])
        shutil.rmtree(self._folder, ignore_errors=True)


def nodes_of(place: SlurmPlace) -> tuple[tuple[str, ...], dict[str, str]]:
    """Nodes that can be asked, and those that cannot with Slurm's reason.

    Raises:
        InvalidInputError: There is no Slurm here, no such partition, or there are fewer nodes.
        RunError: Slurm does not answer.
    """
    partition = place.partition or os.environ.get("SBATCH_PARTITION", "")
    words = ["sinfo", "--noheader", "--Node", "--format=%N|%T|%P|%E"]
    answer = _slurm(*words, *([f"--partition={partition}"] if partition else []))
    if answer.returncode:
        raise RunError(f"Slurm does not tell its nodes: {_said(answer)}", hint="sinfo shows what is wrong")
    rows = [row for line in answer.stdout.splitlines() if len(row := line.split("|", 3)) == 4]
    if not partition:
        rows = [row for row in rows if row[2].endswith("*")] or rows
    if not rows:
        raise InvalidInputError(f"Slurm has no nodes{f' in {partition}' if partition else ''}", hint="sinfo lists them")
    states = {name: (state, reason) for name, state, _, reason in rows}
    chosen = [name for name in states if not place.names or name in place.names]
    usable = [name for name in chosen if _is_usable(states[name][0])]
    usable.sort(key=lambda name: not states[name][0].startswith("idle"))
    if place.count is not None and not place.names:
        if len(usable) < place.count:
            raise InvalidInputError(f"{place.count} nodes are asked for, and {len(usable)} can be used", hint="sinfo")
        return tuple(usable[: place.count]), {}
    reasons = {name: f"Slurm: {state.rstrip('*')}, {reason}" for name, (state, reason) in states.items()}
    return tuple(usable), {name: reasons[name] for name in chosen if name not in usable}


def _is_usable(state: str) -> bool:
    """Whether a node can be given work; a star marks one that does not respond. Source: sinfo(1).

    >>> [_is_usable(state) for state in ("idle", "mixed", "idle*", "drained", "down")]
    [True, True, False, False, False]
    """
    word = _STATE.match(state)
    return bool(word and word.group() in _USABLE and "*" not in state)


def _sbatch(place: SlurmPlace, name: str, output: Path, errors: Path) -> list[str]:
    """The options of one job: the whole node, its GPUs and its memory."""
    found = ["sbatch", "--parsable", f"--nodelist={name}", "--nodes=1", "--ntasks=1", "--exclusive", "--mem=0"]
    found += [f"--output={output}", f"--error={errors}", "--open-mode=truncate", "--no-requeue", "--job-name=rigwise"]
    if "SBATCH_TIMELIMIT" not in os.environ:
        found.append(f"--time={max(1, round(place.limit_s / 60) + 1)}")
    return found + ([f"--partition={place.partition}"] if place.partition else [])


def _slurm(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of Slurm.

    Raises:
        InvalidInputError: It is not installed.
        RunError: It does not end.
    """
    try:
        return subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_ANSWER_S,
            check=False,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise InvalidInputError(f"there is no {words[0]} here", hint="run it where Slurm's commands are") from None
    except subprocess.TimeoutExpired:
        raise RunError(f"{words[0]} did not answer within {_ANSWER_S:g} s", hint="is slurmctld up?") from None


def _said(answer: subprocess.CompletedProcess[str]) -> str:
    return (last_words(answer.stderr.encode()) or last_words(answer.stdout.encode())).lstrip(": ") or "no reason given"


def _lines(job: _Job) -> Sequence[bytes]:
    """Whole lines that were written since; the file is opened anew, so that a shared folder shows what is there."""
    try:
        with job.output.open("rb") as stream:
            stream.seek(job.read)
            new = stream.read(LINE_LIMIT_BYTES)
    except OSError:
        return ()
    job.read += len(new)
    *lines, job.rest = (job.rest + new).split(b"\n")
    if len(job.rest) > LINE_LIMIT_BYTES:
        lines, job.rest = [*lines, job.rest], b""
    return lines


def _how(job: _Job) -> str:
    """How a job ended; empty for a job that ended well."""
    errors = b""
    with suppress(OSError):
        errors = job.errors.read_bytes()[-2000:]
    if job.state == "COMPLETED" or (job.state == "gone" and not errors):
        return ""
    reason = f", {job.reason}" if job.reason not in ("", "None") else ""
    return f"Slurm: {job.state.lower()}{reason}{last_words(errors)}"


def _new_folder(parent: str) -> Path:
    """A new folder that other nodes see.

    Raises:
        InvalidInputError: It cannot be made.
    """
    try:
        return Path(tempfile.mkdtemp(prefix="rigwise-fleet-", dir=parent)).resolve()
    except OSError as error:
        raise InvalidInputError(
            f"{parent} cannot be written: {error.strerror}", hint="--shared names another"
        ) from None
