"""Work lost when the worker of ``rigwise run`` is killed, and when it is told to end, at random moments.

Usage: python benchmarks/bench_interruption.py [EACH]
One run of a loop with steps of 5 ms and a checkpoint after each second of work; its worker gets SIGKILL EACH times (20
unless told), then SIGTERM EACH times, each 0.3 to 2 s after its first step. The loop itself writes every step with
its time, and from this file is read what was done twice. In the end the store is checked by SQLite itself.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rigwise.measurement.store import open_store

INTERVAL_S = 1.0
LOOP = """
import os, time
from pathlib import Path
from rigwise import monitor

saved = Path("saved")
first = step = int(saved.read_text()) if saved.exists() else 0
with monitor(samples=1, first_step=first) as m, open("done.txt", "a") as done:
    while not m.stopping and not Path("enough").exists():
        time.sleep(0.005)
        step += 1
        print(os.getpid(), step, time.monotonic(), file=done, flush=True)
        m.step()
        if m.checkpoint_due():
            with m.checkpoint():
                Path("saved.new").write_text(str(step))
                os.replace("saved.new", "saved")
"""


def rows() -> list[tuple[int, int, float]]:
    """Process, step, time, as the loop wrote them."""
    path = Path("done.txt")
    whole = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [(int(pid), int(step), float(at_s)) for pid, step, at_s in map(str.split, whole)]


def last_pid() -> int:
    found = rows()
    return found[-1][0] if found else 0


def lost_s(found: Sequence[tuple[int, int, float]]) -> list[tuple[float, float]]:
    """For each end of a process: time of the work that the next one did again, and the longest step before."""
    lost = []
    pids = list(dict.fromkeys(pid for pid, _, _ in found))
    for pid, following in itertools.pairwise(pids):
        at_s = {step: time_s for one, step, time_s in found if one == pid}
        again = min(step for one, step, _ in found if one == following)
        kept_s = at_s.get(again - 1, min(at_s.values()))
        times = sorted(at_s.values())
        longest_s = max((b - a for a, b in itertools.pairwise(times)), default=0.0)
        lost.append((max(at_s.values()) - kept_s, longest_s))
    return lost


def interrupt(numbers: Sequence[int], process: subprocess.Popen[bytes]) -> None:
    """Send each signal to a worker of its own, at a random moment."""
    before = 0
    for number in numbers:
        while (pid := last_pid()) == before:
            if process.poll() is not None:
                sys.exit(f"the run ended with {process.returncode}")
            time.sleep(0.05)
        time.sleep(random.uniform(0.3, 2.0))
        os.kill(pid, number)
        before = pid
    while last_pid() == before:
        time.sleep(0.05)
    time.sleep(0.5)
    Path("enough").touch()


def main(each: int) -> None:
    """Print the table."""
    random.seed(7)
    os.environ |= {"RIGWISE_RUNS": "runs", "RIGWISE_STORE": "store.sqlite"}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path("loop.py").write_text(LOOP)
        words = ["--restarts", str(2 * each), "--back-off", "50ms", "--checkpoint", f"{INTERVAL_S}s", "--json"]
        process = subprocess.Popen(
            [sys.executable, "-m", "rigwise", "run", *words, "--", sys.executable, "loop.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        began_s = time.monotonic()
        interrupt([signal.SIGKILL] * each + [signal.SIGTERM] * each, process)
        answer = json.loads(process.communicate()[0])
        print(f"{len(answer['attempts'])} attempts in {time.monotonic() - began_s:.0f} s, run {answer['phase']}")
        lost = lost_s(rows())
        for name, part in (("SIGKILL", lost[:each]), ("SIGTERM", lost[each:])):
            figures = [value_s for value_s, _ in part]
            over = sum(value_s > INTERVAL_S + longest_s for value_s, longest_s in part)
            print(
                f"{name}: work lost {min(figures):.3f}, {statistics.median(figures):.3f}, {max(figures):.3f} s"
                f" (min, median, max of {len(figures)}); more than the interval of {INTERVAL_S} s and one step: {over}"
            )
        (check,) = sqlite3.connect("store.sqlite").execute("pragma integrity_check").fetchone()
        with open_store("store.sqlite") as store:
            print(f"store: integrity {check}, {store.count()} records, {answer['kept']} of this run")
        os.chdir("/")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
