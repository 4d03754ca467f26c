"""The question that the checker answers for itself: which candidates there are, and what bounds them.

Derived from the job and the prices alone, with code that the search does not use: it shares
types, tariffs and the estimator with the search, and nothing that decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf, isnan
from statistics import NormalDist
from typing import Any

import numpy as np

from rigwise.facts.device import Device
from rigwise.machine.machine import Machine
from rigwise.market.offers import BOUGHT, OWNED, Quote
from rigwise.market.tariff import Tariff, as_row
from rigwise.market.terms import Terms, tariff_of
from rigwise.search.types import KEEP, Array, State, World, site_name
from rigwise.workload.choices import Family, Task, recipes, settle, usable_devices
from rigwise.workload.job import Job
from rigwise.workload.recipes import Recipes

_USUAL_NODES = 8


@dataclass(frozen=True, slots=True)
class Question:
    """A job, put to its model, in a world."""

    job: Job
    task: Task
    world: World

    @staticmethod
    def of(job: Job, world: World) -> Question:
        """The question that a job asks."""
        return Question(job, settle(job, world.model), world)

    @property
    def deadline_s(self) -> float:
        """The job's deadline, infinite for none."""
        return inf if self.job.deadline_s is None else self.job.deadline_s

    @property
    def budget_usd(self) -> float:
        """The job's budget, infinite for none."""
        return inf if self.job.budget_usd is None else self.job.budget_usd

    def recipes(self, family: Family, machine: Machine, kind: str = "") -> Recipes:
        """All recipes, or those that keep activations, or those that compute them again."""
        every = recipes(self.task, family, machine.count, machine.nodes)
        keeps = every.columns["recompute"] == 0
        return every.take(keeps if kind == KEEP else ~keeps) if kind else every

    def value(self, cost_usd: Any, time_s: Any, energy_j: Any, carbon_g: Any) -> Any:
        """The job's objective."""
        whole = {"time": time_s, "energy": energy_j, "carbon": carbon_g}
        if self.job.minimize in whole:
            return whole[self.job.minimize]
        if self.job.minimize == "cost" or self.job.weights is None:
            return cost_usd + self.job.value_of_time_usd_per_h * time_s / 3600
        w = self.job.weights
        prices = (w.cost, w.time_usd_per_h / 3600, w.energy_usd_per_kwh / 3.6e6, w.carbon_usd_per_t / 1e6)
        return sum(p * x for p, x in zip(prices, (cost_usd, time_s, energy_j, carbon_g), strict=True) if p)

    def late(self, p50_s: Array, p90_s: Array) -> Array:
        """Time that the job's confidence says is enough."""
        normal = NormalDist()
        return p50_s * (p90_s / p50_s) ** (normal.inv_cdf(self.job.confidence) / normal.inv_cdf(0.9))


@dataclass(frozen=True, slots=True)
class Place:
    """Equal machines, with all their prices."""

    machine: Machine
    variants: tuple[Device, ...]
    limit_s: float
    prices: list[tuple[Quote, Tariff]] = field(default_factory=list)
    _rows: list[tuple[Tariff, Array]] = field(default_factory=list)

    def row(self, world: World) -> tuple[Tariff, Array]:
        """All prices side by side, with the carbon intensity of each."""
        if not self._rows:
            grams = np.array([world.grams_per_kwh(quote) for quote, _ in self.prices])
            self._rows.append((as_row([tariff for _, tariff in self.prices]), grams))
        return self._rows[0]


@dataclass(frozen=True, slots=True)
class Block:
    """A place in one family.

    Attributes:
        state, family, place: Which.
        least_s: Its least time.
        verdict, number: The limit that it cannot keep, or none and its least objective.
        at_large: The same without a look at the operators of the family, as its class and its family are bounded.
    """

    state: State
    family: Family
    place: Place
    least_s: float
    verdict: str
    number: float
    at_large: tuple[str, float]

    def bounded_in(self, state: State) -> tuple[str, float]:
        """Verdict and number that a state above it is bounded with."""
        return (self.verdict, self.number) if len(state) > 2 else self.at_large


def _places(question: Question, quotes: Sequence[Quote]) -> dict[tuple[str, str], Place]:
    places: dict[tuple[str, str], Place] = {}
    joined = [2**k for k in range(24) if 2**k <= (question.job.max_nodes or _USUAL_NODES)]
    nodes_of = {machine.name: (machine.nodes,) for machine in question.job.owned}
    terms = Terms.of(question.job, question.world.billing)
    for quote in quotes:
        offer, owned = quote.offer, quote.market == OWNED
        have = int(offer.accel_count or 0)
        session_s = min(offer.session_cap_s or inf, offer.weekly_quota_s or inf)
        patient = question.job.minimize == "cost" and not (
            question.deadline_s < inf or question.job.value_of_time_usd_per_h
        )
        goes_on = terms.checkpoints and session_s > terms.restart_s and not (patient and offer.price_usd_h == 0)
        limit_s = inf if goes_on else session_s
        alone = offer.inter_node_bytes_per_s is None or session_s < inf or quote.market == BOUGHT
        for nodes in nodes_of[offer.instance] if owned else (1,) if alone else joined:
            each = usable_devices(question.task.sides, have, nodes)
            if not each or (nodes > 1 and each < have and not owned):
                continue
            if not owned and not _may_hold(question.job, quote, nodes):
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
            place = places.setdefault((offer.device, name), Place(machine, variants, limit_s))
            place.prices.append((quote, tariff_of(quote, terms, nodes)))
    return places


