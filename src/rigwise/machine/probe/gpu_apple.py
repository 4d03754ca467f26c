"""A Mac, from ``sysctl`` and ``system_profiler``: CPU, memory that the GPU shares, and the GPU."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

from rigwise.edge import parse_json
from rigwise.errors import InvalidInputError
from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Field, Value, unknown

SYSCTL = ("sysctl", "hw", "machdep.cpu")
PROFILER = ("system_profiler", "-json", "SPDisplaysDataType")


def sysctl_values(text: str) -> dict[str, str]:
    r"""Names and values as ``sysctl`` prints them.

    >>> sysctl_values("hw.memsize: 17179869184\nhw.ncpu: 8")
    {'hw.memsize': '17179869184', 'hw.ncpu': '8'}
    """
    return dict(re.findall(r"(?m)^([\w.]+)[:=] *(.*?) *$", text))


def _stated(root: Root) -> Callable[..., Field]:
    try:
        values, why = sysctl_values(root.run(*SYSCTL)), "there is no such key"
    except Unreadable as error:
        values, why = {}, str(error)

    def stated(key: str, convert: Callable[[str], Value] = str) -> Field:
        if key not in values:
            return unknown(f"sysctl {key}", why)
        return attempt(f"sysctl {key}", lambda: convert(values[key]))

    return stated


def cpu(root: Root) -> dict[str, Field]:
    """The CPU of a Mac."""
    stated = _stated(root)
    return {
        "name": stated("machdep.cpu.brand_string"),
        "vendor": stated("machdep.cpu.brand_string", lambda text: text.split()[0].removesuffix("(R)")),
        "sockets": stated("hw.packages", int),
        "cores": stated("hw.physicalcpu", int),
        "logical": stated("hw.logicalcpu", int),
        "performance_cores": stated("hw.perflevel0.physicalcpu", int),
        "efficiency_cores": stated("hw.perflevel1.physicalcpu", int),
        "isa": stated("hw.optional.neon", lambda text: ["neon"] if text == "1" else None),
        "nominal_hz": stated("hw.cpufrequency", int),
        "l2_bytes": stated("hw.l2cachesize", int),
        "l3_bytes": stated("hw.l3cachesize", int),
    }


def memory(root: Root) -> dict[str, Field]:
    """The memory of a Mac, which its GPU shares."""
    stated = _stated(root)
    return {"total_bytes": stated("hw.memsize", int)}


def limits(root: Root) -> dict[str, Field]:
    """Logical CPUs, all of which a process may use: macOS has neither control groups nor a fixed affinity."""
    counted = _stated(root)("hw.logicalcpu", int)
    return {"cpu_count": counted, "usable_cpus": counted}


def gpus(root: Root) -> list[dict[str, Field]]:
    """One entry for every GPU of a Mac."""
    if not root.has_program("sw_vers"):
        return []
    source = " ".join(PROFILER)
    try:
        listed = displays(root.run(*PROFILER))
    except Unreadable:
        return []
    shared = _stated(root)("hw.memsize", int)
    return [_gpu(place, gpu, source, shared) for place, gpu in enumerate(listed)]


def _gpu(place: int, gpu: dict[str, Any], source: str, shared: Field) -> dict[str, Field]:
    return {
        "index": Field(value=place, source=source),
        "vendor": attempt(source, lambda: str(gpu["spdisplays_vendor"]).rpartition("_")[2]),
        "name": attempt(source, partial(gpu.__getitem__, "sppci_model")),
        "sm_count": attempt(source, lambda: int(str(gpu["sppci_cores"]))),
        "memory_bytes": shared,
    }


def displays(text: str) -> list[dict[str, Any]]:
    """The GPUs that system_profiler lists.

    Raises:
        Unreadable: It is not of that form.
    """
    try:
        listed = parse_json(text, "system_profiler")["SPDisplaysDataType"]
    except (InvalidInputError, LookupError, TypeError):
        raise Unreadable("system_profiler printed no list of GPUs") from None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
