"""Convolutions as implicit matrix products, with what cuDNN does beside them.

    matrix units    a product in NHWC; in NCHW input and output are also rewritten around it
    vector units    a product, in whole tiles and waves until Pascal; for a 3x3 kernel of stride 1 the quickest of it
                    and of Winograd's transforms, whose small output tile lives in one kernel and whose large one
                    needs kernels before and after
    groups          products so thin that they waste most of a tile, unless a kernel packs several groups into one
    depthwise       no product at all: arithmetic on vector units, and traffic

Generations of cuDNN differ: between versions 4 and 5.1 (2016) Winograd's transforms appear in the measurements,
between 8.9 and 9.1 (2024) quick kernels for wide groups in NHWC.

Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014, section 3; Lavin & Gray, "Fast
Algorithms for Convolutional Neural Networks", 2016, sections 4 and 5; years: the tables named in the calibration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.gemm import Rates, blend, product_s, rates_of
from rigwise.estimate.setting import Setting
from rigwise.workload.table import FORMATS, GRADIENTS, Array, OpTable

_DGRAD, _WGRAD = GRADIENTS.index("dgrad"), GRADIENTS.index("wgrad")
#: Sides of the output tiles of Winograd's transform of a 3x3 kernel.
_FUSED_TILE, _STAGED_TILE = 2, 4
#: Elements of a kernel up to which libraries have a depthwise kernel of its own.
_LARGEST_OWN_WINDOW = 25

Times = tuple[Array, Array]


def convolutions(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> Times:
    """Compute and memory time of every convolution of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    constants = calibration.conv
    rates = rates_of(table, device, calibration, setting)
    is_early = device.walks_slowly & ~device.is_matrix[:, table.number_format, None]
    waves = np.where(is_early, constants.early["wave_frac"], rates.wave_frac)
    rates = replace(rates, bytes_per_s=device.bytes_per_s * device.memory_frac, wave_frac=waves)
    layout = _of_layout(constants, setting)
    narrow = _narrower_side(table)
    times = _implicit(table, device, rates, (layout, narrow), calibration)
    if setting.year is None or setting.year >= constants.winograd_year:
        _transform(table, device, rates, times, calibration)
    return _depthwise(table, device, layout, narrow, times)


def _of_layout(constants: Constants, setting: Setting) -> Mapping[str, Any]:
    """The constants of a memory layout, at the time of the software."""
    layout: Mapping[str, Any] = constants.nhwc if setting.layout == "nhwc" else constants.nchw
    if setting.year is not None and setting.year < constants.packed_year:
        return {**layout, **layout.get("before", {})}
    return layout


def _by_gradient(table: OpTable, constants: Any) -> Array:
    """A constant of each direction of a convolution, for each operator ``[1, operators, 1]``."""
    return np.asarray(constants, dtype=np.float64)[table.gradient][None, :, None]


def _narrower_side(table: OpTable) -> Array:
    """Channels of one group on its narrower side, infinite without groups ``[1, operators, sizes]``."""
    gradient, window = table.gradient[:, None], table.window[:, None]
    inputs = np.select([gradient == _WGRAD, gradient == _DGRAD], [table.n / window, table.n], table.k / window)
    outputs = np.select(
        [gradient == _WGRAD, gradient == _DGRAD], [table.m, table.k * table.stride[:, None] / window], table.n
    )
    narrow = np.maximum(1.0, np.rint(np.minimum(inputs, outputs)))
    return np.where(table.batch > 1, narrow, np.inf)[None]


def _implicit(
    table: OpTable,
    device: DeviceColumns,
    rates: Rates,
    traits: tuple[Mapping[str, Any], Array],
    calibration: Calibration,
) -> Times:
    """Implicit products, each group one of them.

    Until Pascal, kernels for vector units came in one size of tile and did not cut the sum, except that over pixels.
    """
    constants, (layout, narrow) = calibration.conv, traits
    is_matrix = device.is_matrix[:, table.number_format, None]
    early, later = (_by_gradient(table, fracs) for fracs in (constants.early["direct_frac"], constants.direct_frac))
    on_vectors = np.where(device.walks_slowly, early, later)
    dense = np.where(is_matrix, _by_gradient(table, layout["matrix_frac"]), on_vectors)
    is_packed = (narrow <= layout["packed_most"]) & (np.exp2(np.rint(np.log2(narrow))) == narrow)
    in_matrix = _by_gradient(table, layout["group_frac"]) / (1.0 + layout["group_width"] / narrow)
    in_vector = 1.0 / (1.0 + constants.group_width / narrow)
    grouped = np.where(is_matrix, np.where(is_packed, 1.0, in_matrix), in_vector)
    grouped = np.where(np.isfinite(narrow), grouped, 1.0)
    moved = (table.read_bytes + table.write_bytes)[None]
    rewritten = layout["transform_passes"] * is_matrix * (moved - table.weight_bytes[None])
    shape = (table.batch[None], table.m[None], table.n[None], table.k[None])
    rates = replace(rates, flops_per_s=rates.flops_per_s * dense * grouped)
    times = product_s(shape, moved + rewritten, rates, calibration.gemm)
    whole = device.walks_slowly & ~is_matrix & (table.gradient != _WGRAD)[None, :, None]
    if not whole.any():
        return times
    tiling = Constants("[conv]", {**calibration.gemm.values, "tiles": constants.early["tiles"], "splits": [1]})
    unsplit = product_s(shape, moved, rates, tiling)
    return np.where(whole, unsplit[0], times[0]), np.where(whole, unsplit[1], times[1])


