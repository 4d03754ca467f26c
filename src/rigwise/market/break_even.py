"""When a machine of one's own has paid for itself, counted in work and not in hours of the clock.

Break-even is where owning and renting have cost the same for the same work:

    hours of the own machine = what owning costs once / (rent x work ratio - running costs)

``work ratio`` is the time that the rented machine needs over the time that the own one needs: a
rented card that is six times slower is rented six times as long. On the clock it is 1. If renting
costs no more than running the own machine, there is no such hour.

Source: the definition; the founding notes' four Titan X against four K80 (``docs/founding_notes.md``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.errors import InvalidInputError
from rigwise.market.course import MonthCost, cost_by_month
from rigwise.market.money import rental_usd
from rigwise.market.ownership import (
    MONTH_H,
    WEEK_H,
    Conditions,
    Ownership,
    Purchase,
    annuity_months,
    check,
    hours_of,
    present_usd,
    running_usd_per_h,
    total_cost,
)
from rigwise.units import HOUR_S
from rigwise.workload.job import Horizon

#: Hours of a week at which the answer is shown: an evening, a working week, always.
WEEKS = (5.0, 10.0, 20.0, 40.0, 80.0, 168.0)
#: A machine that has not paid for itself by then never will: nobody keeps one for so long.
LONGEST_MONTHS = 240.0
_STEPS = 80
_EQUAL_FRAC = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Rent:
    """What is rented in place of the own machine.

    Attributes:
        usd_per_h: Of all that is rented at once, tax included.
        work_ratio_frac: Its time over the own machine's, for the same work: above 1 if it is slower.
        name: What it is.
    """

    usd_per_h: float
    work_ratio_frac: float = 1.0
    name: str = ""

    @property
    def usd_per_own_h(self) -> float:
        """Rent for what the own machine does in an hour."""
        return self.usd_per_h * self.work_ratio_frac


def rent_of(name: str, cost_usd: float, rented_s: float, owned_s: float) -> Rent:
    """A rent from one job: what it costs there, how long it takes there and on the own machine.

    Waiting, interruptions and billing are in the cost, so they are in the price of an hour.

    Raises:
        InvalidInputError: A time that is not above zero.

    >>> rent_of("k80", 3628.8, 1008 * 3600.0, 168 * 3600.0).usd_per_own_h
    21.6
    """
    if not (rented_s > 0 and owned_s > 0):
        raise InvalidInputError(f"a job takes {rented_s:g} s rented and {owned_s:g} s on one's own")
    return Rent(name=name, usd_per_h=cost_usd / (rented_s / HOUR_S), work_ratio_frac=rented_s / owned_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """Where owning and renting cost the same; infinite where they never do.

    Attributes:
        clock_s: Time of work, were the rented machine as quick.
        work_s: Time of work of the own machine.
        rented_s: Time of the rented one for the same work.
        months: At the hours a week that were given, and with the value it still has then.
        utilisation_frac: Part of the horizon in which it must work; above 1: it cannot.
        reason: Why never, in words; empty if there is a break-even.
    """

    clock_s: float
    work_s: float
    rented_s: float
    months: float
    utilisation_frac: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Both ways at one number of hours a week, over the horizon."""

    hours_per_week: float
    work_s: float
    own_usd: float
    rent_usd: float
    months: float

    @property
    def cheaper(self) -> str:
        """``own`` or ``rent``."""
        return "own" if self.own_usd < self.rent_usd else "rent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """Both ways as net present values."""

    rate_frac: float
    own_usd: float
    rent_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """How many machines to buy for a load that varies, and what is rented beside them.

    Attributes:
        machines: To buy.
        owned_s, rented_s: Work on them, and work that is rented, both in time of one own machine.
        cost_usd: Of all.
    """

    machines: int
    owned_s: float
    rented_s: float
    cost_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class BuyOrRent:
    """Everything about one machine against one rent.

    Attributes:
        name: Of the machine.
        horizon: For how long it is bought, and how much it works.
        own: Its costs over the horizon, term by term.
        running_usd_per_h: Of its electricity and care.
        rent: What it is compared with; ``rent_usd``: for the same work.
        present: Discounted.
        even: Where both cost the same.
        usage: By hours a week.
        course: By months, if it were sold then.
        split: The job by its deadline, with what the own machine cannot do until then rented; None without one.
        assumed: In words.
    """

    name: str
    horizon: Horizon
    own: Ownership
    running_usd_per_h: float
    rent: Rent
    rent_usd: float
    present: Present
    even: BreakEven
    usage: tuple[Usage, ...]
    course: tuple[MonthCost, ...] = ()
    split: Split | None = None
    assumed: tuple[str, ...] = ()


def break_even_s(fixed_usd: Any, rent_usd_per_h: Any, own_usd_per_h: Any = 0.0, work_ratio: Any = 1.0) -> Any:
    """Time of work of the own machine until it has paid for itself; infinite for never; numbers or arrays.

    Source: see the module.

    >>> round(float(break_even_s(8500, 3.60)) / 3600), round(float(break_even_s(8500, 3.60, work_ratio=6)) / 3600)
    (2361, 394)
    >>> float(break_even_s(1000, 0.1, own_usd_per_h=0.1))
    inf
    """
    saved = np.asarray(rent_usd_per_h) * work_ratio - own_usd_per_h
    # Prices that differ by rounding only, or by less than anybody pays, are equal.
    saved = np.where(saved > _EQUAL_FRAC * np.maximum(np.abs(own_usd_per_h), 1.0), saved, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(saved > 0, HOUR_S * fixed_usd / np.where(saved > 0, saved, 1.0), math.inf)


def months_to_break_even(
    purchase: Purchase, conditions: Conditions, load_w: float, rent: Rent, hours_per_week: float
) -> float:
    """Months of use until owning, with what the machine would then bring, has cost less than renting.

    The excess of owning starts at tax and first drop and is concave: value falls ever more slowly, interest
    grows ever more slowly, all else is in proportion to time. So it falls below zero once, if it ever does,
    and halving finds where. Infinite if it does not within ``LONGEST_MONTHS``.

    Source: the definition.
    """

    def excess(months: float) -> float:
        horizon = Horizon(months=months, hours_per_week=hours_per_week)
        return total_cost(purchase, conditions, load_w, horizon).total_usd - rent.usd_per_own_h * hours_of(horizon)

    return _last_not_negative(excess, LONGEST_MONTHS)


def _last_not_negative(excess: Callable[[float], float], longest: float) -> float:
    """Where a concave function that starts at or above zero crosses it."""
    if excess(longest) >= 0:
        return math.inf
    low, high = 0.0, longest
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) >= 0 else (low, middle)
    return high


def break_even(purchase: Purchase, conditions: Conditions, load_w: float, rent: Rent, horizon: Horizon) -> BreakEven:
    """Where a machine and a rent cost the same: in hours, in months, and as utilisation of the horizon.

    Hours use the loss of value over the horizon; months use the value at that time.

    Source: see the module.
    """
    cost = total_cost(purchase, conditions, load_w, horizon)
    running = float(running_usd_per_h(purchase, conditions, load_w))
    idle_usd_per_h = purchase.idle_w / 1000 * (1 + conditions.cooling_frac) * conditions.usd_per_kwh
    held_h = horizon.months * MONTH_H
    fixed_usd = cost.fixed_usd + conditions.ops_usd_per_month * horizon.months + idle_usd_per_h * held_h
    working = running - idle_usd_per_h
    work_s = float(break_even_s(fixed_usd, rent.usd_per_own_h, working))
    reason = ""
    if math.isinf(work_s):
        reason = f"to run one's own costs ${running:.3f} an hour, to rent the same work ${rent.usd_per_own_h:.3f}"
    return BreakEven(
        clock_s=float(break_even_s(fixed_usd, rent.usd_per_h, working)),
        work_s=work_s,
        rented_s=work_s * rent.work_ratio_frac,
        months=months_to_break_even(purchase, conditions, load_w, rent, horizon.hours_per_week),
        utilisation_frac=work_s / HOUR_S / held_h,
        reason=reason,
    )


def sensitivity(
    purchase: Purchase, conditions: Conditions, load_w: float, rent: Rent, months: float
) -> tuple[Usage, ...]:
    """Both ways over the same months at several hours a week (``WEEKS``)."""
    rows = []
    for hours in WEEKS:
        horizon = Horizon(months=months, hours_per_week=hours)
        rows.append(
            Usage(
                hours_per_week=hours,
                work_s=hours_of(horizon) * HOUR_S,
                own_usd=total_cost(purchase, conditions, load_w, horizon).total_usd,
                rent_usd=rent.usd_per_own_h * hours_of(horizon),
                months=months_to_break_even(purchase, conditions, load_w, rent, hours),
            )
        )
    return tuple(rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine one could own, with what one must know to compare it.

    Attributes:
        name: What it is.
        purchase, conditions: What it costs to own.
        load_w: Power of all its devices while it works.
    """

    name: str
    purchase: Purchase
    conditions: Conditions
    load_w: float


