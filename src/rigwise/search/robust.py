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

from rigwise.search.bounds import Z90
from rigwise.search.types import Array, Plan, Quantiles

DRAWS = 4096
_SEED = 20240101


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scatter:
    """Draws ``[plans, draws]``."""

    value: Array
    cost_usd: Array


def with_odds(plans: Sequence[Plan], objective: str) -> tuple[Plan, ...]:
    """The plans with the probability of being the best of them, and the regret of each in money.

    Plans that tie in a draw share it.
    """
    if not plans:
        return ()
    scatter = _scatter(plans, objective)
    wins = scatter.value <= scatter.value.min(axis=0) * (1 + 1e-12)
    p_best = (wins / wins.sum(axis=0)).mean(axis=1)
    regret_usd = (scatter.cost_usd - scatter.cost_usd.min(axis=0)).mean(axis=1)
    return tuple(
        replace(plan, p_best=float(p), expected_regret_usd=float(r))
        for plan, p, r in zip(plans, p_best, regret_usd, strict=True)
    )


def _scatter(plans: Sequence[Plan], objective: str) -> _Scatter:
    random = np.random.default_rng(_SEED)
    devices = list(dict.fromkeys(plan.device for plan in plans))
    normal = random.standard_normal((len(devices), DRAWS))
    factor = np.stack([_factor(plan.time_s, normal[devices.index(plan.device)]) for plan in plans])
    cost_usd = factor * np.array([[plan.cost_usd.p50] for plan in plans])
    median = {"cost": [p.cost_usd.p50 for p in plans], "time": [p.time_s.p50 for p in plans]}
    median["energy"] = [p.energy_j or np.inf for p in plans]
    return _Scatter(value=factor * np.array(median[objective])[:, None], cost_usd=cost_usd)


def _factor(time_s: Quantiles, normal: Array) -> Array:
    """Time over median time; the two sides of the interval may differ."""
    above = np.log(time_s.p90 / time_s.p50) / Z90
    below = np.log(time_s.p50 / time_s.p10) / Z90
    return np.asarray(np.exp(normal * np.where(normal > 0, above, below)))


def overlaps(first: Plan, other: Plan, objective: str) -> bool:
    """Whether two intervals of the objective overlap, so that the order is no more than likely."""
    if objective == "energy" or first.device == other.device:
        return False
    mine, theirs = (p.cost_usd if objective == "cost" else p.time_s for p in (first, other))
    return theirs.p10 <= mine.p90
