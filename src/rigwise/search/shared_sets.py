"""All sets of jobs that a machine can do in time, each with what it adds up to.

Of them the bound is made where waiting costs something (``shared_worths``). Every job is given a worth. If two machines
could take the same job, each would take the set that is worth most beyond what it costs. So the worths of all jobs,
less what the machines and the rented ways can gain so, is a lower bound, whatever the worths are (Lagrangian relaxation
of "each job once"). The best worths make it the linear relaxation of choosing one set for each machine so that each job
is in one or is rented. Its gap is small as it leaves nothing else out: a set costs what it does in its best order, with
all deadlines.

Where no deadline is in the way that cost is the sum over the pairs of a set of the shorter of two waits (Smith's rule).
Elsewhere some job is last, and the others are a set that is known: the least over all jobs that may be last.

A set is left out if it holds a job that adds more than renting it would. Let c be the least cost of a set S in time, j
a job of it and p(i, j) what i and j wait at least for each other, in an order that keeps both deadlines. In the best
order of S each pair waits at least p; without j the others keep their order and are no later. So c(S without j) is at
most c(S) - number of j - sum of p(i, j), and if those exceed the rent of j it is better to rent it: no best choice
holds S, nor any larger set, in which the sum only grows.

Source: Chen & Powell, "Solving parallel machine scheduling problems by column generation", INFORMS Journal on Computing
11(1), 1999; van den Akker, Hoogeveen & van de Velde, "Parallel machine scheduling by column generation", Operations
Research 47(6), 1999; Held & Karp, "A dynamic programming approach to sequencing problems", Journal of SIAM 10(1), 1962;
W. E. Smith and J. R. Jackson as in ``sequence``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from numpy.typing import NDArray

from rigwise.search.astar import Stop, go_on
from rigwise.search.shared_types import RENT, ROUNDING
from rigwise.search.shares import Shares
from rigwise.search.types import Array

#: Sets of all machines that are still looked at: a few hundred bytes each while they are made.
MOST_SETS = 2**22
#: Sets that are multiplied, or looked up, at once.
_ROWS = 2**15
_Index = NDArray[np.int64]
_Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sets:
    """The sets of jobs that one machine can do, in the order of their keys.

    Attributes:
        options: The options of the jobs on this machine, as indices.
        inside: Which of them each set holds ``[sets, options]``.
        key: The options of a set as a number of one digit for each job, the first job's foremost.
        stride: What a digit of each job is worth in it, and behind the last 1 ``[jobs + 1]``.
        code: What each option adds to a key.
        number: What a set adds up to in its best order.
    """

    options: _Index
    inside: _Flags
    key: _Index
    stride: tuple[int, ...]
    code: _Index
    number: Array

    def worth(self, each: Array) -> Array:
        """What each set is worth, by the worths of the jobs.

        Looked up by some digits of the key at a time.
        """
        total, last = np.zeros(len(self.key)), len(each)
        while last > 0:
            first, table = last, np.zeros(1)
            while first > 0 and (first == last or self.stride[first - 1] // self.stride[last] <= _ROWS):
                first -= 1
                radix = self.stride[first] // self.stride[first + 1]
                table = np.concatenate([table, *[table + each[first]] * (radix - 1)])
            total += table[self.key // self.stride[last] % len(table)]
            last = first
        return total


def _times(inside: _Flags, amounts: Array) -> Array:
    """Amounts of options added up over each set, some sets at a time."""
    parts = [inside[i : i + _ROWS] @ amounts for i in range(0, max(1, len(inside)), _ROWS)]
    return np.concatenate(parts)


def pairs(shares: Shares) -> Array:
    """What each two options on one machine wait at least, in an order that keeps both deadlines; infinite if none does.

    Jobs between them only make the later one still later, so what is too late alone is too late in every set.
    """
    end_s = shares.late_s[:, None] + shares.late_s
    waits = np.where(end_s <= shares.deadline_s * (1 + ROUNDING), shares.run_s[:, None] * shares.wait_per_s, inf)
    return np.asarray(np.minimum(waits, waits.T))


def all_sets(shares: Shares, stop: Stop = go_on, most: int = MOST_SETS) -> list[Sets] | None:
    """The sets of each machine; None if there are more, more than a key can tell apart, or if the search is stopped."""
    pair, found = pairs(shares), list[Sets]()
    for machine in range(shares.machines):
        if (same := int(shares.kind[machine])) < machine:
            found.append(replace(found[same], options=np.flatnonzero(shares.machine == machine)))
            continue
        sets = None if stop(inf, 0.0) else _sets_on(shares, machine, pair, most)
        if sets is None:
            return None
        found.append(sets)
        most -= len(sets.key)
    return found


def _sets_on(shares: Shares, machine: int, pair: Array, most: int) -> Sets | None:
    options = np.flatnonzero(shares.machine == machine)
    stride, code = _codes(shares, options)
    if stride[0] >= 2**62:
        return None
    inside = _in_time(shares, options, pair[np.ix_(options, options)], most)
    if inside is None:
        return None
    key = np.concatenate([inside[i : i + _ROWS] @ code for i in range(0, len(inside), _ROWS)])
    order = np.argsort(key)
    inside, key = inside[order], key[order]
    number = _numbers(shares, options, inside, (key, code))
    return Sets(options=options, inside=inside, key=key, stride=stride, code=code, number=number)


def _codes(shares: Shares, options: _Index) -> tuple[tuple[int, ...], _Index]:
    """What a digit of each job is worth, and the digit of each option at its place."""
    job = np.searchsorted(shares.first, options, side="right") - 1
    stride = [1]
    for place in range(len(shares.works) - 1, -1, -1):
        stride.append(stride[-1] * (1 + int((job == place).sum())))
    stride.reverse()
    if stride[0] >= 2**62:
        return tuple(stride), np.zeros(0, dtype=np.int64)
    digit = np.array([1 + int((job[:i] == place).sum()) for i, place in enumerate(job)], dtype=np.int64)
    return tuple(stride), digit * np.array(stride[1:], dtype=np.int64)[job]


def _in_time(shares: Shares, options: _Index, pair: Array, most: int) -> _Flags | None:
    """The sets that keep all deadlines and none of whose jobs would better be rented; None if there are too many.

    In the order of the deadlines (Jackson's rule) only the end of the last job has to be looked at.
    """
    place = np.searchsorted(shares.first, options, side="right") - 1
    limit = np.array([_rented(shares, int(p)) for p in place])
    limit = limit + ROUNDING * np.maximum(1.0, abs(limit))
    number, late_s, deadline_s = (x[options] for x in (shares.number, shares.late_s, shares.deadline_s))
    inside, end_s = np.zeros((1, len(options)), dtype=np.bool_), np.zeros(1)
    for job in sorted(set(place.tolist()), key=lambda p: float(shares.deadline_s[shares.first[p]])):
        parts, ends = [inside], [end_s]
        for at in np.flatnonzero(place == job).tolist():
            may = end_s + late_s[at] <= deadline_s[at] * (1 + ROUNDING)
            longer = inside[may]
            longer[:, at] = True
            keep = _worth_it(longer, number, pair, limit)
            parts.append(longer[keep])
            ends.append(end_s[may][keep] + late_s[at])
        inside, end_s = np.concatenate(parts), np.concatenate(ends)
        if len(inside) > most:
            return None
    return inside


def _worth_it(inside: _Flags, number: Array, pair: Array, limit: Array) -> _Flags:
    """Which sets hold no job that costs less if it is rented, and no two that are never both in time."""
    never, waits = np.isinf(pair), np.where(np.isinf(pair), 0.0, pair)
    np.fill_diagonal(never, val=False)
    np.fill_diagonal(waits, 0.0)
    keep = [np.zeros(0, dtype=np.bool_)]
    for i in range(0, len(inside), _ROWS):
        some = inside[i : i + _ROWS]
        dear = number + some @ waits > limit
        if never.any():
            dear |= some @ never
        keep.append(np.asarray(~(dear & some).any(axis=1)))
    return np.concatenate(keep)


def _rented(shares: Shares, place: int) -> float:
    """The least number for which a job can be rented; infinite if it cannot."""
    options = slice(shares.first[place], shares.first[place + 1])
    return float(shares.number[options][shares.machine[options] == RENT].min(initial=inf))


def _numbers(shares: Shares, options: _Index, inside: _Flags, keys: tuple[_Index, _Index]) -> Array:
    """What each set adds up to in its best order that keeps all deadlines."""
    key, code = keys
    number, run_s, late_s, wait_per_s, deadline_s = (
        x[options] for x in (shares.number, shares.run_s, shares.late_s, shares.wait_per_s, shares.deadline_s)
    )
    waits = np.minimum(run_s[:, None] * wait_per_s, run_s * wait_per_s[:, None])
    np.fill_diagonal(waits, 0.0)
    total = _times(inside, number)
    for i in range(0, len(inside), _ROWS):
        some = inside[i : i + _ROWS]
        total[i : i + _ROWS] += ((some @ waits) * some).sum(axis=1) / 2
    all_run_s, end_s = _times(inside, run_s), _times(inside, late_s)
    limit_s = deadline_s * (1 + ROUNDING)
    first = np.full(len(inside), inf)
    for at, limit in enumerate(limit_s):
        first = np.where(inside[:, at], np.minimum(first, limit), first)
    tight, size = end_s > first, inside.sum(axis=1)
    for members in range(2, int(size.max(initial=0)) + 1):
        rows = np.flatnonzero(tight & (size == members))
        best = np.full(len(rows), inf)
        for at in range(len(options)):
            last = np.flatnonzero(inside[rows, at] & (end_s[rows] <= limit_s[at]))
            before = np.searchsorted(key, key[rows[last]] - code[at])
            waited = wait_per_s[at] * (all_run_s[rows[last]] - run_s[at])
            best[last] = np.minimum(best[last], total[before] + number[at] + waited)
        total[rows] = best
    return total
