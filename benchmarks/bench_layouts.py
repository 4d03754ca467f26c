"""How many recipes there are for a machine, how long planning over all of them takes, and what they are worth.

Prints, for each model, recipes by number of devices, seconds of processor time (minimum, median and maximum over
repeats, model and catalogue loaded, nothing estimated yet) of a plan, pairs of recipe and machine that one second
estimates, and the best value beside the best that data parallelism alone reaches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date

import numpy as np

from rigwise.errors import InfeasibleError
from rigwise.estimate import fleet, fleet_columns, fleet_work
from rigwise.estimate.fleet import estimate_recipes
from rigwise.facts.catalogue import device
from rigwise.machine.machine import Machine
from rigwise.search import plan as planning
from rigwise.search.types import World
from rigwise.workload import choices
from rigwise.workload.choices import recipes, settle
from rigwise.workload.job import Job
from rigwise.workload.layouts import Sides

TODAY = date(2026, 9, 1)
JOBS = {
    "resnet50": Job(model="resnet50", amount=128e6, unit="samples", deadline_s=12 * 3600),
    "llama-3.1-8b LoRA": Job(model="llama-3.1-8b", method="lora", amount=20e6, unit="tokens", batch=64, seq=2048),
    "llama-3.1-70b": Job(model="llama-3.1-70b", amount=100e6, unit="tokens", batch=512, seq=4096),
    "mixtral-8x7b": Job(model="mixtral-8x7b", amount=100e6, unit="tokens", batch=512, seq=4096),
    "llama-3.1-70b decode": Job(model="llama-3.1-70b", task="decode", amount=10e6, unit="tokens", batch=16),
}
SHAPES = ((1, 1), (8, 1), (16, 2), (64, 8), (512, 64))


def forget() -> None:
    """Drop what the estimator keeps between calls."""
    for module in (fleet, fleet_columns, fleet_work):
        for name in dir(module):
            getattr(getattr(module, name), "cache_clear", lambda: None)()


def seconds(job: Job, world: World, repeats: int) -> Iterator[float]:
    for _ in range(repeats):
        forget()
        start = time.process_time()
        planning.plan(job, world)
        yield time.process_time() - start


def value(job: Job, world: World) -> float:
    try:
        return planning.plan(job, world).certificate.best
    except InfeasibleError:
        return float("nan")


def without_layouts(job: Job, world: World) -> float:
    """The best value if the model could be divided along its batch alone."""
    sides = choices.sides_of
    choices.sides_of = lambda model, case: Sides(batch=case.batch, is_training=case.task == "train")
    try:
        return value(job, world)
    finally:
        choices.sides_of = sides


def pairs_per_s(job: Job, world: World) -> float:
    """Recipes of one family on 16 kinds of 8-GPU machines, tables of the devices already there."""
    task = settle(job, world.model)
    names = ("h100-sxm5-80gb", "a100-sxm4-80gb", "h200-sxm-141gb", "b200")
    rates = (5e9, 12.5e9, 25e9, 50e9)
    machines = [Machine(device=device(n), count=16, nodes=2, inter_node_bytes_per_s=r) for n in names for r in rates]
    every = recipes(task, task.families[0], 16, 2)
    for _ in range(2):
        start = time.process_time()
        found = estimate_recipes(task.case, every, machines, world.model)
        taken_s = time.process_time() - start
    return float(np.isfinite(found.step_p50_s).sum()) / taken_s


def main(repeats: int, only: str) -> None:
    for name, job in ((name, job) for name, job in JOBS.items() if only in name):
        world = planning.catalogue_world(job.model, TODAY)
        task = settle(job, world.model)
        numbers = {f"{c} in {n}": len(recipes(task, task.families[0], c, n)) for c, n in SHAPES}
        result = planning.plan(job, world)
        times = sorted(seconds(job, world, repeats))
        print(f"{name}: {len(task.families)} families, recipes of one by devices and nodes: {numbers}")
        print(f"  {result.certificate.candidates:,} candidates, {result.certificate.estimated:,} estimated")
        print(f"  plan {times[0]:.2f} {statistics.median(times):.2f} {times[-1]:.2f} s of {repeats}")
        print(f"  {pairs_per_s(job, world):,.0f} pairs/s")
        alone = without_layouts(replace(job, top=1), world)
        print(f"  best {result.certificate.best:.4g}, along the batch alone {alone:.4g}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a name")
    arguments = parser.parse_args()
    main(arguments.repeats, arguments.only)
