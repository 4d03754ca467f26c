"""Fit the memory terms to the batch column of timm's tables: ``python tools/fit/memory.py FOLDER_OF_GRAPHS [STEP]``.

timm's benchmark begins at a large batch and takes the next smaller one whenever a run fails, so a row says twice
whether a batch fits: its own did, and unless it is the batch the table begins with, the one before did not. What
fails for another reason than memory (an index beyond 2**31, a kernel that is missing) is counted against us.

FOLDER holds captured networks as NAME.rwg with ``infer`` and ``train``; every STEP-th is taken. Rows whose
parameter count is not the graph's are left out. Constants are those with the most right answers; folds leave one
card, or one fifth of the families, out.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import Constants, load_calibration
from rigwise.estimate.device_memory import can_index
from rigwise.estimate.memory import peak_memory, working_sets
from rigwise.facts.catalogue import device
from rigwise.graph.graph import Model
from rigwise.graph.load import load_model
from rigwise.workload.case import Case, Parallel, Software
from rigwise.workload.lower import Lowering, lower_model

LADDER = (1024, 768, 512, 384, 256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)
CARDS = {"RTX 3090": "rtx-3090", "RTX 4090": "rtx-4090"}
_ONE = np.ones(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One batch of one row, and whether it fitted.

    ``counts`` is false where a tensor is too large for the framework; ``standing`` and ``passing`` bytes, ``convolves`` and ``nchw`` whether there are
    convolutions, and whether convolutions run on NCHW data, ``task``, ``card``, ``file``,
    ``family``.
    """

    fitted: bool
    counts: bool
    standing: float
    passing: float
    convolves: bool
    nchw: bool
    task: str
    card: str
    file: str
    family: str


def rows() -> dict[str, list[dict[str, str]]]:
    """Rows of the cards, by network."""
    folder = Path(os.environ.get("RIGWISE_MEASURED", Path(__file__).parents[3] / "shared/data/measured"))
    found = defaultdict(list)
    with (folder / "timm.csv").open() as file:
        for row in csv.DictReader(file):
            if row["device"] in CARDS:
                found[row["model"]].append(row)
    return found


def tried_before(row: dict[str, str], batch: int, first: int) -> int | None:
    """Index in the ladder of a batch that failed; older files halved the batch, so the first may be all that did."""
    index = LADDER.index(batch)
    if batch in (first, 1):
        return None
    return LADDER.index(first) if "pt111" in row["repo_path"] and batch == 512 else index - 1


def bytes_of(model: Model, row: dict[str, str], side: int) -> tuple[Any, ...] | None:
    """Standing and passing bytes at every batch of the ladder; None where the graph has another image size."""
    task, old = row["task"], "PyTorch 1." in row["framework"]
    mode = "compiled" if "compile" in row["framework"] else "eager"
    if task not in model.graphs or not model.graphs[task].ops:
        return None
    sizes = {"b": np.array(LADDER, dtype=float)}
    if "p" in model.graphs[task].symbols:
        sizes["p"] = np.full(len(LADDER), float(side))
    elif f"side fixed at {side}" not in " ".join(model.card.assumed):
        return None
    optimizer = "momentum" if task == "train" else "none"
    how: dict[str, Any] = {"task": task, "dtype": "amp-fp16", "mode": mode, "optimizer": optimizer}
    work = lower_model(model, Lowering(**how, attention="math" if old else "flash"))
    case = Case(model="", device="", **how, parallel=Parallel(data=1, micro_batch=1))
    sets = working_sets(work.step_ops, sizes, case)
    none = replace_all(load_calibration().memory_terms, 0.0)
    memories = [peak_memory(work, held, case, _ONE, none) for held in sets]
    kept = ("weights", "optimizer", "buffers", "batch")
    standing = np.array([sum(float(m.terms.get(name, _ONE * 0)[0]) for name in kept) for m in memories])
    allocated = np.array([float(m.allocated_bytes[0]) for m in memories])
    software = Software(torch=row["framework"].split()[1])
    asked = replace(case, software=software, layout=row["layout"])
    counts = np.array([can_index(held, asked, load_calibration().memory_terms) for held in sets])
    return standing, allocated - standing, sets[0].convolves, counts


def replace_all(constants: Constants, value: float) -> Constants:
    """The same names, all with one value."""
    return replace(constants, values={name: value for name in constants.values})


def answers(folder: Path, step: int) -> list[Answer]:
    """Every batch that the tables say something about."""
    by_name, found, left, first = rows(), [], Counter[str](), Counter[str]()
    for row in (row for group in by_name.values() for row in group):
        first[row["repo_path"]] = max(first[row["repo_path"]], int(row["batch"]))
    for path in sorted(folder.glob("*.rwg"))[::step]:
        try:
            model = load_model(str(path))
        except RigwiseError:
            left["unreadable"] += 1
            continue
        known = {}
        for row in by_name.get(path.stem, ()):
            side, batch = int(row["input_shape_or_seq"].split("x")[1]), int(row["batch"])
            stated = re.search(r"params_M=([\d.]+)", row["notes"])
            said = float(stated[1]) * 1e6 if stated else np.nan
            if not stated or abs(model.parameter_count - said) > max(0.015 * said, 2e4) or batch not in LADDER:
                left["another network or batch"] += 1
                continue
            key = (row["task"], row["framework"], row["layout"], side)
            if key not in known:
                known[key] = bytes_of(model, row, side)
            if (of_batch := known[key]) is None:
                left["another image side"] += 1
                continue
            standing, passing, convolves, counts = of_batch
            nchw = convolves and row["layout"] == "nchw" and row["task"] != "train"
            same = {
                "nchw": nchw,
                "convolves": convolves,
                "task": row["task"],
                "card": row["device"],
                "file": Path(row["repo_path"]).stem,
            }
            same["family"] = re.split(r"[_\d]", path.stem)[0]
            for fitted, at in ((True, LADDER.index(batch)), (False, tried_before(row, batch, first[row["repo_path"]]))):
                if at is not None:
                    found.append(
                        Answer(
                            fitted=fitted, counts=bool(counts[at]), standing=standing[at], passing=passing[at], **same
                        )
                    )
    print("left out:", dict(left))
    return found


