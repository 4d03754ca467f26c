"""Collectives: ring, double binary tree and reduction in the switch, on one link or on two levels of network.

A ring moves ``2 (n-1)/n`` of the message over every link and pays its latency ``2 (n-1)``
times: best for large messages. A double binary tree pays it ``2 log2 n`` times but moves the
whole message twice: best for small ones. A switch that can add moves it once in and once out.
NCCL has all three and takes the quickest. A message is cut into chunks that follow each other
through the hops: with latency L and transfer T the best cut takes between ``L + T`` and
``L + T + 2 sqrt(L T)``; the ``ramp`` of the calibration says how much of the root is paid.

Source: Thakur, Rabenseifner & Gropp, "Optimization of Collective Communication Operations in
MPICH", 2005; Jeaugey, "Massively Scale Your Deep Learning Training with NCCL 2.4", 2019;
Johnsson & Ho, "Optimum Broadcasting and Personalized Communication in Hypercubes", 1989;
Klenk et al., "An In-Network Architecture for Accelerating Shared-Memory Multiprocessor
Collectives", 2020.
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
#: Links whose rate is the device's own.
_LINKS_OF_DEVICES = ("", "pcie", "nvlink")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Sustained links of a machine, or of several as columns ``[machines]``.

    Attributes:
        per_node: Devices in one node that take part.
        nodes: Nodes that take part.
        intra_bytes_per_s: Between the devices of a node, each way, for each device.
        inter_bytes_per_s: Of one node to the others, each way.
        intra_latency_s, tree_latency_s, inter_latency_s: One hop.
        base_latency_s: Of starting any collective.
        ramp_frac: Share of ``sqrt(L T)`` that is paid on top of latency and transfer.
        in_switch_bytes_per_s: Of an all-reduce added up in the switch; 0 where none can.
        spread: Standard deviation of ln(time of a collective) on such links.
        on_cores: Whether the cores that compute also carry the messages, so that nothing hides them.
        staging_s_per_byte: What filling and emptying a bucket of gradients takes of them.
    """

    per_node: Any
    nodes: Any
    intra_bytes_per_s: Any
    inter_bytes_per_s: Any
    intra_latency_s: float
    tree_latency_s: float
    inter_latency_s: float
    base_latency_s: float = 0.0
    ramp_frac: float = 0.0
    in_switch_bytes_per_s: Any = 0.0
    spread: Any = 0.0
    on_cores: Any = False
    staging_s_per_byte: Any = 0.0


def pipelined_s(latency_s: Any, transfer_s: Any, ramp: Any = 0.0) -> Any:
    """Time of a message that follows itself through the hops in chunks.

    Source: Johnsson & Ho; see the module.

    >>> pipelined_s(1.0, 4.0), float(pipelined_s(1.0, 4.0, 2.0))
    (5.0, 9.0)
    """
    return latency_s + transfer_s + ramp * np.sqrt(latency_s * transfer_s) if np.any(ramp) else latency_s + transfer_s


def ring_all_reduce_s(message_bytes: Any, n: Any, bytes_per_s: Any, latency_s: Any, ramp: Any = 0.0) -> Any:
    """All-reduce over a ring of ``n``.

    Source: see the module.

    >>> ring_all_reduce_s(1e9, 4, 1e11, 0.0)
    0.015
    """
    return pipelined_s(2 * (n - 1) * latency_s, 2 * (n - 1) / n * message_bytes / bytes_per_s, ramp)


def tree_all_reduce_s(message_bytes: Any, n: Any, bytes_per_s: Any, latency_s: Any, ramp: Any = 0.0) -> Any:
    """All-reduce over double binary trees: reduce up, broadcast down, each half on one tree.

    Source: see the module.

    >>> float(tree_all_reduce_s(1e9, 4, 1e11, 0.0))
    0.02
    """
    return pipelined_s(2 * np.log2(n) * latency_s, 2 * message_bytes / bytes_per_s, ramp)


def crossover_bytes(
    n: int, bytes_per_s: float, ring_latency_s: float, tree_latency_s: float, ramp: float = 0.0
) -> float:
    """Message above which the ring beats the tree; 0 if it always does.

    Where both times are equal: with ``x = sqrt(message)`` a quadratic equation, and without a
    ramp the latency that the tree saves is the ``2/n`` of the message that it moves too much.

    Source: equating the two formulas above.

    >>> round(crossover_bytes(4, 1e11, 3e-6, 3e-6))
    1200000
    """
    ring, tree = 2 * (n - 1) * ring_latency_s, 2 * np.log2(n) * tree_latency_s
    if ring <= tree:
        return 0.0
    ring_s_per_byte, tree_s_per_byte = 2 * (n - 1) / n / bytes_per_s, 2 / bytes_per_s
    slope = ramp * (np.sqrt(tree * tree_s_per_byte) - np.sqrt(ring * ring_s_per_byte))
    square = tree_s_per_byte - ring_s_per_byte
    root = (-slope + np.sqrt(slope**2 + 4 * square * (ring - tree))) / (2 * square)
    return float(root**2)


