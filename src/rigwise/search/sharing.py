"""Jobs that share machines, as A* sees them: which job on which machine, in which order, and which are rented.

A state holds a choice for each of the first jobs of a fixed order. A machine has the time until a deadline once for
all jobs with that deadline or an earlier one.

Where waiting costs nothing, that is all that deadlines ask (earliest deadline first). The earliest deadline is chosen
for first and ``queues`` bounds the rest. Of two states that hold the machines for the same jobs only the time held and
the number count: one that is nowhere better is dropped.

Where waiting costs something, jobs on one machine make each other wait, each two at least for the smaller of two
products. The longest job is chosen for first. A job that is still open costs at least what its cheapest option does,
with what it and each placed job make each other wait, if the machine has time for it; plus a price for the time of the
machine that it takes, and for its place in the queue. What these prices are charged for is there once, so its whole
worth is taken off again: for any prices that are not negative that is a lower bound (Lagrangian relaxation). Good
prices are found beforehand, for each number of choices, by subgradient steps around a guess of the answer. Equal
machines are taken in their order, and equal jobs, which follow each other, take options in theirs: of choices that
differ only in which of them is which, the smallest remains. The order of a complete choice is worked out by
``sequence``.

Source: Fisher, "The Lagrangian relaxation method for solving integer programming problems", Management
Science 27(1), 1981; Flener et al., "Breaking row and column symmetries in matrix models", CP 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from math import inf

import numpy as np
from numpy.typing import NDArray

from rigwise.search.astar import AStar, Child, Stop, go_on
from rigwise.search.queues import Queues, tuned
from rigwise.search.sequence import Turn, best_order
from rigwise.search.shared_types import RENT, ROUNDING, Multipliers, Work
from rigwise.search.shares import Choice, Shares, order_of
from rigwise.search.types import Array

#: Subgradient steps for each number of choices.
_STEPS = 120
#: States of each number of choices that a guess goes on from.
_FEW = 32


class _Prices:
    """Multipliers of one number of choices, as they count for every option."""

    def __init__(self, shares: Shares, depth: int, prices: Multipliers) -> None:
        time = np.array(prices.time).reshape(shares.machines, len(shares.deadlines_s))
        self.worth = float((time * shares.deadlines_s).sum())
        behind = np.searchsorted(shares.deadlines_s, shares.deadline_s)
        after = np.concatenate([np.cumsum(time[:, ::-1], axis=1)[:, ::-1], np.zeros((shares.machines, 1))], axis=1)
        self.time = np.where(shares.machine == RENT, 0.0, after[shares.machine, behind]) * shares.late_s
        place, weights = np.array(prices.place), shares.least_places(depth)
        self.worth += float(place.sum())
        each = shares.run_s[:, None] * weights + place[shares.machine]
        self.place = np.where(shares.machine == RENT, 0.0, each.min(axis=1, initial=inf))


class _Seen:
    """States of one number of choices: how long each holds the machines, and its number."""

    def __init__(self, machines: int) -> None:
        self._rows, self._states = np.empty((64, machines + 1)), list[Choice]()

    def by(self, held_s: Array, number: float, state: Choice) -> Choice | None:
        """An earlier state that is nowhere worse; None if there is none, and then this one is kept in mind."""
        row, size = np.array([*held_s, number]), len(self._states)
        better = (self._rows[:size] <= row).all(axis=1)
        if better.any():
            return self._states[int(better.argmax())]
        if size == len(self._rows):
            self._rows = np.concatenate([self._rows, np.empty_like(self._rows)])
        self._rows[size] = row
        self._states.append(state)
        return None


class SharingProblem:
    """Jobs that share machines, with prices for each number of choices."""

    def __init__(self, shares: Shares, multipliers: Sequence[Multipliers], queues: Queues | None = None) -> None:
        self.shares, self._queues = shares, queues
        self._prices = [_Prices(shares, depth, each) for depth, each in enumerate(multipliers)]
        self._orders: dict[tuple[Turn, ...], tuple[float, tuple[int, ...]] | None] = {}
        self._seen = [_Seen(shares.machines) for _ in shares.works]
        self.dominated: list[tuple[Choice, Choice]] = []

    def expand(self, state: Choice) -> Sequence[Child[Choice]] | None:
        """The next job with each of its options."""
        if len(state) == len(self.shares.works):
            return None
        children = ((*state, i) for i in self.shares.choices(state))
        return [Child(child, self.bound(child)) for child in children if not self._is_dominated(child)]

    def _is_dominated(self, state: Choice) -> bool:
        if self.shares.waits:
            return False
        chosen = self.shares.chosen(state)
        by = self._seen[len(state) - 1].by(self.shares.held_s(chosen), self.shares.placed(chosen), state)
        if by is not None:
            self.dominated.append((state, by))
        return by is not None

    def bound(self, state: Choice) -> float:
        """No complete choice below has a smaller number."""
        shares, chosen, depth = self.shares, self.shares.chosen(state), len(state)
        if depth == len(shares.works):
            return shares.placed(chosen)
        if self._queues is not None:
            return shares.placed(chosen) + self._queues.rest(depth, shares.load_s(chosen))
        prices, later = self._prices[depth], slice(shares.first[depth], None)
        each = shares.number[later] + prices.time[later] + prices.place[later] + shares.pair[chosen, later].sum(axis=0)
        each = np.where(shares.allowed(chosen), each, inf)
        least = np.minimum.reduceat(each, shares.first[depth:-1] - shares.first[depth])
        return float(shares.placed(chosen) + prices.time[chosen].sum() - prices.worth + least.sum())

    def estimate(self, block: Choice) -> Sequence[tuple[float, Choice]]:
        """A complete choice, each machine in its best order."""
        number = self.number(block)
        return [] if number == inf else [(number, block)]

    def number(self, state: Choice) -> float:
        """The number of a choice, complete or not; infinite if no order keeps all deadlines."""
        total = float(self.shares.number[self.shares.chosen(state)].sum())
        for places in self.shares.turns(state).values():
            found = self.order(state, places)
            total += inf if found is None else found[0]
        return total

    def order(self, state: Choice, places: Sequence[int]) -> tuple[float, tuple[int, ...]] | None:
        """What waiting adds on a machine, and in which order, as indices of ``places``."""
        turns = tuple(self.shares.turn(state, place) for place in places)
        if turns not in self._orders:
            self._orders[turns] = best_order(turns)
        return self._orders[turns]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best choice: options and places of the jobs in the order in which they were asked.

    Attributes:
        choice: Option of each job.
        queues: On each machine the jobs in their order.
        number, lower_bound: Its number, and one that no other undercuts.
    """

    choice: tuple[int, ...]
    queues: dict[int, tuple[int, ...]]
    number: float
    lower_bound: float


