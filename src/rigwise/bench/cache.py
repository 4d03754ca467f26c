"""The same copy by size, on one thread: each cache level shows as a step."""

from __future__ import annotations

from collections.abc import Iterator

from rigwise.bench.framework import threads, torch_or_none, waiting
from rigwise.bench.matmul import is_wanted
from rigwise.bench.stream import operation
from rigwise.bench.timing import measure
from rigwise.bench.types import BYTES, Context, Raw
from rigwise.units import KIB, MIB

#: Both arrays together. A GPU's caches are larger, and its small copies only time the launch.
SIZES = {"32k": 32 * KIB, "256k": 256 * KIB, "1m": MIB, "8m": 8 * MIB}
SIZES_OF_GPU = {"8m": 8 * MIB, "32m": 32 * MIB, "128m": 128 * MIB}


def run(context: Context) -> Iterator[Raw]:
    """One figure for each size."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="cache", unit=BYTES, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    for word, size in (SIZES if context.target == "cpu" else SIZES_OF_GPU).items():
        name = f"cache.{word}"
        if not is_wanted(context, name):
            continue
        one = int(size) // 2
        with threads(torch, 1):
            timing = measure(operation(torch, context, "copy", one), context.each_s / 2, waiting(torch, context.target))
        shown = {"both_bytes": 2 * one, "threads": 1}
        yield Raw(name=name, unit=BYTES, amount=2.0 * one, timing=timing, parameters=shown)
