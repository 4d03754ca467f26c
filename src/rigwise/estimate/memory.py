"""Peak memory of one device, term by term, as its driver would report it.

Two moments can be the fullest: the end of the forward pass, when all saved activations stand
beside weights, gradients and optimizer state, and the optimizer step, when the activations
are gone but an update over all parameters holds temporaries. The larger is reported, with
the terms of that moment.

Sharding: ZeRO 1 divides optimizer state over the data-parallel group, 2 gradients too, 3
weights too. Source: Rajbhandari et al., "ZeRO", 2020, figure 1.
"""

from __future__ import annotations

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


def peak_memory(
    work: Work, table: OpTable, sizes: dict[str, Any], case: Case, constants: Constants, *, is_cpu: bool = False
) -> Memory:
    """Peak memory of one device under the case's strategy.

    Args:
        work: Lowered operators and parameters.
        table: Their columns at the sizes of one micro-batch.
        sizes: Those sizes.
        case: Resolved case: optimizer, parallelism, task.
        constants: The ``[memory_terms]`` table.
        is_cpu: No driver context and no caching allocator.

    Source: see the module; Korthikanti et al. 2022 for what recompute keeps.
    """
    standing = _standing(work, case)
    activations, transient = _activations(table, sizes, case)
    cache = _cache_bytes(table, sizes, case)
    context = 0.0 if is_cpu else constants.context_bytes + (constants.collective_bytes if case.count > 1 else 0.0)
    always = {**standing, "kv_cache": cache, "workspace": constants.workspace_bytes, "context": context}
    in_step = {**always, "activations": activations, "transient": transient}
    temporary = standing["weights"] if case.optimizer in _HAS_TEMPORARY and case.task == "train" else 0.0
    in_update = {**always, "update_temporary": temporary}
    length = table.macs.shape[1]
    moments = [_with_allocator(terms, constants, length, is_cpu=is_cpu) for terms in (in_step, in_update)]
    step_total, update_total = (np.asarray(sum(terms.values())) for terms in moments)
    fuller = moments[0] if float(step_total.max()) >= float(update_total.max()) else moments[1]
    return Memory(peak_bytes=np.maximum(step_total, update_total), terms=fuller)


def _with_allocator(terms: dict[str, Any], constants: Constants, length: int, *, is_cpu: bool) -> dict[str, Array]:
    """The terms as arrays, and what rounding and fragmentation add to them."""
    arrays = {name: np.broadcast_to(np.asarray(value, dtype=np.float64), (length,)) for name, value in terms.items()}
    held = sum((v for name, v in arrays.items() if name != "context"), np.zeros(length))
    arrays["allocator"] = held * (0.0 if is_cpu else constants.allocator_frac)
    return {name: value for name, value in arrays.items() if value.any()}


def _standing(work: Work, case: Case) -> dict[str, float]:
    """Weights, gradients and optimizer state: what stays from step to step."""
    parallel = case.parallel
    shards = parallel.tensor * parallel.pipeline
    data = parallel.data or 1
    storage = BYTES_OF_DTYPE[work.precision.storage]
    trained = work.trained_elements * storage / shards
    frozen = (
        work.frozen_elements * BYTES_OF_DTYPE[work.precision.weights] + work.packed_elements * BYTES_OF_DTYPE["int4"]
    )
    weights = trained + frozen / shards
    state = trained * STATE_ARRAYS[case.optimizer or "none"]
    return {
        "weights": weights / (data if parallel.zero >= 3 else 1),
        "gradients": trained / (data if parallel.zero >= 2 else 1) if case.task == "train" else 0.0,
        "optimizer": state / (data if parallel.zero >= 1 else 1),
    }


def _activations(table: OpTable, sizes: dict[str, Any], case: Case) -> tuple[Any, Any]:
    """Saved results of the forward pass, and the largest operator's working set beside them."""
    as_float = {name: np.asarray(value, dtype=np.float64) for name, value in sizes.items()}
    shards = case.parallel.tensor
    saved: Any = 0.0
    if case.task == "train":
        for op in table.ops:
            if op.phase is Phase.FORWARD:
                saved = saved + op.repeat * sum((tensor_bytes(t, as_float) for t in op.outputs if t.saved), 0.0)
    working = table.read_bytes - table.weight_bytes + table.write_bytes
    streaming = ~table.of_kind(Kind.OPTIMIZER)
    transient = working[streaming].max(axis=0) if streaming.any() else 0.0
    return saved / shards, transient / shards


def _cache_bytes(table: OpTable, sizes: dict[str, Any], case: Case) -> Any:
    """Keys and values kept for later tokens, in the attention operators' own format."""
    if case.task not in ("prefill", "decode"):
        return 0.0
    as_float = {name: np.asarray(value, dtype=np.float64) for name, value in sizes.items()}
    total: Any = 0.0
    for op in table.ops:
        if op.kind is Kind.ATTENTION and _keeps_cache(op, case):
            total = total + op.repeat * sum(tensor_bytes(t, as_float) for t in op.inputs[1:3])
    return total / (case.parallel.tensor * case.parallel.pipeline)


def _keeps_cache(op: Op, case: Case) -> bool:
    return case.task == "prefill" or any(t.role is Role.CACHE for t in op.inputs) or bool(op.attrs.get("cache"))


def capacity_bytes(device: Device, constants: Constants) -> float:
    """What a program can really have: the driver's figure, or the usual share of the label."""
    if device.kind == "cpu":
        return device.memory_bytes or 0.0
    return device.usable_bytes or (device.memory_bytes or 0.0) * constants.usable_frac
