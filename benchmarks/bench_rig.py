"""How the choice of PC parts grows: A* beside looking at every build, with the same rules and the same speeds.

    python benchmarks/bench_rig.py [--most 5e7]

Each row takes evenly spaced parts of the table until there are so many, and asks for the fastest build
under $2,000. "every build" is vectorised: each rule is judged once for every combination of the parts
that it looks at, and the verdicts are broadcast over all builds; it is left out above --most builds.
Both must give the same value. Times of A* are minimum, median and maximum.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from math import prod

import numpy as np

from rigwise.graph.load import load_model
from rigwise.rig.check import RULES, judged
from rigwise.rig.judged import Given
from rigwise.rig.options import Option, Wish, new_options, setups_of
from rigwise.rig.problem import TIE_PER_USD, BuildProblem, Goal, Question
from rigwise.rig.speed import speeds
from rigwise.rig.types import KINDS, PROBLEM, WARNING, Demand, Rig
from rigwise.search.astar import AStar
from rigwise.workload.choices import settle
from rigwise.workload.job import Job

BUDGET_USD = 2000.0
REPEATS = 5


def spaced(options: Sequence[Option], count: int) -> tuple[Option, ...]:
    """That many of them, evenly spaced in price, the dearest included."""
    picked = np.linspace(0, len(options) - 1, min(count, len(options))).round().astype(int)
    return tuple(options[i] for i in dict.fromkeys(picked.tolist()))


def every_build(question: Question) -> float:
    """The best value over all builds, by tables of verdicts."""
    sizes = [len(question.options[kind]) for kind in KINDS]
    allowed = np.ones(sizes, dtype=bool)
    for rule in RULES:
        kinds = [kind for kind in KINDS if kind in rule.scope]
        shape = [len(question.options[kind]) for kind in kinds]
        verdict = np.ones(shape, dtype=bool)
        for index in np.ndindex(*shape):
            chosen = dict(zip(kinds, index, strict=True))
            rig = Rig(**{kind: question.options[kind][i].parts for kind, i in chosen.items()})
            given = Given(demand=question.demands[chosen["gpu"]] if "gpu" in chosen else None)
            found = judged(rule, rig, given)
            verdict[index] = not (found and found.severity in (PROBLEM, WARNING))
        whole = [sizes[axis] if kind in kinds else 1 for axis, kind in enumerate(KINDS)]
        allowed &= verdict.reshape(whole)
    cost_usd = np.zeros([1] * len(KINDS))
    for axis, kind in enumerate(KINDS):
        prices = np.array([option.price_usd for option in question.options[kind]])
        cost_usd = cost_usd + prices.reshape([-1 if axis == a else 1 for a in range(len(KINDS))])
    rates = np.array([(d.samples_per_s or np.nan) if d else np.nan for d in question.demands])
    value = (1 + TIE_PER_USD * cost_usd) / rates.reshape([-1] + [1] * (len(KINDS) - 1))
    value[~allowed | (cost_usd > BUDGET_USD) | np.isnan(value)] = np.inf
    return float(value.min())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=float, default=5e7, help="builds above which not every one is looked at")
    most = parser.parse_args().most
    task = settle(Job(model="resnet50", amount=1e6, unit="samples"), load_model("resnet50"))
    whole = new_options(Wish())
    started_s = time.perf_counter()
    found = speeds(task, setups_of(whole), 0.9)
    print(f"speed of {len(found)} setups of cards: {time.perf_counter() - started_s:.2f} s\n")
    print(f"{'parts':>6} {'builds':>10} {'expanded':>9} {'A* s, 5 runs':>18} {'every build s':>14}  same")
    for share in (0.06, 0.12, 0.25, 0.5, 1.0):
        options = {kind: spaced(listed, max(2, round(share * len(listed)))) for kind, listed in whole.items()}
        demands = [
            Demand(model="m", samples_per_s=s.samples_per_s, fit_probability=s.fit_probability)
            if (s := found.get(option.setup))
            else None
            for option in options["gpu"]
        ]
        question = Question(base=Rig(), options=options, demands=demands, goal=Goal(budget_usd=BUDGET_USD))
        row(question, most)


def row(question: Question, most: float) -> None:
    """One line of the table."""
    builds = prod(len(question.options[kind]) for kind in KINDS)
    parts = sum(len({part.name for o in question.options[kind] for part in o.parts}) for kind in KINDS)
    took_s = []
    for _ in range(REPEATS):
        started_s = time.perf_counter()
        search = AStar(BuildProblem(question), ())
        value, _ = next(search, (np.inf, None))
        took_s.append(time.perf_counter() - started_s)
    times = " ".join(f"{t:.3f}" for t in (min(took_s), statistics.median(took_s), max(took_s)))
    line = f"{parts:>6} {builds:>10.2e} {search.expanded:>9,} {times:>18}"
    if builds > most:
        print(f"{line} {'-':>14}")
        return
    started_s = time.perf_counter()
    best = every_build(question)
    same = "yes" if best == value or abs(best / value - 1) < 1e-12 else f"NO: {value} {best}"
    print(f"{line} {time.perf_counter() - started_s:>14.3f}  {same}")


if __name__ == "__main__":
    main()
