"""From two readings of counters to what happened between them."""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.machine.live.types import Counters, EnergyZone, Rates


def rates(before: Counters, after: Counters) -> Rates:
    """What a computer did between two readings; a counter that went backwards or is new says nothing.

    >>> then = Counters(at_s=0.0, cpus=((1.0, 0.0, 10.0),), disks={"sda": (0, 0)})
    >>> now = Counters(at_s=2.0, cpus=((2.0, 0.0, 12.0),), disks={"sda": (400, 100)})
    >>> found = rates(then, now)
    >>> found.loads, found.disks
    ((0.5,), {'sda': (200.0, 50.0)})
    """
    passed_s = after.at_s - before.at_s
    if passed_s <= 0:
        return Rates()
    pairs = zip(before.cpus, after.cpus, strict=False)
    moved = [tuple(now - then for then, now in zip(*pair, strict=True)) for pair in pairs]
    counted = len(before.cpus) == len(after.cpus) and all(whole >= 0 for _, _, whole in moved)
    loads = tuple(_share(busy, whole) for busy, _, whole in moved) if counted else ()
    stolen, whole = sum(part[1] for part in moved), sum(part[2] for part in moved)
    energy_j = energy_between(before.zones, after.zones)
    return Rates(
        load_frac=sum(loads) / len(loads) if loads else None,
        loads=loads,
        steal_frac=_share(stolen, whole) if loads else None,
        disks=_per_second(before.disks, after.disks, passed_s),
        networks=_per_second(before.networks, after.networks, passed_s),
        power_w=None if energy_j is None else energy_j / passed_s,
    )


def _share(part: float, whole: float) -> float:
    return min(1.0, max(0.0, part / whole)) if whole > 0 else 0.0


def _per_second(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]], passed_s: float
) -> dict[str, tuple[float, float]]:
    found = {}
    for name, now in after.items():
        moved = [later - earlier for earlier, later in zip(before.get(name, now), now, strict=True)]
        if min(moved) >= 0:
            found[name] = (moved[0] / passed_s, moved[1] / passed_s)
    return found


def energy_between(before: Mapping[str, EnergyZone], after: Mapping[str, EnergyZone]) -> float | None:
    """Joules that all zones counted; None where there is no zone, or one of them says nothing.

    >>> energy_between({"package-0": EnergyZone(energy_j=5.0)}, {"package-0": EnergyZone(energy_j=7.5)})
    2.5
    """
    if not before or before.keys() != after.keys():
        return None
    parts = [counted(before[name].energy_j, after[name].energy_j, after[name].range_j) for name in before]
    return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)


def counted(before_j: float, after_j: float, range_j: float | None) -> float | None:
    """Joules between two readings of a counter that begins again at zero after its range.

    More than one round between two readings cannot be seen; a counter of 262 kJ takes 17 minutes at 250 W.

    Source: Linux kernel documentation, "Power Capping Framework": ``energy_uj`` and ``max_energy_range_uj``.

    >>> counted(10.0, 12.0, 20.0), counted(19.0, 1.0, 20.0), counted(5.0, 1.0, None)
    (2.0, 2.0, None)
    """
    if after_j >= before_j:
        return after_j - before_j
    return None if range_j is None or before_j > range_j else after_j + range_j - before_j
