"""Why a fleet is the cheapest, what limits it, and what would have to give way where there is none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from rigwise.errors import InfeasibleError
from rigwise.estimate.serving_curve import Curves
from rigwise.estimate.steady_state import times_at
from rigwise.search.serving_space import Candidate, Price
from rigwise.search.serving_types import ServingPlan
from rigwise.units import HOUR_S, format_fraction, format_seconds, format_usd
from rigwise.workload.serving_load import ServingJob

#: Chance from which another plan is worth a measurement.
_LIKELY = 0.1


class Known(Protocol):
    """A candidate that was estimated."""

    @property
    def candidate(self) -> Candidate:
        """The candidate."""

    @property
    def curves(self) -> Curves:
        """Its curves, a row of one."""

    @property
    def fitting(self) -> int:
        """Sequences that fit."""


class Leaf(Protocol):
    """A candidate at a price."""

    @property
    def price(self) -> Price:
        """The price."""

    @property
    def instances(self) -> int:
        """How many."""

    @property
    def usd(self) -> float:
        """What they cost."""


class Asked(Protocol):
    """The question, and a way to estimate."""

    @property
    def request(self) -> ServingJob:
        """The serving job."""

    @property
    def deviations(self) -> float:
        """What its confidence asks for."""

    def estimate(self, some: Iterable[Candidate]) -> Sequence[Known]:
        """Estimate candidates."""

    def leaves(self, known: Any, request: ServingJob | None = None) -> Sequence[Leaf]:
        """A candidate at each of its prices that the request, or another one, allows."""


def reasons_for(plan: ServingPlan, plans: Sequence[ServingPlan], request: ServingJob) -> tuple[str, ...]:
    """Why this plan stands where it does."""
    work, load = plan.serving, request.load
    sentences = [
        f"{work.replicas:,} replicas of {plan.parallel.tensor} x {plan.device}"
        f" take {work.rate_per_s:.3g} requests/s each, {format_fraction(work.load_frac)} of what one can:"
        f" {_limit(plan, request)}"
    ]
    wanted = load.rate_per_s / (work.most_rate_per_s * load.utilisation_frac * work.up_frac)
    if work.replicas - wanted >= 1:
        sentences.append(f"{wanted:.3g} replicas would do, but instances are rented whole")
    if work.up_frac < 1:
        sentences.append(
            f"spot instances are up {format_fraction(work.up_frac)} of the time, so more are held:"
            " those that are up take the whole rate on average"
        )
    if plan.idle:
        sentences.append(f"{plan.idle} devices are left over: a replica has {plan.parallel.tensor} of an instance")
    best = plans[0]
    if plan.rank > 1 and best.cost_usd.p50 > 0:
        more = plan.cost_usd.p50 / best.cost_usd.p50 - 1
        sentences.append(f"{format_fraction(more)} dearer than the first" if more > 0 else "as cheap as the first")
    return tuple(sentences)


def _limit(plan: ServingPlan, request: ServingJob) -> str:
    """What keeps a replica from taking more."""
    work, load = plan.serving, request.load
    at_most = work.most_rate_per_s * load.decode_steps * (load.tpot_s or 0.0)
    if load.tpot_s is not None and load.decode_steps and at_most < work.most_sequences * 0.98:
        return f"more would take longer than {format_seconds(load.tpot_s)} for each token"
    return f"it holds the cache of {work.most_sequences} at one time"


def advice(plans: Sequence[ServingPlan], request: ServingJob) -> tuple[str, ...]:
    """What the answer leaves out, and how sure it is."""
    best, load = plans[0], request.load
    work, sentences = best.serving, []
    rival = max(plans[1:], key=lambda plan: plan.p_best, default=None)
    if rival is not None and rival.p_best >= _LIKELY:
        sentences.append(
            f"the order is no more than likely: the first is the cheapest with {format_fraction(best.p_best)}"
            f" probability, number {rival.rank} with {format_fraction(rival.p_best)}; measure a replica of each"
        )
    if load.utilisation_frac == 1.0:
        sentences.append(
            "arrivals are not even: at a high load requests queue. --utilisation 0.7 plans each replica"
            " for 70 % of what it can take"
        )
    if load.ttft_s is None or load.tpot_s is None:
        sentences.append("without --ttft and --tpot nothing limits how long a user waits")
    if best.nodes == 1 and work.load_frac < 0.3:
        sentences.append(
            f"one instance is the least that can be rented, and it is used to {format_fraction(work.load_frac)}:"
            f" an interface that charges by the token may be cheaper than"
            f" {format_usd(work.usd_per_million_tokens['all'])} a million"
        )
    return tuple(sentences)


def infeasible(
    asked: Asked, open_: Sequence[Candidate], known: Sequence[Known], excluded: Mapping[str, int]
) -> InfeasibleError:
    """The error that says how near the nearest candidate comes to each limit."""
    request = asked.request
    counts = ", ".join(f"{number} {reason}" for reason, number in sorted(excluded.items(), key=lambda p: -p[1]))
    seen = {item.candidate.state for item in known}
    every = [*known, *asked.estimate(c for c in open_ if c.state not in seen)]
    holding = [item for item in every if item.fitting >= 1]
    if not holding:
        what = f"no offer can hold {request.job.model} with a request of {request.load.longest_context} tokens"
        hint = "--allow-quantised needs less memory" if not request.job.allow_quantised else ""
        return InfeasibleError(what, hint=hint or f"left out: {counts or 'nothing'}")
    return _too_tight(asked, holding)


def _too_tight(asked: Asked, holding: Sequence[Known]) -> InfeasibleError:
    load, job = asked.request.load, asked.request.job
    first, token = {}, {}
    for index, item in enumerate(holding):
        times = times_at(item.curves, asked.deviations)
        token[index] = float(times.decode_s[0, 0])
        first[index] = float(times.prefill_s[0]) + token[index]
    quickest, smoothest = min(first, key=first.__getitem__), min(token, key=token.__getitem__)
    in_time = [
        i for i in first if first[i] <= (load.ttft_s or float("inf")) and token[i] <= (load.tpot_s or float("inf"))
    ]
    if in_time:
        return _not_to_be_had(asked, [holding[i] for i in in_time])
    asked_for = []
    hints = []
    if load.ttft_s is not None:
        asked_for.append(f"a first token within {format_seconds(load.ttft_s)}")
        hints.append(f"the quickest first token takes {_up(first[quickest])} ({_name(holding[quickest])})")
    if load.tpot_s is not None and load.decode_steps:
        asked_for.append(f"each token within {format_seconds(load.tpot_s)}")
        hints.append(f"the quickest token takes {_up(token[smoothest])} ({_name(holding[smoothest])})")
    return InfeasibleError(
        f"no replica gives {' and '.join(asked_for)} with {format_fraction(job.confidence)} confidence",
        hint="; ".join(hints),
    )


def _not_to_be_had(asked: Asked, quick: Sequence[Known]) -> InfeasibleError:
    """The error where replicas are quick enough, and money, quotas or owned machines allow too few of them."""
    request, job = asked.request, asked.request.job
    free = replace(request, job=replace(job, budget_usd=None, max_usd_per_h=None, max_nodes=None, quota=()))
    named = {
        "the budget": job.budget_usd is not None,
        "the hourly cap": job.max_usd_per_h is not None,
        "the most nodes": job.max_nodes is not None,
        "the quotas": bool(job.quota),
        "the owned machines": bool(job.owned),
    }
    limits = " and ".join(name for name, given in named.items() if given) or "the prices that may be used"
    leaf = min((leaf for item in quick for leaf in asked.leaves(item, free)), key=lambda x: x.usd, default=None)
    hint = f"{len(quick)} kinds of replica are quick enough, but too few of them may be had"
    if leaf is not None:
        offer = leaf.price.quote.offer
        period = f"{request.load.duration_s / HOUR_S:,.6g} h"
        hint = f"the cheapest costs {format_usd(leaf.usd)} for {period}: {leaf.instances:,} x {offer.provider}"
        hint += f" {offer.instance}"
    return InfeasibleError(f"no fleet takes {request.load.rate_per_s:,.6g} requests/s within {limits}", hint=hint)


def _name(item: Known) -> str:
    candidate = item.candidate
    return f"{candidate.tensor} x {candidate.site.machine.device.id}, {candidate.dtype}"


def _up(seconds: float) -> str:
    """A time, rounded up so that it can be asked for."""
    return format_seconds(seconds * 1.005)
