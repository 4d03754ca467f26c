"""What ``rigwise.monitor`` costs a training loop: blocks of steps of 5 ms with and without it, by turns.

Usage: python benchmarks/bench_monitor.py [BLOCKS]
Each block has 50 steps, every step a busy wait until the process itself has used 5 ms of CPU; BLOCKS of each kind (20
unless told, so 1,000 steps of each). With the monitor a block calls ``batches``, ``step``, ``checkpoint_due`` and
``stopping``, and writes to a file, as under ``rigwise run``. The figure is CPU time, which a busy machine disturbs
least; the wall time of the same calls alone is printed beside it.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rigwise import monitor
from rigwise.launch.steps import FOLDER, sessions

STEP_S, STEPS = 5e-3, 50


def work() -> None:
    until_s = time.process_time() + STEP_S
    while time.process_time() < until_s:
        pass


def without(batches: Iterator[int]) -> float:
    began_s = time.process_time()
    for _, _ in zip(range(STEPS), batches, strict=False):
        work()
    return time.process_time() - began_s


def with_monitor(m: monitor, batches: Iterator[int]) -> float:
    began_s = time.process_time()
    for _, _ in zip(range(STEPS), batches, strict=False):
        work()
        m.step()
        if m.checkpoint_due():
            m.saved()
        if m.stopping:
            break
    return time.process_time() - began_s


def calls_alone(m: monitor, count: int = 20_000) -> float:
    """Wall time of one step's calls, without a step."""
    began_s = time.perf_counter()
    for _ in range(count):
        m.step()
        m.checkpoint_due()
        m.stopping  # noqa: B018
    return (time.perf_counter() - began_s) / count


def numbers() -> Iterator[int]:
    while True:
        yield 1


def main(blocks: int) -> None:
    """Print the table."""
    plain_s, watched_s = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = folder
        with monitor(samples=8) as m:
            plain, watched = numbers(), iter(m.batches(numbers()))
            for block in range(blocks):
                pair = (lambda: plain_s.append(without(plain)), lambda: watched_s.append(with_monitor(m, watched)))
                for one in pair if block % 2 else reversed(pair):
                    one()
            call_s = calls_alone(m)
        (found,) = sessions(Path(folder))
        size_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
    differences = [100 * (after / before - 1) for before, after in zip(plain_s, watched_s, strict=True)]
    quarters = statistics.quantiles(differences, n=4)
    print(f"{blocks} x {STEPS} steps of {1e3 * STEP_S:.0f} ms CPU with and without, interleaved")
    print(f"CPU of a step without   {1e3 * statistics.median(plain_s) / STEPS:8.4f} ms, median of blocks")
    print(f"CPU of a step with      {1e3 * statistics.median(watched_s) / STEPS:8.4f} ms")
    print(f"overhead                {statistics.median(differences):8.3f} %, median of pairs")
    print(f"                        {quarters[0]:8.3f} to {quarters[2]:.3f} %, the middle half")
    print(f"                        {min(differences):8.3f} to {max(differences):.3f} %, all")
    print(f"calls of a step, wall   {1e6 * call_s:8.2f} us, {100 * call_s / STEP_S:.3f} % of a step")
    print(f"file                    {size_bytes:8,d} bytes for {found.steps:,} steps")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
