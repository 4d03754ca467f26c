"""What a few measurements buy: errors on the other workloads of a device, and transfer from a sibling.

    python tools/fit/probes.py --graphs DIR [--draws 100] [--sample N] [--newest]

Reads timm.csv in the folder RIGWISE_MEASURED (default ../shared/data/measured) and captured graphs named like its
models. For RTX 3090, RTX 4090 and a Core i9-10940X it calibrates on 3, 5 or 10 rows drawn at random, with and without
the table of the sibling card, and prints the geometric error on all other rows, median and 10th to 90th percentile
over the draws, and how many of them lie in the 80 % interval. Beside it stand no calibration at all, sqrt(peak x
bandwidth) scaling of the sibling's time, and the floor: the error of the best multipliers fitted on all rows.
Correlations of errors, by which the priors of tools/calibration/learning.toml were set, are printed first.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from rigwise.calibrate.fit import fit, gather
from rigwise.calibrate.question import measured_s
from rigwise.calibrate.shelf import Shelf
from rigwise.calibrate.suggest import design
from rigwise.estimate.calibration import Calibration, packaged
from rigwise.estimate.interval import Z90, time_spread
from rigwise.estimate.learned import GROUPS, Evidence, workload_error
from rigwise.facts.catalogue import resolve_device
from rigwise.measurement.tables import read_tables
from rigwise.workload.table import Array

SIBLING = {"rtx-4090": "rtx-3090", "rtx-3090": "rtx-4090"}
#: A sensible choice: one of each kind of network.
CHOSEN = ("resnet50", "efficientnet_b0", "vit_base_patch16_224", "convnext_tiny", "regnety_032")
NEWEST = "2.4"

Groups = dict[tuple[str, ...], list[Evidence]]


def geo(errors: Sequence[float]) -> float:
    return float(np.expm1(np.mean(np.abs(errors))))


class Told(NamedTuple):
    """What a row says besides: measured seconds, and the network and image size by which twins are found."""

    seconds: float
    twin: tuple[str, str]


def rows_of(graphs: Path, sample: int, newest: bool) -> tuple[list[Evidence], dict[int, Told]]:
    """Rows that can be fitted, and by identity what else they say."""
    folder = Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured"))
    measured, _ = read_tables([folder / "timm.csv"])
    shelf = Shelf(graphs)
    wanted = [m for m in measured if m.model in shelf.names and (not newest or f"PyTorch {NEWEST}" in m.framework)]
    if sample:
        names = sorted({m.model for m in wanted})
        kept = {names[int(i)] for i in np.linspace(0, len(names) - 1, min(sample, len(names)))} | set(CHOSEN)
        wanted = [m for m in wanted if m.model in kept]
    found = gather(wanted, shelf)
    print(f"{len(found.rows)} rows of {len({r.model for r in found.rows})} models; {len(found.left_out)} left out")
    of = {m.where: m for m in wanted}
    told = (Told(measured_s(of[at]), (of[at].model, of[at].shape)) for at in found.where)
    return list(found.rows), dict(zip(map(id, found.rows), told, strict=True))


def groups_of(rows: Sequence[Evidence]) -> Groups:
    found = defaultdict(list)
    for row in rows:
        found[row.device, row.task, row.regime.mode, row.regime.layout, row.torch].append(row)
    return dict(sorted(found.items()))


def correlations(groups: Groups, told: dict[int, Told]) -> None:
    print("\nerrors of the same workload in two groups: rows, correlation, slope")
    for a in groups:
        for b in groups:
            if sum(x != y for x, y in zip(a, b, strict=True)) != 1 or a >= b:
                continue
            of_a, of_b = ({told[id(r)].twin: r.log_ratio for r in groups[g]} for g in (a, b))
            both = sorted(of_a.keys() & of_b.keys())
            if len(both) >= 30:
                x, y = np.array([of_a[k] for k in both]), np.array([of_b[k] for k in both])
                slope = np.polyfit(x, y, 1)[0]
                print(
                    f"  {'/'.join(a):<42} {'/'.join(b):<42} {len(both):4} {np.corrcoef(x, y)[0, 1]:5.2f} {slope:5.2f}"
                )


def errors_on(rows: Sequence[Evidence], training: Sequence[Evidence], device: str) -> list[float]:
    """ln(predicted / measured) of rows, after calibrating on others."""
    return [error for error, _ in answers_on(rows, training, device)]


def answers_on(rows: Sequence[Evidence], training: Sequence[Evidence], device: str) -> list[tuple[float, float]]:
    """The same, with the spread that the calibration states."""
    learned = fit(training, [""] * len(training), "2026-01-01", {device}).learned
    calibration = replace(packaged(), learned=learned)
    scales = {s.regime: np.array([s.log_scale[g] for g in GROUPS]) for s in learned.scales if s.device == device}
    covariance = {s.regime: np.array(s.covariance) for s in learned.scales if s.device == device}
    of_device, widened = time_spread(resolve_device(device), calibration), learned.dispersion[device]
    found = []
    for row in rows:
        shares = np.array([row.shares.get(g, 0.0) for g in GROUPS])
        scaled = np.log(1.0 - shares.sum() + shares @ np.exp(scales[row.regime]))
        mean, variance = workload_error(calibration, row)
        usual = widened * float(np.hypot(of_device, spread_of_step(row, shares, calibration)))
        spread = min(usual, float(np.sqrt(variance + shares @ covariance[row.regime] @ shares)))
        found.append((scaled + mean - row.log_ratio, spread))
    return found


def spread_of_step(row: Evidence, shares: Array, calibration: Calibration) -> float:
    """What the interval adds for what a step does, beside its device; what a power limit adds is left out."""
    term = calibration.interval.of_term
    constants = [term["gemm"], term[f"conv_{row.regime.layout}"], term["attention"], term["streaming"], term["host"]]
    compiled = term["compiled"] if row.regime.mode == "compiled" else 0.0
    return float(np.hypot(np.linalg.norm(shares * constants), compiled))


def covered(answers: Sequence[tuple[float, float]]) -> str:
    """Share of rows inside the 80 % interval, and the median width of it."""
    inside = np.mean([abs(error) <= Z90 * spread for error, spread in answers])
    width = np.median([np.exp(2 * Z90 * spread) for _, spread in answers])
    return f"80 % interval covers {inside:.0%}, p90/p10 {width:.2f}"


def sqrt_scaling(pairs: Sequence[tuple[Evidence, Evidence]], told: dict[int, Told]) -> list[float]:
    """ln(predicted / measured) from the sibling's time for one sample, by sqrt(peak x bandwidth)."""
    here, there = (resolve_device(row.device) for row in pairs[0])
    bandwidths = (here.memory_bytes_per_s or np.nan) / (there.memory_bytes_per_s or np.nan)
    gain = here.peak("fp16") / there.peak("fp16") * bandwidths
    return [np.log(told[id(b)].seconds / b.batch * a.batch / told[id(a)].seconds) - np.log(gain) / 2 for a, b in pairs]


