"""Intel GPUs from the kernel driver's files; memory and name from xpu-smi, if it is installed."""

from __future__ import annotations

import re
from typing import Any

from rigwise.edge import parse_json
from rigwise.errors import InvalidInputError
from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Field, unknown

CARDS = "/sys/class/drm"
INTEL = "0x8086"
DISCOVERY = ("xpu-smi", "discovery", "-j")
SOURCE = " ".join(DISCOVERY)


def gpus(root: Root) -> list[dict[str, Field]]:
    """One entry for every Intel GPU, those inside a CPU included."""
    found: list[dict[str, Field]] = []
    for name in root.names(CARDS, r"card\d+$"):
        if root.field(f"{CARDS}/{name}/device/vendor").value == INTEL:
            found.append(_gpu(root, len(found), name))
    return found


def _gpu(root: Root, place: int, name: str) -> dict[str, Field]:
    card = f"{CARDS}/{name}"
    bus = root.field(f"{card}/device/uevent", lambda text: re.findall(r"PCI_SLOT_NAME=([0-9a-f:.]+)", text)[0])
    driver = root.target(f"{card}/device/driver")
    clock = root.field(f"{card}/gt_max_freq_mhz", lambda text: 1e6 * int(text))
    if clock.value is None:
        clock = root.field(f"{card}/device/tile0/gt0/freq0/max_freq", lambda text: 1e6 * int(text))
    return {
        "index": Field(value=place, source=CARDS),
        "vendor": Field(value="Intel", source=f"{card}/device/vendor"),
        "bus": bus,
        "device": root.field(f"{card}/device/device"),
        "driver": attempt(f"{card}/device/driver", lambda: driver),
        "max_clock_hz": clock,
        **_discovered(root, str(bus.value)),
    }


def _discovered(root: Root, bus: str) -> dict[str, Field]:
    try:
        mine = next((one for one in discovered(root.run(*DISCOVERY)) if one.get("pci_bdf_address") == bus), None)
    except Unreadable as error:
        return {"name": unknown(SOURCE, str(error)), "memory_bytes": unknown(SOURCE, str(error))}
    if mine is None:
        nothing = unknown(SOURCE, "it does not list this GPU")
        return {"name": nothing, "memory_bytes": nothing}
    return {
        "name": attempt(SOURCE, lambda: str(mine["device_name"])),
        "memory_bytes": attempt(SOURCE, lambda: int(mine["memory_physical_size_byte"])),
    }


def discovered(text: str) -> list[dict[str, Any]]:
    """The devices that ``xpu-smi discovery -j`` lists.

    >>> discovered('{"device_list": [{"device_id": 0}]}')
    [{'device_id': 0}]

    Raises:
        Unreadable: It is not of that form.
    """
    try:
        listed = parse_json(text, SOURCE)["device_list"]
    except (InvalidInputError, LookupError, TypeError):
        raise Unreadable("xpu-smi printed no list of devices") from None
    return [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
