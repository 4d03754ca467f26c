"""What a job costs and takes on a notebook by subscription: fees, units, longest sessions, weekly quotas.

A job with checkpoints goes on in the next session; each session begins with ``restart_s`` in which
nothing is computed. What is used in a week is limited, and the rest waits for the next week. Somebody
has to start each session: that is not counted.

Source: the definition of each term; figures in ``facts/data/subscriptions.toml`` with theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.facts.subscription import Subscription
from rigwise.market.tariff import Tariff
from rigwise.units import DAY_S, HOUR_S

WEEK_S = 7 * DAY_S
MONTH_S = 365.25 * DAY_S / 12
_SLACK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A job spread over sessions and weeks; numbers or arrays.

    Attributes:
        wall_s: From the first session's start to the job's end; infinite if a session is too short to get on.
        held_s: Use of the device, restarts included.
        sessions: How many.
    """

    wall_s: Any
    held_s: Any
    sessions: Any


def sessions(
    undisturbed_s: Any, cap_s: float | None = None, weekly_quota_s: float | None = None, restart_s: float = 0.0
) -> Stretch:
    """Spread work over sessions of at most ``cap_s`` and weeks of at most ``weekly_quota_s`` of use.

    Each week is used from its start, session after session.

    >>> stretch = sessions(40 * 3600.0, cap_s=12 * 3600.0, weekly_quota_s=30 * 3600.0)
    >>> float(stretch.wall_s) / 3600, int(stretch.sessions)
    (178.0, 4)
    """
    work = np.asarray(undisturbed_s, dtype=float)
    quota = np.inf if weekly_quota_s is None else weekly_quota_s
    cap = min(np.inf if cap_s is None else cap_s, quota)
    useful = cap - restart_s
    if useful <= 0:
        return Stretch(wall_s=work + np.inf, held_s=work + np.inf, sessions=work + np.inf)
    weeks = np.zeros_like(work)
    week_work = week_held = week_sessions = 0.0
    if np.isfinite(quota):
        full = float(np.floor(quota / cap + _SLACK))
        rest = max(quota - full * cap - restart_s, 0.0)
        week_work, week_held = full * useful + rest, full * cap + (rest + restart_s if rest else 0.0)
        week_sessions = full + (1.0 if rest else 0.0)
        weeks = np.maximum(np.ceil(work / week_work - _SLACK) - 1.0, 0.0)
    left = work - weeks * week_work
    last = np.maximum(np.ceil(left / useful - _SLACK), 1.0)
    held = left + last * restart_s
    return Stretch(
        wall_s=weeks * WEEK_S + held,
        held_s=weeks * week_held + held,
        sessions=weeks * week_sessions + last,
    )


def subscription_stretch(plan: Subscription, undisturbed_s: Any, restart_s: float = 0.0) -> Stretch:
    """A job spread over the sessions and weeks of a plan."""
    return sessions(undisturbed_s, plan.session_s, plan.weekly_quota_s, restart_s)


def subscription_cost_usd(plan: Subscription, undisturbed_s: Any, restart_s: float = 0.0) -> Any:
    """What a job costs under a plan: whole months of the fee, and the units beyond those it includes.

    Units of a month are taken to be of use in the next ones. Infinite where more are needed than can be bought, or
    where the job never ends.

    >>> from rigwise.facts.subscription import subscriptions
    >>> pro = next(s for s in subscriptions() if s.id == "colab-pro" and s.device == "t4")
    >>> [round(float(subscription_cost_usd(pro, h * 3600.0)), 2) for h in (1, 51, 60)]
    [9.99, 9.99, 11.75]
    """
    stretch = subscription_stretch(plan, undisturbed_s, restart_s)
    months = np.maximum(np.ceil(stretch.wall_s / MONTH_S - _SLACK), 1.0)
    with np.errstate(invalid="ignore"):
        beyond = np.maximum((plan.units_per_h or 0.0) * stretch.held_s / HOUR_S - months * plan.units_per_month, 0.0)
        extra = np.where(beyond > 0, beyond * (np.inf if plan.usd_per_unit is None else plan.usd_per_unit), 0.0)
        return np.where(np.isfinite(stretch.wall_s), months * plan.usd_per_month + extra, np.inf)


def subscription_tariff(plan: Subscription, restart_s: float = 0.0, months: int = 1) -> Tariff:
    """A plan as a tariff, for a job that ends within ``months`` and, if there is a weekly quota, within one week.

    The units that the fee includes are a minimum that is billed, at the price of further ones; the restart of each
    session makes the time longer by its part of a session. That is at most one restart above the exact stretch.
    Where a job may take longer than a week's quota, its time is ``subscription_stretch``'s.

    >>> from rigwise.facts.subscription import subscriptions
    >>> pro = next(s for s in subscriptions() if s.id == "colab-pro" and s.device == "t4")
    >>> [round(float(subscription_tariff(pro).cost_usd(h * 3600.0)), 2) for h in (1, 51, 60)]
    [9.99, 9.99, 11.75]
    """
    units_per_h, usd_per_unit = plan.units_per_h or 0.0, plan.usd_per_unit or 0.0
    included = plan.units_per_month * months
    cap_s = plan.session_s if plan.session_s is not None else np.inf
    return Tariff(
        usd_per_h=units_per_h * usd_per_unit,
        fixed_usd=plan.usd_per_month * months - included * (usd_per_unit if units_per_h else 0.0),
        startup_s=restart_s,
        time_factor=1.0 if np.isinf(cap_s) else cap_s / (cap_s - restart_s) if cap_s > restart_s else np.inf,
        minimum_s=included / units_per_h * HOUR_S if units_per_h else 0.0,
    )
