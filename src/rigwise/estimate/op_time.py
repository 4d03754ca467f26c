"""Time of every operator on every device: each kind by its own law, in one call.

Shapes: devices by operators by sizes. Every time is at least both roofs, because every
efficiency is at most 1 and every law starts from the roofs.

Source: Williams, Waterman & Patterson, "Roofline", CACM 52(4), 2009; what a kind adds to it is
said where its law stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from rigwise.estimate.attention import attention
from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.conv import convolutions
from rigwise.estimate.cpu import cpu_times
from rigwise.estimate.dequantise import dequantise_s
from rigwise.estimate.gemm import blend, products
from rigwise.estimate.power import energy_per_flop_j, limited_s, settled_s
from rigwise.estimate.reuse import memory_share
from rigwise.estimate.roofline import compute_s, memory_s
from rigwise.estimate.setting import Setting
from rigwise.estimate.streaming import streaming
from rigwise.estimate.unfold import unfolded
from rigwise.graph.op import Kind
from rigwise.workload.table import Array, OpTable

#: Compute and memory time of a table's operators, and operations done where they are not those of the table.
Law = Callable[[OpTable, DeviceColumns, Calibration, Setting], tuple[Array, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTimes:
    """Times of one run of each operator ``[devices, operators, sizes]``.

    Attributes:
        total_s: The kernel, with its launch gap.
        compute_s, memory_s: What arithmetic and traffic alone would take at sustained rates.
        energy_j: Dynamic energy: operations and bytes.
        throttled_s: Of the total, what the power limit adds.
    """

    total_s: Array
    compute_s: Array
    memory_s: Array
    energy_j: Array
    throttled_s: Array


def op_times(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> OpTimes:
    """Time every operator of ``table`` on every device, nan where a device lacks the format."""
    compute, memory = streaming(table, device, calibration, setting)
    done_flops = table.flops[None]
    for kinds, law in _LAWS:
        rows = table.of_kind(*kinds)
        if rows.any():
            compute[:, rows], memory[:, rows], *done = law(table.take(rows), device, calibration, setting)
            if done:  # a device may need fewer than the table counts
                done_flops = np.broadcast_to(done_flops, compute.shape).copy()
                done_flops[:, rows] = done[0]
    compute = np.fmax(compute, dequantise_s(table, device))
    memory *= memory_share(table, device, calibration.memory)
    times = _finish(table, device, calibration, setting, (compute, memory, done_flops))
    cpus = device.is_cpu[:, 0, 0]
    if cpus.any():
        on_cpus = cpu_times(table, device.take(cpus), calibration, setting)
        times.compute_s[cpus], times.memory_s[cpus], times.total_s[cpus] = on_cpus
        times.throttled_s[cpus] = 0.0
    return _scaled(times, table, device)


def _convolutions(
    table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting
) -> tuple[Array, ...]:
    law: Law = unfolded if setting.plain_convolution else convolutions
    return law(table, device, calibration, setting)


def _pairwise(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Force loops: arithmetic on the vector units, data read once."""
    _, memory = streaming(table, device, calibration, setting)
    peak = device.peak_flops_per_s[:, table.number_format, None]
    return compute_s(table.flops[None], peak * device.vector_frac), memory


#: Law of every kind that does more than stream.
_LAWS: tuple[tuple[tuple[Kind, ...], Law], ...] = (
    ((Kind.GEMM, Kind.RNN), products),
    ((Kind.CONV,), _convolutions),
    ((Kind.ATTENTION,), attention),
    ((Kind.PAIRWISE,), _pairwise),
)


def _finish(
    table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting, laws: tuple[Array, Array, Array]
) -> OpTimes:
    """Blend the two times, hold the power limit, add the launch gap.

    Operators without arithmetic take their memory time; only the others need the rest.
    """
    compute, memory, done_flops = laws
    launch, exponent = calibration.launch, calibration.gemm.norm_exponent
    moved = (table.read_bytes + table.write_bytes)[None]
    energy = device.memory_j_per_byte * moved
    total, throttled = memory.copy(), np.zeros_like(memory)
    heavy = np.flatnonzero(table.flops.any(axis=1))
    if heavy.size:
        unthrottled = blend(compute[:, heavy], memory[:, heavy], exponent)
        energy[:, heavy] += energy_per_flop_j(table, heavy, device, calibration) * done_flops[:, heavy]
        total[:, heavy] = limited_s(unthrottled, energy[:, heavy], device.tdp_w, calibration.power)
        if setting.operand_sets:
            total[:, heavy] = settled_s(unthrottled, total[:, heavy], calibration.power)
        compute[:, heavy] *= total[:, heavy] / np.maximum(unthrottled, 1e-300)
        throttled[:, heavy] = total[:, heavy] - unthrottled
    total += launch.kernel_s * table.launches[None, :, None]
    return OpTimes(total_s=total, compute_s=compute, memory_s=memory, energy_j=energy, throttled_s=throttled)


def _scaled(times: OpTimes, table: OpTable, device: DeviceColumns) -> OpTimes:
    """The times as measurements on these devices corrected them, still no quicker than their roofs."""
    if (device.time_scale == 1.0).all():
        return times
    peak = device.peak_flops_per_s[:, table.number_format, None]
    moved = (table.read_bytes + table.write_bytes)[None]
    uncached = np.where(moved > device.l2_bytes, moved, 0.0)
    roof = np.maximum(compute_s(table.flops[None], peak), memory_s(uncached, device.bytes_per_s))
    total = np.maximum(times.total_s * device.time_scale[:, table.kind], np.minimum(times.total_s, roof))
    scale = np.divide(total, times.total_s, out=np.ones_like(total), where=times.total_s > 0)
    return replace(times, total_s=total, compute_s=times.compute_s * scale, memory_s=times.memory_s * scale)


def binding_shares(table: OpTable, times: OpTimes) -> dict[str, Array]:
    """Seconds of a step that compute, memory and launches account for ``[devices, sizes]``."""
    weight = table.repeat[None, :, None]
    gap = times.total_s - np.maximum(times.compute_s, times.memory_s)
    gap = np.minimum(gap, table.launches[None, :, None] * 1e-5)
    rest = times.total_s - gap
    by_compute = times.compute_s >= times.memory_s
    return {
        "compute": (np.where(by_compute, rest, 0.0) * weight).sum(axis=1),
        "memory": (np.where(by_compute, 0.0, rest) * weight).sum(axis=1),
        "launch": (gap * weight).sum(axis=1),
    }
