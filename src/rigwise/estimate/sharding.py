"""What tensor, sequence and expert parallelism do to the work of one device, and what they send.

Tensor parallelism divides matrix operators, and what runs between them on the same features,
over a group and pays two all-reduces of the hidden states for each block and pass, one more for
the embedding, and one for the gradient that the head sends back. With the sequence divided too,
each becomes a reduce-scatter and an all-gather. Expert parallelism keeps some experts on each
rank of a group of data-parallel replicas: tokens travel to their experts and back, in each pass.

Source: Shoeybi et al., "Megatron-LM", 2019, section 3; Korthikanti et al., "Reducing Activation
Recomputation in Large Transformer Models", 2022, section 4.2.2; Lepikhin et al., "GShard", 2020,
section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.estimate.collective import Network, all_reduce_s, all_to_all_s, gather_s
from rigwise.estimate.context_parallel import context_shard
from rigwise.estimate.tensor_shard import tensor_shard
from rigwise.graph.op import Kind, Op, Phase, Role, SameOps
from rigwise.workload.case import Case, Parallel
from rigwise.workload.table import Array, OpTable

#: Products of tokens with the weights of the experts that they are sent to.
_EXPERTS = "aten._grouped_mm"
#: Columns of numbers that a loss over a divided vocabulary reduces for each token, in 32 bits.
#: Source: Megatron-LM, section 3: largest logit, sum of exponentials, logit of the target.
_LOSS_BYTES_PER_TOKEN = 3 * 4


def check_supported(case: Case, table: OpTable) -> None:
    """Refuse what this version has no model for.

    Raises:
        UnsupportedError: Tensor, pipeline or context parallelism of a model that is no stack of
            equal attention blocks, or of one token; expert parallelism of one without experts.
        InvalidInputError: Experts, layers, heads or tokens do not divide over their group.
    """
    parallel = case.parallel
    layers = layers_of(table)
    if max(parallel.tensor, parallel.pipeline, parallel.context) > 1 and not layers:
        raise UnsupportedError(
            "tensor, pipeline and context parallelism are modelled for stacks of equal attention blocks,"
            f" not for {case.model}",
            hint="use data parallelism",
        )
    _check_heads(case, table)
    if parallel.context > 1:
        _check_context(case)
    if parallel.expert > 1:
        _check_experts(case, table)
    virtual = parallel.virtual if parallel.schedule == "interleaved" else 1
    if parallel.pipeline * virtual > max(layers, 1):
        raise InvalidInputError(
            f"{parallel.pipeline * virtual} pipeline stages for the {layers} layers of {case.model}",
            hint="a stage holds at least one layer",
        )


def layers_of(table: OpTable) -> int:
    """Equal attention blocks of a model, which can be divided; 0 where it is no stack of them."""
    blocks = table.of_kind(Kind.ATTENTION) & (table.repeat > 1)
    return int(table.repeat[blocks & table.of_phase(Phase.FORWARD)].sum())


def _check_heads(case: Case, table: OpTable) -> None:
    heads = {op.inputs[0].shape[1] for op in table.ops if op.kind is Kind.ATTENTION and op.phase is Phase.FORWARD}
    for count in sorted(h for h in heads if isinstance(h, int)):
        if count % case.parallel.tensor:
            raise InvalidInputError(f"{count} heads do not divide over {case.parallel.tensor} tensor-parallel ranks")


def _check_context(case: Case) -> None:
    if case.task == "decode" or case.seq is None:
        raise UnsupportedError(f"one token of {case.model} cannot be divided", hint="set parallel.context to 1")
    if case.seq % case.parallel.context:
        raise InvalidInputError(f"{case.seq} tokens do not divide over {case.parallel.context} context-parallel ranks")


def _check_experts(case: Case, table: OpTable) -> None:
    groups = {int(op.attrs.get("groups", 1)) for op in table.ops if op.name == _EXPERTS}  # type: ignore[arg-type]
    if not groups:
        raise UnsupportedError(f"{case.model} has no experts to spread", hint="set parallel.expert to 1")
    expert, data = case.parallel.expert, case.parallel.data or 1
    for whole, words in ((data, "data-parallel replicas"), *((n, "experts") for n in sorted(groups))):
        if whole % expert:
            raise InvalidInputError(f"{whole} {words} do not divide over {expert} expert-parallel ranks")


def shard(table: OpTable, parallel: Parallel) -> OpTable:
    """The table of one member of a tensor-, a context- and an expert-parallel group.

    Source: see the module.
    """
    if parallel.tensor > 1:
        table = tensor_shard(table, parallel)
    if parallel.context > 1:
        table = context_shard(table, parallel.context)
    return _of_expert_rank(table, parallel.expert) if parallel.expert > 1 else table


def _of_expert_rank(table: OpTable, expert: int) -> OpTable:
    """As many tokens as before, for fewer experts: each gets the tokens of all ranks of the group."""
    rows = _expert_rows(table)[:, None]
    kept_bytes = np.where(rows, table.weight_bytes / expert, table.weight_bytes)
    read_bytes = table.read_bytes - (table.weight_bytes - kept_bytes)
    return replace(
        table,
        read_bytes=read_bytes,
        near_bytes=np.minimum(table.near_bytes, read_bytes),
        weight_bytes=kept_bytes,
        batch=np.where(rows & (table.batch >= expert), table.batch / expert, table.batch),
        m=np.where(rows & (table.batch >= expert), table.m * expert, table.m),
    )


def _expert_rows(table: OpTable) -> NDArray[np.bool_]:
    return np.array([op.name == _EXPERTS for op in table.ops], dtype=bool)


def expert_frac(ops: tuple[Op, ...]) -> float:
    """Share of the weights that belongs to experts.

    Source: parameters of the products that tokens are sent to.
    """
    return _expert_frac(SameOps(ops))


@lru_cache(maxsize=256)
def _expert_frac(held: SameOps) -> float:
    whole = {True: 0.0, False: 0.0}
    for op in held.ops:
        if op.phase is Phase.FORWARD:
            for tensor in op.inputs:
                if tensor.role is Role.PARAMETER and tensor.producer is None:
                    elements: Any = tensor.elements({})
                    whole[op.name == _EXPERTS] += op.repeat * float(elements)
    return whole[True] / (whole[True] + whole[False]) if whole[True] else 0.0


def kept_frac(ops: tuple[Op, ...], parallel: Parallel) -> Any:
    """Share of the weights that one expert-parallel rank keeps: all but the other ranks' experts.

    Source: Lepikhin et al., "GShard", section 3.2.
    """
    if np.all(np.equal(parallel.expert, 1)):
        return 1.0
    return 1.0 - expert_frac(ops) * (1.0 - 1.0 / parallel.expert)


def exchanged_frac(ops: tuple[Op, ...], parallel: Parallel, replicas: Any) -> Any:
    """What a rank exchanges with other replicas, as a share of what it would without expert parallelism.

    Its experts stand on ``replicas / expert`` ranks alone, and nowhere else if that is one.

    Args:
        ops: Of the step.
        parallel: Sizes of the groups.
        replicas: Ranks that share all other weights ``[machines]``.

    Source: ring volumes ``(r-1)/r``, as in ``collective``.
    """
    if np.all(np.equal(parallel.expert, 1)):
        return 1.0
    share, among = expert_frac(ops), np.maximum(replicas / parallel.expert, 1.0)
    volume = (1.0 - 1.0 / among) / np.maximum(1.0 - 1.0 / np.maximum(replicas, 2.0), 0.5)
    return np.where(np.equal(parallel.expert, 1), 1.0, 1.0 - share + share / parallel.expert * volume)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSend:
    """What the attention block of one row sends inside a tensor group.

    Attributes:
        runs: How often the block runs in a pass.
        hidden_bytes: Its hidden states, whole ``[sizes]``.
    """

    runs: int
    hidden_bytes: Array


def block_sends(table: OpTable) -> Iterator[BlockSend]:
    """Hidden states between the blocks, for each pass over each stack of blocks.

    Their width is that of the model, which the projection behind the attention writes, whatever
    heads there are. A block that is run again to recompute its results sends again.

    Args:
        table: Operators of one member of the group, which writes them whole before they are summed.

    Source: Megatron-LM, section 3.
    """
    attention, forward = table.of_kind(Kind.ATTENTION), table.of_phase(Phase.FORWARD)
    products = table.of_kind(Kind.GEMM) & forward
    hidden_of: dict[str, Array] = {}
    hidden = np.zeros(table.macs.shape[1])
    for row in np.flatnonzero(attention):
        module = table.ops[row].module
        behind = np.flatnonzero(products & (np.arange(len(products)) > row))
        if forward[row] and behind.size:
            hidden_of[module] = hidden = table.write_bytes[behind[0]]
        yield BlockSend(runs=int(table.repeat[row]), hidden_bytes=hidden_of.get(module, hidden))


def hidden_bytes(table: OpTable) -> Array:
    """The hidden states of one micro-batch between two blocks ``[sizes]``."""
    sends = (send.hidden_bytes for send in block_sends(table))
    return next(sends, np.zeros(table.macs.shape[1]))


def blocks_s(table: OpTable, case: Case, network: Network, size: Any = 0) -> Any:
    """Collectives inside the blocks of one micro-batch: two for each block and pass.

    One after attention and one after the feed-forward part; nothing hides them.

    Source: see the module.
    """
    total: Any = 0.0
    for send in block_sends(table):
        total = total + send.runs * 2 * _summed_s(send.hidden_bytes[size], case, network)
    return total


def tensor_parallel_s(table: OpTable, case: Case, network: Network, size: Any = 0) -> Any:
    """Collectives inside the tensor group for one micro-batch ``[machines]``.

    Blocks, then the ends: hidden states behind the embedding, their gradient behind the head and,
    in training, three numbers for each token of the loss.

    Source: see the module.
    """
    if np.all(np.equal(case.parallel.tensor, 1)):
        return 0.0
    whole = hidden_bytes(table)[size]
    ends = _summed_s(whole, case, network)
    if case.task == "train":
        tokens = _tokens(table, size)
        ends = 2 * ends + all_reduce_s(tokens * _LOSS_BYTES_PER_TOKEN, network)
    return np.where(np.equal(case.parallel.tensor, 1), 0.0, blocks_s(table, case, network, size) + ends)


def _tokens(table: OpTable, size: Any) -> Any:
    """Rows of the first product with weights: a token each."""
    rows = np.flatnonzero(table.of_kind(Kind.GEMM) & table.of_phase(Phase.FORWARD))
    return table.m[rows[0], size] if rows.size else 0.0


def _summed_s(message_bytes: Any, case: Case, network: Network) -> Any:
    divided = case.parallel.sequence
    if not np.any(divided):
        return all_reduce_s(message_bytes, network)
    gathered_s = 2 * gather_s(message_bytes, network)
    return gathered_s if np.all(divided) else np.where(divided, gathered_s, all_reduce_s(message_bytes, network))


def expert_parallel_s(table: OpTable, case: Case, network: Network, size: Any = 0) -> Any:
    """Tokens to their experts and back, for one micro-batch ``[machines]``.

    Experts are taken to be equally loaded; a token counts once for each expert that it visits.

    Source: Lepikhin et al., "GShard", section 3.2: two exchanges for each layer and pass.
    """
    total: Any = 0.0
    if np.all(np.equal(case.parallel.expert, 1)):
        return total
    passes = 2.0 if case.task == "train" else 1.0
    first = _expert_rows(table) & table.of_phase(Phase.FORWARD)
    seen: set[str] = set()
    for row in np.flatnonzero(first):
        op = table.ops[row]
        if op.module not in seen:
            seen.add(op.module)
            sent = (table.read_bytes - table.weight_bytes)[row, size]
            total = total + op.repeat * 2 * passes * all_to_all_s(sent, network)
    return np.where(np.equal(case.parallel.expert, 1), 0.0, total)
