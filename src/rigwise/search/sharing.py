"""Jobs that share machines, as A* sees them: which job on which machine, in which order, and which are rented.

A state holds a choice for each of the first jobs of a fixed order. A machine has the time until a deadline once for
all jobs with that deadline or an earlier one.

Where waiting costs nothing, that is all that deadlines ask (earliest deadline first). The earliest deadline is chosen
for first and ``queues`` bounds the rest. Of two states that hold the machines for the same jobs only the time held and
the number count: one that is nowhere better is dropped.

Where waiting costs something, the longest job is chosen for first. ``shared_sets`` looks at all sets of jobs that a
machine can do, and ``shared_worths`` bounds the rest by them; where there are too many, ``shared_prices`` bounds it
less well. Equal machines are taken in their order, and equal jobs, which follow each other, take options in theirs: of
choices that differ only in which of them is which, the smallest remains. The order of a complete choice is worked out
by ``sequence``.

A guess is made first, by the same bounds: the search ends as soon as nothing can be better than it.

Source: Flener et al., "Breaking row and column symmetries in matrix models", CP 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from math import inf
from typing import Protocol

import numpy as np

from rigwise.search.astar import AStar, Child, Stop, go_on
from rigwise.search.queues import tuned
from rigwise.search.sequence import Turn, best_order
from rigwise.search.shared_prices import PricesBound, tuned_prices
from rigwise.search.shared_sets import MOST_SETS, all_sets
from rigwise.search.shared_types import ROUNDING, Multipliers, Work
from rigwise.search.shared_worths import SetsBound, best_worths
from rigwise.search.shares import Choice, Shares, order_of
from rigwise.search.types import Array

#: States of each number of choices that a guess goes on from.
_FEW = 32


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


class Bound(Protocol):
    """What nothing below a choice undercuts."""

    def children(self, state: Choice) -> Sequence[Child[Choice]]:
        """The next job with each of its options that may be in time, and their bounds."""


class SharingProblem:
    """Jobs that share machines, with a bound of what is still open."""

    def __init__(self, shares: Shares, bound: Bound, number: Callable[[Choice], float] | None = None) -> None:
        self.shares, self._bound, self._number = shares, bound, number
        self._orders: dict[tuple[Turn, ...], tuple[float, tuple[int, ...]] | None] = {}
        self._seen = [_Seen(shares.machines) for _ in shares.works]
        self.dominated: list[tuple[Choice, Choice]] = []

    def expand(self, state: Choice) -> Sequence[Child[Choice]] | None:
        """The next job with each of its options."""
        if len(state) == len(self.shares.works):
            return None
        return [child for child in self._bound.children(state) if not self._is_dominated(child.state)]

    def _is_dominated(self, state: Choice) -> bool:
        if self.shares.waits:
            return False
        chosen = self.shares.chosen(state)
        by = self._seen[len(state) - 1].by(self.shares.held_s(chosen), self.shares.placed(chosen), state)
        if by is not None:
            self.dominated.append((state, by))
        return by is not None

    def estimate(self, block: Choice) -> Sequence[tuple[float, Choice]]:
        """A complete choice, each machine in its best order."""
        number = self.number(block)
        return [] if number == inf else [(number, block)]

    def number(self, state: Choice) -> float:
        """The number of a choice; infinite if no order keeps all deadlines."""
        if self._number is not None:
            return self._number(state)
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
        shares, search: What it worked with.
        worth, multipliers: Those of the bound that was used.
    """

    def __init__(
        self, works: Sequence[Work], *, gap_frac: float = 0.0, stop: Stop = go_on, most_sets: int = MOST_SETS
    ) -> None:
        self.shares, self._stop, self._ease, self.stopped = Shares(works, order_of(works)), stop, 1 + gap_frac, False
        self.multipliers, self.worth = tuple[Multipliers, ...](), tuple[float, ...]()
        self._guess: tuple[float, Choice] | None = None
        self.problem = self._problem(most_sets)
        self.search: AStar[Choice, Choice] = AStar(self.problem, (), gap_frac=gap_frac, stop=self._ends)

    def best(self) -> Found | None:
        """The best choice, or the best so far if the search is stopped; None if none keeps all deadlines."""
        number, state = next(self.search, (inf, ()))
        lower_bound = min(number, self.search.lower_bound)
        if self._guess is not None and self._guess[0] < number:
            number, state = self._guess
        if number == inf:
            return None
        asked, choice, queues = self.shares.order, [0] * len(state), {}
        for place, option in enumerate(state):
            choice[asked[place]] = option
        for machine, places in self.shares.turns(state).items():
            found = self.problem.order(state, places)
            queues[machine] = tuple(asked[places[i]] for i in (found[1] if found else ()))
        if number * (1 - ROUNDING / 2) <= lower_bound:
            lower_bound = number
        return Found(choice=tuple(choice), queues=queues, number=number, lower_bound=min(number, lower_bound))

    def _ends(self, best: float, bound: float) -> bool:
        """Whether nothing open can be better than what is known, or the search is to be stopped."""
        best = min(best, self._guess[0] if self._guess else inf)
        if best * (1 - ROUNDING / 2) <= bound * self._ease:
            return True
        self.stopped = self._stop(best, bound)
        return self.stopped

    def _problem(self, most_sets: int) -> SharingProblem:
        """With a bound, and a guess by it."""
        shares = self.shares
        if not shares.waits:
            self._guess = guessed(SharingProblem(shares, tuned(shares, None)))
            queues = tuned(shares, self._guess[0] if self._guess else None)
            self.worth = queues.worth
            return SharingProblem(shares, queues)
        sets = all_sets(shares, self._stop, most_sets)
        if sets is not None:
            self.worth = best_worths(shares, sets)
            bound = SetsBound(shares, sets, self.worth)
            problem = SharingProblem(shares, bound, bound.number)
            self._guess = guessed(problem)
            return problem
        root, size = tuned_prices(shares, 0, None), len(shares.works)
        each = [replace(root, place=tuple(row[: size - depth] for row in root.place)) for depth in range(size)]
        self._guess = guessed(SharingProblem(shares, PricesBound(shares, each)))
        self.multipliers = tuple(tuned_prices(shares, depth, self._guess) for depth in range(size))
        return SharingProblem(shares, PricesBound(shares, self.multipliers))


def guessed(problem: SharingProblem) -> tuple[float, Choice] | None:
    """A good choice, or none: of each number of choices the few with the lowest bounds; then single jobs are moved."""
    shares = problem.shares
    few: list[Choice] = [()]
    for _ in shares.works:
        children = [child for state in few for child in problem.expand(state) or ()]
        few = [child.state for child in nsmallest(_FEW, children, key=lambda child: child.bound) if child.bound < inf]
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
