"""How long planning takes beside exhaustive search, and whether both agree on thousands of random markets.

    python benchmarks/bench_plan.py [--repeats 5] [--markets 5000]

First part: CPU seconds, minimum, median and maximum over repeats, and the ratio of the minima. Both searches use the
same estimator, with the model and the catalogue loaded and nothing estimated yet; exhaustive search looks at every
recipe on every machine at every kept price, side by side in arrays. A process that has planned for a model and a batch
keeps what it was told of their steps, whatever the limits and prices of the next job: the line "the same again". How
planning grows with the catalogue is in ``bench_plan_scale.py``.

Second part: the first best plan alone, by objective: A* beside exhaustive search, which is what
``search.exhaustive.is_quicker`` goes by.

Third part: random small markets of the property tests, with a toy estimator. A* against looking at everything; the
certificate; and plans whose price, cost, time or memory was falsified, each of which the checker must reject.
"""

from __future__ import annotations

import argparse
import math
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from rigwise.estimate import fleet
from rigwise.search.astar import AStar
from rigwise.search.bounds import Goal, least
from rigwise.search.estimates import Estimates
from rigwise.search.exhaustive import exhaustive, is_quicker
from rigwise.search.plan import all_quotes, catalogue_world, plan, surroundings
from rigwise.search.problem import PlanProblem
from rigwise.search.space import Space, build_space
from rigwise.search.types import Plan, World
from rigwise.workload.choices import settle
from rigwise.workload.job import Job

TODAY = date(2026, 9, 1)
CONVNET = Job(model="resnet50", amount=128e6, unit="samples", deadline_s=12 * 3600)
FINE_TUNE = Job(
    model="llama-3.1-8b",
    method="lora",
    amount=20e6,
    unit="tokens",
    batch=64,
    seq=2048,
    deadline_s=24 * 3600,
    budget_usd=100,
)
NARROW = replace(CONVNET, devices=("t4", "a10", "l4"), deadline_s=None)
FALSIFIED: dict[str, Callable[[Plan], Plan]] = {
    "price": lambda p: replace(p, usd_per_h=p.usd_per_h * 0.83 + 0.0137),
    "cost": lambda p: replace(p, cost_usd=replace(p.cost_usd, p50=p.cost_usd.p50 * 0.9 + 0.0137)),
    "time": lambda p: replace(p, time_s=replace(p.time_s, p50=p.time_s.p50 * 0.99)),
    "late time": lambda p: replace(p, time_s=replace(p.time_s, p90=p.time_s.p90 * 0.99)),
    "memory": lambda p: replace(p, memory_bytes=p.memory_bytes * 0.9),
    "fit": lambda p: replace(p, fit_probability=p.fit_probability * 0.999),
}


def spread(action: Callable[[], object], repeats: int, *, afresh: bool = True) -> list[float]:
    times = []
    for _ in range(repeats):
        if afresh:
            forget()
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return times


def forget() -> None:
    """Drop what the estimator keeps between calls."""
    for name in dir(fleet):
        getattr(getattr(fleet, name), "cache_clear", lambda: None)()


def show(name: str, times: Sequence[float], against: Sequence[float] | None = None) -> None:
    ratio = f"{min(times) / min(against):7.2f} x" if against else ""
    print(f"{name:<44} {min(times):7.3f} {statistics.median(times):7.3f} {max(times):7.3f} s {ratio}")


def look_at_everything(job: Job, world: World) -> float:
    """What ``plan`` does up to the best value, without bounds."""
    space = build_space(settle(job, world.model), all_quotes(job, world).quotes, surroundings(job, world))
    least(space, world.physics)
    return exhaustive(space, Estimates(space, world.physics), Goal.of(job))[0][0]