def buy_or_rent(machine: Machine, rent: Rent, horizon: Horizon, assumed: Sequence[str] = ()) -> BuyOrRent:
    """A machine against a rent, over a horizon.

    Raises:
        InvalidInputError: A value out of range.
    """
    purchase, conditions, load_w = machine.purchase, machine.conditions, machine.load_w
    check(purchase, conditions, horizon)
    if not (0 <= rent.usd_per_h < math.inf and 0 < rent.work_ratio_frac < math.inf):
        raise InvalidInputError(f"rent is {rent.usd_per_h:g} an hour at a work ratio of {rent.work_ratio_frac:g}")
    rent_usd = rent.usd_per_own_h * hours_of(horizon)
    rate = conditions.discount_frac
    monthly_usd = rent_usd / horizon.months
    even = break_even(purchase, conditions, load_w, rent, horizon)
    return BuyOrRent(
        name=machine.name,
        horizon=horizon,
        own=total_cost(purchase, conditions, load_w, horizon),
        running_usd_per_h=float(running_usd_per_h(purchase, conditions, load_w)),
        rent=rent,
        rent_usd=rent_usd,
        present=Present(
            rate_frac=rate,
            own_usd=present_usd(purchase, conditions, load_w, horizon),
            rent_usd=monthly_usd * annuity_months(horizon.months, rate),
        ),
        even=even,
        usage=sensitivity(purchase, conditions, load_w, rent, horizon.months),
        course=cost_by_month(purchase, conditions, load_w, horizon, rent.usd_per_own_h, even.months),
        assumed=tuple(assumed),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCosts:
    """What one own machine costs, and its rented counterpart.

    Attributes:
        fixed_usd: Of one own machine over the whole time, used or not.
        own_usd_per_h: Of its running.
        rent_usd_per_h: Rent for what it does in an hour (``Rent.usd_per_own_h``).
    """

    fixed_usd: float
    own_usd_per_h: float
    rent_usd_per_h: float

    def cost_usd(self, machines: int, owned_s: float, rented_s: float) -> float:
        """What so many machines and so much work come to."""
        running = rental_usd(self.own_usd_per_h, owned_s) + rental_usd(self.rent_usd_per_h, rented_s)
        return float(machines * self.fixed_usd + running)


def buy_some_rent_the_rest(
    demand_s: Sequence[float], costs: UnitCosts, available_s: float = WEEK_H * HOUR_S, most: int = 10_000
) -> Split:
    """The cheapest number of machines for a load of ``demand_s`` in each period, a week say.

    Own machines carry what they can, the rest is rented. The k-th machine takes, in each period, what is left
    over by the ones before it, at most ``available_s``: less and less, so the saving falls with k, and buying
    stops where the next machine saves less than it costs. No other number is cheaper.

    Source: the newsvendor argument, for a given load.

    >>> unit = UnitCosts(fixed_usd=100.0, own_usd_per_h=0.1, rent_usd_per_h=1.1)
    >>> split = buy_some_rent_the_rest([168 * 3600.0, 168 * 3600.0, 400 * 3600.0], unit)
    >>> split.machines, split.owned_s / 3600, split.rented_s / 3600, round(split.cost_usd, 2)
    (2, 672.0, 64.0, 337.6)
    """
    left = np.maximum(np.asarray(demand_s, dtype=float), 0.0)
    if not np.isfinite(left).all():
        raise InvalidInputError("the work of a period is not a finite number")
    saved_usd_per_h = costs.rent_usd_per_h - costs.own_usd_per_h
    machines, owned_s = 0, 0.0
    while machines < most:
        taken_s = float(np.minimum(left, available_s).sum())
        if not taken_s or rental_usd(saved_usd_per_h, taken_s) <= costs.fixed_usd:
            break
        machines, owned_s = machines + 1, owned_s + taken_s
        left = np.maximum(left - available_s, 0.0)
    rented_s = float(left.sum())
    cost_usd = costs.cost_usd(machines, owned_s, rented_s)
    return Split(machines=machines, owned_s=owned_s, rented_s=rented_s, cost_usd=cost_usd)


def split_until(work_s: float, deadline_s: float, costs: UnitCosts) -> Split:
    """One job that ends by a deadline: on an own machine until then, and the rest rented beside it.

    Cost is linear in the time on the own machine once it is bought, so either none or as much as fits is best.

    >>> unit = UnitCosts(fixed_usd=50.0, own_usd_per_h=0.1, rent_usd_per_h=0.6)
    >>> split = split_until(300 * 3600.0, 168 * 3600.0, unit)
    >>> split.machines, split.owned_s / 3600, split.rented_s / 3600, split.cost_usd
    (1, 168.0, 132.0, 146.0)
    """
    owned_s = min(work_s, deadline_s)
    both = Split(
        machines=1,
        owned_s=owned_s,
        rented_s=work_s - owned_s,
        cost_usd=costs.cost_usd(1, owned_s, work_s - owned_s),
    )
    none = Split(machines=0, owned_s=0.0, rented_s=work_s, cost_usd=costs.cost_usd(0, 0.0, work_s))
    return both if both.cost_usd < none.cost_usd else none
