"""Time of every operator on every device: each kind by its own law, in one call.

Shapes: devices by operators by sizes. Every time is at least both roofs, because every
efficiency is at most 1 and every law starts from the roofs.

Source: Williams, Waterman & Patterson, "Roofline", CACM 52(4), 2009; what a kind adds to it is
said where its law stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.gemm import blend, product_s
from rigwise.estimate.power import clock_frac
from rigwise.estimate.roofline import compute_s, memory_s
from rigwise.graph.op import Kind, Phase
from rigwise.workload.table import FORMATS, KINDS, Array, OpTable


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


def op_times(table: OpTable, device: DeviceColumns, calibration: Calibration, layout: str = "nchw") -> OpTimes:
    """Time every operator of ``table`` on every device, nan where a device lacks the format."""
    moved = (table.read_bytes + table.write_bytes)[None]
    bytes_per_s = device.bytes_per_s * device.memory_frac
    memory = memory_s(moved * _passes(table, calibration)[None, :, None], bytes_per_s)
    fits = moved < calibration.memory.cache_fill_frac * device.l2_bytes
    memory = memory / np.where(fits, np.minimum(calibration.memory.cache_gain, 1.0 / device.memory_frac), 1.0)
    compute = np.zeros_like(memory)
    for rows, law in ((_gemm_rows(table), _products), (table.of_kind(Kind.ATTENTION), _attention)):
        if rows.any():
            compute[:, rows], memory[:, rows] = law(table, rows, device, calibration, layout)
    rows = table.of_kind(Kind.PAIRWISE)
    if rows.any():
        compute[:, rows] = compute_s(table.flops[None, rows], _peaks(table, rows, device) * device.vector_frac)
    return _finish(table, device, calibration, compute, memory)


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


def _passes(table: OpTable, calibration: Calibration) -> Array:
    """Arrays that real kernels of each kind move for each array counted."""
    passes = calibration.memory.passes_of_kind
    backward = table.of_phase(Phase.BACKWARD)
    factors = np.array([passes.get(str(k), 1.0) for k in KINDS])[table.kind]
    in_backward = np.array([passes.get(f"{k}_backward", passes.get(str(k), 1.0)) for k in KINDS])[table.kind]
    return np.where(backward, in_backward, factors)


def _gemm_rows(table: OpTable) -> NDArray[np.bool_]:
    return table.of_kind(Kind.GEMM, Kind.CONV, Kind.RNN)


def _peaks(table: OpTable, rows: NDArray[np.bool_], device: DeviceColumns) -> Array:
    """Peak of each operator's number format ``[devices, rows, 1]``."""
    return np.asarray(device.peak_flops_per_s[:, table.number_format[rows], None])


def _matrix(table: OpTable, rows: NDArray[np.bool_], device: DeviceColumns) -> NDArray[np.bool_]:
    return np.asarray(device.is_matrix[:, table.number_format[rows], None])


#: Energy of a matrix operation against one with 16-bit inputs.
_ENERGY_OF_FORMAT = {"fp8": 0.5, "int8": 0.5, "int4": 0.25, "tf32": 2.0, "fp64": 8.0, "fp32": 4.0}


def _energy_per_flop(table: OpTable, rows: NDArray[np.int64], device: DeviceColumns, calibration: Calibration) -> Array:
    scale = np.array([_ENERGY_OF_FORMAT.get(f, 1.0) for f in FORMATS])[table.number_format[rows]][None, :, None]
    is_matrix = device.is_matrix[:, table.number_format[rows], None]
    matrix_j = calibration.power.matrix_j_per_flop * scale
    return np.asarray(np.where(is_matrix, matrix_j, calibration.power.vector_j_per_flop) * device.node_scale)


def _products(
    table: OpTable, rows: NDArray[np.bool_], device: DeviceColumns, calibration: Calibration, layout: str
) -> tuple[Any, Any]:
    """Gemm and convolution as implicit gemm; thin groups of a convolution only stream."""
    gemm, conv = calibration.gemm, calibration.conv
    peak, is_matrix = _peaks(table, rows, device), _matrix(table, rows, device)
    of_format = np.array([gemm.matrix_frac_of_format.get(f, 1.0) for f in FORMATS])[table.number_format[rows]]
    frac = np.where(is_matrix, device.matrix_frac * of_format[None, :, None], device.vector_frac)
    is_conv = table.of_kind(Kind.CONV)[rows][None, :, None]
    frac = frac * np.where(is_conv, device.conv_frac * (conv.nhwc_frac if layout == "nhwc" else conv.nchw_frac), 1.0)
    transforms = ~is_matrix & ~device.is_cpu & _winograd(table, rows)[None, :, None]
    gain = np.where(transforms, conv.winograd_gain, 1.0)
    moved = (table.read_bytes + table.write_bytes)[rows][None]
    extra = conv.nchw_extra_passes if layout == "nchw" else 0.0
    moved = moved * (1.0 + extra * (is_conv & is_matrix))
    bytes_per_s = device.bytes_per_s * device.memory_frac
    shape = tuple(column[rows][None] for column in (table.batch, table.m, table.n, table.k))
    compute, memory = product_s(shape, moved, (peak * frac * gain, bytes_per_s, device.units), gemm)  # type: ignore[arg-type]
    thin = is_conv & (np.minimum(shape[2], shape[3]) < 16) & (shape[0] > 1)
    streamed = memory_s(moved, device.bytes_per_s * conv.depthwise_frac)
    vector_peak = device.peak_flops_per_s[:, FORMATS.index("fp32"), None, None]
    vector_peak = np.where(np.isnan(vector_peak), peak, vector_peak)
    return np.where(thin, table.flops[rows][None] / vector_peak, compute), np.where(thin, streamed, memory)


def _winograd(table: OpTable, rows: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """3x3 convolutions of stride 1 with enough channels, which libraries transform."""

    def suits(index: int) -> bool:
        op = table.ops[index]
        stride = op.attrs.get("stride", (0,))
        weight = next((t for t in (*op.inputs, *op.outputs) if tuple(t.shape[2:]) == (3, 3)), None)
        return op.kind is Kind.CONV and stride == (1, 1) and weight is not None and op.attrs.get("groups", 1) == 1

    return np.array([suits(int(i)) for i in np.flatnonzero(rows)])


def _attention(
    table: OpTable, rows: NDArray[np.bool_], device: DeviceColumns, calibration: Calibration, layout: str
) -> tuple[Any, Any]:
    """Whole attention: tiles of 128 queries over the multiprocessors; decode only reads the cache."""
    del layout
    constants = calibration.attention
    peak, is_matrix = _peaks(table, rows, device), _matrix(table, rows, device)
    frac = np.where(is_matrix, constants.flash_frac, constants.vector_frac)
    blocks = table.batch[rows][None] * np.ceil(table.m[rows][None] / 128.0)
    waves = np.maximum(blocks / device.units, 1e-9)
    filled = np.maximum(waves, np.ceil(waves) * 0.5 + waves * 0.5) / waves
    decoding = table.m[rows][None] < 16
    filled = np.where(decoding, 1.0, filled)
    compute = compute_s(table.flops[rows][None], peak * frac) * filled
    moved = (table.read_bytes + table.write_bytes)[rows][None]
    return compute, memory_s(moved, device.bytes_per_s * np.minimum(device.memory_frac, constants.decode_frac))


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
