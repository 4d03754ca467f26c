"""Prove a serving plan again, with code of its own.

It shares types, tariffs and the estimator with the search, and nothing that decides: candidates
come from the prices alone, every price counts (none is reduced away), and where the search solves
for the rate that a replica can take, the checker asks for each number of instances whether their
replicas keep up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import ceil, exp, floor, inf, isclose, isnan, log
from statistics import NormalDist

import numpy as np

from rigwise.estimate.serving_curve import Curves, Floors
from rigwise.estimate.serving_step import Replica
from rigwise.machine.machine import Machine
from rigwise.market.offers import BOUGHT, OWNED, SPOT, SUBSCRIPTION, Quote
from rigwise.market.spot import interruption_of
from rigwise.market.terms import Terms, tariff_of
from rigwise.search.serving_types import (
    REASONS,
    ServingClaim,
    ServingCover,
    ServingPhysics,
    ServingPlan,
    ServingState,
    instance_name,
)
from rigwise.search.types import World
from rigwise.workload.job import Job
from rigwise.workload.serving_load import Serving, ServingJob

_SLACK = 1e-9
_MOST_INSTANCES = 1 << 40


def check_serving(claim: ServingClaim, world: World, physics: ServingPhysics, quotes: Sequence[Quote]) -> list[str]:
    """What is wrong with a serving plan; nothing if it proves what it says.

    Args:
        claim: Job, plans and certificate.
        world: Model and devices.
        physics: The estimator.
        quotes: Every price that the job may use.
    """
    physics.check_servable(world.model, claim.job.load)
    blocks = _blocks(claim.job, world, physics, quotes)
    _estimate([blocks[e.state] for e in claim.certificate.cover if e.verdict == "estimated" and e.state in blocks])
    return [*_wrong_cover(claim, blocks), *_wrong_totals(claim, blocks), *_wrong_plans(claim, blocks)]


@dataclass(frozen=True, slots=True)
class _Steps:
    """A replica's steps at one quantile, by recorded number of sequences."""

    sizes: list[float]
    decode_s: list[float]
    prefill_s: float

    def at(self, rate: float, load: Serving) -> tuple[float, int, float] | None:
        """Sequences, index of the size they are padded to and time for each token; None if it falls behind."""
        left = 1.0 - rate * self.prefill_s
        if left <= 0:
            return None
        for index, (size, decode_s) in enumerate(zip(self.sizes, self.decode_s, strict=True)):
            each_s = decode_s / left if load.output_tokens > 1 else 0.0
            sequences = rate * (load.output_tokens - 1) * each_s
            if sequences <= size * (1 + _SLACK):
                return sequences, index, each_s
        return None


