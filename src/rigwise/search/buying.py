"""The best machine to buy for a job against the best to rent for it, and when it has paid for itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from rigwise.errors import InfeasibleError
from rigwise.facts.part import Part
from rigwise.market.break_even import BuyOrRent, UnitCosts, rent_of, split_until
from rigwise.market.load import LoadAnswer, answer_load, unit_costs
from rigwise.market.shelf import PurchaseQuote, Purchases
from rigwise.market.to_buy import ASSUMED_HORIZON, against_rent, purchases_for
from rigwise.search.plan import plan
from rigwise.search.types import Plan, World
from rigwise.units import HOUR_S
from rigwise.workload.job import Job


def what_to_buy(job: Job, world: World, parts: Sequence[Part]) -> Purchases:
    """Everything that can be bought for a job; errors of ``market.to_buy.purchases_for``."""
    return purchases_for(job, parts, lambda name: world.device(name).id, world.today)


def best_to_rent(job: Job, world: World) -> Plan:
    """The best plan for a job on what can be rented.

    Raises:
        InfeasibleError: None keeps the limits.
    """
    return plan(replace(job, buy=False, owned=()), world).plans[0]


def _best_to_go_on_renting(job: Job, world: World, bought: Plan) -> Plan:
    """The best plan on what can be rented week after week, for the work that the own machine does in the horizon.

    Free sessions of so many hours a week do one job, but not the same one over and over: where the quota is too short
    for that, or nobody says what it is, they are nothing to compare with.
    """
    rented = best_to_rent(job, world)
    horizon = job.horizon or ASSUMED_HORIZON
    needed_s = HOUR_S * horizon.hours_per_week * rented.time_s.p50 / bought.time_s.p50

    def lasts(quota_s: float | None, *, is_free: bool) -> bool:
        return quota_s >= needed_s if quota_s is not None else not is_free

    offers = tuple(o for o in world.offers if lasts(o.weekly_quota_s, is_free=o.price_usd_h == 0))
    lasting = tuple(s for s in world.subscriptions if lasts(s.weekly_quota_s, is_free=s.usd_per_month == 0))
    if rented.cost_usd.p50 > 0:
        return rented
    return best_to_rent(job, replace(world, offers=offers, subscriptions=lasting))


def best_to_buy(job: Job, world: World, purchases: Purchases) -> tuple[Plan, PurchaseQuote]:
    """The best plan for a job on what can be bought, and the machine.

    Raises:
        InfeasibleError: Nothing can be bought, or none of it keeps the limits.
    """
    if not purchases.quotes:
        reasons = "; ".join(f"{count} {reason}" for reason, count in purchases.excluded.items())
        old = any("older than" in reason for reason in purchases.excluded)
        raise InfeasibleError(
            f"nothing can be bought: {reasons or 'no parts'}",
            hint="--max-price-age lets older prices in" if old else "",
        )
    shop = replace(world, offers=(), subscriptions=(), to_buy=lambda _: purchases)
    alone = replace(job, buy=True, owned=(), providers=(), regions=(), countries=())
    best = plan(alone, shop).plans[0]
    machine = next(found for found in purchases.quotes if found.quote.offer.instance == best.instance)
    return best, machine


class _Compared(NamedTuple):
    """The best plan on what can be bought and the machine, the power it draws, and the best to rent against it."""

    bought: Plan
    machine: PurchaseQuote
    load_w: float | None
    answer: BuyOrRent


def buying_answer(job: Job, world: World, parts: Sequence[Part]) -> tuple[BuyOrRent, PurchaseQuote]:
    """The best machine to buy against the best to rent, over the job's horizon, and the machine.

    Power is what the estimate predicts for the job. Both keep the job's limits; the whole price counts against
    its budget. Where no machine of one's own keeps the deadline, it does what it can until then.

    Raises:
        InfeasibleError: Nothing to buy, or nothing to rent, keeps the limits.
    """
    found = _compared(job, world, parts)
    tariff, answer = found.machine.quote.tariff, found.answer
    if job.deadline_s is None or tariff is None:
        return answer, found.machine
    costs = UnitCosts(
        fixed_usd=tariff.fixed_usd, own_usd_per_h=tariff.usd_per_h, rent_usd_per_h=answer.rent.usd_per_own_h
    )
    return replace(answer, split=split_until(found.bought.time_s.p50, job.deadline_s, costs)), found.machine


def load_answer(
    job: Job, world: World, parts: Sequence[Part], jobs_by_week: Sequence[float]
) -> tuple[BuyOrRent, PurchaseQuote, LoadAnswer]:
    """How many of the best machine to buy for a job that is run so many times in each week, over the horizon.

    Raises:
        InfeasibleError: Nothing to buy, or nothing to rent, keeps the limits of one job.
    """
    found = _compared(job, world, parts)
    machine, answer, own_s = found.machine.machine, found.answer, found.bought.time_s.p50
    load_w = machine.load_w if found.load_w is None else found.load_w
    months = answer.horizon.months
    costs = unit_costs(machine.purchase, machine.conditions, load_w, months, answer.rent.usd_per_own_h)
    return answer, found.machine, answer_load(jobs_by_week, own_s, costs, months)


def _compared(job: Job, world: World, parts: Sequence[Part]) -> _Compared:
    purchases = what_to_buy(job, world, parts)
    try:
        bought, machine = best_to_buy(job, world, purchases)
    except InfeasibleError:
        if job.deadline_s is None:
            raise
        bought, machine = best_to_buy(replace(job, deadline_s=None), world, purchases)
    rented = _best_to_go_on_renting(job, world, bought)
    name = f"{rented.count} x {rented.device} at {rented.provider}, {rented.market}"
    rent = rent_of(name, rented.cost_usd.p50, rented.time_s.p50, bought.time_s.p50)
    load_w = None if bought.energy_j is None else bought.energy_j / bought.time_s.p50
    return _Compared(bought, machine, load_w, against_rent(machine, rent, job.horizon, load_w=load_w))
