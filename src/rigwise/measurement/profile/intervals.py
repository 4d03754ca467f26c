"""Sets of time as sorted pieces that do not touch."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence

Pieces = list[tuple[float, float]]


def merged(pieces: Iterable[tuple[float, float]]) -> Pieces:
    """The union of pieces in any order.

    >>> merged([(3.0, 4.0), (0.0, 2.0), (1.0, 2.5)])
    [(0.0, 2.5), (3.0, 4.0)]
    """
    found: Pieces = []
    for start, end in sorted(pieces):
        if found and start <= found[-1][1]:
            if end > found[-1][1]:
                found[-1] = (found[-1][0], end)
        elif end > start:
            found.append((start, end))
    return found


def without(pieces: Sequence[tuple[float, float]], others: Sequence[tuple[float, float]]) -> Pieces:
    """What of merged pieces lies outside other merged pieces.

    >>> without([(0.0, 4.0)], [(1.0, 2.0), (3.0, 9.0)])
    [(0.0, 1.0), (2.0, 3.0)]
    """
    found: Pieces = []
    at = 0
    for start, end in pieces:
        while at < len(others) and others[at][1] <= start:
            at += 1
        here = at
        while here < len(others) and others[here][0] < end:
            if others[here][0] > start:
                found.append((start, others[here][0]))
            start = max(start, others[here][1])  # noqa: PLW2901
            here += 1
        if start < end:
            found.append((start, end))
    return found


def total_s(pieces: Iterable[tuple[float, float]]) -> float:
    """Length of merged pieces together."""
    return sum(end - start for start, end in pieces)


class Cover:
    """Merged pieces that are asked often how much of a stretch they cover."""

    def __init__(self, pieces: Sequence[tuple[float, float]]) -> None:
        self._starts = [start for start, _ in pieces]
        self._ends = [end for _, end in pieces]
        self._before = [0.0]
        for start, end in pieces:
            self._before.append(self._before[-1] + end - start)

    def within_s(self, start_s: float, end_s: float) -> float:
        """How much lies between two times.

        >>> Cover([(0.0, 2.0), (3.0, 5.0)]).within_s(1.0, 4.0)
        2.0
        """
        return max(0.0, self._up_to(end_s) - self._up_to(start_s)) if end_s > start_s else 0.0

    def _up_to(self, time_s: float) -> float:
        at = bisect_right(self._starts, time_s)
        return self._before[at] - (max(0.0, self._ends[at - 1] - time_s) if at else 0.0)
