"""NVIDIA GPUs at work, through NVML: opened once, asked again and again."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from rigwise.machine.live.types import GpuProcess, GpuSample, Slice
from rigwise.machine.probe.gpu_nvidia import bus_address
from rigwise.machine.probe.nvml import MEMORY_CLOCK, SM_CLOCK, throttle_reasons
from rigwise.machine.probe.source import Unreadable

#: NVML's numbers of a GPU that fell off its bus, and of one to reset. Source: NVML API Reference, nvmlReturn_t.
_LOST = (15, 16)
#: Of a driver that was unloaded, or replaced by another version, while the library was open.
_CLOSED = (1, 9, 18)
#: Asked once: they do not change while a driver is loaded.
_LASTING = ("name", "bus", "max_clock_hz", "max_memory_clock_hz", "pcie_width_max", "pcie_generation_max", "divided")
#: Processes of one GPU that are looked up.
_PROCESSES = 32


class Lost(Exception):  # noqa: N818  # an answer of the driver, not a fault of the program
    """A GPU that does not answer any more."""


class Nvml:
    """The library, open until ``close``.

    Args:
        library: The module ``pynvml``, or what stands for it.

    Raises:
        Unreadable: The driver does not answer.
    """

    def __init__(self, library: Any) -> None:
        self._library = library
        try:
            library.nvmlInit()
            self._handles = [library.nvmlDeviceGetHandleByIndex(i) for i in range(int(library.nvmlDeviceGetCount()))]
        except library.NVMLError as error:
            raise Unreadable(str(error)) from None
        self._lasting: list[dict[str, Any]] = [{} for _ in self._handles]

    def close(self) -> None:
        """Let go of the driver."""
        try:
            self._library.nvmlShutdown()
        except self._library.NVMLError:
            return

    def read(self) -> tuple[GpuSample, ...]:
        """Every GPU now; one that was lost says so, and the others go on.

        Raises:
            Unreadable: The driver is gone.
        """
        return tuple(self._gpu(index) for index in range(len(self._handles)))

    def _gpu(self, index: int) -> GpuSample:
        lasting = self._lasting[index]
        try:
            return self._sampled(index, self._handles[index], lasting)
        except Lost as error:
            name, bus = lasting.get("name") or "", lasting.get("bus") or ""
            return GpuSample(index=index, vendor="NVIDIA", name=name, bus=bus, fault=str(error))

    def _sampled(self, index: int, handle: Any, lasting: dict[str, Any]) -> GpuSample:
        def asked(call: str, convert: Callable[[Any], Any], *more: Any) -> Any:
            return self._asked(call, convert, handle, *more)

        for name in _LASTING:
            if lasting.get(name) is None:
                lasting[name] = self._stated(name, handle)
        load = asked("nvmlDeviceGetUtilizationRates", lambda rates: (int(rates.gpu) / 100, int(rates.memory) / 100))
        memory = asked("nvmlDeviceGetMemoryInfo", lambda info: (int(info.used), int(info.total)))
        return GpuSample(
            index=index,
            vendor="NVIDIA",
            load_frac=load and load[0],
            memory_load_frac=load and load[1],
            memory_used_bytes=memory and memory[0],
            memory_bytes=memory and memory[1],
            power_w=asked("nvmlDeviceGetPowerUsage", _thousandth),
            power_limit_w=asked("nvmlDeviceGetEnforcedPowerLimit", _thousandth),
            energy_j=asked("nvmlDeviceGetTotalEnergyConsumption", _thousandth),
            clock_hz=asked("nvmlDeviceGetClockInfo", _mega, SM_CLOCK),
            memory_clock_hz=asked("nvmlDeviceGetClockInfo", _mega, MEMORY_CLOCK),
            throttle=self._throttle(handle),
            pcie_width=asked("nvmlDeviceGetCurrPcieLinkWidth", int),
            pcie_generation=asked("nvmlDeviceGetCurrPcieLinkGeneration", int),
            temperature=asked("nvmlDeviceGetTemperature", int, 0),
            slices=self._slices(handle) if lasting["divided"] else (),
            processes=self._processes(handle),
            name=lasting["name"] or "",
            bus=lasting["bus"] or "",
            **{key: value for key, value in lasting.items() if key not in ("name", "bus", "divided")},
        )

    def _stated(self, name: str, handle: Any) -> Any:
        """What lasts: NVML's call for it, and how its answer reads."""
        calls: dict[str, tuple[Any, ...]] = {
            "name": ("nvmlDeviceGetName", _text),
            "bus": ("nvmlDeviceGetPciInfo", lambda info: bus_address(_text(info.busId))),
            "max_clock_hz": ("nvmlDeviceGetMaxClockInfo", _mega, SM_CLOCK),
            "max_memory_clock_hz": ("nvmlDeviceGetMaxClockInfo", _mega, MEMORY_CLOCK),
            "pcie_width_max": ("nvmlDeviceGetMaxPcieLinkWidth", int),
            "pcie_generation_max": ("nvmlDeviceGetMaxPcieLinkGeneration", int),
            "divided": ("nvmlDeviceGetMigMode", lambda pair: bool(pair[0])),
        }
        call, convert, *more = calls[name]
        return self._asked(call, convert, handle, *more)

    def _asked(self, call: str, convert: Callable[[Any], Any], *arguments: Any) -> Any:
        """The answer of one call; None where the GPU, its driver or the installed package does not have it.

        Raises:
            Lost: The GPU is gone.
            Unreadable: The driver is gone.
        """
        try:
            return convert(getattr(self._library, call)(*arguments))
        except self._library.NVMLError as error:
            code = getattr(error, "value", None)
            if code in _LOST:
                raise Lost(str(error).lower()) from None
            if code in _CLOSED:
                raise Unreadable(str(error)) from None
            return None
        except (AttributeError, TypeError, ValueError, LookupError):
            return None

    def _throttle(self, handle: Any) -> tuple[str, ...] | None:
        """Drivers from 535 on call them event reasons; older ones know the old name only."""
        for call in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
            found = self._asked(call, throttle_reasons, handle)
            if found is not None:
                return tuple(reason for reason in found if reason != "none")
        return None

    def _slices(self, handle: Any) -> tuple[Slice, ...]:
        found = []
        for index in range(self._asked("nvmlDeviceGetMaxMigDeviceCount", int, handle) or 0):
            part = self._asked("nvmlDeviceGetMigDeviceHandleByIndex", lambda part: part, handle, index)
            if part is None:
                continue
            memory = self._asked("nvmlDeviceGetMemoryInfo", lambda info: (int(info.used), int(info.total)), part)
            found.append(Slice(index=index, memory_used_bytes=memory and memory[0], memory_bytes=memory and memory[1]))
        return tuple(found)

    def _processes(self, handle: Any) -> tuple[GpuProcess, ...]:
        """Of computing and of graphics, each process once, the largest first."""
        memory: dict[int, int | None] = {}
        for call in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
            for pid, used in self._asked(call, _uses, handle) or ():
                memory[pid] = max(memory.get(pid) or 0, used) if used is not None else memory.get(pid)
        ordered = sorted(memory, key=lambda pid: -(memory[pid] or 0))[:_PROCESSES]
        return tuple(GpuProcess(pid=pid, memory_bytes=memory[pid], **named(pid)) for pid in ordered)


