"""How planning grows: with the catalogue, with the stages of a job, with the components of an application.

    python benchmarks/bench_plan_scale.py [--part catalogue|stages|placement ...] [--most 1e6] [--peers PYTHON]

catalogue: planning to a proven gap of 0 over 1,000 to 1,000,000 synthetic offers, each size in a process of its own:
    CPU seconds (least of the repeats), states expanded, candidates estimated, memory before and after planning.
stages, placement: A* beside looking at every choice, while that takes under a minute, and beside the CP-SAT solver,
    where --peers (or the variable RIGWISE_PEERS) names a Python that has ``ortools``. The values must agree.

How the choice of PC parts grows is in ``bench_rig.py``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bench_plan import CONVNET, FINE_TUNE, TODAY, forget
from synthetic_offers import synthetic_offers

from rigwise.application.bounds import Tables, tables
from rigwise.application.costs import cost
from rigwise.application.placement import PlacementProblem
from rigwise.application.reader import application_from_tables
from rigwise.search.astar import AStar
from rigwise.search.chain import Limits, Step, best_chain
from rigwise.search.plan import catalogue_world, plan

SIZES = (1_000, 10_000, 125_000, 1_000_000)
JOBS = {"ResNet-50": CONVNET, "Llama-3.1-8B LoRA": FINE_TUNE}
STAGES = ((2, 50), (3, 50), (3, 200), (4, 50), (4, 200), (6, 50))
COMPONENTS = ((4, 3), (6, 4), (8, 5), (10, 5), (12, 6))
#: Choices above which not every one is looked at.
MOST_CHOICES = 2e7
HERE = Path(__file__).parent


def held_bytes() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def one_size(name: str, rows: int, repeats: int) -> dict[str, Any]:
    """One line of the first part."""
    job = JOBS[name]
    world = replace(catalogue_world(job.model, TODAY), offers=tuple(synthetic_offers(rows)))
    before, took = held_bytes(), []
    for _ in range(repeats):
        forget()
        started = time.process_time()
        result = plan(job, world)
        took.append(time.process_time() - started)
    found = result.certificate
    counts = {"expanded": found.expanded, "estimated": found.estimated, "candidates": found.candidates}
    return {"cpu_s": took, "before_bytes": before, "peak_bytes": held_bytes(), "gap_frac": found.gap_frac, **counts}


def catalogue(most: float, repeats: int) -> None:
    """The first part."""
    print(f"{'':<18} {'offers':>9} {'CPU s: least':>12} {'most':>6} {'expanded':>8} {'candidates':>11}", end="")
    print(f" {'catalogue':>10} {'planning':>9}")
    for name in JOBS:
        for rows in SIZES:
            if rows > most:
                continue
            command = [sys.executable, __file__, "--child", name, str(rows), "--repeats", str(repeats)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                sys.exit(done.stderr)
            one = json.loads(done.stdout)
            memory = (
                f"{one['before_bytes'] / 1e6:>7,.0f} MB {(one['peak_bytes'] - one['before_bytes']) / 1e6:>+6,.0f} MB"
            )
            times = f"{min(one['cpu_s']):>12.2f} {max(one['cpu_s']):>6.2f}"
            print(
                f"{name:<18} {rows:>9,} {times} {one['expanded']:>8,} {one['candidates']:>11.2e} {memory}", flush=True
            )


def solved(python: str, problems: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the CP-SAT solver makes of problems; nothing where it is not at hand."""
    if not python or not Path(python).exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "problems.json"
        path.write_text(json.dumps(problems), encoding="utf-8")
        command = [python, str(HERE / "peers" / "ortools_solve.py"), str(path)]
        answers: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return answers


