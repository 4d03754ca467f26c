"""Plans in words: from a leaf of the search to a ``Plan``, why it is good, and what to know beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan

from rigwise.market.offers import BOUGHT, OWNED, SPOT, SUBSCRIPTION
from rigwise.market.tariff import Tariff
from rigwise.search.bounds import KWH_J, Goal
from rigwise.search.estimates import Estimates
from rigwise.search.problem import Leaf
from rigwise.search.robust import is_tied
from rigwise.search.space import Space
from rigwise.search.types import Plan, PlanResult, Quantiles
from rigwise.units import format_bytes, format_count, format_seconds, format_usd
from rigwise.workload.case import Parallel

#: What the fixed cost of a market is called, where it is not for the transfer of data.
_FIXED = {BOUGHT: "ownership", SUBSCRIPTION: "fee"}


def plan_of(space: Space, estimates: Estimates, leaf: Leaf) -> Plan:
    """The plan that a leaf stands for, with its intervals."""
    site, quote = space.sites[leaf.site], space.quotes[leaf.quote]
    table = estimates.table(leaf.family)
    recipe, machine = table.recipes[leaf.row], site.machine
    number = {n: float(column[leaf.row, estimates.machine_of_site[leaf.site]]) for n, column in table.columns.items()}
    price = int((site.quote == leaf.quote).argmax())
    tariff, machines = site.tariff.pick(price), space.task.machines
    undisturbed_s = [space.task.steps * number[f"step_{q}_s"] for q in ("p10", "p50", "p90")]
    time_s = [float(tariff.wall_s(s)) for s in undisturbed_s]
    cost_usd = [float(tariff.cost_usd(s)) for s in undisturbed_s]
    energy_j = number["energy_p50_j"] * space.task.steps * float(tariff.time_factor) * machines
    carbon_g = energy_j / KWH_J * float(space.grams_of(leaf.site)[price])
    return Plan(
        kind={OWNED: "own", BOUGHT: "buy"}.get(quote.market, "rent"),
        provider=quote.offer.provider,
        instance=quote.offer.instance,
        region=quote.offer.region,
        market=OWNED if quote.market == BOUGHT else quote.market,
        device=machine.device.id,
        variants=tuple(d.id for d in site.variants) if len(site.variants) > 1 else (),
        count=machine.count,
        nodes=machine.nodes,
        idle=site.idle,
        machines=machines,
        usd_per_h=float(tariff.usd_per_h),
        capital_usd=float(tariff.capital_usd),
        dtype=recipe.dtype,
        layout=recipe.layout,
        mode=recipe.mode,
        micro_batch=recipe.micro_batch,
        accumulation=space.task.case.batch * recipe.members // (machine.count * recipe.micro_batch),
        recompute=recipe.recompute,
        parallel=recipe.parallel(machine.count),
        time_s=Quantiles(p10=time_s[0], p50=time_s[1], p90=time_s[2]),
        cost_usd=Quantiles(p10=cost_usd[0], p50=cost_usd[1], p90=cost_usd[2]),
        cost_terms=cost_terms(tariff, undisturbed_s[1], fixed=_FIXED.get(quote.market, "transfer")),
        energy_j=None if isnan(energy_j) else energy_j,
        carbon_g=None if isnan(carbon_g) else carbon_g,
        memory_bytes=number["memory_p50_bytes"],
        memory_capacity_bytes=number["memory_capacity_bytes"],
        fit_probability=number["fit_probability"],
        price_date=quote.offer.as_of,
    )


def cost_terms(tariff: Tariff, undisturbed_s: float, fixed: str) -> dict[str, float]:
    """What a cost is made of; the terms add up to it, and those that are nothing are left out."""
    terms = tariff.terms_usd(undisturbed_s, fixed)
    least = 1e-9 * max(1.0, terms["compute"])
    return {name: usd for name, usd in terms.items() if name == "compute" or abs(usd) > least}


def with_reasons(plans: Sequence[Plan], fastest: Plan, space: Space, goal: Goal) -> tuple[Plan, ...]:
    """The plans with sentences that say why each is what it is."""
    return tuple(
        replace(plan, why=tuple(_why(plan, plans, fastest, space, goal) if plan.rank == 1 else _facts(plan, space)))
        for plan in plans
    )


def _why(plan: Plan, plans: Sequence[Plan], fastest: Plan, space: Space, goal: Goal) -> list[str]:
    sentences = _facts(plan, space)
    if len(plans) > 1:
        sentences.append(f"next: {machine_words(plans[1])} at {plans[1].provider}, {compared(plans[1], plan)}")
    if fastest.time_s.p50 < plan.time_s.p50 and goal.objective != "time":
        sentences.append(
            f"fastest within the limits: {machine_words(fastest)} at {fastest.provider},"
            f" {format_seconds(fastest.time_s.p50)} for {format_usd(fastest.cost_usd.p50)}"
        )
    return sentences


def _facts(plan: Plan, space: Space) -> list[str]:
    samples_per_s = space.task.samples / plan.time_s.p50
    sentences = [
        f"{format_count(samples_per_s)} samples/s on {machine_words(plan)} at {format_usd(plan.usd_per_h)}/h",
        f"{plan.dtype}, {plan.mode}, micro-batch {plan.micro_batch}"
        + (f" x {plan.accumulation} accumulated" if plan.accumulation > 1 else "")
        + (f", {plan.recompute} recompute" if plan.recompute != "none" else "")
        + "".join(f", {words}" for words in layout_words(plan.parallel))
        + f": {format_bytes(plan.memory_bytes)} of {format_bytes(plan.memory_capacity_bytes)},"
        f" fits with probability {plan.fit_probability:.2f}",
    ]
    if plan.variants:
        sentences.append(f"the provider does not say which of {', '.join(plan.variants)}: estimated as {plan.device}")
    if plan.idle:
        sentences.append(
            f"{plan.idle} of {plan.idle + plan.count} devices stay idle: the batch does not divide further"
        )
    return sentences


def layout_words(parallel: Parallel) -> list[str]:
    """How the devices share a step, in words; none for plain replicas.

    >>> layout_words(Parallel(data=2, tensor=8, sequence=True, pipeline=4, zero=1))
    ['2 replicas', 'tensor parallel over 8 with the sequence', '4 pipeline stages', 'ZeRO 1']
    """
    words = []
    if parallel.tensor * parallel.pipeline * parallel.context > 1:
        words.append(f"{parallel.data} replica{'s' if parallel.data != 1 else ''}")
    if parallel.tensor > 1:
        sequence = " with the sequence" if parallel.sequence else ""
        words.append(f"tensor parallel over {parallel.tensor}{sequence}")
    if parallel.pipeline > 1:
        pieces = f" of {parallel.virtual} interleaved pieces" if parallel.virtual > 1 else ""
        words.append(f"{parallel.pipeline} pipeline stages{pieces}")
    if parallel.context > 1:
        words.append(f"sequences divided over {parallel.context}")
    if parallel.expert > 1:
        words.append(f"experts divided over {parallel.expert}")
    if parallel.zero:
        words.append(f"ZeRO {parallel.zero}")
    return words


#: Beside a multiple.
_AS = {"dearer": "dear", "more": "much", "longer": "long"}


def compared(other: Plan, first: Plan) -> str:
    """A plan against the first: what it costs, and the price of an hour and the time, of which that is the product."""
    cost = _change(other.cost_usd.p50, first.cost_usd.p50, "dearer", "cheaper")
    hour = _change(other.usd_per_h, first.usd_per_h, "more", "less")
    time = _change(other.time_s.p50, first.time_s.p50, "longer", "less time")
    hourly = first.usd_per_h > 0 and first.kind == other.kind == "rent"
    parts = [f"an hour costs {hour or 'the same'}" if hourly else "", f"it takes {time or 'as long'}"]
    return f"{cost or 'no dearer'}: {' and '.join(part for part in parts if part)}"


def _change(value: float, base: float, more: str, less: str) -> str:
    """How much more or less than a base in words, empty if it is the same or the base is nothing.

    >>> _change(1.5, 1.0, "dearer", "cheaper"), _change(4.0, 1.0, "longer", ""), _change(0.5, 1.0, "", "less time")
    ('50 % dearer', '4.0 times as long', '50 % less time')
    """
    if base <= 0:
        return f"{format_usd(value)} {more}" if value > 0 else ""
    percent = 100 * (value / base - 1)
    if abs(percent) < 0.5:
        return ""
    if percent >= 100:
        return f"{value / base:.1f} times as {_AS[more]}"
    return f"{abs(percent):.0f} % {more if percent > 0 else less}"


def machine_words(plan: Plan) -> str:
    """The devices of a plan: ``2 x 8 h100-sxm5-80gb`` over two nodes."""
    if plan.nodes > 1:
        return f"{plan.nodes} x {plan.count // plan.nodes} {plan.device}"
    return f"{plan.count} x {plan.device}"


def advice(result: PlanResult, goal: Goal, beside: Sequence[str] = ()) -> tuple[str, ...]:
    """What to know beside the plan: what was assumed, what was left out, how sure the order is.

    Args:
        result: The answer.
        goal: What was asked for.
        beside: What the price of the first plan rests on (``market.terms.to_know``).
    """
    best, told = result.plans[0], []
    if result.assumed:
        told.append("assumed: " + "; ".join(result.assumed))
    ties = sum(is_tied(plan) for plan in result.plans[1:])
    if ties:
        regret = format_usd(best.expected_regret_usd)
        told.append(
            f"{ties} of the {len(result.plans) - 1} next plans, marked =, are ahead of the first with probability 0.1"
            f" or more; it is the best of all with probability {best.p_best:.2f}, and {regret} dearer than whatever"
            " is the cheapest, on average"
        )
    quick = [p for p in result.frontier if p.time_s.p50 < 0.75 * best.time_s.p50]
    if quick and goal.objective == "cost" and quick[0].cost_usd.p50 < 1.1 * best.cost_usd.p50:
        told.append(
            f"{format_usd(quick[0].cost_usd.p50 - best.cost_usd.p50)} more makes it"
            f" {best.time_s.p50 / quick[0].time_s.p50:.1f} x as fast: {machine_words(quick[0])} at {quick[0].place}"
        )
    told += beside
    old = _number(result.excluded, "price older than")
    if old:
        told.append(f"--max-price-age lets {old} older prices in")
    if best.kind == "rent" and best.price_date:
        waiting = "" if best.market == SPOT else ", and waiting until such a machine is free is not counted"
        told.append(f"the price is of {best.price_date}{waiting}: look before you rent")
    return tuple(told)


def _number(excluded: Mapping[str, int], start: str) -> int:
    return sum(number for reason, number in excluded.items() if reason.startswith(start))
