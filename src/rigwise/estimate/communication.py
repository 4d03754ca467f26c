"""What the devices of a step send each other, and what of it shows in the step's time.

Synchronous training waits for its own gradients and for the slowest device. With bounded
staleness the exchange of one step runs beside the computation of the next ones. Asynchronous
training has no barrier: workers push gradients to and pull weights from servers, one in each
node, at their own pace, until the servers' links are full. Only speed is answered; what
staleness costs in convergence is not.

Source: Ho et al., "Stale Synchronous Parallel Parameter Server", 2013; Li et al., "Scaling
Distributed Machine Learning with the Parameter Server", 2014.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Constants
from rigwise.estimate.collective import Network, shares_host_links
from rigwise.estimate.context_parallel import context_parallel_s
from rigwise.estimate.data_parallel import Messages, Passes, data_parallel_s, exchange_s, messages, slowed_s
from rigwise.estimate.pipeline import pipeline_sends_s
from rigwise.estimate.sharding import exchanged_frac, expert_parallel_s, hidden_bytes, tensor_parallel_s
from rigwise.estimate.straggling import straggling_frac
from rigwise.estimate.timeline import Timeline
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import Array, OpTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """How the devices of each machine share a step ``[machines]``.

    Attributes:
        count: Devices.
        data: Data-parallel replicas.
        micro_steps: Micro-batches that one replica runs.
        network: Links, columns over machines.
    """

    count: Array
    data: Array
    micro_steps: Array
    network: Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What one device computes between its messages.

    Attributes:
        case: Resolved.
        work: Parameters and formats.
        table: Operators of one micro-batch of one rank.
        line: When in a pass which weights are needed.
        size: Column of the table.
    """

    case: Case
    work: Work
    table: OpTable
    line: Timeline
    size: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposed:
    """Communication that shows in a step ``[machines]``.

    Attributes:
        data_s: Gradients and gathered weights.
        tensor_s: Hidden states inside tensor groups.
        expert_s: Tokens to experts and back.
        context_s: Keys and values round the ring.
        pipeline_s: Between stages.
    """

    data_s: Array
    tensor_s: Array
    expert_s: Array
    context_s: Array
    pipeline_s: Array

    @property
    def total_s(self) -> Array:
        """All of it."""
        return self.data_s + self.tensor_s + self.expert_s + self.context_s + self.pipeline_s


