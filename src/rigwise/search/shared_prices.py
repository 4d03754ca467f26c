"""What jobs that are still open add at least, where waiting costs something and their sets are too many to look at.

Jobs on one machine make each other wait, each two at least for the smaller of two products. A job that is still open
costs at least what its cheapest option does, with what it and each placed job make each other wait, if the machine has
time for it; plus a price for the time of the machine that it takes, and for its place in the queue. What these prices
are charged for is there once, so its whole worth is taken off again: for any prices that are not negative that is a
lower bound (Lagrangian relaxation). Good prices are found beforehand, for each number of choices, by subgradient steps
around a guess of the answer.

Source: Fisher, "The Lagrangian relaxation method for solving integer programming problems", Management
Science 27(1), 1981.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from rigwise.search.astar import Child
from rigwise.search.shared_types import RENT, Multipliers
from rigwise.search.shares import Choice, Shares
from rigwise.search.types import Array

#: Subgradient steps for each number of choices.
_STEPS = 120


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


class PricesBound:
    """The bound for prices of each number of choices."""

    def __init__(self, shares: Shares, multipliers: Sequence[Multipliers]) -> None:
        self._shares = shares
        self._prices = [_Prices(shares, depth, each) for depth, each in enumerate(multipliers)]

    def children(self, state: Choice) -> list[Child[Choice]]:
        """The next job with each of its options that may be in time, and their bounds."""
        return [Child((*state, i), self.bound((*state, i))) for i in self._shares.choices(state)]

    def bound(self, state: Choice) -> float:
        """No complete choice below has a smaller number."""
        shares, chosen, depth = self._shares, self._shares.chosen(state), len(state)
        if depth == len(shares.works):
            return shares.placed(chosen)
        prices, later = self._prices[depth], slice(shares.first[depth], None)
        each = shares.number[later] + prices.time[later] + prices.place[later] + shares.pair[chosen, later].sum(axis=0)
        each = np.where(shares.allowed(chosen), each, inf)
        least = np.minimum.reduceat(each, shares.first[depth:-1] - shares.first[depth])
        return float(shares.placed(chosen) + prices.time[chosen].sum() - prices.worth + least.sum())


def tuned_prices(shares: Shares, depth: int, guess: tuple[float, Choice] | None) -> Multipliers:
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
