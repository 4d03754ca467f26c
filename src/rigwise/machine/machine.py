"""A concrete computer or cluster: equal devices in equal nodes, and what joins them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rigwise.errors import MissingFactError
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
        shares_cores: Whether the devices of a node are ranks on one CPU, each its part of it.
        core_frac: Part of a core's time that a thread has: below 1 where there are more threads than cores.
    """

    device: Device
    count: int = 1
    nodes: int = 1
    link: str = ""
    inter_node_bytes_per_s: float | None = None
    host: str = ""
    power_limit_w: float | None = None
    shares_cores: bool = False
    core_frac: float = 1.0

    @property
    def devices_per_node(self) -> int:
        """Devices in one computer."""
        return self.count // self.nodes


def part_of_cpu(device: Device, ranks: int = 1, threads: int | None = None) -> tuple[Device, float]:
    """What one of equal ranks has of the CPU that they share, and the part of a core's time that a thread has.

    Memory, its bandwidth and the last-level cache are divided by the ranks; of the cores a rank has one for each
    thread. Where there are more threads than cores they take turns: each core is slower by that.

    Left out: the higher clock of a package that is not busy, NUMA, the two kinds of cores of a hybrid, and what
    taking turns costs.

    Args:
        device: The whole CPU.
        ranks: Processes that run on it.
        threads: Of each rank; None for its part of the cores, at least one.

    Raises:
        MissingFactError: Nobody says how many cores it has.

    Source: the cores, the bus and the cache are there once, and equal ranks want them at the same time.

    >>> whole = Device(id="x", name="X", vendor="v", kind="cpu", architecture="a", units=8, memory_bytes_per_s=8e10)
    >>> part, core_frac = part_of_cpu(whole, ranks=4)
    >>> part.units, part.memory_bytes_per_s, core_frac
    (2, 20000000000.0, 1.0)
    >>> part_of_cpu(whole, ranks=16)[1]
    0.5
    """
    if not device.units:
        raise MissingFactError(f"{device.id} has no sourced number of cores", hint="see rigwise cpus")
    own = threads or max(1, device.units // ranks)
    core_frac = min(1.0, device.units / (ranks * own))
    rate_frac = own * core_frac / device.units

    def part(value: float | None, frac: float) -> float | None:
        return None if value is None else value * frac

    changed = replace(
        device,
        units=own,
        boost_hz=part(device.boost_hz, core_frac),
        base_hz=part(device.base_hz, core_frac),
        tensor_hz=part(device.tensor_hz, core_frac),
        peak_flops_per_s={name: rate * rate_frac for name, rate in device.peak_flops_per_s.items()},
        memory_bytes=part(device.memory_bytes, 1 / ranks),
        usable_bytes=part(device.usable_bytes, 1 / ranks),
        memory_bytes_per_s=part(device.memory_bytes_per_s, 1 / ranks),
        l2_bytes=part(device.l2_bytes, 1 / ranks),
        tdp_w=part(device.tdp_w, 1 / ranks),
    )
    return changed, core_frac


def on_shared_cores(machine: Machine, threads: int | None = None) -> Machine:
    """A machine of CPUs, seen by a rank: its device is the rank's part of one.

    Several devices of a node without a link between them are ranks on one CPU. With a link they are CPUs; and a rank
    that has a CPU to itself is left as it is, unless it has fewer threads than cores.

    Args:
        machine: Whose device is a whole CPU.
        threads: Of each rank; None for its part of the cores.

    Raises:
        MissingFactError: As ``part_of_cpu``.
    """
    ranks = machine.devices_per_node if not machine.link else 1
    if ranks == 1 and threads is None:
        return machine
    device, core_frac = part_of_cpu(machine.device, ranks, threads)
    limit_w = machine.power_limit_w / ranks if machine.power_limit_w else None
    return replace(machine, device=device, shares_cores=ranks > 1, core_frac=core_frac, power_limit_w=limit_w)
