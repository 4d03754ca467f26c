"""Energy, power and memory of a stretch of time, from the readings that were taken in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rigwise.machine.live.rates import energy_between
from rigwise.machine.live.types import Counters, GpuReading, GpuSample

#: How the energy was come by.
RAPL, GPU_COUNTER, TRAPEZOID = "RAPL counters", "the GPU's energy counter", "power over time, trapezoid rule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one part of a machine took.

    Attributes:
        part: ``cpu``, ``gpu0``.
        bus: Of a GPU, its address on PCI.
        energy_j: None where it cannot be had, and ``reason`` says why.
        max_w: Highest power of any two neighbouring readings of a counter, or of any reading of power.
        how: Where the energy is from.
        throttle: Every reason that was seen for which the clock was held back.
        peak_memory_bytes: Of the GPU, by all processes.
    """

    part: str
    bus: str = ""
    energy_j: float | None = None
    mean_w: float | None = None
    max_w: float | None = None
    how: str = ""
    reason: str = ""
    throttle: tuple[str, ...] = ()
    peak_memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A stretch of time.

    Attributes:
        wall_s: From the first reading to the last.
        readings: How many there are.
        peak_memory_bytes: The most that the watched process had resident at a reading.
        notes: What could not be sampled.
    """

    wall_s: float = 0.0
    readings: int = 0
    parts: tuple[Part, ...] = ()
    peak_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def energy_j(self) -> float | None:
        """Of all parts together; None where one of them, or every one, cannot be had."""
        found = [part.energy_j for part in self.parts]
        return sum(one for one in found if one is not None) if found and None not in found else None


def cpu_part(readings: Sequence[Counters], no_energy: str = "") -> Part:
    """Energy of the packages and their memory.

    Neighbouring readings are added up, so that a counter may begin again at zero between any two.
    """
    if len(readings) < 2 or not readings[0].zones:
        return Part(part="cpu", reason=no_energy or "it has no energy counter")
    steps = [(energy_between(a.zones, b.zones), b.at_s - a.at_s) for a, b in pairwise(readings)]
    if any(energy is None for energy, _ in steps):
        return Part(part="cpu", reason="an energy counter could not be read all the time")
    known = [(energy, passed_s) for energy, passed_s in steps if energy is not None]
    wall_s, energy_j = readings[-1].at_s - readings[0].at_s, sum(energy for energy, _ in known)
    highest_w = max((energy / passed_s for energy, passed_s in known if passed_s > 0), default=None)
    return Part(part="cpu", energy_j=energy_j, mean_w=_mean_w(energy_j, wall_s), max_w=highest_w, how=RAPL)


def gpu_parts(readings: Sequence[GpuReading]) -> tuple[Part, ...]:
    """Each GPU that was ever seen, in the driver's order."""
    seen: dict[tuple[str, int], list[tuple[float, GpuSample]]] = {}
    for reading in readings:
        for gpu in reading.gpus:
            seen.setdefault((gpu.vendor, gpu.index), []).append((reading.at_s, gpu))
    return tuple(_gpu_part(f"gpu{place}", samples) for place, samples in enumerate(seen.values()))


def _gpu_part(name: str, samples: Sequence[tuple[float, GpuSample]]) -> Part:
    reasons = dict.fromkeys(reason for _, gpu in samples for reason in gpu.throttle or ())
    used = [gpu.memory_used_bytes for _, gpu in samples if gpu.memory_used_bytes is not None]
    powers = [(at_s, gpu.power_w) for at_s, gpu in samples if gpu.power_w is not None]
    energy_j, how = _gpu_energy(samples, powers)
    fault = next((gpu.fault for _, gpu in samples if gpu.fault), "")
    return Part(
        part=name,
        bus=samples[-1][1].bus,
        energy_j=energy_j,
        mean_w=None if energy_j is None else _mean_w(energy_j, samples[-1][0] - samples[0][0]),
        max_w=max((watts for _, watts in powers), default=None),
        how=how,
        reason="" if energy_j is not None else fault or "its driver states neither energy nor power",
        throttle=tuple(reasons),
        peak_memory_bytes=max(used, default=None),
    )


def _gpu_energy(
    samples: Sequence[tuple[float, GpuSample]], powers: Sequence[tuple[float, float]]
) -> tuple[float | None, str]:
    """By its counter where that moved, else by its power; nothing where it fell silent on the way."""
    first, last = samples[0][1].energy_j, samples[-1][1].energy_j
    if first is not None and last is not None and last > first:
        return last - first, GPU_COUNTER
    if len(powers) >= 2 and len(powers) == len(samples):
        return trapezoid(powers), TRAPEZOID
    return None, ""


def _mean_w(energy_j: float, wall_s: float) -> float | None:
    return energy_j / wall_s if wall_s > 0 else None


def trapezoid(powers: Sequence[tuple[float, float]]) -> float:
    """Joules of a series of times and watts, straight between its points.

    >>> trapezoid([(0.0, 100.0), (2.0, 200.0)])
    300.0
    """
    return sum(0.5 * (a_w + b_w) * (end_s - start_s) for (start_s, a_w), (end_s, b_w) in pairwise(powers))
