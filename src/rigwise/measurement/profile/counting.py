"""What counters of a CPU say together.

Source: the manual page perf-stat(1) and perf-list(1) for the meaning of events; quotients by their definition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from rigwise.measurement.profile.spans import Counters

_CORES = re.compile(r"^cpu_(?:core|atom)/(.+)/[a-zA-Z]*$")
#: Of each quotient: what is divided by what.
_QUOTIENTS: Mapping[str, tuple[str, str]] = {
    "instructions_per_cycle": ("instructions", "cycles"),
    "cache_miss_frac": ("cache-misses", "cache-references"),
    "l1d_miss_frac": ("L1-dcache-load-misses", "L1-dcache-loads"),
    "llc_miss_frac": ("LLC-load-misses", "LLC-loads"),
    "dtlb_miss_frac": ("dTLB-load-misses", "dTLB-loads"),
    "branch_miss_frac": ("branch-misses", "branches"),
    "frontend_stalled_frac": ("stalled-cycles-frontend", "cycles"),
    "backend_stalled_frac": ("stalled-cycles-backend", "cycles"),
    "clock_hz": ("cycles", "task-clock"),
}
_SAME = {"cpu-cycles": "cycles", "branch-instructions": "branches", "cpu-clock": "task-clock"}
#: Bytes of a line of the cache on x86 and most ARM servers.
_LINE_BYTES = 64.0


def summed(counters: Counters) -> dict[str, float]:
    """Values by plain name; both kinds of cores of a hybrid CPU are added up."""
    found: dict[str, float] = {}
    for event, value in counters.values.items():
        match = _CORES.match(event)
        name = match.group(1) if match else event
        name = _SAME.get(name, name)
        if match or name not in found:
            found[name] = found.get(name, 0.0) + value
    return found


def quotients(counters: Counters) -> dict[str, float]:
    """What the counters say together, as far as both of a pair were counted.

    ``memory_bytes_per_s`` is what misses of the last cache fetch, without what is prefetched or written back.

    >>> c = Counters(values={"instructions": 3e9, "cycles": 2e9}, counted_frac={}, missing=(), elapsed_s=1.0)
    >>> quotients(c)
    {'instructions_per_cycle': 1.5}
    """
    values = summed(counters)
    found = {
        name: values[over] / values[under]
        for name, (over, under) in _QUOTIENTS.items()
        if over in values and values.get(under)
    }
    if counters.elapsed_s:
        if "task-clock" in values:
            found["cpus_used"] = values["task-clock"] / counters.elapsed_s
        misses = values.get("LLC-load-misses", values.get("cache-misses"))
        if misses is not None:
            found["memory_bytes_per_s"] = misses * _LINE_BYTES / counters.elapsed_s
    return found
