"""Why the first plan, and why on as many devices and nodes: the best of other sizes beside it, each proven."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rigwise.search.sensitivity import Again, Answer
from rigwise.search.types import Plan

#: Sizes in the order in which they are told.
ONE, NODE, NODES = "one device", "several devices in one node", "several nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """The best of one size.

    Attributes:
        name: ``one device``, ``several devices in one node`` or ``several nodes``.
        offered: Machines of the size that could compute the job if they were large and quick enough.
        plan: The best within the limits, None if there is none.
        anyhow: The best if neither deadline nor budget mattered, None if nothing holds the job.
        least_bytes: What each device must hold at least, of the fewest devices of the size.
        largest_bytes: Memory of the largest device among them.
    """

    name: str
    offered: int
    plan: Plan | None
    anyhow: Plan | None
    least_bytes: float
    largest_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The first plan, what comes next, and other sizes.

    Attributes:
        first: The answer.
        others: The next plans, at most one for each instance.
        sizes: The best of each size.
        alone_s: Median time of the work on one device of the first plan's, None if it does not fit or is one already.
        undisturbed_s: Median time of the work in the first plan, without startup and interruptions.
    """

    first: Plan
    others: tuple[Plan, ...]
    sizes: tuple[Size, ...]
    alone_s: float | None
    undisturbed_s: float

    @property
    def efficiency(self) -> float | None:
        """What several devices get done over as many times what one does, None where one is not known."""
        return None if self.alone_s is None else self.alone_s / (self.first.count * self.undisturbed_s)


def choice(again: Again) -> Choice:
    """Why the answer to a job is what it is."""
    first = again.plan(again.first)
    site = again.space.sites[again.first.leaf.site]
    median_s, _ = again.undisturbed_s(again.first.leaf)
    return Choice(
        first=replace(first, rank=1),
        others=_others(again),
        sizes=tuple(_size(again, name) for name in (ONE, NODE, NODES)),
        alone_s=again.alone_s(site.machine.device) if site.machine.count > 1 else None,
        undisturbed_s=median_s,
    )


def _others(again: Again) -> tuple[Plan, ...]:
    plans: dict[tuple[str, str], Plan] = {}
    for rank, answer in enumerate(again.ranking(again.job.top), 1):
        plan = replace(again.plan(answer), rank=rank)
        plans.setdefault((plan.provider, plan.instance), plan)
    return tuple(plans.values())[1:]


def _size(again: Again, name: str) -> Size:
    machines = [site.machine for site in again.space.sites]
    among = np.array([_size_of(machine.count, machine.nodes) == name for machine in machines], dtype=np.bool_)
    inside = [site for site, counts in zip(again.space.sites, among, strict=True) if counts]
    largest = max((device.memory_bytes or 0.0 for site in inside for device in site.variants), default=0.0)
    fewest = min((site.machine.count for site in inside), default=1)
    anyhow = again.solve(replace(again.goal, deadline_s=np.inf, budget_usd=np.inf), among)
    within = again.solve(again.goal, among)

    def plan(answer: Answer | None) -> Plan | None:
        return None if answer is None else again.plan(answer)

    return Size(
        name=name,
        offered=len(inside),
        plan=plan(within),
        anyhow=plan(anyhow),
        least_bytes=again.least_bytes(fewest),
        largest_bytes=largest,
    )


def _size_of(count: int, nodes: int) -> str:
    return NODES if nodes > 1 else NODE if count > 1 else ONE
