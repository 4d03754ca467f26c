"""A run on a Ray cluster: a driver here, which a keeper keeps, and an actor on the node that has room.

The node needs rigwise and the folder that the command is started in. Variables of the environment are not sent: it
has its own. What the command writes, and what its processes report, comes back in small pieces.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.execute.spread import connected_ray, first_line
from rigwise.launch.asked import THREADS, Asked
from rigwise.launch.commands import by_torchrun, starts_ranks
from rigwise.launch.ending import PLACE_LOST
from rigwise.launch.secrets import Mask, secrets_of
from rigwise.launch.steps import FOLDER

_ASK_S, _PATIENCE_S = 0.5, 10.0
_READ_BYTES = 64 * 1024


def driver_command(command: Sequence[str], asked: Asked, address: str) -> list[str]:
    """What the keeper starts.

    Raises:
        InvalidInputError: The run needs several nodes.
        MissingExtraError: Ray is not installed.
    """
    from importlib.util import find_spec

    from rigwise.errors import MissingExtraError

    if find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")
    if asked.nodes > 1:
        raise InvalidInputError(f"{asked.nodes} nodes on Ray are not started from here", hint="--on slurm")
    several = asked.ranks > 1 and not starts_ranks(command)
    inner = by_torchrun(command, asked.ranks) if several else list(command)
    options = {"address": address, "gpus": asked.gpus, "cpus": 1 if asked.gpus else asked.ranks}
    return [sys.executable, "-P", "-m", "rigwise.launch.ray_cluster", json.dumps(options), *inner]


class Runner:
    """The command on its node."""

    def __init__(self, command: Sequence[str], cwd: str, environment: Mapping[str, str]) -> None:
        """Start it."""
        self._folder = Path(tempfile.mkdtemp(prefix="rigwise-run-"))
        self._sent: dict[str, int] = {}
        self._mask = Mask(secrets_of(os.environ))  # the node's own
        self._output: queue.Queue[bytes] = queue.Queue(maxsize=64)
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=cwd if Path(cwd).is_dir() else None,
            env={**os.environ, **environment, FOLDER: str(self._folder)},
            start_new_session=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None  # it is a pipe
        with self._process.stdout as stream:
            while text := os.read(stream.fileno(), _READ_BYTES):
                if shown := self._mask.feed(text):
                    self._output.put(shown)
        if shown := self._mask.rest():
            self._output.put(shown)
        self._output.put(b"")

    def poll(self, wait_s: float) -> tuple[bytes, dict[str, bytes], int | None]:
        """What was written, what files of steps have gained, and the exit code once all is told."""
        text, is_last = b"", False
        with contextlib.suppress(queue.Empty):
            text = self._output.get(timeout=wait_s)
            is_last = not text
            while text and not is_last and len(text) < _READ_BYTES:
                more = self._output.get_nowait()
                is_last, text = not more, text + more
        code = self._process.wait() if is_last else None
        gained = self._gained()
        if code is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        return text, gained, code

    def _gained(self) -> dict[str, bytes]:
        found = {}
        for path in self._folder.glob("steps-*.jsonl"):
            with path.open("rb") as stream:
                stream.seek(self._sent.get(path.name, 0))
                whole = stream.read().rpartition(b"\n")
            text = whole[0] + whole[1]
            if text:
                found[path.name] = text
                self._sent[path.name] = self._sent.get(path.name, 0) + len(text)
        return found

    def tell(self, number: int) -> None:
        """Send a signal to all processes of the command."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


class Driver:
    """This end of the run."""

    def __init__(self, options: Mapping[str, Any], command: Sequence[str]) -> None:
        """Connect, and ask for a place."""
        self._told = 0
        signal.signal(signal.SIGTERM, self._tell)
        self._ray = connected_ray(str(options["address"]), int(options["cpus"]))
        kept = {name: value for name, value in os.environ.items() if name.startswith("RIGWISE_") or name == THREADS}
        kept.pop(FOLDER, None)
        actor = self._ray.remote(Runner).options(
            num_cpus=options["cpus"], num_gpus=options["gpus"], max_restarts=0, max_concurrency=2
        )
        self._runner = actor.remote(list(command), os.getcwd(), {**kept, "PYTHONUNBUFFERED": "1"})
        self._folder = Path(os.environ.get(FOLDER, "."))

    def _tell(self, *_: object) -> None:
        self._told += 1

    def follow(self) -> int:
        """Pass everything on until the command has ended; its exit code, or minus its signal."""
        told, began_s, has_answered = 0, time.monotonic(), False
        asked = self._runner.poll.remote(_ASK_S)
        while True:
            if self._told > told:
                told = self._told
                self._runner.tell.remote(signal.SIGTERM)
            ready, _ = self._ray.wait([asked], timeout=_ASK_S)
            if not ready:
                if not has_answered and time.monotonic() - began_s > _PATIENCE_S:
                    has_answered = True
                    print("rigwise: Ray has no room yet, or the node is slow to start", flush=True)
                continue
            has_answered = True
            text, files, code = self._ray.get(asked)
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
            for name, gained in files.items():
                with (self._folder / Path(name).name).open("ab") as stream:
                    stream.write(gained)
            if code is not None:
                return int(code)
            asked = self._runner.poll.remote(_ASK_S)

    def close(self) -> None:
        """Leave the cluster, or end the one that was started here."""
        self._ray.shutdown()


def main() -> int:
    """Run the command of the arguments; its exit code, or how the place failed."""
    try:
        driver = Driver(json.loads(sys.argv[1]), sys.argv[2:])
    except RigwiseError as error:
        print(f"rigwise: {error}", flush=True)
        return PLACE_LOST
    try:
        code = driver.follow()
    except Exception as error:  # Ray has many, and each means that the command is gone
        print(f"rigwise: Ray lost the command: {first_line(error)}", flush=True)
        code = PLACE_LOST
    driver.close()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    sys.exit(main())
