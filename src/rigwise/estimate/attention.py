"""Whole (fused) attention: blocks of queries over the multiprocessors; decode only reads the cache.

A prompt is cut into blocks of queries, one thread block for each head and block, which runs over all keys that
its queries see. Each score costs two products on the matrix units and one exponential on the special-function
units; on recent devices the exponentials take as long as the products, which is why small heads and the largest
dies are furthest from their peak. A block also waits for its first tile and writes its last: a latency that many
short sequences pay again and again. A decode step multiplies next to nothing: it streams the cache.

What runs where follows PyTorch: fused kernels of the FlashAttention family on 16-bit tensors with heads of up to
256 on Ampere and later; else a kernel that saves memory but is slower (older devices, 32-bit, an added mask).

Source: Dao, "FlashAttention-2", 2023; Shah et al., "FlashAttention-3", 2024, sections 2.2 and 3.1 (exponentials,
asynchronous matrix units); constants: see the calibration file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.columns import DeviceColumns, design_of
from rigwise.estimate.gemm import wave_cost
from rigwise.estimate.roofline import memory_s
from rigwise.estimate.setting import Setting
from rigwise.facts.device import Device
from rigwise.graph.op import Op, Phase
from rigwise.workload.table import FORMATS, Array, OpTable

#: Fewer queries than this for each sequence: a decode step.
DECODE_QUERIES = 16
#: Exponentials of one multiprocessor in a cycle. Source: CUDA C++ Programming Guide, arithmetic throughput, 2024.
EXPONENTIALS_PER_CYCLE = 16.0
#: Largest head of the fused kernels. Source: FlashAttention-2, release notes.
LARGEST_FLASH_HEAD = 256
#: When frameworks took up FlashAttention-2. Source: release notes of PyTorch 2.2, January 2024.
FLASH2_YEAR = 2024.0
#: Without a mask: queries, keys, values; backward also the gradient, the result and its sums.
_OPERANDS, _BACKWARD_OPERANDS = 3, 6
#: Formats that the fused kernels take.
_NARROW = np.isin(FORMATS, ("fp16", "bf16", "fp8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionShape:
    """Attention of a table, as its kernels see it ``[operators, sizes]``.

    Attributes:
        heads: Sequences times query heads.
        queries, head: Queries of one sequence, size of a head.
        keys, seen: Keys there are, and keys that a query sees in the mean.
        edges: Sides of the score matrix along which blocks are half masked: none, causal, window.
        scores: Scores that count, of all heads.
    """

    heads: Array
    queries: Array
    head: Array
    keys: Array
    seen: Array
    edges: Array
    scores: Array


def attention(table: OpTable, device: DeviceColumns, calibration: Calibration, setting: Setting) -> tuple[Array, Array]:
    """Compute and memory time of every attention of a table ``[devices, operators, sizes]``.

    Source: see the module.
    """
    constants = calibration.attention
    shape = shape_of(table)
    peak = device.peak_flops_per_s[:, table.number_format, None]
    product_s = table.flops[None] / (peak * _product_frac(table, device, constants, setting))
    cycle_s = np.where(device.is_cpu, 0.0, 1.0 / device.hz)
    exponential_s = constants.exponential_cost * shape.scores[None] / _exponentials_per_s(device, constants)
    moved = (table.read_bytes + table.write_bytes)[None]
    memory = memory_s(moved, device.bytes_per_s * np.minimum(device.memory_frac, constants.decode_frac))
    stretch, block_cycles = _prompt_blocks(shape, device.units, constants)
    prompt = np.where(device.is_cpu, product_s, (product_s + exponential_s) * stretch)
    hidden = np.array([constants.halved_block_frac if _is_halved(d) else 1.0 for d in device.devices])[:, None, None]
    prompt = prompt + (constants.floor_cycles + hidden * block_cycles) * cycle_s
    is_decode = shape.queries < DECODE_QUERIES
    started = np.where(device.is_cpu, 0.0, constants.decode_padding_keys) / shape.seen[None]
    decode = memory * (1.0 + started) + constants.decode_floor_cycles * cycle_s
    return np.where(is_decode, product_s, prompt), np.where(is_decode, decode, memory)


def shape_of(table: OpTable) -> AttentionShape:
    """Shape columns of a table that holds nothing but attention."""
    frac = table.flops / np.maximum(2.0 * table.macs, 1e-300)
    return AttentionShape(
        heads=table.batch,
        queries=table.m,
        head=table.k,
        keys=table.n,
        seen=table.n * frac,
        edges=np.array(
            [[bool(op.attrs.get("causal")) + bool(op.attrs.get("window"))] for op in table.ops], dtype=float
        ),
        scores=table.batch * table.m * table.n * frac,
    )


def _prompt_blocks(shape: AttentionShape, units: Array, constants: Constants) -> tuple[Array, Array]:
    """How much more blocks do than their scores need, and the cycles that all their waves wait.

    Rows are padded to a block, heads to a register tile, masked edges to half a block of keys; the last wave is
    paid whole or in part.

    Source: FlashAttention-2, section 3.2; see the module.
    """
    rows = np.where(shape.queries <= constants.tile / 2, constants.tile / 2, constants.tile)
    per_head = np.ceil(shape.queries / rows)
    padded = per_head * rows / shape.queries * np.ceil(shape.head / constants.head_step) * constants.head_step
    computed = np.minimum(shape.seen + shape.edges * constants.edge_keys, np.maximum(shape.keys, shape.seen))
    waves = (shape.heads * per_head)[None] / units
    paid = wave_cost(waves, 1.0, constants.wave_frac)
    stretch = (padded / shape.head * computed / shape.seen)[None] * paid / waves
    return stretch, constants.block_cycles * waves * (rows / constants.tile)[None]


def _exponentials_per_s(device: DeviceColumns, constants: Constants) -> Array:
    """Exponentials a device computes in a second ``[devices, 1, 1]``; inf where nothing says.

    Source: ``EXPONENTIALS_PER_CYCLE``, at the boost clock.
    """
    return np.array([_exponential_rate(d, constants) for d in device.devices])[:, None, None]


def _exponential_rate(device: Device, constants: Constants) -> float:
    if device.kind == "cpu" or not (device.units and device.boost_hz):
        vector = device.peak_flops_per_s.get("fp32", np.inf)
        return float(vector) / (256.0 / EXPONENTIALS_PER_CYCLE)
    gain = float(constants.exponential_gain_of_architecture.get(design_of(device), 1.0))
    return EXPONENTIALS_PER_CYCLE * device.units * device.boost_hz * gain


def _product_frac(table: OpTable, device: DeviceColumns, constants: Constants, setting: Setting) -> Array:
    """Share of the peak that the products reach ``[devices, operators, 1]``."""
    backward = np.where(table.of_phase(Phase.BACKWARD), constants.backward_frac, 1.0)
    slower = np.array([not _is_flash(op, setting) for op in table.ops]) | ~_NARROW[table.number_format]
    flash = np.array([_flash_frac(d, constants, setting) for d in device.devices])[:, None]
    lacks = np.array([design_of(d) in constants.without_flash for d in device.devices])[:, None]
    matrix = np.where(lacks | slower[None], np.minimum(flash, constants.efficient_frac), flash)
    matrix = matrix * (constants.first_flash_frac if (setting.year or np.inf) < FLASH2_YEAR else 1.0)
    frac = np.where(device.is_matrix[:, table.number_format], matrix, constants.vector_frac)
    return np.asarray((frac * backward[None])[..., None])


def _flash_frac(device: Device, constants: Constants, setting: Setting) -> float:
    """By whether products run asynchronously, and whether the framework's kernel makes use of that."""
    if design_of(device) not in constants.asynchronous:
        return float(constants.halved_frac if _is_halved(device) else constants.flash_frac)
    if setting.runtime == "torch" and design_of(device) in constants.torch_frac_of_architecture:
        return float(constants.torch_frac_of_architecture[design_of(device)])
    return float(constants.asynchronous_frac)


def _is_halved(device: Device) -> bool:
    """Whether matrix units run at half rate when they accumulate in 32 bits, which leaves time for all else."""
    return device.matrix_class == "geforce"


def _is_flash(op: Op, setting: Setting) -> bool:
    """Whether the fused kernels take it: heads of up to 256, and in PyTorch no added mask."""
    backward = op.name.endswith("backward")
    size = op.inputs[1 if backward else 0].shape[3]
    if isinstance(size, int) and size > LARGEST_FLASH_HEAD:
        return False
    return setting.runtime != "torch" or len(op.inputs) <= (_BACKWARD_OPERANDS if backward else _OPERANDS)