def candidates(question: Question, quotes: Sequence[Quote]) -> dict[State, Block]:
    """Every block of the candidate tree by its state, bounded."""
    task, physics, model = question.task, question.world.physics, question.world.model
    places = _places(question, quotes)
    blocks: dict[State, Block] = {}
    for family in task.families:
        work = physics.least_work(task.case, family.dtype, model)
        own = _own_s(question, family, list(places.values()))
        for ((device_class, name), place), own_s in zip(places.items(), own, strict=True):
            count = place.machine.count
            steps_s = {device.id: physics.least_step_s(work, device, count) for device in place.variants}
            if isnan(steps_s[place.machine.device.id]):
                continue
            least_s = task.steps * min(s for s in steps_s.values() if not isnan(s))
            least_j = (
                task.steps
                * task.machines
                * float(np.fmin.reduce([physics.least_energy_j(work, device, count) for device in place.variants]))
            )
            need_bytes = physics.least_memory_bytes(task.case, family.dtype, count, model)
            state = (str(family), device_class, name)
            at_large = _bound(question, place, (least_s, least_j), need_bytes)
            within_s = max(least_s, own_s)
            within = _bound(question, place, (within_s, least_j), need_bytes)
            blocks[state] = Block(state, family, place, within_s, *within, at_large)
    return blocks


def _own_s(question: Question, family: Family, places: Sequence[Place]) -> list[float]:
    """Least time of the job at each place by the operators of a family; 0 where the estimator does not bound it."""
    bound = getattr(question.world.physics, "least_family_s", None)
    asked = [(i, replace(place.machine, device=d)) for i, place in enumerate(places) for d in place.variants]
    if not bound or not asked:
        return [0.0] * len(places)
    least_s, kept = [inf] * len(places), {}
    for _, machine in asked:
        if (machine.count, machine.nodes) not in kept:
            kept[machine.count, machine.nodes] = question.recipes(family, machine, KEEP)
    usable = [kept[machine.count, machine.nodes] for _, machine in asked]
    steps_s = bound(question.task.case, family, [machine for _, machine in asked], usable, question.world.model)
    for (index, _), step_s in zip(asked, steps_s.tolist(), strict=True):
        least_s[index] = min(least_s[index], 0.0 if isnan(step_s) else question.task.steps * step_s)
    return least_s


def _may_hold(job: Job, quote: Quote, nodes: int) -> bool:
    """Whether that many machines keep the job's own limit on nodes, its hourly cap and its quotas."""
    offer, machines = quote.offer, nodes * min(job.runs, job.parallel_runs)
    taxed = 1.0 if quote.market == BOUGHT else 1 + job.tax_frac
    cap_usd_per_h = inf if job.max_usd_per_h is None else job.max_usd_per_h
    if nodes > (job.max_nodes or nodes) or quote.usd_per_h * machines * taxed > cap_usd_per_h:
        return False
    for quota in job.quota:
        named = ((quota.provider.lower(), (offer.provider,)), (quota.region.lower(), (offer.region,)))
        held = all(not name or name in names for name, names in (*named, (quota.device, offer.devices)))
        if held and machines * (offer.accel_count or 0) > quota.max_count:
            return False
    return True


def _bound(question: Question, place: Place, least_: tuple[float, float], need_bytes: float) -> tuple[str, float]:
    """The limit that no recipe keeps and its bound; else the bound of the objective."""
    least_s, least_j = least_
    have_bytes = max(max(device.memory_bytes or 0.0, device.usable_bytes or 0.0) for device in place.variants)
    tariff, grams = place.row(question.world)
    time_s, outlay = float(np.min(tariff.wall_s(least_s))), float(np.min(tariff.outlay_usd(least_s)))
    if need_bytes > have_bytes:
        return "memory", need_bytes
    if time_s > min(question.deadline_s, place.limit_s):
        return "deadline", time_s
    if outlay > question.budget_usd:
        return "budget", outlay
    energy_j = least_j * tariff.time_factor
    values = question.value(tariff.cost_usd(least_s), tariff.wall_s(least_s), energy_j, energy_j / 3.6e6 * grams)
    return "", float(np.min(np.where(np.isnan(values), inf, values)))
