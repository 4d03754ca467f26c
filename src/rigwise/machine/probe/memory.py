"""Memory as the kernel and the firmware describe it."""

from __future__ import annotations

import re

from rigwise.machine.probe import portable
from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Field, unknown

MEMINFO = "/proc/meminfo"
EDAC = "/sys/devices/system/edac/mc"
DMI = ("dmidecode", "-t", "17")


def memory(root: Root) -> dict[str, Field]:
    """Every field of the memory."""
    if root.foreign:
        return portable.memory()
    if root.has_program("sw_vers"):
        from rigwise.machine.probe.gpu_apple import memory as of_apple

        return of_apple(root)

    try:
        sizes, why = meminfo(root.text(MEMINFO)), "it does not state it"
    except Unreadable as error:
        sizes, why = {}, str(error)

    def stated(key: str) -> Field:
        return Field(value=sizes[key], source=MEMINFO) if key in sizes else unknown(MEMINFO, why)

    shm = "df of /dev/shm"
    return {
        "total_bytes": stated("MemTotal"),
        "available_bytes": stated("MemAvailable"),
        "swap_bytes": stated("SwapTotal"),
        "huge_pages": stated("HugePages_Total"),
        "transparent_huge_pages": root.field("/sys/kernel/mm/transparent_hugepage/enabled", chosen),
        "shm_bytes": attempt(shm, lambda: _shm(root)),
        **_modules(root),
    }


def meminfo(text: str) -> dict[str, int]:
    r"""Sizes in bytes, and counts, of /proc/meminfo.

    >>> meminfo("MemTotal:       1024 kB\nHugePages_Total:       3")
    {'MemTotal': 1048576, 'HugePages_Total': 3}
    """
    lines = re.findall(r"^(\w+(?:\(\w+\))?):\s+(\d{1,18})( kB)?\s*$", text, re.MULTILINE)
    return {key: int(number) * (1024 if unit else 1) for key, number, unit in lines}


def chosen(text: str) -> str:
    """The word in brackets of one of the kernel's choices.

    >>> chosen("always [madvise] never")
    'madvise'
    """
    return str(re.findall(r"\[([\w-]+)\]", text)[0])


def _shm(root: Root) -> int | None:
    from rigwise.machine.probe.disks import mounted_sizes

    return mounted_sizes(root).get("/dev/shm", (None, None))[0]


def _modules(root: Root) -> dict[str, Field]:
    """Modules, channels and speed: from the firmware's table, which only root may read, else from EDAC."""
    source = " ".join(DMI)
    try:
        modules = dmi_modules(root.run(*DMI))
        reason = "" if modules else "the firmware lists no module"
    except Unreadable as error:
        modules, reason = [], str(error)
    if modules:
        speeds = sorted({speed for speed, _, _ in modules if speed})
        return {
            "modules": Field(value=len(modules), source=source),
            "kind": Field(value=modules[0][1], source=source),
            "transfers_per_s": Field(value=speeds[0] * 10**6, source=source)
            if speeds
            else unknown(source, "no speed is stated"),
            "channels": attempt(source, lambda: len({channel for _, _, channel in modules if channel}) or None),
        }
    found = [(name, dimm) for name in root.names(EDAC, r"mc\d+$") for dimm in root.names(f"{EDAC}/{name}", r"dimm\d+$")]
    if found:
        first = f"{EDAC}/{found[0][0]}/{found[0][1]}"
        return {
            "modules": Field(value=len(found), source=EDAC),
            "kind": root.field(f"{first}/dimm_mem_type"),
            "transfers_per_s": unknown(source, reason),
            "channels": unknown(source, reason),
        }
    nothing = unknown(source, reason)
    return {"modules": nothing, "kind": nothing, "transfers_per_s": nothing, "channels": nothing}


def dmi_modules(text: str) -> list[tuple[int, str, str]]:
    r"""MT/s as configured, kind and channel of every module in ``dmidecode -t 17``; empty slots left out.

    The channel is the letter that makers put into the name of a slot, after the number of the socket; empty where there
    is none.

    >>> dmi_modules("Memory Device\n\tSize: 16 GB\n\tLocator: DIMM_A1\n\tType: DDR4\n\tSpeed: 3200 MT/s")
    [(3200, 'DDR4', 'A')]
    """
    modules = []
    for block in re.split(r"(?m)^Memory Device\s*$", text)[1:]:
        stated = dict(re.findall(r"(?m)^\s+([\w ]+): (.+?)\s*$", block))
        if not re.match(r"\d", stated.get("Size", "")):
            continue
        speed = stated.get("Configured Memory Speed") or stated.get("Configured Clock Speed") or stated.get("Speed", "")
        number = re.match(r"(\d{1,6}) M", speed)
        slot = f"{stated.get('Locator', '')} {stated.get('Bank Locator', '')}".upper()
        channel = re.search(r"(?:DIMM[_ ]?|CHANNEL[_ ]?)([A-P])", slot)
        socket = re.search(r"(?:CPU|P|NODE)[_ ]?(\d)", slot)
        place = f"{socket[1] if socket else ''}{channel[1]}" if channel else ""
        modules.append((int(number[1]) if number else 0, stated.get("Type", ""), place))
    return modules
