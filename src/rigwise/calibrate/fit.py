"""``rigwise calibrate``: from measured rows to a user's calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rigwise.calibrate.layer import LAYER, linearise_layer
from rigwise.calibrate.linearise import Linear, linearise, linearise_operators
from rigwise.calibrate.question import Question, measured_s, question
from rigwise.calibrate.shelf import Shelf, check_same_network
from rigwise.calibrate.update import Posterior, update
from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.estimate.calibration import calibrated_with, packaged
from rigwise.estimate.learned import GROUPS, OPERATOR, REGIMES, Evidence, Learned, Scales, regime_of
from rigwise.facts.device import Device
from rigwise.machine.this import resolve_device
from rigwise.measurement.measurement import Measurement, Rejected

Progress = Callable[[int, int], None]

#: A row further from its prediction than this is in another unit, or timed something else.
_IMPLAUSIBLE_FACTOR = 10.0
#: All rows are compared with all others; beyond this many, rows are thinned evenly.
MOST_ROWS = 1200


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """Rows that can be fitted, and those that cannot.

    Attributes:
        rows: What each says; ``residual`` is not known yet.
        where: File and line of each.
        left_out: With reasons.
    """

    rows: tuple[Evidence, ...]
    where: tuple[str, ...]
    left_out: tuple[Rejected, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What the rows taught.

    Attributes:
        learned: Ready to be used or written.
        rows: The rows that were fitted, in the order of the posterior.
        where: File and line of each; empty for rows of an earlier fit.
        devices: Whose constants were fitted.
        posterior: Of all of them.
    """

    learned: Learned
    rows: tuple[Evidence, ...]
    where: tuple[str, ...]
    devices: tuple[Device, ...]
    posterior: Posterior


def gather(
    measurements: Sequence[Measurement],
    shelf: Shelf,
    only: Collection[str] = (),
    progress: Progress = lambda done, total: None,
) -> Gathered:
    """Predict every row that times a step on one device; name and leave out the others.

    Args:
        measurements: Rows of tables.
        shelf: Where networks are looked for.
        only: Ids of the devices whose rows are wanted; empty: all.
        progress: Called with rows done and rows in all.
    """
    order = sorted(range(len(measurements)), key=lambda index: measurements[index].model)
    found: dict[int, Evidence] = {}
    left_out: list[Rejected] = []
    for done, index in enumerate(order):
        one = measurements[index]
        try:
            with calibrated_with(None):
                found[index] = _evidence(one, shelf, only)
        except RigwiseError as error:
            left_out.append(Rejected(where=one.where, reason=str(error)))
        progress(done + 1, len(order))
    kept = sorted(found)
    return Gathered(
        rows=tuple(found[index] for index in kept),
        where=tuple(measurements[index].where for index in kept),
        left_out=tuple(left_out),
    )


def _evidence(m: Measurement, shelf: Shelf, only: Collection[str]) -> Evidence:
    asked, layer = (question(m, shelf.names), None) if m.model != LAYER else linearise_layer(m)
    if only and asked.device.id not in only:
        raise InvalidInputError(f"measured on {asked.device.id}, not on {' or '.join(sorted(only))}")
    if asked.message is not None:
        raise InvalidInputError("a collective was timed; steps and operators of one device are fitted")
    if m.count > 1:
        raise InvalidInputError(f"{m.count} devices shared the step; steps of one device are fitted")
    seconds = measured_s(m)
    if layer is not None:
        linear = layer
    elif asked.op is not None:
        linear = linearise_operators(asked, [asked.op])
    else:
        model = shelf.model(asked.case.model)
        check_same_network(m, model)
        linear = linearise(asked, model)
    _check_plausible(linear, seconds)
    return _row(asked, linear, seconds, m.spread_frac)


def _row(asked: Question, linear: Linear, seconds: float, spread_frac: float) -> Evidence:
    device, ratio = asked.device, math.log(seconds / linear.predicted_s)
    return Evidence(
        model=asked.case.model if asked.is_step else f"{asked.case.model} {asked.measurement.shape}",
        device=device.id,
        architecture=device.architecture,
        vendor=device.vendor,
        kind=device.kind,
        regime=regime_of(linear.case),
        task=OPERATOR if not asked.is_step else linear.case.task if asked.part == "step" else asked.part,
        torch=linear.case.software.torch or "",
        batch=linear.case.batch,
        signature=linear.signature,
        shares=linear.shares,
        log_ratio=round(ratio, 5),
        residual=round(ratio, 5),
        spread_frac=round(spread_frac, 5),
    )


