"""Refit products and power with each card of NeuSight's tables left out in turn, and predict its steps and products.

    python tools/fit/cards_out.py [--serving]

Nothing measured on the card that is judged is fitted: its rows leave every table, not NeuSight's alone. P4 and T4, the
two whose power limit binds, are left out together as well. Products of P4 are never fitted, as in ``gemm.py``. Other
sections, passes of streaming kernels among them, stay as they are. For each card and task it prints the geometric error
and the mean absolute percentage error (MAPE) with the constants in force, and with those of the refit. ``--serving``
takes the whole tables of aiconfigurator-core, if it is installed, in the place of the extract.

What the published predictor reaches stands below the table as far as it is known: mean errors of NeuSight over its
own table, which has more networks than the rows here.

Source: NeuSight, ``scripts/asplos/summary/summary.csv`` (MIT), for the errors of the published predictor.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from gemm import (
    MEASURED,
    NOT_FITTED,
    Group,
    csv_rows,
    fit,
    groups_of,
    medians,
    residuals,
    serving_rows,
    start_values,
    with_constants,
)
from steps import rows_of

from rigwise.calibrate.shelf import Shelf
from rigwise.estimate.calibration import Calibration, packaged

CARDS = ("p4", "p100-pcie-16gb", "v100-pcie-32gb", "t4", "a100-pcie-40gb")
FOLDS = (*((card,) for card in CARDS), ("p4", "t4"))
TABLE = "neusight_e2e"
#: Products shorter than this are dominated by what the harness adds.
LEAST_S = 200e-6
PUBLISHED = "NeuSight over its own table: P4 27 %, T4 18 %; cards it was trained on: inference 12.8 %, training 15.0 %"
Errors = dict[tuple[str, str], np.ndarray]


def step_errors(calibration: Calibration, devices: Iterable[str]) -> Errors:
    """ln(predicted / measured) of NeuSight's steps by card and task."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows_of(MEASURED / f"{TABLE}.csv", Shelf(None), 1, "", calibration):
        if row.question.device.id in devices:
            task = row.question.part if row.question.part != "step" else row.question.case.task
            found[row.question.device.id, f"{task} step"].append(np.log(row.predicted_s / row.measured_s))
    return {key: np.array(errors) for key, errors in found.items()}


def product_errors(groups: Sequence[Group], calibration: Calibration, values: Mapping[str, float]) -> Errors:
    """ln(predicted / measured) of NeuSight's products that are long enough, by card."""
    chosen = [g for g in groups if g.source == "neusight_ops"]
    errors = residuals(chosen, values, calibration)
    return {(g.device.id, "products"): error[g.time_s > LEAST_S] for g, error in zip(chosen, errors, strict=True)}


def without(groups: Sequence[Group], cards: Sequence[str], base: Calibration) -> dict[str, float]:
    """Constants fitted on what other devices measured.

    An architecture that only the cards have reaches the median share of its peak of the others.
    """
    kept = [g for g in groups if g.device.id not in (*cards, NOT_FITTED)]
    values = fit(kept, base, start_values())
    lost = {g.device.architecture for g in groups} - {g.device.architecture for g in kept}
    prefix = "gemm.matrix_frac_of_architecture."
    usual = float(np.median([v for k, v in values.items() if k.startswith(prefix) and k[len(prefix) :] not in lost]))
    return values | {k: usual for k in values if k.startswith(prefix) and k[len(prefix) :] in lost}


def cells(errors: np.ndarray) -> str:
    """Geometric error, MAPE and bias."""
    geo, bias = np.expm1(np.abs(errors).mean()), np.expm1(errors.mean())
    return f"{geo:9.1%}{np.abs(np.expm1(errors)).mean():8.1%}{bias:+8.1%}"


def table(title: str, now: Errors, apart: Errors) -> None:
    """One line for each card and task, and one for all of a task."""
    print(f"{title:<42}{'n':>5}   geo-err    MAPE    bias   left out    MAPE    bias")
    pooled: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for (card, task), errors in sorted(apart.items()):
        print(f"  {card:<18}{task:<22}{len(errors):>5} {cells(now[card, task])}  {cells(errors)}")
        pooled[task].append((now[card, task], errors))
        if task.endswith("step"):
            pooled["every step"].append((now[card, task], errors))
    for task, pairs in pooled.items():
        before, after = (np.concatenate(part) for part in zip(*pairs, strict=True))
        print(f"  {'all':<18}{task:<22}{len(after):>5} {cells(before)}  {cells(after)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serving", action="store_true", help="whole serving tables, not the extract")
    options = parser.parse_args()
    base = packaged()
    rows = medians(serving_rows() if options.serving else csv_rows("aiconfigurator_gemm"))
    for source in ("neusight_ops", "vidur", "deepbench"):
        rows += medians(csv_rows(source))
    groups = [g for g in groups_of(rows) if g.number_format != "fp8"]
    now = step_errors(base, CARDS) | product_errors(groups, base, {})
    alone: Errors = {}
    for cards in FOLDS:
        values = without(groups, cards, base)
        refitted = with_constants(base, values)
        found = step_errors(refitted, cards) | product_errors([g for g in groups if g.device.id in cards], base, values)
        print(f"without {' and '.join(cards)}: {values['power.vector_j_per_flop'] * 1e12:.2f} pJ/FLOP on vector lanes")
        if len(cards) > 1:
            table("power-limited cards, left out together", now, found)
        else:
            alone |= found
    table("each card left out in turn", now, alone)
    print(PUBLISHED)


if __name__ == "__main__":
    main()
