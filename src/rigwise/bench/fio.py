"""Disk reads by fio, where it is installed: what it measures is not measured again.

Source: fio's documentation, "Normal output" and "JSON output": rates over the whole run, latencies by percentile.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rigwise.bench.types import Parameter

#: fio starts, lays nothing out, and ends so much after its run.
_SLACK_S = 30.0


def installed() -> str:
    """The path of fio; empty where there is none."""
    return shutil.which("fio") or ""


def reads(
    program: str, path: Path, size: int, depth: int, *, each_s: float, direct: bool
) -> tuple[float, float, Mapping[str, Parameter]] | None:
    """Reads and bytes a second, and what to say of them; None where fio does not answer.

    Args:
        program: As ``installed`` found it.
        path: A file that is there already.
        size: Of one read; small ones are random, large ones in order.
        depth: Reads at once, one thread each.
        each_s: How long, in whole seconds at least one.
        direct: Past the page cache.
    """
    order = "randread" if size < 1 << 20 else "read"
    command = [program, "--name=rigwise", f"--filename={path}", f"--rw={order}", f"--bs={size}", "--readonly"]
    command += [f"--direct={int(direct)}", "--ioengine=psync", f"--numjobs={depth}", "--thread", "--group_reporting"]
    command += [f"--runtime={max(1, round(each_s))}", "--time_based", "--output-format=json"]
    try:
        ran = subprocess.run(
            command, capture_output=True, timeout=each_s + _SLACK_S, check=True, stdin=subprocess.DEVNULL
        )
        return parsed(ran.stdout.decode("utf-8", "replace"))
    except (subprocess.SubprocessError, OSError, ValueError):
        return None


def parsed(text: str) -> tuple[float, float, Mapping[str, Parameter]]:
    """What fio's JSON says of the reads of its one group; lines before it are skipped.

    Raises:
        ValueError: It is no such document, or reports an error.
    """
    try:
        document: Any = json.loads(text[text.index("{") :])
        (job,) = document["jobs"]
        read = job["read"]
        if job["error"] or not read["iops"] > 0:
            raise ValueError("fio reports an error")
        p99_ns = float(read["clat_ns"]["percentile"]["99.000000"])
        shown: dict[str, Parameter] = {"tool": str(document["fio version"]), "p99_us": round(p99_ns / 1e3, 1)}
        return float(read["iops"]), float(read["bw_bytes"]), shown
    except (KeyError, TypeError) as error:
        raise ValueError(f"no JSON of fio: {error}") from None
