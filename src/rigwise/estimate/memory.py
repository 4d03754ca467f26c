"""Peak memory of one device, term by term, as its driver would report it.

Two moments can be the fullest: the end of the forward pass, when all saved activations stand
beside weights, gradients and optimizer state, and the optimizer step, when the activations
are gone but an update over all parameters holds temporaries. The larger is reported, with
the terms of that moment.

Sharding: ZeRO 1 divides optimizer state over the data-parallel group, 2 gradients too, 3
weights too. Source: Rajbhandari et al., "ZeRO", 2020, figure 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Constants
from rigwise.facts.device import Device
from rigwise.graph.count import BYTES_OF_DTYPE, tensor_bytes
from rigwise.graph.op import Kind, Op, Phase, Role
from rigwise.graph.passes.optimizer import STATE_ARRAYS
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import Array, OpTable

_HAS_TEMPORARY = frozenset({"adam", "adamw"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peak memory of the fullest device.

    Attributes:
        peak_bytes: The larger of the two moments ``[sizes]``.
        terms: What stands there then, by name ``[sizes]`` each; they add up to the peak.
    """

    peak_bytes: Array
    terms: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingSet:
    """What the operators of one micro-batch hold on one device ``[sizes]``.

    Attributes:
        activations_bytes: Results of the forward pass kept for the backward pass.
        transient_bytes: The largest operator's operands and results.
        cache_bytes: Keys and values kept for later tokens.
    """

    activations_bytes: Array
    transient_bytes: Array
    cache_bytes: Array


def working_set(table: OpTable, sizes: Mapping[str, Any], case: Case) -> WorkingSet:
    """Sum what a table's operators hold at given sizes.

    Source: Korthikanti et al. 2022, section 4: saved results are those marked at capture.
    """
    as_float = {name: np.asarray(value, dtype=np.float64) for name, value in sizes.items()}
    saved, cache = np.zeros(table.macs.shape[1]), np.zeros(table.macs.shape[1])
    for op in table.ops:
        if case.task == "train" and op.phase is Phase.FORWARD:
            saved += op.repeat * sum((tensor_bytes(t, as_float) for t in op.outputs if t.saved), 0.0)
        if op.kind is Kind.ATTENTION and _keeps_cache(op, case):
            cache += op.repeat * sum(tensor_bytes(t, as_float) for t in op.inputs[1:3])
    working = table.read_bytes - table.weight_bytes + table.write_bytes
    tensor = case.parallel.tensor
    return WorkingSet(
        activations_bytes=saved / tensor,
        transient_bytes=working.max(axis=0) / tensor,
        cache_bytes=cache / (tensor * case.parallel.pipeline),
    )


def peak_memory(
    work: Work, held: WorkingSet, case: Case, data: Array, constants: Constants, *, is_cpu: bool = False
) -> Memory:
    """Peak memory of one device under the case's strategy.

    Args:
        work: Lowered operators and parameters.
        held: What one micro-batch holds, one number each or columns.
        case: Resolved case: optimizer, parallelism, task.
        data: Data-parallel replicas, over which ZeRO shards ``[machines]``.
        constants: The ``[memory_terms]`` table.
        is_cpu: No driver context and no caching allocator.

    Source: see the module.
    """
    standing = _standing(work, case, data)
    several = data * case.parallel.tensor * case.parallel.pipeline > 1
    context = 0.0 if is_cpu else constants.context_bytes + constants.collective_bytes * several
    always = {**standing, "kv_cache": held.cache_bytes, "workspace": constants.workspace_bytes, "context": context}
    in_step = {**always, "activations": held.activations_bytes, "transient": held.transient_bytes}
    in_step["gathered"] = _gathered_bytes(work, case) * (data > 1)
    temporary = standing["trained"] if case.optimizer in _HAS_TEMPORARY and case.task == "train" else 0.0
    in_update = {**always, "update_temporary": temporary}
    moments = [_with_allocator(terms, constants, data, is_cpu=is_cpu) for terms in (in_step, in_update)]
    step_total, update_total = (np.asarray(sum(terms.values())) for terms in moments)
    fuller = moments[0] if step_total.max() >= update_total.max() else moments[1]
    return Memory(peak_bytes=np.maximum(step_total, update_total), terms=fuller)


def _with_allocator(terms: dict[str, Any], constants: Constants, data: Array, *, is_cpu: bool) -> dict[str, Array]:
    """The terms as columns, and what rounding and fragmentation add to them."""
    columns = {name: value + np.zeros_like(data) for name, value in terms.items() if name != "trained"}
    held = sum((v for name, v in columns.items() if name != "context"), np.zeros_like(data))
    columns["allocator"] = held * (0.0 if is_cpu else constants.allocator_frac)
    return {name: value for name, value in columns.items() if value.any()}


def _standing(work: Work, case: Case, data: Array) -> dict[str, Any]:
    """Weights, gradients and optimizer state: what stays from step to step.

    ``trained`` is the shard of the trained weights, for the update's temporaries.
    """
    parallel = case.parallel
    shards = parallel.tensor * parallel.pipeline
    storage = BYTES_OF_DTYPE[work.precision.storage]
    trained = work.trained_elements * storage / shards
    frozen = work.frozen_elements * BYTES_OF_DTYPE[work.precision.weights]
    frozen += work.packed_elements * BYTES_OF_DTYPE["int4"]

    def sharded(value: float, stage: int) -> Any:
        return value / data if parallel.zero >= stage else value

    return {
        "weights": sharded(trained + frozen / shards, 3),
        "gradients": sharded(trained, 2) if case.task == "train" else 0.0,
        "optimizer": sharded(trained * STATE_ARRAYS[case.optimizer or "none"], 1),
        "trained": sharded(trained, 1),
    }


def _gathered_bytes(work: Work, case: Case) -> float:
    """Whole weights that ZeRO 3 holds for a moment: the unit at work and the next one, prefetched.

    Source: Zhao et al., "PyTorch FSDP", 2023, section 3.3.
    """
    if case.parallel.zero < 3:
        return 0.0
    sent_dtype = work.precision.autocast or work.precision.storage
    return 2 * work.unit_elements * BYTES_OF_DTYPE[sent_dtype] / (case.parallel.tensor * case.parallel.pipeline)


def _keeps_cache(op: Op, case: Case) -> bool:
    if case.task == "prefill":
        return True
    return case.task == "decode" and any(t.role is Role.CACHE for t in op.inputs)


def capacity_bytes(device: Device, constants: Constants) -> float:
    """What a program can really have: the driver's figure, or the usual share of the label."""
    if device.kind == "cpu":
        return device.memory_bytes or 0.0
    return device.usable_bytes or (device.memory_bytes or 0.0) * constants.usable_frac
