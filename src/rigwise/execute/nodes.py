"""One call on each of many nodes: a module of this package is run there and answers in lines of text.

Where the nodes come from is another file's affair: processes of this computer (here), a Ray cluster, Slurm. What a
node says is bytes and stays bytes: nothing is unpickled, whoever reads them checks them.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Protocol

#: A longer line is handed on in pieces, which are then no lines that anybody understands.
LINE_LIMIT_BYTES = 4 * 2**20
#: Lines that wait to be read; a node that talks faster has to wait.
_WAITING_LINES = 4096
_STDERR_BYTES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What every node does.

    Attributes:
        module: Run as ``python -m``.
        request: One line of text that it gets on stdin, which stays open as long as somebody waits for answers.
    """

    module: str
    request: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One line of a node, or its end.

    Attributes:
        node: Its name.
        line: Without meaning where ``ended`` is given.
        ended: How it ended; None while it goes on.
    """

    node: str
    line: bytes = b""
    ended: str | None = None


class Nodes(Protocol):
    """Nodes that were asked."""

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""

    @property
    def refused(self) -> Mapping[str, str]:
        """Those that cannot be asked, and why."""

    def poll(self, wait_s: float) -> list[Said]:
        """What was said since; waits so long if nothing was."""

    def waiting(self, node: str) -> str:
        """Why a node has not started yet; empty where nothing is known."""

    def end(self, node: str) -> None:
        """End what runs on a node, at once; it need not say so."""

    def close(self) -> None:
        """End whatever runs anywhere, and leave nothing behind."""


class NodeProcess:
    """The process of a call on this computer, in a session of its own."""

    def __init__(self, call: Call, told: Callable[[bytes | None], object], environment: Mapping[str, str]) -> None:
        """Start it; ``told`` gets every line from another thread, then None."""
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", call.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self._errors = b""
        self._threads = [
            threading.Thread(target=_read, args=(self._process.stdout, told), daemon=True),
            threading.Thread(target=self._keep_errors, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        with suppress(OSError):
            if self._process.stdin:
                self._process.stdin.write(call.request.encode() + b"\n")
                self._process.stdin.flush()

    def _keep_errors(self) -> None:
        while self._process.stderr and (more := self._process.stderr.read1(_STDERR_BYTES)):  # type: ignore[attr-defined]
            self._errors = (self._errors + more)[-_STDERR_BYTES:]

    def how_it_ended(self) -> str:
        """Its exit code or signal, with its last words; it is ended if it still runs."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=2.0)
        self.end()
        self._threads[1].join(timeout=1.0)
        return ended_words(self._process.wait(), self._errors)

    def end(self) -> None:
        """End it and what shares its session, also where it is stopped."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(OSError):
            self._process.kill()

    def close(self) -> None:
        """End it and give back what belongs to it."""
        self.end()
        self._process.wait()
        for thread in self._threads:
            thread.join(timeout=2.0)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError, ValueError):
                if pipe:
                    pipe.close()


class LocalNodes:
    """Processes of this computer, each as if it were a node."""

    refused: Mapping[str, str] = MappingProxyType({})

    def __init__(self, names: Iterable[str], call: Call, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        """Start one process for each name."""
        self.names = tuple(names)
        self._said: queue.Queue[tuple[str, bytes | None]] = queue.Queue(_WAITING_LINES)
        self._closed = False
        self._processes: dict[str, NodeProcess] = {}
        try:
            for name in self.names:
                self._processes[name] = NodeProcess(call, self._teller(name), environment)
        except BaseException:
            self.close()
            raise

    def _teller(self, name: str) -> Callable[[bytes | None], None]:
        def told(line: bytes | None) -> None:
            while not self._closed:
                with suppress(queue.Full):
                    self._said.put((name, line), timeout=0.2)
                    return

        return told

    def poll(self, wait_s: float) -> list[Said]:
        """As ``Nodes`` says."""
        found: list[Said] = []
        with suppress(queue.Empty):
            found.append(self._heard(*self._said.get(timeout=wait_s)))
            while len(found) < _WAITING_LINES:
                found.append(self._heard(*self._said.get_nowait()))
        return found

    def _heard(self, name: str, line: bytes | None) -> Said:
        if line is not None:
            return Said(node=name, line=line)
        return Said(node=name, ended=self._processes[name].how_it_ended())

    def waiting(self, node: str) -> str:
        """Nothing keeps a process of this computer from starting."""
        return ""

    def end(self, node: str) -> None:
        """As ``Nodes`` says."""
        self._processes[node].end()

    def close(self) -> None:
        """As ``Nodes`` says."""
        self._closed = True
        for process in self._processes.values():
            process.end()
        for process in self._processes.values():
            process.close()


def ended_words(code: int, errors: bytes = b"") -> str:
    """How a process ended, for people.

    >>> ended_words(0), ended_words(-9), ended_words(1, b"ImportError: no rigwise")
    ('', 'ended by SIGKILL', 'exit code 1: ImportError: no rigwise')
    """
    if code < 0:
        with suppress(ValueError):
            return f"ended by {signal.Signals(-code).name}"
        return f"ended by signal {-code}"
    return f"exit code {code}{last_words(errors)}" if code else ""


def last_words(errors: bytes) -> str:
    """The last line of what a process wrote to stderr, after a colon; empty where it wrote nothing."""
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    return f": {lines[-1][:200]}" if lines else ""


def _read(stream: IO[bytes], told: Callable[[bytes | None], object]) -> None:
    with suppress(OSError, ValueError):
        while line := stream.readline(LINE_LIMIT_BYTES):
            told(line)
    told(None)
