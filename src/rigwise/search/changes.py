"""The limits, and the worth of time, at which another plan is the best, and all changes together.

Free sessions count over several days only for a job that says what time is worth to it, so a job that does not is
solved a second time as one with a deadline some day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.search.bounds import Goal
from rigwise.search.problem import Leaf
from rigwise.search.sensitivity import (
    BUDGET,
    DEADLINE,
    TIME_WORTH,
    Again,
    Answer,
    Change,
    price_changes,
)
from rigwise.search.types import Plan
from rigwise.units import HOUR_S

#: Just inside a limit.
_LESS = 1.0 - 1e-9
#: A deadline that binds nothing; the latest that a job may have.
_SOME_DAY_S = 1e11
#: What an answer keeps of a limit, and the limit's name in a goal.
_LIMITS = {DEADLINE: ("late_s", "deadline_s"), BUDGET: ("late_usd", "budget_usd")}


def what_would_change(again: Again, most: int = 3) -> tuple[Change, ...]:
    """Everything that would change the answer to a job.

    Args:
        again: The job.
        most: Other plans of which to tell the price at which they would be the best.
    """
    first, pressed = again.plan(again.first), _pressed(again)
    if _where(pressed.plan(pressed.first)) != _where(first):
        of_time = [*_deadlines_of_free_sessions(pressed, first)]
    else:
        of_time = [*limit_changes(pressed, DEADLINE), *time_worth(pressed)]
    changes = [*price_changes(again, most), *of_time, *limit_changes(again, BUDGET)]
    order = {DEADLINE: 1, BUDGET: 2, TIME_WORTH: 3}
    return tuple(sorted(changes, key=lambda change: order.get(change.what, 0)))


def _pressed(again: Again) -> Again:
    """The job as one with a deadline some day; itself where that lets no free session in."""
    job, offers = again.job, again.world.offers
    is_patient = job.minimize == "cost" and job.deadline_s is None and not job.value_of_time_usd_per_h
    if not (is_patient and any(o.price_usd_h == 0 and (o.session_cap_s or o.weekly_quota_s) for o in offers)):
        return again
    found = Again(replace(job, deadline_s=_SOME_DAY_S), again.world)
    found.goal = replace(found.goal, deadline_s=np.inf)
    return found


def _deadlines_of_free_sessions(pressed: Again, first: Plan) -> Iterator[Change]:
    """From which deadline on free sessions are better than the first plan, and below which it is too slow itself."""
    found: Answer | None = pressed.first
    at, best = pressed.first.late_s, pressed.first
    while found is not None and _where(pressed.plan(found)) != _where(first):
        at, best = found.late_s, found
        found = pressed.solve(_with(pressed.goal, "deadline_s", at * _LESS))
    yield Change(what=DEADLINE, side="above", now=None, at=at, plan=pressed.plan(best))
    if found is not None:
        yield from _tighter(pressed, found, DEADLINE, None)


def _where(plan: Plan) -> tuple[Any, ...]:
    """What tells one machine at one price from another."""
    return (plan.provider, plan.instance, plan.region, plan.market, plan.device, plan.count, plan.nodes)


def limit_changes(again: Again, what: str) -> Iterator[Change]:
    """The deadlines, or the budgets, at which another plan becomes the best."""
    kept, limit = _LIMITS[what]
    now = getattr(again.goal, limit)
    given = None if now == np.inf else now
    yield from _tighter(again, again.first, what, given)
    if given is not None:
        yield from _looser(again, what, kept, limit)


def _tighter(again: Again, first: Answer, what: str, given: float | None) -> Iterator[Change]:
    """The limit below which a machine is not the best any more."""
    kept, limit = _LIMITS[what]
    inside: Answer | None = first
    at = getattr(first, kept)
    while inside is not None and inside.is_same(first) and at > 0:
        at = getattr(inside, kept)
        inside = again.solve(_with(again.goal, limit, at * _LESS))
    if at > 0:
        yield Change(what=what, side="below", now=given, at=at, plan=None if inside is None else again.plan(inside))


def _with(goal: Goal, limit: str, value: float) -> Goal:
    changed: dict[str, Any] = {limit: value}
    return replace(goal, **changed)


def _looser(again: Again, what: str, kept: str, limit: str) -> Iterator[Change]:
    """The limit above which the answer changes: the next step of the staircase of ever looser limits."""
    above, wider = None, np.inf
    while True:
        found = again.solve(_with(again.goal, limit, wider))
        if found is None or found.is_same(again.first):
            break
        above, wider = found, getattr(found, kept) * _LESS
    if above is not None:
        now, at = getattr(again.goal, limit), getattr(above, kept)
        yield Change(what=what, side="above", now=now, at=at, plan=again.plan(above))


def time_worth(again: Again) -> Iterator[Change]:
    """What an hour of waiting must be worth for a quicker plan to be the best."""
    goal, first = again.goal, again.first
    if goal.objective != "cost":
        return
    now = goal.weights.time_usd_per_h
    found = again.solve(replace(goal, objective="time"))
    at, better = np.inf, None
    while found is not None and found.leaf.time_s < first.leaf.time_s * _LESS:
        dearer = _worth(again, found.leaf) - first.value
        level = now + dearer * HOUR_S / (first.leaf.time_s - found.leaf.time_s)
        if level >= at:
            break
        at, better = level, found
        found = again.solve(replace(goal, weights=replace(goal.weights, time_usd_per_h=at * _LESS)))
    if better is not None:
        yield Change(what=TIME_WORTH, side="above", now=now, at=float(at), plan=again.plan(better))


def _worth(again: Again, leaf: Leaf) -> float:
    """The objective of a leaf for the job as it is."""
    price = int((again.space.sites[leaf.site].quote == leaf.quote).argmax())
    grams = again.space.grams_of(leaf.site)[price]
    return float(again.goal.value(leaf.cost_usd, leaf.time_s, leaf.energy_j, grams))
