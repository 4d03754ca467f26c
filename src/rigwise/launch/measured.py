"""What the processes of a run said, as one set of figures.

The first steps of each process are left out of times: a fifth of them, at most ten. What is lost by an interruption
is the time from the last checkpoint, or from the beginning, to the end of the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rigwise.launch.steps import Session
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds

#: Steps at the beginning of a process that say nothing of the others: at most so many, and so much of all.
_WARM_UP_STEPS, _WARM_UP_FRAC = 10, 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Figures of a run; None where nothing tells.

    Attributes:
        steps: Done by one process, over all attempts, those done twice included.
        ranks: Processes of the last attempt that said anything.
        step_time_s: ``p10``, ``p50``, ``p90`` of single steps, and how many were looked at.
        samples_per_step: Of all ranks together.
        throughput_per_s: Samples at the median step time.
        wait_frac: Part of the steps' time that was spent waiting for input.
        cores: CPU time of one process over its time in steps.
        cpu_step_s: CPU time of one process in one step: what it would take alone, where it has one thread.
        spread_frac: How far the slowest rank's median lies above the quickest one's.
        memory_bytes, gpu_bytes: Peak of the process that had most.
        saves, save_s: Checkpoints, and how long one took.
        startup_s: From the start of the command to the end of its first step, without that step.
        facts: Software as the first process told it.
    """

    steps: int = 0
    ranks: int = 0
    step_time_s: Mapping[str, float] = field(default_factory=dict)
    samples: int = 0
    samples_per_step: float | None = None
    throughput_per_s: float | None = None
    wait_frac: float | None = None
    cores: float | None = None
    cpu_step_s: float | None = None
    spread_frac: float = 0.0
    memory_bytes: float | None = None
    gpu_bytes: float | None = None
    saves: int = 0
    save_s: float | None = None
    startup_s: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


def measured(found: Sequence[Session], started_s: float | None = None) -> Measured:
    """The figures of all sessions; those of the first rank where only one can speak.

    Args:
        found: What ``steps.sessions`` returned.
        started_s: When the first attempt was started, by the time of day.
    """
    told = [one for one in found if one.steps > 0]
    if not told:
        return Measured()
    last = [one for one in told if one.attempt == told[-1].attempt]
    first_rank = [one for one in told if one.rank == told[0].rank]
    times = [pair for one in first_rank for pair in steady(one)]
    step_time_s = {name: weighted_quantile(times, q) for name, q in (("p10", 0.1), ("p50", 0.5), ("p90", 0.9))}
    work_s, cpu_s = sum(one.work_s for one in first_rank), sum(one.cpu_s for one in first_rank)
    steps = sum(one.steps for one in first_rank)
    per_step = sum(_mean_samples(last, rank) for rank in {one.rank for one in last}) or None
    saves = [save for one in first_rank for save in one.saves]
    taken = [(save.took_s, 1) for save in saves if save.took_s > 0]
    medians = [weighted_quantile(steady(one), 0.5) for one in last]
    began = told[0].first_s
    return Measured(
        steps=steps,
        ranks=len({one.rank for one in last}),
        step_time_s=step_time_s,
        samples=len(times),
        samples_per_step=per_step,
        throughput_per_s=per_step / step_time_s["p50"] if per_step and step_time_s["p50"] > 0 else None,
        wait_frac=min(1.0, sum(one.wait_s for one in first_rank) / work_s) if work_s > 0 else None,
        cores=cpu_s / work_s if work_s > 0 else None,
        cpu_step_s=cpu_s / steps,
        spread_frac=max(medians) / min(medians) - 1 if min(medians) > 0 else 0.0,
        memory_bytes=max(one.memory_bytes for one in told) or None,
        gpu_bytes=max(one.gpu_bytes for one in told) or None,
        saves=len(saves),
        save_s=weighted_quantile(taken, 0.5) if taken else None,
        startup_s=max(0.0, began - started_s - step_time_s["p50"]) if began and started_s else None,
        facts=told[0].facts,
    )


def _mean_samples(told: Sequence[Session], rank: int) -> float:
    mine = [one for one in told if one.rank == rank]
    return sum(one.samples for one in mine) / sum(one.steps for one in mine)


def steady(one: Session) -> list[tuple[float, int]]:
    """Times of single steps after the first ones, with the steps that each stands for.

    >>> len(steady(Session(rank=0, attempt=1, pid=1, steps=20, times_s=[(1.0, 1)] * 20)))
    16
    """
    left = min(_WARM_UP_STEPS, int(one.steps * _WARM_UP_FRAC))
    found = []
    for time_s, stands_for in one.times_s:
        if left <= 0:
            found.append((time_s, stands_for))
        left -= stands_for
    return found or list(one.times_s)


def weighted_quantile(pairs: Sequence[tuple[float, int]], q: float) -> float:
    """The least value that at least ``q`` of the weight does not exceed.

    >>> weighted_quantile([(3.0, 1), (1.0, 1), (2.0, 2)], 0.5)
    2.0
    """
    ordered = sorted(pairs)
    wanted = q * sum(weight for _, weight in ordered)
    reached = 0.0
    for value, weight in ordered:
        reached += weight
        if reached >= wanted - 1e-9:
            return value
    return ordered[-1][0] if ordered else 0.0


def lost_s(found: Sequence[Session], attempt: int, ended_s: float) -> float | None:
    """Work that an attempt lost when it ended; None where no process said anything.

    Nothing, where all processes had their last word and the last checkpoint holds the last step.

    >>> from dataclasses import replace
    >>> from rigwise.launch.steps import Save
    >>> one = Session(rank=0, attempt=1, pid=1, began_s=10.0, saves=(Save(step=5, at_s=60.0, took_s=1.0),))
    >>> lost_s([one], 1, 75.0)
    15.0
    >>> lost_s([replace(one, steps=5, ended="stopped")], 1, 75.0)
    0.0
    """
    mine = [one for one in found if one.attempt == attempt and one.began_s is not None]
    if not mine:
        return None
    saved = max((save.step for one in mine for save in one.saves), default=-1)
    if all(one.ended for one in mine) and saved >= max(one.last_step for one in mine):
        return 0.0
    kept_s = [save.at_s for one in mine for save in one.saves] or [min(one.began_s or 0.0 for one in mine)]
    return max(0.0, ended_s - max(kept_s))


def summary_line(one: Session) -> str:
    """What ``monitor`` prints where no run collects it."""
    found = measured([one])
    if not found.steps:
        return "rigwise: no step was reported; call m.step() at the end of each"
    words = [f"{found.steps} steps, {format_seconds(found.step_time_s['p50'])} each"]
    words[0] += f" (80 %: {format_seconds(found.step_time_s['p10'])} to {format_seconds(found.step_time_s['p90'])})"
    if found.throughput_per_s:
        words.append(f"{format_count(found.throughput_per_s)} samples/s")
    if found.wait_frac and found.wait_frac >= 0.01:
        words.append(f"{format_fraction(found.wait_frac)} waiting for input")
    if found.gpu_bytes:
        words.append(f"GPU memory {format_bytes(found.gpu_bytes)}")
    words.append(f"memory {format_bytes(found.memory_bytes or 0.0)}")
    return "rigwise: " + ", ".join(words)
