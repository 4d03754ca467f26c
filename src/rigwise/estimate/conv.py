"""Convolutions as implicit matrix products, with what cuDNN does beside them.

    matrix units    a product in NHWC; in NCHW input and output are also rewritten around it
    vector units    the quickest of several kernels, Winograd's transforms among them: see ``conv_vector``
    groups          products so thin that they waste most of a tile, unless a kernel packs several groups into one
    depthwise       no product at all: arithmetic on vector units, and traffic

Generations of cuDNN differ: between versions 4 and 5.1 (2016) Winograd's transforms appear in the measurements,
between 8.9 and 9.1 (2024) quick kernels for wide groups in NHWC.

Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014, section 3; years: the tables named in the
calibration file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.columns import DeviceColumns
from rigwise.estimate.conv_vector import Kernel, direct, fused, fusible, quicker, staged, transformed
from rigwise.estimate.gemm import Rates, product_s, rates_of
from rigwise.estimate.setting import Setting
from rigwise.workload.table import FORMATS, GRADIENTS, Array, OpTable

_DGRAD, _WGRAD = GRADIENTS.index("dgrad"), GRADIENTS.index("wgrad")
#: Elements of a kernel up to which libraries have a depthwise kernel of its own.
_LARGEST_OWN_WINDOW = 25
#: Elements of a kernel up to which the general one does well.
_LARGEST_WIDE_WINDOW = 49


def convolutions(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> Kernel:
    """Compute and memory time and operations of every convolution of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    constants = calibration.conv
    rates = rates_of(table, device, calibration, setting)
    rates = replace(rates, bytes_per_s=device.bytes_per_s * device.memory_frac)
    layout = _of_layout(constants, setting)
    narrow = _narrower_side(table)
    is_matrix = device.is_matrix[:, table.number_format]
    early = np.where(device.walks_slowly, constants.vector["early_frac"], 1.0)
    of_vectors = replace(rates, flops_per_s=rates.flops_per_s * early)
    if is_matrix.all():
        found = _on_matrix_units(table, rates, (layout, narrow), calibration)
    elif not is_matrix.any():
        found = _on_vectors(table, of_vectors, narrow, calibration, setting)
    else:
        by_matrix = _on_matrix_units(table, rates, (layout, narrow), calibration)
        found = _where(is_matrix[:, :, None], by_matrix, _on_vectors(table, of_vectors, narrow, calibration, setting))
    return _depthwise(table, device, layout, narrow, found)


def _where(condition: NDArray[np.bool_], yes: Kernel, no: Kernel) -> Kernel:
    compute, memory, done = (np.where(condition, one, other) for one, other in zip(yes, no, strict=True))
    return compute, memory, done


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


def _on_matrix_units(
    table: OpTable, rates: Rates, traits: tuple[Mapping[str, Any], Array], calibration: Calibration
) -> Kernel:
    """Implicit products, each group one of them, in NCHW input and output are rewritten around them."""
    layout, narrow = traits
    is_packed = (narrow <= layout["packed_most"]) & (np.exp2(np.rint(np.log2(narrow))) == narrow)
    of_group = _by_gradient(table, layout["group_frac"]) / (1.0 + layout["group_width"] / narrow)
    grouped = np.where(np.isfinite(narrow) & ~is_packed, of_group, 1.0)
    moved = (table.read_bytes + table.write_bytes)[None]
    rewritten = layout["transform_passes"] * (moved - table.weight_bytes[None])
    oblong = np.where(_is_oblong(table), layout["oblong_frac"], 1.0)
    frac = _by_gradient(table, layout["matrix_frac"]) * grouped * oblong
    shape = (table.batch[None], table.m[None], table.n[None], table.k[None])
    rates = replace(rates, flops_per_s=rates.flops_per_s * frac)
    compute, memory = product_s(shape, moved + rewritten, rates, calibration.gemm)
    return compute, memory, np.broadcast_to(table.flops[None], compute.shape)


def _on_vectors(table: OpTable, rates: Rates, narrow: Array, calibration: Calibration, setting: Setting) -> Kernel:
    """The quickest of the kernels that a convolution has."""
    best = direct(table, rates, 1.0 / (1.0 + calibration.conv.vector["group_width"] / narrow), calibration)
    fits = transformed(table, calibration, setting.year)
    for kernel, rows in ((fused, fits & fusible(table)), (staged, fits)):
        if rows.any():
            found = kernel(table.take(rows), _of_rows(rates, rows), calibration)
            for one, quickest in zip(best, quicker(found, tuple(o[:, rows] for o in best), calibration), strict=True):
                one[:, rows] = quickest
    return best


def _is_oblong(table: OpTable) -> NDArray[np.bool_]:
    """Windows such as 1x3 and 7x1, as far as the count of their elements tells ``[1, operators, 1]``."""
    side = np.sqrt(table.window)
    return np.asarray(side != np.rint(side))[None, :, None]


def _of_rows(rates: Rates, rows: NDArray[np.bool_]) -> Rates:
    """The rates of some operators; one of devices alone is kept."""

    def part(rate: Any) -> Any:
        return rate[:, rows] if np.ndim(rate) == 3 and np.shape(rate)[1] == len(rows) else rate

    return replace(rates, **{name: part(getattr(rates, name)) for name in Rates.__dataclass_fields__})


def _depthwise(
    table: OpTable, device: DeviceColumns, layout: Mapping[str, Any], narrow: Array, found: Kernel
) -> Kernel:
    """One channel in a group: every element is loaded once and multiplied on vector units.

    Kernels for windows beyond 5x5 do not skip what a stride leaves out; those beyond 7x7, and for windows that are no
    squares, are slower by far.
    """
    rows = narrow <= 1.0
    if not rows.any():
        return found
    vector = device.peak_flops_per_s[:, FORMATS.index("fp32"), None, None]
    vector = np.where(np.isnan(vector), device.peak_flops_per_s[:, table.number_format, None], vector)
    names = ("depthwise_vector_frac", "wide_vector_frac", "large_vector_frac")
    small, wide, large = (_by_gradient(table, layout[name]) for name in names)
    window = table.window[None, :, None]
    cases = (_is_oblong(table), window <= _LARGEST_OWN_WINDOW, window <= _LARGEST_WIDE_WINDOW)
    frac = np.select(cases, [np.full_like(small, layout["oblong_vector_frac"]), small, wide], large)
    skipped = np.where(window > _LARGEST_OWN_WINDOW, table.stride[None, :, None], 1.0)
    bytes_per_s = device.bytes_per_s * device.memory_frac * _by_gradient(table, layout["depthwise_frac"])
    memory = (table.read_bytes + table.write_bytes)[None] / bytes_per_s
    compute = table.flops[None] * skipped / (vector * frac)
    return _where(rows, (compute, memory, table.flops[None]), found)
