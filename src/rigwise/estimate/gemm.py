"""Matrix products: tiles over multiprocessors, in waves, with the inner dimension cut if that pays.

A kernel cuts the result into tiles, one thread block each. A narrow tile loads more operands for
each operation. Blocks run in waves of as many as there are multiprocessors; of the last wave a
part is paid although it is only partly filled. A product with few tiles but a long inner
dimension is cut along that too (split-K), at the price of writing partial results and a second
pass that adds them. No product is quicker than some thousand cycles, and first bytes out of
device memory take longer than first bytes out of a cache.

How strongly each of these counts depends on the engine: vector lanes, matrix units that their
threads wait for (Volta to Ada), or matrix units fed by copies in the background (since Hopper).

Before a product of 8-bit floats a kernel of its own rounds the activations, and nothing hides it: the product itself
reaches nearly the share of the peak that 16-bit products reach.

Source: NVIDIA, "Matrix Multiplication Background", 2023, for tiles, waves and split-K; fitted
constants and the measurements behind them: see the calibration file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.columns import ENGINES, DeviceColumns
from rigwise.estimate.dequantise import is_narrow, walk_s
from rigwise.estimate.setting import Setting
from rigwise.graph.op import Phase
from rigwise.workload.table import FORMATS, Array, OpTable

#: Bytes of one operand element; weight-only formats compute in 16 bits.
_WIDTH_OF_FORMAT = {"fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "fp8": 1.0, "int8": 1.0, "int4": 0.5, "fp4": 0.5}

#: Runtimes whose kernels for weights of 8 or 4 bits do not cut the inner dimension.
_UNCUT_RUNTIMES = frozenset({"tensorrt-llm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What of a device and a number format decides how long a product takes ``[devices, operators, sizes]``.

    Attributes:
        flops_per_s: Sustained by full tiles. ``bytes_per_s``: sustained by device memory.
        units: Multiprocessors.
        feed_bytes_per_s: Operands that the last-level cache feeds to all multiprocessors together.
        width_bytes: Of one operand element.
        wave_frac: Share of the missing part of the last wave that is paid.
        tile_edge: How much narrower tiles cost: work grows by ``tile_edge * (1/rows + 1/columns)``.
        split_s: Second pass over partial results.
        start_s: Until the first operands arrive, beyond the gap between any two kernels.
        ramp_steps: Elements of the inner dimension that filling and draining costs; None: those of the constants.
    """

    flops_per_s: Any
    bytes_per_s: Any
    units: Any
    feed_bytes_per_s: Any
    width_bytes: Any
    wave_frac: Any
    tile_edge: Any
    split_s: Any
    start_s: Any
    ramp_steps: Any = None


