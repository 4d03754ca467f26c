"""Dense convolutions on vector units: three kinds of kernels, the quickest of which is taken.

    direct    a product that is never written out, in whole tiles of 128 pixels (32 in fp64) by 32, 64 or 128 filters;
              the gradient of a weight sums over pixels, and that sum is cut among thread blocks
    fused     Winograd's transform of a 3x3 kernel of stride 1, with output tiles of 2x2, inside the kernel that
              multiplies; a thread block owns 8x16 pixels of one image and 32 filters, and pays for all of them
    staged    the same with output tiles of 4x4, for 3x3 and since 2018 5x5: transforms before and after are
              kernels of their own

The gradient of a strided convolution's input is found class by class of pixels, each of as many taps as the largest
class has: of a 1x1 kernel of stride 2 three classes of four are multiplied for nothing.

Source: Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, sections 4 and 5; tiles: the names of
the kernels in NeuSight's table of convolutions (MIT), whose times fit best with these patches; constants: see the
calibration file.
"""

from __future__ import annotations

from dataclasses import replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.gemm import Rates, blend, product_s, wave_cost
from rigwise.workload.table import FORMATS, GRADIENTS, Array, OpTable

_DGRAD, _WGRAD = GRADIENTS.index("dgrad"), GRADIENTS.index("wgrad")
#: Pixels of one thread block of a direct kernel, and of one in fp64.
_ROWS, _DOUBLE_ROWS = 128.0, 32.0
#: Sides of the output tiles of Winograd's transforms.
_FUSED_TILE, _STAGED_TILE = 2.0, 4.0
#: Pixels along a side of a patch, patches and filters of one thread block of the fused kernel.
_PATCH, _PATCHES, _FILTERS = 8.0, 2.0, 32.0

#: Compute and memory time, and operations done, of which a transform leaves out many.
Kernel = tuple[Array, Array, Array]


def direct(table: OpTable, rates: Rates, grouped: Array, calibration: Calibration) -> Kernel:
    """Implicit products in whole tiles and nearly whole waves.

    Args:
        table: Convolutions.
        rates: Of the devices, for dense convolutions.
        grouped: What of their speed is left in groups ``[1, operators, sizes]``.
        calibration: Constants.

    Source: see the module.
    """
    vector, names = calibration.conv.vector, ("double_frac", "direct_frac")
    fracs = np.where(is_double(table), *(np.asarray(vector[name], dtype=np.float64)[table.gradient] for name in names))
    fracs = fracs[None, :, None]
    rates = replace(rates, flops_per_s=rates.flops_per_s * fracs * grouped, wave_frac=vector["wave_frac"])
    first, *others = (_direct_of_width(table, rates, width, calibration) for width in vector["widths"])
    compute, memory = reduce(lambda best, one: quicker(one, best, calibration), others, first)
    is_wgrad = (table.gradient == _WGRAD)[None, :, None]
    if is_wgrad.any():
        cut = _cut_over_pixels(table, rates, calibration)
        compute, memory = np.where(is_wgrad, cut[0], compute), np.where(is_wgrad, cut[1], memory)
    return compute, memory, np.broadcast_to(table.flops[None], compute.shape).copy()


def _direct_of_width(table: OpTable, rates: Rates, width: float, calibration: Calibration) -> tuple[Array, ...]:
    vector = calibration.conv.vector
    edge, edge_of_square = 1.0 / _ROWS + 1.0 / width, 2.0 / _ROWS
    tile_edge = np.where(is_double(table), 0.0, vector["tile_edge"])[None, :, None]  # loads keep up with slow units
    narrowness = (1.0 + tile_edge * edge) / (1.0 + tile_edge * edge_of_square)
    rows = np.where(is_double(table), _DOUBLE_ROWS, _ROWS)[:, None]
    step_s = 2.0 * rows * width * narrowness * rates.units / rates.flops_per_s
    blocks = (table.batch * np.ceil(table.m / rows) * np.ceil(table.n / width))[None]
    steps = (table.k * _wasted_taps(table, vector["taps_exponent"]))[None] + vector["ramp_steps"]
    return wave_cost(blocks, rates.units, rates.wave_frac) * step_s * steps, _moved_s(table, rates)


def _wasted_taps(table: OpTable, exponent: float) -> Array:
    """Taps of the largest class of pixels against the mean, of the gradient of the input ``[operators, 1]``."""
    side, stride = np.sqrt(table.window), np.sqrt(table.stride)
    taps = (np.ceil(side / stride) * stride / side) ** exponent
    return np.where(table.gradient == _DGRAD, taps, 1.0)[:, None]


def _cut_over_pixels(table: OpTable, rates: Rates, calibration: Calibration) -> tuple[Array, Array]:
    """The gradient of a weight: few tiles, a long sum."""
    vector = calibration.conv.vector
    kernels = {**calibration.gemm.values, "ramp_steps": vector["wgrad_ramp_steps"], "splits": vector["wgrad_splits"]}
    shape = table.batch[None], table.m[None], table.n[None], table.k[None]
    moved = (table.read_bytes + table.write_bytes)[None]
    rates = replace(rates, wave_frac=vector["wgrad_wave_frac"])
    return product_s(shape, moved, rates, Constants("[conv.vector]", kernels))