@dataclass(frozen=True, eq=False)
class _Block:
    """A state: replicas of one format and size in one kind of instance."""

    request: ServingJob
    world: World
    state: ServingState
    machine: Machine
    floors: Floors
    row: int
    replica: Replica
    physics: ServingPhysics
    terms: Terms
    quotes: list[Quote] = field(default_factory=list)
    estimated: list[Curves] = field(default_factory=list)

    @property
    def curves(self) -> Curves:
        """A row of one."""
        if not self.estimated:
            self.estimated.append(self.physics.replica_curves(self.replica, [self.machine]))
        return self.estimated[0]

    @cached_property
    def fitting(self) -> int:
        """The most sequences that memory holds with the job's confidence."""
        curves = self.curves
        z = NormalDist().inv_cdf(self.request.job.confidence)
        allowed = float(curves.capacity_bytes[0]) * exp(-z * float(curves.memory_spread[0]))
        points = [(float(n), float(peak)) for n, peak in zip(curves.batches, curves.memory_bytes[0], strict=True)]
        best = 0.0
        for (few, low), (many, high) in zip([(0.0, -inf), *points], points, strict=False):
            if high <= allowed:
                best = many
            elif isnan(high) or low == -inf or low > allowed:
                break
            else:
                return floor(few + (allowed - low) / (high - low) * (many - few) + _SLACK)
        return int(best)

    def steps(self, deviations: float) -> _Steps:
        """Times that many standard deviations above the median; more sequences are never quicker."""
        curves, longest = self.curves, 0.0
        decode = []
        for median, spread, least in zip(
            curves.decode_s[0], curves.decode_spread[0], curves.decode_floor_s[0], strict=True
        ):
            longest = max(longest, float(least), float(median) * exp(deviations * float(spread)))
            decode.append(longest)
        prefill = float(curves.prefill_s[0]) * exp(deviations * float(curves.prefill_spread[0]))
        sizes = [float(size) for size in curves.batches]
        return _Steps(sizes, decode, max(prefill, float(curves.prefill_floor_s[0])))

    @cached_property
    def late(self) -> _Steps:
        """Steps at the quantile that must keep the limits."""
        return self.steps(NormalDist().inv_cdf(self.request.job.confidence))

    def keeps_up(self, rate: float) -> bool:
        """Whether one replica takes a rate within the limits."""
        load, at = self.request.load, self.late.at(rate, self.request.load)
        if at is None or isnan(self.late.prefill_s) or self.fitting < 1:
            return False
        sequences, size, each_s = at
        if sequences > self.fitting * (1 + _SLACK):
            return False
        first = load.ttft_s is None or self.late.decode_s[size] + self.late.prefill_s <= load.ttft_s * (1 + _SLACK)
        return first and (load.tpot_s is None or each_s <= load.tpot_s * (1 + _SLACK))

    @property
    def per_instance(self) -> int:
        return self.machine.count // self.state[3]

    def least_instances(self, up: float) -> int | None:
        """The fewest instances whose replicas keep up; None if no number does."""
        load = self.request.load

        def enough(instances: int) -> bool:
            return self.keeps_up(load.rate_per_s / (instances * self.per_instance * up * load.utilisation_frac))

        high = 1
        while not enough(high):
            high *= 2
            if high > _MOST_INSTANCES:
                return None
        low = high // 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high

    def least_bound(self, up: float) -> int:
        """No fewer instances than this keep up, by the floors alone."""
        load, floors = self.request.load, self.floors
        request_s = float(floors.prefill_s[self.row]) + (load.output_tokens - 1) * float(floors.token_s[self.row])
        work = load.rate_per_s * request_s / (load.utilisation_frac * up)
        return ceil(max(1, ceil(work * (1 - 1e-12))) / self.per_instance)

    def cost(self, quote: Quote, instances: int) -> float:
        """What instances cost at a price; infinite if they may not be had."""
        if not _may_have(self.request.job, quote, instances):
            return inf
        tariff = replace(tariff_of(quote, self.terms, instances), startup_s=0.0, time_factor=1.0, wait_factor=1.0)
        paid_s = self.request.load.duration_s * _spot_fracs(quote)[1]
        budget = self.request.job.budget_usd
        if budget is not None and float(tariff.outlay_usd(paid_s)) > budget * (1 + _SLACK):
            return inf
        return float(tariff.cost_usd(paid_s))

    def verdict(self) -> tuple[str, float]:
        """The limit that it cannot keep, or ``bound``, with its figure."""
        load, row, floors = self.request.load, self.row, self.floors
        prefill_s, decode_s = float(floors.prefill_s[row]), float(floors.decode_s[row])
        if floors.memory_bytes[row] > floors.have_bytes[row]:
            return "memory", float(floors.memory_bytes[row])
        if load.ttft_s is not None and prefill_s + decode_s > load.ttft_s:
            return "ttft", prefill_s + decode_s
        if load.tpot_s is not None and load.output_tokens > 1 and decode_s > load.tpot_s:
            return "tpot", decode_s
        least = min(self.cost(quote, self.least_bound(_spot_fracs(quote)[0])) for quote in self.quotes)
        return ("limits", inf) if least == inf else ("bound", least)

    @cached_property
    def best(self) -> float:
        """The least that it costs, infinite if it cannot."""
        needed = {up: self.least_instances(up) for up in {_spot_fracs(quote)[0] for quote in self.quotes}}
        found = ((quote, needed[_spot_fracs(quote)[0]]) for quote in self.quotes)
        return min((self.cost(quote, number) for quote, number in found if number is not None), default=inf)


def _spot_fracs(quote: Quote) -> tuple[float, float]:
    """Parts of the time that an instance serves, and that is paid for."""
    if quote.market != SPOT:
        return 1.0, 1.0
    known = interruption_of(quote.offer)
    whole_s = known.mean_run_s + known.restart_s + known.mean_wait_s
    return known.mean_run_s / whole_s, (known.mean_run_s + known.restart_s) / whole_s


def _may_have(job: Job, quote: Quote, instances: int) -> bool:
    """Whether that many instances of a price may be held."""
    offer = quote.offer
    if quote.market == OWNED:
        return any(machine.name == offer.instance and instances <= machine.nodes for machine in job.owned)
    if instances > (job.max_nodes or inf):
        return False
    if quote.usd_per_h * instances * (1 + job.tax_frac) > (inf if job.max_usd_per_h is None else job.max_usd_per_h):
        return False
    for quota in job.quota:
        named = ((quota.provider.lower(), (offer.provider,)), (quota.region.lower(), (offer.region,)))
        holds = all(not name or name in names for name, names in (*named, (quota.device, offer.devices)))
        if holds and instances * (offer.accel_count or 0) > quota.max_count:
            return False
    return True


