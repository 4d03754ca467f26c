"""What `rigwise run --on slurm` adds to a bare sbatch: from submission to result, on a Slurm started for it here.

Usage: python benchmarks/bench_slurm.py [RUNS]
The job is `true`. Bare is `sbatch --wait`. Of rigwise the whole process is timed, its start included, with figures
kept off (--no-store). Minimum, median and maximum of RUNS runs (5 unless told), by turns. The scheduler of the test
suite's cluster looks for work each second.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def cluster() -> Any:
    """The cluster of the test suite."""
    path = Path(__file__).parents[1] / "tests" / "slurm_cluster.py"
    spec = importlib.util.spec_from_file_location("slurm_cluster", path)
    if spec is None or spec.loader is None:
        sys.exit(f"there is no {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if why := module.missing():
        sys.exit(why)
    return module.cluster()


def timed(words: list[str], environment: dict[str, str]) -> float:
    """Wall time of a command that must succeed."""
    began_s = time.perf_counter()
    subprocess.run(words, env=environment, check=True, capture_output=True)
    return time.perf_counter() - began_s


def main(runs: int) -> None:
    """Print the table."""
    with cluster() as slurm, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        environment = {**os.environ, **slurm.environment, "RIGWISE_RUNS": folder}
        bare = ["sbatch", "--wait", "--output=/dev/null", "--wrap=true"]
        ours = [sys.executable, "-m", "rigwise", "run", "--quiet", "--no-store", "--on", "slurm", "--", "true"]
        times_s: dict[str, list[float]] = {"sbatch --wait": [], "rigwise run": []}
        for _ in range(runs):
            times_s["sbatch --wait"].append(timed(bare, environment))
            times_s["rigwise run"].append(timed(ours, environment))
        for name, values in times_s.items():
            print(
                f"{name:14}" + "".join(f"{f(values):8.2f} s" for f in (min, statistics.median, max)) + f"   {runs} runs"
            )
        os.chdir("/")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
