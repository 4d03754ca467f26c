"""A worker process as its stage sees it: started, asked, and never left behind."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Pipe
from typing import Any

from rigwise.errors import InvalidInputError, RunError
from rigwise.execute.calls import Convention, fault
from rigwise.execute.worker import DONE, FAILED

#: One thread of arithmetic libraries for each process: the stage says how many workers there are.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}


class WorkerFaultError(Exception):
    """What the worker reports of the user's function; ``position`` is that of the call in the request."""

    def __init__(self, text: str, position: int = 0) -> None:
        super().__init__(text)
        self.position = position


class Remote:
    """One worker process of a stage."""

    def __init__(self, stage: str, call: Callable[..., Any] | str, how: Convention, *, source: bool) -> None:
        """Start the process; ``wait_ready`` tells when it can be asked.

        Raises:
            InvalidInputError: The function cannot be sent to a process.
        """
        request = pickle.dumps((how, source, call if isinstance(call, str) else _sendable(stage, call)))
        self._stage = stage
        self.dismissed = False
        self._connection, theirs = Pipe()
        read, self._lifeline = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "rigwise.execute.worker", str(theirs.fileno()), str(read)],
            pass_fds=(theirs.fileno(), read),
            stdin=subprocess.DEVNULL,
            stdout=2,
            env=_ENVIRONMENT | os.environ,
            start_new_session=True,
        )
        theirs.close()
        os.close(read)
        self._send(pickle.dumps([os.getcwd() if folder == "" else folder for folder in sys.path]))
        self._send(request)

    def wait_ready(self) -> None:
        """Until the function is imported.

        Raises:
            InvalidInputError: There is no such function.
            RunError: Importing it failed, or the process ended.
        """
        try:
            self._receive()
        except WorkerFaultError as error:
            kind = InvalidInputError if error.position else RunError
            raise kind(str(error).lstrip(": ")) from None

    def next_item(self) -> tuple[Any, float, float] | None:
        """The next item of a source, its time and CPU time; None at the end; same errors as ``ask``."""
        self._send(b"")
        reply = self._receive()
        if reply[0] != DONE:
            return None
        ((item, took_s),) = reply[1]
        return item, took_s, reply[2]

    def ask(self, calls: list[list[Any]]) -> tuple[list[tuple[Any, float]], float]:
        """What comes out of each call with its time, and the CPU time of all.

        Raises:
            WorkerFaultError: The function raised, or an item cannot be sent.
            RunError: The process ended.
        """
        try:
            content = pickle.dumps(calls, pickle.HIGHEST_PROTOCOL)
        except Exception as error:
            kind = type(calls[0][0]).__name__
            raise WorkerFaultError(f" got a {kind} that cannot be sent to a process{fault(error)}") from None
        self._send(content)
        reply = self._receive()
        return reply[1], reply[2]

    def _send(self, content: bytes) -> None:
        try:
            self._connection.send_bytes(content)
        except (OSError, ValueError):
            raise self.ended() from None

    def _receive(self) -> tuple[Any, ...]:
        try:
            content = self._connection.recv_bytes()
        except (EOFError, OSError):
            raise self.ended() from None
        try:
            reply: tuple[Any, ...] = pickle.loads(content)
        except Exception as error:
            raise WorkerFaultError(f" gave something that this process cannot read{fault(error)}") from None
        if reply[0] == FAILED:
            raise WorkerFaultError(reply[1], reply[2])
        return reply

    def ended(self) -> RunError:
        """That the process is no more, and how it ended."""
        try:
            status = self.process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            return RunError(f"the worker process {self.process.pid} of stage {self._stage} closed its connection")
        how = f"exited with status {status}" if status >= 0 else f"was ended by {_signal_name(-status)}"
        hint = "" if status != -signal.SIGKILL else "was it killed by hand, or was there too little memory?"
        return RunError(f"a worker process of stage {self._stage} {how}", hint=hint)

    def dismiss(self) -> None:
        """Tell it that nothing more comes; it then ends by itself."""
        self.dismissed = True
        with contextlib.suppress(OSError):
            self._connection.close()

    def kill(self) -> None:
        """End the process and whatever it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self, within_s: float) -> None:
        """Wait for the process to end by itself, then end it and whatever it started."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=within_s)
        self.kill()
        self.process.wait()
        with contextlib.suppress(OSError):
            os.close(self._lifeline)


def _sendable(stage: str, call: Callable[..., Any]) -> bytes:
    try:
        content = pickle.dumps(call)
    except Exception as error:
        raise InvalidInputError(
            f"the function of stage {stage} cannot be sent to a process{fault(error)}",
            hint="define it at the top level of a module, or run the stage in a thread",
        ) from None
    if getattr(call, "__module__", type(call).__module__) == "__main__":
        raise InvalidInputError(
            f"the function of stage {stage} stands in the script that was started, which a process cannot import",
            hint="move it into a module, or run the stage in a thread",
        )
    return content


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
