"""Roofline: the least time one operator can take on one device.

An operator cannot end before its arithmetic is done at the peak rate, nor before its bytes
have crossed the memory bus. The efficiencies of ``gemm.py``, ``attention.py`` and
``streaming.py`` say how far above the larger of the two it ends.

These are roofs of the rated clock, with every operand in device memory. The bounds that a
proof rests on, with the highest clock and a cache, are in ``bound.py``.

Source: Williams, Waterman & Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from typing import Any


def compute_s(flops: Any, peak_flops_per_s: Any) -> Any:
    """Time of the arithmetic alone.

    Source: see the module.

    >>> compute_s(2 * 4096**3, 989.4e12) * 1e6 // 1
    138.0
    """
    return flops / peak_flops_per_s


def memory_s(moved_bytes: Any, bytes_per_s: Any) -> Any:
    """Time of the traffic alone.

    Source: see the module.

    >>> memory_s(4.8e9, 4.8e12)
    0.001
    """
    return moved_bytes / bytes_per_s


def ridge_point(peak_flops_per_s: Any, bytes_per_s: Any) -> Any:
    """Arithmetic intensity, in FLOP/byte, at which the two roofs meet.

    Source: see the module.

    >>> ridge_point(989.4e12, 3.35e12) // 1
    295.0
    """
    return peak_flops_per_s / bytes_per_s
