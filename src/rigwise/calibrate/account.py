"""What a fit changed: errors before and after, and the constants with their priors, for people and for JSON."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.calibrate.fit import Fit
from rigwise.calibrate.suggest import Sureness, sureness
from rigwise.edge import as_plain
from rigwise.errors import MissingFactError
from rigwise.estimate.calibration import packaged
from rigwise.estimate.interval import quantiles
from rigwise.estimate.learned import GROUPS, REGIMES, Regime
from rigwise.measurement.measurement import Rejected

#: Below this weight a row is named as doubtful.
_DOUBTFUL = 0.5
#: A group that takes less of a step than this in every row was not measured.
_LEAST_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """Measured over predicted time of one group of operators in one regime.

    Attributes:
        device: Catalogue id.
        regime: Mode, layout and width.
        group: Of operators, or the host.
        rows: Measured rows in the regime.
        prior, factor: Quantiles before and after.
    """

    device: str
    regime: Regime
    group: str
    rows: int
    prior: Mapping[str, float]
    factor: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceErrors:
    """Geometric errors of a device's rows.

    Attributes:
        device: Catalogue id.
        rows: How many.
        before_frac: With the packaged constants.
        left_out_frac: With the new ones, each row predicted from all others.
    """

    device: str
    rows: int
    before_frac: float
    left_out_frac: float


def errors_of(fit: Fit) -> tuple[DeviceErrors, ...]:
    """Before the fit, and after it with each row left out, by device.

    Source: exp(mean |ln(predicted / measured)|) - 1; Rasmussen & Williams, equation 5.12.
    """
    found = []
    for device in dict.fromkeys(row.device for row in fit.rows):
        at = np.array([row.device == device for row in fit.rows])
        before = np.array([row.log_ratio for row in fit.rows])[at]
        after = fit.posterior.left_out[at]
        errors = {"before_frac": _geometric(before), "left_out_frac": _geometric(after)}
        found.append(DeviceErrors(device=device, rows=int(at.sum()), **errors))
    return tuple(found)


def _geometric(logs: Any) -> float:
    return float(np.expm1(np.abs(logs).mean()))


def constants_of(fit: Fit) -> tuple[Constant, ...]:
    """Constants that some measured step depends on, most measured first."""
    found = []
    scales = {(s.device, s.regime): s for s in fit.learned.scales}
    for d, device in enumerate(fit.devices):
        for r, regime in enumerate(REGIMES):
            of = scales.get((device.id, regime))
            rows = [one for one in fit.rows if one.device == device.id and one.regime == regime]
            for g, group in enumerate(GROUPS):
                if of and any(row.shares.get(group, 0.0) > _LEAST_SHARE for row in rows):
                    spread = float(fit.posterior.covariance[d, r, g, g]) ** 0.5
                    found.append(
                        Constant(
                            device=device.id,
                            regime=regime,
                            group=group,
                            rows=len(rows),
                            prior=_plain(quantiles(1.0, float(fit.posterior.prior[d, r, g]))),
                            factor=_plain(quantiles(float(np.exp(fit.posterior.mean[d, r, g])), spread)),
                        )
                    )
    return tuple(found)


def _plain(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items()}


def doubtful(fit: Fit) -> tuple[Rejected, ...]:
    """Rows that the others contradict; they count for less."""
    found = []
    for row, where, weight, off in zip(fit.rows, fit.where, fit.posterior.weight, fit.posterior.left_out, strict=True):
        if weight < _DOUBTFUL:
            reason = f"{row.model}: {float(np.exp(off)):.2f} times what the other rows suggest; it counts {weight:.0%}"
            found.append(Rejected(where=where or f"{row.model}, measured earlier", reason=reason))
    return tuple(found)


def place_of(one: Rejected) -> tuple[str, int]:
    """File and line, to sort by.

    >>> place_of(Rejected(where="steps.csv line 12", reason=""))
    ('steps.csv', 12)
    """
    file, _, line = one.where.rpartition(" line ")
    return (file, int(line)) if line.isdigit() and file else (one.where, 0)


def calibrate_document(fit: Fit | None, left_out: Sequence[Rejected], read: int, written: str | None) -> dict[str, Any]:
    """The JSON object of ``rigwise.calibrate/1``; without a fit nothing was learned."""
    base = packaged()
    return {
        "schema": "rigwise.calibrate/1",
        "base": base.name,
        "written": written,
        "rows": {
            "read": read,
            "fitted": len(fit.rows) if fit else 0,
            "earlier": sum(not where for where in fit.where) if fit else 0,
            "left_out": as_plain(left_out),
            "doubtful": as_plain(doubtful(fit)) if fit else [],
        },
        "errors": as_plain(errors_of(fit)) if fit else [],
        "constants": as_plain(constants_of(fit)) if fit else [],
        "sureness": as_plain(sureness_of(fit)) if fit else [],
    }


def sureness_of(fit: Fit) -> tuple[Sureness, ...]:
    """Of the devices that new rows were measured on, how far other steps of theirs may be off."""
    of_new = {row.device for row, where in zip(fit.rows, fit.where, strict=True) if where}
    found = []
    for device, dispersion in zip(fit.devices, fit.posterior.dispersion.tolist(), strict=True):
        rows = [row for row in fit.rows if row.device == device.id]
        if device.id in of_new and device.id in fit.learned.devices:
            with contextlib.suppress(MissingFactError):
                found.append(sureness(device, rows, dispersion))
    return tuple(found)
