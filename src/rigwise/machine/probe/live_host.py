"""Counters and states of this computer's CPU, memory, disks and network, read again and again.

Load, memory, disks and network come from psutil, on every system it knows; energy counters, control groups, clocks
and temperatures from the kernel's files, on Linux.
"""

from __future__ import annotations

import re
import time
from typing import Any

from rigwise.machine.live.types import Counters, EnergyZone, HostState
from rigwise.machine.probe.disks import NO_DISK
from rigwise.machine.probe.limits import memory_limit
from rigwise.machine.probe.network import NET
from rigwise.machine.probe.source import Root, Unreadable

POWERCAP = "/sys/class/powercap"
HWMON = "/sys/class/hwmon"
THERMAL = "/sys/class/thermal"
CPUS = "/sys/devices/system/cpu"
#: Sensors of CPU packages, as drivers name them. Source: Linux kernel documentation, "coretemp", "k10temp".
_SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "x86_pkg_temp", "cpu-thermal")
#: Interfaces that repeat what others carry.
_VIRTUAL = re.compile(r"lo\d*$|ifb\d|docker|veth|br-|virbr|bonding_masters")
#: CPUs whose clock is read; reading it interrupts them.
_CLOCKS = 16


class Host:
    """This computer; what does not change is looked up once.

    Args:
        root: Where the kernel's files are.
        library: The module ``psutil``, or what stands for it.
    """

    def __init__(self, root: Root | None = None, library: Any = None) -> None:
        if library is None:
            import psutil

            library = psutil
        self._psutil, self._root = library, root or Root()
        self._error: type[Exception] = getattr(library, "Error", OSError)
        self._zones, self.no_energy = energy_zones(self._root)
        self._sensors = _sensor_files(self._root)
        self._clocks = [f"{CPUS}/{name}/cpufreq" for name in self._root.names(CPUS, r"cpu\d+$")][:_CLOCKS]
        self._group = memory_limit(self._root)
        self._disks: dict[str, bool] = {}
        self._networks: dict[str, bool] = {}

    def counters(self) -> Counters:
        """Everything that is counted, now."""
        return Counters(
            at_s=time.monotonic(),
            cpus=self._cpus(),
            disks={
                name: (int(one.read_bytes), int(one.write_bytes))
                for name, one in self._asked("disk_io_counters", perdisk=True).items()
                if self._is_disk(name)
            },
            networks={
                name: (int(one.bytes_recv), int(one.bytes_sent))
                for name, one in self._asked("net_io_counters", pernic=True).items()
                if self._is_network(name)
            },
            zones=self.zones(),
        )

    def energy(self) -> Counters:
        """The energy counters alone, which cost little."""
        return Counters(at_s=time.monotonic(), zones=self.zones())

    def zones(self) -> dict[str, EnergyZone]:
        """Energy of each zone; nothing where one of them does not answer any more."""
        found = {}
        for name, (place, range_j) in self._zones.items():
            energy_j = _micro(self._root, f"{place}/energy_uj")
            if energy_j is None:
                return {}
            found[name] = EnergyZone(energy_j=energy_j, range_j=range_j)
        return found

    def state(self) -> HostState:
        """Everything that is stated, now."""
        memory, swap = self._whole("virtual_memory"), self._whole("swap_memory")
        clocks = [hertz for place in self._clocks if (hertz := self._kilo(f"{place}/scaling_cur_freq")) is not None]
        most = self._kilo(f"{self._clocks[0]}/cpuinfo_max_freq") if clocks else None
        degrees = [value for place in self._sensors if (value := self._number(place)) is not None]
        return HostState(
            memory_used_bytes=None if memory is None else int(memory.total - memory.available),
            memory_bytes=None if memory is None else int(memory.total),
            swap_used_bytes=None if swap is None else int(swap.used),
            group_used_bytes=self._group_used(),
            group_bytes=int(self._group.value) if isinstance(self._group.value, int | float) else None,
            clock_hz=sum(clocks) / len(clocks) if clocks else None,
            max_clock_hz=most,
            temperature=round(max(degrees) / 1000) if degrees else None,
            no_energy=self.no_energy,
        )

    def _cpus(self) -> tuple[tuple[float, float, float], ...]:
        """Source: proc(5): the time of guests is part of the time of users."""
        found = []
        for one in self._whole("cpu_times", percpu=True) or ():
            stated = {name: float(value) for name, value in one._asdict().items() if not name.startswith("guest")}
            whole, steal = sum(stated.values()), stated.get("steal", 0.0)
            found.append((whole - stated["idle"] - stated.get("iowait", 0.0) - steal, steal, whole))
        return tuple(found)

    def _is_disk(self, name: str) -> bool:
        """A whole disk, where the system tells disks from their partitions."""
        if name not in self._disks:
            whole = self._root.exists(f"/sys/block/{name}") or not self._root.exists("/sys/block")
            self._disks[name] = whole and re.match(NO_DISK, name) is not None
        return self._disks[name]

    def _is_network(self, name: str) -> bool:
        """A card, where the system tells cards from what is built upon them."""
        if name not in self._networks:
            linux = self._root.exists(NET)
            card = self._root.exists(f"{NET}/{name}/device") if linux else True
            self._networks[name] = card and _VIRTUAL.match(name) is None
        return self._networks[name]

    def _group_used(self) -> int | None:
        """What the control group uses, without the file cache that the kernel would give back first.

        Source: Linux kernel documentation, "Control Group v2": ``memory.current``, ``inactive_file``.
        """
        if self._group.value is None:
            return None
        folder, _, file = self._group.source.rpartition("/")
        used = self._number(f"{folder}/{'memory.current' if file == 'memory.max' else 'memory.usage_in_bytes'}")
        try:
            stated = re.search(r"(?m)^(?:total_)?inactive_file (\d{1,18})$", self._root.text(f"{folder}/memory.stat"))
        except Unreadable:
            stated = None
        return None if used is None else max(0, int(used) - (int(stated[1]) if stated else 0))

    def _asked(self, name: str, **options: bool) -> dict[str, Any]:
        found = self._whole(name, **options)
        return dict(found) if found else {}

    def _whole(self, name: str, **options: bool) -> Any:
        """What psutil answers; None where this system, or this container, does not let it."""
        try:
            return getattr(self._psutil, name)(**options)
        except (OSError, RuntimeError, ValueError, AttributeError, LookupError, self._error):
            return None

    def _kilo(self, path: str) -> float | None:
        number = self._number(path)
        return None if number is None else 1e3 * number

    def _number(self, path: str) -> float | None:
        return _number(self._root, path)