def compared(value: float, expanded: int, took_s: float, every: tuple[float, float] | None, other: Any) -> str:
    """The figures of a line: A*, every choice, the solver."""
    line = f"{expanded:>9,} {took_s:>8.3f}"
    line += f" {every[1]:>9.3f}" if every else f" {'-':>9}"
    line += f" {other['cpu_s']:>8.3f}{'' if other['proven'] else '*'}" if other else f" {'-':>8}"
    values = [every[0]] if every else []
    values += [other["value"]] if other and other["proven"] else []
    agree = all(math.isclose(v, value, rel_tol=1e-5, abs_tol=1e-12) for v in values)
    return f"{line}  {'same' if agree and values else '' if not values else f'NOT THE SAME: {value} {values}'}"


def stages(python: str) -> None:
    """Stages under one deadline: choices on a frontier of time and cost, as offers have it."""
    print(f"\n{'stages':>6} {'choices':>8} {'chains':>9} {'expanded':>9} {'A* s':>8} {'every s':>9} {'CP-SAT s':>8}")
    found, problems = [], []
    for number, choices in STAGES:
        dice = random.Random(f"{number} {choices}")
        lists = [a_frontier(dice, choices) for _ in range(number)]
        limit_s = 0.5 * sum(min(s.time_s for s in one) + max(s.time_s for s in one) for one in lists) * 0.4
        started = time.process_time()
        best = best_chain(lists, Limits(time_s=limit_s))
        took_s = time.process_time() - started
        every = every_chain(lists, limit_s) if choices**number <= MOST_CHOICES else None
        problems.append(
            {"kind": "chain", "limit_s": limit_s, "stages": [[(s.value, s.time_s) for s in o] for o in lists]}
        )
        if best is None:
            sys.exit("no chain keeps the deadline")
        found.append((number, choices, best, took_s, every))
    others = solved(python, problems) or [None] * len(found)
    for (number, choices, best, took_s, every), other in zip(found, others, strict=True):
        ways = f"{float(choices) ** number:>9.1e}"
        print(f"{number:>6} {choices:>8} {ways} {compared(best.number, best.labels, took_s, every, other)}")


def a_frontier(dice: random.Random, choices: int) -> list[Step]:
    """Quicker is dearer, but for noise, so that some are dominated."""
    steps = []
    for index in range(choices):
        time_s = dice.uniform(1e3, 1e5)
        value = 1e5 / time_s**0.8 * dice.uniform(1.0, 1.5)
        steps.append(Step(value=value, time_s=time_s, usd=value, place=index % 20, choice=index))
    return steps


def every_chain(lists: Sequence[Sequence[Step]], limit_s: float) -> tuple[float, float]:
    """The least value of all chains that keep the limit, side by side in arrays, and the seconds."""
    started = time.process_time()
    value, time_s = np.zeros(1), np.zeros(1)
    for one in lists:
        value = np.add.outer(value, [s.value for s in one]).ravel()
        time_s = np.add.outer(time_s, [s.time_s for s in one]).ravel()
    return float(value[time_s <= limit_s].min()), time.process_time() - started


def an_application(components: int, places: int) -> dict[str, Any]:
    """A graph of components, each with a cost on every place; all places joined by links."""
    dice = random.Random(f"{components} {places}")
    names = [f"c{i}" for i in range(components)]
    here = [f"p{i}" for i in range(places)]
    feeds = {name: dice.sample(names[max(0, i - 3) : i], min(i, dice.randint(1, 2))) for i, name in enumerate(names)}
    written: dict[str, Any] = {
        "application": {"flow": [f"{a} -> {name}" for name in names for a in feeds[name]]},
        "objective": {"optimize": "throughput", "top": 1},
        "place": {p: {"cores": 4, "usd_per_h": 1} for p in here},
        "link": [
            {"between": list(pair), "bytes_per_s": dice.choice([1e6, 1e7]), "latency": 1e-3}
            for pair in itertools.combinations(here, 2)
        ],
        "component": {},
    }
    for name in names:
        part: dict[str, Any] = {"workers": 8, "cost": {p: {"time": 1e-2 * dice.random()} for p in here}}
        if feeds[name]:
            part |= {"inputs": {"x": "x"}, "merge": True}
        if any(name in into for into in feeds.values()):
            part["outputs"] = {"x": {"bytes": dice.choice([10, 1000, 3000]), "ratio": dice.choice([1, 0.5])}}
        written["component"][name] = part
    return written