def _blocks(
    request: ServingJob, world: World, physics: ServingPhysics, quotes: Sequence[Quote]
) -> dict[ServingState, _Block]:
    """Every state that has estimates, with all its prices."""
    terms = Terms.of(request.job, world.billing)
    places: dict[tuple[str, str], tuple[Machine, list[Quote]]] = {}
    for quote in quotes:
        offer = quote.offer
        capped = offer.session_cap_s is not None or offer.weekly_quota_s is not None
        if capped or quote.market in (BOUGHT, SUBSCRIPTION):
            continue
        have, link = int(offer.accel_count or 0), offer.link if (offer.accel_count or 0) > 1 else ""
        name = instance_name(have, link, offer.instance if quote.market == OWNED else "")
        device = sorted(
            (world.device(i) for i in offer.devices),
            key=lambda d: (d.memory_bytes_per_s or 0, d.memory_bytes or 0, d.id),
        )[0]
        machine = Machine(device=device, count=have, link=link)
        places.setdefault((offer.device, name), (machine, []))[1].append(quote)
    formats = ("bf16", "fp16", "fp8", "int8", "int4")[: 5 if request.job.allow_quantised else 2]
    blocks = {}
    for dtype in formats:
        for tensor in physics.tensor_sizes(world.model):
            replica = Replica(model=world.model, load=request.load, dtype=dtype, tensor=tensor)
            able = [(key, *place) for key, place in places.items() if place[0].count >= tensor]
            floors = physics.replica_floors(replica, [machine for _, machine, _ in able])
            for row, ((device_class, name), machine, own) in enumerate(able):
                state = (dtype, device_class, name, tensor)
                if not isnan(floors.prefill_s[row]):
                    blocks[state] = _Block(request, world, state, machine, floors, row, replica, physics, terms, own)
    return blocks


def _estimate(blocks: Sequence[_Block]) -> None:
    """Estimate states together, all of one format and size at once; the others are when they are asked."""
    groups: dict[tuple[str, int], list[_Block]] = {}
    for block in dict.fromkeys(blocks):
        groups.setdefault((block.state[0], block.state[3]), []).append(block)
    for members in groups.values():
        curves = members[0].physics.replica_curves(members[0].replica, [member.machine for member in members])
        names = [f.name for f in fields(Curves) if f.name != "batches"]
        for row, member in enumerate(members):
            member.estimated.append(replace(curves, **{name: getattr(curves, name)[[row]] for name in names}))


def _wrong_cover(claim: ServingClaim, blocks: Mapping[ServingState, _Block]) -> Iterator[str]:
    """States that are missing, twice there, none, or not what is said of them."""
    seen = Counter(entry.state for entry in claim.certificate.cover)
    for state in blocks:
        if seen[state] != 1:
            yield f"{_words(state)} is covered {seen[state]} times"
    for entry in claim.certificate.cover:
        if entry.state not in blocks:
            yield f"{_words(entry.state)} is no candidate"
        else:
            yield from _wrong_entry(entry, blocks[entry.state], claim.certificate.best)


def _wrong_entry(entry: ServingCover, block: _Block, best: float) -> Iterator[str]:
    verdict, number = block.verdict()
    said = inf if entry.number is None else entry.number
    if entry.verdict == "estimated":
        if verdict != "bound":
            yield f"{_words(entry.state)} was estimated, though {verdict} rules it out"
        elif not _same(said, block.best):
            yield f"{_words(entry.state)} is said to cost {said:g}, it costs {block.best:g}"
        if verdict == "bound" and block.best < number * (1 - _SLACK):
            yield f"{_words(entry.state)}: an estimate of {block.best:g} is below the bound {number:g}"
    elif entry.verdict != verdict:
        yield f"{_words(entry.state)} is not ruled out by {entry.verdict}"
    elif not _same(said, number):
        yield f"{_words(entry.state)}: {verdict} says {said:g}, it is {number:g}"
    elif verdict == "bound" and number < best * (1 - _SLACK):
        yield f"{_words(entry.state)}: its bound of {number:g} does not exclude it, the best is {best:g}"


def _wrong_totals(claim: ServingClaim, blocks: Mapping[ServingState, _Block]) -> Iterator[str]:
    """What is wrong with the figures at the head of the certificate."""
    certificate = claim.certificate
    counts = Counter(dict.fromkeys(("estimated", *REASONS), 0))
    for entry in certificate.cover:
        counts[entry.verdict] += len(blocks[entry.state].quotes) if entry.state in blocks else 0
    said = {"candidates": certificate.candidates, "estimated": certificate.estimated, **certificate.pruned}
    for name, number in {"candidates": counts.total(), **counts}.items():
        if said.get(name) != number:
            yield f"{said.get(name)} prices are said to be {name}, there are {number}"
    estimated = [blocks[e.state].best for e in certificate.cover if e.verdict == "estimated" and e.state in blocks]
    best = min(estimated, default=inf)
    for name, value in (("best", certificate.best), ("lower bound", certificate.lower_bound)):
        if not _same(value, best):
            yield f"the {name} is said to be {value:g}, it is {best:g}"
    if certificate.gap_frac != 0 or certificate.objective != "cost":
        yield "the gap is not 0, or the objective is not the cost"


