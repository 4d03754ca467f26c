"""What this process may use of the machine: the CPUs it may run on, and the limits of its control groups."""

from __future__ import annotations

import math

from rigwise.machine.probe import portable
from rigwise.machine.probe.cpu import SYSTEM, cpu_list
from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Confidence, Field, unknown

GROUPS = "/proc/self/cgroup"
MOUNT = "/sys/fs/cgroup"
#: Version 1 states "no limit" as a number near 2**63.
NO_LIMIT_BYTES = 2**60


def limits(root: Root) -> dict[str, Field]:
    """What ``os.cpu_count()`` says, what the affinity and the control group allow, and what is left to use."""
    if root.foreign:
        return portable.limits()
    if root.has_program("sw_vers"):
        from rigwise.machine.probe.gpu_apple import limits as of_apple

        return of_apple(root)
    machine = root.field(f"{SYSTEM}/online", lambda text: len(cpu_list(text)))
    allowed = attempt("/proc/self/status", lambda: len(cpu_list(_status(root)["Cpus_allowed_list"])))
    quota, memory = cpu_quota(root), memory_limit(root)
    version = "2" if root.exists(f"{MOUNT}/cgroup.controllers") else "1" if root.names(MOUNT) else ""
    known = [field.value for field in (machine, allowed, quota) if isinstance(field.value, int | float)]
    return {
        "cpu_count": machine,
        "affinity_cpus": allowed,
        "cgroup_version": attempt(MOUNT, lambda: version),
        "cgroup_cpus": quota,
        "usable_cpus": attempt("least of the above", lambda: min(known), Confidence.DERIVED),
        "cgroup_memory_bytes": memory,
    }


def _status(root: Root) -> dict[str, str]:
    lines = (line.partition(":") for line in root.text("/proc/self/status").splitlines())
    return {key: value.strip() for key, _, value in lines}


def cpu_quota(root: Root) -> Field:
    """CPUs that the control groups allow, the least on the way to the top.

    Source: Linux kernel documentation, "Control Group v2" and "CFS Bandwidth Control".
    """
    found: list[tuple[float, str]] = []
    for place in _places(root, "cpu", ("cpu.max", "cpu.cfs_quota_us")):
        try:
            if place.endswith("cpu.max"):
                quota, _, period = root.text(place).partition(" ")
            else:
                quota, period = root.text(place), root.text(place.replace("quota", "period"))
            cpus = math.inf if quota in ("max", "-1") else int(quota) / int(period)
        except (Unreadable, ValueError, ArithmeticError):
            continue
        if cpus > 0:
            found.append((cpus, place))
    return _least(found, "cpu.max")


def memory_limit(root: Root) -> Field:
    """Bytes that the control groups allow, the least on the way to the top."""
    found: list[tuple[float, str]] = []
    for place in _places(root, "memory", ("memory.max", "memory.limit_in_bytes")):
        try:
            text = root.text(place)
            size = math.inf if text == "max" else int(text)
        except (Unreadable, ValueError):
            continue
        if size > 0:
            found.append((math.inf if size > NO_LIMIT_BYTES else size, place))
    return _least(found, "memory.max")


def _least(found: list[tuple[float, str]], what: str) -> Field:
    if not found:
        return unknown(f"{MOUNT}/**/{what}", "no control group states a limit")
    least, place = min(found)
    if math.isinf(least):
        return unknown(place, "there is no limit")
    return Field(value=int(least) if least == int(least) else least, source=place)


def _places(root: Root, controller: str, files: tuple[str, str]) -> list[str]:
    """Files that may hold a limit: of the group of this process and of all above it, in version 2 and in version 1.

    In a container the path may be that of the host, which is not below the mount; the top then stands for it.
    """
    try:
        lines = [line.split(":", 2) for line in root.text(GROUPS).splitlines()]
    except Unreadable:
        lines = []
    places = []
    for _, names, path in (line for line in lines if len(line) == 3):
        if names and controller not in names.split(","):
            continue
        file = files[1] if names else files[0]
        for mount in [f"{MOUNT}/{names}", f"{MOUNT}/{controller}"] if names else [MOUNT, f"{MOUNT}/unified"]:
            parts = [part for part in path.split("/") if part not in ("", "..")][:32]
            places += ["/".join([mount, *parts[:depth], file]) for depth in range(len(parts), -1, -1)]
    if not places:
        places = [f"{MOUNT}/{files[0]}", f"{MOUNT}/{controller}/{files[1]}"]
    return list(dict.fromkeys(places))
