"""A worker, or a source, in a thread of this process; ``remote`` has the same for another process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import Any

from rigwise.execute.calls import Convention, answer, fault, items_of
from rigwise.execute.remote import WorkerFaultError


class Local:
    """A worker in this process."""

    def __init__(self, function: Callable[..., Any], how: Convention) -> None:
        self._function = function
        self._how = how

    def ask(self, calls: list[list[Any]]) -> tuple[list[tuple[Any, float]], float]:
        """As ``Remote.ask``."""
        results: list[tuple[Any, float]] = []
        cpu = time.thread_time()
        for items in calls:
            begin = time.perf_counter()
            try:
                out = answer(self._function, self._how, items)
            except (Exception, SystemExit) as error:
                raise WorkerFaultError(f" failed{fault(error)}", len(results)) from error
            results.append((out, time.perf_counter() - begin))
        return results, time.thread_time() - cpu


class LocalSource:
    """A source in this process."""

    def __init__(self, call: Callable[..., Any] | str) -> None:
        self._items = items_of(call)

    def next_item(self) -> tuple[Any, float, float] | None:
        """As ``Remote.next_item``."""
        begin, cpu = time.perf_counter(), time.thread_time()
        try:
            item = next(self._items)
        except StopIteration:
            return None
        except (Exception, SystemExit) as error:
            raise WorkerFaultError(f" failed{fault(error)}") from error
        return item, time.perf_counter() - begin, time.thread_time() - cpu

    def close(self) -> None:
        """Let a generator that is not at its end run its ``finally``."""
        if isinstance(self._items, Generator):
            self._items.close()