def experiment(groups: Groups, told: dict[int, Told], draws: int) -> None:
    for key, rows in groups.items():
        device = key[0]
        if key[-1] != NEWEST or len(rows) < 30:
            continue
        sibling = groups.get((SIBLING.get(device, ""), *key[1:]), [])
        print(f"\n{' '.join(key)}: {len(rows)} rows")
        say("uncalibrated", [r.log_ratio for r in rows])
        say("multipliers fitted on all rows, in sample", floor(rows))
        say("each row from all others", list(fit(rows, [""] * len(rows), "2026-01-01").posterior.left_out))
        if sibling:
            transfer(rows, sibling, told)
        probes(rows, sibling, draws)


def say(words: str, errors: Sequence[float], more: str = "") -> None:
    size = np.abs(errors)
    print(
        f"  {words:<44} {geo(errors):6.1%}  n {len(size)}  p90 {np.expm1(np.quantile(size, 0.9)):.0%}  {more}",
        flush=True,
    )


def transfer(rows: Sequence[Evidence], sibling: Sequence[Evidence], told: dict[int, Told]) -> None:
    """From a sibling's table to the rows that it has a twin of, and to families that it lacks."""
    of, device = {told[id(row)].twin: row for row in sibling}, rows[0].device
    pairs = [(row, of[told[id(row)].twin]) for row in rows if told[id(row)].twin in of]
    shared = [row for row, _ in pairs]
    scaled = sqrt_scaling(pairs, told)
    say("sqrt(peak x bandwidth) of the sibling", scaled)
    say("the same without its bias", list(np.array(scaled) - np.median(scaled)))
    answers = answers_on(shared, sibling, device)
    say("sibling's table", [error for error, _ in answers], covered(answers))
    single = [answers_on([a], [b], device)[0] for a, b in pairs[:: max(1, len(pairs) // 100)]]
    say("its one row of the same model", [error for error, _ in single], covered(single))
    folds = {re.split(r"[_\d]", row.model, maxsplit=1)[0] for row in shared}
    family = {name: index % 5 for index, name in enumerate(sorted(folds))}
    unseen = []
    for fold in range(5):
        seen = [b for b in sibling if family.get(re.split(r"[_\d]", b.model, maxsplit=1)[0]) != fold]
        left = [a for a in shared if family[re.split(r"[_\d]", a.model, maxsplit=1)[0]] == fold]
        unseen += errors_on(left, seen, device)
    say("sibling's table without the model's family", unseen)


def probes(rows: Sequence[Evidence], sibling: Sequence[Evidence], draws: int) -> None:
    """A few rows of the device itself, alone and beside a sibling's table."""
    random, device = np.random.default_rng(0), rows[0].device
    chosen = list({r.model: r for r in rows if r.model in CHOSEN}.values())
    rest = [r for r in rows if r.model not in CHOSEN]
    sources = [((), ""), (sibling, " and the sibling's table")]
    for others, words in sources:
        if words and not others:
            continue
        answers = answers_on(rest, [*chosen, *others], device)
        say(f"{len(chosen)} chosen probes{words}", [error for error, _ in answers], covered(answers))
        picked = {index for index, _ in design(rows, resolve_device(device), 5)}
        left = [row for index, row in enumerate(rows) if index not in picked]
        answers = answers_on(left, [*(rows[i] for i in picked), *others], device)
        say(f"5 probes by design{words}", [error for error, _ in answers], covered(answers))
        for count in (3, 5, 10):
            found, all_answers = [], []
            for _ in range(max(4, draws // 10) if others else draws):
                picked = set(random.choice(len(rows), count, replace=False).tolist())
                left = [r for i, r in enumerate(rows) if i not in picked]
                left = left[:: max(1, len(left) // 150)]
                answers = answers_on(left, [*(rows[i] for i in picked), *others], device)
                found.append(geo([error for error, _ in answers]))
                all_answers += answers
            low, middle, high = np.quantile(found, [0.1, 0.5, 0.9])
            draw = f"[{low:.1%} to {high:.1%}] of {len(found)} draws  {covered(all_answers)}"
            print(f"  {f'{count} random probes{words}':<44} {middle:6.1%}  {draw}", flush=True)


def floor(rows: Sequence[Evidence]) -> list[float]:
    """Errors of the multipliers alone, by least squares on all rows: what no choice of probes can beat with them."""
    shares = np.array([[row.shares.get(g, 0.0) for g in GROUPS] for row in rows])
    measured = np.array([row.log_ratio for row in rows])
    log_scale = np.zeros(len(GROUPS))
    for _ in range(30):
        scaled = shares * np.exp(log_scale)
        total = 1.0 - shares.sum(axis=1) + scaled.sum(axis=1)
        slope, left = scaled / total[:, None], measured - np.log(total)
        step = np.linalg.solve(slope.T @ slope + 0.01 * np.eye(len(GROUPS)), slope.T @ left - 0.01 * log_scale)
        log_scale += np.clip(step, -0.3, 0.3)
    return [float(error) for error in left]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--graphs", type=Path, required=True)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--sample", type=int, default=0, help="models, evenly chosen")
    parser.add_argument("--newest", action="store_true", help="rows of the newest version only")
    options = parser.parse_args()
    rows, told = rows_of(options.graphs, options.sample, options.newest)
    groups = groups_of(rows)
    correlations(groups, told)
    experiment(groups, told, options.draws)


if __name__ == "__main__":
    main()
