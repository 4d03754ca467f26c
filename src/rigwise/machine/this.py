"""DEVICE ``this`` and snapshots as devices: a machine that was looked at, in the terms of the catalogue.

What the driver and the kernel state goes before the catalogue; what neither states is the catalogue's, or of the same
architecture, and the device's ``basis`` and ``note`` say so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from rigwise.errors import InvalidInputError, MissingFactError, UnknownNameError
from rigwise.facts import catalogue
from rigwise.facts.cpu import as_device
from rigwise.facts.device import Device
from rigwise.facts.names import words
from rigwise.machine.inspect import inspect
from rigwise.machine.match import architecture_here, catalogue_cpu, catalogue_gpu, number, value
from rigwise.machine.peaks import clock_here, cores_here
from rigwise.machine.snapshot import Field, Snapshot, read_snapshot
from rigwise.machine.theory import flop_per_cycle, lanes_of, memory_bytes_per_s, vector_peak
from rigwise.provenance import Basis

THIS = "this"
#: How the id of a machine that the catalogue does not have ends.
_OF_THIS = re.compile(r"-\d+-(cores|units)$")
_PART = re.compile(r"(?P<machine>.+?)(?::(?P<part>cpu|gpu\d{0,2}))?$", re.DOTALL)


def resolve_device(text: str) -> Device:
    """The device that ``text`` names: of the catalogue, of this machine, or of a snapshot.

    Args:
        text: A name of the catalogue; ``this`` or the path of a snapshot (``.json``), which mean the first GPU, or the
            CPU where there is none; ``this:cpu`` and ``this:gpu1`` mean one of them, and so after a path. The id that
            this machine got means it too.

    Raises:
        UnknownNameError: No device has the name.
        AmbiguousNameError: Several variants have it.
        InvalidInputError: The snapshot cannot be read, or has no such GPU.
        MissingFactError: The machine does not tell enough of itself.

    >>> resolve_device("Tesla T4").id
    't4'
    """
    if is_local(text):
        return _local(text)
    try:
        return catalogue.resolve_device(text)
    except UnknownNameError:
        if _OF_THIS.search(text) and _local(THIS).id == text:
            return _local(THIS)
        raise


def is_local(text: str) -> bool:
    """Whether a name means this machine or a snapshot, and none of the catalogue.

    >>> is_local("this"), is_local("server.json:gpu1"), is_local("t4")
    (True, True, False)
    """
    match = _PART.fullmatch(text)
    return match is not None and (match["machine"] == THIS or match["machine"].endswith(".json"))


@cache
def _local(text: str) -> Device:
    match = _PART.fullmatch(text)
    machine, part = (match["machine"], match["part"] or "") if match else (text, "")
    snapshot = inspect() if machine == THIS else read_snapshot(Path(machine))
    return device_of(snapshot, part, machine)


def device_of(snapshot: Snapshot, part: str = "", machine: str = THIS) -> Device:
    """A machine's first GPU, or its CPU where it has none; ``part`` asks for ``cpu`` or ``gpu1``.

    Raises:
        InvalidInputError: It has no such GPU.
        MissingFactError: It does not tell enough of itself.
    """
    if part == "cpu" or not (snapshot.gpus or part):
        return cpu_device(snapshot, machine)
    place = int(part.removeprefix("gpu") or 0)
    if place >= len(snapshot.gpus):
        count, here = len(snapshot.gpus), "this machine" if machine == THIS else machine
        shown = f"{count} GPUs, from gpu0 on" if count > 1 else "one GPU, gpu0" if count else "no GPU"
        raise InvalidInputError(f"{here} shows {shown}", hint="name another, or cpu")
    return gpu_device(snapshot.gpus[place], machine)


def cpu_device(snapshot: Snapshot, machine: str = THIS) -> Device:
    """The cores that this process may use, as a device.

    Raises:
        MissingFactError: Neither the catalogue nor the CPU's numbers tell its width, or its clock is not known.
    """
    cpu, is_itself = catalogue_cpu(snapshot)
    cores, (clock_hz, _) = cores_here(snapshot), clock_here(snapshot)
    isa = snapshot.value("cpu.isa")
    known = [str(word) for word in isa] if isinstance(isa, list) else []
    width = flop_per_cycle(known, cpu.fp32_flop_per_cycle_per_core) if cpu else None
    name = str(snapshot.value("cpu.name") or "the CPU")
    if cpu is None or cores is None or clock_hz is None or width is None:
        raise MissingFactError(
            f"{machine} does not tell enough of {name}: its microarchitecture, cores or clock are not known",
            hint="name a CPU of rigwise cpus that is like it",
        )
    total, limit = number(snapshot.memory, "total_bytes"), number(snapshot.limits, "cgroup_memory_bytes")
    usable = min(total or limit or 0.0, limit or total or 0.0)
    sockets = int(number(snapshot.cpu, "sockets") or 1)
    if is_itself and cores == cpu.cores and sockets == 1:
        whole = as_device(cpu)
        return replace(whole, memory_bytes=usable or whole.memory_bytes, note=_note(whole.note, "all of its cores"))
    here = replace(
        cpu,
        id=_id(name, architecture_here(snapshot) or cpu.architecture, cores),
        name=name,
        cores=cores,
        threads=None,
        performance_cores=None,
        efficiency_cores=None,
        base_hz=clock_hz,
        allcore_hz=cpu.allcore_hz if is_itself else None,
        max_hz=number(snapshot.cpu, "max_hz") or cpu.max_hz or clock_hz,
        isa=tuple(known),
        fp32_flop_per_cycle_per_core=width,
        amx_bf16_flop_per_cycle_per_core=cpu.amx_bf16_flop_per_cycle_per_core if "amx-bf16" in known else None,
        memory_bytes_per_s=cpu.memory_bytes_per_s * sockets if cpu.memory_bytes_per_s else None,
        l3_bytes=number(snapshot.cpu, "l3_bytes") or cpu.l3_bytes,
        tdp_w=None,
    )
    device = as_device(here)
    memory = usable or device.memory_bytes
    basis = {**device.basis, "memory_bytes": Basis.MEASURED if usable else Basis.ASSUMED}
    if not is_itself:
        basis |= {"memory_bytes_per_s": Basis.ASSUMED, "base_hz": Basis.ASSUMED, "boost_hz": Basis.ASSUMED}
    note = f"{cores} cores of {here.architecture} as probed, width and memory bandwidth of {cpu.name}"
    return replace(device, memory_bytes=memory, basis=basis, note=note, source="this machine")


def gpu_device(gpu: Mapping[str, Field], machine: str = THIS) -> Device:
    """A GPU of a snapshot: the catalogue's with the memory that its driver offers, or built from what was probed.

    Raises:
        MissingFactError: The catalogue has none of its name, and the driver does not tell enough.
    """
    device = catalogue_gpu(gpu)
    memory, limit = number(gpu, "memory_bytes"), number(gpu, "power_limit_w")
    if device is None:
        return _probed(gpu, machine)
    changed = {"usable_bytes": memory} if memory else {}
    if limit and device.tdp_w and limit < device.tdp_w:
        changed["tdp_w"] = limit
    if value(gpu, "mig") == "enabled":
        raise MissingFactError(f"{device.name} is divided by MIG: what a slice does is not known", hint="turn MIG off")
    basis = {**device.basis, **dict.fromkeys(changed, Basis.MEASURED)}
    return replace(device, **changed, basis=basis, note=_note(device.note, "memory and power limit as probed"))  # type: ignore[arg-type]


def _probed(gpu: Mapping[str, Field], machine: str) -> Device:
    """A GPU that the catalogue does not have: vector rate from its units, lanes and clock, bandwidth from its bus.

    Matrix rates are not known: its product line decides them, and a driver does not state it.
    """
    name = str(value(gpu, "name") or "GPU without a name")
    capability = str(value(gpu, "compute_capability") or "")
    units, lanes, clock_hz = number(gpu, "sm_count"), lanes_of(capability), number(gpu, "max_clock_hz")
    memory_hz = number(gpu, "cuda_memory_clock_hz") or number(gpu, "max_memory_clock_hz")
    bits, memory = number(gpu, "memory_bus_bits"), number(gpu, "memory_bytes")
    wanted = {
        "multiprocessors": units,
        "lanes": lanes,
        "clock": clock_hz,
        "memory": memory,
        "memory bus": memory_hz and bits,
    }
    missing = [word for word, found in wanted.items() if not found]
    if missing or not (units and lanes and clock_hz and memory_hz and bits):
        raise MissingFactError(
            f"the catalogue has no {name}, and {machine} does not tell its {', '.join(missing)}",
            hint="name a device of rigwise devices that is like it",
        )
    relative = next((one for one in catalogue.devices() if one.compute_capability == capability), None)
    return Device(
        id=_id(name, "", int(units)),
        name=name,
        vendor=str(value(gpu, "vendor") or ""),
        kind="gpu",
        architecture=relative.architecture if relative else "",
        compute_capability=capability,
        units=int(units),
        lanes_per_unit=lanes,
        shared_bytes_per_unit=relative.shared_bytes_per_unit if relative else None,
        register_bytes_per_unit=relative.register_bytes_per_unit if relative else None,
        boost_hz=clock_hz,
        peak_flops_per_s={"fp32": vector_peak(units=units, lanes=lanes, clock_hz=clock_hz).flops_per_s},
        memory_bytes=memory,
        usable_bytes=memory,
        memory_bytes_per_s=memory_bytes_per_s(2 * memory_hz, bits),
        l2_bytes=number(gpu, "l2_bytes"),
        tdp_w=number(gpu, "power_default_w") or number(gpu, "power_limit_w"),
        basis={"": Basis.MEASURED, "peak_flops_per_s": Basis.DERIVED, "memory_bytes_per_s": Basis.DERIVED},
        source="this machine",
        note="not in the catalogue: built from what was probed, without matrix units",
    )


def _id(name: str, architecture: str, count: int) -> str:
    """An id that no other machine has by chance.

    >>> _id("AMD EPYC", "Zen 5", 2)
    'epyc-zen-5-2-cores'
    """
    telling = "-".join([*words(name), *words(architecture)])[:60]
    return f"{telling}-{count}-{'cores' if architecture else 'units'}"


def _note(before: str, more: str) -> str:
    return f"{before}; {more}" if before else more
