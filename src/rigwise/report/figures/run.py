"""A run beside its prediction."""

from __future__ import annotations

from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import bytes_axis, round_times
from rigwise.report.figures.judged import predicted_against_measured
from rigwise.report.figures.ranges import Panel, Range, draw_panels, quantiles_row
from rigwise.report.figures.theme import Document, Figure
from rigwise.units import format_bytes, format_count, format_seconds


def command_run(document: Document) -> Figure:
    """Step time and memory of a ``rigwise.run.command/1`` document, predicted and measured.

    Raises:
        UnsupportedError: The command reported no step.
    """
    found = document["measured"]
    if not found["steps"]:
        raise UnsupportedError(
            "the command reported no step, so there is nothing to draw", hint="its loop must use rigwise.monitor"
        )
    note = f"{found['steps']:,} steps. Marks are medians, lines reach from p10 to p90."
    note += "".join(f" {sentence}" for sentence in document["differences"][:1])
    predicted = document["predicted"]
    what = f"{predicted['case']['model']} on {predicted['device']}" if predicted else document["id"]
    title = f"A step of {what}: predicted and measured" if predicted else f"Steps of run {what}"
    return Figure(title=title, note=note, draw=lambda width_px: draw_panels(_panels(document), width_px))


def _panels(document: Document) -> list[Panel]:
    found, predicted = document["measured"], document["predicted"] or {}
    times = [_time("predicted", predicted["step_time_s"])] if predicted else []
    times.append(_time("measured", found["step_time_s"]))
    panels = [Panel(title="time of a step", rows=times, axis=round_times)]
    held = found["gpu_bytes"] or found["memory_bytes"]
    if predicted and held:
        memory = [_memory("predicted", predicted["peak_memory_bytes"])]
        whose = "(GPU)" if found["gpu_bytes"] else "(whole process)"
        memory.append(_memory(f"measured {whose}", dict.fromkeys(("p10", "p50", "p90"), held)))
        panels.append(Panel(title="memory", rows=memory, axis=lambda most: bytes_axis()))
    return panels


def _time(name: str, values: Any) -> Range:
    text = f"{name}: {format_seconds(values['p50'])}"
    return quantiles_row(name, text, values, first=name == "measured")


def _memory(name: str, values: Any) -> Range:
    return quantiles_row(name, f"{name}: {format_bytes(values['p50'])}", values, first=name != "predicted")


def application_run(document: Document) -> Figure:
    """The components of a ``rigwise.run/1`` document: the time of an item, predicted against measured.

    Raises:
        UnsupportedError: None was both measured and predicted.
    """
    points = [
        {
            "source": one["name"],
            "measured_s": one["item_s"]["measured"] or 0.0,
            "predicted_s": one["item_s"]["predicted"] or 0.0,
        }
        for one in document["components"]
    ]
    figure = predicted_against_measured(points, "components")
    rates = document["throughput_per_s"]
    told = ", ".join(
        f"{format_count(rates[name]['p50'] if isinstance(rates[name], dict) else rates[name])} {name}"
        for name in ("predicted", "measured")
        if rates[name]
    )
    note = f"Each point is the time of an item in one component of {document['application']}. "
    note += f"Items a second: {told}. {figure.note}"
    return Figure(title=figure.title, note=note, draw=figure.draw)
