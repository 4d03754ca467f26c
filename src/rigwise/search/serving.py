"""The cheapest fleet that serves a load: bounds cut most of the candidates, the rest is estimated.

There are a few thousand candidates, and all replicas of one format and size are estimated in one
line of NumPy, so nothing cleverer than looking at what the bounds leave is needed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from rigwise.estimate.interval import fit_probability
from rigwise.estimate.serving import usd_per_million
from rigwise.estimate.serving_curve import Curves
from rigwise.estimate.serving_step import Replica
from rigwise.estimate.steady_state import (
    Capacity,
    capacity,
    fitting_sequences,
    operation,
    probability,
    times_at,
    token_s,
)
from rigwise.market.offers import OWNED, Quote
from rigwise.market.terms import Terms
from rigwise.search.bounds import Z90
from rigwise.search.serving_explain import advice, infeasible, reasons_for
from rigwise.search.serving_odds import Sized, odds_of
from rigwise.search.serving_space import (
    Candidate,
    Price,
    allowed,
    candidates,
    counted,
    instances_needed,
    sites_of,
    unusable,
)
from rigwise.search.serving_types import (
    ASSUMED,
    MEANING,
    REASONS,
    Figures,
    ServingCertificate,
    ServingCover,
    ServingPhysics,
    ServingPlan,
    ServingResult,
    ServingState,
)
from rigwise.search.types import Quantiles, World
from rigwise.workload.case import Parallel
from rigwise.workload.serving_load import ServingJob

#: Candidates that are estimated first, for each plan asked for: what they cost cuts the others.
_FIRST = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A candidate at a price, feasible.

    Attributes:
        candidate, price: What it is.
        instances: How many of it.
        usd: What they cost.
        load_frac: Part of what they could take.
    """

    candidate: Candidate
    price: Price
    instances: int
    usd: float
    load_frac: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated:
    """A candidate's curves, a row of one, and the most it takes with the job's confidence."""

    candidate: Candidate
    curves: Curves
    fitting: int
    most: Capacity


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """One question while it is answered.

    Attributes:
        request: The serving job.
        world: Model, clock and day.
        physics: The estimator.
    """

    request: ServingJob
    world: World
    physics: ServingPhysics

    @property
    def deviations(self) -> float:
        """Standard deviations of ln(time) above the median that the confidence asks for."""
        return NormalDist().inv_cdf(self.request.job.confidence)

    def estimate(self, some: Iterable[Candidate]) -> list[Estimated]:
        """Estimate candidates, all of one format and size at once."""
        groups: dict[tuple[str, int], list[Candidate]] = {}
        for candidate in some:
            groups.setdefault((candidate.dtype, candidate.tensor), []).append(candidate)
        found: list[Estimated] = []
        for (dtype, tensor), members in groups.items():
            replica = Replica(model=self.world.model, load=self.request.load, dtype=dtype, tensor=tensor)
            curves = self.physics.replica_curves(replica, [member.site.machine for member in members])
            fitting = fitting_sequences(curves, self.request.job.confidence)
            most = capacity(curves.batches, times_at(curves, self.deviations), fitting, self.request.load)
            found.extend(
                Estimated(
                    candidate=member,
                    curves=_row(curves, row),
                    fitting=int(fitting[row]),
                    most=Capacity(rate_per_s=most.rate_per_s[[row]], sequences=most.sequences[[row]]),
                )
                for row, member in enumerate(members)
            )
        return found

    def leaves(self, known: Estimated, request: ServingJob | None = None) -> list[Leaf]:
        """A candidate at each of its prices that the request, or another one of the same load, allows."""
        asked = request or self.request
        most, load, candidate = float(known.most.rate_per_s[0]), asked.load, known.candidate
        found = []
        for price in candidate.site.prices if most > 0 else ():
            instances = instances_needed(load, most, candidate.per_instance, price.up_frac)
            if allowed(asked, price, instances):
                each = load.rate_per_s / (instances * candidate.per_instance * price.up_frac)
                usd = price.cost_usd(instances)
                found.append(
                    Leaf(candidate=candidate, price=price, instances=instances, usd=usd, load_frac=each / most)
                )
        return found


def _row(curves: Curves, row: int) -> Curves:
    rows = {name: getattr(curves, name)[[row]] for name in Curves.__dataclass_fields__ if name != "batches"}
    return replace(curves, **rows)


