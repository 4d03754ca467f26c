"""One line for notebooks: what memory is left, on the host and on each GPU."""

from __future__ import annotations

from rigwise.machine.live.types import GpuSample, HostState
from rigwise.units import format_bytes, format_fraction


def memory_line() -> str:
    """Free memory of this computer, what this process holds, and the memory of each GPU, on one line each.

    On a GPU that others share, as on free notebook services, little may be free before anything was started. A control
    group's limit counts where it leaves less than the computer has. Takes about 0.2 s where there is a GPU.
    """
    from rigwise.machine.probe.live import resident_bytes
    from rigwise.machine.probe.live_gpus import NONE, GpuFeed
    from rigwise.machine.probe.live_host import Host

    with GpuFeed() as feed:
        reading = feed.read()
    lines = [host_line(Host().state(), resident_bytes())]
    lines += [gpu_line(gpu) for gpu in reading.gpus]
    return "\n".join([*lines, *([reading.note] if reading.note not in ("", NONE) else [])])


def host_line(state: HostState, process_bytes: int | None) -> str:
    """What is free of the computer's memory, or of the control group's limit where that leaves less.

    >>> host_line(HostState(memory_used_bytes=3 * 10**9, memory_bytes=13 * 10**9), 150 * 10**6)
    'RAM 10.0 GB free of 13.0 GB, this process 150 MB'
    """
    free = _free(state.memory_used_bytes, state.memory_bytes)
    of_group = _free(state.group_used_bytes, state.group_bytes)
    whole = state.memory_bytes
    if of_group is not None and (free is None or of_group < free):
        free, whole = of_group, state.group_bytes
    shown = "unknown" if free is None or whole is None else f"{format_bytes(free)} free of {format_bytes(whole)}"
    return f"RAM {shown}, this process {'unknown' if process_bytes is None else format_bytes(process_bytes)}"


def gpu_line(gpu: GpuSample) -> str:
    """Free memory of a GPU and its load.

    >>> gpu_line(GpuSample(index=0, name="Tesla K80", memory_used_bytes=9 * 10**9, memory_bytes=12 * 10**9))
    'GPU 0 Tesla K80: 3.00 GB free of 12.0 GB, 75 % used'
    """
    called = f"GPU {gpu.index} {gpu.name}".rstrip()
    free = _free(gpu.memory_used_bytes, gpu.memory_bytes)
    if gpu.fault or free is None or not gpu.memory_bytes or gpu.memory_used_bytes is None:
        return f"{called}: {gpu.fault or 'its driver does not state its memory'}"
    share = format_fraction(gpu.memory_used_bytes / gpu.memory_bytes)
    load = "" if gpu.load_frac is None else f", load {format_fraction(gpu.load_frac)}"
    return f"{called}: {format_bytes(free)} free of {format_bytes(gpu.memory_bytes)}, {share} used{load}"


def _free(used: int | None, whole: int | None) -> int | None:
    return None if used is None or whole is None else max(0, whole - used)
