"""What tensor, pipeline and data parallelism do to the work of one device and to its network.

Tensor parallelism divides matrix operators, and what runs between them on the same features,
over a group and pays two all-reduces of the activations for each block and pass. Pipeline
parallelism divides the blocks and pays a bubble of ``(p-1)/m`` of the ideal time. Data
parallelism pays one all-reduce of the gradients, or the gathers and scatters of ZeRO 3, hidden
behind computation as far as there is any.

Source: Shoeybi et al., "Megatron-LM", 2019, section 3; Narayanan et al., "Efficient Large-Scale
Language Model Training on GPU Clusters", 2021, section 2.2; Rajbhandari et al., "ZeRO", 2020.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.errors import UnsupportedError
from rigwise.estimate.collective import Network, all_reduce_s, gather_s
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.op import Kind, Phase
from rigwise.workload.case import Case, Parallel
from rigwise.workload.lower import Work
from rigwise.workload.table import Array, OpTable

_SHARDED_KINDS = (Kind.GEMM, Kind.ATTENTION, Kind.SOFTMAX, Kind.ELEMENTWISE, Kind.COPY)
_SHARDED_WITH_SEQUENCE = (*_SHARDED_KINDS, Kind.NORM, Kind.REDUCE)


def check_supported(case: Case, table: OpTable) -> None:
    """Refuse what this version has no model for.

    Raises:
        UnsupportedError: Expert or context parallelism; tensor or pipeline parallelism of a
            model that is no stack of equal attention blocks.
    """
    parallel = case.parallel
    for name in ("expert", "context"):
        if getattr(parallel, name) > 1:
            raise UnsupportedError(f"{name} parallelism has no model yet", hint=f"set parallel.{name} to 1")
    blocks = table.of_kind(Kind.ATTENTION) & (table.repeat > 1)
    if (parallel.tensor > 1 or parallel.pipeline > 1) and not blocks.any():
        raise UnsupportedError(
            f"tensor and pipeline parallelism are modelled for stacks of equal attention blocks, not for {case.model}",
            hint="use data parallelism",
        )


def shard(table: OpTable, parallel: Parallel) -> OpTable:
    """The table of one member of a tensor-parallel group.

    Source: Megatron-LM; see the module.
    """
    if parallel.tensor == 1:
        return table
    kinds = _SHARDED_WITH_SEQUENCE if parallel.sequence else _SHARDED_KINDS
    rows = table.of_kind(*kinds) & (table.repeat > 1) | table.of_kind(Kind.GEMM)
    part = np.where(rows, 1.0 / parallel.tensor, 1.0)[:, None]
    gemms = table.of_kind(Kind.GEMM)[:, None]
    return replace(
        table,
        macs=table.macs * part,
        flops=table.flops * part,
        read_bytes=table.read_bytes * part,
        write_bytes=table.write_bytes * part,
        weight_bytes=table.weight_bytes * part,
        batch=np.where(gemms | (part == 1.0), table.batch, table.batch * part),
        n=np.where(gemms & (part < 1.0), np.maximum(table.n * part, 1.0), table.n),
    )


def bubble_factor(parallel: Parallel, micro_steps: Any) -> Any:
    """Time of a pipelined step over the ideal one.

    Source: Narayanan et al. 2021, section 2.2: bubble (p-1)/m, divided by v when interleaved.

    >>> bubble_factor(Parallel(pipeline=4), 12)
    1.25
    """
    virtual = parallel.virtual if parallel.schedule == "interleaved" else 1
    return 1.0 + (parallel.pipeline - 1) / (micro_steps * virtual)


def group_network(network: Network, data: Any, tensor: int, group: str) -> Network:
    """The part of a machine's network that one group uses.

    Tensor groups sit inside a node where they fit; data groups take what is left of it.
    """
    size = np.asarray(tensor if group == "tensor" else data)
    inside = network.per_node if group == "tensor" else np.maximum(1, network.per_node // tensor)
    per_node = np.minimum(size, inside)
    return replace(network, per_node=per_node, nodes=np.maximum(1, np.ceil(size / per_node)))


def data_parallel_s(
    work: Work, case: Case, network: Network, micro_steps: Array, hidden_behind: tuple[Array, Array], constants: Any
) -> Array:
    """Exposed communication of data parallelism in one step ``[machines]``.

    Args:
        work: Parameters and formats.
        case: Resolved case.
        network: Of the data-parallel group.
        micro_steps: Micro-batches that one replica runs.
        hidden_behind: Backward time of one micro-batch; all computation of the step.
        constants: The ``[collective]`` table.

    Source: see the module; buckets as PyTorch's DistributedDataParallel documents them.
    """
    backward_s, compute_s = hidden_behind
    if case.task != "train":
        return np.zeros_like(backward_s)
    shards = case.parallel.tensor * case.parallel.pipeline
    gradient_bytes = work.trained_elements * BYTES_OF_DTYPE[work.precision.storage] / shards
    bucket_s = all_reduce_s(min(constants.bucket_bytes, gradient_bytes), network)
    if case.parallel.zero < 3:
        return np.asarray(np.maximum(bucket_s, all_reduce_s(gradient_bytes, network) - backward_s))
    sent_dtype = work.precision.autocast or work.precision.storage
    weight_bytes = (work.trained_elements + work.frozen_elements) * BYTES_OF_DTYPE[sent_dtype] / shards
    scatter_bytes = work.trained_elements * BYTES_OF_DTYPE[sent_dtype] / shards
    traffic_s = micro_steps * (2 * gather_s(weight_bytes, network) + gather_s(scatter_bytes, network))
    return np.asarray(np.maximum(bucket_s, traffic_s - compute_s))


def tensor_parallel_s(table: OpTable, case: Case, network: Network) -> Any:
    """All-reduces of activations inside the tensor group for one micro-batch ``[machines]``.

    One after attention and one after the feed-forward part of each block, in each pass; nothing
    hides them.

    Source: Megatron-LM, section 3.
    """
    total: Any = 0.0
    if case.parallel.tensor == 1:
        return total
    for row, op in enumerate(table.ops):
        if op.kind is Kind.ATTENTION and op.phase in (Phase.FORWARD, Phase.BACKWARD):
            width = BYTES_OF_DTYPE[op.inputs[0].dtype]
            head_rows = float(table.batch[row, 0]) * case.parallel.tensor * float(table.m[row, 0])
            total = total + op.repeat * 2 * all_reduce_s(head_rows * float(table.k[row, 0]) * width, network)
    return total