def fused(table: OpTable, rates: Rates, calibration: Calibration) -> Kernel:
    """A small tile, transformed inside the kernel that multiplies.

    Source: see the module.
    """
    vector = calibration.conv.vector
    patches = np.ceil(np.sqrt(table.pixels) / _PATCH) ** 2
    blocks = np.ceil(patches / _PATCHES) * table.m / table.pixels * np.ceil(table.n / _FILTERS)
    products_per_pixel = ((_FUSED_TILE + 2.0) / _FUSED_TILE) ** 2
    flops_of_step = 2.0 * products_per_pixel * _PATCHES * _PATCH**2 * _FILTERS
    channels = table.k / table.window[:, None]
    step_s = flops_of_step * rates.units / (rates.flops_per_s * vector["fused_frac"])
    waves = wave_cost(blocks[None], rates.units, vector["wave_frac"])
    compute = waves * step_s * (channels + vector["fused_ramp_steps"])[None]
    return compute, _moved_s(table, rates), np.broadcast_to(flops_of_step * blocks * channels, compute.shape)


def staged(table: OpTable, rates: Rates, calibration: Calibration) -> Kernel:
    """A large tile: transforms of both operands and of the result are kernels of their own, one after the other.

    Source: see the module.
    """
    vector = calibration.conv.vector
    points, m, n, k = _transformed_products(table, _STAGED_TILE)
    rates = replace(rates, flops_per_s=rates.flops_per_s * vector["staged_frac"])
    moved = (table.read_bytes + table.write_bytes)[None]
    compute, memory = product_s((points[None], m[None], n[None], k[None]), moved, rates, calibration.gemm)
    transformed_bytes = vector["staged_passes"] * points * (m * k + n * k + m * n) * rates.width_bytes
    compute = compute + transformed_bytes / rates.bytes_per_s
    return compute, memory, np.broadcast_to(2.0 * points * m * n * k, compute.shape)


def _transformed_products(table: OpTable, tile: float) -> tuple[Array, Array, Array, Array]:
    """Products of the transformed images, one for each point of a tile ``[operators, sizes]``.

    A tile of ``t`` by ``t`` pixels under a kernel of ``r`` by ``r`` needs ``(t + r - 1)^2`` products in the place of
    ``r^2 t^2``; tiles at the border are paid in full.

    Source: Lavin & Gray, section 4.1.
    """
    window, side = table.window[:, None], np.sqrt(table.pixels)
    tiles_per_pixel = (np.ceil(side / tile) / side) ** 2
    is_wgrad = (table.gradient == _WGRAD)[:, None]
    m = np.where(is_wgrad, table.m, table.m * tiles_per_pixel)
    n = np.where(is_wgrad, table.n / window, table.n)
    k = np.where(is_wgrad, table.k * tiles_per_pixel, table.k / window)
    return (tile + np.sqrt(window) - 1.0) ** 2 * np.ones_like(m), m, n, k


def transformed(table: OpTable, calibration: Calibration, year: float | None) -> NDArray[np.bool_]:
    """Which convolutions Winograd's transforms fit: dense, of stride 1, 3x3 and later 5x5 ``[operators]``."""
    begins = (calibration.conv.winograd_year, calibration.conv.wide_winograd_year)
    windows = [window for window, begin in zip((9.0, 25.0), begins, strict=True) if year is None or year >= begin]
    simple = (table.stride == 1) & (table.dilation == 1) & (table.batch == 1).all(axis=1)
    return np.asarray(simple & ~is_double(table) & np.isin(table.window, windows))


def is_double(table: OpTable) -> NDArray[np.bool_]:
    """Which convolutions compute in fp64 ``[operators]``: no transform does.

    Source: https://docs.nvidia.com/deeplearning/cudnn/latest/api/cudnn-cnn-library.html, ``cudnnConvolutionForward``.
    """
    return np.asarray(table.number_format == FORMATS.index("fp64"))


def fusible(table: OpTable) -> NDArray[np.bool_]:
    """Of those that transforms fit, which have a kernel that transforms and multiplies at once ``[operators]``."""
    return np.asarray((table.window == 9) & (table.gradient != _WGRAD))


def quicker(kernel: tuple[Array, ...], best: tuple[Array, ...], calibration: Calibration) -> tuple[Array, ...]:
    """Of two kernels the one that takes less time, place by place."""
    exponent = calibration.gemm.norm_exponent
    better = blend(kernel[0], kernel[1], exponent) < blend(best[0], best[1], exponent)
    return tuple(np.where(better, new, old) for new, old in zip(kernel, best, strict=True))


def _moved_s(table: OpTable, rates: Rates) -> Array:
    moved = (table.read_bytes + table.write_bytes)[None]
    return np.asarray(moved / rates.bytes_per_s + rates.start_s)
