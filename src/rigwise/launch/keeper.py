"""The process that starts the command, wherever the place is, and writes down what becomes of it.

``python -m rigwise.launch.keeper FOLDER ATTEMPT``. It outlives the launcher: the log grows and the end is written
whoever looks. SIGTERM is passed on to all processes of the command; what is left after the grace is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rigwise.launch.secrets import Mask, revealed, secrets_of

#: How often it is shown that the keeper is there.
BEAT_S = 2.0
#: How long output is waited for before anything else is looked after.
_WAIT_S = 0.2
_READ_BYTES = 64 * 1024
#: What is kept in reserve again after the log has ended.
_RESERVE_BYTES = 32 * 1024
#: What other processes of the command may still write after it has ended.
_AFTER_S = 1.0


class Keeper:
    """One attempt."""

    def __init__(self, folder: Path, attempt: int) -> None:
        self.folder, self.attempt = folder, attempt
        self.state = json.loads((folder / "state.json").read_bytes())
        self._mask = Mask(secrets_of(os.environ))
        self._told_s: float | None = None
        self._log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._logs = True
        self._beat_s = 0.0
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Start the command, follow it to its end, and return its exit code or minus its signal."""
        signal.signal(signal.SIGTERM, self._tell)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        additions = {**self.state["environment"], "RIGWISE_ATTEMPT": str(self.attempt)}
        try:
            command = revealed(self.state["started"], self.state["secrets"], os.environ)
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.state["cwd"] or None,
                env={"PYTHONUNBUFFERED": "1", **os.environ, **additions, "RIGWISE_RUN": str(self.folder)},
                start_new_session=True,
            )
        except Exception as error:  # whatever it is, the launcher must learn of it
            self._end(None, f"it could not be started: {getattr(error, 'strerror', None) or error}")
            return 127
        self._process = process
        _write(self.folder / f"started-{self.attempt}.json", {"pid": process.pid, "created_s": _created_s(process.pid)})
        if self._told_s is not None:
            self._kill(signal.SIGTERM)
        code = self._follow(process)
        if code == 0 and self.state["on"] == "slurm":
            self._look_around()
        self._end(code)
        return code

    def _follow(self, process: subprocess.Popen[bytes]) -> int:
        pipe = process.stdout
        assert pipe is not None
        open_, ended_s = True, None
        while True:
            now_s = time.monotonic()
            self._beat(now_s)
            if self._told_s is not None and now_s > self._told_s + float(self.state["grace_s"]):
                self._kill(signal.SIGKILL)
            if ended_s is None and process.poll() is not None:
                ended_s = now_s
            if ended_s is not None and (not open_ or now_s > ended_s + _AFTER_S):
                break
            open_ = self._pass_on(pipe.fileno()) if open_ else open_
            if not open_ and ended_s is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=_WAIT_S)
        self._kill(signal.SIGKILL)  # what it has left behind
        self._write_log(self._mask.rest())
        return process.returncode

    def _pass_on(self, pipe: int) -> bool:
        """Move output to the log; whether there may be more."""
        ready, _, _ = select.select([pipe], [], [], _WAIT_S)
        if not ready:
            return True
        text = os.read(pipe, _READ_BYTES)
        self._write_log(self._mask.feed(text))
        return bool(text)

    def _write_log(self, text: bytes) -> None:
        """A log that cannot be written ends; the command goes on."""
        if not text or not self._logs:
            return
        try:
            while text:
                text = text[os.write(self._log, text) :]
        except OSError as error:
            self._logs = False
            with contextlib.suppress(OSError):
                (self.folder / "reserve").unlink()
            words = f"\nrigwise: the log ends here: {error.strerror or error}\n".encode()
            with contextlib.suppress(OSError):
                os.write(self._log, words)
            with contextlib.suppress(OSError), (self.folder / "reserve").open("wb") as stream:
                stream.write(b"\0" * _RESERVE_BYTES)  # the log took its part; how the run ends is still to be written

    def _look_around(self) -> None:
        """Note what machine this is, for whoever keeps the figures elsewhere."""
        with contextlib.suppress(Exception):  # the run is done, and this only describes it
            from rigwise.edge import write_atomically
            from rigwise.machine.inspect import inspect
            from rigwise.machine.snapshot import snapshot_text

            write_atomically(self.folder / "snapshot.json", snapshot_text(inspect()))

    def _beat(self, now_s: float) -> None:
        if now_s - self._beat_s > BEAT_S:
            self._beat_s = now_s
            with contextlib.suppress(OSError):
                (self.folder / "alive").touch()
            if (self.folder / f"stop-{self.attempt}").exists():
                self._tell()

    def _tell(self, *_: object) -> None:
        if self._told_s is None:
            self._told_s = time.monotonic()
            self._kill(signal.SIGTERM)

    def _kill(self, number: int) -> None:
        """Send a signal to all processes of the command; of a Ray's driver SIGTERM to it alone, for Ray would end."""
        if self._process is not None:
            send = os.kill if number == signal.SIGTERM and self.state["on"] == "ray" else os.killpg
            with contextlib.suppress(ProcessLookupError, PermissionError):
                send(self._process.pid, number)

    def _end(self, code: int | None, fault: str = "") -> None:
        ended: dict[str, Any] = {"at_s": time.time(), "fault": fault, "log": self._logs}
        ended["told"] = self._told_s is not None
        ended["exit_code"] = code if code is None or code >= 0 else None
        ended["signal"] = -code if code is not None and code < 0 else None
        _write(self.folder / f"ended-{self.attempt}.json", ended)


def _created_s(pid: int) -> float:
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def _write(path: Path, document: dict[str, Any]) -> None:
    """Write a small file whole; with the room of the reserve if there is none."""
    beside = path.with_suffix(".new")
    for _ in range(2):
        try:
            with beside.open("w") as stream:
                json.dump(document, stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(beside, path)
        except OSError:
            with contextlib.suppress(OSError):
                (path.parent / "reserve").unlink()
        else:
            return


def main() -> None:
    """Keep the attempt that the arguments name."""
    code = Keeper(Path(sys.argv[1]), int(sys.argv[2])).run()
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
