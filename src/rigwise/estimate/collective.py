"""Collectives: ring and tree all-reduce, on one link or on two levels of network.

A ring moves ``2 (n-1)/n`` of the message over every link and pays its latency ``2 (n-1)``
times: best for large messages. A double binary tree pays it ``2 log2 n`` times but moves the
whole message twice: best for small ones. NCCL has both since version 2.4 and takes the quicker.

Source: Thakur, Rabenseifner & Gropp, "Optimization of Collective Communication Operations in
MPICH", 2005; Jeaugey, "Massively Scale Your Deep Learning Training with NCCL 2.4", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rigwise.errors import MissingFactError, UnsupportedError
from rigwise.estimate.calibration import Constants
from rigwise.machine.machine import Machine

#: One direction of a PCIe link of 16 lanes, after line coding.
PCIE_X16_BYTES_PER_S = {"pcie2": 8e9, "pcie3": 15.75e9, "pcie4": 31.5e9, "pcie5": 63e9, "pcie6": 121e9}


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Sustained links of a machine, or of several as columns ``[machines]``.

    Attributes:
        per_node: Devices in one node that take part.
        nodes: Nodes that take part.
        intra_bytes_per_s: Between the devices of a node, each way, for each device.
        inter_bytes_per_s: Of one node to the others, each way.
        intra_latency_s, tree_latency_s, inter_latency_s: One hop.
    """

    per_node: Any
    nodes: Any
    intra_bytes_per_s: Any
    inter_bytes_per_s: Any
    intra_latency_s: float
    tree_latency_s: float
    inter_latency_s: float


def ring_all_reduce_s(message_bytes: Any, n: Any, bytes_per_s: Any, latency_s: Any) -> Any:
    """All-reduce over a ring of ``n``.

    Source: see the module.

    >>> ring_all_reduce_s(1e9, 4, 1e11, 0.0)
    0.015
    """
    return 2 * (n - 1) * latency_s + 2 * (n - 1) / n * message_bytes / bytes_per_s


def tree_all_reduce_s(message_bytes: Any, n: Any, bytes_per_s: Any, latency_s: Any) -> Any:
    """All-reduce over double binary trees: reduce up, broadcast down, each half on one tree.

    Source: see the module.

    >>> float(tree_all_reduce_s(1e9, 4, 1e11, 0.0))
    0.02
    """
    return 2 * np.log2(n) * latency_s + 2 * message_bytes / bytes_per_s


def crossover_bytes(n: int, bytes_per_s: float, ring_latency_s: float, tree_latency_s: float) -> float:
    """Message above which the ring beats the tree; 0 if it always does.

    Both times are lines in the message: where they meet, the latency the tree saves equals the
    ``2/n`` of the message it moves too much.

    Source: equating the two formulas above.
    """
    saved_s = 2 * (n - 1) * ring_latency_s - 2 * np.log2(n) * tree_latency_s
    return max(0.0, float(saved_s * bytes_per_s * n / 2))


def all_reduce_s(message_bytes: Any, network: Network) -> Any:
    """The quicker of ring and tree, in two levels when several nodes take part.

    Between nodes every device carries its share of the message: reduce-scatter inside the
    nodes, all-reduce between them, all-gather inside again.

    Source: see the module.
    """
    inside = _quicker(
        message_bytes, network.per_node, network.intra_bytes_per_s, network.intra_latency_s, network.tree_latency_s
    )
    # all devices of a node share its network: together they move the whole message once
    between = _quicker(
        message_bytes, network.nodes, network.inter_bytes_per_s, network.inter_latency_s, network.inter_latency_s
    )
    return inside + between


def _quicker(message_bytes: Any, n: Any, bytes_per_s: Any, ring_latency_s: float, tree_latency_s: float) -> Any:
    """Ring or tree over ``n``; nothing for one alone."""
    n, rate = np.asarray(n, dtype=np.float64), np.where(np.asarray(n) > 1, bytes_per_s, 1.0)
    ring = ring_all_reduce_s(message_bytes, n, rate, ring_latency_s)
    return np.where(n > 1, np.minimum(ring, tree_all_reduce_s(message_bytes, n, rate, tree_latency_s)), 0.0)


def gather_s(message_bytes: Any, network: Network) -> Any:
    """All-gather or reduce-scatter of a message: half of an all-reduce.

    Source: a ring all-reduce is a reduce-scatter and an all-gather of equal cost.
    """
    return all_reduce_s(message_bytes, network) / 2


def network_of(machine: Machine, constants: Constants) -> Network:
    """The sustained links of a machine.

    Raises:
        MissingFactError: Several devices, but no figure for the link between them.
        UnsupportedError: A link is asked for that the device does not have.
    """
    intra = _intra_bytes_per_s(machine, constants) if machine.devices_per_node > 1 else 0.0
    inter = machine.inter_node_bytes_per_s or constants.usual_inter_node_bytes_per_s
    return Network(
        per_node=machine.devices_per_node,
        nodes=machine.nodes,
        intra_bytes_per_s=intra,
        inter_bytes_per_s=inter * constants.network_frac,
        intra_latency_s=constants.ring_latency_s,
        tree_latency_s=constants.tree_latency_s,
        inter_latency_s=constants.inter_node_latency_s,
    )


def alone(constants: Constants) -> Network:
    """The network of a single device: none."""
    return Network(
        per_node=1,
        nodes=1,
        intra_bytes_per_s=0.0,
        inter_bytes_per_s=0.0,
        intra_latency_s=constants.ring_latency_s,
        tree_latency_s=constants.tree_latency_s,
        inter_latency_s=constants.inter_node_latency_s,
    )


def as_columns(networks: Sequence[Network]) -> Network:
    """Several machines' networks as one with columns; latencies are the same for all."""
    names = ("per_node", "nodes", "intra_bytes_per_s", "inter_bytes_per_s")
    columns: dict[str, Any] = {name: np.array([getattr(n, name) for n in networks], dtype=float) for name in names}
    return replace(networks[0], **columns)


def _intra_bytes_per_s(machine: Machine, constants: Constants) -> float:
    device, link = machine.device, machine.link
    peer = device.peer_bytes_per_s_each_way
    if link == "nvlink" or (not link and peer):
        if not peer:
            raise UnsupportedError(
                f"{device.id} has no known peer link", hint="leave link out, or name a PCIe link such as pcie4x16"
            )
        return float(peer * (constants.xgmi_frac if "xgmi" in device.peer_link else constants.nvlink_frac))
    return float(host_link_bytes_per_s(machine) * constants.pcie_frac)


def host_link_bytes_per_s(machine: Machine) -> float:
    """One direction of the link between a device and its host.

    Raises:
        MissingFactError: Neither the case nor the catalogue names one.
        UnsupportedError: The name is no link we know.
    """
    link = machine.link if machine.link not in ("", "pcie", "nvlink") else machine.device.host_link
    generation, _, lanes = link.partition("x")
    if generation in PCIE_X16_BYTES_PER_S and lanes in ("1", "2", "4", "8", "16"):
        return PCIE_X16_BYTES_PER_S[generation] * int(lanes) / 16
    if machine.device.host_bytes_per_s_each_way:
        return machine.device.host_bytes_per_s_each_way
    if machine.link:
        raise UnsupportedError(f"no link is called {machine.link!r}", hint="for example nvlink, pcie4x16, pcie5x8")
    raise MissingFactError(f"no figure for the host link of {machine.device.id}", hint="name one: link pcie4x16")
