"""Weights stored in 8 or 4 bits are widened before they meet activations of 16 bits.

Each block of rows widens every weight it multiplies by, on the vector units, while the matrix units multiply. A
decode step has one block, and the narrow read saves far more than this costs; so does starting such a kernel, but for
small weights.

Source: Frantar et al., "MARLIN", 2024, section 3.4: a weight takes about one vector instruction, bit operations
and scale together; products with 8- and 4-bit weights in the tables of aiconfigurator-core show that they overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.columns import DeviceColumns
from rigwise.graph.op import Kind
from rigwise.workload.table import FORMATS, Array, OpTable

#: An instruction for each weight, counted as the two FLOP of a multiply-add.
FLOPS_PER_WEIGHT = 2.0
#: Rows of a block.
BLOCK_ROWS = 128.0
#: Bytes of an element up to which a weight counts as stored in 8 bits or fewer.
_NARROW_BYTES = 1.1
#: Formats whose operands are multiplied as they are stored.
_MULTIPLIED_NARROW = [FORMATS.index(name) for name in ("fp8", "int8") if name in FORMATS]


def widening_flops(m: Any, weights: Any) -> Any:
    """Vector operations to widen weights once for each block of rows.

    Source: see the module.

    >>> float(widening_flops(1.0, 4096.0)), float(widening_flops(256.0, 4096.0))
    (8192.0, 16384.0)
    """
    return FLOPS_PER_WEIGHT * weights * np.ceil(m / BLOCK_ROWS)


def is_narrow(table: OpTable) -> NDArray[np.bool_]:
    """Which products have weights of 8 or 4 bits that are widened ``[operators, sizes]``."""
    stored = (table.weight_bytes > 0) & (table.weight_bytes < _NARROW_BYTES * table.batch * table.n * table.k)
    widened = table.of_kind(Kind.GEMM) & ~np.isin(table.number_format, _MULTIPLIED_NARROW)
    return np.asarray(stored & widened[:, None])


def walk_s(table: OpTable, device: DeviceColumns, element_cycles: float) -> Array:
    """How long one block walks along the inner dimension of a narrow weight ``[devices, operators, sizes]``.

    Kernels that do not cut that dimension are no quicker with more multiprocessors. 0 where nothing is narrow.

    Source: fitted form, on products with 8- and 4-bit weights of TensorRT-LLM in the tables of aiconfigurator-core.
    """
    cycles = np.where(is_narrow(table), table.k, 0.0)[None] * element_cycles
    return np.asarray(np.where(device.is_cpu, 0.0, cycles / device.hz))


def dequantise_s(table: OpTable, device: DeviceColumns) -> Array | float:
    """How long the vector units widen weights, for every operator ``[devices, operators, sizes]``.

    0 where nothing is narrow, and on devices whose vector rate nobody publishes.

    Source: see the module.
    """
    narrow, weights = is_narrow(table), table.batch * table.n * table.k
    if not narrow.any():
        return 0.0
    vector = device.peak_flops_per_s[:, FORMATS.index("fp32"), None, None] * device.vector_frac
    return np.asarray(np.where(narrow, widening_flops(table.m, weights), 0.0)[None] / np.nan_to_num(vector, nan=np.inf))
