"""The spot plan of an answer, and what is to be asked about it."""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.errors import InfeasibleError, InvalidInputError
from rigwise.facts.interruption import InterruptionOverride
from rigwise.facts.offer import Offer
from rigwise.market.offers import ON_DEMAND, SPOT
from rigwise.market.spot import GIVEN, MEASURED, USUAL, Interruption, overridden, scenarios_of
from rigwise.market.spot_distribution import SpotAnswer, SpotQuestion, explain_spot
from rigwise.market.trace import Trace
from rigwise.search.plan import usable_offers
from rigwise.search.types import Plan, PlanResult, World
from rigwise.units import HOUR_S
from rigwise.workload.job import Job


def require_spot(job: Job) -> None:
    """Refuse a job that does not allow spot capacity, before it is planned.

    Raises:
        InvalidInputError: It does not.
    """
    if not job.spot:
        raise InvalidInputError("--explain spot explains plans on spot capacity", hint="add --spot")


def best_spot_plan(result: PlanResult) -> Plan:
    """The best plan of an answer that uses spot capacity.

    Raises:
        InfeasibleError: No plan that was ranked uses it.
    """
    for plan in (*result.plans, result.cheapest, *result.frontier):
        if plan.market == SPOT:
            return plan
    raise InfeasibleError(
        f"none of the {len(result.plans)} best plans uses spot capacity", hint="raise --top to see more of them"
    )


def spot_answer(result: PlanResult, world: World, trace: Trace | None = None) -> SpotAnswer:
    """Everything about the best spot plan of an answer; same errors as ``best_spot_plan``.

    Args:
        result: The answer.
        world: Where it comes from.
        trace: The user's own trace of the capacity.
    """
    plan = best_spot_plan(result)
    offer = offer_of(plan, world)
    beliefs, in_force = beliefs_of(offer, result.job.interruption or InterruptionOverride())
    return explain_spot(question_of(plan, offer, result, world), beliefs, in_force, trace)


def beliefs_of(offer: Offer, given: InterruptionOverride) -> tuple[Mapping[str, Interruption], str]:
    """What may be believed of an offer's capacity, and which of it is planned with: the user's word first."""
    beliefs = dict(scenarios_of(offer))
    in_force = MEASURED if MEASURED in beliefs else USUAL
    if given.mean_run_s is not None or given.mean_wait_s is not None:
        return {GIVEN: overridden(beliefs[in_force], given), **beliefs}, GIVEN
    return {name: overridden(belief, given) for name, belief in beliefs.items()}, in_force


def question_of(plan: Plan, offer: Offer, result: PlanResult, world: World) -> SpotQuestion:
    """The plan as the market sees it; the work alone is what its compute costs, over its price.

    Its quantiles stand to each other as those of the plan's time do, the startup aside.
    """
    per_usd_s = HOUR_S / plan.usd_per_h
    work_s, startup_s = (plan.cost_terms.get(term, 0.0) * per_usd_s for term in ("compute", "startup"))
    alone_s = plan.time_s.p50 - startup_s
    dearer, place = _on_demand(offer, result, world)
    return SpotQuestion(
        plan=f"{plan.count} x {plan.device} at {plan.place}",
        instances=plan.nodes,
        work_s={q: work_s * (getattr(plan.time_s, q) - startup_s) / alone_s for q in ("p10", "p50", "p90")},
        startup_s=startup_s,
        deadline_s=result.job.deadline_s,
        confidence=result.job.confidence,
        spot_usd_per_h=plan.usd_per_h,
        on_demand_usd_per_h=None if dearer is None else plan.usd_per_h * dearer,
        on_demand_place=place,
    )


def _on_demand(offer: Offer, result: PlanResult, world: World) -> tuple[float | None, str]:
    """What an hour on demand costs over one on spot, and where, if elsewhere: the cheapest of equal devices."""
    spot = offer.spot_price_usd_h or 0.0
    if offer.price_usd_h:
        return offer.price_usd_h / spot, ""
    equal = [
        quote
        for quote in usable_offers(result.job, world).quotes
        if quote.market == ON_DEMAND and quote.usd_per_h > 0 and alike(quote.offer, offer)
    ]
    if not equal:
        return None, ""
    cheapest = min(equal, key=lambda quote: quote.usd_per_h)
    return cheapest.usd_per_h / spot, f"{cheapest.offer.provider} {cheapest.offer.instance}"


def alike(one: Offer, other: Offer) -> bool:
    """Whether a job takes the same time on two offers, as far as they say."""
    return (one.device, one.accel_count, one.link, one.inter_node_bytes_per_s) == (
        other.device,
        other.accel_count,
        other.link,
        other.inter_node_bytes_per_s,
    )


def offer_of(plan: Plan, world: World) -> Offer:
    """The row of the catalogue that a spot plan rents."""
    for row in world.offers:
        if (
            (row.provider, row.instance, row.region) == (plan.provider, plan.instance, plan.region)
            and row.as_of == plan.price_date
            and row.spot_price_usd_h is not None
            and plan.device in row.devices
        ):
            return row
    raise InfeasibleError(f"the offer of {plan.place} is no longer in the catalogue", hint="plan again")