def all_reduce_s(message_bytes: Any, network: Network) -> Any:
    """The quickest of ring, tree and switch, over two levels of network when several nodes take part.

    Chunks follow each other through both levels, so the slower of them decides; the devices of
    a node share its network and together move the message over it once.

    Source: see the module.
    """
    n, nodes = _levels(network)
    inside, between = _rate(n, network.intra_bytes_per_s), _rate(nodes, network.inter_bytes_per_s)
    crossing = message_bytes * np.where(nodes > 1, 2 / between, 0.0)
    crossing_ring = crossing * (nodes - 1) / nodes
    ranks = n * nodes

    def whole(hops_s: Any, inside_s: Any, between_s: Any) -> Any:
        return pipelined_s(network.base_latency_s + hops_s, np.maximum(inside_s, between_s), network.ramp_frac)

    hops = 2 * ((ranks - nodes) * network.intra_latency_s + (nodes - 1) * network.inter_latency_s)
    branches = 2 * (np.log2(n) * network.tree_latency_s + np.log2(nodes) * network.inter_latency_s)
    alone_inside = n == 1
    ring = whole(hops, np.where(alone_inside, 0.0, 2 * (ranks - 1) / ranks * message_bytes / inside), crossing_ring)
    quickest = np.minimum(ring, whole(branches, np.where(alone_inside, 0.0, 2 * message_bytes / inside), crossing))
    switch = np.asarray(network.in_switch_bytes_per_s, dtype=np.float64)
    adds = (switch > 0) & (n > 2)
    if adds.any():
        in_switch = whole(branches, message_bytes / np.where(adds, switch, 1.0), crossing)
        quickest = np.where(adds, np.minimum(quickest, in_switch), quickest)
    return np.where(ranks > 1, quickest, 0.0)


def _levels(network: Network) -> tuple[Any, Any]:
    return np.asarray(network.per_node, dtype=np.float64), np.asarray(network.nodes, dtype=np.float64)


def _rate(n: Any, bytes_per_s: Any) -> Any:
    """A rate that may be divided by where nobody communicates."""
    return np.where(n > 1, bytes_per_s, 1.0)


def gather_s(message_bytes: Any, network: Network) -> Any:
    """All-gather or reduce-scatter of a message (whole, not one rank's part) round a ring.

    Source: a ring all-reduce is a reduce-scatter and an all-gather of equal cost.
    """
    n, nodes = _levels(network)
    ranks = n * nodes
    inside = np.where(n > 1, (ranks - 1) / ranks * message_bytes / _rate(n, network.intra_bytes_per_s), 0.0)
    between = (nodes - 1) / nodes * message_bytes / _rate(nodes, network.inter_bytes_per_s)
    hops = (ranks - nodes) * network.intra_latency_s + (nodes - 1) * network.inter_latency_s
    whole = pipelined_s(network.base_latency_s + hops, np.maximum(inside, between), network.ramp_frac)
    return np.where(ranks > 1, whole, 0.0)


def all_to_all_s(message_bytes: Any, network: Network) -> Any:
    """Every rank sends an equal part of ``message_bytes`` to every other, all at once.

    Of what a rank sends, ``(nodes-1)/nodes`` leaves the node, over a network that the devices
    of the node share; the slower level decides.

    Source: Thakur et al., section 4.3, pairwise exchange.
    """
    n, nodes = _levels(network)
    ranks = n * nodes
    inside = (n - 1) / ranks * message_bytes / _rate(n, network.intra_bytes_per_s)
    between = (nodes - 1) / nodes * n * message_bytes / _rate(nodes, network.inter_bytes_per_s)
    hop = np.where(nodes > 1, network.inter_latency_s, network.intra_latency_s)
    whole = pipelined_s(network.base_latency_s + hop, np.maximum(inside, between), network.ramp_frac)
    return np.where(ranks > 1, whole, 0.0)


def send_s(message_bytes: Any, network: Network, *, between_nodes: Any = False) -> Any:
    """One message from one device to one other.

    Source: latency and bandwidth of one hop.
    """
    rate = np.where(between_nodes, network.inter_bytes_per_s, network.intra_bytes_per_s)
    hop = np.where(between_nodes, network.inter_latency_s, network.intra_latency_s)
    return pipelined_s(
        network.base_latency_s + hop, message_bytes / np.where(rate > 0, rate, np.inf), network.ramp_frac
    )


