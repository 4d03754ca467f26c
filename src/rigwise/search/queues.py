"""What jobs that are still open add at least, where waiting costs nothing: each machine picks for itself.

Every job is given a worth. If a machine could take any of the open jobs, and two machines the same one, each
would take those that are worth more than they cost it, as many as its time until their deadlines allows: a knapsack of
its own. So the worths of all open jobs, less what the machines and the rented ways can gain so, is a lower bound,
whatever the worths are (Lagrangian relaxation of "each job once"). Good worths are found by subgradient steps.

The knapsacks are solved for all times that a machine can be held already, on a grid: times are rounded down and
deadlines with them, which can only let more in.

Source: Fisher, "The Lagrangian relaxation method for solving integer programming problems", Management Science 27(1),
1981; Lawler & Moore, "A functional equation and its application to resource allocation and sequencing problems",
Management Science 16(1), 1969, for jobs in the order of their deadlines.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import floor, inf

import numpy as np

from rigwise.search.astar import Child
from rigwise.search.shared_types import RENT, ROUNDING
from rigwise.search.shares import Choice, Shares
from rigwise.search.types import Array

#: Steps of the grid of times, and of the subgradient method.
GRID, _STEPS = 1024, 200


class Queues:
    """The bound for one set of worths.

    Attributes:
        worth: Of the jobs in the order of choice.
    """

    def __init__(self, shares: Shares, worth: Sequence[float], grid: int = GRID) -> None:
        self._shares, self.worth = shares, tuple(worth)
        ends = shares.deadlines_s
        self.step_s = float(ends[-1]) * (1 + 2 * ROUNDING) / grid if len(ends) else 1.0
        self._late = np.floor(shares.late_s / self.step_s).astype(np.int64)
        self._last = [self._cell(float(shares.deadline_s[i])) for i in shares.first[:-1]]
        self._gain = np.zeros((len(worth) + 1, shares.machines, grid + 1))
        self._rented = [0.0] * len(worth)
        for job in range(len(worth) - 1, -1, -1):
            self._gain[job] = self._gain[job + 1]
            for option in range(shares.first[job], shares.first[job + 1]):
                gain = float(shares.number[option]) - self.worth[job]
                if shares.machine[option] == RENT:
                    self._rented[job] = min(gain, 0.0)
                elif gain < 0:
                    self._admit(job, option, gain)
        self._rest = [
            *accumulate((w + r for w, r in zip(self.worth[::-1], self._rented[::-1], strict=True)), initial=0.0)
        ]
        self._rest.reverse()

    def children(self, state: Choice) -> list[Child[Choice]]:
        """The next job with each of its options that may be in time, and their bounds."""
        found, shares = list[Child[Choice]](), self._shares
        for i in shares.choices(state):
            chosen = shares.chosen(child := (*state, i))
            found.append(Child(child, shares.placed(chosen) + self.rest(len(child), shares.load_s(chosen))))
        return found

    def rest(self, depth: int, held_s: Array) -> float:
        """What the jobs from a place of the order on add at least, if the machines are held so long."""
        most = self._gain.shape[2] - 1  # beyond the last deadline only jobs without one are left
        cells = [min(self._cell(float(s)), most) for s in held_s]
        return self._rest[depth] + sum(float(self._gain[depth, m, cell]) for m, cell in enumerate(cells))

    def taken(self) -> Array:
        """How often each job is done in the relaxed problem, from the start."""
        shares, count = self._shares, np.array([float(r < 0) for r in self._rented])
        for machine in range(shares.machines):
            cell = 0
            for job in range(len(self.worth)):
                here = self._gain[job, machine, cell]
                if here == self._gain[job + 1, machine, cell]:
                    continue
                options = range(shares.first[job], shares.first[job + 1])
                cell += next(int(self._late[o]) for o in options if self._is(o, (job, machine, cell), here))
                count[job] += 1
                cell = min(cell, self._gain.shape[2] - 1)
        return count

    def _is(self, option: int, at: tuple[int, int, int], gain: float) -> bool:
        """Whether a gain comes from an option."""
        (job, machine, cell), shares = at, self._shares
        further = cell + int(self._late[option])
        if shares.machine[option] != machine or further > self._last[job]:
            return False
        further = min(further, self._gain.shape[2] - 1)
        after = float(self._gain[job + 1, machine, further])
        return bool(float(shares.number[option]) - self.worth[job] + after == gain)

    def _cell(self, time_s: float) -> int:
        return 2**62 if time_s == inf else floor(time_s * (1 + ROUNDING) / self.step_s)

    def _admit(self, job: int, option: int, gain: float) -> None:
        machine, late = int(self._shares.machine[option]), int(self._late[option])
        size = self._gain.shape[2]
        if self._last[job] >= size:  # no deadline: whatever follows has none either, so the time does not matter
            after = self._gain[job + 1, machine]
            self._gain[job, machine] = np.minimum(self._gain[job, machine], gain + after)
            return
        free = self._last[job] - late + 1
        if free > 0:
            after = self._gain[job + 1, machine, late : late + free]
            self._gain[job, machine, :free] = np.minimum(self._gain[job, machine, :free], gain + after)


def tuned(shares: Shares, aim: float | None) -> Queues:
    """Worths that make the bound of no choice at all high, by subgradient steps.

    Args:
        shares: The jobs.
        aim: The number of a good choice; None for none known.
    """
    nothing, options = np.zeros(shares.machines), np.split(shares.number, shares.first[1:-1])
    worth = np.array([float(np.sort(numbers)[-1]) for numbers in options])
    best, found = -inf, Queues(shares, worth.tolist())
    pace, since = 1.0, 0
    for _ in range(_STEPS):
        queues = Queues(shares, worth.tolist())
        bound = queues.rest(0, nothing)
        since += 1
        if bound > best:
            best, found, since = bound, queues, 0
        elif since > 12:
            pace, since = pace / 2, 0
        slope = 1.0 - queues.taken()
        size = float((slope**2).sum())
        if size == 0:
            break
        target = best + 0.05 * abs(best) if aim is None else aim
        worth = worth + slope * pace * max(target - bound, 1e-6 * abs(best)) / size
    return found
