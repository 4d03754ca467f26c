"""What a run measured: rates, latencies, and how each stage spent its time."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from rigwise.execute.channel import BLOCKED, BUSY, FILLING, OVERHEAD, STARVED
from rigwise.execute.network import Node
from rigwise.execute.trace import Trace, quantile

#: The steady part begins when this part of the items has arrived at the sink.
WARM_UP_FRAC = 0.2

#: Sources may be far ahead of the rest: the steady part has at least this part of the items.
LEAST_STEADY_FRAC = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMeasure:
    """What one stage did.

    ``service`` is the time of one call of the function, ``item`` that of one item; both in the whole run. The
    fractions are of the time of all its workers, and ``queue_mean`` is over time, both in the steady part.

    Attributes:
        starved_frac: Waiting for items.
        blocked_frac: Waiting for room behind it, or for its turn.
        overhead_frac: Handling queues.
        transfer_s: For one item on its way to a process and back, the median.
        cpu_frac: CPU time over time in calls; little for a function that waits, above 1 for one with threads.
        waiting: Items at its inputs when the run ended.
        unmatched: Items of one input of a join without a partner in the others.
        late_s: By how much a source with a rate was behind it at the end.
    """

    name: str
    run: str
    workers: int
    calls: int
    items_in: int
    items_out: tuple[int, ...]
    batch_mean: float
    batch_max: int
    service_p50_s: float | None
    service_p90_s: float | None
    item_s: float | None
    busy_frac: float
    starved_frac: float
    blocked_frac: float
    overhead_frac: float
    transfer_s: float
    cpu_frac: float
    cpu_s: float
    queue_mean: float
    queue_max: int
    queue_capacity: int
    waiting: int
    unmatched: int
    late_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkMeasure:
    """What arrived at the end: items, their rate in the steady part, and the time since their source made them."""

    name: str
    items: int
    throughput_per_s: float | None
    latency_p50_s: float | None
    latency_p90_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A whole run.

    Attributes:
        ended: ``exhausted``, ``items``, ``duration`` or ``interrupted``.
        signal: Number of the signal that interrupted it, 0 for none.
        window_s: Length of the steady part.
        machine_cores_busy_frac: Part of the machine's cores that were busy, with this run or other programs.
        lock_wait_s: Median time that a waking thread waited to go on: long if others hold the interpreter's lock.
    """

    ended: str
    signal: int
    elapsed_s: float
    window_s: float
    lock_wait_s: float
    machine_cores_busy_frac: float
    stages: tuple[StageMeasure, ...]
    sinks: tuple[SinkMeasure, ...]

    def stage(self, name: str) -> StageMeasure:
        """The stage of this name."""
        return next(stage for stage in self.stages if stage.name == name)


def machine_cpu_s() -> tuple[float, float]:
    """CPU time that all programs have used on all cores, and that cores had to give."""
    import psutil

    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total - idle, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The clock, and for each stage the seconds its workers spent in each state and its queues' lengths over time."""

    clock_s: float
    spent: tuple[tuple[float, ...], ...]
    areas: tuple[float, ...]


def snapshot(nodes: Sequence[Node], now: float) -> Snapshot:
    """How the time has been spent up to now."""
    spent = []
    for node in nodes:
        accounts = [account.seconds(now) for account in node.accounts]
        spent.append(tuple(map(sum, zip(*accounts, strict=True))))
    areas = tuple(sum(channel.area_s() for channel in node.channels) for node in nodes)
    return Snapshot(clock_s=now, spent=tuple(spent), areas=areas)


