"""How planning jobs that share machines grows: A* beside every choice, and beside the CP-SAT solver.

    python benchmarks/bench_shared.py [--most 20] [--machines 3] [--repeats 10] [--limit 10] [--peers PYTHON]

Random jobs of up to two recipes on each machine, at a cost with deadlines: where waiting costs nothing, where it costs
the same for all, where it costs twenty times as much for some as for others, and where no job has a deadline. Every
choice is looked at while there are few; the solver is asked where --peers (or the variable RIGWISE_PEERS) names a
Python that has ``ortools``. The values must agree. CPU seconds: median and most of the repeats, which are different
markets; * counts those that were ended at the limit (ours of CPU time, the solver's of wall time) before the gap was
closed, and the gap is the median of what was left.
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
#: What an hour of waiting costs by job, in turn, and whether there are deadlines.
KINDS = {
    "cost and deadlines": ((0.0,), True),
    "cost, deadlines and $0.50 for an hour": ((0.5,), True),
    "cost, deadlines and $0.10, $0.50 or $2 for an hour": ((0.1, 0.5, 2.0), True),
    "cost and $0.50 for an hour": ((0.5,), False),
}
MOST_CHOICES = 1e5
HERE = Path(__file__).parent


def market(seed: str, jobs: int, machines: int, kind: str) -> list[Work]:
    """Hours of work; machines of different speed, which each job uses more or less well; deadlines that bind."""
    dice, (waits, ends) = random.Random(seed), KINDS[kind]
    speeds = [dice.uniform(0.5, 2.0) for _ in range(machines)]
    sizes = [dice.uniform(3600, 36000) for _ in range(jobs)]
    works = []
    for i, size in enumerate(sizes):
        wait_per_s = waits[i % len(waits)] / 3600
        deadline_s = max(1.5 * size, dice.uniform(0.2, 0.8) * sum(sizes) / machines) if ends else None
        options = [Option(machine=RENT, number=size / 3600 * dice.uniform(1.0, 5.0) + wait_per_s * size)]
        for machine, speed in enumerate(speeds):
            here = []
            for slower in (1.0, 1.3):
                run_s = size / speed * dice.uniform(0.8, 1.3) * slower
                late_s = run_s * dice.uniform(1.1, 1.3) if ends else run_s
                number = run_s / 3600 * 0.3 / slower**2 + wait_per_s * run_s
                if deadline_s is None or late_s <= deadline_s:
                    here.append(Option(machine=machine, number=number, run_s=run_s, late_s=late_s))
            options += [one for one in here if not any(other is not one and matches(other, one) for other in here)]
        works.append(Work(deadline_s=deadline_s, wait_per_s=wait_per_s, options=tuple(options)))
    return works


def matches(one: Option, other: Option) -> bool:
    """Whether an option is nowhere worse than another; the planner keeps none of those."""
    return one.number <= other.number and one.run_s <= other.run_s and one.late_s <= other.late_s


def searched(works: list[Work], limit_s: float) -> tuple[float, int, float, bool, float]:
    """Value, states expanded, CPU seconds, whether the gap was closed, and what was left of it."""
    started_s = time.process_time()
    sharing = Sharing(works, stop=lambda best, bound: time.process_time() - started_s > limit_s)
    found = sharing.best()
    value = found.number if found else math.inf
    spent_s, gap = time.process_time() - started_s, value / found.lower_bound - 1 if found else math.inf
    return value, sharing.search.expanded, spent_s, not sharing.stopped, gap


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


def line(jobs: int, kind: str, options: argparse.Namespace) -> str:
    """One size."""
    machines = options.machines
    markets = [market(f"{i} {jobs} {machines}", jobs, machines, kind) for i in range(options.repeats)]
    ours = [searched(works, options.limit) for works in markets]
    all_of = [every(works) for works in markets]
    other = solved(options.peers, markets, options.limit)
    choices = statistics.median(math.prod(len(work.options) for work in works) for works in markets)
    text = f"{jobs:>4} {choices:>9.1e} {statistics.median(o[1] for o in ours):>9,.0f}"
    text += f" {_times([(o[2], o[3]) for o in ours])} {statistics.median(o[4] for o in ours):>6.2%}"
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
    parser.add_argument("--machines", type=int, default=3, help="Owned machines")
    parser.add_argument("--repeats", type=int, default=10, help="Markets of each size")
    parser.add_argument("--limit", type=float, default=10.0, help="CPU seconds for one market")
    parser.add_argument("--peers", default=os.environ.get("RIGWISE_PEERS", ""), help="Python that has ortools")
    options = parser.parse_args()
    for kind in KINDS:
        print(f"\n{kind}\njobs   choices  expanded  A* s: med     most       gap   every s   CP-SAT s: med   most")
        for jobs in JOBS:
            if jobs <= options.most:
                print(line(jobs, kind, options), flush=True)


if __name__ == "__main__":
    main()
