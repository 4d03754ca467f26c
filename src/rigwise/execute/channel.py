"""The bounded queue between two stages, the order behind one, and the account of how a worker spends its time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

#: What a worker does: waits for items, for a batch to fill within its time, for room after it, or for its
#: source's rate; calls the user's function; runs stages inline; or handles queues itself.
STARVED, FILLING, BLOCKED, PACED, BUSY, INSIDE, OVERHEAD = range(7)
_STATES = 7

#: A worker in one of these goes on by itself.
LIVE = frozenset({FILLING, PACED, BUSY, OVERHEAD})


class StoppedError(Exception):
    """The dataflow is being stopped; workers end at once."""


class Account:
    """How one worker spends its time: seconds in each state."""

    __slots__ = ("_seconds", "_since", "items", "state")

    def __init__(self) -> None:
        self._seconds = [0.0] * _STATES
        self._since = time.perf_counter()
        self.state = OVERHEAD
        self.items: tuple[int, int] = (0, 0)

    def switch(self, state: int) -> float:
        """Go into a state; returns the clock."""
        now = time.perf_counter()
        self._seconds[self.state] += now - self._since
        self._since = now
        self.state = state
        return now

    def held_s(self, now: float) -> float:
        """Time in the present state."""
        return now - self._since

    def seconds(self, now: float) -> list[float]:
        """Seconds in each state until now."""
        spent = list(self._seconds)
        spent[self.state] += max(0.0, now - self._since)
        return spent


class Channel:
    """A queue that holds at most ``capacity`` items; who puts more waits.

    One worker takes at a time (``Intake`` sees to it); any number put.
    """

    def __init__(self, capacity: int, producers: int) -> None:
        lock = threading.Lock()
        self.capacity = capacity
        self._lock = lock
        self._filled = threading.Condition(lock)
        self._freed = threading.Condition(lock)
        self._items: deque[Any] = deque()
        self._open = producers
        self._stopped = False
        self._discarding = False
        self._area = 0.0
        self._changed = time.perf_counter()
        self.passed = 0
        self.dropped = 0
        self.longest = 0

    def put(self, items: list[Any], account: Account) -> None:
        """Add items, waiting for room.

        Raises:
            StoppedError: The dataflow is being stopped.
        """
        with self._lock:
            if self._discarding:
                self.dropped += len(items)
                return
            for item in items:
                if len(self._items) >= self.capacity:
                    self._wait_for_room(account)
                if self._stopped:
                    raise StoppedError
                self._note()
                self._items.append(item)
                self.longest = max(self.longest, len(self._items))
            self._filled.notify()

    def _wait_for_room(self, account: Account) -> None:
        self._filled.notify()
        account.switch(BLOCKED)
        while len(self._items) >= self.capacity and not self._stopped and not self._discarding:
            self._freed.wait()
        account.switch(OVERHEAD)

    def take(self, least: int, most: int, max_wait_s: float | None, account: Account) -> list[Any]:
        """Up to ``most`` items, once there are ``least``, no more will come, or the first has waited long enough.

        Nothing comes back when all who put have closed and all has been taken.

        Raises:
            StoppedError: The dataflow is being stopped.
        """
        with self._lock:
            if len(self._items) < least and self._open and not self._stopped:
                self._wait_for_items(least, max_wait_s, account)
            if self._stopped:
                raise StoppedError
            self._note()
            taken = [self._items.popleft() for _ in range(min(most, len(self._items)))]
            self.passed += len(taken)
            if taken:
                self._freed.notify_all()
            return taken

    def _wait_for_items(self, least: int, max_wait_s: float | None, account: Account) -> None:
        account.switch(STARVED)
        while not self._items and self._open and not self._stopped:
            self._filled.wait()
        if max_wait_s is not None:
            account.switch(FILLING)
            end = time.perf_counter() + max_wait_s
            while len(self._items) < least and self._open and not self._stopped:
                left = end - time.perf_counter()
                if left <= 0 or not self._filled.wait(left):
                    break
        else:
            while len(self._items) < least and self._open and not self._stopped:
                self._filled.wait()
        account.switch(OVERHEAD)

    def close(self) -> None:
        """One of those who put has ended."""
        with self._lock:
            self._open -= 1
            self._filled.notify_all()

    def stop(self) -> None:
        """Wake everybody with ``StoppedError``."""
        with self._lock:
            self._stopped = True
            self._filled.notify_all()
            self._freed.notify_all()

    def discard(self) -> None:
        """Drop what is here and what still comes, so that nobody waits; ``dropped`` counts it."""
        with self._lock:
            self._note()
            self._discarding = True
            self.dropped += len(self._items)
            self._items.clear()
            self._freed.notify_all()

    def waiting(self) -> int:
        """Items in it now."""
        return len(self._items)

    def area_s(self) -> float:
        """Length, summed over time: its difference over a time is the mean length in it."""
        with self._lock:
            self._note()
            return self._area

    def _note(self) -> None:
        now = time.perf_counter()
        self._area += len(self._items) * (now - self._changed)
        self._changed = now


class Order:
    """Lets results out in the order of their tickets, and keeps workers from running too far ahead."""

    def __init__(self, window: int) -> None:
        self._window = window
        self._next = 0
        self._results: dict[int, Any] = {}
        self._moved = threading.Condition()
        self._gate = threading.Lock()
        self._stopped = False

    def wait_for(self, ticket: int, account: Account) -> None:
        """Until ``ticket`` is near enough to be worked on."""
        with self._moved:
            if ticket - self._next >= self._window and not self._stopped:
                account.switch(BLOCKED)
                while ticket - self._next >= self._window and not self._stopped:
                    self._moved.wait()
                account.switch(OVERHEAD)
            if self._stopped:
                raise StoppedError

    def hand_on(self, ticket: int, result: Any, emit: Callable[[Any, Account], None], account: Account) -> None:
        """Emit this result and those that waited for it, or leave it to the worker it waits for."""
        with self._moved:
            self._results[ticket] = result
        account.switch(BLOCKED)
        with self._gate:
            account.switch(OVERHEAD)
            while (ready := self._results.pop(self._next, None)) is not None:
                emit(ready, account)
                with self._moved:
                    self._next += 1
                    self._moved.notify_all()

    def stop(self) -> None:
        """Wake who waits."""
        with self._moved:
            self._stopped = True
            self._moved.notify_all()
