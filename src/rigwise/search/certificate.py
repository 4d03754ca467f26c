"""A second opinion on a plan: derive everything again, and believe nothing the search said.

From the job and the prices alone this module lists the candidates, bounds every one of them,
holds each part of the certificate's cover against those bounds, and estimates again every
candidate that was said to be estimated, with and without recompute. It shares types, money and
the estimator with the search, and nothing that decides.

What a certificate proves: under this estimate no candidate is better. What it does not: that
the estimate is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, isclose, isnan
from statistics import NormalDist

import numpy as np

from rigwise.facts.device import Device
from rigwise.machine.machine import Machine
from rigwise.market.money import rental_usd
from rigwise.market.offers import OWNED, SPOT, Quote
from rigwise.market.spot import ASSUMED, time_factor
from rigwise.search.types import KEEP, REASONS, RECOMPUTE, Array, Certificate, CoverEntry, Plan, State, World, site_name
from rigwise.workload.choices import Family, Task, recipes, settle, usable_devices
from rigwise.workload.job import Job
from rigwise.workload.lower import Recipe

_NODES = (1, 2, 4, 8)
_ENERGY = "energy"


def check(
    certificate: Certificate, plans: Sequence[Plan], job: Job, quotes: Sequence[Quote], world: World
) -> list[str]:
    """What is wrong with a certificate and its plans; nothing if it proves them.

    Args:
        certificate: The proof.
        plans: The answer, best first.
        job: The question.
        quotes: Every price that may be used, those of owned machines among them.
        world: Model, devices and estimator.
    """
    question = _Question(job, settle(job, world.model), world)
    blocks = _blocks(question, quotes)
    return [
        *_cover_faults(question, blocks, certificate),
        *_plan_faults(question, blocks, certificate, plans),
    ]


@dataclass(frozen=True, slots=True)
class _Question:
    job: Job
    task: Task
    world: World

    @property
    def deadline_s(self) -> float:
        return inf if self.job.deadline_s is None else self.job.deadline_s

    @property
    def budget_usd(self) -> float:
        return inf if self.job.budget_usd is None else self.job.budget_usd

    def recipes(self, family: Family, count: int, kind: str = "") -> tuple[Recipe, ...]:
        """All recipes, or those that keep activations, or those that compute them again."""
        case = self.task.case
        every = recipes(family, case.batch, count, case.task == "train", self.task.recomputes)
        return tuple(recipe for recipe in every if kind in ("", KEEP if recipe.recompute == "none" else RECOMPUTE))

    def late(self, p50_s: Array, p90_s: Array) -> Array:
        """Time that the job's confidence says is enough."""
        normal = NormalDist()
        return p50_s * (p90_s / p50_s) ** (normal.inv_cdf(self.job.confidence) / normal.inv_cdf(0.9))


