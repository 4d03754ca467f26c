"""Network interfaces, their rate, and InfiniBand ports. No addresses and no names of hosts are read."""

from __future__ import annotations

import re

from rigwise.machine.probe.source import Root
from rigwise.machine.snapshot import Field, unknown

NET = "/sys/class/net"
INFINIBAND = "/sys/class/infiniband"


def network(root: Root) -> list[dict[str, Field]]:
    """One entry for every interface but the loopback, and for every InfiniBand or RoCE port."""
    names = root.names(NET, r"(?!lo$|ifb\d|bonding_masters$)[\w.@:-]+$")
    found = [_interface(root, name) for name in names]
    for card in root.names(INFINIBAND):
        found += [_port(root, card, port) for port in root.names(f"{INFINIBAND}/{card}/ports", r"\d+$")]
    return found


def _interface(root: Root, name: str) -> dict[str, Field]:
    place = f"{NET}/{name}"
    rate = root.field(f"{place}/speed", lambda text: max(0, int(text)) * 125_000 or None)
    return {
        "name": Field(value=name, source=NET),
        "kind": _kind(root, name),
        "state": root.field(f"{place}/operstate"),
        "bytes_per_s": rate if rate.value else unknown(rate.source, "the driver states no rate"),
        "mtu_bytes": root.field(f"{place}/mtu", int),
        "numa_node": root.field(f"{place}/device/numa_node", int),
        "driver": _driver(root, place),
    }


def _driver(root: Root, place: str) -> Field:
    source = f"{place}/device/driver"
    name = root.target(source)
    return Field(value=name, source=source) if name else unknown(source, "there is no such link")


def _kind(root: Root, name: str) -> Field:
    """Wired, wireless, InfiniBand, or without a card of its own."""
    place = f"{NET}/{name}"
    if root.exists(f"{place}/wireless") or name.startswith("wl"):
        return Field(value="wireless", source=place)
    hardware = root.field(f"{place}/type", int)
    if hardware.value == 32:
        return Field(value="infiniband", source=hardware.source)
    virtual = not root.exists(f"{place}/device")
    return Field(value="virtual" if virtual else "ethernet", source=place)


def _port(root: Root, card: str, port: str) -> dict[str, Field]:
    place = f"{INFINIBAND}/{card}/ports/{port}"
    return {
        "name": Field(value=f"{card}/{port}", source=INFINIBAND),
        "kind": root.field(f"{place}/link_layer", str.lower),
        "state": root.field(f"{place}/state", lambda text: text.partition(":")[2].strip().lower()),
        "bytes_per_s": root.field(f"{place}/rate", rate_bytes_per_s),
        "numa_node": root.field(f"{INFINIBAND}/{card}/device/numa_node", int),
    }


def rate_bytes_per_s(text: str) -> float:
    """The rate of an InfiniBand port.

    >>> rate_bytes_per_s("400 Gb/sec (4X NDR)")
    50000000000.0
    """
    return float(re.findall(r"^([\d.]{1,8}) Gb/sec", text)[0]) * 125e6
