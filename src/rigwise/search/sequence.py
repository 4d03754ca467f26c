"""In which order jobs should run on one machine, one after the other.

Without deadlines the best order is by time over weight (Smith's rule), whichever jobs they are: each pair
adds the smaller of what one or the other waits. Where that order misses a deadline the last job is chosen among those
whose deadline lies after the end of all, and so on backwards; every such choice is looked at, as two times
count: the median in the objective and a later one for the deadline.

Source: W. E. Smith, "Various optimizers for single-stage production", Naval Research Logistics Quarterly 3, 1956;
J. R. Jackson, "Scheduling a production line to minimize maximum tardiness", 1955, for the earliest deadline first.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

from rigwise.search.shared_types import ROUNDING


class Turn(NamedTuple):
    """A job on a machine: how long it holds it, at the median and late, and what a second of waiting adds."""

    run_s: float
    late_s: float
    wait_per_s: float
    deadline_s: float


def in_time(turns: Sequence[Turn]) -> bool:
    """Whether jobs in this order keep their deadlines.

    >>> in_time([Turn(1, 2, 0, 2), Turn(1, 2, 0, 3)])
    False
    """
    end_s = 0.0
    for turn in turns:
        end_s += turn.late_s
        if end_s > turn.deadline_s * (1 + ROUNDING):
            return False
    return True


def waiting(turns: Sequence[Turn]) -> float:
    """What waiting adds to the objective, in this order."""
    start_s = total = 0.0
    for turn in turns:
        total += turn.wait_per_s * start_s
        start_s += turn.run_s
    return total


def best_order(turns: Sequence[Turn]) -> tuple[float, tuple[int, ...]] | None:
    """What waiting adds in the best order that keeps all deadlines, and that order; None if there is none.

    Where waiting costs nothing the short ones come early where they may.

    >>> best_order([Turn(5, 5, 1, inf), Turn(1, 1, 1, inf)])
    (1.0, (1, 0))
    """
    by_deadline = sorted(range(len(turns)), key=lambda i: turns[i].deadline_s)
    if not in_time([turns[i] for i in by_deadline]):
        return None
    if not any(turn.wait_per_s for turn in turns):
        return 0.0, _short_ones_early(turns)
    smith = sorted(range(len(turns)), key=lambda i: (_ratio_s(turns[i]), turns[i].deadline_s, i))
    return _backwards(turns, tuple(smith), {})


def _ratio_s(turn: Turn) -> float:
    return turn.run_s / turn.wait_per_s if turn.wait_per_s else inf


def _short_ones_early(turns: Sequence[Turn]) -> tuple[int, ...]:
    """From the end: of those that may be last the longest."""
    left, order = list(range(len(turns))), []
    while left:
        end_s = sum(turns[i].late_s for i in left)
        may = [i for i in left if end_s <= turns[i].deadline_s * (1 + ROUNDING)]
        last = max(may or [max(left, key=lambda i: turns[i].deadline_s)], key=lambda i: (turns[i].run_s, i))
        left.remove(last)
        order.append(last)
    return tuple(reversed(order))


_Known = dict[tuple[int, ...], tuple[float, tuple[int, ...]] | None]


def _backwards(turns: Sequence[Turn], left: tuple[int, ...], known: _Known) -> tuple[float, tuple[int, ...]] | None:
    """The best order of those that are left, which stand in the order of Smith's rule."""
    if left not in known:
        known[left] = _last_of(turns, left, known)
    return known[left]


def _last_of(turns: Sequence[Turn], left: tuple[int, ...], known: _Known) -> tuple[float, tuple[int, ...]] | None:
    ordered = [turns[i] for i in left]
    if in_time(ordered):
        return waiting(ordered), left
    end_s, run_s, best = sum(t.late_s for t in ordered), sum(t.run_s for t in ordered), None
    for i in left:
        turn = turns[i]
        if end_s > turn.deadline_s * (1 + ROUNDING):
            continue
        rest = _backwards(turns, tuple(j for j in left if j != i), known)
        if rest is None:
            continue
        total = rest[0] + turn.wait_per_s * (run_s - turn.run_s)
        if best is None or total < best[0]:
            best = total, (*rest[1], i)
    return best
