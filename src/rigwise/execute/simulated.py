"""Stand-ins for components without a function: they sleep as long as the component is said to take.

Those of one place share its cores: who finds none free waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from math import floor
from typing import Any


class Cores:
    """Cores of a place: as many sleep side by side as it has."""

    def __init__(self, number: int) -> None:
        self._free = threading.Semaphore(number)
        self._turn = threading.Lock()

    def keep_busy(self, number: int, time_s: float) -> None:
        """Hold ``number`` cores for a time."""
        with self._turn:
            for _ in range(number):
                self._free.acquire()
        try:
            time.sleep(time_s)
        finally:
            self._free.release(number)


def simulated_source(busy: Callable[[float], None], item_s: float, ports: Sequence[str]) -> Callable[[], Iterator[Any]]:
    """A source that gives empty items, each after ``item_s``."""

    def items() -> Iterator[Any]:
        while True:
            busy(item_s)
            yield dict.fromkeys(ports, 0) if len(ports) > 1 else 0

    return items


def simulated_stage(
    busy: Callable[[float], None], item_s: float, ratios: Sequence[tuple[str, float]], *, batched: bool
) -> Callable[..., Any]:
    """A stage that is busy ``item_s`` for each item and gives as many items as its ratios say.

    >>> stage = simulated_stage(time.sleep, 0.0, [("", 0.5)], batched=False)
    >>> [len(list(stage(0))) for _ in range(4)]
    [0, 1, 0, 1]
    """
    given = [0.0] * len(ratios)
    lock = threading.Lock()

    def call(*arguments: Any) -> Any:
        number = len(arguments[0]) if batched else 1
        busy(item_s * number)
        out = {}
        with lock:
            for position, (port, ratio) in enumerate(ratios):
                before = floor(given[position] + 1e-9)
                given[position] += ratio * number
                out[port] = iter([0] * (floor(given[position] + 1e-9) - before))
        return out if len(out) != 1 else next(iter(out.values()))

    return call
