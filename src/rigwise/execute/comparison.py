"""Measured beside predicted: the bottleneck, each component, and why they differ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from rigwise.application.types import CPU
from rigwise.execute.application import ApplicationRun
from rigwise.execute.measured import StageMeasure
from rigwise.execute.stage import PROCESS, THREAD
from rigwise.units import format_count, format_seconds

#: A stage, or all cores, busier than this limit the rate.
SATURATED_FRAC = 0.85

#: Figures nearer to each other than this are not worth a sentence.
NEAR_FRAC = 0.15

#: Threads that wait longer than this to go on wait for one that holds the interpreter's lock, which is handed
#: over every 5 ms. Source: Python documentation, sys.setswitchinterval, 3.11.
_LONG_WAIT_S = 2.5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentRow:
    """One component: predicted and measured.

    Attributes:
        item_s: Time of one item in one worker, its way to a process and back included: predicted, measured.
        busy_frac: Part of the time that its workers are busy: predicted, measured.
        ratio_frac: Items out for each item in, at its first output: stated, measured.
    """

    name: str
    place: str
    stage: StageMeasure
    item_predicted_s: float
    item_measured_s: float | None
    busy_predicted_frac: float
    ratio_stated_frac: float | None
    ratio_measured_frac: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run beside its prediction; rates are those of the first source.

    Attributes:
        throughput_measured_per_s: In the steady part.
        latency_measured_s: Median over the items that arrived.
        latency_p90_s: A tenth took longer.
        in_queues_s: Wait in queues on average, by Little's law; the prediction has none but for filling batches.
        bottleneck_predicted: The most loaded resource, or ``source NAME`` if all can do what it offers.
        bottleneck_measured: In the same words, or ``the interpreter's lock``, or ``unknown``.
        differences: Sentences.
    """

    run: ApplicationRun
    rows: tuple[ComponentRow, ...]
    throughput_measured_per_s: float | None
    latency_measured_s: float | None
    latency_p90_s: float | None
    in_queues_s: float | None
    bottleneck_predicted: str
    bottleneck_measured: str
    differences: tuple[str, ...]


def compare(run: ApplicationRun, *, cores: int | None = None) -> Comparison:
    """Set a run beside its prediction.

    Args:
        run: The run.
        cores: Cores that this process may use; found out if not given.
    """
    cores = cores or _cores_here()
    rows = tuple(_row(run, stage) for stage in run.measured.stages)
    rate = _throughput(run)
    sink = run.measured.sinks[0]
    expected, bottleneck = _expected_bottleneck(run), _bottleneck(run, rate, cores)
    waiting_s = _in_queues_s(run, rate)
    sentences = _disturbed(run, rows, cores) if run.alone else _differences(run, rows, rate, bottleneck, cores)
    return Comparison(
        run=run,
        rows=rows,
        throughput_measured_per_s=rate,
        latency_measured_s=sink.latency_p50_s,
        latency_p90_s=sink.latency_p90_s,
        in_queues_s=waiting_s,
        bottleneck_predicted=expected,
        bottleneck_measured=bottleneck,
        differences=tuple(sentences),
    )


def _cores_here() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _row(run: ApplicationRun, stage: StageMeasure) -> ComponentRow:
    component = run.costed.application.components[stage.name]
    place = run.predicted.placement[stage.name]
    first = next(iter(component.outputs.values()), None)
    has_ratio = first is not None and bool(component.inputs) and stage.items_in > 0
    return ComponentRow(
        name=stage.name,
        place=place,
        stage=stage,
        item_predicted_s=run.costed.services[stage.name][place].call_s["p50"] / component.batch,
        item_measured_s=None if stage.item_s is None else stage.item_s + stage.transfer_s,
        busy_predicted_frac=run.predicted.busy_frac.get(f"workers {stage.name}", 0.0),
        ratio_stated_frac=first.ratio_frac if has_ratio and first else None,
        ratio_measured_frac=stage.items_out[0] / stage.items_in if has_ratio else None,
    )


def _throughput(run: ApplicationRun) -> float | None:
    """Items of the first source for each second: the first sink's rate, scaled by the items of both."""
    sink = run.measured.sinks[0]
    source = next(stage for stage in run.measured.stages if not run.costed.application.components[stage.name].inputs)
    if sink.throughput_per_s is None:
        return None
    undone = any(stage.waiting for stage in run.measured.stages)
    given = source.items_out[0]
    scale = run.costed.rates[sink.name] if undone or not given else sink.items / given
    return sink.throughput_per_s / scale