def _wrong_plans(claim: ServingClaim, blocks: Mapping[ServingState, _Block]) -> Iterator[str]:
    """What is wrong with the plans."""
    before = claim.certificate.best
    for rank, plan in enumerate(claim.plans, 1):
        device_class = "|".join(plan.variants) or plan.device
        faults = [
            _plan_fault(plan, block, quote)
            for block in blocks.values()
            if (block.state[0], block.state[1], block.state[3]) == (plan.dtype, device_class, plan.parallel.tensor)
            for quote in block.quotes
            if (quote.offer.provider, quote.offer.instance) == (plan.provider, plan.instance)
            and (quote.offer.region, quote.market) == (plan.region, plan.market)
        ]
        if not faults or all(faults):
            yield f"plan {rank}: {faults[0] if faults else 'is no candidate'}"
        if plan.rank != rank or plan.cost_usd.p50 < before * (1 - _SLACK):
            yield f"plan {rank} is not in its place"
        if rank == 1 and not _same(plan.cost_usd.p50, claim.certificate.best):
            yield f"plan 1 costs {plan.cost_usd.p50:g}, the certificate proves {claim.certificate.best:g}"
        before = plan.cost_usd.p50
    if not claim.plans:
        yield "there is no plan"


def _plan_fault(plan: ServingPlan, block: _Block, quote: Quote) -> str:
    """What is wrong with a plan, if it is this state at this price; empty if nothing is."""
    load, work = block.request.load, plan.serving
    up = _spot_fracs(quote)[0]
    if plan.nodes != block.least_instances(up):
        return f"it needs {block.least_instances(up)} instances, not {plan.nodes}"
    usd = block.cost(quote, plan.nodes)
    if not all(_same(value, usd) for value in (plan.cost_usd.p10, plan.cost_usd.p50, plan.cost_usd.p90)):
        return f"the cost is {usd:g}, not {plan.cost_usd.p50:g}"
    replicas = plan.nodes * block.per_instance
    rate = load.rate_per_s / (replicas * up)
    tokens = load.duration_s * load.rate_per_s * (load.prompt_tokens + load.output_tokens)
    at = block.late.at(rate, load)
    if at is None or not block.keeps_up(rate):
        return "its replicas do not keep up within the limits"
    sequences, size, _ = at
    steps = {name: block.steps(z * NormalDist().inv_cdf(0.9)) for name, z in (("p10", -1), ("p50", 0), ("p90", 1))}
    curves = block.curves
    held_bytes = float(np.interp(max(sequences, 1.0), curves.batches, curves.memory_bytes[0]))
    fits = NormalDist(log(held_bytes), float(curves.memory_spread[0])).cdf(log(curves.capacity_bytes[0]))
    expected = {
        "memory": (plan.memory_bytes, held_bytes),
        "memory there is": (plan.memory_capacity_bytes, float(curves.capacity_bytes[0])),
        "chance that it fits": (plan.fit_probability, fits),
        "replicas": (work.replicas, replicas),
        "devices": (plan.count, replicas * block.state[3]),
        "hourly price": (plan.usd_per_h, usd / (load.duration_s / 3600)),
        "rate": (work.rate_per_s, rate),
        "sequences": (work.sequences, sequences),
        "dollars for a million tokens": (work.usd_per_million_tokens.get("all", inf), usd / tokens * 1e6),
    }
    for name, step in steps.items():
        expected[f"{name} of the first token"] = (getattr(work.ttft_s, name), step.decode_s[size] + step.prefill_s)
        if load.output_tokens > 1:
            each_s = step.decode_s[size] + sequences * step.prefill_s / (load.output_tokens - 1)
            expected[f"{name} of a token"] = (getattr(work.tpot_s, name, inf), each_s)
    wrong = next((name for name, (said, is_) in expected.items() if not _same(said, is_)), "")
    return f"the {wrong} is {expected[wrong][1]:g}, not {expected[wrong][0]:g}" if wrong else ""


def _same(one: float, other: float) -> bool:
    return one == other or isclose(one, other, rel_tol=1e-7, abs_tol=1e-12)


def _words(state: ServingState) -> str:
    dtype, device, instance, tensor = state
    return f"{dtype} on {device} x {instance}, {tensor} a replica"
