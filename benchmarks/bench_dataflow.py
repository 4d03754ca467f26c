"""What handing an item from stage to stage costs: empty functions, four stages, in one place or another.

Usage: python benchmarks/bench_dataflow.py [RUNS]
Prints minimum, median and maximum of RUNS runs (5 unless told): items a second, and CPU time of an item in all
processes together.
"""

from __future__ import annotations

import resource
import statistics
import sys
import tempfile
from pathlib import Path

from rigwise.execute.dataflow import run
from rigwise.execute.stage import Limits, Stage

ITEMS = {"inline": 50_000, "thread": 50_000, "process": 20_000}
FUNCTIONS = "import itertools\ndef numbers():\n    return itertools.count()\ndef same(item):\n    return item\n"


def pipeline(where: str) -> list[Stage]:
    """A source and three stages that hand on what they get."""
    own = "thread" if where == "inline" else where
    stages = [Stage(name="source", call="bench_functions:numbers", run=own)]
    for name in ("a", "b", "c"):
        after = (stages[-1].name,)
        stages.append(Stage(name=name, call="bench_functions:same", after=after, run=where, queue=64))
    return stages


def cpu_s() -> float:
    """CPU time of this process and of those of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def main(runs: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bench_functions.py").write_text(FUNCTIONS)
        sys.path.insert(0, folder)
        print(f"{'':<12} {'items/s: min, median, max':>26}   {'us CPU: min, median, max':>24}  {runs} runs")
        for where, items in ITEMS.items():
            rates, costs_us = [], []
            for _ in range(runs):
                before_s = cpu_s()
                measured = run(pipeline(where), Limits(items=items))
                rates.append(items / measured.elapsed_s)
                costs_us.append(1e6 * (cpu_s() - before_s) / items)
            figures = " ".join(f"{f(rates):8,.0f}" for f in (min, statistics.median, max))
            costs = " ".join(f"{f(costs_us):7.1f}" for f in (min, statistics.median, max))
            print(f"{where:<12} {figures}   {costs}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
