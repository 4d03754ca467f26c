"""A search makes many objects and hardly a cycle, so looking for garbage among them again and again is lost time."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Inside, the collector of cycles rests; reference counts free what is done with all the same.

    Of several threads the first to end wakes it for all, which costs the others no more than time.
    """
    was_at_work = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_at_work:
            gc.enable()