def group_network(network: Network, data: Any, tensor: int, group: str) -> Network:
    """The part of a machine's network that one group uses.

    Tensor groups sit inside a node where they fit; data groups take what is left of it, and the
    groups of a node share its way out.

    Source: placement of Narayanan et al. 2021, section 3.2.
    """
    size = np.asarray(tensor if group == "tensor" else data)
    inside = network.per_node if group == "tensor" else np.maximum(1, network.per_node // tensor)
    per_node = np.minimum(size, inside)
    nodes = np.maximum(1, np.ceil(size / per_node))
    beside = np.maximum(1.0, network.per_node / per_node)
    rate = np.where(nodes > 1, network.inter_bytes_per_s / beside, network.inter_bytes_per_s)
    return replace(network, per_node=per_node, nodes=nodes, inter_bytes_per_s=rate)


def exposed(sent: Sent, groups: Groups, passes: Passes, constants: Constants) -> Exposed:
    """What communication adds to a step.

    Args:
        sent: The work of one device.
        groups: Devices and links.
        passes: One micro-batch's computation on one stage.
        constants: The ``[collective]`` table.

    Source: see the module; each part cites its own.
    """
    case, zero = sent.case, np.zeros_like(passes.backward_s)
    if (groups.count == 1).all():
        return Exposed(data_s=zero, tensor_s=zero, expert_s=zero, context_s=zero, pipeline_s=zero)
    parallel, network = case.parallel, groups.network
    runs = groups.micro_steps / parallel.pipeline
    sharing = groups.data * parallel.context
    within = group_network(network, sharing, parallel.tensor, "data")
    data_s = np.where(sharing > 1, _data_s(sent, groups, within, passes, constants), 0.0)
    inside = group_network(network, groups.data, parallel.tensor, "tensor")
    experts = group_network(network, np.float64(parallel.expert), parallel.tensor, "data")
    ring = group_network(network, np.float64(parallel.context), parallel.tensor, "data")
    whole_s = (passes.forward_s * parallel.pipeline, passes.backward_s * parallel.pipeline)
    stride = sharing * parallel.tensor
    return Exposed(
        data_s=data_s,
        tensor_s=zero + tensor_parallel_s(sent.table, case, inside, sent.size) * runs,
        expert_s=zero + expert_parallel_s(sent.table, case, experts, sent.size) * runs,
        context_s=zero + context_parallel_s(sent.table, parallel.context, ring, whole_s, sent.size) * runs,
        pipeline_s=zero
        + pipeline_sends_s(
            case,
            hidden_bytes(sent.table)[sent.size] if np.any(parallel.pipeline > 1) else 0.0,
            network,
            groups.micro_steps,
            between_nodes=(stride >= network.per_node) & (np.asarray(network.nodes) > 1),
        ),
    )


def _data_s(sent: Sent, groups: Groups, network: Network, passes: Passes, constants: Constants) -> Array:
    case = sent.case
    whole = messages(sent.work, case)
    frac = exchanged_frac(sent.work.step_ops, case.parallel, groups.data * case.parallel.context)
    part = Messages(gradient_bytes=whole.gradient_bytes * frac, weight_bytes=whole.weight_bytes * frac)
    if case.task != "train" or case.parallel.update == "synchronous":
        return data_parallel_s(case, part, sent.line, network, passes, constants)
    compute_s = passes.micro_steps * (passes.forward_s + passes.backward_s)
    if case.parallel.update == "stale":
        moved_s = exchange_s(part, network, constants)
    else:
        moved_s = _served_s(part, groups.network, groups.data)
    waits_s = np.where(network.on_cores, moved_s, np.maximum(moved_s - compute_s, 0.0))
    return np.asarray(waits_s + slowed_s(moved_s - waits_s, constants))


def _served_s(part: Messages, network: Network, workers: Array) -> Array:
    """Servers' links at work for one round of all workers: one server in each node, all at once.

    A server takes the gradients and hands out the weights of its share of the parameters.

    Source: Li et al. 2014, section 4.
    """
    nodes = np.asarray(network.nodes, dtype=np.float64)
    rate = np.where(nodes > 1, network.inter_bytes_per_s, network.intra_bytes_per_s)
    each_way = np.maximum(part.gradient_bytes, part.weight_bytes)
    return np.asarray(workers * each_way / nodes / np.where(rate > 0, rate, np.inf))


def straggling_s(case: Case, busy_s: Array, groups: Groups, constants: Constants) -> Array:
    """What waiting for the slowest device adds to a step.

    Source: ``estimate.straggling``.
    """
    parallel = case.parallel
    if parallel.update == "asynchronous":
        return np.zeros_like(busy_s)
    alone = parallel.tensor * parallel.pipeline * parallel.context
    waiting = groups.count if case.task == "train" else np.minimum(groups.count, alone)
    staleness = parallel.staleness if parallel.update == "stale" else 0
    return np.asarray(busy_s * straggling_frac(waiting, constants.step_spread, staleness))


def taken_for_granted(case: Case, machine: Machine) -> list[str]:
    """What the answer takes for granted about how devices talk to each other, in words.

    Staleness: an asynchronous gradient is computed from weights that each other worker has updated once since.

    Source: Zhang et al., "Staleness-Aware Async-SGD", 2016, section 2.2.
    """
    parallel, data = case.parallel, case.parallel.data or 1
    words = [_sharing(machine)] if machine.shares_cores else []
    if shares_host_links(machine):
        words.append("PCIe links shared as on the usual board: real ones differ by up to ten times, so bench yours")
    if parallel.update == "stale":
        words.append(
            f"weights up to {parallel.staleness} steps old: this is speed alone, more steps may be needed to converge"
        )
    if parallel.update == "asynchronous":
        words.append(
            f"weights {data - 1} updates old on average: this is speed alone, more steps may be needed to converge"
        )
    return words


def _sharing(machine: Machine) -> str:
    """How ranks share a CPU, in words."""
    ranks, threads = machine.devices_per_node, machine.device.units
    words = f"{ranks} ranks share one CPU: {threads} thread{'' if threads == 1 else 's'} each"
    if machine.core_frac < 1.0:
        words += f", which take turns on its cores ({machine.core_frac:.2g} of one each)"
    return f"{words}, messages through its memory"