class Sharing:
    """The search for one set of jobs, each of which has an option. After ``best`` its parts tell how it went.

    Attributes:
        shares, multipliers, queues, search: What it worked with; one of the two bounds.
    """

    def __init__(self, works: Sequence[Work], *, gap_frac: float = 0.0, stop: Stop = go_on) -> None:
        self.shares = Shares(works, order_of(works))
        self.multipliers: tuple[Multipliers, ...] = ()
        self.queues: Queues | None = None
        if self.shares.waits:
            self._guess = guessed(self.shares, None)
            self.multipliers = tuple(_tuned(self.shares, depth, self._guess) for depth in range(len(works)))
        else:
            self._guess = guessed(self.shares, tuned(self.shares, None))
            self.queues = tuned(self.shares, self._guess[0] if self._guess else None)
        self.problem = SharingProblem(self.shares, self.multipliers, self.queues)
        self.search: AStar[Choice, Choice] = AStar(self.problem, (), gap_frac=gap_frac, stop=stop)

    def best(self) -> Found | None:
        """The best choice, or the best so far if the search is stopped; None if none keeps all deadlines."""
        number, state = next(self.search, (inf, ()))
        if self.search.stopped and self._guess is not None and self._guess[0] < number:
            number, state = self._guess
        if number == inf:
            return None
        asked, choice, queues = self.shares.order, [0] * len(state), {}
        for place, option in enumerate(state):
            choice[asked[place]] = option
        for machine, places in self.shares.turns(state).items():
            found = self.problem.order(state, places)
            queues[machine] = tuple(asked[places[i]] for i in (found[1] if found else ()))
        lower_bound = min(number, self.search.lower_bound)
        return Found(choice=tuple(choice), queues=queues, number=number, lower_bound=lower_bound)


def guessed(shares: Shares, queues: Queues | None) -> tuple[float, Choice] | None:
    """A good choice, or none: of each number of choices the few with the lowest bounds; then single jobs are moved."""
    size, each = len(shares.works), list[Multipliers]()
    if queues is None:
        root = _tuned(shares, 0, None)
        each = [replace(root, place=tuple(row[: size - depth] for row in root.place)) for depth in range(size)]
    problem = SharingProblem(shares, each, queues)
    few: list[Choice] = [()]
    for _ in range(size):
        children = [child for state in few for child in problem.expand(state) or ()]
        few = [child.state for child in nsmallest(_FEW, children, key=lambda child: child.bound)]
    number, state = min(((problem.number(state), state) for state in few), default=(inf, ()))
    if number == inf:
        return None
    better: Choice | None = state
    while better is not None:
        state = better
        better = _first_better(shares, problem.number, state)
    return problem.number(state), state


