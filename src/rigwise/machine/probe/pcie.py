"""PCIe devices that matter to computing: their link now and at best, and their NUMA node."""

from __future__ import annotations

import re

from rigwise.machine.probe.source import Root, Unreadable, attempt
from rigwise.machine.snapshot import Confidence, Field, unknown

DEVICES = "/sys/bus/pci/devices"
VENDORS = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel", "0x15b3": "Mellanox", "0x1af4": "virtio"}
#: Base class, or class and subclass, of the configuration space -> what it is.
CLASSES = {"0300": "gpu", "0302": "gpu", "0380": "gpu", "1200": "accelerator", "0108": "nvme", "02": "network"}
#: Transfers in a second of one lane by generation, and the share of them that carries data.
#: Source: PCI-SIG, PCI Express Base Specification 1.0 to 6.0 (8b/10b, then 128b/130b, then 242B/256B flits).
LANES = {1: (2.5e9, 0.8), 2: (5e9, 0.8), 3: (8e9, 128 / 130), 4: (16e9, 128 / 130), 5: (32e9, 128 / 130)}
LANES[6] = (64e9, 242 / 256)


def pcie(root: Root) -> list[dict[str, Field]]:
    """One entry for every GPU, accelerator, NVMe disk and network card."""
    found = []
    for address in root.names(DEVICES, r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$"):
        kind = kind_of(_text(root, address, "class"))
        if kind:
            found.append(_device(root, address, kind))
    return found


def kind_of(code: str) -> str:
    """What a class code means, empty if it does not matter here.

    >>> kind_of("0x030200"), kind_of("0x060400")
    ('gpu', '')
    """
    digits = code.removeprefix("0x")
    return CLASSES.get(digits[:4]) or CLASSES.get(digits[:2], "")


def _text(root: Root, address: str, name: str) -> str:
    try:
        return root.text(f"{DEVICES}/{address}/{name}")
    except Unreadable:
        return ""


def _device(root: Root, address: str, kind: str) -> dict[str, Field]:
    place = f"{DEVICES}/{address}"
    vendor = root.field(f"{place}/vendor", lambda text: VENDORS.get(text, text))
    driver = root.target(f"{place}/driver")
    width = root.field(f"{place}/current_link_width", _width)
    generation = root.field(f"{place}/current_link_speed", generation_of)
    return {
        "address": Field(value=address, source=DEVICES),
        "kind": Field(value=kind, source=f"{place}/class"),
        "vendor": vendor,
        "device": root.field(f"{place}/device"),
        "driver": attempt(f"{place}/driver", lambda: driver),
        "numa_node": root.field(f"{place}/numa_node", int),
        "width": width,
        "width_max": root.field(f"{place}/max_link_width", _width),
        "generation": generation,
        "generation_max": root.field(f"{place}/max_link_speed", generation_of),
        "bytes_per_s_each_way": _rate(generation, width),
    }


def _rate(generation: Field, width: Field) -> Field:
    source = "lanes x transfers x coding"
    if not isinstance(generation.value, int) or not isinstance(width.value, int):
        return unknown(source, "its link is not described")
    rate = link_bytes_per_s(generation.value, width.value)
    return Field(value=rate, source=source, confidence=Confidence.DERIVED)


def _width(text: str) -> int:
    width = int(text)
    if not 1 <= width <= 32:
        raise ValueError("no link")
    return width


def generation_of(text: str) -> int:
    """The PCIe generation of a link speed as the kernel prints it.

    >>> generation_of("16.0 GT/s PCIe")
    4
    """
    speed = 1e9 * float(re.findall(r"^([\d.]{1,6}) GT/s", text)[0])
    return next(generation for generation, (rate, _) in LANES.items() if rate == speed)


def link_bytes_per_s(generation: int, width: int) -> float:
    """What a link carries each way after line coding, before packets.

    >>> round(link_bytes_per_s(4, 16) / 1e9, 1)
    31.5
    """
    rate, share = LANES[generation]
    return rate * share * width / 8
