"""The processes that took the most CPU time since they were last looked at."""

from __future__ import annotations

import time
from typing import Any

from rigwise.machine.live.types import HostProcess
from rigwise.machine.probe.live_nvidia import named

#: Processes that are named.
_SHOWN = 5


class BusyProcesses:
    """Looks at every process of this computer each time, which costs some 50 us of CPU time for each.

    Args:
        library: The module ``psutil``, or what stands for it.
    """

    def __init__(self, library: Any = None) -> None:
        if library is None:
            import psutil

            library = psutil
        self._psutil = library
        self._before, self._at_s = self._times_s(), time.monotonic()

    def read(self) -> tuple[HostProcess, ...]:
        """The busiest first; those that took nothing are left out, and so is one that began meanwhile."""
        times_s, now_s = self._times_s(), time.monotonic()
        before, passed_s = self._before, now_s - self._at_s
        self._before, self._at_s = times_s, now_s
        took_s = {key: spent_s - before[key] for key, spent_s in times_s.items() if key in before}
        busiest = sorted((key for key in took_s if took_s[key] > 0), key=lambda key: -took_s[key])[:_SHOWN]
        return tuple(self._process(pid, took_s[pid, began_s] / passed_s) for pid, began_s in busiest if passed_s > 0)

    def _times_s(self) -> dict[tuple[int, float], float]:
        """CPU time by number and start of each process: numbers are used again."""
        found = {}
        for process in self._psutil.process_iter(["cpu_times", "create_time"]):
            times, began_s = process.info["cpu_times"], process.info["create_time"]
            if times is not None and began_s is not None:
                found[process.pid, float(began_s)] = float(times.user + times.system)
        return found

    def _process(self, pid: int, cores: float) -> HostProcess:
        try:
            memory = int(self._psutil.Process(pid).memory_info().rss) or None  # one that has ended holds nothing
        except (self._psutil.Error, OSError):
            memory = None
        return HostProcess(pid=pid, load_frac=cores, memory_bytes=memory, **named(pid))
