"""What owning and renting have cost month by month, if the machine were sold then."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from rigwise.market.ownership import Conditions, Purchase, hours_of, total_cost
from rigwise.workload.job import Horizon

#: Moments that are worked out, and the longest time that is looked at.
_MOMENTS, _LONGEST_MONTHS = 24, 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthCost:
    """Both ways up to one month; the machine is sold at its end."""

    months: float
    own_usd: float
    rent_usd: float


def cost_by_month(
    purchase: Purchase,
    conditions: Conditions,
    load_w: float,
    horizon: Horizon,
    rent_usd_per_h: float,
    even_months: float,
) -> tuple[MonthCost, ...]:
    """The course of both costs over the horizon, or a quarter beyond the month in which they are equal.

    Leaves out what a discount rate changes.

    Args:
        purchase: Of the machine.
        conditions: Under which it is owned.
        load_w: Of the machine at work.
        horizon: For how long it is bought, and how much it works.
        rent_usd_per_h: Rent for what the machine does in an hour.
        even_months: When both cost the same; infinite for never.

    Source: ``ownership.total_cost`` at each month.
    """
    beyond = min(1.25 * even_months, _LONGEST_MONTHS) if math.isfinite(even_months) else 0.0
    last = max(horizon.months, beyond)
    course = []
    for moment in range(_MOMENTS + 1):
        until = replace(horizon, months=last * moment / _MOMENTS)
        own_usd = total_cost(purchase, conditions, load_w, until).total_usd
        course.append(MonthCost(months=until.months, own_usd=own_usd, rent_usd=rent_usd_per_h * hours_of(until)))
    return tuple(course)
