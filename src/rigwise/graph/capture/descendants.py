"""Processes that a model's code starts do not outlive its capture, even if they left their group."""

from __future__ import annotations

import contextlib
import sys

#: Option of Linux's ``prctl``: orphans among the descendants become children of this process.
_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on no descendant can leave this process for another parent; Linux only."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_descendants(process: int) -> None:
    """Kill whatever a process started, and what that started; nothing happens if all have ended."""
    import psutil

    with contextlib.suppress(psutil.Error):
        for descendant in psutil.Process(process).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                descendant.kill()