def steady(
    arrivals: Trace[float], snapshots: Sequence[Snapshot], sources_ended_s: float | None
) -> tuple[Snapshot, Snapshot]:
    """Begin and end of the steady part: after the pipeline has filled, and before it runs dry."""
    first, last = snapshots[0], snapshots[-1]
    times = [clock_s for _, clock_s in arrivals.points()]
    if len(times) < 3 or len(snapshots) < 3:
        return first, last
    begin_s = times[int(WARM_UP_FRAC * len(times))]
    end_s = times[-1] if sources_ended_s is None else min(sources_ended_s, times[-1])
    if bisect_right(times, end_s) - bisect_right(times, begin_s) < LEAST_STEADY_FRAC * len(times):
        end_s = times[-1]
    clocks = [s.clock_s for s in snapshots]
    begin = snapshots[min(bisect_left(clocks, begin_s), len(snapshots) - 2)]
    end = snapshots[max(bisect_right(clocks, end_s) - 1, 0)]
    return (begin, end) if end.clock_s > begin.clock_s else (first, last)


def rate_per_s(arrivals: Trace[float], begin_s: float, end_s: float) -> float | None:
    """Items for each second between two times; counted from the first arrival after ``begin_s``.

    >>> trace = Trace()
    >>> for n in range(100):
    ...     trace.add(n / 10)
    >>> round(rate_per_s(trace, 2.0, 8.0), 6)
    10.0
    """
    points = arrivals.points()
    times = [clock_s for _, clock_s in points]
    first = min(bisect_left(times, begin_s), len(times) - 1) if times else 0
    last = bisect_right(times, end_s) - 1
    if last <= first or times[last] <= times[first]:
        first, last = 0, len(times) - 1
    if last <= first or times[last] <= times[first]:
        return None
    return (points[last][0] - points[first][0]) / (times[last] - times[first])


def sink_measure(node: Node, begin: Snapshot, end: Snapshot) -> SinkMeasure:
    """What arrived at a sink."""
    latencies_s = node.latencies_s.values()
    return SinkMeasure(
        name=node.stage.name,
        items=node.arrivals.count,
        throughput_per_s=rate_per_s(node.arrivals, begin.clock_s, end.clock_s),
        latency_p50_s=quantile(latencies_s, 0.5),
        latency_p90_s=quantile(latencies_s, 0.9),
    )


def stage_measure(node: Node, position: int, begin: Snapshot, end: Snapshot) -> StageMeasure:
    """What a stage did; ``position`` is its place in the snapshots."""
    stage, tally = node.stage, node.tally
    window_s = max(end.clock_s - begin.clock_s, 1e-9)
    spent = [
        (b - a) / window_s / stage.workers for a, b in zip(begin.spent[position], end.spent[position], strict=True)
    ]
    services_s = tally.service_s.values()
    items = tally.items_out[0] if stage.is_source else tally.items_in
    return StageMeasure(
        name=stage.name,
        run=stage.run,
        workers=stage.workers,
        calls=tally.calls,
        items_in=tally.items_in,
        items_out=tuple(tally.items_out) if node.how.ports else (),
        batch_mean=items / max(tally.calls, 1),
        batch_max=tally.largest_batch or min(tally.calls, 1),
        service_p50_s=quantile(services_s, 0.5),
        service_p90_s=quantile(services_s, 0.9),
        item_s=tally.service_sum_s / items if items else None,
        busy_frac=spent[BUSY],
        starved_frac=spent[STARVED] + spent[FILLING],
        blocked_frac=spent[BLOCKED],
        overhead_frac=spent[OVERHEAD],
        transfer_s=(quantile(tally.transfer_s.values(), 0.5) or 0.0) if stage.run == "process" else 0.0,
        cpu_frac=tally.cpu_s / tally.service_sum_s if tally.service_sum_s else 0.0,
        cpu_s=tally.cpu_s,
        queue_mean=(end.areas[position] - begin.areas[position]) / window_s,
        queue_max=max((channel.longest for channel in node.channels), default=0),
        queue_capacity=max((channel.capacity for channel in node.channels), default=0),
        waiting=sum(channel.waiting() for channel in node.channels),
        unmatched=sum(channel.dropped for channel in node.channels),
        late_s=node.late_s,
    )
