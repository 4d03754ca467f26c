"""Where two sources about one machine disagree: catalogue and driver, kernel and control group, link and device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rigwise.facts.device import Device
from rigwise.machine.match import catalogue_cpu, catalogue_gpu, number, value
from rigwise.machine.snapshot import Field, Finding, Snapshot
from rigwise.units import GIB, MIB

#: A driver keeps up to this share of a device's memory for itself: 16 GiB of a T4 are 14.7 GiB.
_KEPT_FRAC = 0.09
#: Makers round a cache to whole MiB.
_L2_FRAC = 0.02


def findings(snapshot: Snapshot) -> tuple[Finding, ...]:
    """Every disagreement, GPUs first."""
    found: list[Finding] = []
    for place, gpu in enumerate(snapshot.gpus):
        device = catalogue_gpu(gpu)
        found += _of_catalogue(place, gpu, device) if device else _unknown_gpu(place, gpu)
        found += [*_of_power(place, gpu), *_of_link(place, gpu), *_unanswered(place, gpu)]
    return (*found, *_of_drivers(snapshot), *_of_limits(snapshot), *_of_cpu(snapshot))


def _of_catalogue(place: int, gpu: Mapping[str, Field], device: Device) -> Iterator[Finding]:
    """SM count, L2 and memory against the catalogue's."""

    def differs(key: str, text: str) -> Finding:
        return Finding(where=f"gpus.{place}.{key}", text=text, sources=(gpu[key].source, f"catalogue: {device.id}"))

    units, l2, memory = (number(gpu, key) for key in ("sm_count", "l2_bytes", "memory_bytes"))
    if units and device.units and units != device.units:
        slice_of = ": CUDA shows a slice of it (MIG is on)" if value(gpu, "mig") == "enabled" else ""
        yield differs(
            "sm_count", f"the driver counts {units:.0f} multiprocessors, the catalogue {device.units}{slice_of}"
        )
    if l2 and device.l2_bytes and abs(l2 / device.l2_bytes - 1) > _L2_FRAC:
        yield differs(
            "l2_bytes", f"the driver states {l2 / MIB:.0f} MiB of L2, the catalogue {device.l2_bytes / MIB:.0f}"
        )
    stated = device.usable_bytes or device.memory_bytes
    most = max(stated or 0.0, device.memory_bytes or 0.0)
    if memory and stated and not (1 - _KEPT_FRAC) * stated <= memory <= 1.01 * most:
        mig = " (MIG is on)" if value(gpu, "mig") == "enabled" else ""
        ecc = "; ECC takes 1/16 of GDDR" if value(gpu, "ecc") == "enabled" and 0.85 < memory / stated < 1 else ""
        text = f"the driver offers {memory / GIB:.1f} GiB, the catalogue states {stated / GIB:.1f}{mig}{ecc}"
        yield differs("memory_bytes", text)
    limit = number(gpu, "power_limit_w")
    default = number(gpu, "power_default_w")
    if limit and device.tdp_w and abs(limit / device.tdp_w - 1) > 0.01 and not (default and limit < 0.99 * default):
        text = f"power is limited to {limit:.0f} W, the catalogue states {device.tdp_w:.0f} W"
        yield differs("power_limit_w", text)


def _unknown_gpu(place: int, gpu: Mapping[str, Field]) -> Iterator[Finding]:
    name = value(gpu, "name")
    if isinstance(name, str):
        text = f"the catalogue has no {name}: predictions rest on what was probed"
        yield Finding(where=f"gpus.{place}.name", text=text, sources=(gpu["name"].source, "catalogue"))


def _unanswered(place: int, gpu: Mapping[str, Field]) -> Iterator[Finding]:
    """A GPU that the kernel knows and its driver does not describe."""
    memory = gpu.get("memory_bytes")
    if memory is not None and memory.value is None and value(gpu, "vendor") == "NVIDIA":
        text = f"its driver does not describe it: {memory.reason}"
        yield Finding(where=f"gpus.{place}.memory_bytes", text=text, sources=(memory.source,))


