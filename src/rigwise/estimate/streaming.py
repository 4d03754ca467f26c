"""Operators that only move data: elementwise, normalisation, softmax, reductions, copies, look-ups.

Each moves its operands over the memory bus as often as its kernels pass over them: a batch normalisation in
training reads its input once for the mean and once more to normalise it. Older software had slower kernels.

A kernel that needs a whole row before it can write any of it, as layer normalisation and softmax do, reads the row
again; that costs nothing while the rows at work in all multiprocessors fit the last-level cache.

Source: passes counted on operator traces of PyTorch and fitted on step times (see the calibration file).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.roofline import memory_s
from rigwise.estimate.setting import Setting
from rigwise.graph.op import Kind, Op, Phase, SameOps
from rigwise.workload.table import KINDS, Array, OpTable

#: Kinds whose kernels a compiler writes; copies that transpose it does no better than a library.
_WRITTEN = frozenset({Kind.ELEMENTWISE, Kind.NORM, Kind.POOL, Kind.REDUCE, Kind.SOFTMAX})


def streaming(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Compute (none) and memory time of every operator of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    constants = calibration.memory
    moved = (table.read_bytes + table.write_bytes)[None]
    passes = _passes(SameOps(table.ops), calibration, setting.layout, setting.mode)
    passed = moved * passes[None, :, None] + _read_again_bytes(table, device, constants)
    memory = memory_s(passed, device.bytes_per_s * device.memory_frac)
    age = max(0.0, calibration.launch.reference_year - (setting.year or calibration.launch.reference_year))
    memory *= (1.0 + constants.slower_per_year) ** age
    if setting.layout == "nhwc" and (table.pixel_sums > 1.0).any():
        memory *= _slowed_by_pixel_sums(table, device, constants.pixel_sums)
    fits = moved < constants.cache_fill_frac * device.l2_bytes
    memory = memory / np.where(fits, np.minimum(constants.cache_gain, 1.0 / device.memory_frac), 1.0)
    return np.zeros_like(memory), memory


def _slowed_by_pixel_sums(table: OpTable, device: DeviceColumns, constants: Mapping[str, float]) -> Array:
    """What compiled kernels take longer that normalise images and sum over their pixels, as before a squeeze.

    Channels last a sum steps from pixel to pixel, and where there are too few sums for the device, few threads walk
    through large images.

    Source: fitted on compiled networks (see the calibration file); sums alone, and in NCHW, show nothing of it.
    """
    few = (table.pixel_sums > 1.0) & (table.pixel_sums < constants["sums_per_unit"] * device.units)
    return np.where(few, 1.0 + constants["slowdown_per_pixel"] * np.sqrt(table.pixels), 1.0)


@lru_cache(maxsize=64)
def _passes(held: SameOps, calibration: Calibration, layout: str, mode: str) -> Array:
    """Arrays that real kernels move for each array counted ``[operators]``."""
    known, names = calibration.memory.passes, _names(held, layout, mode)
    return np.array([next((known[name] for name in of_op if name in known), 1.0) for of_op in names])


@lru_cache(maxsize=64)
def _names(held: SameOps, layout: str, mode: str) -> tuple[tuple[str, ...], ...]:
    """``pass_names`` of every operator."""
    return tuple(pass_names(op, layout, mode) for op in held.ops)


def _read_again_bytes(table: OpTable, device: DeviceColumns, constants: Constants) -> Array | float:
    """What forward kernels over rows read again from memory ``[devices, operators, sizes]``; 0 where there are none.

    Source: PyTorch's kernels, which hold a short softmax row in one warp; constants fitted on operator times (see the
    calibration file).
    """
    known, forward = constants.read_again, table.of_phase(Phase.FORWARD)
    key = [names[0] if names[0] in known else "" for names in _names(SameOps(table.ops), "nchw", "eager")]
    rows = np.flatnonzero(np.array([name != "" for name in key], dtype=bool) & forward)
    if not rows.size:
        return 0.0
    again, at_work = (np.array([of[key[row]] for row in rows]) for of in (known, constants.rows_at_work))
    row_bytes = table.row_bytes[rows]
    at_work_bytes = device.units * at_work[:, None] * row_bytes
    crowding = at_work_bytes / np.maximum(device.l2_bytes, 1.0)
    is_held = (table.kind[rows, None] == KINDS.index(Kind.SOFTMAX)) & (row_bytes <= constants.warp_row_bytes)
    missed = np.where(is_held, 0.0, 1.0 - 1.0 / (1.0 + crowding**constants.row_exponent))
    found = np.zeros((len(device.devices), *table.read_bytes.shape))
    found[:, rows] = again[:, None] * missed * (table.read_bytes - table.weight_bytes)[rows]
    return found


def pass_names(op: Op, layout: str = "nchw", mode: str = "eager") -> tuple[str, ...]:
    """Keys under which passes of an operator may be listed, the closest first.

    A compiler writes the kernels of most operators itself, also of those that it fuses with nothing.
    Group normalisation has no kernel for channels last: it rewrites its input before and its result after.

    >>> from rigwise.graph.op import Kind, Tensor
    >>> x = Tensor((8, 64))
    >>> pass_names(Op(name="aten.gelu", kind=Kind.ELEMENTWISE, phase=Phase.FORWARD, inputs=(x,), outputs=(x,)))
    ('gelu', 'elementwise')
    """
    name = op.name.partition(".")[2].strip("_")
    if name == "fused" or (mode == "compiled" and (op.kind in _WRITTEN or name == "to_copy")):
        return (f"fused_{op.kind}", str(op.kind))
    if name == "native_batch_norm" and len(op.outputs) > 1 and op.outputs[1].saved:
        name = "batch_norm_training"
    if name == "native_group_norm" and layout == "nhwc" and len(op.inputs[0].shape) == 4:
        name = "native_group_norm_nhwc"
    if op.phase is Phase.BACKWARD:
        return (name, f"{op.kind}_backward", str(op.kind))
    return (name, str(op.kind))