def plan_serving(
    request: ServingJob,
    world: World,
    physics: ServingPhysics,
    quotes: Sequence[Quote],
    excluded: Mapping[str, int],
) -> ServingResult:
    """The cheapest ways to serve a load within its limits, with the proof.

    Args:
        request: Load and job.
        world: Model, day and clock.
        physics: The estimator.
        quotes: Usable prices, owned machines among them.
        excluded: Prices that are not, by reason.

    Raises:
        InfeasibleError: No candidate keeps the limits; says how near the nearest comes.
        UnsupportedError: The model serves no tokens, or has too few positions.
    """
    started_s = world.clock_s()
    physics.check_servable(world.model, request.load)
    search = Search(request=request, world=world, physics=physics)
    usable, left_out = servable_quotes(quotes)
    sites = sites_of(request, usable, Terms.of(request.job, world.billing), world.device)
    every = list(candidates(request, sites, world.model, physics))
    known, leaves = _look(search, every)
    best = _ranking(leaves, request.job.top)
    if not best:
        open_ = [candidate for candidate in every if candidate.verdict in ("", "ttft", "tpot", "limits")]
        raise infeasible(search, open_, [*known.values()], {**excluded, **left_out})
    certificate = _certificate(every, known, leaves, best[0].usd, world.clock_s() - started_s)
    plans = tuple(_plan(search, leaf, known[leaf.candidate.state], rank) for rank, leaf in enumerate(best, 1))
    odds = odds_of([_sized(leaf, known[leaf.candidate.state]) for leaf in best], request.load)
    plans = tuple(
        replace(plan, why=reasons_for(plan, plans, request), p_best=o.p_best, expected_regret_usd=o.expected_regret_usd)
        for plan, o in zip(plans, odds, strict=True)
    )
    return ServingResult(
        job=request,
        today=world.today.isoformat(),
        assumed=(*ASSUMED, *_assumed(plans)),
        plans=plans,
        certificate=certificate,
        fallbacks=plans[1:4],
        excluded={**excluded, **left_out},
        advice=advice(plans, request),
    )


def _sized(leaf: Leaf, known: Estimated) -> Sized:
    return Sized(
        device=leaf.candidate.site.machine.device.id,
        curves=known.curves,
        fitting=known.fitting,
        per_instance=leaf.candidate.per_instance,
        price=leaf.price,
    )


def servable_quotes(quotes: Iterable[Quote]) -> tuple[list[Quote], dict[str, int]]:
    """Prices that a server can run at, and how many are not, by reason."""
    usable, left_out = [], dict[str, int]()
    for quote in quotes:
        if fault := unusable(quote):
            left_out[fault] = left_out.get(fault, 0) + 1
        else:
            usable.append(quote)
    return usable, left_out


def _look(search: Search, every: Sequence[Candidate]) -> tuple[dict[ServingState, Estimated], list[Leaf]]:
    """Estimate what the bounds leave: the most promising first, then whatever may still be among the best."""
    top = search.request.job.top
    order = sorted((c for c in every if not c.verdict), key=lambda c: (c.bound_usd, c.state))
    known = {e.candidate.state: e for e in search.estimate(order[: _FIRST * top])}
    leaves = [leaf for e in known.values() for leaf in search.leaves(e)]
    shown = _ranking(leaves, top)
    worst = shown[-1].usd if len(shown) == top else math.inf
    rest = [c for c in order[_FIRST * top :] if c.bound_usd < worst]
    for estimated in search.estimate(rest):
        known[estimated.candidate.state] = estimated
        leaves.extend(search.leaves(estimated))
    return known, leaves


def _ranking(leaves: Iterable[Leaf], top: int) -> list[Leaf]:
    """The best leaf of each of the ``top`` best offers; of equal price the one with the most to spare."""
    ranked: dict[tuple[str, str, str, str], Leaf] = {}
    for leaf in sorted(leaves, key=lambda x: (x.usd, x.load_frac, x.candidate.state, x.price.quote.offer.region)):
        quote = leaf.price.quote
        key = (quote.offer.provider, quote.offer.instance, quote.offer.device, quote.market)
        ranked.setdefault(key, leaf)
    return list(ranked.values())[:top]


def _certificate(
    every: Sequence[Candidate],
    known: Mapping[ServingState, Estimated],
    leaves: Iterable[Leaf],
    best: float,
    wall_s: float,
) -> ServingCertificate:
    found: dict[ServingState, float] = {}
    for leaf in leaves:
        state = leaf.candidate.state
        found[state] = min(leaf.usd, found.get(state, math.inf))
    cover = []
    for candidate in every:
        state = candidate.state
        if state in known:
            entry = ServingCover(state=state, verdict="estimated", number=found.get(state))
        elif candidate.verdict:
            entry = ServingCover(state=state, verdict=candidate.verdict, number=candidate.number)
        else:
            entry = ServingCover(state=state, verdict="bound", number=candidate.bound_usd)
        cover.append(entry)
    counts = counted(every, {entry.state: entry.verdict for entry in cover})
    return ServingCertificate(
        objective="cost",
        best=best,
        lower_bound=best,
        gap_frac=0.0,
        candidates=counts.total(),
        estimated=counts["estimated"],
        pruned={reason: counts[reason] for reason in REASONS},
        method="exhaustive",
        wall_s=wall_s,
        reasons={reason: MEANING[reason] for reason in REASONS if counts[reason]},
        cover=tuple(cover),
    )


