"""Lower bounds of what a job takes and costs on a site, before any recipe is chosen.

Each is admissible: no recipe on the site does better.

- time: the least work of a step at rates no kernel exceeds, shared perfectly by all devices,
  without communication (``estimate.bound``), times the number of steps;
- time in a family: the family's own operators as the estimator times them, divided over the devices
  in the best way and at the best size of micro-batch, and nothing else (``estimate.fleet_bound``);
- memory: weights, gradients and optimizer state, sharded as far as they can be;
- cost: the least time at the lowest price of the site;
- energy: the least work at the least energy the device can spend on it (``estimate.bound``).

Of an offer that may have several devices, the quickest and largest is the one that bounds.

Source: ``estimate.bound`` for what a device cannot undercut; the rest is arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import Device
from rigwise.market.tariff import Tariff
from rigwise.search.space import Space
from rigwise.search.types import REASONS, Array, Physics
from rigwise.units import HOUR_S, format_bytes, format_count, format_seconds, format_usd
from rigwise.workload.job import Job, Weights

#: Distance of the median from the 90th percentile, in standard deviations of a normal distribution.
Z90 = NormalDist().inv_cdf(0.9)
KWH_J = 3.6e6
#: What a free hour counts in the objective, so that of two ways that cost nothing the quicker wins.
FREE_USD_PER_H = 1e-15
#: What any hour counts where a search compares dollars, so that of two ways that cost the same the quicker wins.
TIE_USD_PER_H = 1e-13
#: Objectives that are not dollars to be spent.
_NO_DOLLARS = ("time", "outlay", "energy", "carbon")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is minimised under which limits.

    Attributes:
        objective: cost, time, energy, carbon or weights; outlay, to find the least budget that would do.
        confidence: Probability with which a plan must keep each limit and fit in memory.
        late: Minimise the quantile that keeps the limits with that confidence, not the median.
        weights: Dollars for what makes up a cost or weighted objective.
        known_energy, known_carbon: Leave out what these are not known of.
        deadline_s, budget_usd: Limits, infinite for none.
    """

    objective: str
    confidence: float
    late: bool = False
    weights: Weights = field(default_factory=Weights)
    known_energy: bool = False
    known_carbon: bool = False
    deadline_s: float = np.inf
    budget_usd: float = np.inf

    @property
    def z(self) -> float:
        """The confidence in standard deviations of a normal distribution."""
        return NormalDist().inv_cdf(self.confidence)

    def money_usd(self, tariff: Tariff, undisturbed_s: Any) -> Any:
        """The cost that the objective counts: what is spent, or what must be at hand."""
        return tariff.outlay_usd(undisturbed_s) if self.objective == "outlay" else tariff.cost_usd(undisturbed_s)

    def wall_and_money(self, tariff: Tariff, undisturbed_s: Any) -> tuple[Any, Any]:
        """The time, and the cost that the objective counts."""
        is_outlay = self.objective == "outlay"
        return tariff.wall_and_outlay(undisturbed_s) if is_outlay else tariff.wall_and_cost(undisturbed_s)

    def unknown(self, energy_j: Any, grams_per_kwh: Any) -> Any:
        """Whether a figure that the job compares is not known; numbers or arrays."""
        return (self.known_energy & np.isnan(energy_j)) | (self.known_carbon & np.isnan(grams_per_kwh))

    def value(self, cost_usd: Any, time_s: Any, energy_j: Any, grams_per_kwh: Any) -> Any:
        """The objective: seconds, joules, grams of carbon dioxide, or dollars; numbers or arrays.

        Of two ways that cost nothing the quicker has the smaller value.
        """
        if self.objective in ("time", "outlay"):
            return time_s if self.objective == "time" else cost_usd
        if self.objective == "energy":
            return energy_j
        if self.objective == "carbon":
            return energy_j / KWH_J * grams_per_kwh
        weights = self.weights
        value = weights.cost * cost_usd + weights.time_usd_per_h * time_s / HOUR_S
        if weights.energy_usd_per_kwh:
            value = value + weights.energy_usd_per_kwh * energy_j / KWH_J
        if weights.carbon_usd_per_t:
            value = value + weights.carbon_usd_per_t * energy_j / KWH_J * grams_per_kwh / 1e6
        return np.maximum(value, FREE_USD_PER_H * time_s / HOUR_S)

    def settled(self, value: Any, time_s: Any) -> Any:
        """A value as the search compares it: of two ways that cost the same the quicker has the smaller one."""
        return value if self.objective in _NO_DOLLARS else value + TIE_USD_PER_H * time_s / HOUR_S

    def untied(self, settled: float, cost_usd: float) -> float:
        """What was compared, without what settles ties: of a cost that is nothing else, the cost to the last digit."""
        is_cost = self.objective == "cost" and self.weights == Weights()
        return cost_usd if is_cost else settled

    @staticmethod
    def of(job: Job) -> Goal:
        """The goal of a job."""
        waiting = Weights(time_usd_per_h=job.value_of_time_usd_per_h)
        weights = job.weights or waiting
        carbon = job.minimize == "carbon" or weights.carbon_usd_per_t > 0
        return Goal(
            objective=job.minimize,
            confidence=job.confidence,
            weights=weights,
            known_energy=carbon or job.minimize == "energy" or weights.energy_usd_per_kwh > 0,
            known_carbon=carbon,
            deadline_s=np.inf if job.deadline_s is None else job.deadline_s,
            budget_usd=np.inf if job.budget_usd is None else job.budget_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """What no recipe undercuts, by number format; arrays over the sites of a space.

    Attributes:
        time_s: Of the whole job without interruptions; nan where the device lacks the format.
        memory_bytes: Of one device.
        energy_j: Of the whole job over all devices, without interruptions.
        capacity_bytes: Largest memory that a device of the site may have.
    """

    time_s: Mapping[str, Array]
    memory_bytes: Mapping[str, Array]
    energy_j: Mapping[str, Array]
    capacity_bytes: Array


def least(space: Space, physics: Physics) -> Least:
    """Bound every site of a space; equal devices in equal numbers are bounded once."""
    task, sites = space.task, space.sites
    time_s, memory_bytes, energy_j = {}, {}, {}
    devices = {(d.id, site.machine.count): d for site in sites for d in site.variants}
    row = {place: index for index, place in enumerate(devices)}
    own = np.array([row[site.machine.device.id, site.machine.count] for site in sites], dtype=np.int64)
    variants = np.array([row[d.id, site.machine.count] for site in sites for d in site.variants], dtype=np.int64)
    sizes = np.array([len(site.variants) for site in sites], dtype=np.int64)
    first = np.cumsum(sizes) - sizes
    for dtype in dict.fromkeys(family.dtype for family in task.families):
        work = physics.least_work(task.case, dtype, task.model)
        places = [(device, count) for (_, count), device in devices.items()]
        step_s, step_j = _least_steps(physics, work, places)
        held_bytes = {
            count: physics.least_memory_bytes(task.case, dtype, count, task.model)
            for count in dict.fromkeys(site.machine.count for site in sites)
        }
        quickest_s = task.steps * np.fmin.reduceat(step_s[variants], first)
        time_s[dtype] = np.where(np.isnan(step_s[own]), np.nan, quickest_s)
        memory_bytes[dtype] = np.array([held_bytes[site.machine.count] for site in sites])
        energy_j[dtype] = task.steps * task.machines * np.fmin.reduceat(step_j[variants], first)
    capacity = [max(max(d.memory_bytes or 0.0, d.usable_bytes or 0.0) for d in site.variants) for site in space.sites]
    return Least(time_s=time_s, memory_bytes=memory_bytes, energy_j=energy_j, capacity_bytes=np.array(capacity))


def _least_steps(physics: Physics, work: Any, places: Sequence[tuple[Device, int]]) -> tuple[Array, Array]:
    """Least time and energy of a step on so many of a device ``[places]``, all in one go where the estimator can."""
    if together := getattr(physics, "least_steps", None):
        time_s, energy_j = together(work, places)
        return np.asarray(time_s), np.asarray(energy_j)
    time_s = [physics.least_step_s(work, device, count) for device, count in places]
    return np.array(time_s), np.array([physics.least_energy_j(work, device, count) for device, count in places])


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteBounds:
    """What the bounds say of each site in one number format ``[sites]``.

    Attributes:
        candidate: Whether the devices can compute in the format at all.
        verdict: Index into ``REASONS`` of the limit that no leaf keeps, -1 if one may.
        number: The bound that says so; of the objective where the verdict is -1.
    """

    candidate: NDArray[np.bool_]
    verdict: NDArray[np.int64]
    number: Array


def judge(space: Space, floor: Least, goal: Goal, dtype: str, least_s: Array | float = np.nan) -> SiteBounds:
    """Hold the bounds of every site against the limits of a goal.

    Args:
        space: The sites.
        floor: What no recipe undercuts.
        goal: The limits.
        dtype: Number format.
        least_s: Further bounds of the time of the whole job in a family ``[sites]``, nan where there is none.
    """
    memory, tariff = floor.memory_bytes[dtype], space.tariff
    at_price_s, energy_j = _at_prices(space, floor, dtype, least_s)
    times_s, dear = tariff.wall_and_outlay(at_price_s)
    values = goal.value(goal.money_usd(tariff, at_price_s), times_s, energy_j, space.grams_per_kwh)
    values = goal.settled(values, times_s)
    values = np.where(np.isnan(values) | goal.unknown(energy_j, space.grams_per_kwh), np.inf, values)
    value, time_s, outlay = (np.minimum.reduceat(row, space.first) for row in (values, times_s, dear))
    limit_s = np.minimum(goal.deadline_s, [site.limit_s for site in space.sites])
    conditions = [memory > floor.capacity_bytes, time_s > limit_s, outlay > goal.budget_usd]
    return SiteBounds(
        candidate=~np.isnan(floor.time_s[dtype]),
        verdict=np.select(conditions, [0, 1, 2], -1),
        number=np.select(conditions, [memory, time_s, outlay], value),
    )


def _at_prices(space: Space, floor: Least, dtype: str, least_s: Array | float) -> tuple[Array, Array]:
    """Least undisturbed time, and least energy with interruptions ``[prices]``."""
    sizes = np.diff(space.first, append=len(space.grams_per_kwh))
    energy_j = np.repeat(floor.energy_j[dtype], sizes) * space.tariff.time_factor
    return np.repeat(np.fmax(floor.time_s[dtype], least_s), sizes), energy_j


def site_minima(space: Space, floor: Least, dtype: str, least_s: Array | float = np.nan) -> tuple[Array, Array, Array]:
    """Least cost, time and energy of each site, each at the price where it is least ``[sites]``; as ``judge``."""
    at_price_s, energy_j = _at_prices(space, floor, dtype, least_s)
    wall_s, spent_usd = space.tariff.wall_and_cost(at_price_s)
    cost_usd, time_s, least_j = (np.minimum.reduceat(row, space.first) for row in (spent_usd, wall_s, energy_j))
    return cost_usd, time_s, least_j


def reasons(space: Space, goal: Goal, best: float) -> dict[str, str]:
    """What each verdict of a certificate means, with its figures."""
    shown = format_value(goal.objective, best)
    deadline = "" if goal.deadline_s == np.inf else f"{format_seconds(goal.deadline_s)} or "
    budget = "any budget" if goal.budget_usd == np.inf else format_usd(goal.budget_usd)
    words = (
        "weights, gradients and optimizer state exceed the device, however they are sharded",
        f"at the highest rates of the devices the {space.task.steps:,} steps exceed {deadline}the longest session",
        f"the least time at the lowest price exceeds {budget}",
        f"at the highest rates and the lowest price the {goal.objective} is not below {shown}",
    )
    return dict(zip(REASONS, words, strict=True))


def format_value(objective: str, value: float) -> str:
    """A value of an objective with its unit.

    >>> format_value("cost", 2.0), format_value("time", 60.0), format_value("carbon", 500.0)
    ('$2.00', '1.00 min', '500 g CO2')
    """
    if objective == "time":
        return format_seconds(value)
    if objective == "energy":
        return format_count(value, "J")
    return format_count(value, "g") + " CO2" if objective == "carbon" else format_usd(value)


def why_nowhere(space: Space, floor: Least) -> str:
    """Why a job without deadline and budget has no plan at all."""
    need_bytes = np.min(list(floor.memory_bytes.values()), axis=0)
    if (need_bytes > floor.capacity_bytes).all():
        return (
            f"weights, gradients and optimizer state need {format_bytes(float(need_bytes.min()))} on each device at"
            f" least, the largest has {format_bytes(float(floor.capacity_bytes.max()))}"
        )
    limit_s = np.array([site.limit_s for site in space.sites])
    time_s = np.nanmin(list(floor.time_s.values()), axis=0)
    if (time_s > limit_s).all():
        longest = format_seconds(float(limit_s.max()))
        return f"it takes {format_seconds(float(time_s.min()))} at least, the longest session {longest}"
    return "activations and what stands beside them do not fit, or the session is too short"
