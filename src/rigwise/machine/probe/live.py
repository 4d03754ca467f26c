"""Samples of this computer, and the energy and peaks of a stretch of time."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rigwise.machine.live.energy import Summary, cpu_part, gpu_parts
from rigwise.machine.live.rates import rates
from rigwise.machine.live.types import Counters, GpuReading, Sample
from rigwise.machine.probe.live_gpus import NONE, GpuFeed
from rigwise.machine.probe.live_host import Host
from rigwise.machine.probe.live_processes import BusyProcesses

#: Readings that are kept in full; of a longer stretch every second one goes, again and again.
_MOST_READINGS = 20_000
#: What a driver's answers became was never seen beside what its own tools show.
UNTRIED = "the GPUs' figures: those who wrote this had stand-ins only; compare with nvidia-smi or rocm-smi"


class Watcher:
    """Samples of this computer, one after the other; rates are over the time since the one before.

    Args:
        limit_s: A GPU driver that has not answered by then is left alone for a while.
        processes: Whether to look for the busiest processes too.
        host, gpus: What reads them, where they were made already.
    """

    def __init__(
        self,
        *,
        limit_s: float = 5.0,
        processes: bool = False,
        host: Host | None = None,
        gpus: GpuFeed | None = None,
    ) -> None:
        self._host, self._gpus = host or Host(), gpus or GpuFeed(limit_s=limit_s)
        self._processes = BusyProcesses() if processes else None
        self._gpus.read()  # opens the drivers, which takes longer than asking them
        self._before = self._host.counters()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gpus.close()

    def sample(self) -> Sample:
        """This computer now."""
        reading, now = self._gpus.read(), self._host.counters()
        before, self._before = self._before, now
        return Sample(
            when=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z",
            since_s=now.at_s - before.at_s,
            rates=rates(before, now),
            host=self._host.state(),
            gpus=reading.gpus,
            processes=self._processes.read() if self._processes else (),
            notes=tuple(note for note in (reading.note, UNTRIED if reading.gpus else "") if note),
        )


class Sampler:
    """Energy, power, reasons for low clocks and peak memory of what runs inside a ``with`` block.

    Counters are read at both ends of the block, so that energy from them is of the block and of nothing else; in
    between a thread reads them every ``every_s``, for the highest power and for counters that begin again at zero.
    NVIDIA's counters move every 20 to 100 ms: less than a second says little. The energy is that of the whole part,
    whoever used it, idling included.

    Args:
        every_s: Time between two readings.
        limit_s: A GPU driver that has not answered by then is left alone for a while.
        pid: The process whose resident memory is watched, without its children; None for this one.
        host, gpus: What reads them, where several blocks share one; ``gpus`` then stays open.
    """

    def __init__(
        self,
        every_s: float = 0.1,
        *,
        limit_s: float = 5.0,
        pid: int | None = None,
        host: Host | None = None,
        gpus: GpuFeed | None = None,
    ) -> None:
        self._every_s, self._pid = every_s, pid
        self._host, self._gpus, self._is_own = host or Host(), gpus or GpuFeed(limit_s=limit_s), gpus is None
        self._counters: list[Counters] = []
        self._readings: list[GpuReading] = []
        self._peak_bytes: int | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._gpus.read()
        self._read()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._read()
        if self._is_own:
            self._gpus.close()

    def summary(self) -> Summary:
        """What was seen so far."""
        counters, readings = list(self._counters), list(self._readings)
        notes = dict.fromkeys(reading.note for reading in readings if reading.note and reading.note != NONE)
        return Summary(
            wall_s=counters[-1].at_s - counters[0].at_s if counters else 0.0,
            readings=len(counters),
            parts=(cpu_part(counters, self._host.no_energy), *gpu_parts(readings)),
            peak_memory_bytes=self._peak_bytes,
            notes=tuple(notes),
        )

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._read()

    def _read(self) -> None:
        self._readings.append(self._gpus.read())
        self._counters.append(self._host.energy())
        used = resident_bytes(self._pid)
        self._peak_bytes = max(self._peak_bytes or 0, used) if used is not None else self._peak_bytes
        for kept in (self._readings, self._counters):
            if len(kept) >= _MOST_READINGS:
                del kept[1:-1:2]


def resident_bytes(pid: int | None = None) -> int | None:
    """Memory that a process has resident; None where it is gone, or not shown.

    Args:
        pid: None for this process.
    """
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except (psutil.Error, OSError, ValueError):
        return None
