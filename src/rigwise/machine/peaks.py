"""Theoretical peaks of a snapshot, one entry for each number format of the CPU and of each GPU, and for memory."""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.machine.match import catalogue_cpu, catalogue_gpu, number, value
from rigwise.machine.probe.pcie import link_bytes_per_s
from rigwise.machine.snapshot import Confidence, Field, Snapshot
from rigwise.machine.theory import Peak, cpu_peaks, gpu_peaks, lanes_of, memory_bytes_per_s, vector_peak


def peaks(snapshot: Snapshot) -> tuple[dict[str, Field], ...]:
    """Peaks of what the snapshot shows; none for a thing whose units, clock or width are not known."""
    found = [_entry("cpu", peak, confidence) for peak, confidence in _of_cpu(snapshot)]
    found += _of_memory(snapshot)
    for place, gpu in enumerate(snapshot.gpus):
        device, units = catalogue_gpu(gpu), number(gpu, "sm_count")
        if device and (units or device.units):
            clock = number(gpu, "max_clock_hz")
            counted = int(units or device.units or 0)
            certain = Confidence.DERIVED if units else Confidence.ASSUMED
            found += [
                _entry(f"gpu {place}", peak, certain) for peak in gpu_peaks(device, units=counted, clock_hz=clock)
            ]
        elif device is None:
            found += _of_vectors(place, gpu)
        found += _of_bus(place, gpu, device.memory_bytes_per_s if device else None)
        found += _of_link(place, gpu)
    return tuple(found)


def cores_here(snapshot: Snapshot) -> int | None:
    """Cores that this process can keep busy: of the machine, or as many as its CPU limit allows."""
    cores = number(snapshot.cpu, "cores") or number(snapshot.cpu, "logical")
    usable = number(snapshot.limits, "usable_cpus")
    return max(1, int(min(cores, usable or cores))) if cores else None


def clock_here(snapshot: Snapshot) -> tuple[float | None, Confidence]:
    """The clock that a peak is stated at, rated or held by all cores; assumed where the kernel states another thing."""
    cpu, is_itself = catalogue_cpu(snapshot)
    rated = (cpu.allcore_hz or cpu.base_hz) if cpu and is_itself else None
    if rated:
        return rated, Confidence.DERIVED
    field = snapshot.get("cpu.nominal_hz")
    clock = number(snapshot.cpu, "nominal_hz")
    if field is None or clock is None:
        return None, Confidence.UNKNOWN
    return clock, Confidence.ASSUMED if field.confidence is Confidence.ASSUMED else Confidence.DERIVED


def _of_cpu(snapshot: Snapshot) -> list[tuple[Peak, Confidence]]:
    cpu, is_itself = catalogue_cpu(snapshot)
    cores, (clock_hz, confidence) = cores_here(snapshot), clock_here(snapshot)
    isa = snapshot.value("cpu.isa")
    if not (cpu and cores and clock_hz and isinstance(isa, list)):
        return []
    certain = confidence if is_itself else Confidence.ASSUMED
    known = [str(word) for word in isa]
    return [(peak, certain) for peak in cpu_peaks(cpu, known, cores=cores, clock_hz=clock_hz)]


def _of_memory(snapshot: Snapshot) -> list[dict[str, Field]]:
    """Channels x transfers x 8 bytes where the firmware tells; else what the catalogue states of the CPU."""
    transfers, channels = number(snapshot.memory, "transfers_per_s"), number(snapshot.memory, "channels")
    if transfers and channels:
        words = f"{channels:.0f} channels x {transfers / 1e6:.0f} MT/s x 8 bytes"
        return [_memory("memory", "bandwidth", memory_bytes_per_s(transfers, 64 * channels), words, Confidence.DERIVED)]
    cpu, is_itself = catalogue_cpu(snapshot)
    if cpu is None or not cpu.memory_bytes_per_s:
        return []
    sockets = number(snapshot.cpu, "sockets") or 1
    words = f"{cpu.name}, {sockets:.0f} socket{'s' if sockets > 1 else ''}, full of modules"
    if not is_itself:
        shared = "shared with others" if snapshot.value("cpu.virtual") else "full of modules"
        words = f"a whole socket of {cpu.architecture}, {shared}"
    return [_memory("memory", "bandwidth", sockets * cpu.memory_bytes_per_s, words, Confidence.ASSUMED)]


def _of_vectors(place: int, gpu: Mapping[str, Field]) -> list[dict[str, Field]]:
    """Of a GPU that the catalogue does not have, by what CUDA says of it."""
    lanes = lanes_of(str(value(gpu, "compute_capability") or ""))
    units, clock_hz = number(gpu, "sm_count"), number(gpu, "max_clock_hz")
    if not (lanes and units and clock_hz):
        return []
    return [_entry(f"gpu {place}", vector_peak(units=units, lanes=lanes, clock_hz=clock_hz), Confidence.DERIVED)]


def _of_bus(place: int, gpu: Mapping[str, Field], stated: float | None) -> list[dict[str, Field]]:
    """Two transfers in each cycle of the memory clock, as CUDA states it, over the width of the bus."""
    clock, bits = (
        number(gpu, "cuda_memory_clock_hz") or number(gpu, "max_memory_clock_hz"),
        number(gpu, "memory_bus_bits"),
    )
    if clock and bits:
        words = f"2 x {clock / 1e6:.0f} MHz x {bits:.0f} bit"
        return [_memory(f"gpu {place}", "memory", memory_bytes_per_s(2 * clock, bits), words, Confidence.DERIVED)]
    return [_memory(f"gpu {place}", "memory", stated, "the data sheet", Confidence.ASSUMED)] if stated else []


def _of_link(place: int, gpu: Mapping[str, Field]) -> list[dict[str, Field]]:
    """To the host, each way: at the width it has now, and the generation it reaches under load."""
    width, generation = number(gpu, "pcie_width"), number(gpu, "pcie_generation_max")
    if not width or not generation or not 1 <= generation <= 6:
        return []
    words = f"PCIe {generation:.0f} x{width:.0f}, after line coding"
    rate = link_bytes_per_s(int(generation), int(width))
    return [_memory(f"gpu {place}", "to host", rate, words, Confidence.DERIVED)]


def _entry(of: str, peak: Peak, confidence: Confidence) -> dict[str, Field]:
    return {
        "of": Field(value=of, source="machine"),
        "what": Field(value=peak.what, source="machine"),
        "flops_per_s": Field(value=peak.flops_per_s, source=peak.arithmetic, confidence=confidence),
    }


def _memory(of: str, what: str, bytes_per_s: float, words: str, confidence: Confidence) -> dict[str, Field]:
    return {
        "of": Field(value=of, source="machine"),
        "what": Field(value=what, source="machine"),
        "bytes_per_s": Field(value=bytes_per_s, source=words, confidence=confidence),
    }
