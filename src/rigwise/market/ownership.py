"""What owning a machine costs: purchase, loss of value, electricity, operations, a loan; and that as a tariff.

A machine that is bought costs what is paid for it less what it is sold for again, and what it
draws and needs while it works. Its value falls at once, when it stops being new, and then with time:

    value(t) = price x (1 - first drop) x (1 - yearly loss) ^ (t in years)     or a straight line
    power    = (devices + rest of the computer) / efficiency of its supply x (1 + cooling)

A tariff turns hours of one job into money, so it needs to know how the loss of value is shared:

* With a horizon (``months`` at ``hours_per_week``) each hour carries its part of the loss over the
  horizon: the loss divided by the hours of the horizon.
* Without one, the job carries all of it: tax and first drop at once, and the loss of the first year
  in a straight line for as long as it runs. That is up to 1.3 % of the price away from the curve
  within a year, and too much after it.

The whole price counts against a budget in both cases, as ``capital_usd``.

Source: the definition of each term; 80 PLUS levels for supplies (``facts/data/electricity.toml``).
Delivery, assembly and the owner's hours are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from rigwise.errors import InvalidInputError
from rigwise.market.tariff import Tariff
from rigwise.workload.job import Horizon

MONTH_H = 365.25 * 24 / 12
YEAR_H = 12 * MONTH_H
WEEK_H = 7 * 24.0
#: Shapes in which value is lost.
EXPONENTIAL, STRAIGHT = "exponential", "straight"
_MAX_MONTHS = 1200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Depreciation:
    """How a machine loses value. The defaults are assumed, not measured: say what you know.

    Attributes:
        first_drop_frac: Lost when it is no longer new.
        yearly_loss_frac: Lost in each year of what it was worth at its start (``exponential``), or of what
            was left after the first drop (``straight``).
        shape: ``exponential`` or ``straight``.
        floor_frac: What it is always worth, of its price.
    """

    first_drop_frac: float = 0.3
    yearly_loss_frac: float = 0.3
    shape: str = EXPONENTIAL
    floor_frac: float = 0.0

    def value_frac(self, months: Any) -> Any:
        """What is left of the price after a time; numbers or arrays.

        Source: the definition of declining-balance and straight-line depreciation.

        >>> half = Depreciation(first_drop_frac=0.0, yearly_loss_frac=0.5)
        >>> float(half.value_frac(24)), float(Depreciation(shape="straight").value_frac(12))
        (0.25, 0.48999999999999994)
        """
        years, first = np.asarray(months) / 12.0, 1.0 - self.first_drop_frac
        if self.shape == STRAIGHT:
            left = first * np.maximum(1.0 - self.yearly_loss_frac * years, 0.0)
        else:
            left = first * (1.0 - self.yearly_loss_frac) ** years
        return np.maximum(left, self.floor_frac)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loan:
    """Money borrowed for the whole price, paid back in equal monthly instalments; the rest when it is sold."""

    rate_frac: float
    months: float

    def instalment_usd(self, principal_usd: float) -> float:
        """One month's payment.

        Source: the annuity formula.

        >>> round(Loan(rate_frac=0.12, months=12).instalment_usd(1000.0), 2)
        88.85
        """
        rate = self.rate_frac / 12
        share = rate / -math.expm1(-self.months * math.log1p(rate)) if rate else 1 / self.months
        return principal_usd * share

    def owed_usd(self, principal_usd: float, months: float) -> float:
        """What is still owed after a time."""
        rate, held = self.rate_frac / 12, min(months, self.months)
        paid = self.instalment_usd(principal_usd)
        if not rate:
            return principal_usd - paid * held
        grown = math.expm1(held * math.log1p(rate))
        return max(principal_usd * (1 + grown) - paid * grown / rate, 0.0)

    def interest_usd(self, principal_usd: float, months: float) -> float:
        """Interest until the loan is paid back or the machine sold, whichever is first.

        >>> round(Loan(rate_frac=0.12, months=12).interest_usd(1000.0, 24.0), 2)
        66.19
        """
        held = min(months, self.months)
        return self.instalment_usd(principal_usd) * held - (principal_usd - self.owed_usd(principal_usd, held))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """What holds for any machine one would own at a place.

    Attributes:
        usd_per_kwh: Price of electricity.
        tax_frac: Tax on the purchase; it does not come back when the machine is sold.
        depreciation: How it loses value.
        cooling_frac: Power for cooling for each watt at the wall.
        ops_usd_per_h: Repairs and care, for each hour of work.
        ops_usd_per_month: Room, rack or line, whether it works or not.
        downtime_frac: Of its hours in which it does not work though it should.
        loan: Money borrowed for it, None for one's own.
        discount_frac: A year's rate at which later money counts for less.
        assumed: What of this is assumed, in words.
    """

    usd_per_kwh: float
    tax_frac: float = 0.0
    depreciation: Depreciation = field(default_factory=Depreciation)
    cooling_frac: float = 0.0
    ops_usd_per_h: float = 0.0
    ops_usd_per_month: float = 0.0
    downtime_frac: float = 0.0
    loan: Loan | None = None
    discount_frac: float = 0.05
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """One machine.

    Attributes:
        price_usd: Before tax.
        host_w: What all but the devices draws while they work, behind the supply.
        psu_efficiency_frac: Power behind the supply over power at the wall.
        idle_w: At the wall when it does not work; 0 if it is switched off.
    """

    price_usd: float
    host_w: float
    psu_efficiency_frac: float
    idle_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """What a machine costs over a time, term by term; the total is their sum, the resale counting back."""

    purchase_usd: float
    tax_usd: float
    interest_usd: float
    electricity_usd: float
    idle_usd: float
    operations_usd: float
    resale_usd: float

    @property
    def total_usd(self) -> float:
        """All of it."""
        return self.fixed_usd + self.electricity_usd + self.operations_usd + self.idle_usd

    @property
    def fixed_usd(self) -> float:
        """What does not depend on use: price, tax and interest less the resale."""
        return self.purchase_usd + self.tax_usd + self.interest_usd - self.resale_usd


def check(purchase: Purchase, conditions: Conditions, horizon: Horizon | None = None) -> None:
    """Refuse what cannot be.

    Raises:
        InvalidInputError: A value out of range, or not a number; names it.
    """
    drop = conditions.depreciation
    _in_range(purchase, ("price_usd", 0, 1e12), ("host_w", 0, 1e7), ("psu_efficiency_frac", 0.01, 1))
    _in_range(purchase, ("idle_w", 0, 1e7))
    _in_range(conditions, ("usd_per_kwh", 0, 100), ("tax_frac", 0, 1), ("cooling_frac", 0, 5))
    _in_range(conditions, ("ops_usd_per_h", 0, 1e6), ("ops_usd_per_month", 0, 1e9), ("downtime_frac", 0, 0.99))
    _in_range(conditions, ("discount_frac", 0, 1))
    # A straight line may end within a year.
    _in_range(drop, ("yearly_loss_frac", 0, 1 if drop.shape == EXPONENTIAL else 1e6))
    _in_range(drop, ("first_drop_frac", 0, 1), ("floor_frac", 0, 1))
    if drop.shape not in (EXPONENTIAL, STRAIGHT):
        raise InvalidInputError(f"depreciation shape is {drop.shape!r}", hint=f"use {EXPONENTIAL} or {STRAIGHT}")
    if conditions.loan is not None:
        _in_range(conditions.loan, ("rate_frac", 0, 1), ("months", 1, _MAX_MONTHS))
    if horizon is not None:
        _in_range(horizon, ("months", 0.1, _MAX_MONTHS), ("hours_per_week", 0.01, WEEK_H))


def _in_range(row: Any, *limits: tuple[str, float, float]) -> None:
    for name, least, most in limits:
        value = getattr(row, name)
        if not least <= value <= most:
            raise InvalidInputError(
                f"{type(row).__name__.lower()}: {name} is {value}", hint=f"give a value from {least:g} to {most:g}"
            )


def wall_w(purchase: Purchase, load_w: Any, cooling_frac: float = 0.0) -> Any:
    """Power at the wall while the devices draw ``load_w`` together, cooling included; numbers or arrays.

    Source: the definition of a supply's efficiency.

    >>> wall_w(Purchase(price_usd=1.0, host_w=90.0, psu_efficiency_frac=0.9), 450.0)
    600.0
    """
    return (load_w + purchase.host_w) / purchase.psu_efficiency_frac * (1.0 + cooling_frac)


def running_usd_per_h(purchase: Purchase, conditions: Conditions, load_w: Any) -> Any:
    """What an hour of work costs beside the loss of value: electricity and operations; numbers or arrays."""
    draw_w = wall_w(purchase, load_w, conditions.cooling_frac)
    return draw_w / 1000.0 * conditions.usd_per_kwh + conditions.ops_usd_per_h


def hours_of(horizon: Horizon) -> float:
    """Hours of work within a horizon.

    >>> round(hours_of(Horizon(months=12, hours_per_week=168)))
    8766
    """
    return horizon.months * MONTH_H * horizon.hours_per_week / WEEK_H


def total_cost(purchase: Purchase, conditions: Conditions, load_w: float, horizon: Horizon) -> Ownership:
    """Total cost of ownership over a horizon, undiscounted.

    Source: see the module.

    >>> box = Purchase(price_usd=1000.0, host_w=50.0, psu_efficiency_frac=1.0)
    >>> year = Horizon(months=12, hours_per_week=168)
    >>> cost = total_cost(box, Conditions(usd_per_kwh=0.1, tax_frac=0.1), 50.0, year)
    >>> round(cost.resale_usd), round(cost.electricity_usd, 2), round(cost.total_usd, 2)
    (490, 87.66, 697.66)
    """
    worked_h = hours_of(horizon)
    paid_usd = purchase.price_usd * (1 + conditions.tax_frac)
    idle_h = horizon.months * MONTH_H - worked_h
    electricity = wall_w(purchase, load_w, conditions.cooling_frac) / 1000 * conditions.usd_per_kwh * worked_h
    operations = conditions.ops_usd_per_h * worked_h + conditions.ops_usd_per_month * horizon.months
    return Ownership(
        purchase_usd=purchase.price_usd,
        tax_usd=purchase.price_usd * conditions.tax_frac,
        interest_usd=conditions.loan.interest_usd(paid_usd, horizon.months) if conditions.loan else 0.0,
        electricity_usd=electricity,
        idle_usd=purchase.idle_w / 1000 * (1 + conditions.cooling_frac) * conditions.usd_per_kwh * idle_h,
        operations_usd=operations,
        resale_usd=purchase.price_usd * float(conditions.depreciation.value_frac(horizon.months)),
    )


def annuity_months(months: float, rate_frac: float) -> float:
    """What a payment in each month is worth today, in payments, at a yearly rate.

    Source: the present value of an annuity.

    >>> annuity_months(24, 0.0), round(annuity_months(12, 0.1), 2)
    (24, 11.4)
    """
    growth = math.log1p(rate_frac) / 12
    if not growth:
        return months
    return float(-math.expm1(-growth * months) / math.expm1(growth))


def present_usd(purchase: Purchase, conditions: Conditions, load_w: float, horizon: Horizon) -> float:
    """Net present value of the same payments: what they are worth on the day of purchase.

    Source: the definition of net present value, at ``conditions.discount_frac``; 0 gives the undiscounted total.
    """
    cost, rate = total_cost(purchase, conditions, load_w, horizon), conditions.discount_frac
    running = (cost.electricity_usd + cost.idle_usd + cost.operations_usd) / horizon.months
    later = float((1 + rate) ** (-horizon.months / 12))
    price_usd, loan = cost.purchase_usd + cost.tax_usd, conditions.loan
    if loan is not None:
        held = min(horizon.months, loan.months)
        owed_usd = loan.owed_usd(price_usd, held)
        price_usd = loan.instalment_usd(price_usd) * annuity_months(held, rate) + owed_usd * (1 + rate) ** (-held / 12)
    return price_usd + running * annuity_months(horizon.months, rate) - cost.resale_usd * later


def ownership_tariff(
    purchase: Purchase, conditions: Conditions, load_w: float, horizon: Horizon | None = None
) -> Tariff:
    """The tariff of one job on a machine that is bought; how the loss of value is shared: see the module.

    Args:
        purchase: The machine.
        conditions: Where and how it is owned.
        load_w: Power of all its devices while the job runs.
        horizon: For how long it is bought; None: for this job only.

    Raises:
        InvalidInputError: A value out of range.

    >>> box = Purchase(price_usd=1000.0, host_w=50.0, psu_efficiency_frac=1.0)
    >>> alone = ownership_tariff(box, Conditions(usd_per_kwh=0.1), 50.0)
    >>> alone.fixed_usd, alone.capital_usd
    (300.0, 700.0)
    """
    check(purchase, conditions, horizon)
    price_usd, tax_usd = purchase.price_usd, purchase.price_usd * conditions.tax_frac
    running = float(running_usd_per_h(purchase, conditions, load_w))
    waiting = 1 / (1 - conditions.downtime_frac)
    if horizon is not None:
        cost = total_cost(purchase, conditions, load_w, horizon)
        kept_usd = cost.fixed_usd + cost.idle_usd + conditions.ops_usd_per_month * horizon.months
        share = kept_usd / hours_of(horizon)
        return Tariff(
            usd_per_h=running + share,
            noncash_usd_per_h=max(0.0, cost.purchase_usd + cost.tax_usd - cost.resale_usd) / hours_of(horizon),
            capital_usd=price_usd + tax_usd,
            wait_factor=waiting,
        )
    left_usd = price_usd * float(conditions.depreciation.value_frac(0.0))
    after_year_usd = price_usd * float(conditions.depreciation.value_frac(12.0))
    interest = conditions.loan.rate_frac * (price_usd + tax_usd) / YEAR_H if conditions.loan else 0.0
    monthly = conditions.ops_usd_per_month / MONTH_H
    return Tariff(
        usd_per_h=running + (left_usd - after_year_usd) / YEAR_H + interest + monthly,
        noncash_usd_per_h=(left_usd - after_year_usd) / YEAR_H,
        fixed_usd=tax_usd + price_usd - left_usd,
        capital_usd=left_usd,
        wait_factor=waiting,
    )


def standing(
    purchase: Purchase, conditions: Conditions, age_months: float, *, sunk: bool
) -> tuple[Purchase, Conditions]:
    """A machine that was bought some time ago, as a purchase of today.

    Its price is paid and gone (``sunk``), so that only running it costs; or it could be sold today, so that
    keeping it costs what it would bring (opportunity). It goes on losing value as it would have.

    Args:
        purchase: As it was bought.
        conditions: As they hold.
        age_months: Since then.
        sunk: Whether the price counts as gone.
    """
    drop = conditions.depreciation
    bare = replace(conditions, tax_frac=0.0, loan=None)
    if sunk:
        return replace(purchase, price_usd=0.0), bare
    left = float(drop.value_frac(age_months))
    if not left:
        return replace(purchase, price_usd=0.0), bare
    lost_frac = drop.yearly_loss_frac
    if drop.shape == STRAIGHT:
        lost_frac *= (1 - drop.first_drop_frac) / left
    later = replace(drop, first_drop_frac=0.0, yearly_loss_frac=lost_frac, floor_frac=drop.floor_frac / left)
    return replace(purchase, price_usd=purchase.price_usd * left), replace(bare, depreciation=later)


def assumptions(conditions: Conditions) -> tuple[str, ...]:
    """What about owning is assumed, in words: of the defaults those that stand as they are."""
    usual = {f.name: f.default for f in fields(Depreciation)}
    drop, found = conditions.depreciation, list(conditions.assumed)
    if all(getattr(drop, name) == default for name, default in usual.items()):
        found.append(
            f"a machine is worth {100 * (1 - drop.first_drop_frac):.0f} % of its price when it is no longer new, "
            f"and loses {100 * drop.yearly_loss_frac:.0f} % of its value in a year"
        )
    if not conditions.downtime_frac:
        found.append("a machine of one's own is never down")
    if not conditions.ops_usd_per_h and not conditions.ops_usd_per_month:
        found.append("room, repairs and the owner's own hours cost nothing")
    found.append("delivery and assembly take no time")
    return tuple(found)
