"""How sure the ranking is: the best under the median need not be the best in the event.

Each plan's time and cost are drawn from lognormals with their own 10th and 90th percentiles. Plans are wrong together
as far as their errors have a common cause (``estimate.correlation``): the same workload, architecture, device. So
between two prices of one machine the cheaper always wins. Draws are the same on every run.

What a plan shares with others does not depend on how it is laid out: fewer devices, another format or micro-batch on
the same device err together as far as they are equally sure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rigwise.facts.device import Device
from rigwise.search.bounds import KWH_J, Z90, Goal
from rigwise.search.types import Array, Plan, Quantiles
from rigwise.units import format_fraction, format_seconds, format_usd

DRAWS = 4096
_SEED = 20240101
#: What a free hour counts in an objective is no money.
_NOTHING = 1e-9
#: A plan is tied with the first if it is ahead of it with at least this probability: the 80 % interval of the
#: difference between them reaches to both sides of nothing.
TIE = 0.1

#: Device ids and standard deviations of ln(time) of estimates -> their covariance ``[estimates, estimates]``.
Kinship = Callable[[Sequence[str], Array], Array]


def apart(devices: Sequence[str], spread: Array) -> Array:
    """The covariance if nothing is shared but the device: overstates how often the order of devices changes."""
    same = np.array(devices)[:, None] == np.array(devices)[None, :]
    return np.where(same, np.square(np.minimum(spread[:, None], spread[None, :])), 0.0)


def kinship(devices: Mapping[str, Device]) -> Kinship:
    """The covariance by the calibration in force, for devices by their ids."""
    from rigwise.estimate.calibration import load_calibration
    from rigwise.estimate.correlation import covariance

    calibration = load_calibration()
    return lambda names, spread: covariance([devices[name] for name in names], spread, calibration)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scatter:
    """Draws ``[plans, draws]``."""

    value: Array
    cost_usd: Array


def with_odds(plans: Sequence[Plan], goal: Goal, kin: Kinship = apart, rivals: Iterable[Plan] = ()) -> tuple[Plan, ...]:
    """The plans with the probability of being the best, of being ahead of the first, and their regret in money.

    Plans that tie in a draw share it.

    Args:
        plans: Best first.
        goal: What is minimised.
        kin: What errors have in common.
        rivals: Others that may turn out better than all of these; they count in what is the best.
    """
    if not plans:
        return ()
    known = {_identity(plan): plan for plan in (*reversed(list(rivals)), *reversed(plans))}
    place = {key: row for row, key in enumerate(known)}
    scatter = _scatter(list(known.values()), goal, kin)
    wins = scatter.value <= scatter.value.min(axis=0) * (1 + 1e-12)
    p_best = (wins / wins.sum(axis=0)).mean(axis=1)
    first = scatter.value[place[_identity(plans[0])]]
    p_ahead = (scatter.value < first * (1 - 1e-12)).mean(axis=1)
    regret_usd = (scatter.cost_usd - scatter.cost_usd.min(axis=0)).mean(axis=1)
    rows = [place[_identity(plan)] for plan in plans]
    return tuple(
        replace(
            plan,
            p_best=float(p_best[row]),
            p_ahead=float(p_ahead[row]),
            expected_regret_usd=float(regret_usd[row]),
        )
        for plan, row in zip(plans, rows, strict=True)
    )


def is_tied(plan: Plan) -> bool:
    """Whether the order of a plan and the first is no more than likely."""
    return plan.p_ahead >= TIE


def _identity(plan: Plan) -> tuple[Any, ...]:
    """What tells two plans apart."""
    where = (plan.provider, plan.instance, plan.region, plan.market, plan.device, plan.count, plan.nodes)
    return (*where, plan.dtype, plan.layout, plan.mode, plan.micro_batch, plan.recompute, plan.parallel, plan.usd_per_h)


def _scatter(plans: Sequence[Plan], goal: Goal, kin: Kinship) -> _Scatter:
    normal = _normal(plans, kin)
    value, cost_usd = [], []
    for plan, drawn in zip(plans, normal, strict=True):
        time_s = _drawn(plan.time_s, drawn)
        longer = time_s / plan.time_s.p50
        cost_usd.append(_drawn(plan.cost_usd, drawn))
        energy_j, carbon_g = plan.energy_j or 0.0, plan.carbon_g or 0.0
        grams_per_kwh = carbon_g / energy_j * KWH_J if energy_j else 0.0
        value.append(goal.value(cost_usd[-1], time_s, energy_j * longer, grams_per_kwh))
    paid = np.where(np.stack(value) < _NOTHING, 0.0, np.stack(value))
    return _Scatter(value=paid, cost_usd=np.stack(cost_usd))


def _normal(plans: Sequence[Plan], kin: Kinship) -> Array:
    """Standard normal draws of each plan, correlated ``[plans, draws]``; estimates that are alike get the same ones."""
    alike = [(plan.device, float(f"{_spread(plan.time_s):.9g}")) for plan in plans]
    estimates = list(dict.fromkeys(alike))
    spread = np.array([max(width, 1e-9) for _, width in estimates])
    shared = kin([device for device, _ in estimates], spread) / (spread[:, None] * spread[None, :])
    # Rounding can make a matrix that is nearly singular indefinite.
    root = np.linalg.cholesky(shared + 1e-9 * np.eye(len(estimates)))
    drawn = root @ np.random.default_rng(_SEED).standard_normal((len(estimates), DRAWS))
    return np.asarray(drawn[[estimates.index(key) for key in alike]])


def _spread(figure: Quantiles) -> float:
    """Standard deviation of the logarithm of a lognormal figure."""
    return float(np.log(figure.p90 / figure.p10) / (2 * Z90)) if figure.p10 > 0 else 0.0


def _drawn(figure: Quantiles, normal: Array) -> Array:
    """Draws of a lognormal figure; the two sides of its interval may differ. What is free stays free."""
    if figure.p10 <= 0:
        return np.full_like(normal, figure.p50)
    above = np.log(figure.p90 / figure.p50) / Z90
    below = np.log(figure.p50 / figure.p10) / Z90
    return np.asarray(figure.p50 * np.exp(normal * np.where(normal > 0, above, below)))


def fallbacks(first: Plan, others: Iterable[Plan], number: int = 3) -> tuple[Plan, ...]:
    """What to take when the first plan is not available, each with what sets it apart.

    None is of the provider and instance of the first or of another fallback. One has another device and another
    provider than the first, if any has; the rest are the best that differ from each in one of them at least; what
    differs in neither comes in only where there are too few others.

    Args:
        first: The best plan.
        others: Plans to choose from, best first.
        number: How many.
    """
    pool, chosen = list(others), [first]
    for shared, enough in ((0, 1), (1, number), (2, number)):
        for plan in pool:
            if len(chosen) <= enough and all(_shared(plan, known) <= shared for known in chosen):
                chosen.append(plan)
    kept = sorted(chosen[1:], key=pool.index)
    return tuple(replace(plan, why=(_apart_from(plan, first), *plan.why)) for plan in kept)


def _shared(plan: Plan, other: Plan) -> int:
    """How many of device and provider two plans share; 3 if what is not there for one is not there for the other."""
    if (plan.provider, plan.instance) == (other.provider, other.instance):
        return 3
    return (plan.device == other.device) + (plan.provider == other.provider)


def _apart_from(plan: Plan, first: Plan) -> str:
    """What is different about a fallback, in words."""
    differs = [
        f"{word} {getattr(plan, word)}"
        for word in ("provider", "device", "market")
        if getattr(plan, word) != getattr(first, word)
    ]
    usd, seconds = plan.cost_usd.p50 - first.cost_usd.p50, plan.time_s.p50 - first.time_s.p50
    share = f" ({format_fraction(usd / first.cost_usd.p50)})" if first.cost_usd.p50 > 0 and usd > 0 else ""
    money = f"{format_usd(abs(usd))} {'dearer' if usd > 0 else 'cheaper'}{share}" if usd else "no dearer"
    pace = f"{format_seconds(abs(seconds))} {'slower' if seconds > 0 else 'quicker'}" if seconds else "as quick"
    return f"{', '.join(differs) or 'another instance'}: {money}, {pace}"
