"""Buying for a load that varies: some machines of one's own, and what they cannot take is rented.

A load is a job that is run so many times in each week, again and again until the horizon ends. A week's work has to be
done within the week, on own machines at any hour of it.

Source: ``break_even.buy_some_rent_the_rest``; the rest is arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import ceil, isfinite

import numpy as np

from rigwise.errors import InvalidInputError
from rigwise.market.break_even import Split, UnitCosts, buy_some_rent_the_rest
from rigwise.market.ownership import MONTH_H, WEEK_H, Conditions, Purchase, total_cost
from rigwise.units import HOUR_S
from rigwise.workload.job import Horizon

_MOST_WEEKS, _MOST_JOBS = 1040, 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadAnswer:
    """How many machines to buy for a load.

    Attributes:
        jobs_by_week: The load, which is repeated.
        weeks: Until the horizon ends.
        own_job_s, rent_job_usd: One job on an own machine, and rented.
        costs: Of one machine.
        best: The cheapest number of machines.
        others: Other numbers, for comparison: none, one less and one more, and enough for every week.
    """

    jobs_by_week: tuple[float, ...]
    weeks: int
    own_job_s: float
    rent_job_usd: float
    costs: UnitCosts
    best: Split
    others: tuple[Split, ...]


def read_load(text: str, where: str) -> tuple[float, ...]:
    """Jobs of each week: numbers with commas between them, or one in each line.

    Raises:
        InvalidInputError: None, too many, or one that is no count.

    >>> read_load("3, 0, 10", "--load")
    (3.0, 0.0, 10.0)
    """
    numbers, hint = [], "give jobs of each week, 3,0,10 say, or a file of them"
    for word in text.replace(",", " ").split():
        try:
            number = float(word)
        except ValueError:
            number = -1.0
        if not (isfinite(number) and 0 <= number <= _MOST_JOBS):
            raise InvalidInputError(f"{where}: {word!r} is no number of jobs", hint=hint)
        numbers.append(number)
    if not numbers or len(numbers) > _MOST_WEEKS or not any(numbers):
        many = f"more than {_MOST_WEEKS} weeks" if len(numbers) > _MOST_WEEKS else "no jobs"
        raise InvalidInputError(f"{where}: {many}", hint=hint)
    return tuple(numbers)


def unit_costs(
    purchase: Purchase, conditions: Conditions, load_w: float, months: float, rent_usd_per_own_h: float
) -> UnitCosts:
    """What one machine costs over a time whether it works or not, and for each hour that it does.

    The cost of owning is linear in the hours worked, so two of them tell both.
    """
    half, whole = (
        total_cost(purchase, conditions, load_w, Horizon(months=months, hours_per_week=h)).total_usd
        for h in (WEEK_H / 2, WEEK_H)
    )
    hours = months * MONTH_H
    per_h = (whole - half) / (hours / 2)
    return UnitCosts(fixed_usd=whole - per_h * hours, own_usd_per_h=per_h, rent_usd_per_h=rent_usd_per_own_h)


def answer_load(jobs_by_week: Sequence[float], own_job_s: float, costs: UnitCosts, months: float) -> LoadAnswer:
    """The cheapest number of machines for a load, with others beside it.

    >>> unit = UnitCosts(fixed_usd=100.0, own_usd_per_h=0.1, rent_usd_per_h=1.1)
    >>> answer = answer_load([168.0, 168.0, 400.0], 3600.0, unit, months=504 / MONTH_H)
    >>> answer.best.machines, round(answer.best.cost_usd, 2), [other.machines for other in answer.others]
    (2, 337.6, [0, 1, 3])
    """
    weeks = max(1, round(months * MONTH_H / WEEK_H))
    demand_s = [number * own_job_s for number in islice(cycle(jobs_by_week), weeks)]
    best = buy_some_rent_the_rest(demand_s, costs)
    enough = ceil(max(demand_s) / (WEEK_H * HOUR_S) * (1 - 1e-12))
    others = sorted({0, best.machines - 1, best.machines + 1, enough} - {best.machines, -1})
    return LoadAnswer(
        jobs_by_week=tuple(jobs_by_week),
        weeks=weeks,
        own_job_s=own_job_s,
        rent_job_usd=costs.rent_usd_per_h * own_job_s / HOUR_S,
        costs=costs,
        best=best,
        others=tuple(split_of(number, demand_s, costs) for number in others if number <= max(enough, best.machines)),
    )


def split_of(machines: int, demand_s: Sequence[float], costs: UnitCosts) -> Split:
    """What a number of machines carries of the work of each week, and what all of it costs."""
    work_s = np.asarray(demand_s, dtype=float)
    owned_s = float(np.minimum(work_s, machines * WEEK_H * HOUR_S).sum())
    rented_s = float(work_s.sum()) - owned_s
    return Split(
        machines=machines,
        owned_s=owned_s,
        rented_s=rented_s,
        cost_usd=costs.cost_usd(machines, owned_s, rented_s),
    )
