"""The measuring method: warm up, blocks of calls, every sample kept, the median with its interval.

Blocks are long against the clock; a queue of work (GPU) is waited for at the end of each. The first calls
compile, allocate and choose algorithms: they are run until two agree, and their time is a field of its own. The CPU
time beside the wall time tells a slow machine from a busy one, which is why the calls are not left to
``torch.utils.benchmark``: it does not read it.

Source: Hoefler & Belli, "Scientific Benchmarking of Parallel Computing Systems", SC 2015 (medians, intervals without
an assumed distribution); the documentation of ``torch.utils.benchmark`` (warm-up, blocks, waiting for the device).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rigwise.bench.types import Timing

#: Version of the method: figures of different versions are not compared.
METHOD = 1
#: Two warm-up calls that differ by less have settled; warming up ends after this share of the time in any case.
_SETTLED_FRAC, _WARM_UP_FRAC = 0.1, 0.25
#: A block lasts this share of the time for a figure, and is not shorter than ten thousand ticks of the clock.
_BLOCK_FRAC, _LEAST_BLOCK_S = 1 / 40, 1e-3
#: Blocks of one figure: fewer say nothing of the spread, more cost only memory.
_LEAST_BLOCKS, _MOST_BLOCKS = 5, 400
#: A figure whose single call takes this many times its time gets one block.
_TOO_LONG = 3.0


def _nothing() -> None:
    """Calls that return when their work is done need no waiting."""


def measure(call: Callable[[], object], each_s: float, wait: Callable[[], object] = _nothing) -> Timing:
    """Time ``call`` for about ``each_s`` seconds.

    Args:
        call: What is timed, without arguments; its result is dropped.
        each_s: Time for warming up and for all blocks together; one call that takes longer is timed once.
        wait: Returns when all work that was queued is done.
    """
    started_s = time.perf_counter()
    one_s = _warm_up(call, wait, each_s)
    warm_up_s = time.perf_counter() - started_s
    calls = max(1, round(max(_LEAST_BLOCK_S, _BLOCK_FRAC * each_s) / max(one_s, 1e-9)))
    samples: list[float] = []
    cpu_s, first_s = time.process_time(), time.perf_counter()
    while not _is_enough(len(samples), time.perf_counter() - started_s, each_s):
        begun_s = time.perf_counter()
        for _ in range(calls):
            call()
        wait()
        samples.append((time.perf_counter() - begun_s) / calls)
    return Timing(
        samples_s=tuple(samples),
        calls=calls,
        cpu_s=time.process_time() - cpu_s,
        wall_s=time.perf_counter() - first_s,
        warm_up_s=warm_up_s,
    )


def _warm_up(call: Callable[[], object], wait: Callable[[], object], each_s: float) -> float:
    """Run until two calls agree or a quarter of the time is over; the least time of one call."""
    started_s = time.perf_counter()
    before_s, least_s = float("inf"), float("inf")
    while True:
        begun_s = time.perf_counter()
        call()
        wait()
        now_s = time.perf_counter()
        took_s = now_s - begun_s
        least_s = min(least_s, took_s)
        settled = abs(took_s - before_s) < _SETTLED_FRAC * took_s
        if settled or now_s - started_s > _WARM_UP_FRAC * each_s:
            return least_s
        before_s = took_s


def _is_enough(blocks: int, passed_s: float, each_s: float) -> bool:
    if blocks >= _MOST_BLOCKS or (blocks and passed_s > _TOO_LONG * each_s):
        return True
    return blocks >= _LEAST_BLOCKS and passed_s >= each_s


def quantile(samples: Sequence[float], share: float) -> float:
    """The value below which ``share`` of the samples lie, by linear interpolation.

    >>> quantile([1, 2, 3, 4], 0.5)
    2.5
    """
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def spread_frac(samples: Sequence[float]) -> float:
    """Middle half of the samples over their median.

    >>> spread_frac([1.0, 1.0, 1.0, 9.0])
    2.0
    """
    return (quantile(samples, 0.75) - quantile(samples, 0.25)) / quantile(samples, 0.5)


def median_interval(samples: Sequence[float], *, seed: int = 0, draws: int = 500) -> tuple[float, float]:
    """95 % interval of the median, by drawing the samples again; the only value where there is one.

    Samples that follow each other closely are alike, which makes the interval too narrow under a load that changes.

    Source: Efron, "Bootstrap Methods", Annals of Statistics 7(1), 1979: the percentile interval.

    >>> median_interval([2.0, 2.0, 2.0])
    (2.0, 2.0)
    """
    import numpy as np

    values = np.asarray(samples, dtype=float)
    if values.size < 2:
        return float(values[0]), float(values[0])
    drawn = np.random.default_rng(seed).choice(values, size=(draws, values.size))
    low, high = np.quantile(np.median(drawn, axis=1), (0.025, 0.975))
    return float(low), float(high)


def measure_prepared(prepare: Callable[[], object], call: Callable[[], object], each_s: float) -> Timing:
    """Time a call that must be prepared each time, the preparation apart: the same with empty caches, for example."""
    started_s = time.perf_counter()
    samples: list[float] = []
    cpu_s = 0.0
    prepare()
    warm_up_s = time.perf_counter() - started_s
    while not _is_enough(len(samples), time.perf_counter() - started_s, each_s):
        prepare()
        own_s, begun_s = time.process_time(), time.perf_counter()
        call()
        samples.append(time.perf_counter() - begun_s)
        cpu_s += time.process_time() - own_s
    return Timing(samples_s=tuple(samples), cpu_s=cpu_s, wall_s=sum(samples), warm_up_s=warm_up_s)