def _of_power(place: int, gpu: Mapping[str, Field]) -> Iterator[Finding]:
    limit, default = number(gpu, "power_limit_w"), number(gpu, "power_default_w")
    if limit and default and limit < 0.99 * default:
        text = f"power is limited to {limit:.0f} W, {default:.0f} W is the default of the board"
        yield Finding(where=f"gpus.{place}.power_limit_w", text=text, sources=(gpu["power_limit_w"].source,))


def _of_link(place: int, gpu: Mapping[str, Field]) -> Iterator[Finding]:
    """Fewer lanes than the device has; a lower generation is usual while it rests."""
    width, widest = number(gpu, "pcie_width"), number(gpu, "pcie_width_max")
    if width and widest and width < widest:
        text = f"its PCIe link has {width:.0f} lanes of {widest:.0f}"
        yield Finding(where=f"gpus.{place}.pcie_width", text=text, sources=(gpu["pcie_width"].source,))


def _of_drivers(snapshot: Snapshot) -> Iterator[Finding]:
    """GPUs on the bus that no driver shows."""
    shown = {value(gpu, "vendor") for gpu in snapshot.gpus}
    for vendor in ("NVIDIA", "AMD"):
        found = [
            e for e in snapshot.pcie if value(e, "vendor") == vendor and value(e, "kind") in ("gpu", "accelerator")
        ]
        if found and vendor not in shown:
            driver = value(found[0], "driver")
            bound = f"its driver is {driver}" if driver else "it has no driver"
            text = f"a GPU of {vendor} is on the PCIe bus, and nothing shows it: {bound}"
            yield Finding(where="pcie.driver", text=text, sources=(found[0]["address"].source,))


def _of_limits(snapshot: Snapshot) -> Iterator[Finding]:
    """Programs that ask for the number of CPUs get the machine's, not what they may use."""
    count, usable = number(snapshot.limits, "cpu_count"), number(snapshot.limits, "usable_cpus")
    if count and usable and usable < count:
        text = (
            f"os.cpu_count() says {count:.0f}, and {usable:g} may be used: set the number of threads and workers by it"
        )
        yield Finding(where="limits.usable_cpus", text=text, sources=(snapshot.limits["usable_cpus"].source,))
    limit, total = number(snapshot.limits, "cgroup_memory_bytes"), number(snapshot.memory, "total_bytes")
    if limit and total and limit < total:
        text = f"the machine has {total / GIB:.1f} GiB, and {limit / GIB:.1f} GiB may be used"
        yield Finding(
            where="limits.cgroup_memory_bytes", text=text, sources=(snapshot.limits["cgroup_memory_bytes"].source,)
        )


def _of_cpu(snapshot: Snapshot) -> Iterator[Finding]:
    """Cores and instruction sets against the catalogue's."""
    cpu, is_itself = catalogue_cpu(snapshot)
    isa = snapshot.value("cpu.isa")
    if cpu is None or not isinstance(isa, list):
        return
    masked = [word for word in ("avx2", "avx512") if word in cpu.isa and word not in isa]
    if masked:
        text = f"{cpu.architecture} has {', '.join(masked)}, and this machine hides it"
        yield Finding(where="cpu.isa", text=text, sources=(snapshot.cpu["isa"].source, f"catalogue: {cpu.id}"))
    cores, sockets = number(snapshot.cpu, "cores"), number(snapshot.cpu, "sockets") or 1
    if is_itself and cores and cpu.cores and cores > cpu.cores * sockets:
        text = f"the kernel counts {cores:.0f} cores, the catalogue {cpu.cores} in each of {sockets:.0f} sockets"
        yield Finding(where="cpu.cores", text=text, sources=(snapshot.cpu["cores"].source, f"catalogue: {cpu.id}"))
