"""A run on this machine: a keeper in a session of its own, found again by its number and the time it began."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rigwise.errors import RunError
from rigwise.launch.folder import read_plain, started_file


class Place(Protocol):
    """Where attempts are started. A handle is plain data, so that another launcher can go on with it."""

    def start(self, folder: Path, attempt: int) -> dict[str, Any]:
        """Start an attempt; what it is known by.

        Raises:
            RunError: The place cannot be reached, or does not want it.
        """

    def is_alive(self, handle: Mapping[str, Any]) -> bool | None:
        """Whether it still runs or waits to; None where nobody answers just now."""

    def stop(self, handle: Mapping[str, Any], *, now: bool) -> None:
        """Tell it to end; with ``now``, end it."""

    def why(self, handle: Mapping[str, Any]) -> str:
        """What the place says of an attempt that ended without a word; empty if nothing."""

    def clean_up(self, folder: Path, attempt: int) -> None:
        """End what an attempt without a keeper has left behind."""


class Here:
    """This machine."""

    def start(self, folder: Path, attempt: int) -> dict[str, Any]:
        """Start a keeper."""
        try:
            with (folder / "keeper.txt").open("ab") as said:
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "rigwise.launch.keeper", str(folder), str(attempt)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=said,
                    start_new_session=True,
                )
        except OSError as error:
            raise RunError(f"no process can be started: {error.strerror or error}") from None
        process.returncode = 0  # it is waited for by number, perhaps by another launcher
        return {"pid": process.pid, "created_s": created_s(process.pid)}

    def is_alive(self, handle: Mapping[str, Any]) -> bool:
        """Whether the keeper runs."""
        with contextlib.suppress(ChildProcessError, OSError):
            os.waitpid(int(handle["pid"]), os.WNOHANG)
        return is_same(handle)

    def stop(self, handle: Mapping[str, Any], *, now: bool) -> None:
        """Tell the keeper, which tells the command."""
        if is_same(handle):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(int(handle["pid"]), signal.SIGKILL if now else signal.SIGTERM)

    def why(self, handle: Mapping[str, Any]) -> str:
        """Nothing is known of a keeper that was killed."""
        return "the process that kept it was killed"

    def clean_up(self, folder: Path, attempt: int) -> None:
        """Kill the processes of the command, if its keeper is gone."""
        found = read_plain(started_file(folder, attempt))
        if found is not None and is_same(found):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(int(found["pid"]), signal.SIGKILL)


def created_s(pid: int) -> float:
    """When a process began; 0 where it is gone."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def is_same(handle: Mapping[str, Any]) -> bool:
    """Whether a number still means the process that it meant; one that ended and was not waited for does not count."""
    import psutil

    try:
        process = psutil.Process(int(handle["pid"]))
        is_it = abs(float(process.create_time()) - float(handle["created_s"])) < 1.0
        return is_it and str(process.status()) != "zombie"
    except (psutil.Error, KeyError, ValueError, TypeError):
        return False
