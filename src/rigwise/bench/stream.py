"""Memory bandwidth: copy and triad over arrays that no cache holds, on one thread and on all.

Bytes are counted as STREAM does: what the program reads and writes, without the lines that a write fetches first.

Source: McCalpin, "Memory Bandwidth and Machine Balance", 1995.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import normal, threads, torch_or_none, waiting
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import BYTES, Context, Raw

#: Arrays together, at least so many times the last-level cache. Source: STREAM's rules for its sizes.
CACHES = 4
_LEAST_BYTES, _MOST_BYTES = 32 * 2**20, 2 * 2**30
#: Arrays of an operation: read and written.
ARRAYS = {"copy": 2, "triad": 3}


def run(context: Context) -> Iterator[Raw]:
    """Copy and triad by number of threads; on a GPU once."""
    torch = torch_or_none()
    most = min(_MOST_BYTES, context.memory_bytes / 16)
    size = int(min(most, max(_LEAST_BYTES, CACHES * context.cache_bytes))) // 4 * 4
    counts = sorted({1, context.threads}) if torch and context.target == "cpu" else [context.threads]
    for count in counts:
        for kind in ARRAYS if torch else ("copy",):
            label = "" if count == max(counts) else ".1thread"
            name = f"stream.{kind}{label}"
            if is_wanted(context, name):
                yield _one(torch, context, (name, kind), size, count)


def _one(torch: Any, context: Context, called: tuple[str, str], size: int, count: int) -> Raw:
    name, kind = called
    timing = _timed(torch, context, kind, size, count)
    return Raw(
        name=name,
        unit=BYTES,
        amount=float(ARRAYS[kind] * size),
        timing=timing,
        parameters={"array_bytes": size, "threads": count, "library": "torch" if torch else "numpy"},
        limit="memory",
        work={"law": "rows", "operator": "add" if kind == "triad" else "copy", "elements": size // 4}
        if count == context.threads
        else {},
    )


def _timed(torch: Any, context: Context, kind: str, size: int, count: int) -> Any:
    if torch is None:
        import numpy as np

        source = np.random.default_rng(context.seed).standard_normal(size // 4).astype(np.float32)
        target = np.zeros_like(source)
        return measure(lambda: np.copyto(target, source), context.each_s)
    with threads(torch, count):
        return measure(operation(torch, context, kind, size), context.each_s, waiting(torch, context.target))


def operation(torch: Any, context: Context, kind: str, size: int) -> Callable[[], Any]:
    """A call that copies an array, or sets ``a = b + 3 c``."""
    source, other = (normal(torch, context, "fp32", size // 4) for _ in range(2))
    target = torch.zeros_like(source)
    if kind == "copy":
        return lambda: target.copy_(source)
    return lambda: torch.add(source, other, alpha=3.0, out=target)
