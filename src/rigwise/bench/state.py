"""What else went on while a figure was taken: other processes, the host of a virtual machine, the GPU's clock."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rigwise.bench.types import State

#: Columns of the first line of /proc/stat after ``cpu``. Source: proc(5).
_USER, _NICE, _SYSTEM, _IDLE, _IOWAIT, _IRQ, _SOFTIRQ, _STEAL = range(8)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Counters at one moment.

    Attributes:
        at_s: Time.
        own_s: CPU time of this process and of its children that ended.
        ticks: ``/proc/stat``, empty where there is none.
        stalled_s: Time in which some process waited for a CPU, None where the kernel does not count it.
    """

    at_s: float
    own_s: float
    ticks: tuple[int, ...] = ()
    stalled_s: float | None = None


def mark(root: Path = Path("/proc")) -> Marks:
    """The counters now."""
    times = os.times()
    own_s = times.user + times.system + times.children_user + times.children_system
    return Marks(
        at_s=time.monotonic(),
        own_s=own_s,
        ticks=_ticks(_text(root / "stat")),
        stalled_s=_stalled_s(_text(root / "pressure" / "cpu")),
    )


def between(before: Marks, after: Marks, *, ticks_per_s: int = 100) -> State:
    """What others did between two marks; nothing is said of less than a tenth of a second.

    Source: proc(5) for the ticks, of all CPUs together; the kernel's "PSI - Pressure Stall Information".

    >>> a = Marks(at_s=0.0, own_s=0.0, ticks=(0, 0, 0, 0, 0, 0, 0, 0))
    >>> b = Marks(at_s=1.0, own_s=0.5, ticks=(100, 0, 0, 90, 0, 0, 0, 10))
    >>> state = between(a, b)
    >>> state.others_frac, state.steal_frac
    (0.25, 0.05)
    """
    passed_s = after.at_s - before.at_s
    if passed_s < 0.1:
        return State()
    others = steal = stall = None
    if before.ticks and after.ticks:
        done = [now - then for then, now in zip(before.ticks, after.ticks, strict=False)]
        everything = sum(done[: _STEAL + 1])
        busy = sum(done[place] for place in (_USER, _NICE, _SYSTEM, _IRQ, _SOFTIRQ))
        own = (after.own_s - before.own_s) * ticks_per_s
        if everything > 0:
            others = min(1.0, max(0.0, (busy - own) / everything))
            steal = done[_STEAL] / everything
    if before.stalled_s is not None and after.stalled_s is not None:
        stall = min(1.0, max(0.0, (after.stalled_s - before.stalled_s) / passed_s))
    return State(others_frac=others, steal_frac=steal, stall_frac=stall)


def remarks(state: State, spread: float | None) -> tuple[str, ...]:
    """Why a figure may be off, most likely cause first, for people."""
    found: list[str] = []
    if state.throttled:
        found.append(f"the GPU held its clock back: {', '.join(state.throttled)}")
    if (state.others_frac or 0.0) > 0.1:
        found.append(f"other processes took {state.others_frac:.0%} of the CPU time".replace("%", " %"))
    if (state.steal_frac or 0.0) > 0.02:
        found.append(f"the host gave {state.steal_frac:.0%} of the CPU time to others".replace("%", " %"))
    if spread is not None and spread > 0.1:
        found.append(f"the middle half of the samples spans {spread:.0%} of the median".replace("%", " %"))
    return tuple(found)


def clock_ticks() -> int:
    """Ticks of ``/proc/stat`` in a second."""
    try:
        return int(os.sysconf("SC_CLK_TCK"))
    except (AttributeError, OSError, ValueError):
        return 100


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _ticks(text: str) -> tuple[int, ...]:
    words: Sequence[str] = text.partition("\n")[0].split()
    if len(words) < _STEAL + 2 or words[0] != "cpu" or not all(word.isdigit() for word in words[1:]):
        return ()
    return tuple(int(word) for word in words[1:])


def _stalled_s(text: str) -> float | None:
    line = text.partition("\n")[0]
    total = line.rpartition("total=")[2]
    return int(total) / 1e6 if line.startswith("some ") and total.isdigit() else None
