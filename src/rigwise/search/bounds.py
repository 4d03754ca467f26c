"""Lower bounds of what a job takes and costs on a site, before any recipe is chosen.

Each is admissible: no recipe on the site does better.

- time: the least work of a step at rates no kernel exceeds, shared perfectly by all devices,
  without communication (``estimate.bound``), times the number of steps;
- memory: weights, gradients and optimizer state, sharded as far as they can be;
- cost: the least time at the lowest price of the site;
- energy: nothing is known that it could not undercut, so 0.

Of an offer that may have several devices, the quickest and largest is the one that bounds.

Source: ``estimate.bound`` for what a device cannot undercut; the rest is arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rigwise.market.money import rental_usd
from rigwise.search.space import Space
from rigwise.search.types import REASONS, Array, Physics
from rigwise.units import format_bytes, format_count, format_seconds, format_usd
from rigwise.workload.job import Job

#: Distance of the median from the 90th percentile, in standard deviations of a normal distribution.
Z90 = NormalDist().inv_cdf(0.9)
#: What a free hour counts in the objective, so that of two ways that cost nothing the quicker wins.
FREE_USD_PER_H = 1e-15


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """What is minimised under which limits.

    Attributes:
        objective: cost, time or energy.
        confidence: Probability with which a plan must keep each limit and fit in memory.
        late: Minimise the quantile that keeps the limits with that confidence, not the median.
        known_energy: Leave out devices of whose energy nothing is known.
        deadline_s, budget_usd: Limits, infinite for none.
    """

    objective: str
    confidence: float
    late: bool = False
    known_energy: bool = False
    deadline_s: float = np.inf
    budget_usd: float = np.inf

    @property
    def z(self) -> float:
        """The confidence in standard deviations of a normal distribution."""
        return NormalDist().inv_cdf(self.confidence)

    @staticmethod
    def of(job: Job) -> Goal:
        """The goal of a job."""
        return Goal(
            objective=job.minimize,
            confidence=job.confidence,
            known_energy=job.minimize == "energy",
            deadline_s=np.inf if job.deadline_s is None else job.deadline_s,
            budget_usd=np.inf if job.budget_usd is None else job.budget_usd,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Least:
    """What no recipe undercuts, by number format; arrays over the sites of a space.

    Attributes:
        time_s: Of the whole job without interruptions; nan where the device lacks the format.
        memory_bytes: Of one device.
        capacity_bytes: Largest memory that a device of the site may have.
    """

    time_s: Mapping[str, Array]
    memory_bytes: Mapping[str, Array]
    capacity_bytes: Array


def least(space: Space, physics: Physics) -> Least:
    """Bound every site of a space; equal devices in equal numbers are bounded once."""
    task = space.task
    time_s, memory_bytes = {}, {}
    for dtype in dict.fromkeys(family.dtype for family in task.families):
        work = physics.least_work(task.case, dtype, task.model)
        step_s: dict[tuple[str, int], float] = {}
        held_bytes: dict[int, float] = {}
        for site in space.sites:
            count = site.machine.count
            for device in site.variants:
                if (device.id, count) not in step_s:
                    step_s[device.id, count] = physics.least_step_s(work, device, count)
            if count not in held_bytes:
                held_bytes[count] = physics.least_memory_bytes(task.case, dtype, count, task.model)
        time_s[dtype] = np.array(
            [
                np.nan
                if np.isnan(step_s[site.machine.device.id, site.machine.count])
                else task.steps * np.nanmin([step_s[device.id, site.machine.count] for device in site.variants])
                for site in space.sites
            ]
        )
        memory_bytes[dtype] = np.array([held_bytes[site.machine.count] for site in space.sites])
    capacity = [max(max(d.memory_bytes or 0.0, d.usable_bytes or 0.0) for d in site.variants) for site in space.sites]
    return Least(time_s=time_s, memory_bytes=memory_bytes, capacity_bytes=np.array(capacity))


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


def judge(space: Space, floor: Least, goal: Goal, dtype: str) -> SiteBounds:
    """Hold the bounds of every site against the limits of a goal."""
    factor = np.array([site.time_factor.min() for site in space.sites])
    hourly = np.array([(site.usd_per_h * site.time_factor).min() for site in space.sites])
    limit_s = np.minimum(goal.deadline_s, [site.limit_s for site in space.sites])
    undisturbed_s, memory = floor.time_s[dtype], floor.memory_bytes[dtype]
    time_s, cost = factor * undisturbed_s, rental_usd(hourly, undisturbed_s)
    ranked_cost = rental_usd(np.maximum(hourly, FREE_USD_PER_H), undisturbed_s)
    value = {"time": time_s, "cost": ranked_cost, "energy": np.zeros_like(cost)}[goal.objective]
    conditions = [memory > floor.capacity_bytes, time_s > limit_s, cost > goal.budget_usd]
    return SiteBounds(
        candidate=~np.isnan(undisturbed_s),
        verdict=np.select(conditions, [0, 1, 2], -1),
        number=np.select(conditions, [memory, time_s, cost], value),
    )


def reasons(space: Space, goal: Goal, best: float) -> dict[str, str]:
    """What each verdict of a certificate means, with its figures."""
    shown = {"cost": format_usd(best), "time": format_seconds(best)}.get(goal.objective, format_count(best, "J"))
    deadline = "" if goal.deadline_s == np.inf else f"{format_seconds(goal.deadline_s)} or "
    budget = "any budget" if goal.budget_usd == np.inf else format_usd(goal.budget_usd)
    words = (
        "weights, gradients and optimizer state exceed the device, however they are sharded",
        f"at the highest rates of the devices the {space.task.steps:,} steps exceed {deadline}the longest session",
        f"the least time at the lowest price exceeds {budget}",
        f"at the highest rates and the lowest price the {goal.objective} is not below {shown}",
    )
    return dict(zip(REASONS, words, strict=True))


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
