"""What each job is worth to the machines: the prices of a linear programme, and the bound that they give.

Of the sets of each machine one is to be chosen, so that each job is in one or is rented; if parts of sets may be
chosen that is a linear programme with a row for each job and each machine, whose prices are the worths that make the
bound of ``shared_sets`` highest. It has up to millions of columns and few rows: the simplex method with the inverse of
the basis at hand looks at some columns at a time, and at all of them when these hold none that would help. Right sides
differ a little from 1, so that no two rows tie. Whatever it ends with is a bound, so it may end early.

Source: Dantzig & Orchard-Hays, "The product form for the inverse in the simplex method", Mathematical Tables and Other
Aids to Computation 8(46), 1954; Gilmore & Gomory, "A linear programming approach to the cutting-stock problem",
Operations Research 9(6), 1961, for columns that are looked at when they are needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from rigwise.search.astar import Child
from rigwise.search.shared_sets import Sets
from rigwise.search.shared_types import RENT, ROUNDING
from rigwise.search.shares import Choice, Shares
from rigwise.search.types import Array

#: Sets that are looked at between two looks at all of them, and how often all of them are.
_SOME, _LOOKS = 3000, 60
#: Changes of the basis.
_CHANGES = 3000


class SetsBound:
    """The bound for one list of worths.

    Attributes:
        worth: Of the jobs in the order of choice.
    """

    def __init__(self, shares: Shares, sets: Sequence[Sets], worth: Sequence[float]) -> None:
        self._shares, self.worth = shares, tuple(worth)
        self._tables = [_least(each, np.array(self.worth)) for each in sets]
        self._numbers = [each.number for each in sets]
        self._strides = [each.stride for each in sets]
        code = np.zeros(len(shares.machine), dtype=np.int64)
        for each in sets:
            code[each.options] = each.code
        self._code, self._machine, self._number = code.tolist(), shares.machine.tolist(), shares.number.tolist()
        gains = np.minimum(0.0, rented(shares) - self.worth)
        self._open = [*np.cumsum(gains[::-1])[::-1].tolist(), 0.0]
        self._all = float(np.sum(self.worth))

    def children(self, state: Choice) -> list[Child[Choice]]:
        """The next job with each of its options, and bounds of the best choices below; infinite if none is there."""
        shares, depth, found = self._shares, len(state) + 1, list[Child[Choice]]()
        keys, total = [0] * shares.machines, self._all + self._open[depth]
        for place, option in enumerate(shares.chosen(state).tolist()):
            machine = self._machine[option]
            if machine == RENT:
                total += self._number[option] - self.worth[place]
            else:
                keys[machine] += self._code[option]
        least = [self._least(machine, depth, key) for machine, key in enumerate(keys)]
        start = int(shares.first[depth - 1])
        for i in shares.different(state):
            machine = self._machine[start + i]
            if machine == RENT:
                bound = total + sum(least) + self._number[start + i] - self.worth[depth - 1]
            else:
                here = self._least(machine, depth, keys[machine] + self._code[start + i])
                bound = total + here + sum(x for m, x in enumerate(least) if m != machine)
            found.append(Child((*state, i), bound))
        return found

    def number(self, state: Choice) -> float:
        """What a complete choice adds up to; infinite if it is not in time, or a job would better be rented."""
        keys, total = [0] * self._shares.machines, 0.0
        for option in self._shares.chosen(state).tolist():
            if self._machine[option] == RENT:
                total += self._number[option]
            else:
                keys[self._machine[option]] += self._code[option]
        for key, table, numbers in zip(keys, self._tables, self._numbers, strict=True):
            known = table[-1][0]
            at = int(known.searchsorted(key))
            if at == len(known) or known[at] != key:
                return inf
            total += float(numbers[at])
        return total

    def _least(self, machine: int, depth: int, key: int) -> float:
        """The least number less worth of the sets of a machine that hold just these of the first jobs."""
        known, least = self._tables[machine][depth]
        key //= self._strides[machine][depth]
        at = int(known.searchsorted(key))
        return float(least[at]) if at < len(known) and known[at] == key else inf


def rented(shares: Shares) -> Array:
    """The least number for which each job can be rented; infinite if it cannot."""
    number = np.where(shares.machine == RENT, shares.number, inf)
    return np.asarray(np.minimum.reduceat(number, shares.first[:-1]))


def _least(sets: Sets, worth: Array) -> list[tuple[NDArray[np.int64], Array]]:
    """By number of placed jobs, the ways to place them and the least number less worth of the sets that do so."""
    key, least = sets.key, sets.number - sets.worth(worth)
    tables = [(key, least)]
    for stride, finer in zip(reversed(sets.stride[:-1]), reversed(sets.stride[1:]), strict=True):
        key = key // (stride // finer)
        first = np.flatnonzero(np.diff(key, prepend=-1))
        key, least = key[first], np.minimum.reduceat(least, first)
        tables.append((key, least))
    return tables[::-1]


class _Programme:
    """The columns that are looked at and the basis."""

    def __init__(self, shares: Shares, sets: Sequence[Sets], dear: float) -> None:
        self.shares, self.sets, self.jobs = shares, sets, len(shares.works)
        self.rented = rented(shares)
        size = self.jobs + len(sets)
        self.cost = np.concatenate([np.minimum(self.rented, dear), np.zeros(len(sets))])
        self.inverse = np.eye(size)
        # the golden ratio spreads them, without dice
        self.amount = 1.0 + 1e-5 * (np.arange(1, size + 1) * 0.618033988749895 % 1.0)
        self.job = [np.searchsorted(shares.first, each.options, side="right") - 1 for each in sets]

    def prices(self) -> Array:
        """Of each job, and behind them of each machine."""
        return np.asarray(self.cost @ self.inverse)

    def look(self, prices: Array) -> tuple[float, Array, Array]:
        """The bound of all sets with these worths, and the columns and numbers of those that would help most."""
        worth = prices[: self.jobs]
        total = float(worth.sum())
        total += float(np.minimum(0.0, self.rented - worth).sum())
        columns, numbers = list[Array](), list[Array]()
        for machine, sets in enumerate(self.sets):
            left = sets.number - sets.worth(worth)
            total += float(left.min())
            some = np.argpartition(left, _SOME)[:_SOME] if len(left) > _SOME else np.arange(len(left))
            column = np.zeros((len(some), len(prices)))
            at, option = np.nonzero(sets.inside[some])
            column[at, self.job[machine][option]] = 1.0
            column[:, self.jobs + machine] = 1.0
            columns.append(column)
            numbers.append(sets.number[some])
        rent = np.flatnonzero(np.isfinite(self.rented))
        columns.append(np.eye(len(prices))[rent])
        numbers.append(self.rented[rent])
        return total, np.concatenate(columns), np.concatenate(numbers)

    def improve(self, columns: Array, numbers: Array, most: int) -> int:
        """Take columns into the basis until none helps, and how many were."""
        for change in range(most):
            left = numbers - columns @ self.prices()
            best = int(left.argmin())
            if left[best] > -ROUNDING * max(1.0, float(abs(self.cost).max())):
                return change
            way = self.inverse @ columns[best]
            share = np.where(way > ROUNDING, self.amount / np.where(way > ROUNDING, way, 1.0), inf)
            row = int(share.argmin())
            if share[row] == inf:
                return change
            self.inverse[row] /= way[row]
            others = np.arange(len(way)) != row
            self.inverse[others] -= np.outer(way[others], self.inverse[row])
            self.amount[others] -= way[others] * share[row]
            self.amount[row], self.cost[row] = share[row], numbers[best]
        return most


def best_worths(shares: Shares, sets: Sequence[Sets]) -> tuple[float, ...]:
    """The worths of the jobs in the order of choice that make the bound of no choice at all highest."""
    # what cannot be rented counts as more than any choice adds up to
    dear = float(np.maximum.reduceat(shares.number, shares.first[:-1]).sum() + shares.pair.max(axis=0).sum())
    programme, changes = _Programme(shares, sets, dear), _CHANGES
    best, found = -inf, np.zeros(len(shares.works))
    for _ in range(_LOOKS):
        prices = programme.prices()
        bound, columns, numbers = programme.look(prices)
        if bound > best:
            best, found = bound, prices[: len(shares.works)]
        took = programme.improve(columns, numbers, changes)
        changes -= took
        if took == 0 or changes <= 0:
            break
    return tuple(found.tolist())