def _assumed(plans: Iterable[ServingPlan]) -> tuple[str, ...]:
    """What is taken for granted beyond the steady state."""
    if not any(plan.market == "spot" for plan in plans):
        return ()
    return (
        "requests that are under way when spot capacity goes away are sent again, which takes no share of the rate",
    )


def _plan(search: Search, leaf: Leaf, known: Estimated, rank: int) -> ServingPlan:
    candidate, quote, request = leaf.candidate, leaf.price.quote, search.request
    offer, replicas = quote.offer, leaf.instances * candidate.per_instance
    figures = _figures(search, leaf, known, replicas)
    memory = float(np.interp(max(figures.sequences, 1.0), known.curves.batches, known.curves.memory_bytes[0]))
    room = float(known.curves.capacity_bytes[0])
    hours = request.load.duration_s / 3600
    return ServingPlan(
        rank=rank,
        kind="own" if quote.market == OWNED else "rent",
        provider=offer.provider,
        instance=offer.instance,
        region=offer.region,
        market=quote.market,
        device=candidate.site.machine.device.id,
        variants=tuple(d.id for d in candidate.site.variants) if len(candidate.site.variants) > 1 else (),
        count=replicas * candidate.tensor,
        nodes=leaf.instances,
        idle=leaf.instances * candidate.site.machine.count - replicas * candidate.tensor,
        usd_per_h=leaf.usd / hours,
        dtype=candidate.dtype,
        parallel=Parallel(data=replicas, tensor=candidate.tensor),
        time_s=_quantiles([request.load.duration_s] * 3),
        cost_usd=_quantiles([leaf.usd] * 3),
        memory_bytes=memory,
        memory_capacity_bytes=room,
        fit_probability=float(fit_probability(memory, room, float(known.curves.memory_spread[0]))),
        price_date=offer.as_of,
        serving=figures,
    )


def _figures(search: Search, leaf: Leaf, known: Estimated, replicas: int) -> Figures:
    """How the replicas work at the load, at the quantile that the confidence asks for."""
    load, curves = search.request.load, known.curves
    rate = load.rate_per_s / (replicas * leaf.price.up_frac)
    late = times_at(curves, search.deviations)
    at_work = operation(curves.batches, late, rate, load.decode_steps)
    if at_work is None:
        raise AssertionError("a replica that takes a rate falls behind at it")
    sequences, size = at_work.sequences, at_work.recorded
    steps = [times_at(curves, deviations) for deviations in (-Z90, 0.0, Z90)]
    decode_s = [float(times.decode_s[0, size]) for times in steps]
    prefill_s = [float(times.prefill_s[0]) for times in steps]
    pairs = list(zip(decode_s, prefill_s, strict=True))
    token = [float(token_s(sequences, d, p, load.decode_steps)) for d, p in pairs]
    prefill_frac = rate * float(late.prefill_s[0])
    usd_per_s = leaf.usd / load.duration_s
    return Figures(
        replicas=replicas,
        rate_per_s=rate,
        most_rate_per_s=float(known.most.rate_per_s[0]),
        load_frac=leaf.load_frac,
        sequences=sequences,
        most_sequences=known.fitting,
        ttft_s=_quantiles([d + p for d, p in pairs]),
        tpot_s=_quantiles(token) if load.decode_steps else None,
        decode_step_s=_quantiles(decode_s),
        prefill_s=_quantiles(prefill_s),
        prefill_frac=prefill_frac,
        request_s=decode_s[1] + prefill_s[1] + load.decode_steps * token[1],
        output_tokens_per_s=load.rate_per_s * load.output_tokens,
        limits_probability=probability(curves, 0, known.fitting, load, rate),
        up_frac=leaf.price.up_frac,
        usd_per_million_tokens=_per_million(usd_per_s, prefill_frac if load.decode_steps else 1.0, search.request),
    )


def _quantiles(values: Sequence[float]) -> Quantiles:
    return Quantiles(p10=values[0], p50=values[1], p90=values[2])


def _per_million(usd_per_s: float, prefill_frac: float, request: ServingJob) -> dict[str, float]:
    """Dollars for a million tokens: of both kinds, and of each by its share of the time."""
    load = request.load
    prompt, output = load.rate_per_s * load.prompt_tokens, load.rate_per_s * load.output_tokens
    return {
        "all": usd_per_million(3600 * usd_per_s, prompt + output),
        "input": usd_per_million(3600 * usd_per_s * prefill_frac, prompt),
        "output": usd_per_million(3600 * usd_per_s * (1.0 - prefill_frac), output),
    }
