"""NVIDIA GPUs through NVML, by the optional package nvidia-ml-py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rigwise.machine.probe.source import Unreadable, attempt
from rigwise.machine.snapshot import Field, Value

#: NVML's numbers of its choices. Source: NVML API Reference, "Device Enums".
COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}
ON = {0: "disabled", 1: "enabled"}
REASONS = {
    0x2: "applications_clocks_setting", 0x4: "sw_power_cap", 0x8: "hw_slowdown", 0x10: "sync_boost",
    0x20: "sw_thermal_slowdown", 0x40: "hw_thermal_slowdown", 0x80: "hw_power_brake_slowdown",
    0x100: "display_clocks_setting",
}  # fmt: skip
SM_CLOCK, MEMORY_CLOCK = 1, 2


def gpus(library: Any = None) -> list[dict[str, Field]]:
    """One entry for every GPU.

    Args:
        library: The module ``pynvml``, or what stands for it.

    Raises:
        Unreadable: The package is not installed, or the driver does not answer.
    """
    if library is None:
        try:
            import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            raise Unreadable("nvidia-ml-py is not installed") from None
        library = pynvml
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        raise Unreadable(str(error)) from None
    try:
        count = int(library.nvmlDeviceGetCount())
        return [_gpu(library, place) for place in range(count)]
    except library.NVMLError as error:
        raise Unreadable(str(error)) from None
    finally:
        library.nvmlShutdown()


def _gpu(library: Any, place: int) -> dict[str, Field]:
    handle = library.nvmlDeviceGetHandleByIndex(place)

    def asked(
        call: str, convert: Callable[[Any], Value] = lambda value: value, *more: Any, device: bool = True
    ) -> Field:
        def read() -> Value:
            try:
                return convert(getattr(library, call)(*((handle,) if device else ()), *more))
            except library.NVMLError as error:
                raise Unreadable(str(error).lower()) from None

        return attempt(call, read)

    from rigwise.machine.probe.gpu_nvidia import bus_address

    return {
        "index": Field(value=place, source="nvmlDeviceGetCount"),
        "vendor": Field(value="NVIDIA", source="NVML"),
        "name": asked("nvmlDeviceGetName", _text),
        "bus": asked("nvmlDeviceGetPciInfo", lambda info: bus_address(_text(info.busId))),
        "driver": asked("nvmlSystemGetDriverVersion", _text, device=False),
        "cuda_driver": asked("nvmlSystemGetCudaDriverVersion_v2", cuda_version, device=False),
        "compute_capability": asked("nvmlDeviceGetCudaComputeCapability", lambda pair: f"{pair[0]}.{pair[1]}"),
        "cores": asked("nvmlDeviceGetNumGpuCores", int),
        "memory_bytes": asked("nvmlDeviceGetMemoryInfo", lambda info: int(info.total)),
        "memory_used_bytes": asked("nvmlDeviceGetMemoryInfo", lambda info: int(info.used)),
        "memory_bus_bits": asked("nvmlDeviceGetMemoryBusWidth", int),
        "max_clock_hz": asked("nvmlDeviceGetMaxClockInfo", _hertz, SM_CLOCK),
        "max_memory_clock_hz": asked("nvmlDeviceGetMaxClockInfo", _hertz, MEMORY_CLOCK),
        "clock_hz": asked("nvmlDeviceGetClockInfo", _hertz, SM_CLOCK),
        "power_limit_w": asked("nvmlDeviceGetEnforcedPowerLimit", _watts),
        "power_default_w": asked("nvmlDeviceGetPowerManagementDefaultLimit", _watts),
        "power_max_w": asked("nvmlDeviceGetPowerManagementLimitConstraints", lambda pair: _watts(pair[1])),
        "temperature_c": asked("nvmlDeviceGetTemperature", int, 0),
        "pcie_width": asked("nvmlDeviceGetCurrPcieLinkWidth", int),
        "pcie_width_max": asked("nvmlDeviceGetMaxPcieLinkWidth", int),
        "pcie_generation": asked("nvmlDeviceGetCurrPcieLinkGeneration", int),
        "pcie_generation_max": asked("nvmlDeviceGetMaxPcieLinkGeneration", int),
        "ecc": asked("nvmlDeviceGetEccMode", lambda pair: ON[int(pair[0])]),
        "rows_pending": asked("nvmlDeviceGetRemappedRows", lambda rows: "yes" if rows[2] else "no"),
        "rows_failed": asked("nvmlDeviceGetRemappedRows", lambda rows: "yes" if rows[3] else "no"),
        "persistence": asked("nvmlDeviceGetPersistenceMode", lambda mode: ON[int(mode)]),
        "compute_mode": asked("nvmlDeviceGetComputeMode", lambda mode: COMPUTE_MODES[int(mode)]),
        "mig": asked("nvmlDeviceGetMigMode", lambda pair: ON[int(pair[0])]),
        "throttle": asked("nvmlDeviceGetCurrentClocksThrottleReasons", throttle_reasons),
        "processes": asked("nvmlDeviceGetComputeRunningProcesses", len),
    }


def throttle_reasons(bits: int) -> list[str]:
    """Names of the reasons in NVML's mask, idling left out.

    >>> throttle_reasons(0x1), throttle_reasons(0x44)
    (['none'], ['sw_power_cap', 'hw_thermal_slowdown'])
    """
    return [name for bit, name in REASONS.items() if int(bits) & bit] or ["none"]


def cuda_version(number: int) -> str:
    """The newest CUDA of a driver, as its number states it.

    >>> cuda_version(12040)
    '12.4'
    """
    return f"{int(number) // 1000}.{int(number) % 1000 // 10}"


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _hertz(megahertz: Any) -> float:
    return 1e6 * float(megahertz)


def _watts(milliwatts: Any) -> float:
    return float(milliwatts) / 1000
