"""How planning jobs that share machines grows: A* beside every choice, and beside the CP-SAT solver.

    python benchmarks/bench_shared.py [--most 20] [--repeats 5] [--limit 60] [--peers PYTHON]

Random jobs on 2 and 4 machines, of two recipes each: cost with deadlines, where waiting costs nothing, and cost with
deadlines and waiting. Every choice is looked at while there are few; the solver is asked where --peers (or the variable
RIGWISE_PEERS) names a Python that has ``ortools``. The values must agree. CPU seconds: median and most of the repeats,
which are different markets; * counts those that were ended at the limit (ours of CPU time, the solver's of wall time)
before the gap was closed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from rigwise.search.sequence import Turn, best_order
from rigwise.search.shared_types import RENT, Option, Work
from rigwise.search.sharing import Sharing

JOBS = (2, 4, 6, 8, 10, 12, 14, 16, 18, 20)
MACHINES = (2, 4)
MOST_CHOICES = 1e5
HERE = Path(__file__).parent


def market(seed: str, jobs: int, machines: int, wait_per_s: float) -> list[Work]:
    """Hours of work; machines of different speed, which each job uses more or less well; deadlines that bind."""
    dice = random.Random(seed)
    speeds = [dice.uniform(0.5, 2.0) for _ in range(machines)]
    sizes = [dice.uniform(3600, 36000) for _ in range(jobs)]
    works = []
    for size in sizes:
        deadline_s = max(1.5 * size, dice.uniform(0.2, 0.8) * sum(sizes) / machines)
        options = [Option(machine=RENT, number=size / 3600 * dice.uniform(1.0, 5.0) + wait_per_s * size)]
        for machine, speed in enumerate(speeds):
            for slower in (1.0, 1.3):
                run_s = size / speed * dice.uniform(0.8, 1.3) * slower
                late_s = run_s * dice.uniform(1.1, 1.3)
                number = run_s / 3600 * 0.3 / slower**2 + wait_per_s * run_s
                if late_s <= deadline_s:
                    options.append(Option(machine=machine, number=number, run_s=run_s, late_s=late_s))
        works.append(Work(deadline_s=deadline_s, wait_per_s=wait_per_s, options=tuple(options)))
    return works


def searched(works: list[Work], limit_s: float) -> tuple[float, int, float, bool]:
    """Value, states expanded, CPU seconds, and whether the gap was closed."""
    started_s = time.process_time()
    sharing = Sharing(works, stop=lambda best, bound: time.process_time() - started_s > limit_s)
    found = sharing.best()
    value = found.number if found else math.inf
    return value, sharing.search.expanded, time.process_time() - started_s, not sharing.search.stopped


def every(works: list[Work]) -> tuple[float, float] | None:
    """The least value of all choices, and CPU seconds; None if there are too many."""
    if math.prod(len(work.options) for work in works) > MOST_CHOICES:
        return None
    started_s, best = time.process_time(), math.inf
    for options in itertools.product(*(work.options for work in works)):
        total, queues = 0.0, {}
        for work, option in zip(works, options, strict=True):
            total += option.number
            if option.machine != RENT:
                turn = Turn(option.run_s, option.late_s, work.wait_per_s, work.deadline_s or math.inf)
                queues.setdefault(option.machine, []).append(turn)
        orders = [best_order(turns) for turns in queues.values()]
        if total < best and all(orders):
            best = min(best, total + sum(order[0] for order in orders if order))
    return best, time.process_time() - started_s


def solved(python: str, markets: list[list[Work]], limit_s: float) -> list[dict[str, Any]]:
    """What the CP-SAT solver makes of them; nothing where it is not at hand."""
    if not python or not Path(python).exists():
        return []
    problems = [
        {
            "kind": "shared",
            "limit_s": limit_s,
            "jobs": [
                {
                    "deadline_s": work.deadline_s,
                    "wait_per_s": work.wait_per_s,
                    "options": [(o.machine, o.number, o.run_s, o.late_s) for o in work.options],
                }
                for work in works
            ],
        }
        for works in markets
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.json"
        path.write_text(json.dumps(problems), encoding="utf-8")
        command = [python, str(HERE / "peers" / "ortools_shared.py"), str(path)]
        answers: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answers


def line(jobs: int, machines: int, wait_per_s: float, options: argparse.Namespace) -> str:
    """One size."""
    markets = [market(f"{jobs} {machines} {i}", jobs, machines, wait_per_s) for i in range(options.repeats)]
    ours = [searched(works, options.limit) for works in markets]
    all_of = [every(works) for works in markets]
    other = solved(options.peers, markets, options.limit)
    choices = statistics.median(math.prod(len(work.options) for work in works) for works in markets)
    text = f"{jobs:>4} {machines:>4} {choices:>9.1e} {statistics.median(o[1] for o in ours):>9,.0f}"
    text += f" {_times([(o[2], o[3]) for o in ours])}"
    text += f" {statistics.median(e[1] for e in all_of if e):>9.3f}" if all(all_of) else f" {'-':>9}"
    text += f" {_times([(o['cpu_s'], o['proven']) for o in other])}" if other else f" {'-':>18}"
    pairs = [(mine[0], e[0]) for mine, e in zip(ours, all_of, strict=True) if e and mine[3]]
    pairs += [(mine[0], o["value"]) for mine, o in zip(ours, other, strict=False) if mine[3] and o["proven"]]
    same = all(math.isclose(a, b, rel_tol=1e-5) for a, b in pairs)
    return f"{text}  {'same' if same else f'NOT THE SAME {pairs}'} ({len(pairs)})"


def _times(found: list[tuple[float, bool]]) -> str:
    open_ = sum(not proven for _, proven in found)
    times = [cpu_s for cpu_s, _ in found]
    return f"{statistics.median(times):>8.3f} {max(times):>8.3f}{f'*{open_}' if open_ else '':<3}"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most", type=int, default=20, help="Most jobs")
    parser.add_argument("--repeats", type=int, default=5, help="Markets of each size")
    parser.add_argument("--limit", type=float, default=60.0, help="CPU seconds for one market")
    parser.add_argument("--peers", default=os.environ.get("RIGWISE_PEERS", ""), help="Python that has ortools")
    options = parser.parse_args()
    for name, wait_per_s in (("cost and deadlines", 0.0), ("cost, deadlines and $0.50 for an hour", 0.5 / 3600)):
        print(f"\n{name}\njobs mach.   choices  expanded  A* s: med     most    every s   CP-SAT s: med   most")
        for jobs in JOBS:
            for machines in MACHINES:
                if jobs <= options.most:
                    print(line(jobs, machines, wait_per_s, options), flush=True)


if __name__ == "__main__":
    main()
