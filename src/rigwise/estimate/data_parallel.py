"""Data parallelism: what of its communication computation does not hide.

Plain replicas all-reduce their gradients in buckets, each as soon as the backward pass has
filled it and the bucket before is done; accumulated micro-batches only in the last. ZeRO 1 and
2 scatter the sums in place of reducing them, 2 after every micro-batch, and gather the updated
weights. ZeRO 3 gathers each unit's weights before the unit runs, one unit ahead, and scatters
its gradients behind it, in every micro-batch. While a collective runs beside computation it
slows it: both need memory bandwidth, and the collective some of the device's units.

Source: Li et al., "PyTorch Distributed", 2020, section 3.2; Rajbhandari et al., "ZeRO", 2020,
section 7; Zhao et al., "PyTorch FSDP", 2023, section 3.3; Miao et al., "Galvatron", 2022,
section 3.4, for the slow-down of both sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.estimate.collective import Network, all_reduce_s, gather_s
from rigwise.estimate.timeline import Timeline
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import Array

#: Buckets that follow each other are replayed in at most so many groups.
_MOST_GROUPS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Computation that communication may hide behind.

    Attributes:
        forward_s, backward_s: Of one micro-batch ``[machines]``.
        micro_steps: Micro-batches of one replica ``[machines]``.
        size: Column of the timeline.
    """

    forward_s: Array
    backward_s: Array
    micro_steps: Array
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """What data parallelism sends in a step, of one tensor and pipeline shard.

    Attributes:
        gradient_bytes: Gradients of all trained weights, as they are reduced.
        weight_bytes: All weights, as ZeRO gathers them.
    """

    gradient_bytes: float
    weight_bytes: float


def messages(work: Work, case: Case) -> Messages:
    """Sizes of what is sent: in the storage format, for ZeRO 3 in that of autocast.

    Source: defaults of DistributedDataParallel and of FSDP's mixed precision with 16-bit reduction.
    """
    shards = case.parallel.tensor * case.parallel.pipeline
    sent = (work.precision.autocast if case.parallel.zero == 3 else None) or work.precision.storage
    width = BYTES_OF_DTYPE[sent]
    held = work.trained_elements + (work.frozen_elements if case.parallel.zero == 3 else 0.0)
    packed = work.packed_elements * BYTES_OF_DTYPE["int4"] if case.parallel.zero == 3 else 0.0
    return Messages(
        gradient_bytes=work.trained_elements * width / shards, weight_bytes=(held * width + packed) / shards
    )


def data_parallel_s(
    case: Case, sent: Messages, line: Timeline, network: Network, passes: Passes, constants: Any
) -> Array:
    """Time that data parallelism adds to one step ``[machines]``.

    Args:
        case: Resolved case: the task and the ZeRO stage.
        sent: Sizes of the messages.
        line: When in a pass which weights are needed.
        network: Of the data-parallel group.
        passes: What hides it.
        constants: The ``[collective]`` table.

    Source: see the module.
    """
    if case.task != "train":
        return np.zeros_like(passes.backward_s)
    if case.parallel.zero == 3:
        return _gathered_s(sent, line, network, passes, constants)
    if case.parallel.zero == 0:
        return _bucketed_s(sent.gradient_bytes, all_reduce_s, line, network, passes, constants)
    times = passes.micro_steps if case.parallel.zero == 2 else 1.0
    scattered = _bucketed_s(sent.gradient_bytes, gather_s, line, network, passes, constants)
    return np.asarray(times * scattered + gather_s(sent.weight_bytes, network))


def exchange_s(sent: Messages, network: Network, constants: Any) -> Any:
    """All buckets of a step one after the other, hidden by nothing.

    Source: see the module.
    """
    buckets = max(1, int(np.ceil(sent.gradient_bytes / constants.bucket_bytes)))
    return buckets * all_reduce_s(sent.gradient_bytes / buckets, network)


def _bucketed_s(
    message_bytes: float, collective: Any, line: Timeline, network: Network, passes: Passes, constants: Any
) -> Array:
    """Buckets in the order in which they fill, each after the one before.

    The last one ends at the latest of ``ready + all that is left from there``.
    """
    buckets = max(1, int(np.ceil(message_bytes / constants.bucket_bytes)))
    bucket_s = collective(message_bytes / buckets, network)
    first = np.unique(np.linspace(0, buckets - 1, min(buckets, _MOST_GROUPS)).round())
    ready_frac = line.ready_frac((first + 1) / buckets, passes.size)
    end_s = (ready_frac[:, None] * passes.backward_s + (buckets - first)[:, None] * bucket_s).max(axis=0)
    exposed_s = np.maximum(end_s - passes.backward_s, 0.0)
    hidden_s = buckets * bucket_s - exposed_s
    return np.asarray(exposed_s + slowed_s(hidden_s, constants))


def _gathered_s(sent: Messages, line: Timeline, network: Network, passes: Passes, constants: Any) -> Array:
    """Units gathered one ahead, their gradients scattered behind them.

    A unit waits where its own collectives take longer than it computes; what stands outside the
    stack is gathered once, before anything runs, and scattered last.
    """
    repeat, root = line.repeat[:, None], line.is_root[:, None] > 0
    share = (line.weight_frac / line.repeat)[:, None]
    gather = _of_unit(share, sent.weight_bytes, network)
    scatter = _of_unit(share, sent.gradient_bytes, network)
    cost = (line.cost_frac[:, passes.size] / line.repeat)[:, None]
    forward, backward = cost * passes.forward_s, cost * passes.backward_s
    root_weight = line.weight_frac[line.is_root > 0].sum()
    ends = _of_unit(root_weight, sent.weight_bytes, network) + _of_unit(root_weight, sent.gradient_bytes, network)
    waits_s = np.where(root, 0.0, repeat * np.maximum(gather - forward, 0.0)).sum(axis=0)
    waits_s = waits_s + np.where(root, 0.0, repeat * np.maximum(gather + scatter - backward, 0.0)).sum(axis=0)
    moved_s = np.where(root, 0.0, repeat * (2 * gather + scatter)).sum(axis=0) + ends
    inner = np.flatnonzero(line.is_root == 0)
    # nothing runs yet when the first unit is gathered in each pass, nor any more when the last one is scattered
    edges_s = gather[inner[0]] + gather[inner[-1]] + scatter[inner[0]] if inner.size else 0.0
    exposed_s = np.minimum(ends + waits_s + edges_s, moved_s)
    return np.asarray(passes.micro_steps * (exposed_s + slowed_s(moved_s - exposed_s, constants)))


def _of_unit(share: Any, message_bytes: float, network: Network) -> Any:
    """Gather of a share of the message, nothing for nothing."""
    return np.where(share > 0, gather_s(share * message_bytes, network), 0.0)


def slowed_s(hidden_s: Any, constants: Any) -> Any:
    """What computation loses while a collective runs beside it.

    Source: Miao et al., "Galvatron", 2022, section 3.4.
    """
    return (constants.overlap_slowdown - 1.0) * np.maximum(hidden_s, 0.0)
