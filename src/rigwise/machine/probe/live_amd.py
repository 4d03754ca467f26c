"""AMD GPUs at work, from the files of their kernel driver.

Source: Linux kernel documentation, "AMDGPU GPU Power/Thermal Controls and Monitoring" (``gpu_busy_percent``, hwmon in
microwatts, millidegrees and hertz), and "Naming and data format standards for sysfs files" for hwmon's energy in
microjoules. The driver states no reasons for a lower clock in a text file.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from rigwise.machine.live.types import GpuProcess, GpuSample
from rigwise.machine.probe.gpu_amd import AMD, CARDS, NODES, node_address, node_properties
from rigwise.machine.probe.live_nvidia import named
from rigwise.machine.probe.pcie import generation_of
from rigwise.machine.probe.source import Root, Unreadable

PROCESSES = "/sys/class/kfd/kfd/proc"
T = TypeVar("T")


def cards(root: Root) -> list[str]:
    """Names of AMD's cards, ``card0`` for example."""
    return [name for name in root.names(CARDS, r"card\d+$") if _text(root, f"{CARDS}/{name}/device/vendor") == AMD]


class Amd:
    """All of AMD's GPUs; what does not change is looked up once."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._cards = [(name, *self._lasting(f"{CARDS}/{name}/device")) for name in cards(root)]
        self._ids = _compute_ids(root)

    def read(self) -> tuple[GpuSample, ...]:
        """Every GPU now."""
        holders = self._holders()
        return tuple(self._gpu(index, card, holders) for index, card in enumerate(self._cards))

    def _lasting(self, device: str) -> tuple[str, str, str]:
        """Folder of sensors, address and name."""
        sensors = self._root.names(f"{device}/hwmon", r"hwmon\d+$")
        bus = re.search(r"PCI_SLOT_NAME=([0-9a-f:.]+)", _text(self._root, f"{device}/uevent"))
        return (
            f"{device}/hwmon/{sensors[0]}" if sensors else "",
            bus[1] if bus else "",
            _text(self._root, f"{device}/product_name"),
        )

    def _gpu(self, index: int, card: tuple[str, str, str, str], holders: dict[int, list[GpuProcess]]) -> GpuSample:
        name, sensors, bus, product = card
        device = f"{CARDS}/{name}/device"

        def sensed(file: str, factor: float) -> float | None:
            number = self._read(f"{sensors}/{file}", int) if sensors else None
            return None if number is None else factor * number

        load, memory_load = (self._read(f"{device}/{part}_busy_percent", int) for part in ("gpu", "mem"))
        power_w = sensed("power1_average", 1e-6)
        degrees = sensed("temp1_input", 1e-3)
        return GpuSample(
            index=index,
            vendor="AMD",
            name=product or f"AMD {name}",
            bus=bus,
            load_frac=None if load is None else load / 100,
            memory_load_frac=None if memory_load is None else memory_load / 100,
            memory_used_bytes=self._read(f"{device}/mem_info_vram_used", int),
            memory_bytes=self._read(f"{device}/mem_info_vram_total", int),
            power_w=sensed("power1_input", 1e-6) if power_w is None else power_w,
            power_limit_w=sensed("power1_cap", 1e-6),
            energy_j=sensed("energy1_input", 1e-6),
            clock_hz=sensed("freq1_input", 1.0),
            max_clock_hz=self._read(f"{device}/pp_dpm_sclk", highest_hz),
            memory_clock_hz=sensed("freq2_input", 1.0),
            max_memory_clock_hz=self._read(f"{device}/pp_dpm_mclk", highest_hz),
            pcie_width=self._read(f"{device}/current_link_width", int),
            pcie_width_max=self._read(f"{device}/max_link_width", int),
            pcie_generation=self._read(f"{device}/current_link_speed", generation_of),
            pcie_generation_max=self._read(f"{device}/max_link_speed", generation_of),
            temperature=None if degrees is None else round(degrees),
            processes=tuple(holders.get(self._ids.get(bus, -1), ())),
        )

    def _holders(self) -> dict[int, list[GpuProcess]]:
        """Processes by the compute driver's number of the GPU that they have memory on."""
        found: dict[int, list[GpuProcess]] = {}
        for pid in self._root.names(PROCESSES, r"\d{1,10}$"):
            for file in self._root.names(f"{PROCESSES}/{pid}", r"vram_\d{1,10}$"):
                used = self._read(f"{PROCESSES}/{pid}/{file}", int)
                known = named(int(pid)) if self._root.live else {}
                holder = GpuProcess(pid=int(pid), memory_bytes=used, **known)
                found.setdefault(int(file.removeprefix("vram_")), []).append(holder)
        return found

    def _read(self, path: str, convert: Callable[[str], T]) -> T | None:
        try:
            return convert(self._root.text(path))
        except (Unreadable, ValueError, LookupError, StopIteration):
            return None


def highest_hz(text: str) -> float:
    r"""The highest clock of a list of clocks.

    >>> highest_hz("0: 500Mhz\n1: 2100Mhz *")
    2100000000.0
    """
    return 1e6 * max(int(number) for number in re.findall(r"(?mi)^\d+: (\d{1,6})Mhz", text))


def _compute_ids(root: Root) -> dict[str, int]:
    """The compute driver's number of each GPU by its address on PCI."""
    found = {}
    for node in root.names(NODES, r"\d+$"):
        number = _text(root, f"{NODES}/{node}/gpu_id")
        if number.isdecimal() and number != "0":
            found[node_address(node_properties(_text(root, f"{NODES}/{node}/properties")))] = int(number)
    return found


def _text(root: Root, path: str) -> str:
    try:
        return root.text(path)
    except Unreadable:
        return ""
