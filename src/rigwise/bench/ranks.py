"""Several processes of this computer that meet through a file; the first of them answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def answer(module: str, request: Mapping[str, Any], ranks: int, limit_s: float, folder: str) -> Any:
    """What the first process prints, as JSON; all of them are gone afterwards.

    Args:
        module: Runs as a program; its argument is the request with ``rank``, ``ranks`` and ``meeting``.
        request: What all of them are told; ``environment`` is added to theirs.
        ranks: Processes.
        limit_s: Time for all of it.
        folder: Where the file is that they meet through.

    Raises:
        subprocess.SubprocessError: A process failed, or took too long.
        ValueError: What it wrote is no JSON.
    """
    meeting = Path(folder) / "meeting"
    told = {**request, "meeting": str(meeting), "ranks": ranks}
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", _loopback())}
    environment |= {"OMP_NUM_THREADS": "1", **request.get("environment", {})}
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", module, json.dumps({**told, "rank": rank})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for rank in range(ranks)
    ]
    try:
        said, _ = processes[0].communicate(timeout=limit_s)
        return json.loads(said or b"null")
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        meeting.unlink(missing_ok=True)


def _loopback() -> str:
    """What this system calls the interface to itself."""
    return "lo0" if sys.platform == "darwin" else "lo"
