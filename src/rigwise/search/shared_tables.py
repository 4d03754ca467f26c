"""What the machines can still gain, for the checker of jobs that share machines, with code of its own.

The sets of jobs of a machine are built as the machine would work: whatever is in time goes behind what has run, and of
all orders of the same jobs the cheapest remains. Sets in which a job adds more than renting it would are left out with
all that hold them: a job adds at least its own number and, with each other job, the shorter of the two waits that keep
both deadlines.

Source: Held & Karp, "A dynamic programming approach to sequencing problems", Journal of SIAM 10(1), 1962.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rigwise.search.shared_types import RENT, Option, Work
from rigwise.search.types import Array

_SLACK = 1e-9
#: Sets of one machine that can be checked, and ways to reach them that are held before the cheapest are picked.
MOST_SETS, _AT_ONCE = 2**22, 2**20
_LARGEST, _ROWS = 2**62, 2**14
_Keys = NDArray[np.int64]


class TooManySetsError(Exception):
    """There are more sets than can be checked."""


class _Entry(NamedTuple):
    """An option on the machine, and how the number of a set tells it."""

    place: int
    work: Work
    option: Option
    digit: int


class _Layer(NamedTuple):
    """Sets of one size: their numbers as sets and in the objective, and how long they take."""

    key: _Keys
    number: Array
    run_s: Array
    late_s: Array

    def pick(self, rows: NDArray[Any]) -> _Layer:
        """Some of the sets."""
        return _Layer(self.key[rows], self.number[rows], self.run_s[rows], self.late_s[rows])


def _all(layers: Sequence[_Layer]) -> _Layer:
    """Several layers as one."""
    key = np.concatenate([layer.key for layer in layers])
    number, run_s, late_s = (np.concatenate([x[i] for x in layers]) for i in (1, 2, 3))
    return _Layer(key, number, run_s, late_s)


def _cheapest(layers: Sequence[_Layer]) -> _Layer:
    """Of the ways to reach the same set the cheapest."""
    ways = _all(layers)
    ways = ways.pick(np.argsort(ways.key, kind="stable"))
    first = np.flatnonzero(np.diff(ways.key, prepend=-1))
    return ways.pick(first)._replace(number=np.minimum.reduceat(ways.number, first)) if len(first) else ways


class Gains:
    """The bound that worths of the jobs give.

    Args:
        works: The jobs in the order of choice.
        worth: Of each job.
        machines: How many there are.

    Raises:
        TooManySetsError: A machine has more sets than can be checked.
    """

    def __init__(self, works: Sequence[Work], worth: Sequence[float], machines: int) -> None:
        self._works, self._worth = works, worth
        known: dict[object, _Machine] = {}
        self._machines = list[_Machine]()
        for machine in range(machines):
            here = [[option for option in work.options if option.machine == machine] for work in works]
            looks = tuple(tuple((o.number, o.run_s, o.late_s) for o in options) for options in here)
            if looks not in known:
                known[looks] = _Machine(works, worth, machine)
            self._machines.append(known[looks])

    def bound(self, state: Sequence[int]) -> float:
        """No best choice below a state has a smaller number; infinite if there is none."""
        total, taken = sum(self._worth), [list[tuple[int, int]]() for _ in self._machines]
        for place, work in enumerate(self._works):
            if place >= len(state):
                total += min([0.0, *(o.number - self._worth[place] for o in work.options if o.machine == RENT)])
                continue
            option = work.options[state[place]]
            if option.machine == RENT:
                total += option.number - self._worth[place]
            else:
                same = [i for i, o in enumerate(work.options) if o.machine == option.machine]
                taken[option.machine].append((place, same.index(state[place]) + 1))
        return total + sum(one.least(len(state), jobs) for one, jobs in zip(self._machines, taken, strict=True))


class _Machine:
    """The least number less worth of the sets of one machine, by what it has of the first jobs."""

    def __init__(self, works: Sequence[Work], worth: Sequence[float], machine: int) -> None:
        entries, self._unit = list[_Entry](), [1]
        for place in reversed(range(len(works))):
            here = [option for option in works[place].options if option.machine == machine]
            entries += [_Entry(place, works[place], option, 1 + i) for i, option in enumerate(here)]
            self._unit.insert(0, self._unit[0] * (1 + len(here)))
        if self._unit[0] >= _LARGEST:
            raise TooManySetsError
        layers = [_Layer(np.zeros(1, dtype=np.int64), np.zeros(1), np.zeros(1), np.zeros(1))]
        while len(layers[-1].key):
            if sum(len(layer.key) for layer in layers) > MOST_SETS:
                raise TooManySetsError
            layers.append(self._larger(entries, layers[-1]))
        key, left, *_ = _all(layers)
        for entry in entries:
            left -= worth[entry.place] * self._has(entry, key)
        self._groups = [_least_of(key // unit, left) for unit in self._unit]

    def least(self, depth: int, jobs: Sequence[tuple[int, int]]) -> float:
        """Of the sets that hold just these of the first jobs; infinite if there is none."""
        group = sum(digit * self._unit[place + 1] for place, digit in jobs) // self._unit[depth]
        groups, least = self._groups[depth]
        at = int(np.searchsorted(groups, group))
        return float(least[at]) if at < len(groups) and int(groups[at]) == group else inf

    def _has(self, entry: _Entry, key: _Keys) -> NDArray[np.bool_]:
        digit = key % self._unit[entry.place] // self._unit[entry.place + 1]
        return np.asarray(digit == entry.digit)

    def _larger(self, entries: Sequence[_Entry], layer: _Layer) -> _Layer:
        """All sets with one job more, each in its cheapest order."""
        parts, at_once = [layer.pick(np.zeros(0, dtype=np.int64))], _AT_ONCE
        for entry in entries:
            work, option, unit = entry.work, entry.option, self._unit[entry.place + 1]
            may = layer.key % self._unit[entry.place] < unit
            may &= layer.late_s + option.late_s <= (inf if work.deadline_s is None else work.deadline_s) * (1 + _SLACK)
            key, number, run_s, late_s = layer.pick(may)
            number = number + option.number + work.wait_per_s * run_s
            parts.append(_Layer(key + entry.digit * unit, number, run_s + option.run_s, late_s + option.late_s))
            if sum(len(part.key) for part in parts) > at_once:
                parts = [_cheapest(parts)]
                at_once = max(_AT_ONCE, 2 * len(parts[0].key))
                if len(parts[0].key) > MOST_SETS:
                    raise TooManySetsError
        larger = _cheapest(parts)
        if not len(larger.key):
            return larger
        return larger.pick(self._is_worth_it(entries, larger.key))

    def _is_worth_it(self, entries: Sequence[_Entry], key: _Keys) -> NDArray[np.bool_]:
        """Whether no job of a set adds more than renting it would."""
        rents = [min([inf, *(o.number for o in e.work.options if o.machine == RENT)]) for e in entries]
        most = np.array([rent + _SLACK / 2 * max(1.0, abs(rent)) for rent in rents])
        beside = np.array([[_waits(one, other) for one in entries] for other in entries]).reshape(len(most), -1)
        beside[np.isinf(beside)] = 0.0  # no order has both
        alone, keep = np.array([entry.option.number for entry in entries]), list[NDArray[np.bool_]]()
        for start in range(0, len(key), _ROWS):
            some = key[start : start + _ROWS]
            inside = np.stack([self._has(entry, some) for entry in entries], axis=1).astype(np.float64)
            dear = (alone + inside @ beside > most) & (inside > 0)
            keep.append(np.asarray(~dear.any(axis=1)))
        return np.concatenate(keep)


def _waits(one: _Entry, other: _Entry) -> float:
    """What two jobs on the machine wait at least, in an order that keeps both deadlines."""
    end_s, least = one.option.late_s + other.option.late_s, inf
    if one.place == other.place:
        return 0.0
    for first, second in ((one, other), (other, one)):
        if second.work.deadline_s is None or end_s <= second.work.deadline_s * (1 + _SLACK):
            least = min(least, second.work.wait_per_s * first.option.run_s)
    return least


def _least_of(group: _Keys, left: Array) -> tuple[_Keys, Array]:
    groups, which = np.unique(group, return_inverse=True)
    least = np.full(len(groups), inf)
    np.minimum.at(least, which.reshape(-1), left)
    return groups, least