def _in_queues_s(run: ApplicationRun, rate_per_s: float | None) -> float | None:
    """Time in the queues of the longest path. Source: Little, Operations Research 9(3), 1961."""
    if not rate_per_s:
        return None
    path = {leg.component for leg in run.predicted.path}
    return sum(
        stage.queue_mean / (rate_per_s * run.costed.rates[stage.name])
        for stage in run.measured.stages
        if stage.name in path
    )


def _cores_busy(run: ApplicationRun, *, processes: bool = True) -> float:
    """Cores that compute, on average; a stand-in computes nothing but holds its cores."""
    total = 0.0
    for stage in run.measured.stages:
        if stage.name in run.simulated:
            service = run.costed.services[stage.name][run.predicted.placement[stage.name]]
            item_s = service.call_s["p50"] / run.costed.application.components[stage.name].batch
            part = service.cores * item_s / max(stage.item_s or item_s, 1e-12)
        else:
            part = stage.cpu_frac
        if processes or stage.run != PROCESS:
            total += stage.busy_frac * stage.workers * part
    return total


def _lock_binds(run: ApplicationRun) -> bool:
    """Whether threads of this process compute in turn: about one core together, and long waits to go on."""
    stages = run.measured.stages
    inside = sum(s.busy_frac * s.workers for s in stages if s.run != PROCESS)
    cores = _cores_busy(run, processes=False)
    idle = run.measured.machine_cores_busy_frac < SATURATED_FRAC
    return idle and run.measured.lock_wait_s > _LONG_WAIT_S and inside > 1.3 and 0.6 < cores < 1.25


def _expected_bottleneck(run: ApplicationRun) -> str:
    offered, capacity = run.costed.offered_per_s, run.predicted.capacity_per_s["p50"]
    first = next(iter(run.costed.application.components))
    return run.predicted.bottleneck if offered is None or offered > capacity else f"source {first}"


def _bottleneck(run: ApplicationRun, rate_per_s: float | None, cores: int) -> str:
    if rate_per_s is None:
        return "unknown"
    offered, stages = run.costed.offered_per_s, run.measured.stages
    first = next(iter(run.costed.application.components))
    if offered and rate_per_s >= 0.97 * offered:
        return f"source {first}"
    if cores > 1 and _lock_binds(run):
        return "the interpreter's lock"
    if max(_cores_busy(run) / cores, run.measured.machine_cores_busy_frac) >= SATURATED_FRAC:
        places = run.costed.application.places
        on_cpu = [run.predicted.placement[s.name] for s in stages]
        return next((f"place {name}" for name in on_cpu if places[name].kind == CPU), "the cores of this machine")
    busiest = max(stages, key=lambda stage: stage.busy_frac)
    return f"workers {busiest.name}"


def _differences(
    run: ApplicationRun, rows: tuple[ComponentRow, ...], rate: float | None, bottleneck: str, cores: int
) -> Iterator[str]:
    predicted = run.predicted.throughput_per_s["p50"]
    if rate is None:
        yield "too few items arrived to tell a rate"
    elif not _near(rate, predicted):
        expected = _expected_bottleneck(run)
        as_said = "as predicted" if bottleneck == expected else f"not {expected}"
        yield f"throughput is {rate / predicted:.2f} of the prediction; {bottleneck} limits it, {as_said}"
    if bottleneck == "the interpreter's lock":
        slow = max((row.stage for row in rows if row.stage.run == THREAD), key=lambda s: s.busy_frac * s.workers)
        yield f'threads wait for the interpreter\'s lock: run = "process" for {slow.name} would let it use other cores'
    for row in rows:
        yield from _of_component(row, bottleneck)
    yield from _of_machine(run, bottleneck, cores)


def _of_component(row: ComponentRow, bottleneck: str) -> Iterator[str]:
    name, stage = row.name, row.stage
    measured, predicted = row.item_measured_s, row.item_predicted_s
    if measured is not None and not _near(measured, predicted) and max(measured, predicted) > 2e-5:
        why = ""
        if measured > predicted and stage.run != PROCESS and bottleneck == "the interpreter's lock":
            why = ", the wait for the interpreter's lock included"
        elif measured > predicted and bottleneck.startswith(("place", "the cores")) and stage.cpu_frac < 0.8:
            why = ", the wait for a core included"
        elif stage.transfer_s > 0.3 * measured:
            why = f", of that {format_seconds(stage.transfer_s)} to the process and back"
        yield f"{name} takes {format_seconds(measured)} for an item, {format_seconds(predicted)} were expected{why}"
    given, stated = row.ratio_measured_frac, row.ratio_stated_frac
    if given is not None and stated is not None and not _near(given, stated):
        yield f"{name} gives {given:.3g} items for each item in, the file says {stated:.3g}"
    if stage.late_s > 0.5:
        yield f"source {name} is {format_seconds(stage.late_s)} behind its rate: the rest does not keep up"
    if stage.unmatched:
        yield f"{name} dropped {stage.unmatched} items that had no partner in its other inputs"


