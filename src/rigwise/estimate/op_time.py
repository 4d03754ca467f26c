"""Time of every operator on every device: each kind by its own law, in one call.

Shapes: devices by operators by sizes. Every time is at least both roofs, because every
efficiency is at most 1 and every law starts from the roofs.

Source: Williams, Waterman & Patterson, "Roofline", CACM 52(4), 2009; what a kind adds to it is
said where its law stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.attention import attention
from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.conv import convolutions
from rigwise.estimate.gemm import blend, products
from rigwise.estimate.power import clock_frac
from rigwise.estimate.reuse import memory_share
from rigwise.estimate.roofline import compute_s
from rigwise.estimate.setting import Setting
from rigwise.estimate.streaming import streaming
from rigwise.graph.op import Kind
from rigwise.workload.table import FORMATS, Array, OpTable


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTimes:
    """Times of one run of each operator ``[devices, operators, sizes]``.

    Attributes:
        total_s: The kernel, with its launch gap.
        compute_s, memory_s: What arithmetic and traffic alone would take at sustained rates.
        energy_j: Dynamic energy: operations and bytes.
    """

    total_s: Array
    compute_s: Array
    memory_s: Array
    energy_j: Array


def op_times(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> OpTimes:
    """Time every operator of ``table`` on every device, nan where a device lacks the format."""
    compute, memory = streaming(table, device, calibration, setting)
    for kinds, law in _LAWS:
        rows = table.of_kind(*kinds)
        if rows.any():
            compute[:, rows], memory[:, rows] = law(table.take(rows), device, calibration, setting)
    memory *= memory_share(table, device, calibration.memory)
    return _finish(table, device, calibration, compute, memory)


def _pairwise(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Force loops: arithmetic on the vector units, data read once."""
    _, memory = streaming(table, device, calibration, setting)
    peak = device.peak_flops_per_s[:, table.number_format, None]
    return compute_s(table.flops[None], peak * device.vector_frac), memory


#: Law of every kind that does more than stream.
_LAWS = (
    ((Kind.GEMM, Kind.RNN), products),
    ((Kind.CONV,), convolutions),
    ((Kind.ATTENTION,), attention),
    ((Kind.PAIRWISE,), _pairwise),
)


def _finish(table: OpTable, device: DeviceColumns, calibration: Calibration, compute: Array, memory: Array) -> OpTimes:
    """Throttle the clock to the power limit, blend the two times, add the launch gap.

    Operators without arithmetic take their memory time; only the others need the rest.
    """
    launch, exponent = calibration.launch, calibration.gemm.norm_exponent
    moved = (table.read_bytes + table.write_bytes)[None]
    energy = device.memory_j_per_byte * moved
    total = memory.copy()
    heavy = np.flatnonzero(table.flops.any(axis=1))
    if heavy.size:
        flops, streamed = table.flops[None, heavy], memory[:, heavy]
        unthrottled = blend(compute[:, heavy], streamed, exponent)
        j_per_flop = _energy_per_flop(table, heavy, device, calibration)
        board = (device.tdp_w, j_per_flop, device.memory_j_per_byte)
        clock = clock_frac(flops, moved[:, heavy], unthrottled, board, calibration.power)
        compute[:, heavy] /= clock
        total[:, heavy] = blend(compute[:, heavy], streamed, exponent)
        energy[:, heavy] += j_per_flop * flops
    total += np.where(device.is_cpu, launch.cpu_kernel_s, launch.kernel_s) * table.launches[None, :, None]
    return OpTimes(total_s=total, compute_s=compute, memory_s=memory, energy_j=energy)


#: Energy of a matrix operation against one with 16-bit inputs.
_ENERGY_OF_FORMAT = {"fp8": 0.5, "int8": 0.5, "int4": 0.25, "tf32": 2.0, "fp64": 8.0, "fp32": 4.0}


def _energy_per_flop(table: OpTable, rows: NDArray[np.int64], device: DeviceColumns, calibration: Calibration) -> Array:
    scale = np.array([_ENERGY_OF_FORMAT.get(f, 1.0) for f in FORMATS])[table.number_format[rows]][None, :, None]
    is_matrix = device.is_matrix[:, table.number_format[rows], None]
    matrix_j = calibration.power.matrix_j_per_flop * scale
    return np.asarray(np.where(is_matrix, matrix_j, calibration.power.vector_j_per_flop) * device.node_scale)


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
