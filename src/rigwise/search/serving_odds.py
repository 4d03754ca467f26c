"""How sure the ranking of fleets is: which would be the cheapest if every device were as quick as it really is.

In each draw the replicas of a device are slower or quicker than the estimate's median, all of them together, and
every plan is sized again by what its replicas then take. Devices are independent of one another, which overstates
how often their order changes. Draws are the same on every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rigwise.estimate.serving_curve import Curves
from rigwise.estimate.steady_state import capacity, times_at
from rigwise.search.serving_space import Price, instances_needed
from rigwise.search.types import Array
from rigwise.workload.serving_load import Serving

_DRAWS = 2048
_SEED = 20240101
#: Standard deviations at which fleets are sized; in between the rate that a replica takes is interpolated.
_GRID = np.linspace(-4.0, 4.0, 33)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """A plan that can be sized again.

    Attributes:
        device: What is quick or slow together.
        curves: Of one replica, a row of one.
        fitting: Sequences that it holds.
        per_instance: Replicas of an instance.
        price: Of an instance.
    """

    device: str
    curves: Curves
    fitting: int
    per_instance: int
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class Odds:
    """Chance of being the cheapest of the plans compared, and what is lost on average if it is not."""

    p_best: float
    expected_regret_usd: float


def odds_of(plans: Sequence[Sized], load: Serving) -> tuple[Odds, ...]:
    """The odds of each plan among all of them; those that tie in a draw share it."""
    random = np.random.default_rng(_SEED)
    devices = list(dict.fromkeys(plan.device for plan in plans))
    deviations = random.standard_normal((len(devices), _DRAWS))
    usd = np.stack([_usd(plan, load, deviations[devices.index(plan.device)]) for plan in plans])
    least = usd.min(axis=0)
    wins = np.isfinite(usd) & (usd <= least * (1 + 1e-12))
    share = wins / np.maximum(wins.sum(axis=0), 1)
    return tuple(
        Odds(p_best=float(share[row].mean()), expected_regret_usd=_regret(usd[row], least)) for row in range(len(plans))
    )


def _regret(usd: Array, least: Array) -> float:
    """Mean loss over the draws in which the plan can serve at all; 0 if there are none."""
    able = np.isfinite(usd)
    return float((usd[able] - least[able]).mean()) if able.any() else 0.0


def _usd(plan: Sized, load: Serving, deviations: Array) -> Array:
    """What the plan costs in each draw, infinite where its replicas cannot keep the limits ``[draws]``."""
    fitting = np.array([float(plan.fitting)])
    rates = [float(capacity(plan.curves.batches, times_at(plan.curves, z), fitting, load).rate_per_s[0]) for z in _GRID]
    most = np.interp(deviations, _GRID, rates)
    needed = {rate: instances_needed(load, rate, plan.per_instance, plan.price.up_frac) for rate in set(most[most > 0])}
    return np.array([plan.price.cost_usd(needed[rate]) if rate > 0 else np.inf for rate in most])
