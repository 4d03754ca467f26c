"""Which device of the catalogue a thing of a snapshot is; never a guess between two."""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.errors import RigwiseError
from rigwise.facts import catalogue
from rigwise.facts.cpu import Cpu
from rigwise.facts.cpuid import architecture_of, relative_of
from rigwise.facts.device import Device
from rigwise.machine.snapshot import Field, Snapshot

#: A driver keeps some of the memory for itself, and makers count in other units: how far sizes may lie apart.
_NEAR_FRAC = 0.12


def value(entry: Mapping[str, Field], key: str) -> object:
    """The value of a field; None where it is unknown or absent."""
    return entry[key].value if key in entry else None


def number(entry: Mapping[str, Field], key: str) -> float | None:
    """The value of a field that is a number above 0; None otherwise."""
    found = value(entry, key)
    is_number = isinstance(found, int | float) and not isinstance(found, bool)
    return float(found) if is_number and found > 0 else None  # type: ignore[arg-type,operator]


def catalogue_gpu(gpu: Mapping[str, Field]) -> Device | None:
    """The accelerator that the name means; where several have it, the one with this memory and these units."""
    name = value(gpu, "name")
    if not isinstance(name, str):
        return None
    try:
        return catalogue.device(name)
    except RigwiseError:
        found = [catalogue.device(identifier) for identifier in catalogue.device_names().candidates(name)]
    memory, units = number(gpu, "memory_bytes"), number(gpu, "sm_count")
    if len(found) > 1 and memory:
        found = [
            d for d in found if d.memory_bytes and abs(memory / (d.usable_bytes or d.memory_bytes) - 1) < _NEAR_FRAC
        ]
    if len(found) > 1 and units:
        found = [device for device in found if device.units == units]
    return found[0] if len(found) == 1 and memory else None


def _has_memory(device: Device, memory_bytes: float) -> bool:
    stated = device.usable_bytes or device.memory_bytes
    return stated is not None and abs(memory_bytes / stated - 1) < _NEAR_FRAC


def catalogue_cpu(snapshot: Snapshot) -> tuple[Cpu | None, bool]:
    """The CPU that the name means, or a relative by its numbers; and whether it is the CPU itself."""
    name = snapshot.value("cpu.name")
    if isinstance(name, str):
        try:
            return catalogue.cpu(name), True
        except RigwiseError:
            pass
    architecture = architecture_here(snapshot)
    return (relative_of(architecture, is_server=_is_server(snapshot)), False) if architecture else (None, False)


def architecture_here(snapshot: Snapshot) -> str:
    """The microarchitecture by the CPU's own numbers, empty where they are not known."""
    numbers = [snapshot.value(f"cpu.{key}") for key in ("family", "model", "stepping")]
    vendor = snapshot.value("cpu.vendor")
    if not isinstance(vendor, str) or not all(isinstance(one, int) for one in numbers[:2]):
        return ""
    return architecture_of(vendor, numbers[0], numbers[1], numbers[2] if isinstance(numbers[2], int) else 0)


def _is_server(snapshot: Snapshot) -> bool:
    name = str(snapshot.value("cpu.name"))
    return bool(snapshot.value("cpu.virtual")) or any(word in name for word in ("EPYC", "Xeon", "Neoverse"))
