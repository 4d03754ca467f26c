"""Products of square matrices, one figure for each number format: what share of the peak arithmetic reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import (
    BYTES,
    dtype_of,
    formats,
    normal,
    precision,
    threads,
    torch_or_none,
    waiting,
    why_not,
)
from rigwise.bench.timing import measure
from rigwise.bench.types import FLOPS, Context, Raw, Timing

#: Sides of the matrices, smallest first; the first is tried to learn how fast the device is.
SIDES = (256, 512, 1024, 2048, 4096, 8192, 16384)
#: One call takes at most this share of a figure's time.
_CALL_FRAC = 1 / 8
#: Two operands and the result take at most this share of the memory.
_MEMORY_FRAC = 0.25


def run(context: Context) -> Iterator[Raw]:
    """One figure for each format that the device and the library have."""
    torch = torch_or_none()
    if torch is None:
        yield from _numpy(context)
        return
    alone = [("fp32", 1)] if context.target == "cpu" and context.threads > 1 else []
    for number_format, count in [*((name, context.threads) for name in formats(torch, context.target)), *alone]:
        name = f"matmul.{number_format}" + (".1thread" if count < context.threads else "")
        if not is_wanted(context, name):
            continue
        try:
            with precision(torch, number_format):
                yield _one(torch, context, (name, number_format, count))
        except (RuntimeError, TypeError) as error:
            yield Raw(name=name, unit=FLOPS, skipped=why_not(error))


def is_wanted(context: Context, name: str) -> bool:
    """Whether the figure, or the benchmark it belongs to, was asked for."""
    return not context.wanted or any(name == word or name.startswith(f"{word}.") for word in context.wanted)


def product(torch: Any, context: Context, number_format: str, side: int) -> Callable[[], Any]:
    """A call that multiplies two matrices of random numbers into a third that stands already."""
    a, b = (normal(torch, context, number_format, side, side) for _ in range(2))
    if number_format == "int8":
        return lambda: torch._int_mm(a, b)
    out = torch.zeros(side, side, dtype=dtype_of(torch, number_format), device=context.target)
    return lambda: torch.mm(a, b, out=out)


def _numpy(context: Context) -> Iterator[Raw]:
    """The same through NumPy's BLAS, where PyTorch is not installed."""
    import numpy as np

    for number_format, dtype in (("fp64", np.float64), ("fp32", np.float32)):

        def made(side: int, dtype: Any = dtype) -> Callable[[], Any]:
            a, b = np.random.default_rng(context.seed).standard_normal((2, side, side)).astype(dtype)
            out = np.zeros((side, side), dtype)
            return lambda: np.matmul(a, b, out=out)

        if is_wanted(context, f"matmul.{number_format}"):
            first_s = min(measure(made(SIDES[0]), context.each_s / 8).samples_s)
            side = _side(context, number_format, first_s)
            called = (f"matmul.{number_format}", number_format, context.threads)
            yield _raw(called, side, measure(made(side), context.each_s))


def _one(torch: Any, context: Context, called: tuple[str, str, int]) -> Raw:
    """Choose the size on one thread, where no thread waits for another, then measure on all."""
    _, number_format, count = called
    wait = waiting(torch, context.target)
    with threads(torch, 1):
        first_s = min(measure(product(torch, context, number_format, SIDES[0]), context.each_s / 8, wait).samples_s)
    side = _side(context, number_format, first_s)
    with threads(torch, count):
        return _raw(called, side, measure(product(torch, context, number_format, side), context.each_s, wait))


def _side(context: Context, number_format: str, first_s: float) -> int:
    most_elements = context.memory_bytes * _MEMORY_FRAC / BYTES[number_format]
    return side_for(first_s, context.each_s * _CALL_FRAC, most_elements)


def _raw(called: tuple[str, str, int], side: int, timing: Timing) -> Raw:
    name, number_format, count = called
    return Raw(
        name=name,
        unit=FLOPS,
        amount=2.0 * side**3,
        timing=timing,
        parameters={"side": side, "format": number_format, "threads": count},
        limit=number_format,
        work={"law": "gemm", "m": side, "n": side, "k": side, "format": number_format},
    )


def side_for(first_s: float, most_s: float, most_elements: float) -> int:
    """The largest side whose product takes at most ``most_s`` if the rate of the first side holds.

    >>> side_for(1e-3, 0.1, 1e12), side_for(1.0, 0.1, 1e12), side_for(1e-6, 1.0, 3 * 1024**2)
    (1024, 256, 1024)
    """
    able = [side for side in SIDES if first_s * (side / SIDES[0]) ** 3 <= most_s and 3.0 * side * side <= most_elements]
    return able[-1] if able else SIDES[0]
