"""What no machine can undercut: the bound below every estimate, and the heuristic of the search.

A data sheet's peak is not a bound by itself. So here the peak is taken at the highest rated
clock with some headroom for boards that boost further, with the quicker 16-bit accumulator
where there is one, and convolutions count only the multiplications that Winograd's algorithm
leaves. Of the traffic only what must cross the memory bus once a step is counted: weights,
optimizer state and the cache of keys and values, less what the last-level cache can hold on
to. Activations may stay in that cache, so they count nothing.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.facts.device import RATES_OF_FORMAT, Device
from rigwise.graph.count import BYTES_OF_DTYPE, tensor_bytes
from rigwise.graph.op import Kind, Op, Phase, Role
from rigwise.graph.passes.optimizer import STATE_ARRAYS
from rigwise.units import MIB
from rigwise.workload.lower import Work
from rigwise.workload.table import FORMATS, OpTable

#: Boards sold with a raised clock run up to a tenth above the reference boost clock.
CLOCK_HEADROOM = 1.10
_READS_WHOLE_WEIGHTS = frozenset({Kind.GEMM, Kind.CONV, Kind.RNN, Kind.COPY})
#: Key of arithmetic that may be done in whichever 16- or 32-bit format a device is quickest in.
FASTEST = "fastest"
#: Largest cache behind the last one that the catalogue lists: the 256 MiB Infinity Cache of an MI300X.
#: Of other makers than NVIDIA, and where no cache is listed, a bound allows for as much.
UNLISTED_CACHE_BYTES = 256 * MIB
#: Output tile of the largest Winograd transform in use.
_WINOGRAD_TILE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastWork:
    """What one optimizer step (or one pass) of the whole job cannot do without.

    Attributes:
        flops_by_format: Arithmetic that must be done, by number format.
        compulsory_bytes: Traffic of weights, state and cache, in all.
        moved_bytes: All traffic between operators, whether a cache spares the bus or not: each byte takes its energy.
        product_bytes: The part of it that belongs to operators with arithmetic.
    """

    flops_by_format: Mapping[str, float]
    compulsory_bytes: float
    moved_bytes: float = 0.0
    product_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastEnergy:
    """What a device spends at least.

    Attributes:
        flop_j: Of one operation, by number format.
        byte_j: Of one byte moved.
        busy_w: Drawn by one device while it works, whatever it does.
        limit_w: That it never exceeds; inf where unknown.
        sustained_w: What is left of that for operations and bytes while operators with arithmetic run; inf where no
            limit acts.
    """

    flop_j: Mapping[str, float]
    byte_j: float
    busy_w: float
    limit_w: float
    sustained_w: float


def winograd_gain(kernel: int) -> float:
    """Most that a minimal-filtering transform can save on a square kernel of stride 1.

    A transform with an output tile of 4 needs ``(4 + r - 1)^2`` products for ``(4 r)^2``.

    Source: Lavin & Gray, section 4.1.

    >>> winograd_gain(3)
    4.0
    """
    return (_WINOGRAD_TILE * kernel / (_WINOGRAD_TILE + kernel - 1)) ** 2


def least_flops(op: Op, flops: float) -> float:
    """Arithmetic of an operator that no algorithm in use avoids.

    Source: see ``winograd_gain``.
    """
    if op.kind is not Kind.CONV or op.attrs.get("stride") not in ((1, 1), 1):
        return flops
    weight = next(
        (t for t in (*op.inputs, *op.outputs) if len(t.shape) == 4 and t.shape[2] == t.shape[3] and _small(t.shape[2])),
        None,
    )
    return flops / winograd_gain(int(weight.shape[2])) if weight is not None and weight.shape[2] != 1 else flops  # type: ignore[arg-type]


def _small(size: object) -> bool:
    return isinstance(size, int) and 1 <= size <= 11


def least_work(table: OpTable, work: Work, micro_steps: int, replicas: int, optimizer: str) -> LeastWork:
    """The floor of one step from the operators of one micro-batch of one replica.

    Args:
        table: Operators of one micro-batch, any recompute excluded by the caller.
        work: Parameters and their formats.
        micro_steps: Micro-batches that one replica runs in a step.
        replicas: Replicas; arithmetic is counted over all, compulsory traffic for one alone.
        optimizer: Its state must be read and written once.

    Source: see the module.
    """
    by_format: dict[str, float] = {}
    for row, op in enumerate(table.ops):
        flops = float(table.flops[row, 0]) * op.repeat
        if flops and not op.attrs.get("recomputed"):
            name = FORMATS[table.number_format[row]]
            by_format[name] = by_format.get(name, 0.0) + least_flops(op, flops) * micro_steps * replicas
    updates_all = optimizer != "none" and not work.frozen_elements and not work.packed_elements
    update = work.trained_elements * BYTES_OF_DTYPE[work.precision.storage] * (2 + 2 * STATE_ARRAYS[optimizer])
    compulsory = (update if optimizer != "none" else 0.0) + _cache_read_bytes(table)
    if not updates_all:
        compulsory += _weights_read_bytes(table, work)
    moved = (table.read_bytes + table.write_bytes) * micro_steps * replicas
    products = np.asarray(table.flops.any(axis=1))
    return LeastWork(
        flops_by_format=by_format,
        compulsory_bytes=compulsory,
        moved_bytes=float(table.total(moved)[0]),
        product_bytes=float(table.total(moved, products)[0]),
    )


def _weights_read_bytes(table: OpTable, work: Work) -> float:
    """Weights of matrix operators, each read once; embedding tables and experts may stay untouched.

    Weights that several blocks share are counted once, and packed ones in their 4 bits.
    """
    if work.packed_elements:
        return work.packed_elements * BYTES_OF_DTYPE["int4"]
    read = 0.0
    for op in table.ops:
        if op.phase is Phase.FORWARD and op.kind in _READS_WHOLE_WEIGHTS and op.name != "aten._grouped_mm":
            whole = (t for t in op.inputs if t.role is Role.PARAMETER and t.producer is None and len(t.shape) > 1)
            read += op.repeat * sum(float(tensor_bytes(t, {})) for t in whole)
    narrowest = min(BYTES_OF_DTYPE[work.precision.weights], BYTES_OF_DTYPE[work.precision.storage])
    return min(read, (work.frozen_elements + work.trained_elements) * narrowest)


def _cache_read_bytes(table: OpTable) -> float:
    """Keys and values of earlier tokens, each read once."""
    total = 0.0
    for row, op in enumerate(table.ops):
        if op.kind is Kind.ATTENTION and any(t.role is Role.CACHE for t in op.inputs):
            queries = table.batch[row] * table.m[row] * table.k[row] * BYTES_OF_DTYPE[op.inputs[0].dtype]
            earlier_frac = (table.n[row] - table.m[row]) / table.n[row]
            total += op.repeat * float(((table.read_bytes[row] - queries) * earlier_frac)[0])
    return total


def ceiling_flops_per_s(device: Device, number_format: str) -> float:
    """A rate that no kernel of the format exceeds; nan where the device lacks the format.

    Source: see the module.
    """
    if number_format == FASTEST:
        rates = [ceiling_flops_per_s(device, f) for f in ("bf16", "fp16", "fp32") if device.computes(f)]
        return max(rates, default=float("nan"))
    peaks = device.peak_flops_per_s
    names = {*RATES_OF_FORMAT[number_format], f"{number_format}_acc16"}
    rates = [peaks[name] for name in names if name in peaks]
    if not rates:
        return float("nan")
    faster_clock = (device.boost_hz or 0.0) / device.tensor_hz if device.tensor_hz else 1.0
    return max(rates) * max(1.0, faster_clock) * CLOCK_HEADROOM


def cache_bytes(device: Device) -> float:
    """Most that a device can keep from one use to the next without its memory.

    Source: the catalogue; AMD CDNA 3 architecture white paper, 2023, for what it does not list.
    """
    listed = device.l2_bytes or 0.0
    is_last = listed and (device.vendor == "NVIDIA" or device.kind == "cpu")
    return listed if is_last else max(listed, UNLISTED_CACHE_BYTES)


def least_step_s(least: LeastWork, device: Device, count: int = 1) -> float:
    """Admissible lower bound of a step on ``count`` devices: perfect scaling, perfect overlap.

    Source: see the module.
    """
    ceilings = {name: ceiling_flops_per_s(device, name) for name in least.flops_by_format}
    memory = (cache_bytes(device), device.memory_bytes_per_s or np.inf)
    return float(floor_s(least, ceilings, memory, count))


def floor_s(least: LeastWork, ceilings: Mapping[str, Any], memory: tuple[Any, Any], count: Any) -> Any:
    """The same for many devices at once.

    Args:
        least: What a step cannot do without.
        ceilings: By number format, the rate that no kernel exceeds ``[devices]``.
        memory: Last-level cache and bandwidth ``[devices]``.
        count: Devices that share the step ``[devices]``.

    Source: see the module.
    """
    compute = sum(flops / ceilings[name] for name, flops in least.flops_by_format.items())
    uncached = np.maximum(0.0, least.compulsory_bytes - count * memory[0])
    return np.maximum(compute, uncached / memory[1]) / count


def powered_step_s(least: LeastWork, energy: LeastEnergy, count: int = 1) -> float:
    """Time in which ``count`` devices can deliver the energy of the arithmetic at their sustained power.

    Source: ``estimate.power``: no operator with arithmetic ends before its energy has been delivered.
    """
    if not np.isfinite(energy.sustained_w):
        return 0.0
    return (_arithmetic_j(least, energy) + energy.byte_j * least.product_bytes) / (count * energy.sustained_w)


def least_energy_j(least: LeastWork, energy: LeastEnergy, step_s: float, count: int = 1) -> float:
    """Energy of a step on ``count`` devices that takes at least ``step_s``; 0 where no limit is known.

    Every operation and byte takes its energy and every device draws something for as long as it works, but
    none more than its limit.

    Source: ``estimate.power`` and ``estimate.step``.
    """
    if not np.isfinite(energy.limit_w):
        return 0.0
    dynamic_j = _arithmetic_j(least, energy) + energy.byte_j * max(least.moved_bytes, least.compulsory_bytes)
    return min(energy.busy_w * step_s * count + dynamic_j, energy.limit_w * step_s * count)


def _arithmetic_j(least: LeastWork, energy: LeastEnergy) -> float:
    return sum(flops * energy.flop_j[name] for name, flops in least.flops_by_format.items())


def least_memory_bytes(work: Work, optimizer: str, shards: int) -> float:
    """Weights, gradients and optimizer state, sharded as far as ZeRO 3 can.

    Source: Rajbhandari et al., "ZeRO", 2020.
    """
    storage = BYTES_OF_DTYPE[work.precision.storage]
    trained = work.trained_elements * storage * (2 + STATE_ARRAYS[optimizer])
    frozen: Any = work.frozen_elements * BYTES_OF_DTYPE[work.precision.weights]
    return float(trained + frozen + work.packed_elements * BYTES_OF_DTYPE["int4"]) / shards
