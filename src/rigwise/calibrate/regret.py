"""What a wrong prediction costs: the price of the card that it would choose against the best card."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rigwise.calibrate.baselines import workload_key
from rigwise.calibrate.names import device_of, release_of
from rigwise.calibrate.rows import Array, Rows
from rigwise.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Regret:
    """Regret of one predictor.

    Attributes:
        workloads: Workloads measured on several devices, all of which it answered.
        mean_frac, p90_frac: Cost of the device it chose over the best one's, less 1.
        wrong_frac: How often it did not choose the best.
    """

    workloads: int
    mean_frac: float
    p90_frac: float
    wrong_frac: float


def read_prices(path: Path) -> dict[str, float]:
    """Dollars per hour by device id, from a CSV file with the columns ``device`` and ``usd_per_h``.

    Raises:
        InvalidInputError: No such file, or a price that is none.
        UnknownNameError: A device that the catalogue lacks.
    """
    import csv

    from rigwise.edge import read_text

    prices = {}
    rows = csv.DictReader(read_text(path).splitlines())
    if not {"device", "usd_per_h"} <= set(rows.fieldnames or ()):
        raise InvalidInputError(f"{path} has no columns device and usd_per_h")
    for number, row in enumerate(rows, 2):
        try:
            price = float(row["usd_per_h"] or "")
        except ValueError:
            price = 0.0
        if not 0 < price < 1e6:
            raise InvalidInputError(f"{path} line {number}: the price is {str(row['usd_per_h'])[:40]!r}")
        prices[device_of((row["device"] or "").strip(), "").id] = price
    return prices


def launch_prices(rows: Rows) -> dict[str, float]:
    """What each device cost when it was new, by id, for those whose price the catalogue has: a stand-in for rent."""
    devices = {one.question.device.id: one.question.device for one in rows.scores}
    return {name: d.launch_price_usd for name, d in devices.items() if d.launch_price_usd}


def choices(rows: Rows, prices: Mapping[str, float]) -> list[list[int]]:
    """Rows of each step that was measured on several devices under one software: one row for each device.

    Of several batches the largest counts.
    """
    by_key: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for row, one in enumerate(rows.scores):
        if one.question.is_step and (not prices or rows.device[row] in prices):
            software = release_of(one.question.measurement.framework)
            by_key[(one.question.measurement.source, software, *workload_key(one))].append(row)
    found: list[list[int]] = []
    for members in by_key.values():
        best: dict[str, int] = {}
        for row in sorted(members, key=lambda r: rows.scores[r].question.case.batch):
            best[str(rows.device[row])] = row
        if len(best) > 1:
            found.append(list(best.values()))
    return found


def regret_of(predicted_s: Array, rows: Rows, groups: list[list[int]], prices: Mapping[str, float]) -> Regret | None:
    """Regret over the groups that a predictor answers in full; without prices all devices cost the same per hour."""
    losses = []
    for group in groups:
        members = np.array(group)
        batch = np.array([float(rows.scores[r].question.case.batch) for r in group])
        price = np.array([prices.get(str(rows.device[r]), 1.0) for r in group])
        guess, true = (column[members] / batch * price for column in (predicted_s, rows.measured_s))
        if np.isfinite(guess).all():
            losses.append(true[int(np.argmin(guess))] / true.min() - 1.0)
    if not losses:
        return None
    lost = np.array(losses)
    return Regret(
        workloads=len(lost),
        mean_frac=float(lost.mean()),
        p90_frac=float(np.quantile(lost, 0.9)),
        wrong_frac=float((lost > 0).mean()),
    )
