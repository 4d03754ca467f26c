"""How sure the ranking is: the best under the median need not be the best in the event.

Each plan's time is drawn from a lognormal with its own 10th and 90th percentiles. Plans on the
same device are wrong together, so they share one draw: between two prices of one machine the
cheaper always wins. Devices are taken as independent of one another, which overstates how
often their order changes. Draws are the same on every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rigwise.search.bounds import KWH_J, Z90, Goal
from rigwise.search.types import Array, Plan, Quantiles

DRAWS = 4096
_SEED = 20240101
#: What a free hour counts in an objective is no money.
_NOTHING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scatter:
    """Draws ``[plans, draws]``."""

    value: Array
    cost_usd: Array


def with_odds(plans: Sequence[Plan], goal: Goal) -> tuple[Plan, ...]:
    """The plans with the probability of being the best of them, and the regret of each in money.

    Plans that tie in a draw share it.
    """
    if not plans:
        return ()
    scatter = _scatter(plans, goal)
    wins = scatter.value <= scatter.value.min(axis=0) * (1 + 1e-12)
    p_best = (wins / wins.sum(axis=0)).mean(axis=1)
    regret_usd = (scatter.cost_usd - scatter.cost_usd.min(axis=0)).mean(axis=1)
    return tuple(
        replace(plan, p_best=float(p), expected_regret_usd=float(r))
        for plan, p, r in zip(plans, p_best, regret_usd, strict=True)
    )


def _scatter(plans: Sequence[Plan], goal: Goal) -> _Scatter:
    random = np.random.default_rng(_SEED)
    devices = list(dict.fromkeys(plan.device for plan in plans))
    normal = random.standard_normal((len(devices), DRAWS))
    value, cost_usd = [], []
    for plan in plans:
        drawn = normal[devices.index(plan.device)]
        time_s = _drawn(plan.time_s, drawn)
        longer = time_s / plan.time_s.p50
        cost_usd.append(_drawn(plan.cost_usd, drawn))
        energy_j, carbon_g = plan.energy_j or 0.0, plan.carbon_g or 0.0
        grams_per_kwh = carbon_g / energy_j * KWH_J if energy_j else 0.0
        value.append(goal.value(cost_usd[-1], time_s, energy_j * longer, grams_per_kwh))
    paid = np.where(np.stack(value) < _NOTHING, 0.0, np.stack(value))
    return _Scatter(value=paid, cost_usd=np.stack(cost_usd))


def _drawn(figure: Quantiles, normal: Array) -> Array:
    """Draws of a lognormal figure; the two sides of its interval may differ. What is free stays free."""
    if figure.p10 <= 0:
        return np.full_like(normal, figure.p50)
    above = np.log(figure.p90 / figure.p50) / Z90
    below = np.log(figure.p50 / figure.p10) / Z90
    return np.asarray(figure.p50 * np.exp(normal * np.where(normal > 0, above, below)))


def overlaps(first: Plan, other: Plan, objective: str) -> bool:
    """Whether two intervals of the objective overlap, so that the order is no more than likely."""
    if objective in ("energy", "carbon") or first.device == other.device:
        return False
    mine, theirs = (p.time_s if objective == "time" else p.cost_usd for p in (first, other))
    return theirs.p10 <= mine.p90