def network_of(machine: Machine, constants: Constants) -> Network:
    """The sustained links of a machine.

    Raises:
        MissingFactError: Several devices, but no figure for the link between them.
        UnsupportedError: A link is asked for that the device does not have.
    """
    intra = _intra_bytes_per_s(machine, constants) if machine.devices_per_node > 1 else 0.0
    inter = machine.inter_node_bytes_per_s or constants.usual_inter_node_bytes_per_s
    reduces = machine.devices_per_node > 1 and _uses_peer_link(machine) and _switch_adds(machine)
    peer = machine.device.peer_bytes_per_s_each_way or 0.0
    return replace(
        alone(constants),
        per_node=machine.devices_per_node,
        nodes=machine.nodes,
        intra_bytes_per_s=intra,
        inter_bytes_per_s=inter * constants.network_frac,
        in_switch_bytes_per_s=peer * constants.in_switch_frac if reduces else 0.0,
        spread=_spread(machine, constants),
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
        base_latency_s=constants.base_latency_s,
        ramp_frac=constants.ramp,
    )


def as_columns(networks: Sequence[Network]) -> Network:
    """Several machines' networks as one with columns; latencies are the same for all."""
    names = ["per_node", "nodes", "intra_bytes_per_s", "inter_bytes_per_s", "in_switch_bytes_per_s", "spread"]
    names += ["on_cores", "staging_s_per_byte"]
    columns: dict[str, Any] = {name: np.array([getattr(n, name) for n in networks], dtype=float) for name in names}
    return replace(networks[0], **columns)


def _spread(machine: Machine, constants: Constants) -> float:
    """The least known of the links decides: shared PCIe, then a network that is only assumed."""
    links = [constants.link_spread]
    links += [constants.shared_link_spread] if shares_host_links(machine) else []
    links += [constants.assumed_link_spread] if machine.nodes > 1 and not machine.inter_node_bytes_per_s else []
    return float(max(links))


def _intra_bytes_per_s(machine: Machine, constants: Constants) -> float:
    device = machine.device
    if _uses_peer_link(machine):
        peer = device.peer_bytes_per_s_each_way
        if not peer:
            raise UnsupportedError(
                f"{device.id} has no known peer link", hint="leave link out, or name a PCIe link such as pcie4x16"
            )
        return float(peer * (constants.xgmi_frac if "xgmi" in device.peer_link else constants.nvlink_frac))
    pairs = _is_bridge(machine) and machine.link in ("", "nvlink")
    sharing = machine.devices_per_node / (2 if pairs else 1)
    share = constants.pcie_frac * (2.0 / max(2.0, sharing)) ** constants.pcie_exponent
    return float(host_link_bytes_per_s(machine) * share)


def _is_bridge(machine: Machine) -> bool:
    """Whether the peer link joins two devices only; between pairs runs PCIe."""
    return "bridge2" in machine.device.peer_link


def _uses_peer_link(machine: Machine) -> bool:
    """Whether the devices of a node talk over their own link rather than through the host."""
    if machine.link not in ("", "nvlink") or (_is_bridge(machine) and machine.devices_per_node > 2):
        return False
    return machine.link == "nvlink" or bool(machine.device.peer_bytes_per_s_each_way)


def _switch_adds(machine: Machine) -> bool:
    """Whether the switch between the devices can add: NVSwitch from its third generation on.

    Source: NVIDIA, "NVLink SHARP", third-generation NVSwitch with Hopper, 2022.
    """
    return machine.device.peer_link in ("nvlink4", "nvlink5", "nvlink6")


def shares_host_links(machine: Machine) -> bool:
    """Whether three or more devices share the PCIe links of a host: real boxes differ tenfold.

    Source: spread of the boxes that the ``[collective]`` table was fitted on.
    """
    return machine.devices_per_node > 2 and not machine.shares_cores and not _uses_peer_link(machine)


def check_link(link: str) -> None:
    """Accept the name of a link between the devices of a node, whether or not a device has it.

    Raises:
        UnsupportedError: It is no link we know.
    """
    if link not in _LINKS_OF_DEVICES and not _pcie_bytes_per_s(link):
        raise UnsupportedError(f"no link is called {link!r}", hint="for example nvlink, pcie4x16, pcie5x8")


def _pcie_bytes_per_s(link: str) -> float:
    generation, _, lanes = link.partition("x")
    if lanes not in ("1", "2", "4", "8", "16"):
        return 0.0
    return PCIE_X16_BYTES_PER_S.get(generation, 0.0) * int(lanes) / 16


def host_link_bytes_per_s(machine: Machine) -> float:
    """One direction of the link between a device and its host.

    Raises:
        MissingFactError: Neither the case nor the catalogue names one.
        UnsupportedError: The name is no link we know.
    """
    check_link(machine.link)
    named = machine.link if machine.link not in _LINKS_OF_DEVICES else machine.device.host_link
    rate = _pcie_bytes_per_s(named) or machine.device.host_bytes_per_s_each_way
    if rate:
        return rate
    raise MissingFactError(f"no figure for the host link of {machine.device.id}", hint="name one: link pcie4x16")
