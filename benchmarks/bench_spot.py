"""Spot: the expected time against a Monte Carlo over a grid, policies on traces by deadline, and CPU seconds.

Usage: python benchmarks/bench_spot.py [--stretches N] [--seeds N] [--traces FOLDER]

The policies run 24 h of work with restarts of 0.1 h at 0.3 of the on-demand price, on drawn traces, and on the
published ones (``availability/**/*.json`` of skypilot-org/spot-traces) if their folder is given.
"""

from __future__ import annotations

import argparse
import itertools
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from rigwise.edge import read_text
from rigwise.market.replay import ON_DEMAND_ONLY, Errand, replay
from rigwise.market.spot import ASSUMED, USUAL, Interruption, assumed_cases, best_interval_s, spot_facts, time_factor_of
from rigwise.market.spot_distribution import SpotQuestion, explain_spot
from rigwise.market.trace import EXPONENTIAL, HEAVY, Draw, Trace, draw, read_trace, refined, shape_of, windows
from rigwise.units import HOUR_S

WORK_S = 24 * HOUR_S
SLACKS = (1.1, 1.25, 1.5, 2.0)


def simulated(run_s: float, restart_s: float, needed_s: float, dice: np.random.Generator, stretches: int) -> np.ndarray:
    """Time of each stretch of work and its checkpoint; restarts can be interrupted as well."""
    spent = np.zeros(stretches)
    needed = np.full(stretches, needed_s)
    going = np.arange(stretches)
    while len(going):
        until = dice.exponential(run_s, len(going))
        done = until >= needed[going]
        spent[going] += np.where(done, needed[going], until)
        going = going[~done]
        needed[going] = restart_s + needed_s
    return spent


def grid(stretches: int) -> None:
    """Largest disagreement of formula and simulation, in per cent and in standard errors."""
    dice = np.random.default_rng(0)
    worst, errors = (0.0, ""), []
    runs, restarts, saves = (0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64), (0, 0.02, 0.1, 0.3), (0.001, 0.02, 0.1)
    for run_h, restart_h, save_h in itertools.product(runs, restarts, saves):
        run_s, restart_s, save_s = run_h * HOUR_S, restart_h * HOUR_S, save_h * HOUR_S
        interval_s = float(best_interval_s(save_s, run_s))
        expected = float(time_factor_of(interval_s, run_s, restart_s, save_s))
        if expected > 30:
            continue
        spent = simulated(run_s, restart_s, interval_s + save_s, dice, stretches) / interval_s
        error = spent.mean() / expected - 1
        errors.append((error, error * expected / (spent.std() / np.sqrt(stretches))))
        if abs(error) > abs(worst[0]):
            worst = (error, f"run {run_h} h, restart {restart_h} h, save {save_h} h, factor {expected:.3g}")
    off = np.array(errors)
    print(f"formula against {stretches:,} simulated stretches of each of {len(off)} settings")
    print(f"  worst {100 * worst[0]:+.2f} % ({worst[1]}); median {100 * np.median(np.abs(off[:, 0])):.3f} %")
    print(f"  standard errors: worst {np.abs(off[:, 1]).max():.1f}, mean {off[:, 1].mean():+.2f}\n")


def table(name: str, traces: list[Trace], starts: int) -> None:
    """Mean cost by policy and deadline over all traces, relative to on-demand, with its standard error."""
    shapes = [shape_of(t) for t in traces]
    there = [s.availability_frac for s in shapes]
    print(f"{name}: {len(traces)} traces x {starts} starts, available {min(there):.0%} to {max(there):.0%}")
    interval_s = float(best_interval_s(ASSUMED.save_s, ASSUMED.mean_run_s))
    for slack in SLACKS:
        errand = Errand(
            work_s=WORK_S, deadline_s=slack * WORK_S, spot_usd_per_h=0.3, on_demand_usd_per_h=1.0,
            interval_s=interval_s, save_s=ASSUMED.save_s, restart_s=0.1 * HOUR_S,
        )  # fmt: skip
        costs: dict[str, list[np.ndarray]] = {}
        late: dict[str, list[np.ndarray]] = {}
        for trace in traces:
            fine = refined(trace, WORK_S / 400)
            stretches = windows(fine, starts, int(slack * WORK_S / fine.step_s) + 2)
            for policy, outcome in replay(errand, stretches, fine.step_s).items():
                costs.setdefault(policy, []).append(outcome.cost_usd / 24)
                late.setdefault(policy, []).append(outcome.late)
        cells = []
        for policy, values in costs.items():
            if policy == ON_DEMAND_ONLY:
                continue
            by_trace = np.array([v.mean() for v in values])
            se = by_trace.std() / max(1, len(by_trace) - 1) ** 0.5
            missed = np.concatenate(late[policy]).mean()
            cells.append(f"{policy} {by_trace.mean():.2f}+-{se:.2f}" + (f" ({missed:.0%} late)" if missed else ""))
        print(f"  {slack:>4} x  " + "   ".join(cells))
    print()


def drawn(law: str, seeds: int) -> list[Trace]:
    """Drawn traces of 30 days over the range of means that the published ones show."""
    means = ((0.7, 3.6), (1.2, 2.5), (1.0, 1.1), (2.2, 1.5), (2.7, 1.0), (5.0, 1.0), (9.8, 1.0))
    found = []
    for seed, (run_h, wait_h) in itertools.product(range(seeds), means):
        capacity = replace(ASSUMED, mean_run_s=run_h * HOUR_S, mean_wait_s=wait_h * HOUR_S)
        found.append(draw(capacity, 1, Draw(step_s=300.0, steps=30 * 288, law=law, seed=seed)))
    return found


def timed(repeats: int) -> None:
    """CPU seconds of whole explanations."""
    beliefs: dict[str, Interruption] = dict(assumed_cases(spot_facts()))
    for work_h, instances in ((1, 1), (24, 1), (24, 8), (720, 1)):
        question = SpotQuestion(
            plan="",
            instances=instances,
            work_s={quantile: f * work_h * HOUR_S for quantile, f in (("p10", 0.8), ("p50", 1.0), ("p90", 1.25))},
            startup_s=300.0,
            deadline_s=1.5 * work_h * HOUR_S,
            confidence=0.9,
            spot_usd_per_h=0.3,
            on_demand_usd_per_h=1.0,
        )
        spent = []
        for _ in range(repeats):
            start = time.process_time()
            explain_spot(question, beliefs, USUAL)
            spent.append(time.process_time() - start)
        middle = sorted(spent)[len(spent) // 2]
        print(f"explain {work_h:>4} h on {instances}: {min(spent):.2f} {middle:.2f} {max(spent):.2f} s CPU")


def main(stretches: int, seeds: int, folder: str | None) -> None:
    grid(stretches)
    for law in (EXPONENTIAL, HEAVY):
        table(f"drawn, {law}", drawn(law, seeds), 30)
    if folder:
        files = sorted(Path(folder).rglob("*.json"))
        table(f"published, {folder}", [read_trace(read_text(file), file.name) for file in files], 30)
    timed(3)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stretches", type=int, default=100_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--traces", metavar="FOLDER")
    arguments = parser.parse_args()
    main(arguments.stretches, arguments.seeds, arguments.traces)