def products(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Compute and memory time of every matrix product of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    gemm = calibration.gemm
    shape = (table.batch[None], table.m[None], table.n[None], table.k[None])
    moved = (table.read_bytes + table.write_bytes)[None]
    is_vector = device.engine[:, table.number_format, None] == ENGINES.index("vector")
    rates = on_lanes(rates_of(table, device, calibration, setting), is_vector, table.batch[None] > 1, gemm, device.hz)
    compute, memory = product_s(shape, moved, rates, gemm)
    if setting.year is None or setting.year >= gemm.walk_year:
        forward = table.of_phase(Phase.FORWARD)[:, None] & (table.weight_bytes > 0) & (table.batch == 1)
        walks = device.walks_slowly & is_vector & forward[None]
        compute = np.where(walks, compute * walk_factor(shape[3], device.l2_bytes, gemm), compute)
    if setting.runtime in _UNCUT_RUNTIMES:
        compute = np.maximum(compute, walk_s(table, device, gemm.uncut_cycles))
    memory = lengthened(compute, memory, rounding_s(table, device, gemm), gemm.norm_exponent)
    return compute, memory


def on_lanes(rates: Rates, is_vector: Any, is_batched: Any, constants: Constants, hz: Any) -> Rates:
    """The rates with those of kernels for products on vector lanes, which differ from those of convolutions there.

    Batched products are left to one kernel with wide tiles, whatever their shape.

    Source: fitted, see the calibration file.
    """
    lanes = constants.lanes
    edge = np.where(is_batched, lanes["batched_tile_edge"], lanes["tile_edge"])
    return replace(
        rates,
        flops_per_s=np.where(is_vector, rates.flops_per_s * lanes["frac"], rates.flops_per_s),
        wave_frac=np.where(is_vector, lanes["wave_frac"], rates.wave_frac),
        tile_edge=np.where(is_vector, edge, rates.tile_edge),
        split_s=np.where(is_vector, lanes["split_cycles"] / hz, rates.split_s),
        ramp_steps=np.where(is_vector, lanes["ramp_steps"], constants.ramp_steps),
    )


def walk_factor(inner: Any, cache_bytes: Any, constants: Constants) -> Any:
    """How much longer devices take that newer libraries have no kernels of their own for.

    They run kernels written for Maxwell. Those walk along the rows of the weight, one row for each column of the
    result: where rows are so long that the cache does not hold a piece of each, pieces are fetched again and again.
    A cache of unknown size (0) is taken to hold them.

    Source: fitted form, on the products of P100, see the calibration file.

    >>> from types import SimpleNamespace
    >>> kernels = SimpleNamespace(walk_bytes=512.0, walk_most=4.0, walk_exponent=0.5, older_frac=0.8)
    >>> [float(walk_factor(k, 4194304.0, kernels)) for k in (1024.0, 32768.0)]
    [1.25, 2.5]
    """
    walked = np.where(cache_bytes > 0, inner * constants.walk_bytes / np.maximum(cache_bytes, 1.0), 1.0)
    held = np.clip(walked, 1.0, constants.walk_most)
    return held**constants.walk_exponent / constants.older_frac


def rounding_s(table: OpTable, device: DeviceColumns, constants: Constants) -> Array:
    """Seconds of the kernel that scales and rounds a product's left operand ``[devices, operators, sizes]``.

    It finds the largest element, then reads again, converts and writes. What it moves and what it converts follow each
    other in every block, so both count. None on CPUs, and where operands are multiplied as they are.

    Source: fitted form, on products of 8-bit floats in the tables of aiconfigurator-core, see the calibration file.
    """

    def of_format(values: dict[str, float]) -> Array:
        return np.array([values.get(f, 0.0) for f in FORMATS])[table.number_format][None, :, None]

    elements = (table.batch * table.m * table.k)[None]
    moved_s = elements * of_format(constants.rounding_bytes_of_format) / (device.bytes_per_s * device.memory_frac)
    converted = elements * of_format(constants.rounding_element_cycles_of_format) / device.units
    cycles = converted + of_format(constants.rounding_cycles_of_format)
    return np.asarray(np.where(device.is_cpu, 0.0, moved_s + cycles / device.hz))


def lengthened(compute_s: Any, memory_s: Any, before_s: Any, exponent: float) -> Any:
    """Memory time with which the blend of both grows by the time of a kernel that runs before.

    >>> round(float(blend(3.0, lengthened(3.0, 4.0, 1.0, 2.0), 2.0)), 9)
    6.0
    """
    whole = blend(compute_s, memory_s, exponent) + before_s
    rest = np.maximum(whole**exponent - np.minimum(compute_s, whole) ** exponent, 0.0) ** (1.0 / exponent)
    return np.where(before_s > 0, rest, memory_s)


def sustained_flops_per_s(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> Array:
    """What full tiles reach in each operator's format at full clock ``[devices, operators, 1]``.

    Libraries for matrix units got better year by year; what they will gain after the calibration is not guessed.
    """
    peak = device.peak_flops_per_s[:, table.number_format, None]
    is_matrix = device.is_matrix[:, table.number_format, None]
    of_format = np.array([calibration.gemm.matrix_frac_of_format.get(f, 1.0) for f in FORMATS])[table.number_format]
    frac = np.where(is_matrix, device.matrix_frac * of_format[None, :, None], device.vector_frac)
    age = max(0.0, calibration.gemm.reference_year - (setting.year or calibration.gemm.reference_year))
    return np.asarray(peak * frac * np.where(is_matrix, (1.0 - calibration.gemm.gain_per_year) ** age, 1.0))


def rates_of(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> Rates:
    """The rates of every operator on every device.

    In a step operands come from device memory. A benchmark that times one product again and
    again finds them in the last-level cache where all its sets of operands fit.

    Source: see the module.
    """
    gemm = calibration.gemm
    engine = device.engine[:, table.number_format, None]

    def of_engine(constants: dict[str, float]) -> Array:
        return np.array([constants[name] for name in ENGINES])[engine]

    device_rate = device.bytes_per_s * np.minimum(device.memory_frac, of_engine(gemm.memory_frac))
    cycles = of_engine(gemm.first_cycles) + of_engine(gemm.memory_cycles)
    if setting.operand_sets:
        held = (table.read_bytes + table.write_bytes + (setting.operand_sets - 1) * table.weight_bytes)[None]
        is_warm = held < gemm.cache_fill_frac * device.l2_bytes
        from_cache = np.maximum(device_rate, gemm.cache_bytes_per_cycle * device.units * device.hz)
        device_rate = np.where(is_warm, from_cache, device_rate)
        cycles = np.where(is_warm, of_engine(gemm.first_cycles), cycles)
    widening = gemm.widening_cycles * is_narrow(table)[None]
    start = np.maximum((cycles + widening) / device.hz - calibration.launch.kernel_s, 0.0)
    return Rates(
        flops_per_s=sustained_flops_per_s(table, device, calibration, setting),
        bytes_per_s=device_rate,
        units=device.units,
        feed_bytes_per_s=of_engine(gemm.feed_bytes_per_cycle) * device.units * device.hz,
        width_bytes=np.array([_WIDTH_OF_FORMAT.get(f, 2.0) for f in FORMATS])[table.number_format][None, :, None],
        wave_frac=of_engine(gemm.wave_frac),
        tile_edge=of_engine(gemm.tile_edge),
        split_s=of_engine(gemm.split_cycles) / device.hz,
        start_s=np.where(device.is_cpu, 0.0, start),
    )


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
    shape: tuple[Any, Any, Any, Any], moved_bytes: Any, rates: Rates, constants: Constants
) -> tuple[Any, Any]:
    """Compute and memory time of ``batch`` products ``[m, k] x [k, n]``, for the best tile and split of k.

    Args:
        shape: batch, m, n, k.
        moved_bytes: Operands and result, once each.
        rates: Of the device, see ``rates_of``.
        constants: The ``[gemm]`` table.

    Returns:
        The two times of the tile and split whose blend is least.

    Source: the recipe; see the module.
    """
    batch, m, n, k = shape
    score = compute = memory = None
    ramp_steps = constants.ramp_steps if rates.ramp_steps is None else rates.ramp_steps
    for tile in constants.tiles:
        rows, cols = tile_sizes(m, n, tile)
        tiles = batch * np.ceil(m / rows) * np.ceil(n / cols)
        block_s = _block_s(rows, cols, rates, constants)
        for split in constants.splits:
            inner = np.ceil(k / split) + ramp_steps
            second_s = rates.split_s if split > 1 else 0.0
            partials = constants.partial_bytes * split * batch * m * n if split > 1 else 0.0
            this_compute = wave_cost(tiles * split, rates.units, rates.wave_frac) * block_s * inner + second_s
            this_memory = (moved_bytes + partials) / rates.bytes_per_s + second_s + rates.start_s
            this_score = _raised(this_compute) + _raised(this_memory)
            if score is None:
                score, compute, memory = this_score, this_compute, this_memory
                continue
            better = this_score < score
            score = np.where(better, this_score, score)
            compute, memory = np.where(better, this_compute, compute), np.where(better, this_memory, memory)
    return compute, memory


def _raised(time_s: Any) -> Any:
    """To the exponent of the blend, 2.5, without the cost of a power."""
    return time_s * time_s * np.sqrt(time_s)


def _block_s(rows: Any, cols: Any, rates: Rates, constants: Constants) -> Any:
    """Time in which all multiprocessors work off one tile each, for each step along k.

    Either the arithmetic binds, slower in narrow tiles, or the cache that feeds their operands.
    """
    widest = 2.0 / max(constants.tiles)
    edge = (1.0 + rates.tile_edge * (1.0 / rows + 1.0 / cols)) / (1.0 + rates.tile_edge * widest)
    arithmetic = 2.0 * rows * cols * rates.units / rates.flops_per_s * edge
    return np.maximum(arithmetic, (rows + cols) * rates.width_bytes * rates.units / rates.feed_bytes_per_s)
