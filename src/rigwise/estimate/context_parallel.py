"""Context parallelism: every device holds a part of each sequence, keys and values go round.

All operators see a part of the tokens. Attention meets every key: keys and values pass round the
ring of the group, one block at a time, while attention to the block before is computed; in the
backward pass their gradients pass with them. Masked halves are taken to be balanced, as when
each device holds an early and a late piece.

Source: Liu, Zaharia & Abbeel, "Ring Attention with Blockwise Transformers", 2023, section 3;
Brandon et al., "Striped Attention", 2023, for the balance.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.estimate.collective import Network, send_s
from rigwise.estimate.timeline import NOMINAL_RIDGE
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.op import Kind, Phase
from rigwise.workload.table import Array, OpTable


def context_shard(table: OpTable, context: int) -> OpTable:
    """The table of one member: a part of the tokens, all of the weights, every key.

    Source: see the module.
    """
    gemms = table.of_kind(Kind.GEMM)[:, None]
    attention = table.of_kind(Kind.ATTENTION)[:, None]
    sums_tokens = gemms & (table.weight_bytes == 0) & table.of_phase(Phase.BACKWARD)[:, None]
    m = np.where((gemms & ~sums_tokens) | attention, np.maximum(table.m / context, 1.0), table.m)
    k = np.where(sums_tokens, np.maximum(table.k / context, 1.0), table.k)
    products = (m * k + k * table.n) / (table.m * table.k + table.k * table.n)
    keys = np.where(attention, _keys_bytes(table), 0.0)
    fixed = table.weight_bytes + keys
    read = np.where(gemms, table.read_bytes * products, fixed + np.maximum(table.read_bytes - fixed, 0.0) / context)
    write = table.write_bytes * np.where(gemms, m / table.m, 1.0 / context)
    return replace(
        table,
        macs=table.macs / context,
        flops=table.flops / context,
        read_bytes=read,
        write_bytes=write,
        near_bytes=np.minimum(table.near_bytes, read),
        m=m,
        k=k,
    )


def _keys_bytes(table: OpTable) -> Array:
    """Keys and values that attention reads, whole ``[operators, sizes]``: all but what queries take."""
    width = np.array([BYTES_OF_DTYPE[op.inputs[0].dtype] if op.inputs else 0.0 for op in table.ops])[:, None]
    return np.asarray(np.maximum(table.read_bytes - table.batch * table.m * table.k * width, 0.0))


def context_parallel_s(table: OpTable, context: Any, network: Network, passes: tuple[Any, Any], size: Any = 0) -> Any:
    """What passing keys and values round adds to one micro-batch ``[machines]``.

    Attention takes its share of the pass at a nominal ridge point; blocks beyond the first
    hide behind it.

    Args:
        table: Operators of one member.
        context: Size of the group, one for all machines or one for each.
        network: Of the group.
        passes: Forward and backward time of one micro-batch of a member.
        size: Column of the table.

    Source: see the module.
    """
    total: Any = 0.0
    if np.all(np.equal(context, 1)):
        return total
    attention, keys = table.of_kind(Kind.ATTENTION), _keys_bytes(table)[:, size]
    cost = np.maximum(table.flops / NOMINAL_RIDGE, table.read_bytes + table.write_bytes) * table.repeat[:, None]
    cost = cost[:, size]
    forward = table.of_phase(Phase.FORWARD)
    for phase, pass_s, sent in ((forward, passes[0], 1.0), (table.of_phase(Phase.BACKWARD), passes[1], 2.0)):
        whole = cost[phase].sum(axis=0)
        for row in np.flatnonzero(attention & phase):
            blocks = keys[_nearest(attention & forward, int(row))] * sent / context
            round_s = (context - 1) * send_s(blocks, network, between_nodes=np.asarray(network.nodes) > 1)
            behind_s = pass_s * (cost[row] / whole / table.repeat[row]) * (context - 1) / context
            total = total + table.repeat[row] * np.maximum(round_s - behind_s, 0.0)
    return np.where(np.equal(context, 1), 0.0, total)


def _nearest(rows: Any, row: int) -> int:
    """The forward row whose keys a row uses: itself, or the last one before it."""
    return int(np.flatnonzero(rows[: row + 1])[-1]) if rows[: row + 1].any() else row