@dataclass(frozen=True, slots=True)
class _Place:
    """Equal machines, with all their prices: quote, dollars per hour, time over undisturbed time."""

    machine: Machine
    variants: tuple[Device, ...]
    limit_s: float
    prices: list[tuple[Quote, float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Block:
    """A place in one family: its least time, and the limit that it cannot keep or its least objective."""

    state: State
    family: Family
    place: _Place
    least_s: float
    verdict: str
    number: float


#: A block's recipes that keep activations, or those that compute them again.
_Part = tuple[State, str]


@dataclass(frozen=True, slots=True)
class _Found:
    """What the estimates of a part say.

    Attributes:
        best: Least objective of what fits.
        relaxed: Least objective of what does not fit, if memory were no limit.
        quickest_s: Least time of all.
    """

    best: float
    relaxed: float
    quickest_s: float


# The candidates and their bounds, again


def _places(question: _Question, quotes: Sequence[Quote]) -> dict[tuple[str, str], _Place]:
    places: dict[tuple[str, str], _Place] = {}
    nodes_of = {machine.name: (machine.nodes,) for machine in question.job.owned}
    for quote in quotes:
        offer, owned = quote.offer, quote.market == OWNED
        have = int(offer.accel_count or 0)
        limit_s = min(offer.session_cap_s or inf, offer.weekly_quota_s or inf)
        alone = offer.inter_node_bytes_per_s is None or limit_s < inf
        for nodes in nodes_of[offer.instance] if owned else (1,) if alone else _NODES:
            each = usable_devices(question.task.case.batch, have, nodes)
            if not each:
                continue
            variants = tuple(question.world.device(name) for name in offer.devices)
            machine = Machine(
                device=sorted(variants, key=lambda d: (d.memory_bytes_per_s or 0, d.memory_bytes or 0, d.id))[0],
                count=each * nodes,
                nodes=nodes,
                link=offer.link if each > 1 else "",
                inter_node_bytes_per_s=offer.inter_node_bytes_per_s if nodes > 1 else None,
            )
            name = site_name(machine, have, limit_s, offer.instance if owned else "")
            place = places.setdefault((offer.device, name), _Place(machine, variants, limit_s))
            usd_per_h = quote.usd_per_h if owned else quote.usd_per_h * nodes
            place.prices.append((quote, usd_per_h, time_factor(ASSUMED, nodes) if quote.market == SPOT else 1.0))
    return places


def _blocks(question: _Question, quotes: Sequence[Quote]) -> dict[State, _Block]:
    """Every block of the candidate tree by its state, bounded."""
    task, physics, model = question.task, question.world.physics, question.world.model
    places = _places(question, quotes)
    blocks: dict[State, _Block] = {}
    for family in task.families:
        work = physics.least_work(task.case, family.dtype, model)
        for (device_class, name), place in places.items():
            count = place.machine.count
            steps_s = {device.id: physics.least_step_s(work, device, count) for device in place.variants}
            if isnan(steps_s[place.machine.device.id]):
                continue
            least_s = task.steps * min(s for s in steps_s.values() if not isnan(s))
            need_bytes = physics.least_memory_bytes(task.case, family.dtype, count, model)
            state = (str(family), device_class, name)
            blocks[state] = _Block(state, family, place, least_s, *_bound(question, place, least_s, need_bytes))
    return blocks


def _bound(question: _Question, place: _Place, least_s: float, need_bytes: float) -> tuple[str, float]:
    """The limit that no recipe keeps and its bound; else the bound of the objective."""
    have_bytes = max(max(device.memory_bytes or 0.0, device.usable_bytes or 0.0) for device in place.variants)
    time_s = least_s * min(factor for _, _, factor in place.prices)
    cost = min(rental_usd(usd_per_h, factor * least_s) for _, usd_per_h, factor in place.prices)
    if need_bytes > have_bytes:
        return "memory", need_bytes
    if time_s > min(question.deadline_s, place.limit_s):
        return "deadline", time_s
    if cost > question.budget_usd:
        return "budget", cost
    return "", {"cost": cost, "time": time_s, _ENERGY: 0.0}[question.job.minimize]


# The cover


def _cover_faults(question: _Question, blocks: dict[State, _Block], certificate: Certificate) -> Iterator[str]:
    below = _parts_below(question, blocks)
    seen = Counter(part for entry in certificate.cover for part in below.get(entry.state, []))
    for part in below[()]:
        if seen[part] != 1:
            yield f"{_words((*part[0], part[1]))} is covered {seen[part]} times"
    estimated = [p for entry in certificate.cover if entry.verdict == "estimated" for p in below.get(entry.state, [])]
    twins = [(e.state[:3], KEEP) for e in certificate.cover if e.state[3:] == (RECOMPUTE,) and e.state[:3] in blocks]
    found = _estimates(question, blocks, list(dict.fromkeys([*estimated, *twins])))
    looked_at = set(estimated)
    for (state, kind), outcome in found.items():
        if outcome.quickest_s < blocks[state].least_s * (1 - 1e-9):
            yield f"{_words((*state, kind))}: an estimate of {outcome.quickest_s:g} s is below the bound"
        keep = found.get((state, KEEP), outcome)
        if kind == RECOMPUTE and outcome.quickest_s < keep.quickest_s * (1 - 1e-9):
            yield f"{_words(state)}: recompute is quicker than keeping activations"
    for entry in certificate.cover:
        if entry.state not in below:
            yield f"{_words(entry.state)} is no candidate"
        elif entry.verdict == "estimated":
            yield from _differs(entry, min(found[part].best for part in below[entry.state]))
        elif entry.state[3:] == (RECOMPUTE,) and entry.verdict == "bound":
            if (entry.state[:3], KEEP) not in looked_at:
                yield f"{_words(entry.state)} is bounded by recipes that were not estimated"
            yield from _too_low(question, entry, found[entry.state[:3], KEEP].relaxed, certificate.best)
        else:
            yield from _entry_faults(question, entry, [blocks[s] for s, _ in below[entry.state]], certificate.best)
    yield from _count_faults(question, blocks, below, certificate)
    yield from _total_faults(question, min((found[part].best for part in estimated), default=inf), certificate)


def _parts_below(question: _Question, blocks: dict[State, _Block]) -> dict[State, list[_Part]]:
    """The parts of the candidate tree under each of its states."""
    below: dict[State, list[_Part]] = {(): []}
    kinds = (KEEP,) if question.task.recomputes == ("none",) else (KEEP, RECOMPUTE)
    for state in blocks:
        for kind in kinds:
            for length in range(5):
                below.setdefault((*state, kind)[:length], []).append((state, kind))
    return below


def _differs(entry: CoverEntry, expected: float) -> Iterator[str]:
    number = inf if entry.number is None else entry.number
    if not _same(number, expected):
        yield f"{_words(entry.state)}: {entry.verdict} says {number:g}, it is {expected:g}"


def _too_low(question: _Question, entry: CoverEntry, bound: float, best: float) -> Iterator[str]:
    if bound * (1 + question.job.gap_frac) < best * (1 - 1e-9):
        yield f"{_words(entry.state)}: its bound of {bound:g} does not exclude it, the best is {best:g}"
    yield from _differs(entry, bound)


def _entry_faults(question: _Question, entry: CoverEntry, inside: list[_Block], best: float) -> Iterator[str]:
    """What is wrong with a part of the cover that was not looked at."""
    if entry.verdict == "bound":
        yield from _too_low(question, entry, min((b.number for b in inside if not b.verdict), default=inf), best)
    elif entry.verdict in REASONS and all(block.verdict == entry.verdict for block in inside):
        yield from _differs(entry, min(block.number for block in inside))
    else:
        yield f"{_words(entry.state)} is not ruled out by {entry.verdict}"


def _count_faults(
    question: _Question, blocks: dict[State, _Block], below: dict[State, list[_Part]], certificate: Certificate
) -> Iterator[str]:
    """What is wrong with the numbers of leaves."""
    counts = Counter(dict.fromkeys(("estimated", *REASONS), 0))
    for entry in certificate.cover:
        for state, kind in below.get(entry.state, []):
            block = blocks[state]
            verdict = "estimated" if entry.verdict == "estimated" else block.verdict or "bound"
            leaves = len(question.recipes(block.family, block.place.machine.count, kind))
            counts[verdict] += leaves * len(block.place.prices)
    said = {"candidates": certificate.candidates, "estimated": certificate.estimated, **certificate.pruned}
    for name, number in {"candidates": counts.total(), **counts}.items():
        if said.get(name) != number:
            yield f"{said.get(name)} leaves are said to be {name}, there are {number}"


def _total_faults(question: _Question, best: float, certificate: Certificate) -> Iterator[str]:
    """What is wrong with the figures at the head of the certificate."""
    bounds = [entry.number for entry in certificate.cover if entry.verdict == "bound" and entry.number is not None]
    lower_bound = min([best, *bounds])
    gap = best / lower_bound - 1 if lower_bound > 0 else float(best > 0)
    for name, value, expected in (
        ("best", certificate.best, best),
        ("lower bound", certificate.lower_bound, lower_bound),
        ("gap", 1 + certificate.gap_frac, 1 + gap),
    ):
        if not _same(value, expected):
            yield f"the {name} is said to be {value:g}, it is {expected:g}"
    if certificate.objective != question.job.minimize:
        yield f"the objective is {certificate.objective}, the job's is {question.job.minimize}"


# The estimates, again


def _estimates(question: _Question, blocks: dict[State, _Block], parts: list[_Part]) -> dict[_Part, _Found]:
    """What the estimator says of every recipe of these parts."""
    task, world = question.task, question.world
    of_recipe: dict[Recipe, list[_Part]] = {}
    for part in parts:
        block = blocks[part[0]]
        for recipe in question.recipes(block.family, block.place.machine.count, part[1]):
            of_recipe.setdefault(recipe, []).append(part)
    found = {part: _Found(inf, inf, inf) for part in parts}
    for recipe, members in of_recipe.items():
        machines = [blocks[state].place.machine for state, _ in members]
        fleet = world.physics.estimate_fleet(task.case, recipe, machines, world.model)
        p50_s, p90_s = task.steps * np.asarray(fleet.step_p50_s), task.steps * np.asarray(fleet.step_p90_s)
        late_s, energy_j = question.late(p50_s, p90_s), task.steps * np.asarray(fleet.energy_p50_j)
        fits = np.asarray(fleet.fit_probability) >= question.job.confidence
        for i, part in enumerate(members):
            if isnan(p50_s[i]):
                continue
            times = (float(p50_s[i]), float(late_s[i]), float(energy_j[i]))
            value = _best_price(question, blocks[part[0]].place, times)
            before = found[part]
            found[part] = _Found(
                best=min(before.best, value if fits[i] else inf),
                relaxed=min(before.relaxed, inf if fits[i] else value),
                quickest_s=min(before.quickest_s, times[0]),
            )
    return found


def _best_price(question: _Question, place: _Place, outcome: tuple[float, float, float]) -> float:
    """The smallest allowed value of the objective over the prices of a place, if memory is no limit."""
    p50_s, late_s, energy_j = outcome
    best = inf
    for _, usd_per_h, factor in place.prices:
        in_time = factor * late_s <= min(question.deadline_s, place.limit_s)
        if in_time and rental_usd(usd_per_h, factor * late_s) <= question.budget_usd:
            cost = rental_usd(usd_per_h, factor * p50_s)
            value = {"cost": cost, "time": factor * p50_s, _ENERGY: factor * energy_j}[question.job.minimize]
            best = min(best, inf if isnan(value) else value)
    return best


# The plans


def _plan_faults(
    question: _Question, blocks: dict[State, _Block], certificate: Certificate, plans: Sequence[Plan]
) -> Iterator[str]:
    offered: dict[tuple[object, ...], list[tuple[_Block, float, float]]] = {}
    for block in blocks.values():
        for quote, usd_per_h, factor in block.place.prices:
            offer, machine = quote.offer, block.place.machine
            where = (offer.provider, offer.instance, offer.region, quote.market, offer.device)
            key = (*where, machine.count, machine.nodes, str(block.family))
            offered.setdefault(key, []).append((block, usd_per_h, factor))
    before = certificate.best
    for rank, plan in enumerate(plans, 1):
        device_class = "|".join(plan.variants) or plan.device
        family = Family(dtype=plan.dtype, layout=plan.layout, mode=plan.mode)
        where = (plan.provider, plan.instance, plan.region, plan.market, device_class)
        faults = [
            _one_plan_fault(question, plan, block, usd_per_h, factor)
            for block, usd_per_h, factor in offered.get((*where, plan.count, plan.nodes, str(family)), [])
        ]
        if not faults or all(faults):
            yield f"plan {rank}: {faults[0] if faults else 'is no candidate'}"
        value = {"cost": plan.cost_usd.p50, "time": plan.time_s.p50, _ENERGY: plan.energy_j or 0.0}[
            certificate.objective
        ]
        if rank == 1 and not _same(value, certificate.best):
            yield f"plan 1 has a {certificate.objective} of {value:g}, the certificate proves {certificate.best:g}"
        if value < before * (1 - 1e-9):
            yield f"plan {rank} is better than the one before it"
        before = value
    if not plans:
        yield "there is no plan"


def _one_plan_fault(question: _Question, plan: Plan, block: _Block, usd_per_h: float, factor: float) -> str:
    """What is wrong with a plan, if it is this block at this price; empty if nothing is."""
    recipe = Recipe(
        dtype=plan.dtype,
        layout=plan.layout,
        mode=plan.mode,
        micro_batch=plan.micro_batch,
        recompute=plan.recompute,
        zero=plan.parallel.zero,
    )
    machine, task, world = block.place.machine, question.task, question.world
    if recipe not in question.recipes(block.family, machine.count):
        return "its recipe is no candidate"
    if not _same(plan.usd_per_h, usd_per_h):
        return f"the price is {usd_per_h:g}, not {plan.usd_per_h:g}"
    fleet = world.physics.estimate_fleet(task.case, recipe, [machine], world.model)
    times = [task.steps * factor * float(t[0]) for t in (fleet.step_p10_s, fleet.step_p50_s, fleet.step_p90_s)]
    claimed = (plan.time_s.p10, plan.time_s.p50, plan.time_s.p90)
    if not all(map(_same, claimed, times)):
        return f"the time is {times[1]:g} s, not {plan.time_s.p50:g} s"
    if not all(
        map(_same, (plan.cost_usd.p10, plan.cost_usd.p50, plan.cost_usd.p90), rental_usd(usd_per_h, np.array(times)))
    ):
        return f"the cost is {rental_usd(usd_per_h, times[1]):g}, not {plan.cost_usd.p50:g}"
    late_s = float(question.late(np.array(times[1]), np.array(times[2])))
    if (
        not _same(plan.fit_probability, float(fleet.fit_probability[0]))
        or plan.fit_probability < question.job.confidence
    ):
        return "it does not fit in memory with the job's confidence"
    if late_s > min(question.deadline_s, block.place.limit_s) or rental_usd(usd_per_h, late_s) > question.budget_usd:
        return "it does not keep the limits with the job's confidence"
    return ""


def _same(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def _words(state: State) -> str:
    return " / ".join(state) or "the whole tree"
