"""A long search as its user sees it: how far it is, and that it can be ended with what it has."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_EVERY_S = 0.2
_WIDTH = 78
#: What a free hour counts in an objective is no money.
_NOTHING = 1e-9


class Watch:
    """Asked by a search at every step: draws a progress line, and says whether Ctrl-C was pressed."""

    def __init__(self, objective: str, *, shows: bool) -> None:
        self._objective, self._shows = objective, shows
        self._drawn_s = time.monotonic()
        self.interrupted = False

    def __call__(self, best: float, bound: float) -> bool:
        """Whether to end the search; ``best`` is infinite until something was found."""
        now_s = time.monotonic()
        if self._shows and now_s - self._drawn_s > _EVERY_S:
            self._drawn_s = now_s
            sys.stderr.write(f"\r{progress_line(self._objective, best, bound):<{_WIDTH}.{_WIDTH}}")
            sys.stderr.flush()
        return self.interrupted

    def clear(self) -> None:
        """Wipe the progress line."""
        if self._shows:
            sys.stderr.write("\r" + " " * _WIDTH + "\r")
            sys.stderr.flush()


def progress_line(objective: str, best: float, bound: float) -> str:
    """Best so far and bound so far.

    >>> progress_line("cost", 10.0, 8.0)
    'best so far $10.00, nothing below $8.00: gap 25 %; Ctrl-C takes it'
    """
    from rigwise.search.bounds import format_value

    if not math.isfinite(best):
        return "searching"
    if bound < _NOTHING:
        return f"best so far {format_value(objective, best)}; Ctrl-C takes it"
    gap = f": gap {best / bound - 1:.0%}".replace("%", " %")
    shown = f"best so far {format_value(objective, best)}"
    return f"{shown}, nothing below {format_value(objective, bound)}{gap}; Ctrl-C takes it"


@contextmanager
def watching(objective: str, *, quiet: bool) -> Iterator[Watch]:
    """A watch for one search; the first Ctrl-C ends the search, a second one the program."""
    watch = Watch(objective, shows=sys.stderr.isatty() and not quiet)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if watch.interrupted:
            raise KeyboardInterrupt
        watch.interrupted = True

    heard = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, interrupt) if heard else None
    try:
        yield watch
    finally:
        if heard:
            signal.signal(signal.SIGINT, before)
        watch.clear()
