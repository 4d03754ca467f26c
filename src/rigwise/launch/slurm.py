"""A run as a job of Slurm: one ``sbatch``, asked after by ``scontrol``, ended by ``scancel``.

The folder of the run must lie where the nodes see it. The batch script holds no variable of the user's environment;
Slurm itself passes that on.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError, RunError
from rigwise.launch.secrets import revealed

#: A scheduler that answers at all answers within this time: a job to submit, and any other question. While it is
#: waited for nothing is shown. Source of the second: slurm.conf(5), MessageTimeout.
_SUBMITS_S, _ANSWERS_S = 30.0, 10.0
_WAITING = (
    "PENDING",
    "RUNNING",
    "CONFIGURING",
    "COMPLETING",
    "SUSPENDED",
    "STAGE_OUT",
    "SIGNALING",
    "REQUEUED",
    "STOPPED",
)
_DOWN = (
    "unable to contact",
    "connection refused",
    "socket timed out",
    "no slurm controller",
    "communication connection",
    "configuration source",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """A cluster.

    Attributes:
        nodes: Computers of a job.
        gpus: GPUs of each; 0 for none.
        words: Further words for ``sbatch``, ``--partition=gpu`` say.
        grace_s: Between SIGTERM and the end of the job's time.
        secrets: Variables that the words may name, ``${NAME}``.
    """

    nodes: int = 1
    gpus: int = 0
    words: Sequence[str] = ()
    grace_s: float = 30.0
    secrets: Sequence[str] = ()

    def start(self, folder: Path, attempt: int) -> dict[str, Any]:
        """Submit a job.

        Raises:
            RunError: The scheduler cannot be reached.
            InvalidInputError: It denies the job, or a variable of its words is not set.
        """
        words = revealed(self.words, self.secrets, os.environ)
        script = folder / f"job-{attempt}.sh"
        script.write_text(self.script(folder, attempt), encoding="utf-8")
        done = _asked(["sbatch", "--parsable", *words, str(script)])
        if done.returncode:
            raise _refused(done.stderr)
        return {"job": done.stdout.strip().partition(";")[0]}

    def script(self, folder: Path, attempt: int) -> str:
        """The batch script of an attempt."""
        directives = [
            f"--job-name=rigwise-{folder.name}",
            f"--output={folder}/slurm-{attempt}.txt",
            f"--nodes={self.nodes}",
            "--ntasks-per-node=1",
            "--no-requeue",
            f"--signal=B:TERM@{int(self.grace_s) + 30}",
        ]
        directives += [f"--gpus-per-node={self.gpus}"] if self.gpus else []
        python = shlex.quote(sys.executable)
        return "\n".join(
            [
                "#!/bin/sh",
                *(f"#SBATCH {word}" for word in directives),
                f"exec {python} -P -m rigwise.launch.keeper {shlex.quote(str(folder))} {attempt}",
                "",
            ]
        )

    def is_alive(self, handle: Mapping[str, Any]) -> bool | None:
        """Whether the job waits or runs; None where the scheduler does not answer."""
        state = _state(str(handle["job"]))
        return None if state is None else state in _WAITING

    def stop(self, handle: Mapping[str, Any], *, now: bool) -> None:
        """Tell the keeper, or cancel a job that waits; with ``now``, cancel it whatever it does.

        A bare ``scancel`` would leave the command the cluster's ``KillWait`` and not the grace of the run.
        """
        job = str(handle["job"])
        ways = [[]] if now else [["--state=PENDING"], ["--batch", "--signal=TERM"]]
        with suppress(RunError, InvalidInputError):  # one that does not answer is not asked twice
            for words in ways:
                _asked(["scancel", "--quiet", *words, job])

    def why(self, handle: Mapping[str, Any]) -> str:
        """The state in which the job ended."""
        state = _state(str(handle["job"]))
        return f"job {handle['job']} ended as {state}" if state else f"job {handle['job']} is not known any more"

    def clean_up(self, folder: Path, attempt: int) -> None:
        """The scheduler does that."""


def available() -> None:
    """Whether jobs can be submitted from here.

    Raises:
        InvalidInputError: Slurm is not installed.
        RunError: Its controller does not answer.
    """
    done = _asked(["sinfo", "--noheader", "--format=%a"])
    if done.returncode:
        raise _refused(done.stderr)


def _refused(said: str) -> InvalidInputError | RunError:
    line = next((line for line in reversed(said.strip().splitlines()) if line.strip()), "no reason given")
    line = re.sub(r"^(sbatch|sinfo|slurm_\w+):? ?(error: ?)?", "", line.strip()).strip()[:160]
    if any(word in said.lower() for word in _DOWN):
        return RunError(f"the Slurm controller cannot be reached: {line}", hint="scontrol ping tells more")
    return InvalidInputError(f"Slurm does not take the job: {line}", hint="--option passes words to sbatch; see sinfo")


def _state(job: str) -> str | None:
    """The state of a job; empty where the controller has forgotten it, None where it does not answer."""
    try:
        done = _asked(["scontrol", "show", "job", "--oneliner", job])
    except RunError:
        return None
    if done.returncode:
        return "" if "invalid job id" in done.stderr.lower() else None
    match = re.search(r"\bJobState=(\w+)", done.stdout)
    return match[1] if match else None


def _asked(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """What a program of Slurm answers.

    Raises:
        InvalidInputError: It is not installed.
        RunError: It does not answer.
    """
    within_s = _SUBMITS_S if words[0] == "sbatch" else _ANSWERS_S
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=within_s,
            errors="replace",
        )  # fmt: skip
    except FileNotFoundError:
        raise InvalidInputError(f"{words[0]} is not installed here", hint="submit from a node of the cluster") from None
    except (subprocess.TimeoutExpired, OSError) as error:
        raise RunError(f"{words[0]} does not answer: {type(error).__name__}") from None
