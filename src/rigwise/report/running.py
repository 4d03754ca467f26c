"""A run of an application beside its prediction, as text."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import fill

from rigwise.execute.comparison import Comparison, ComponentRow, headline, stated_costs
from rigwise.units import format_count, format_fraction, format_seconds

_NAME_WIDTH = 16


def run_text(comparison: Comparison, *, brief: bool = False) -> str:
    """What was predicted and measured, and why they differ; without the components if ``brief``."""
    lines = [f"{comparison.run.costed.application.name}: {headline(comparison)}"]
    if comparison.run.simulated:
        lines.append(f"simulated, these only slept: {', '.join(comparison.run.simulated)}")
    lines += ["", *(_alone(comparison) if comparison.run.alone else _rates(comparison))]
    if not brief:
        lines += ["", *_components(comparison)]
    if comparison.differences:
        lines += ["", "Mind" if comparison.run.alone else "Where they differ", *map(_wrapped, comparison.differences)]
    if comparison.run.assumed and not brief:
        lines += ["", "Assumed", *map(_wrapped, comparison.run.assumed)]
    return "\n".join(lines) + "\n"


def _rates(comparison: Comparison) -> Iterator[str]:
    run, rate = comparison.run, comparison.throughput_measured_per_s
    predicted = run.predicted.throughput_per_s["p50"]
    yield f"{'':14}{'predicted':>14}{'measured':>14}"
    ratio = "" if rate is None else f"   {rate / predicted:.2f} of the prediction"
    yield f"{'throughput':14}{_rate(predicted):>14}{_rate(rate):>14}{ratio}"
    latency, queues = comparison.latency_measured_s, comparison.in_queues_s
    tail = f"   p90 {_time(comparison.latency_p90_s)}; {_time(queues)} in queues"
    yield f"{'latency':14}{_time(run.predicted.latency_s['p50']):>14}{_time(latency):>14}{tail}"
    yield f"bottleneck    predicted {comparison.bottleneck_predicted}, measured {comparison.bottleneck_measured}"


def _alone(comparison: Comparison) -> Iterator[str]:
    yield "One call at a time: what each function costs by itself, for the file"
    yield ""
    yield from stated_costs(comparison)


def _components(comparison: Comparison) -> Iterator[str]:
    width = min(_NAME_WIDTH, max(9, *(len(row.name) for row in comparison.rows)))
    yield f"{'':{width}}  {'':11}  {'time of one item':>21}  {'part of the time':>18}   {'queue'}"
    yield (
        f"{'component':{width}}  {'workers':11}  {'predicted':>10} {'measured':>10}"
        f"  {'busy':>5} {'idle':>5} {'held':>6}   mean max"
    )
    for row in comparison.rows:
        yield _component(row, width)


def _component(row: ComponentRow, width: int) -> str:
    stage = row.stage
    queue = f"{stage.queue_mean:4.1f} {stage.queue_max:3}/{stage.queue_capacity}" if stage.queue_capacity else ""
    return (
        f"{row.name[:width]:{width}}  {f'{stage.workers} {stage.run}':11}"
        f"  {_time(row.item_predicted_s):>10} {_time(row.item_measured_s):>10}"
        f"  {format_fraction(stage.busy_frac):>5} {format_fraction(stage.starved_frac):>5}"
        f" {format_fraction(stage.blocked_frac):>6}   {queue}"
    ).rstrip()


def _wrapped(sentence: str) -> str:
    return fill(sentence, 80, initial_indent="  ", subsequent_indent="    ")


def _rate(value: float | None) -> str:
    return "-" if value is None else format_count(value) + " /s"


def _time(value: float | None) -> str:
    return "-" if value is None else format_seconds(value)
