"""What psutil tells of a computer that has neither /proc nor sysctl: Windows, and whatever comes."""

from __future__ import annotations

import os
import platform

from rigwise.machine.probe.source import attempt
from rigwise.machine.snapshot import Field


def cpu() -> dict[str, Field]:
    """Name and counts; no microarchitecture, so no peaks."""
    import psutil

    return {
        "name": attempt("platform.processor", lambda: platform.processor() or None),
        "cores": attempt("psutil.cpu_count", lambda: psutil.cpu_count(logical=False)),
        "logical": attempt("os.cpu_count", os.cpu_count),
        "max_hz": attempt("psutil.cpu_freq", lambda: 1e6 * float(psutil.cpu_freq().max) or None),
    }


def memory() -> dict[str, Field]:
    """Size and what is available."""
    import psutil

    return {
        "total_bytes": attempt("psutil.virtual_memory", lambda: int(psutil.virtual_memory().total)),
        "available_bytes": attempt("psutil.virtual_memory", lambda: int(psutil.virtual_memory().available)),
    }


def limits() -> dict[str, Field]:
    """Logical CPUs; an affinity where the system has one."""
    import psutil

    counted = attempt("os.cpu_count", os.cpu_count)
    allowed = attempt("psutil.Process.cpu_affinity", lambda: len(list(psutil.Process().cpu_affinity())))
    return {
        "cpu_count": counted,
        "affinity_cpus": allowed,
        "usable_cpus": allowed if allowed.value else counted,
    }


def system() -> dict[str, Field]:
    """Operating system and Python."""
    return {
        "os": attempt("platform", lambda: " ".join([platform.system(), platform.release()])),
        "kernel": attempt("platform", platform.version),
        "machine": attempt("platform", platform.machine),
        "python": attempt("platform", platform.python_version),
    }
