"""One sample of a machine at work; whatever the machine does not tell is None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that has memory on a GPU.

    Attributes:
        pid: As the driver numbers it, which inside a container may be the host's number.
        user, name: Empty where this system does not show that process. Of its arguments only a script's name is kept.
        memory_bytes: On this GPU; None where the driver does not tell.
    """

    pid: int
    user: str = ""
    name: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part that a GPU was divided into (MIG)."""

    index: int
    memory_used_bytes: int | None = None
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSample:
    """One GPU at one moment.

    Attributes:
        index: As its vendor's driver counts; frameworks may count otherwise.
        bus: Its address on PCI.
        load_frac: Share of the time in which some kernel ran, which says nothing of how much of the GPU it filled.
        memory_load_frac: Share of the time in which memory was read or written.
        energy_j: Counted since its driver was loaded.
        clock_hz, max_clock_hz: Of its multiprocessors, now and at best.
        throttle: Why it holds its clock back; empty where it does not, None where it does not say.
        pcie_generation: Falls while the GPU is idle.
        temperature: Degrees Celsius.
        fault: Why nothing else is known: the GPU was lost, for example.
    """

    index: int
    vendor: str = ""
    name: str = ""
    bus: str = ""
    load_frac: float | None = None
    memory_load_frac: float | None = None
    memory_used_bytes: int | None = None
    memory_bytes: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    energy_j: float | None = None
    clock_hz: float | None = None
    max_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    max_memory_clock_hz: float | None = None
    throttle: tuple[str, ...] | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    temperature: int | None = None
    slices: tuple[Slice, ...] = ()
    processes: tuple[GpuProcess, ...] = ()
    fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """All GPUs at one moment.

    Attributes:
        at_s: On the clock that all processes of a computer share.
        gpus: Empty where none can be sampled.
        note: Why there are none, or why one vendor's are missing; empty where nothing is missing.
    """

    at_s: float
    gpus: tuple[GpuSample, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyZone:
    """An energy counter of the CPU.

    Attributes:
        energy_j: Counted since some moment.
        range_j: Where it begins again at zero; None where that is not stated.
    """

    energy_j: float
    range_j: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What a computer counts, at one moment.

    Attributes:
        at_s: On a clock that only moves forward.
        cpus: For each logical CPU: time it was busy, time the host gave to others, and all time, in seconds.
        disks: For each disk: bytes read, bytes written.
        networks: For each interface: bytes received, bytes sent.
        zones: Energy of each package and its memory.
    """

    at_s: float
    cpus: tuple[tuple[float, float, float], ...] = ()
    disks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    networks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    zones: Mapping[str, EnergyZone] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostState:
    """What a computer states of itself without counting.

    Attributes:
        memory_used_bytes: Without what the kernel would give back.
        group_used_bytes, group_bytes: Of this process's control group, where that has a limit.
        clock_hz, max_clock_hz: Mean over the CPUs, and the highest that is stated; None in most virtual machines.
        temperature: Of the hottest CPU package, degrees Celsius.
        no_energy: Why no energy counter can be read; empty where one can.
    """

    memory_used_bytes: int | None = None
    memory_bytes: int | None = None
    swap_used_bytes: int | None = None
    group_used_bytes: int | None = None
    group_bytes: int | None = None
    clock_hz: float | None = None
    max_clock_hz: float | None = None
    temperature: int | None = None
    no_energy: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What a computer did between two moments.

    Attributes:
        load_frac: Mean over the CPUs; ``loads`` has each.
        steal_frac: Share of the time that the host of a virtual machine gave to others.
        disks, networks: For each that moved anything, bytes a second: read and written, in and out.
        power_w: Of packages and their memory; None without energy counters.
    """

    load_frac: float | None = None
    loads: tuple[float, ...] = ()
    steal_frac: float | None = None
    disks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    networks: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    power_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostProcess:
    """A process that took CPU time.

    Attributes:
        load_frac: Of one core; above 1 where several of its threads worked.
        memory_bytes: Resident.
    """

    pid: int
    load_frac: float
    user: str = ""
    name: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A machine at one moment, and what it did since the sample before.

    Attributes:
        when: Date and time, UTC, ISO 8601.
        since_s: Time over which the rates were taken.
        processes: The busiest on the CPU, where they were asked for.
        notes: What could not be sampled, and what to do about it.
    """

    when: str
    since_s: float
    rates: Rates
    host: HostState
    gpus: tuple[GpuSample, ...] = ()
    processes: tuple[HostProcess, ...] = ()
    notes: tuple[str, ...] = ()