def _of_machine(run: ApplicationRun, bottleneck: str, cores: int) -> Iterator[str]:
    used = {run.predicted.placement[name] for name in run.predicted.placement}
    for place in (run.costed.application.places[name] for name in sorted(used)):
        if place.kind == CPU and place.cores != cores:
            yield f"place {place.name} has {place.cores} cores in the file, this process may use {cores}"
    if (others := _others_busy(run, cores)) > 0.2 * cores:
        sentence = f"other programs kept {others:.1f} of {cores} cores busy"
        computed, needed_s = _cores_busy(run), _core_s(run)
        if needed_s and not bottleneck.startswith("source"):
            sentence += f"; on the {computed:.2f} that were left, {format_count(computed / needed_s)} /s were expected"
        yield sentence
    undone = sum(stage.waiting for stage in run.measured.stages)
    if undone:
        yield f"{undone} items were left undone in the queues when the time was up"


def _disturbed(run: ApplicationRun, rows: tuple[ComponentRow, ...], cores: int) -> Iterator[str]:
    """Whether times measured alone are too long, and what functions needed of a core."""
    if (others := _others_busy(run, cores)) <= 0.2 * cores:
        return
    yield f"other programs kept {others:.1f} of {cores} cores busy; the times above include waiting for a core"
    for row in rows:
        items = row.stage.items_in or row.stage.items_out[0]
        if row.stage.cpu_frac < 1 - NEAR_FRAC and items:
            yield f"{row.name} computed for {format_seconds(row.stage.cpu_s / items)} an item, on average"


def _others_busy(run: ApplicationRun, cores: int) -> float:
    """Cores that other programs kept busy, if none was left idle."""
    busy_frac = run.measured.machine_cores_busy_frac
    return busy_frac * cores - _cores_busy(run) if busy_frac > SATURATED_FRAC else 0.0


def _core_s(run: ApplicationRun) -> float:
    """Time of one core that one item of the first source needs on CPUs, as predicted."""
    total = 0.0
    for name, component in run.costed.application.components.items():
        place = run.predicted.placement[name]
        service = run.costed.services[name][place]
        if run.costed.application.places[place].kind == CPU:
            total += run.costed.rates[name] * service.call_s["p50"] / component.batch * service.cores
    return total


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= NEAR_FRAC * max(a, b)


def stated_costs(comparison: Comparison) -> list[str]:
    """What each function cost, as lines for the application file.

    The median, because other programs lengthen a mean. It includes the way to a process and back; with batches it
    is that of a call divided by its items.
    """
    lines = []
    for row in comparison.rows:
        stage = row.stage
        if stage.service_p50_s is None or row.name in comparison.run.simulated:
            continue
        time_s = stage.service_p50_s / max(stage.batch_mean, 1.0) + stage.transfer_s
        time = f"{time_s * 1e6:.4g}us" if time_s < 1e-3 else f"{time_s * 1e3:.4g}ms"
        batch = f" in batches of {stage.batch_mean:.3g}" if stage.batch_max > 1 else ""
        cores = f", cores = {round(stage.cpu_frac)}" if stage.cpu_frac > 1.5 and time_s > 1e-4 else ""
        source = f"measured alone, median of {stage.calls} calls{batch}"
        lines += [f"[component.{row.name}]", f'cost.{row.place} = {{ time = "{time}"{cores}, source = "{source}" }}']
    return lines


def headline(comparison: Comparison) -> str:
    """One line: items, time, why it ended."""
    measured = comparison.run.measured
    items = next(s.items_out[0] for s in measured.stages if not s.items_in)
    why = {
        "exhausted": "the source had no more",
        "items": "as many as asked for",
        "duration": "the time was up",
        "interrupted": "interrupted",
    }[measured.ended]
    return f"{items:,} items in {format_seconds(measured.elapsed_s)}: {why}"
