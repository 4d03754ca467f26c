"""Jobs that share machines as arrays: their options side by side, and what two of them mean for each other."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from math import inf

import numpy as np
from numpy.typing import NDArray

from rigwise.search.sequence import Turn
from rigwise.search.shared_types import RENT, ROUNDING, Work, deadlines_of
from rigwise.search.types import Array

Choice = tuple[int, ...]


class Shares:
    """Jobs and their options as arrays, in the order in which they are chosen.

    Attributes:
        works, order: The jobs, and the order as indices of them.
        machines: How many there are.
        waits: Whether waiting costs anything.
        first: Index of the first option of each job of the order, and behind the last ``[jobs + 1]``.
    """

    def __init__(self, works: Sequence[Work], order: Sequence[int]) -> None:
        self.works, self.order = tuple(works[i] for i in order), tuple(order)
        options = [option for work in self.works for option in work.options]
        sizes = [len(work.options) for work in self.works]
        self.first = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.machines = max(1, *(option.machine + 1 for option in options))
        self.machine = np.array([option.machine for option in options], dtype=np.int64)
        self.number = np.array([option.number for option in options])
        self.run_s = np.array([option.run_s for option in options])
        self.late_s = np.array([option.late_s for option in options])
        self.wait_per_s = np.repeat([work.wait_per_s for work in self.works], sizes)
        self.deadlines_s = np.array(deadlines_of(self.works))
        ends = [end_s(work) for work in self.works]
        self.deadline_s = np.repeat(ends, sizes)
        together = (self.machine[:, None] == self.machine) & (self.machine != RENT)
        self.waits = bool(self.wait_per_s.any())
        waits = self.wait_per_s[:, None] * self.run_s
        self.pair = np.where(together, np.minimum(waits, waits.T), 0.0)
        self.not_later = together & (self.deadline_s[:, None] <= self.deadline_s)
        self.later = together & ~self.not_later
        self._equal_machine = self._equals()
        self.kind = np.array([min([m, *self._equal_machine[m]]) for m in range(self.machines)])

    def chosen(self, state: Choice) -> NDArray[np.int64]:
        """Indices of the options that a state names."""
        return self.first[: len(state)] + np.array(state, dtype=np.int64)

    def placed(self, chosen: NDArray[np.int64]) -> float:
        """What the chosen options add up to at least, each pair of a machine in its better order."""
        return float(self.number[chosen].sum() + self._waits(chosen))

    def allowed(self, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which options of the jobs that follow keep all deadlines beside the chosen ones."""
        later = slice(self.first[len(chosen)], None)
        late_s, deadline_s = self.late_s[later], self.deadline_s[later] * (1 + ROUNDING)
        if not len(chosen):
            return np.asarray(late_s <= deadline_s)
        held_s = self.late_s[chosen]
        before_s = held_s @ self.not_later[chosen, later]
        free_s = self.deadline_s[chosen] * (1 + ROUNDING) - held_s @ self.not_later[np.ix_(chosen, chosen)]
        room_s = np.where(self.later[chosen, later], free_s[:, None], inf).min(axis=0)
        return np.asarray((before_s + late_s <= deadline_s) & (late_s <= room_s))

    def choices(self, state: Choice) -> list[int]:
        """Options of the next job that keep all deadlines; of what is equal only the first."""
        may = self.allowed(self.chosen(state))
        return [i for i in self.different(state) if may[i]]

    def different(self, state: Choice) -> Sequence[int]:
        """Options of the next job; of what is equal only the first, where waiting costs something."""
        depth, start = len(state), int(self.first[len(state)])
        options = range(len(self.works[depth].options))
        if not self.waits:
            return options
        used = set(self.machine[self.chosen(state)].tolist())
        least = state[-1] if depth and self.works[depth] == self.works[depth - 1] else 0
        equal = [self._equal_machine[m] for m in self.machine[start : start + len(options)].tolist()]
        return [i for i in options[least:] if all(m in used for m in equal[i])]

    def load_s(self, chosen: NDArray[np.int64]) -> Array:
        """How long the chosen options hold each machine."""
        here, total = chosen[self.machine[chosen] != RENT], np.zeros(self.machines)
        np.add.at(total, self.machine[here], self.late_s[here])
        return total

    def held_s(self, chosen: NDArray[np.int64]) -> Array:
        """The same, equal machines sorted."""
        total = self.load_s(chosen)
        return np.asarray(total[np.lexsort((total, self.kind))])

    def turns(self, state: Choice) -> dict[int, list[int]]:
        """The jobs on each machine, by their places in the order."""
        found: dict[int, list[int]] = {}
        for place, option in enumerate(self.chosen(state).tolist()):
            if self.machine[option] != RENT:
                found.setdefault(int(self.machine[option]), []).append(place)
        return found

    def turn(self, state: Choice, place: int) -> Turn:
        """A job as its machine sees it."""
        option = int(self.first[place]) + state[place]
        return Turn(*(float(x[option]) for x in (self.run_s, self.late_s, self.wait_per_s, self.deadline_s)))

    def least_places(self, depth: int) -> Array:
        """What a second adds for the jobs behind, by how many these are: the smallest weights of those not chosen."""
        weights = sorted(work.wait_per_s for work in self.works[depth:])
        return np.concatenate([[0.0], np.cumsum(weights)])[: len(weights)]

    def _waits(self, chosen: NDArray[np.int64]) -> float:
        pairs = self.pair[np.ix_(chosen, chosen)]
        return float((pairs.sum() - np.trace(pairs)) / 2)

    def _equals(self) -> dict[int, list[int]]:
        """The earlier machines on which every job has the same options."""
        looks: dict[int, Hashable] = {}
        for machine in range(self.machines):
            looks[machine] = tuple(
                tuple((o.number, o.run_s, o.late_s) for o in work.options if o.machine == machine)
                for work in self.works
            )
        found = {m: [other for other in range(m) if looks[other] == looks[m]] for m in range(self.machines)}
        return {RENT: [], **found}


def order_of(works: Sequence[Work]) -> tuple[int, ...]:
    """In which order to choose: the earliest deadline first, or, where waiting costs something, the longest job.

    Equal jobs follow each other.
    """
    kind: dict[Work, int] = {}
    for index, work in enumerate(works):
        kind.setdefault(work, index)
    if not any(work.wait_per_s for work in works):
        return tuple(sorted(range(len(works)), key=lambda i: (end_s(works[i]), kind[works[i]], i)))
    least_s = [min((o.run_s for o in work.options if o.machine != RENT), default=0.0) for work in works]
    return tuple(sorted(range(len(works)), key=lambda i: (-least_s[i], kind[works[i]], i)))


def end_s(work: Work) -> float:
    """The deadline of a job, infinite for none."""
    return inf if work.deadline_s is None else work.deadline_s