def named(pid: int) -> dict[str, str]:
    """User and name of a process; nothing where this system does not show it.

    Arguments may hold secrets: of them only the name of a script or module is kept.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        return {"user": process.username(), "name": short_name(process.cmdline()) or process.name()}
    except (psutil.Error, OSError, ValueError, KeyError):
        return {}


def short_name(command: list[str]) -> str:
    """The program of a command line, and the script or module that an interpreter runs.

    >>> short_name(["/usr/bin/python3", "-u", "train.py", "--key", "secret"]), short_name(["python", "-m", "a.b"])
    ('python3 train.py', 'python a.b')
    """
    if not command or not command[0]:
        return ""
    program = os.path.basename(command[0])
    if not program.startswith("python"):
        return program
    for place, word in enumerate(command[1:], 1):
        if word == "-m" and place + 1 < len(command):
            return f"{program} {command[place + 1]}"
        if word.endswith(".py") and not word.startswith("-"):
            return f"{program} {os.path.basename(word)}"
    return program


def _uses(processes: Any) -> list[tuple[int, int | None]]:
    return [(int(one.pid), None if one.usedGpuMemory is None else int(one.usedGpuMemory)) for one in processes]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _mega(number: Any) -> float:
    return 1e6 * float(number)


def _thousandth(number: Any) -> float:
    return float(number) / 1000
