"""What a job costs and takes on a notebook by subscription: fees, units, longest sessions, weekly quotas.

A fee falls due each month; the units that it includes are a least use that is billed, at the price of further
ones, and what it costs beyond that is a fee that includes nothing.

Source: the definition of each term; figures in ``facts/data/subscriptions.toml`` with theirs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import date

from rigwise.errors import InvalidInputError
from rigwise.facts.offer import Offer
from rigwise.facts.subscription import Subscription
from rigwise.market.offers import SUBSCRIPTION, Quote, Rules, Selection, select
from rigwise.market.tariff import Tariff
from rigwise.units import DAY_S, HOUR_S

MONTH_S = 365.25 * DAY_S / 12
_SLACK = 1e-9


def subscription_tariff(plan: Subscription) -> Tariff:
    """A plan as a tariff, for as many months as the job takes.

    The units of a month are taken to be of use in the next ones. What a session begins with is the job's: see
    ``market.terms``.

    Raises:
        InvalidInputError: Further units cannot be bought, or cost more than those in the fee: then a plan for more
            months can be cheaper than one for fewer, which is no price of the time.

    >>> from rigwise.facts.subscription import subscriptions
    >>> pro = next(s for s in subscriptions() if s.id == "colab-pro" and s.device == "t4")
    >>> included_h = pro.units_per_month / pro.units_per_h
    >>> [round(float(subscription_tariff(pro).cost_usd(h * 3600.0)), 2) for h in (1, included_h, 2 * included_h)]
    [9.99, 9.99, 19.98]
    """
    units_per_h, usd_per_unit = plan.units_per_h or 0.0, plan.usd_per_unit or 0.0
    worth_usd = plan.units_per_month * usd_per_unit if units_per_h else 0.0
    if (units_per_h and plan.usd_per_unit is None) or worth_usd > plan.usd_per_month * (1 + _SLACK):
        raise InvalidInputError(f"plan {plan.id}: further units cannot be bought, or cost more than those in the fee")
    return Tariff(
        usd_per_h=units_per_h * usd_per_unit,
        fixed_usd=plan.usd_per_month - worth_usd,
        minimum_s=plan.units_per_month / units_per_h * HOUR_S if units_per_h else 0.0,
        period_s=MONTH_S,
    )


def subscription_quotes(
    plans: Iterable[Subscription],
    offers: Iterable[Offer],
    rules: Rules,
    today: date,
    unfit: Callable[[str], str] = lambda _: "",
) -> Selection:
    """The plans that a job may use, as quotes, and how many it may not, by reason.

    A plan without a fee that stands among the offers as well, with a date no older, is one of those.

    Args:
        plans: Devices of plans.
        offers: Rows of the catalogue.
        rules: What the job allows.
        today: Prices are as old as this day makes them.
        unfit: Why a device id cannot be planned with, empty if it can.
    """
    excluded: Counter[str] = Counter()
    offered: dict[tuple[str, str, float | None], str] = {}
    of = {plan.provider for plan in plans}
    for row in offers:
        if row.provider in of:
            key = (row.provider, row.device, row.accel_count)
            offered[key] = max(row.as_of, offered.get(key, ""))
    rows: dict[tuple[str, str, int], tuple[Offer, Tariff]] = {}
    for plan in plans:
        fault = _fault(plan, rules, offered)
        try:
            tariff = subscription_tariff(plan)
        except InvalidInputError:
            fault = fault or "a plan whose further units cost more than those in its fee"
        if fault:
            excluded[fault] += 1
            continue
        rows[plan.name, plan.device, plan.count] = (_offer(plan, float(tariff.usd_per_h)), tariff)
    found = select([row for row, _ in rows.values()], replace(rules, providers=(), regions=()), today, unfit)
    quotes = []
    for quote in found.quotes:
        row = quote.offer
        tariff = rows[row.instance, row.device, int(row.accel_count or 0)][1]
        quotes.append(Quote(offer=row, market=SUBSCRIPTION, usd_per_h=quote.usd_per_h, tariff=tariff))
    counts = Counter(found.excluded) + excluded
    return Selection(quotes=tuple(quotes), excluded={f"subscription: {why}": n for why, n in sorted(counts.items())})


def _fault(plan: Subscription, rules: Rules, offered: Mapping[tuple[str, str, float | None], str]) -> str:
    """Why a plan cannot be used, before its date and its device are looked at."""
    if rules.providers and plan.provider not in rules.providers:
        return "another provider"
    if rules.regions:
        return "another region"
    if not plan.usd_per_month and offered.get((plan.provider, plan.device, plan.count), "") >= plan.as_of:
        return "a plan without a fee that is among the offers"
    return ""


def _offer(plan: Subscription, usd_per_h: float) -> Offer:
    """A plan as a row of the offers table."""
    return Offer(
        provider=plan.provider,
        instance=plan.name,
        region="",
        device=plan.device,
        accelerator=plan.device,
        accel_count=plan.count,
        accel_memory_bytes=None,
        vcpus=None,
        memory_bytes=None,
        disk_bytes=None,
        link="pcie" if plan.count > 1 else "",
        inter_node_bytes_per_s=None,
        price_usd_h=usd_per_h,
        spot_price_usd_h=None,
        session_cap_s=plan.session_s,
        weekly_quota_s=plan.weekly_quota_s,
        as_of=plan.as_of,
        source=plan.source,
    )