def every_placement(world: Tables) -> tuple[float, float]:
    """The least load of the fullest resource over all placements, a whole array of them for each addition."""
    started = time.process_time()
    components, places = world.own_s.shape
    axes = [np.arange(places).reshape([-1 if a == i else 1 for a in range(components)]) for i in range(components)]
    worst = np.zeros([places] * components)
    for i in range(components):
        worst = np.maximum(worst, world.own_s[i][axes[i]])
    for r in range(len(world.resources)):
        load = np.zeros([1] * components)
        for i in range(components):
            load = load + world.load_s[i, :, r][axes[i]]
        for (i, j), copy in world.copy_s.items():
            load = load + copy[:, :, r][axes[i], axes[j]]
        worst = np.maximum(worst, load)
    for (i, j), way in world.way_s.items():
        worst = np.where(np.isfinite(way[axes[i], axes[j]]), worst, np.inf)
    return float(worst.min()), time.process_time() - started


def as_problem(world: Tables) -> dict[str, Any]:
    """The tables of an application, as the solver reads them."""

    def sparse(row: Any) -> list[tuple[int, float]]:
        return [(int(r), float(row[r])) for r in np.flatnonzero(row)]

    places = range(len(world.places))
    pairs = [(i, j, a, b) for i, j in world.copy_s for a in places for b in places]
    return {
        "kind": "placement",
        "own_s": [[float(x) if np.isfinite(x) else None for x in row] for row in world.own_s],
        "loads": [[sparse(world.load_s[i, p]) for p in places] for i in range(len(world.components))],
        "copies": [(*pair, loads) for pair in pairs if (loads := sparse(world.copy_s[pair[:2]][pair[2:]]))],
        "apart": [pair for pair in pairs if not np.isfinite(world.way_s[pair[:2]][pair[2:]])],
        "memory": world.memory_bytes.tolist(),
        "room": [float(x) if np.isfinite(x) else None for x in world.room_bytes],
    }


def placement(python: str) -> None:
    """Random applications, the highest throughput."""
    print(f"\n{'parts':>6} {'places':>8} {'ways':>9} {'expanded':>9} {'A* s':>8} {'every s':>9} {'CP-SAT s':>8}")
    found, problems = [], []
    for components, places in COMPONENTS:
        world = tables(cost(application_from_tables(an_application(components, places), "random.toml")))
        started = time.process_time()
        search = AStar(PlacementProblem(world, "throughput", limit=200_000), ())
        value, _ = next(search)
        took_s = time.process_time() - started
        every = every_placement(world) if places**components <= MOST_CHOICES / 10 else None
        problems.append(as_problem(world))
        found.append((components, places, value, search.expanded, took_s, every))
    others = solved(python, problems) or [None] * len(found)
    for (components, places, value, expanded, took_s, every), other in zip(found, others, strict=True):
        ways = f"{float(places) ** components:>9.1e}"
        print(f"{components:>6} {places:>8} {ways} {compared(value, expanded, took_s, every, other)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", action="append", choices=("catalogue", "stages", "placement"))
    parser.add_argument("--most", type=float, default=125_000, help="offers of the largest catalogue")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", default=os.environ.get("RIGWISE_PEERS", ""), help="Python that has ortools")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(one_size(options.child[0], int(options.child[1]), options.repeats)))
        return
    parts = options.part or ("catalogue", "stages", "placement")
    if "catalogue" in parts:
        catalogue(options.most, options.repeats)
    if "stages" in parts:
        stages(options.peers)
    if "placement" in parts:
        placement(options.peers)


if __name__ == "__main__":
    main()
