"""How long a command takes from the shell's point of view: the whole process, import included.

Usage: python benchmarks/bench_start.py [RUNS]
Prints minimum, median and maximum of RUNS runs (20 unless told) against the time we hold ourselves to.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

#: Command -> the time it should take, in seconds.
TARGETS_S = {
    ("--help",): 0.150,
    ("predict", "resnet50", "--device", "rtx-4090", "--batch", "64"): 0.400,
}


def wall_times_s(arguments: tuple[str, ...], runs: int) -> list[float]:
    """Whole-process times, after one run that fills the file cache and writes bytecode."""
    command = [str(Path(sys.executable).with_name("rigwise")), *arguments]
    times_s = []
    for _ in range(runs + 1):
        start_s = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times_s.append(time.perf_counter() - start_s)
    return times_s[1:]


def main(runs: int) -> int:
    """Print the table; 1 if a median is over its target."""
    slow = False
    print(f"{'command':<55} {'min':>7} {'median':>7} {'max':>7} {'target':>7}  ms, {runs} runs")
    for arguments, target_s in TARGETS_S.items():
        times_s = wall_times_s(arguments, runs)
        figures_s = (min(times_s), statistics.median(times_s), max(times_s), target_s)
        print(f"{'rigwise ' + ' '.join(arguments):<55} " + " ".join(f"{1e3 * figure_s:7.0f}" for figure_s in figures_s))
        slow = slow or figures_s[1] > target_s
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 20))
