"""Data parallelism: what of its communication computation does not hide.

Plain replicas all-reduce their gradients in buckets, each as soon as the backward pass has
filled it and the bucket before is done; accumulated micro-batches only in the last. ZeRO 1 and
2 scatter the sums in place of reducing them, 2 after every micro-batch, and gather the updated
weights. ZeRO 3 gathers each unit's weights before the unit runs, one unit ahead, and scatters
its gradients behind it, in every micro-batch. While a collective runs beside computation it
slows it: both need memory bandwidth, and the collective some of the device's units. Ranks that share
a CPU have no other units: what they send each other is carried by the cores that compute, hides behind
nothing, and so does copying gradients into a bucket and out of it.

Source: Li et al., "PyTorch Distributed", 2020, section 3.2; Rajbhandari et al., "ZeRO", 2020,
section 7; Zhao et al., "PyTorch FSDP", 2023, section 3.3; Miao et al., "Galvatron", 2022,
section 3.4, for the slow-down of both sides.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np

from rigwise.estimate.collective import Network, all_reduce_s, gather_s
from rigwise.estimate.timeline import Timeline
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import Array

#: Buckets that follow each other are replayed in at most so many groups.
_MOST_GROUPS = 32

_Columns = TypeVar("_Columns", "Passes", "Messages", Network)


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Computation that communication may hide behind.

    Attributes:
        forward_s, backward_s: Of one micro-batch ``[machines]``.
        micro_steps: Micro-batches of one replica ``[machines]``.
        size: Column of the timeline, one for all or one for each.
    """

    forward_s: Array
    backward_s: Array
    micro_steps: Array
    size: Any = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """What data parallelism sends in a step, of one tensor and pipeline shard.

    Attributes:
        gradient_bytes: Gradients of all trained weights, as they are reduced.
        weight_bytes: All weights, as ZeRO gathers them.
    """

    gradient_bytes: Any
    weight_bytes: Any


def messages(work: Work, case: Case) -> Messages:
    """Sizes of what is sent: in the storage format, for ZeRO 3 in that of autocast.

    Source: defaults of DistributedDataParallel and of FSDP's mixed precision with 16-bit reduction.
    """
    shards, gathers = case.parallel.tensor * case.parallel.pipeline, np.equal(case.parallel.zero, 3)
    storage = BYTES_OF_DTYPE[work.precision.storage]
    width = np.where(gathers, BYTES_OF_DTYPE[work.precision.autocast or work.precision.storage], storage)
    held = work.trained_elements + np.where(gathers, work.frozen_elements, 0.0)
    packed = np.where(gathers, work.packed_elements * BYTES_OF_DTYPE["int4"], 0.0)
    return Messages(
        gradient_bytes=work.trained_elements * width / shards, weight_bytes=(held * width + packed) / shards
    )


def data_parallel_s(
    case: Case, sent: Messages, line: Timeline, network: Network, passes: Passes, constants: Any
) -> Array:
    """Time that data parallelism adds to one step ``[machines]``.

    Args:
        case: Resolved case: the task and the ZeRO stage, one for all machines or one for each.
        sent: Sizes of the messages.
        line: When in a pass which weights are needed.
        network: Of the data-parallel group.
        passes: What hides it.
        constants: The ``[collective]`` table.

    Source: see the module.
    """
    total = np.zeros_like(passes.backward_s)
    if case.task != "train":
        return total
    stages = np.broadcast_to(case.parallel.zero, total.shape)
    for stage in np.unique(stages):
        rows = stages == stage
        parts = (_of_rows(sent, rows), _of_rows(network, rows), _of_rows(passes, rows))
        total[rows] = _of_stage_s(int(stage), line, parts, constants)
    return total


def _of_rows(columns: _Columns, rows: Any) -> _Columns:
    """Some of the machines; what is one number for all stays."""
    if rows.all():
        return columns
    found = {f.name: getattr(columns, f.name) for f in fields(columns)}
    return replace(columns, **{name: value[rows] for name, value in found.items() if np.size(value) == rows.size})


def _of_stage_s(zero: int, line: Timeline, parts: tuple[Messages, Network, Passes], constants: Any) -> Array:
    sent, network, passes = parts
    if zero == 3:
        return _gathered_s(sent, line, network, passes, constants)
    if zero == 0:
        return _bucketed_s(sent.gradient_bytes, all_reduce_s, line, network, passes, constants)
    times = passes.micro_steps if zero == 2 else 1.0
    scattered = _bucketed_s(sent.gradient_bytes, gather_s, line, network, passes, constants)
    return np.asarray(times * scattered + gather_s(sent.weight_bytes, network))


def exchange_s(sent: Messages, network: Network, constants: Any) -> Any:
    """All buckets of a step one after the other, hidden by nothing.

    Source: see the module.
    """
    buckets = np.maximum(1.0, np.ceil(sent.gradient_bytes / constants.bucket_bytes))
    return buckets * all_reduce_s(sent.gradient_bytes / buckets, network)


def _bucketed_s(
    message_bytes: Any, collective: Any, line: Timeline, network: Network, passes: Passes, constants: Any
) -> Array:
    """Buckets in the order in which they fill, each after the one before.

    The last one ends at the latest of ``ready + all that is left from there``.
    """
    buckets = np.maximum(1.0, np.ceil(np.atleast_1d(message_bytes) / constants.bucket_bytes))
    bucket_s = collective(message_bytes / buckets, network) + network.staging_s_per_byte * message_bytes / buckets
    groups = min(int(buckets.max()), _MOST_GROUPS)
    first = np.linspace(np.zeros_like(buckets), buckets - 1, groups).round()
    ready_frac = line.ready_frac((first + 1) / buckets, passes.size)
    end_s = (ready_frac * passes.backward_s + (buckets - first) * bucket_s).max(axis=0)
    exposed_s = np.where(network.on_cores, buckets * bucket_s, np.maximum(end_s - passes.backward_s, 0.0))
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
    cost = line.cost_frac[:, np.atleast_1d(passes.size)] / repeat
    forward, backward = cost * passes.forward_s, cost * passes.backward_s
    root_weight = line.weight_frac[line.is_root > 0].sum()
    ends = _of_unit(root_weight, sent.weight_bytes, network) + _of_unit(root_weight, sent.gradient_bytes, network)
    waits_s = np.where(root, 0.0, repeat * np.maximum(gather - forward, 0.0)).sum(axis=0)
    waits_s = waits_s + np.where(root, 0.0, repeat * np.maximum(gather + scatter - backward, 0.0)).sum(axis=0)
    moved_s = np.where(root, 0.0, repeat * (2 * gather + scatter)).sum(axis=0) + ends
    inner = np.flatnonzero(line.is_root == 0)
    # nothing runs yet when the first unit is gathered in each pass, nor any more when the last one is scattered
    edges_s = gather[inner[0]] + gather[inner[-1]] + scatter[inner[0]] if inner.size else 0.0
    exposed_s = np.where(network.on_cores, moved_s, np.minimum(ends + waits_s + edges_s, moved_s))
    return np.asarray(passes.micro_steps * (exposed_s + slowed_s(moved_s - exposed_s, constants)))


def _of_unit(share: Any, message_bytes: float, network: Network) -> Any:
    """Gather of a share of the message, nothing for nothing."""
    return np.where(share > 0, gather_s(share * message_bytes, network), 0.0)


def slowed_s(hidden_s: Any, constants: Any) -> Any:
    """What computation loses while a collective runs beside it.

    Source: Miao et al., "Galvatron", 2022, section 3.4.
    """
    return (constants.overlap_slowdown - 1.0) * np.maximum(hidden_s, 0.0)
