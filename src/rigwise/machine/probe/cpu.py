"""The CPU as the kernel describes it: cores, sockets, NUMA, instruction sets, caches, governor."""

from __future__ import annotations

import re
from typing import Any

from rigwise.machine.probe import portable
from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Confidence, Field, unknown

CPUINFO = "/proc/cpuinfo"
SYSTEM = "/sys/devices/system/cpu"

#: Kernel's word for an instruction set -> the catalogue's.
ISA = {
    "sse4_2": "sse4.2", "avx": "avx", "fma": "fma", "avx2": "avx2", "avx512f": "avx512", "avx512_vnni": "vnni",
    "avx_vnni": "vnni", "avx512_bf16": "bf16", "avx512_fp16": "fp16", "amx_tile": "amx", "amx_bf16": "amx-bf16",
    "amx_int8": "amx-int8", "asimd": "neon", "asimdhp": "fp16", "asimddp": "dotprod", "sve": "sve", "sve2": "sve2",
    "bf16": "bf16", "i8mm": "i8mm",
}  # fmt: skip

#: Implementers of Arm cores, as the kernel numbers them.
ARM_MAKERS = {"0x41": "Arm", "0x4e": "NVIDIA", "0x51": "Qualcomm", "0x61": "Apple", "0xc0": "Ampere"}


def cpu(root: Root) -> dict[str, Field]:
    """Every field of the CPU."""
    if root.foreign:
        return portable.cpu()
    if root.has_program("sw_vers"):
        from rigwise.machine.probe.gpu_apple import cpu as of_apple

        return of_apple(root)
    try:
        entries = cpuinfo_entries(root.text(CPUINFO))
    except Unreadable as error:
        return {"name": unknown(CPUINFO, str(error)), **_from_sys(root)}
    first = entries[0] if entries else {}

    def stated(*keys: str, convert: Any = str) -> Field:
        return attempt(CPUINFO, lambda: convert(next(first[key] for key in keys if key in first)))

    found = {
        "name": _name(first),
        "vendor": stated("vendor_id") if "vendor_id" in first else _arm_maker(first),
        "family": stated("cpu family", "CPU architecture", convert=int),
        "model": stated("model", "CPU part", convert=lambda text: int(text, 0)),
        "stepping": stated("stepping", "CPU revision", convert=int),
        "logical": attempt(CPUINFO, lambda: len(entries) or None),
        **_counts(root, entries),
        "isa": attempt(CPUINFO, lambda: isa_of(first.get("flags") or first["Features"])),
        "virtual": attempt(CPUINFO, lambda: "hypervisor" in first.get("flags", "").split()),
        "nominal_hz": _nominal(root, first),
    }
    return {**found, **_from_sys(root)}


def cpuinfo_entries(text: str) -> list[dict[str, str]]:
    r"""One mapping for each logical CPU of /proc/cpuinfo; what stands in no such form is left out.

    >>> cpuinfo_entries("processor : 0\nmodel name : X\n\nprocessor : 1\nmodel name : X")[1]
    {'processor': '1', 'model name': 'X'}
    """
    entries: list[dict[str, str]] = []
    for line in text.splitlines():
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon:
            continue
        if key == "processor" and value.isdecimal():
            entries.append({})
        if entries:
            entries[-1][key] = value
    return entries


def isa_of(flags: str) -> list[str]:
    """The vector instruction sets among the kernel's flags.

    >>> isa_of("fpu sse4_2 avx avx2 fma avx512f")
    ['sse4.2', 'avx', 'fma', 'avx2', 'avx512']
    """
    said = set(flags.split())
    return list(dict.fromkeys(word for flag, word in ISA.items() if flag in said))


def _name(first: dict[str, str]) -> Field:
    for key in ("model name", "Hardware", "Model", "cpu"):
        if first.get(key):
            return Field(value=first[key], source=CPUINFO)
    if "CPU part" in first:
        maker = ARM_MAKERS.get(first.get("CPU implementer", ""), "Arm")
        return Field(value=f"{maker} core, part {first['CPU part']}", source=CPUINFO)
    return unknown(CPUINFO, "it says nothing")


def _arm_maker(first: dict[str, str]) -> Field:
    return attempt(CPUINFO, lambda: ARM_MAKERS.get(first["CPU implementer"], first["CPU implementer"]))


