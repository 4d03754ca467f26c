"""The GPUs as the showing process sees them: asked in a child, under a time limit."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from rigwise.machine.live.types import GpuReading
from rigwise.machine.probe.gpu_nvidia import SIGNS
from rigwise.machine.probe.live_amd import cards
from rigwise.machine.probe.live_child import reading
from rigwise.machine.probe.source import Root

#: A child that was ended is started again after this time, once the system has let go of it.
_AGAIN_S = 30.0
NONE = "no GPU of NVIDIA or AMD is visible here"


def has_nvidia(root: Root) -> bool:
    """Whether a driver of NVIDIA shows itself."""
    return any(root.exists(sign) for sign in SIGNS) or (root.foreign and shutil.which("nvidia-smi") is not None)


class GpuFeed:
    """Asks for all GPUs; ``read`` always answers, at the latest after the limit.

    Args:
        limit_s: A driver that has not answered by then is left alone for a while.
        command: What answers; None for the package's own child, or nothing on a machine without GPUs.
    """

    def __init__(self, *, limit_s: float = 5.0, command: Sequence[str] | None = None) -> None:
        self._limit_s = limit_s
        root = Root()
        nvidia = has_nvidia(root)
        own = [sys.executable, "-P", "-m", "rigwise.machine.probe.live_child", *(["nvidia"] if nvidia else [])]
        self._command = list(command) if command is not None else own if nvidia or cards(root) else []
        self._process: subprocess.Popen[bytes] | None = None
        self._left: subprocess.Popen[bytes] | None = None
        self._lines: queue.Queue[bytes | None] = queue.Queue()
        self._note, self._ended_s = "", 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self) -> GpuReading:
        """All GPUs now; none with a note where there are none, or where the driver does not answer."""
        if not self._command:
            return GpuReading(at_s=time.monotonic(), note=NONE)
        if self._process is None and not self._start():
            return GpuReading(at_s=time.monotonic(), note=self._note)
        try:
            return self._ask()
        except (OSError, ValueError) as error:
            self._give_up(f"the process that reads the GPUs failed: {error}"[:200])
        return GpuReading(at_s=time.monotonic(), note=self._note)

    def close(self) -> None:
        """End the child; one that hangs in the driver is left to the system."""
        self._end(self._process)
        self._process = None

    def _start(self) -> bool:
        """Whether there is a child now."""
        hangs = self._left is not None and self._left.poll() is None
        if hangs or (self._note and time.monotonic() - self._ended_s < _AGAIN_S):
            return False
        self._lines = queue.Queue()
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the one who shows
            )
        except OSError as error:
            self._note, self._ended_s = f"the GPUs cannot be read: {error.strerror or error}", time.monotonic()
            return False
        threading.Thread(target=_forward, args=(self._process, self._lines), daemon=True).start()
        return True

    def _ask(self) -> GpuReading:
        process = self._process
        if process is None or process.stdin is None:
            raise ValueError("it was closed")
        process.stdin.write(b"\n")
        process.stdin.flush()
        try:
            line = self._lines.get(timeout=self._limit_s)
        except queue.Empty:
            self._give_up(f"the GPU driver did not answer in {self._limit_s:g} s; see rigwise doctor")
            return GpuReading(at_s=time.monotonic(), note=self._note)
        if line is None:
            raise ValueError("it ended by itself")
        found = reading(line)
        self._note = ""
        return found

    def _give_up(self, note: str) -> None:
        self._note, self._ended_s = note, time.monotonic()
        self._end(self._process)
        self._left, self._process = self._process, None

    @staticmethod
    def _end(process: subprocess.Popen[bytes] | None) -> None:
        """Kill the child, and wait for it only a moment: inside a driver that hangs it cannot die."""
        if process is None:
            return
        with suppress(OSError):
            if process.stdin:
                process.stdin.close()
        with suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1.0)


def _forward(process: subprocess.Popen[bytes], lines: queue.Queue[bytes | None]) -> None:
    """Lines of the child as they come, then None."""
    with suppress(OSError, ValueError):
        for line in process.stdout or ():
            lines.put(line)
    lines.put(None)
    with suppress(OSError):
        if process.stdout:
            process.stdout.close()
