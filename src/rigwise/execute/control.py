"""What the workers of a dataflow share: when to begin and stop, the first fault, and what has been done."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from rigwise.execute.channel import BLOCKED, Account
from rigwise.execute.stage import Limits
from rigwise.execute.trace import Trace


class Control:
    """What all workers look at: may they begin, should sources end, must everything stop; and the first fault."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.go = threading.Event()
        self.ending = threading.Event()
        self.stopped = False
        self.failure: BaseException | None = None
        self._turn = threading.Lock() if limits.one_at_a_time else None
        self._lock = threading.Lock()
        self._to_stop: list[Callable[[], None]] = []

    def at_stop(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` when everything must stop."""
        self._to_stop.append(wake)

    def turn(self, account: Account) -> AbstractContextManager[Any]:
        """Held during a call: by one worker at a time, if they are to be measured alone."""
        if self._turn is None:
            return contextlib.nullcontext()
        account.switch(BLOCKED)
        return self._turn

    def fail(self, error: BaseException) -> None:
        """Remember the first fault and stop everything; faults that follow from the stop are no news."""
        with self._lock:
            if self.stopped:
                return
            self.failure = error
        self.stop()

    def stop(self) -> None:
        """Everybody ends at once, whatever is under way."""
        self.stopped = True
        self.ending.set()
        self.go.set()
        for wake in self._to_stop:
            wake()


class Tally:
    """What a stage has done, by all its workers."""

    def __init__(self, ports: int) -> None:
        self.lock = threading.Lock()
        self.calls = 0
        self.items_in = 0
        self.items_out = [0] * max(ports, 1)
        self.largest_batch = 0
        self.service_s: Trace[float] = Trace()
        self.service_sum_s = 0.0
        self.cpu_s = 0.0
        self.transfer_s: Trace[float] = Trace()

    def add(self, items: int, results: list[tuple[Any, float]], spent_s: float, cpu_s: float) -> None:
        """Some calls, their items together, the time they took in all and the CPU time."""
        with self.lock:
            self.items_in += items
            self.cpu_s += cpu_s
            service_s = 0.0
            for outs, took_s in results:
                self.calls += 1
                service_s += took_s
                self.service_s.add(took_s)
                for port, out in enumerate(outs):
                    self.items_out[port] += len(out)
            self.service_sum_s += service_s
            self.transfer_s.add(max(0.0, spent_s - service_s) / max(items, 1))