def _transform(table: OpTable, device: DeviceColumns, rates: Rates, times: Times, calibration: Calibration) -> None:
    """Winograd's transforms in the place of products on vector units, where they are quicker."""
    on_vectors = ~device.is_matrix[:, table.number_format]
    rows = (table.window == 9) & (table.stride == 1) & (table.dilation == 1) & (table.batch == 1).all(axis=1)
    rows &= on_vectors.any(axis=0)
    if not rows.any():
        return
    part, exponent = table.take(rows), calibration.gemm.norm_exponent
    rates = replace(rates, **{name: _of_rows(getattr(rates, name), rows) for name in Rates.__dataclass_fields__})
    best = times[0][:, rows], times[1][:, rows]
    for candidate in (_fused(part, rates, calibration), _staged(part, rates, calibration)):
        better = on_vectors[:, rows, None] & (blend(*candidate, exponent) < blend(*best, exponent))
        best = np.where(better, candidate[0], best[0]), np.where(better, candidate[1], best[1])
    times[0][:, rows], times[1][:, rows] = best


def _of_rows(rate: Any, rows: NDArray[np.bool_]) -> Any:
    """The part of a rate that belongs to some operators; a rate of devices alone is kept."""
    return rate[:, rows] if np.ndim(rate) == 3 and np.shape(rate)[1] == len(rows) else rate


def _fused(table: OpTable, rates: Rates, calibration: Calibration) -> Times:
    """A small tile, transformed inside the kernel that multiplies."""
    shape, _ = _winograd_products(table, _FUSED_TILE)
    rates = replace(rates, flops_per_s=rates.flops_per_s * _by_gradient(table, calibration.conv.fused_frac))
    return product_s(shape, (table.read_bytes + table.write_bytes)[None], rates, calibration.gemm)


def _staged(table: OpTable, rates: Rates, calibration: Calibration) -> Times:
    """A large tile: transforms of both operands and of the result are kernels of their own, one after the other."""
    shape, elements = _winograd_products(table, _STAGED_TILE)
    rates = replace(rates, flops_per_s=rates.flops_per_s * _by_gradient(table, calibration.conv.staged_frac))
    compute, memory = product_s(shape, (table.read_bytes + table.write_bytes)[None], rates, calibration.gemm)
    transformed = calibration.conv.staged_passes * elements * rates.width_bytes
    return compute + transformed / rates.bytes_per_s, memory


def _winograd_products(table: OpTable, tile: int) -> tuple[tuple[Array, Array, Array, Array], Array]:
    """Products of the transformed images, one for each point of a tile; elements of all their operands and results.

    A tile of ``t`` by ``t`` pixels needs ``(t + 2)^2`` products in the place of ``9 t^2``; tiles at the border are
    paid in full.

    Source: Lavin & Gray, section 4.1.
    """
    points, side = float((tile + 2) ** 2), np.sqrt(table.pixels)
    tiles_per_pixel = (np.ceil(side / tile) / side) ** 2
    is_wgrad = (table.gradient == _WGRAD)[:, None]
    m = np.where(is_wgrad, table.m, table.m * tiles_per_pixel)
    n = np.where(is_wgrad, table.n / 9.0, table.n)
    k = np.where(is_wgrad, table.k * tiles_per_pixel, table.k / 9.0)
    elements = points * (m * k + n * k + m * n)
    return (np.full_like(m, points)[None], m[None], n[None], k[None]), elements[None]


def _depthwise(table: OpTable, device: DeviceColumns, layout: Mapping[str, Any], narrow: Array, times: Times) -> Times:
    """One channel in a group: every element is loaded once and multiplied on vector units."""
    rows = narrow <= 1.0
    if not rows.any():
        return times
    vector = device.peak_flops_per_s[:, FORMATS.index("fp32"), None, None]
    vector = np.where(np.isnan(vector), device.peak_flops_per_s[:, table.number_format, None], vector)
    small, large = (_by_gradient(table, layout[name]) for name in ("depthwise_vector_frac", "large_vector_frac"))
    frac = np.where((table.window > _LARGEST_OWN_WINDOW)[None, :, None], large, small)
    bytes_per_s = device.bytes_per_s * device.memory_frac * _by_gradient(table, layout["depthwise_frac"])
    memory = (table.read_bytes + table.write_bytes)[None] / bytes_per_s
    return np.where(rows, table.flops[None] / (vector * frac), times[0]), np.where(rows, memory, times[1])
