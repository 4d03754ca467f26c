"""The tree of choices of a certificate of jobs that share machines, checked with code of its own.

Each part of the cover is bounded again with the worths of jobs that the certificate names, which may be any, or the
prices, which may be any that are not negative. A choice that stands nowhere must be one that no order of jobs can keep
the deadlines of, or one of several that differ only in which of equal machines or jobs is which.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import floor, inf, isclose, isfinite
from typing import NamedTuple

from rigwise.search.shared_tables import Gains, TooManySetsError
from rigwise.search.shared_types import RENT, Multipliers, Option, SharedCertificate, SharedCover, Work

_SLACK = 1e-9
_FINEST = 100_000
State = tuple[int, ...]


def check_tree(certificate: SharedCertificate) -> Iterator[str]:
    """What is wrong with the cover, the bound and the gap."""
    if sorted(certificate.order) != list(range(len(certificate.works))) or not _are_prices(certificate):
        yield "the order or the multipliers mean nothing"
        return
    try:
        tree = _Tree(certificate)
    except TooManySetsError:
        yield "a machine can do more sets of jobs than can be checked"
        return
    leaves = {part.state: part for part in certificate.cover}
    inner = {state[:depth] for state in leaves for depth in range(len(state))}
    if len(leaves) < len(certificate.cover) or inner & leaves.keys():
        yield "a choice is covered twice"
    if not leaves:
        yield "nothing is covered"
        return
    for state in inner:
        yield from _missing(tree, state, inner | leaves.keys())
    for part in leaves.values():
        yield from _wrong_part(certificate, tree, part, (inner, leaves))
    numbers = [part.number for part in certificate.cover if part.verdict != "dominated"]
    lower_bound = min([certificate.best, *numbers])
    gap = certificate.best / lower_bound - 1 if lower_bound > 0 else float(certificate.best > 0)
    if not (_same(certificate.lower_bound, lower_bound) and _same(1 + certificate.gap_frac, 1 + gap)):
        yield f"the lower bound is {lower_bound:g}, the gap {gap:g}"


def _are_prices(certificate: SharedCertificate) -> bool:
    jobs, machines, deadlines = len(certificate.works), _machines(certificate), len(_deadlines(certificate))
    if certificate.worth or not any(work.wait_per_s for work in certificate.works):
        known = len(certificate.worth) == jobs and all(map(isfinite, certificate.worth))
        return known and 1 <= certificate.grid <= _FINEST
    if len(certificate.multipliers) != jobs:
        return False
    for depth, each in enumerate(certificate.multipliers):
        rows = [*((row, deadlines) for row in each.time), *((row, jobs - depth) for row in each.place)]
        if len(each.time) != machines or len(each.place) != machines:
            return False
        if any(len(row) != length or not all(isfinite(x) and x >= 0 for x in row) for row, length in rows):
            return False
    return True


def _machines(certificate: SharedCertificate) -> int:
    return max([1, *(option.machine + 1 for work in certificate.works for option in work.options)])


def _deadlines(certificate: SharedCertificate) -> list[float]:
    return sorted({work.deadline_s for work in certificate.works if work.deadline_s is not None})


def _same(one: float, other: float) -> bool:
    return isclose(one, other, rel_tol=_SLACK, abs_tol=_SLACK)


class _Placed(NamedTuple):
    """A job with the option that was chosen for it."""

    work: Work
    option: Option


class _Tree:
    """Jobs in the order of the choices, and bounds of states."""

    def __init__(self, certificate: SharedCertificate) -> None:
        self.works = [certificate.works[i] for i in certificate.order]
        self.multipliers, self.ends_s = certificate.multipliers, _deadlines(certificate)
        self.machines = _machines(certificate)
        self.waits = any(work.wait_per_s for work in self.works)
        self._bounds: dict[State, float] = {}
        self._sets = Gains(self.works, certificate.worth, self.machines) if self.waits and certificate.worth else None
        prices = self.waits and self._sets is None
        self._beside = [self._prices(depth) for depth in range(len(self.works))] if prices else []
        self._gains = None if self.waits else _Gains(self.works, self.ends_s, certificate)

    def placed(self, state: State) -> list[_Placed]:
        """The jobs that a state places."""
        return [_Placed(work, work.options[i]) for work, i in zip(self.works, state, strict=False)]

    def bound(self, state: State) -> float:
        """What nothing below a state undercuts, by itself or by a state above it; infinite if nothing is there."""
        if state not in self._bounds:
            above = self.bound(state[:-1]) if state else -inf
            self._bounds[state] = max(above, self._bound(state))
        return self._bounds[state]

    def least(self, placed: Sequence[_Placed]) -> float:
        """What placed jobs add up to at least: of each two on a machine one waits for the other."""
        total = sum(one.option.number for one in placed)
        for i, one in enumerate(placed if self.waits else ()):
            total += sum(_pair(one, other) for other in placed[:i])
        return total

    def held_s(self, placed: Sequence[_Placed]) -> list[list[float]]:
        """For how long each machine is held by jobs with each deadline or an earlier one."""
        held = [[0.0] * len(self.ends_s) for _ in range(self.machines)]
        for work, option in placed:
            if option.machine == RENT or work.deadline_s is None:
                continue
            for index, end_s in enumerate(self.ends_s):
                if work.deadline_s <= end_s:
                    held[option.machine][index] += option.late_s
        return held

    def _bound(self, state: State) -> float:
        if self._sets is not None:
            return self._sets.bound(state)
        placed = self.placed(state)
        held = self.held_s(placed)
        free = [[e - h for e, h in zip(self.ends_s, row, strict=True)] for row in held]
        if any(x < -_SLACK * end for row in free for x, end in zip(row, self.ends_s, strict=True)):
            return inf
        total = self.least(placed)
        if len(state) == len(self.works):
            return total
        if self._gains is not None:
            ends = [inf if work.deadline_s is None else work.deadline_s for work in self.works]
            return (
                total + self._gains.rest(len(state), _held_by(placed, self.machines)) if ends == sorted(ends) else -inf
            )
        prices, room = self.multipliers[len(state)], [self._room_s(row) for row in free]
        total -= sum(p * x for row, gaps in zip(prices.time, free, strict=True) for p, x in zip(row, gaps, strict=True))
        total -= sum(map(sum, prices.place))
        on = [[one for one in placed if one.option.machine == m] for m in range(self.machines)]
        beside = self._beside[len(state)]
        for place in range(len(state), len(self.works)):
            total += self._cheapest(self.works[place], beside[place], room, on)
        return total

    def _cheapest(
        self, work: Work, beside: Sequence[float], room: Sequence[Sequence[float]], on: Sequence[list[_Placed]]
    ) -> float:
        """The least that any option of an open job adds."""
        best, end = inf, self._index(work)
        for option, price in zip(work.options, beside, strict=True):
            adds = option.number + price
            if option.machine != RENT:
                if option.late_s > room[option.machine][end]:
                    continue
                if self.waits:
                    adds += sum(_pair(_Placed(work, option), other) for other in on[option.machine])
            best = min(best, adds)
        return best

    def _index(self, work: Work) -> int:
        return len(self.ends_s) if work.deadline_s is None else self.ends_s.index(work.deadline_s)

    def _room_s(self, free: Sequence[float]) -> list[float]:
        """By deadline of a job the longest that it may take beside the placed ones."""
        room = [inf]
        for x, end_s in zip(reversed(free), reversed(self.ends_s), strict=True):
            room.append(min(room[-1], x + 2 * _SLACK * end_s))
        return room[::-1]

    def _prices(self, depth: int) -> list[list[float]]:
        """What each option of each job pays for the time and the place that it takes."""
        prices = self.multipliers[depth]
        weights = sorted(work.wait_per_s for work in self.works[depth:])
        behind = [sum(weights[:k]) for k in range(len(weights))]
        return [[self._price(work, option, prices, behind) for option in work.options] for work in self.works]

    def _price(self, work: Work, option: Option, prices: Multipliers, behind: Sequence[float]) -> float:
        if option.machine == RENT:
            return 0.0
        time, place = prices.time[option.machine], prices.place
        queued = min(option.run_s * b + p for b, p in zip(behind, place[option.machine], strict=True))
        return option.late_s * sum(time[self._index(work) :]) + queued


def _pair(one: _Placed, other: _Placed) -> float:
    """What two jobs wait for each other at least."""
    if one.option.machine != other.option.machine or one.option.machine == RENT:
        return 0.0
    return min(one.work.wait_per_s * other.option.run_s, other.work.wait_per_s * one.option.run_s)


class _Gains:
    """What open jobs add at least if every machine takes those that are worth more than they cost it.

    Times are rounded down to a grid, those of jobs and those that machines are held, and only then a deadline: so
    nothing that is in time is left out. Jobs stand in the order of their deadlines.
    """

    def __init__(self, works: Sequence[Work], ends_s: Sequence[float], certificate: SharedCertificate) -> None:
        self._worth, self._works, self._cells = certificate.worth, works, certificate.grid
        self._step_s = ends_s[-1] * (1 + 2 * _SLACK) / certificate.grid if ends_s else 1.0
        machines = range(_machines(certificate))
        self._by_machine = [self._of_machine(machine) for machine in machines]
        rented = [
            min([0.0, *(o.number - worth for o in work.options if o.machine == RENT)])
            for work, worth in zip(works, self._worth, strict=True)
        ]
        self._alone = [worth + gain for worth, gain in zip(self._worth, rented, strict=True)]

    def rest(self, depth: int, held_s: Sequence[float]) -> float:
        """Of the jobs from a place of the order on, if the machines are held so long."""
        total = sum(self._alone[depth:])
        for gains, time_s in zip(self._by_machine, held_s, strict=True):
            total += gains[depth][min(self._cell(time_s), self._cells)]
        return total

    def _cell(self, time_s: float) -> int:
        return floor(time_s * (1 + _SLACK) / self._step_s)

    def _of_machine(self, machine: int) -> list[list[float]]:
        """By place of the order and time held, the least sum of costs less worths of jobs that are in time."""
        table = [[0.0] * (self._cells + 1)]
        for work, worth in zip(reversed(self._works), reversed(self._worth), strict=True):
            after = table[-1]
            now = list(after)
            for option in work.options:
                gain = option.number - worth
                if option.machine != machine or gain >= 0:
                    continue
                late = floor(option.late_s / self._step_s)
                if work.deadline_s is None:
                    now = [min(x, gain + y) for x, y in zip(now, after, strict=True)]
                    continue
                for cell in range(self._cell(work.deadline_s) - late + 1):
                    now[cell] = min(now[cell], gain + after[cell + late])
            table.append(now)
        return table[::-1]


# Completeness


def _missing(tree: _Tree, state: State, known: set[State]) -> Iterator[str]:
    """Choices below an inner state that should be there, or should not."""
    options = tree.works[len(state)].options
    for index in range(len(options)):
        child = (*state, index)
        if child not in known and not _is_empty(tree, child):
            yield f"the choice {child} is not covered"


def _is_empty(tree: _Tree, state: State) -> bool:
    """Whether no complete choice below a state keeps all deadlines, but for those that others stand for."""
    if tree.bound(state) == inf or _stands_for_another(tree, state):
        return True
    if len(state) == len(tree.works):
        return False
    return all(_is_empty(tree, (*state, index)) for index in range(len(tree.works[len(state)].options)))


def _stands_for_another(tree: _Tree, child: State) -> bool:
    """Whether equal machines or jobs make a choice one of several equal ones, of which another is looked at.

    Of all choices that differ only in which is which the one remains that comes first in the order of the indices.
    """
    if not tree.waits:
        return False
    depth = len(child) - 1
    if depth and tree.works[depth] == tree.works[depth - 1] and child[-1] < child[-2]:
        return True
    machine = tree.works[depth].options[child[-1]].machine
    used = {one.option.machine for one in tree.placed(child[:-1])}
    return (
        machine != RENT
        and machine not in used
        and any(other not in used and _alike(tree, machine, other) for other in range(machine))
    )


def _alike(tree: _Tree, one: int, other: int) -> bool:
    def of(machine: int, work: Work) -> list[tuple[float, float, float]]:
        return [(o.number, o.run_s, o.late_s) for o in work.options if o.machine == machine]

    return all(of(one, work) == of(other, work) for work in tree.works)


# Parts of the cover


def _wrong_part(
    certificate: SharedCertificate,
    tree: _Tree,
    part: SharedCover,
    known: tuple[set[State], Mapping[State, SharedCover]],
) -> Iterator[str]:
    if len(part.state) > len(tree.works) or any(
        not 0 <= i < len(work.options) for i, work in zip(part.state, tree.works, strict=False)
    ):
        yield f"{part.state} is no choice"
        return
    if part.verdict == "dominated":
        if not _is_dominated(tree, part, known):
            yield f"the choice {part.state} is not dominated by {part.by}"
        return
    if part.verdict == "estimated":
        if len(part.state) != len(tree.works) or part.number > _best(tree, part) * (1 + _SLACK) + _SLACK:
            yield f"the choice {part.state} has a lower number than {part.number:g}"
    elif part.verdict != "bound" or part.number > tree.bound(part.state) + _SLACK * max(1.0, abs(part.number)):
        yield f"the choice {part.state} is bounded by {tree.bound(part.state):g}, not by {part.number:g}"
    ease = 1 + certificate.gap_frac
    if not certificate.stopped and part.number * ease < certificate.best * (1 - _SLACK) - _SLACK:
        yield f"the choice {part.state} may have {part.number:g}, the best is {certificate.best:g}"


def _is_dominated(tree: _Tree, part: SharedCover, known: tuple[set[State], Mapping[State, SharedCover]]) -> bool:
    """Whether another state of the tree, which is not dominated itself, holds no machine longer and adds up to no more.

    That it goes on in the same way needs that jobs that follow have no earlier deadline, and that none waits.
    """
    inner, leaves = known
    ends = [inf if work.deadline_s is None else work.deadline_s for work in tree.works]
    by_leaf = part.by in leaves and leaves[part.by].verdict != "dominated"
    if tree.waits or ends != sorted(ends) or len(part.by) != len(part.state) or not (part.by in inner or by_leaf):
        return False
    mine, its = tree.placed(part.state), tree.placed(part.by)
    held = zip(_held(tree, part.by), _held(tree, part.state), strict=True)
    more, less = tree.least(mine), tree.least(its)
    return all(a <= b * (1 + _SLACK) + _SLACK for a, b in held) and less <= more + _SLACK * max(1.0, abs(more))


def _held_by(placed: Sequence[_Placed], machines: int) -> list[float]:
    held = [0.0] * machines
    for _, option in placed:
        if option.machine != RENT:
            held[option.machine] += option.late_s
    return held


def _held(tree: _Tree, state: State) -> list[float]:
    """How long each machine is held; of machines that are equal the shorter times first."""
    held, kinds = _held_by(tree.placed(state), tree.machines), list[list[int]]()
    for machine in range(tree.machines):
        alike = next((kind for kind in kinds if _alike(tree, machine, kind[0])), None)
        if alike is None:
            kinds.append([machine])
        else:
            alike.append(machine)
    return [x for kind in kinds for x in sorted(held[m] for m in kind)]


def _best(tree: _Tree, part: SharedCover) -> float:
    """The least number of a complete choice, in the best order; orders are tried only if those of two do not decide."""
    placed = tree.placed(part.state)
    least = tree.least(placed)
    if not tree.waits or least >= part.number - _SLACK * max(1.0, abs(part.number)):
        return least
    total = sum(one.option.number for one in placed)
    for machine in range(tree.machines):
        total += _waiting([one for one in placed if one.option.machine == machine])
    return total


def _waiting(queue: Sequence[_Placed]) -> float:
    """What waiting adds in the best order that keeps all deadlines: all sets of jobs that may come first."""
    first: dict[int, float] = {0: 0.0}
    for _ in queue:
        longer: dict[int, float] = {}
        for members, number in first.items():
            inside = [one.option for i, one in enumerate(queue) if members >> i & 1]
            run_s, late_s = sum(o.run_s for o in inside), sum(o.late_s for o in inside)
            for i, one in enumerate(queue):
                end_s = late_s + one.option.late_s
                if members >> i & 1 or (one.work.deadline_s or inf) * (1 + _SLACK) < end_s:
                    continue
                total = number + one.work.wait_per_s * run_s
                longer[members | 1 << i] = min(total, longer.get(members | 1 << i, inf))
        first = longer
    return min(first.values(), default=inf)