def by_objective(repeats: int) -> None:
    """The second part."""
    print(f"{'the best plan alone, CPU s':<34} {'A*':>7} {'every':>7} {'ratio':>6} {'expanded':>8}  in use")
    for task in ("train", "infer"):
        for objective in ("cost", "time", "energy"):
            job = replace(CONVNET, task=task, minimize=objective, top=1)
            world, goal = catalogue_world(job.model, TODAY), Goal.of(job)
            space = build_space(settle(job, world.model), all_quotes(job, world).quotes, surroundings(job, world))

            def informed(space: Space = space, world: World = world, goal: Goal = goal) -> tuple[float, int]:
                problem = PlanProblem(space, least(space, world.physics), Estimates(space, world.physics), goal)
                search = AStar(problem, ())
                return next(search)[0], search.expanded

            def everything(space: Space = space, world: World = world, goal: Goal = goal) -> float:
                return exhaustive(space, Estimates(space, world.physics), goal)[0][0]

            (value, expanded), other = informed(), everything()
            a_star, every = min(spread(informed, repeats)), min(spread(everything, repeats))
            agree = "" if same(value, other) else f" NOT THE SAME: {value} {other}"
            used = "exhaustive" if is_quicker(space.task, objective) else "A*"
            figures = f"{a_star:>7.3f} {every:>7.3f} {every / a_star:>5.1f}x {expanded:>8,}"
            print(f"  ResNet-50, {task}, least {objective:<9} {figures}  {used}{agree}")


def random_markets(number: int) -> None:
    """The third part."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "properties"))
    import test_plan_markets as toy

    counts: Counter[str] = Counter()
    started = time.process_time()
    for seed in range(number):
        job, world = toy.a_market(seed)
        result, every = toy.solved(job, world), toy.brute_force(job, world)
        counts["feasible"] += result is not None
        if result is None:
            counts["agree"] += not every
            continue
        values = [toy.objective(job, p) for p in result.plans]
        counts["agree"] += len(values) == len(every) and all(map(same, values, every))
        counts["proven"] += toy.faults(result.certificate, result.plans, job, world) == []
        for name, change in FALSIFIED.items():
            changed = (change(result.plans[0]), *result.plans[1:])
            counts[f"rejected: {name}"] += bool(toy.faults(result.certificate, changed, job, world))
    feasible = counts.pop("feasible")
    print(f"{number:,} random markets, {feasible:,} with a plan, {time.process_time() - started:.0f} CPU s")
    print(f"  A* and looking at everything agree      {counts.pop('agree'):,} of {number:,}")
    print(f"  certificate holds                       {counts.pop('proven'):,} of {feasible:,}")
    for name, times in counts.items():
        print(f"  {name:<39} {times:,} of {feasible:,}")


def same(one: float, other: float) -> bool:
    """Equal but for rounding."""
    return math.isclose(one, other, rel_tol=1e-12, abs_tol=1e-12)


def main(repeats: int, markets: int) -> None:
    print(f"{'CPU time':<44} {'min':>7} {'median':>7} {'max':>7}")
    for name, job in (("ResNet-50", CONVNET), ("Llama-3.1-8B LoRA", FINE_TUNE), ("ResNet-50, 3 devices", NARROW)):
        world = catalogue_world(job.model, TODAY)
        result = plan(job, world)
        best = look_at_everything(job, world)
        if abs(result.certificate.best / best - 1) > 1e-9:
            sys.exit(f"A* found {result.certificate.best}, exhaustive search {best}")
        whole = spread(lambda job=job, world=world: plan(job, world), repeats)
        again = spread(lambda job=job, world=world: plan(job, world), repeats, afresh=False)
        every = spread(lambda job=job, world=world: look_at_everything(job, world), repeats)
        certificate = result.certificate
        seen = f"{certificate.estimated:,} of {certificate.candidates:,} candidates estimated"
        print(f"{name}: {certificate.expanded:,} states expanded, {seen}")
        show("  plan: A*, fastest, frontier, certificate", whole)
        show("  the same again, as a server is asked", again)
        show("  exhaustive search alone", every, whole)
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB\n")
    by_objective(repeats)
    random_markets(markets)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--markets", type=int, default=1_000)
    given = parser.parse_args()
    main(given.repeats, given.markets)