class Columns:
    """Answers as arrays."""

    def __init__(self, found: list[Answer]) -> None:
        self.standing = np.array([a.standing for a in found])
        self.passing = np.array([a.passing for a in found])
        self.convolves = np.array([a.convolves for a in found])
        self.nchw = np.array([a.nchw for a in found])
        self.counts = np.array([a.counts for a in found])
        self.fitted = np.array([a.fitted for a in found])
        self.train = np.array([a.task == "train" for a in found])
        constants = load_calibration().memory_terms
        label = {card: device(name).memory_bytes * constants.usable_frac for card, name in CARDS.items()}
        self.capacity = np.array([label[a.card] for a in found])

    def log_ratio(self, fixed: float, train: float, infer: float, nchw: float) -> np.ndarray:
        """ln(capacity / need) of every answer."""
        share = np.where(self.train, train, infer + nchw * self.nchw)
        shown = load_calibration().memory_terms
        others = shown.context_bytes + shown.workspace_bytes
        need = self.standing + self.passing * (1 + share) + np.where(self.convolves, fixed, others)
        return np.asarray(np.log(self.capacity / need))


def right(columns: Columns, constants: tuple[float, ...], rows_: Any = slice(None)) -> float:
    """Share of right answers."""
    said = (columns.log_ratio(*constants) >= 0) & columns.counts
    return float((said == columns.fitted)[rows_].mean()) if columns.fitted[rows_].size else 0.0


def fit(found: list[Answer]) -> tuple[float, ...]:
    """Fixed bytes and the three shares with the most right answers; ties go to the smallest."""
    columns = Columns(found)
    best = (-1.0, (0.0,) * 4)
    for fixed in (5e8, 6.3e8, 8e8, 1e9, 1.3e9):
        train = max(np.arange(0, 0.3, 0.01), key=lambda k: (right(columns, (fixed, k, 0, 0), columns.train), -k))
        infer = [(right(columns, (fixed, 0, k, n), ~columns.train), -k - n, k, n)
                 for k in np.arange(0, 0.6, 0.02) for n in np.arange(0, 0.3, 0.02)]  # fmt: skip
        _, _, k, n = max(infer)
        chosen = (fixed, float(train), float(k), float(n))
        best = max(best, (right(columns, chosen), chosen))
    return best[1]


def spread(columns: Columns, constants: tuple[float, ...], which: np.ndarray) -> float:
    """Standard deviation of ln(peak) under which the answers are likeliest, heavy tails cut at 1 %."""
    ratio, fitted = columns.log_ratio(*constants)[which & columns.counts], columns.fitted[which & columns.counts]
    normal = np.vectorize(NormalDist().cdf)

    def loss(sigma: float) -> float:
        chance = np.clip(normal(ratio / sigma), 0.01, 0.99)
        return float(-np.log(np.where(fitted, chance, 1 - chance)).sum())

    return min((0.02 + 0.01 * n for n in range(40)), key=loss)


def main() -> None:
    """Print the fit, its folds and the score of every file."""
    found = answers(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    constants = fit(found)
    columns = Columns(found)
    shown = load_calibration().memory_terms
    now = (shown.context_bytes + shown.conv_workspace_bytes, shown.training_kept_frac, shown.inference_kept_frac,
           shown.nchw_kept_frac)  # fmt: skip
    print("context and workspace {:.2g}, training {:.2f}, inference {:.2f}, more on NCHW {:.2f}".format(*constants))
    print(
        f"right: fitted {right(columns, constants):.3f} of {len(found)}; constants in force {right(columns, now):.3f}"
    )
    for task, which in (("train", columns.train), ("infer", ~columns.train)):
        print(f"  {task}: {right(columns, now, which):.3f} of {which.sum()}, spread {spread(columns, now, which):.2f}")
    folds = {f"without {card}": [a.card == card for a in found] for card in CARDS}
    fold_of = [int(hashlib.md5(a.family.encode()).hexdigest(), 16) % 4 for a in found]
    folds |= {f"families, part {n}": [f == n for f in fold_of] for n in range(4)}
    for name, outside in folds.items():
        inside = fit([a for a, out in zip(found, outside, strict=True) if not out])
        print(f"  {name}: right {right(columns, inside, np.array(outside)):.3f} of {sum(outside)} left out")
    for file in sorted({a.file for a in found}):
        which = np.array([a.file == file for a in found])
        sides = [
            right(columns, now, which & (columns.fitted == flag))
            for flag in (True, False)
            if (which & (columns.fitted == flag)).any()
        ]
        print(f"  {file.removeprefix('benchmark-'):46} {right(columns, now, which):.3f} of {which.sum():5}  "
              + " ".join(f"{s:.3f}" for s in sides))  # fmt: skip


if __name__ == "__main__":
    main()
