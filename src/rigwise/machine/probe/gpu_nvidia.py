"""NVIDIA GPUs, from the best source that answers: NVML, then ``nvidia-smi -q -x``, then the kernel module's files.

SM count, L2 and clocks as CUDA reports them come from a child process with a time limit (``cuda_child``), because a
broken driver may never return.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Confidence, Field, Value, unknown
from rigwise.machine.theory import lanes_of
from rigwise.units import MIB

SMI = ("nvidia-smi", "-q", "-x")
SMI_SOURCE = " ".join(SMI)
PROC = "/proc/driver/nvidia/gpus"
CUDA_SOURCE = "cuDeviceGetAttribute"


def gpus(root: Root) -> list[dict[str, Field]]:
    """One entry for every NVIDIA GPU.

    Raises:
        Unreadable: Its tools are there and fail, and the kernel module shows none either.
    """
    if root.live and root.record is None:
        from rigwise.machine.probe import nvml

        try:
            return nvml.gpus()
        except Unreadable:
            pass
    try:
        return smi_gpus(root.run(*SMI))
    except Unreadable as error:
        found = from_module(root, str(error))
        if not found and "is not installed" not in str(error):
            raise
        return found


def with_attributes(entry: dict[str, Field], by_address: dict[str, dict[str, Field]]) -> dict[str, Field]:
    """A GPU with what CUDA says of it; without that, its multiprocessors follow from its lanes."""
    of_cuda = by_address.get(str(entry["bus"].value)) if "bus" in entry else None
    if of_cuda:
        return {**entry, **of_cuda}
    return {**entry, "sm_count": _from_cores(entry), "l2_bytes": unknown(CUDA_SOURCE, "CUDA did not answer")}


def smi_gpus(text: str) -> list[dict[str, Field]]:
    """Every GPU in what ``nvidia-smi -q -x`` prints.

    Entities and document types are refused before parsing: the text of a captured tree is untrusted.

    Raises:
        Unreadable: It is not XML of that kind.
    """
    from xml.etree import ElementTree

    body = re.sub(r"<!DOCTYPE\s+nvidia_smi_log\s+SYSTEM\s+[\"'][\w.]+[\"']\s*>", "", text, count=1)
    if "<!" in body.replace("<!--", ""):
        raise Unreadable("nvidia-smi printed a document that declares entities")
    try:
        log = ElementTree.fromstring(body.strip())
    except (ElementTree.ParseError, ValueError):
        raise Unreadable("nvidia-smi printed no XML that can be read") from None
    shared = {"driver": log.findtext("driver_version"), "cuda_driver": log.findtext("cuda_version")}
    return [_smi_gpu(place, gpu, shared) for place, gpu in enumerate(log.findall("gpu"))]


def _smi_gpu(place: int, gpu: Any, shared: dict[str, str | None]) -> dict[str, Field]:
    def stated(*paths: str, convert: Callable[[str], Value] = str) -> Field:
        texts = [text.strip() for path in paths if (text := gpu.findtext(path)) is not None]
        said = next((text for text in texts if text not in ("", "N/A", "[N/A]", "Unknown Error")), "")
        if not said:
            return unknown(SMI_SOURCE, "not available" if texts else "this driver does not print it")
        return attempt(SMI_SOURCE, lambda: convert(said))

    link = "pci/pci_gpu_link_info"
    power = ("gpu_power_readings", "power_readings")
    return {
        "index": Field(value=place, source=SMI_SOURCE),
        "vendor": Field(value="NVIDIA", source=SMI_SOURCE),
        "name": stated("product_name"),
        "bus": attempt(SMI_SOURCE, lambda: bus_address(str(gpu.get("id") or gpu.findtext("pci/pci_bus_id")))),
        "architecture": stated("product_architecture"),
        "driver": attempt(SMI_SOURCE, lambda: shared["driver"]),
        "cuda_driver": attempt(SMI_SOURCE, lambda: shared["cuda_driver"]),
        "memory_bytes": stated("fb_memory_usage/total", convert=mib),
        "memory_used_bytes": stated("fb_memory_usage/used", convert=mib),
        "max_clock_hz": stated("max_clocks/sm_clock", "max_clocks/graphics_clock", convert=mhz),
        "max_memory_clock_hz": stated("max_clocks/mem_clock", convert=mhz),
        "clock_hz": stated("clocks/sm_clock", convert=mhz),
        "power_limit_w": stated(
            *_in(power, "current_power_limit", "enforced_power_limit", "power_limit"), convert=watts
        ),
        "power_default_w": stated(*_in(power, "default_power_limit"), convert=watts),
        "power_max_w": stated(*_in(power, "max_power_limit"), convert=watts),
        "temperature_c": stated("temperature/gpu_temp", convert=lambda text: int(text.split()[0])),
        "pcie_width": stated(f"{link}/link_widths/current_link_width", convert=lambda text: int(text.rstrip("x"))),
        "pcie_width_max": stated(f"{link}/link_widths/max_link_width", convert=lambda text: int(text.rstrip("x"))),
        "pcie_generation": stated(f"{link}/pcie_gen/current_link_gen", convert=int),
        "pcie_generation_max": stated(f"{link}/pcie_gen/max_link_gen", convert=int),
        "ecc": stated("ecc_mode/current_ecc", convert=str.lower),
        "ecc_uncorrected": stated("ecc_errors/aggregate/dram_uncorrectable", convert=int),
        "rows_pending": stated("remapped_rows/remapped_row_pending", convert=str.lower),
        "rows_failed": stated("remapped_rows/remapped_row_failure", convert=str.lower),
        "persistence": stated("persistence_mode", convert=str.lower),
        "compute_mode": stated("compute_mode", convert=str.lower),
        "mig": stated("mig_mode/current_mig", convert=str.lower),
        "mig_slices": attempt(SMI_SOURCE, lambda: len(gpu.findall("mig_devices/mig_device"))),
        "fabric": stated("fabric/state", convert=str.lower),
        "throttle": attempt(SMI_SOURCE, lambda: _throttle(gpu)),
        "processes": attempt(SMI_SOURCE, lambda: len(gpu.findall("processes/process_info"))),
    }


def _in(folders: tuple[str, ...], *names: str) -> list[str]:
    return [f"{folder}/{name}" for folder in folders for name in names]


def _throttle(gpu: Any) -> list[str]:
    """Reasons that are active, without the name of the list, idling left out."""
    reasons = gpu.find("clocks_event_reasons")
    reasons = gpu.find("clocks_throttle_reasons") if reasons is None else reasons
    if reasons is None:
        raise Unreadable("this driver does not print it")
    active = [reason.tag for reason in reasons if (reason.text or "").strip() == "Active"]
    plain = [re.sub(r"^clocks_(event|throttle)_reason_", "", tag) for tag in active]
    return [name for name in plain if name != "gpu_idle"] or ["none"]


def mib(text: str) -> float:
    """Bytes of a size as nvidia-smi prints it.

    >>> mib("81559 MiB")
    85520809984.0
    """
    return int(_number(text, "MiB")) * MIB


def mhz(text: str) -> float:
    """Hertz of a clock as nvidia-smi prints it."""
    return float(_number(text, "MHz")) * 1e6


def watts(text: str) -> float:
    """Watts as nvidia-smi prints them."""
    return float(_number(text, "W"))


def _number(text: str, unit: str) -> str:
    match = re.fullmatch(rf"(\d{{1,9}}(?:\.\d{{1,6}})?) {unit}", text)
    if match is None:
        raise ValueError("no number with its unit")
    return match[1]


def bus_address(text: str) -> str:
    """An address of PCI as the kernel writes it.

    >>> bus_address("00000000:3B:00.0")
    '0000:3b:00.0'
    """
    domain, bus, device = re.findall(r"^(?:([0-9a-fA-F]{4,8}):)?([0-9a-fA-F]{2}):([0-9a-fA-F]{2}\.[0-7])$", text)[0]
    return f"{int(domain or '0', 16):04x}:{bus.lower()}:{device.lower()}"


def from_module(root: Root, why: str = "its tools did not answer") -> list[dict[str, Field]]:
    """What the kernel module tells of its GPUs where its tools fail: name and address."""
    found = []
    for place, address in enumerate(root.names(PROC)):
        source = f"{PROC}/{address}/information"
        entry = {
            "index": Field(value=place, source=PROC),
            "vendor": Field(value="NVIDIA", source=PROC),
            "name": root.field(source, lambda text: re.findall(r"(?m)^Model:\s*(\S.*)$", text)[0].strip()),
            "bus": attempt(source, partial(bus_address, address)),
            "driver": root.field("/sys/module/nvidia/version"),
        }
        rest = ("memory_bytes", "max_clock_hz", "power_limit_w", "pcie_width", "pcie_width_max")
        found.append({**entry, **{name: unknown(SMI_SOURCE, why) for name in rest}})
    return found


#: One of these is there where an NVIDIA driver is.
SIGNS = ("/dev/nvidiactl", "/dev/dxg", "/proc/driver/nvidia/version", "/dev/nvhost-ctrl")


def cuda_attributes(root: Root) -> dict[str, dict[str, Field]]:
    """What CUDA says of each GPU that it shows, by address; empty where it does not answer."""
    if root.live and not any(root.exists(sign) for sign in SIGNS):
        return {}
    from rigwise.machine.probe import cuda_child

    command = (sys.executable, "-I", cuda_child.__file__)
    try:
        text = root.run(*command, name="cuda-attributes")
    except Unreadable:
        return {}
    found = {}
    for line in text.splitlines()[:64]:
        stated = dict(part.split("=", 1) for part in line.split() if "=" in part)
        address = attempt(CUDA_SOURCE, partial(bus_address, stated.get("bus", "")))
        if address.value:
            found[str(address.value)] = _attributes(stated)
    return found


def _attributes(stated: dict[str, str]) -> dict[str, Field]:
    def number(key: str, factor: float = 1.0) -> Field:
        return attempt(CUDA_SOURCE, lambda: _positive(stated[key]) * factor if factor != 1 else _positive(stated[key]))

    return {
        "sm_count": number("sm_count"),
        "l2_bytes": number("l2_bytes"),
        "compute_capability": attempt(CUDA_SOURCE, lambda: f"{int(stated['major'])}.{int(stated['minor'])}"),
        "memory_bus_bits": number("bus_bits"),
        "cuda_clock_hz": number("clock_khz", 1e3),
        "cuda_memory_clock_hz": number("memory_clock_khz", 1e3),
    }


def _positive(text: str) -> int:
    value = int(text)
    if not 0 < value < 2**53:
        raise ValueError("no count")
    return value


def _from_cores(entry: dict[str, Field]) -> Field:
    """Multiprocessors from the number of lanes that NVML states, where CUDA does not answer."""
    cores, capability = entry.get("cores"), entry.get("compute_capability")
    lanes = lanes_of(str(capability.value)) if capability else None
    if not lanes or cores is None or not isinstance(cores.value, int) or cores.value % lanes:
        return unknown(CUDA_SOURCE, "CUDA did not answer")
    source = f"nvmlDeviceGetNumGpuCores / {lanes} lanes"
    return Field(value=cores.value // lanes, source=source, confidence=Confidence.DERIVED)