def _check_plausible(linear: Linear, seconds: float) -> None:
    """Refuse what cannot be this step's time.

    Raises:
        InvalidInputError: Quicker than its bound, or far from the prediction.
    """
    if seconds < linear.bound_s:
        raise InvalidInputError(
            f"{seconds:.3g} s is quicker than its lower bound of {linear.bound_s:.3g} s", hint="check unit and batch"
        )
    factor = seconds / linear.predicted_s
    if not 1.0 / _IMPLAUSIBLE_FACTOR < factor < _IMPLAUSIBLE_FACTOR:
        words = f"{factor:.3g} times" if factor > 1 else f"1/{1 / factor:.3g} of"
        raise InvalidInputError(f"{seconds:.3g} s is {words} the prediction", hint="check unit and batch")


def fit(
    rows: Sequence[Evidence],
    where: Sequence[str],
    date: str,
    targets: Collection[str] = (),
) -> Fit:
    """Update the constants of every device that was measured, and of the targets.

    Args:
        rows: Measured; a later row replaces an earlier one of the same question.
        where: File and line of each.
        date: Day of the fit.
        targets: Ids of devices whose constants are wanted; empty: those that were measured.

    Raises:
        InvalidInputError: There is no row.
    """
    if not rows:
        raise InvalidInputError("no row can be fitted", hint="rigwise calibrate names why each was left out")
    wanted = set(targets) or {row.device for row in rows}
    rows, where = _joined(rows, where)
    ids = sorted({row.device for row in rows} | wanted)
    devices = tuple(resolve_device(name) for name in ids)
    posterior = update(rows, devices, packaged())
    settled = tuple(
        replace(row, residual=round(float(residual), 5)) for row, residual in zip(rows, posterior.residual, strict=True)
    )
    learned = Learned(
        where="",
        date=date,
        software=tuple(sorted({row.torch for row in rows if row.torch})),
        scales=_scales(settled, devices, posterior, wanted),
        evidence=settled,
        dispersion={d.id: round(float(times), 4) for d, times in zip(devices, posterior.dispersion, strict=True)},
    )
    return Fit(learned=learned, rows=settled, where=tuple(where), devices=devices, posterior=posterior)


def _joined(rows: Sequence[Evidence], where: Sequence[str]) -> tuple[list[Evidence], list[str]]:
    """Each question once: a later row takes the place of an earlier one."""
    last = {_key(row): (row, at) for row, at in zip(rows, where, strict=True)}
    kept = _thinned(list(last.values()))
    return [row for row, _ in kept], [at for _, at in kept]


def _key(row: Evidence) -> tuple[object, ...]:
    """What makes two rows the same question; networks of one name are told apart by what they compute."""
    return (row.model, row.device, row.regime, row.task, row.torch, row.batch, tuple(row.signature.items()))


def _thinned(rows: list[tuple[Evidence, str]]) -> list[tuple[Evidence, str]]:
    """At most ``MOST_ROWS`` of them, evenly."""
    if len(rows) <= MOST_ROWS:
        return rows
    return [rows[int(i)] for i in np.linspace(0, len(rows) - 1, MOST_ROWS).round()]


def _scales(
    rows: Sequence[Evidence], devices: Sequence[Device], posterior: Posterior, wanted: Collection[str]
) -> tuple[Scales, ...]:
    found = []
    for d, device in enumerate(devices):
        for r, regime in enumerate(REGIMES):
            if device.id in wanted:
                of_rows = sum(x.device == device.id and x.regime == regime for x in rows)
                log_scale = zip(GROUPS, posterior.mean[d, r].tolist(), strict=True)
                covariance = posterior.covariance[d, r].round(8).tolist()
                found.append(
                    Scales(
                        device=device.id,
                        regime=regime,
                        rows=of_rows,
                        log_scale={name: round(value, 5) for name, value in log_scale},
                        covariance=tuple(tuple(line) for line in covariance),
                    )
                )
    return tuple(found)