def _all_options(shares: Shares, place: int) -> range:
    return range(len(shares.works[place].options))


def _first_better(shares: Shares, number: Callable[[Choice], float], state: Choice) -> Choice | None:
    """The best change of one job, or else the first of two that helps."""
    now = number(state) * (1 - ROUNDING)

    def moved(of: Choice, place: int, option: int) -> Choice:
        return (*of[:place], option, *of[place + 1 :])

    ones = [moved(state, place, i) for place in range(len(state)) for i in _all_options(shares, place)]
    best = min(ones, key=number)
    if number(best) < now:
        return best
    machine = [int(shares.machine[o]) for o in shares.chosen(state)]
    for a in range(len(state)):
        for b in range(a):
            if machine[a] == machine[b]:
                continue
            # each goes where the other is
            for i in _on(shares, a, machine[b]):
                for j in _on(shares, b, machine[a]):
                    pair = moved(moved(state, a, i), b, j)
                    if number(pair) < now:
                        return pair
    return None


def _on(shares: Shares, place: int, machine: int) -> list[int]:
    return [i for i, option in enumerate(shares.works[place].options) if option.machine == machine]


def _tuned(shares: Shares, depth: int, guess: tuple[float, Choice] | None) -> Multipliers:
    """Prices that make the bound high after so many choices of the guess, by subgradient steps."""
    chosen = shares.chosen(guess[1][:depth] if guess else ())
    start = len(chosen)  # without a guess those of no choice at all have to do
    ends, later, weights = shares.deadlines_s, slice(shares.first[start], None), shares.least_places(depth)
    time, place = np.zeros((shares.machines, len(ends))), np.zeros((shares.machines, len(weights)))
    best, found, kept = -inf, (time, place), shares.allowed(chosen)
    machine, late_s, run_s = (x[later] for x in (shares.machine, shares.late_s, shares.run_s))
    here = machine != RENT
    counts = (shares.deadline_s[:, None] <= ends) & (shares.machine != RENT)[:, None]  # option against deadline
    base = np.where(kept, shares.number[later] + shares.pair[chosen, later].sum(axis=0), inf)
    first = shares.first[start:-1] - shares.first[start]
    taken_s = _per_machine(shares, chosen, shares.late_s[chosen, None] * counts[chosen])
    for step in range(_STEPS):
        each = base + np.where(here, ((time / ends)[machine] * counts[later]).sum(axis=1) * late_s, 0.0)
        queued = run_s[:, None] * weights + place[machine]
        each = each + np.where(here, queued.min(axis=1), 0.0)
        picked = np.array([a + int(np.argmin(each[a:b])) for a, b in zip(first, [*first[1:], len(each)], strict=True)])
        bound = float(each[picked].sum() + shares.placed(chosen) + (time * (taken_s / ends - 1)).sum() - place.sum())
        if bound > best:
            best, found = bound, (time / ends, place)
        if not np.isfinite(bound):
            break
        used_s = taken_s + _per_machine(
            shares, picked + shares.first[start], late_s[picked, None] * counts[later][picked]
        )
        over = used_s / ends - 1
        stood = np.zeros_like(place) - 1.0
        on = picked[here[picked]]
        np.add.at(stood, (machine[on], queued[on].argmin(axis=1)), 1.0)
        size = float((over**2).sum() + (stood**2).sum())
        aim = (guess[0] if guess else best + 0.05 * abs(best)) - bound
        pace = max(aim, 1e-6 * abs(best)) * (1.0 if step < _STEPS // 2 else 0.3) / max(size, 1e-12)
        time, place = np.maximum(time + pace * over, 0.0), np.maximum(place + pace * stood, 0.0)
    return Multipliers(time=tuple(map(tuple, found[0].tolist())), place=tuple(map(tuple, found[1].tolist())))


def _per_machine(shares: Shares, options: NDArray[np.int64], amounts: Array) -> Array:
    """Rows of amounts added up by the machine of an option; rented ones left out."""
    total = np.zeros((shares.machines, len(shares.deadlines_s)))
    here = shares.machine[options] != RENT
    np.add.at(total, shares.machine[options[here]], amounts[here])
    return total