def energy_zones(root: Root) -> tuple[dict[str, tuple[str, float | None]], str]:
    """Zones of the kernel's energy counters with the range of each, and why there are none.

    Packages and the memory beside them; their cores are part of the package, and ``psys`` counts everything again.
    AMD's CPUs stand under the same name.

    Source: Linux kernel documentation, "Power Capping Framework"; that only root may read them since Linux 5.10 is
    the answer to CVE-2020-8694 (powercap/powercap issue 7).
    """
    found: dict[str, tuple[str, float | None]] = {}
    names = root.names(POWERCAP, r"intel-rapl:\d+(:\d+)?$")
    if not names:
        return {}, (
            "this machine shows no energy counter (RAPL), as virtual machines and most Arm CPUs do not; rigwise predict"
            " estimates energy from the TDP"
        )
    for name in names:
        place = f"{POWERCAP}/{name}"
        try:
            zone = root.text(f"{place}/name")
            if zone != "dram" and not zone.startswith("package"):
                continue
            int(root.text(f"{place}/energy_uj"))
        except Unreadable as error:
            if "permission" in str(error):
                return {}, (
                    f"only root may read {place}/energy_uj, for what power tells of secrets (CVE-2020-8694); where you"
                    f" alone use the machine: sudo chmod a+r {POWERCAP}/*/energy_uj, which lasts until the next start"
                )
            continue
        except ValueError:
            continue
        found[f"{name} {zone}"] = (place, _micro(root, f"{place}/max_energy_range_uj"))
    return found, "" if found else "its energy counters (RAPL) cannot be read"


def _sensor_files(root: Root) -> list[str]:
    """Files with the temperature of CPU packages, of the first kind of sensor that is there."""
    places = [(f"{HWMON}/{name}", "name", "temp1_input") for name in root.names(HWMON, r"hwmon\d+$")]
    places += [(f"{THERMAL}/{name}", "type", "temp") for name in root.names(THERMAL, r"thermal_zone\d+$")]
    by_kind: dict[str, list[str]] = {}
    for place, kind, file in places:
        try:
            by_kind.setdefault(root.text(f"{place}/{kind}"), []).append(f"{place}/{file}")
        except Unreadable:
            continue
    return next((by_kind[kind] for kind in _SENSORS if kind in by_kind), [])


def _number(root: Root, path: str) -> float | None:
    """The one number of a file; None where there is none."""
    try:
        text = root.text(path)
    except Unreadable:
        return None
    return float(text) if re.fullmatch(r"-?\d{1,19}", text) else None


def _micro(root: Root, path: str) -> float | None:
    number = _number(root, path)
    return None if number is None else number / 1e6
