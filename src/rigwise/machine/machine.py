"""A concrete computer or cluster: equal devices in equal nodes, and what joins them."""

from __future__ import annotations

from dataclasses import dataclass

from rigwise.facts.device import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Equal devices in equal nodes.

    Attributes:
        device: What each of them is.
        count: All devices, a multiple of ``nodes``.
        nodes: Computers.
        link: Between the devices of a node: ``nvlink``, ``pcie`` or ``""`` for the device's usual one.
        inter_node_bytes_per_s: Network of one node, each way; None for the usual one.
        host: CPU id; empty for the usual one.
        power_limit_w: Cap set below the device's TDP, None for none.
    """

    device: Device
    count: int = 1
    nodes: int = 1
    link: str = ""
    inter_node_bytes_per_s: float | None = None
    host: str = ""
    power_limit_w: float | None = None

    @property
    def devices_per_node(self) -> int:
        """Devices in one computer."""
        return self.count // self.nodes
