"""All-reduce between two processes of this computer, by size; and latency and bandwidth fitted to it.

Over gloo it measures the CPU and its memory, not a network. Bus bandwidth counts what a ring sends over each link:
``2 (n - 1) / n`` of the message.

Source: NVIDIA, "nccl-tests, PERFORMANCE.md", for bus bandwidth; Thakur et al., "Optimization of Collective
Communication Operations in MPICH", 2005, for a time of ``2 (n - 1) (latency + bytes / n / bandwidth)``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rigwise.bench.framework import torch_or_none
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import quantile
from rigwise.bench.types import BYTES, TIME, Context, Parameter, Raw, Timing
from rigwise.units import KIB, MIB

RANKS = 2
SIZES = {"4k": 4 * KIB, "1m": MIB, "16m": 16 * MIB}


def run(context: Context) -> Iterator[Raw]:
    """One figure for each size, latency, bandwidth."""
    if torch_or_none() is None:
        yield Raw(name="all-reduce", unit=BYTES, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    if not context.folder:
        yield Raw(name="all-reduce", unit=BYTES, skipped="no folder can be written for the processes to meet in")
        return
    try:
        times = measured(context, [int(size) for size in SIZES.values()])
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        yield Raw(name="all-reduce", unit=BYTES, skipped=f"the processes did not answer: {type(error).__name__}")
        return
    middles: list[tuple[float, float]] = []
    for (word, size), samples in zip(SIZES.items(), times, strict=True):
        middles.append((size, quantile(samples, 0.5)))
        if is_wanted(context, f"all-reduce.{word}"):
            yield Raw(
                name=f"all-reduce.{word}",
                unit=BYTES,
                amount=2 * (RANKS - 1) / RANKS * size,
                timing=Timing(samples_s=tuple(samples), wall_s=sum(samples)),
                parameters={"message_bytes": int(size), "ranks": RANKS, "library": "gloo"},
                note="bus bandwidth",
            )
    latency_s, bytes_per_s = fitted(middles, RANKS)
    shown: dict[str, Parameter] = {"ranks": RANKS, "library": "gloo"}
    if is_wanted(context, "all-reduce.latency"):
        yield Raw(name="all-reduce.latency", unit=TIME, value=latency_s, parameters=shown, note="fitted, of one hop")
    if is_wanted(context, "all-reduce.bandwidth"):
        yield Raw(name="all-reduce.bandwidth", unit=BYTES, value=bytes_per_s, parameters=shown, note="fitted")


def fitted(times: Sequence[tuple[float, float]], ranks: int) -> tuple[float, float]:
    """Latency of a hop and bandwidth of a link, from message sizes and times, by least squares of relative errors.

    Source: see the module.

    >>> latency, bandwidth = fitted([(1e3, 2 * (1e-5 + 500 / 1e9)), (1e6, 2 * (1e-5 + 5e5 / 1e9))], 2)
    >>> round(latency * 1e6, 3), round(bandwidth / 1e9, 3)
    (10.0, 1.0)
    """
    import numpy as np

    hops = 2.0 * (ranks - 1)
    rows = np.array([[hops / t, hops * size / ranks / t] for size, t in times])
    found, *_ = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)
    latency, per_byte = float(found[0]), float(found[1])
    return max(latency, 0.0), 1.0 / per_byte if per_byte > 0 else float("inf")


def measured(context: Context, sizes: Sequence[int]) -> list[list[float]]:
    """Times of every size, as the first process saw them; each begins and ends with the others.

    Raises:
        subprocess.SubprocessError: A process failed, or took too long.
        ValueError: What it wrote is not what was asked for.
    """
    meeting = Path(context.folder) / "meeting"
    request = {"meeting": str(meeting), "ranks": RANKS, "sizes": list(sizes), "each_s": context.each_s}
    limit_s = 60 + 6 * context.each_s * len(sizes)
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": os.environ.get("GLOO_SOCKET_IFNAME", _loopback())}
    environment |= {"OMP_NUM_THREADS": "1"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-P", "-m", "rigwise.bench.all_reduce_rank", json.dumps({**request, "rank": rank})],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if rank == 0 else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        for rank in range(RANKS)
    ]
    try:
        answer, _ = ranks[0].communicate(timeout=limit_s)
        found = json.loads(answer or b"null")
    finally:
        for process in ranks:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
        meeting.unlink(missing_ok=True)
    if not isinstance(found, list) or len(found) != len(sizes):
        raise ValueError("no times")
    return [[float(one) for one in samples] for samples in found]


def _loopback() -> str:
    """What this system calls the interface to itself."""
    return "lo0" if sys.platform == "darwin" else "lo"
