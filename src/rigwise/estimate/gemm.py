"""Matrix products: tiles over multiprocessors, in waves, with the inner dimension cut if that pays.

A kernel cuts the result into tiles, one thread block each. Blocks run in waves of as many as
there are multiprocessors; the last wave is paid although it is only partly filled. A product
with few tiles but a long inner dimension is cut along that too (split-K), at the price of
writing partial results.

Source: the recipe and its constants were fitted on NeuSight operator times; split-K and wave
quantisation are described in NVIDIA's "Matrix Multiplication Background", 2023.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.setting import Setting
from rigwise.workload.table import FORMATS, Array, OpTable


def products(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Compute and memory time of every matrix product of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    del setting
    shape = (table.batch[None], table.m[None], table.n[None], table.k[None])
    moved = (table.read_bytes + table.write_bytes)[None]
    bytes_per_s = device.bytes_per_s * device.memory_frac
    rates = (sustained_flops_per_s(table, device, calibration), bytes_per_s, device.units)
    return product_s(shape, moved, rates, calibration.gemm)


def sustained_flops_per_s(table: OpTable, device: DeviceColumns, calibration: Calibration) -> Array:
    """What a large product reaches in each operator's format at full clock ``[devices, operators, 1]``."""
    peak = device.peak_flops_per_s[:, table.number_format, None]
    is_matrix = device.is_matrix[:, table.number_format, None]
    of_format = np.array([calibration.gemm.matrix_frac_of_format.get(f, 1.0) for f in FORMATS])[table.number_format]
    frac = np.where(is_matrix, device.matrix_frac * of_format[None, :, None], device.vector_frac)
    return np.asarray(peak * frac)


def tile_sizes(m: Any, n: Any, tile: float) -> tuple[Any, Any]:
    """Rows and columns of a tile: the usual square one, narrower for a thin product.

    >>> [float(side) for side in tile_sizes(1.0, 4096.0, 128)]
    [16.0, 128.0]
    """

    def side(length: Any) -> Any:
        return np.clip(2.0 ** np.ceil(np.log2(np.maximum(length, 1.0))), 16.0, tile)

    return side(m), side(n)


def wave_cost(blocks: Any, units: Any, wave_frac: float) -> Any:
    """Waves of thread blocks that are paid for.

    A wave that is not full costs ``wave_frac`` of its missing part; less than one wave is one.

    Source: fitted form of the recipe.

    >>> float(wave_cost(132.0, 132.0, 0.5)), float(wave_cost(198.0, 132.0, 0.5))
    (1.0, 1.75)
    """
    waves = blocks / units
    return np.maximum(1.0, waves + wave_frac * (np.ceil(waves) - waves))


def blend(compute_s: Any, memory_s: Any, exponent: float) -> Any:
    """Compute and memory time overlap, but not perfectly: a p-norm of the two.

    Never below the larger. Source: fitted form of the recipe.

    >>> float(blend(3.0, 4.0, 2.0))
    5.0
    """
    larger = np.maximum(compute_s, memory_s)
    ratio = np.minimum(compute_s, memory_s) / np.maximum(larger, 1e-300)
    return larger * (1.0 + ratio**exponent) ** (1.0 / exponent)


def product_s(
    shape: tuple[Any, Any, Any, Any], moved_bytes: Any, rates: tuple[Any, Any, Any], constants: Constants
) -> tuple[Any, Any]:
    """Compute and memory time of ``batch`` products ``[m, k] x [k, n]``, for the best split of k.

    Args:
        shape: batch, m, n, k.
        moved_bytes: Operands and result, once each.
        rates: Sustained FLOP/s and bytes/s of the device, and its multiprocessors.
        constants: The ``[gemm]`` table.

    Returns:
        The two times of the split for which the sum of their squares is least: it orders splits
        as the blend does, without its powers.

    Source: the recipe; see the module.
    """
    batch, m, n, k = shape
    flops_per_s, bytes_per_s, units = rates
    rows, cols = tile_sizes(m, n, constants.tile)
    tiles = batch * np.ceil(m / rows) * np.ceil(n / cols)
    score = compute = memory = None
    for split in constants.splits:
        inner = np.ceil(k / split)
        waves = wave_cost(tiles * split, units, constants.wave_frac)
        partials = 8.0 * split * batch * m * n if split > 1 else 0.0
        this_compute = waves * (2.0 * rows * cols * units / flops_per_s) * inner
        this_memory = (moved_bytes + partials) / bytes_per_s
        this_score = this_compute * this_compute + this_memory * this_memory
        if score is None:
            score, compute, memory = this_score, this_compute, this_memory
            continue
        better = this_score < score
        score = np.where(better, this_score, score)
        compute, memory = np.where(better, this_compute, compute), np.where(better, this_memory, memory)
    return compute, memory