def _counts(root: Root, entries: list[dict[str, str]]) -> dict[str, Field]:
    """Sockets and physical cores; from /sys where /proc/cpuinfo does not number them."""
    packages = [entry.get("physical id", "") for entry in entries]
    cores = [(entry.get("physical id", ""), entry.get("core id", "")) for entry in entries]
    source = CPUINFO
    if not all(core for _, core in cores):
        source = f"{SYSTEM}/cpu*/topology"
        numbers = [name for name in root.names(SYSTEM) if re.fullmatch(r"cpu\d+", name)]
        places = [(_plain(root, name, "physical_package_id"), _plain(root, name, "core_id")) for name in numbers]
        packages, cores = [place[0] for place in places], places
    known = bool(cores) and all(package and core for package, core in cores)
    if not known:
        nothing = unknown(source, "cores are not numbered")
        return {"sockets": nothing, "cores": nothing}
    return {
        "sockets": Field(value=len(set(packages)), source=source),
        "cores": Field(value=len(set(cores)), source=source),
    }


def _plain(root: Root, name: str, key: str) -> str:
    try:
        return root.text(f"{SYSTEM}/{name}/topology/{key}")
    except Unreadable:
        return ""


def _nominal(root: Root, first: dict[str, str]) -> Field:
    """The rated clock: the driver's base frequency, the maker's name, or what the kernel prints."""
    base = root.field(f"{SYSTEM}/cpu0/cpufreq/base_frequency", lambda text: 1e3 * int(text))
    if base.value:
        return base
    rated = re.search(r"@\s*([\d.]+)\s*GHz", first.get("model name", ""))
    if rated:
        return attempt(CPUINFO, lambda: round(1e9 * float(rated.group(1))))
    if "cpu MHz" not in first:
        return unknown(CPUINFO, "it states no clock")
    printed = attempt(CPUINFO, lambda: round(1e6 * float(first["cpu MHz"])), Confidence.ASSUMED)
    virtual = "hypervisor" in first.get("flags", "").split()
    why = "the rate of the time stamp counter, not the clock of the cores" if virtual else "the clock at this moment"
    return Field(value=printed.value, source=CPUINFO, confidence=Confidence.ASSUMED, reason=why)


def _from_sys(root: Root) -> dict[str, Field]:
    frequency = f"{SYSTEM}/cpu0/cpufreq"
    return {
        "max_hz": root.field(f"{frequency}/cpuinfo_max_freq", lambda text: 1e3 * int(text)),
        "governor": root.field(f"{frequency}/scaling_governor"),
        "frequency_driver": root.field(f"{frequency}/scaling_driver"),
        "online": root.field(f"{SYSTEM}/online"),
        "numa_nodes": attempt("/sys/devices/system/node", lambda: _nodes(root)),
        "smt": root.field(f"{SYSTEM}/smt/active", lambda text: bool(int(text))),
        **_caches(root),
    }


def _nodes(root: Root) -> int | None:
    return len(root.names("/sys/devices/system/node", r"node\d+$")) or None


def _caches(root: Root) -> dict[str, Field]:
    """Size of each cache, and how many CPUs share one of the last level."""
    found: dict[str, Field] = {}
    folder = f"{SYSTEM}/cpu0/cache"
    for name in root.names(folder, r"index\d+$"):
        place = f"{folder}/{name}"
        try:
            level, kind = root.text(f"{place}/level"), root.text(f"{place}/type").lower()
        except Unreadable:
            continue
        letter = {"data": "d", "instruction": "i"}.get(kind, "")
        if not level.isdecimal() or len(level) > 1:
            continue
        found[f"l{level}{letter}_bytes"] = root.field(f"{place}/size", cache_bytes)
        found[f"l{level}{letter}_cpus"] = root.field(f"{place}/shared_cpu_list", lambda text: len(cpu_list(text)))
    return found or {"l3_bytes": unknown(folder, "no cache is described")}


def cache_bytes(text: str) -> int:
    """Bytes from the kernel's form of a cache size.

    >>> cache_bytes("32768K")
    33554432
    """
    factor = {"K": 2**10, "M": 2**20, "G": 2**30}.get(text[-1:].upper())
    return int(text[:-1]) * factor if factor else int(text)


def cpu_list(text: str, limit: int = 65_536) -> list[int]:
    """The CPUs of a list in the kernel's form.

    >>> cpu_list("0-3,8")
    [0, 1, 2, 3, 8]
    """
    found: list[int] = []
    for part in filter(None, text.strip().split(",")):
        low, _, high = part.partition("-")
        first, last = int(low), int(high or low)
        if not 0 <= first <= last < limit:
            raise ValueError("no list of CPUs")
        found.extend(range(first, last + 1))
    return sorted(set(found))
