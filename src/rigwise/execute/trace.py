"""A series of any length in bounded memory: every k-th value, k doubling when it is full."""

from __future__ import annotations

import math
from typing import Generic, TypeVar

T = TypeVar("T")

_MOST = 8192


class Trace(Generic[T]):
    """Evenly thinned values with their running numbers.

    >>> trace: Trace[float] = Trace()
    >>> for n in range(100_000):
    ...     trace.add(float(n))
    >>> trace.count, len(trace.points()), quantile([value for _, value in trace.points()], 0.5)
    (100000, 6250, 49984.0)
    """

    __slots__ = ("_step", "_values", "count")

    def __init__(self) -> None:
        self.count = 0
        self._step = 1
        self._values: list[T] = []

    def add(self, value: T) -> None:
        """One more value."""
        if self.count % self._step == 0:
            self._values.append(value)
            if len(self._values) == _MOST:
                del self._values[1::2]
                self._step *= 2
        self.count += 1

    def points(self) -> list[tuple[int, T]]:
        """Running number, from 0, and value of those kept."""
        return [(index * self._step, value) for index, value in enumerate(self._values)]

    def values(self) -> list[T]:
        """Values kept."""
        return list(self._values)


def quantile(values: list[float], fraction: float) -> float | None:
    """The smallest value that at least ``fraction`` of them do not exceed; None if there is none.

    >>> quantile([3.0, 1.0, 2.0], 0.5)
    2.0
    """
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(fraction * len(values)) - 1)]
