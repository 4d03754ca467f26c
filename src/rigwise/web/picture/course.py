"""Memory over a step, with the limit of the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.report.html import Markup, tag
from rigwise.units import format_bytes
from rigwise.web.picture.plane import Axes, Scale, line, picture, plain_ticks, text, tick_bytes

Document = Mapping[str, Any]
_HEIGHT_PX, _LEFT_PX, _TOP_PX, _BOTTOM_PX = 300, 58, 26, 30

#: Part of a bar -> class of its colour and what the legend calls it.
PARTS = {
    "weights": "weights",
    "optimizer": "optimizer",
    "other": "context, workspace, allocator",
    "saved": "saved for the backward pass",
    "gradients": "gradients",
    "copies": "copies of weights",
    "working": "the operator that runs",
}


def course(document: Document, width_px: int) -> Markup:
    """The course of a ``rigwise.memory/1`` document: a bar for each stretch of the step, in order."""
    moments = [parts_of(document, moment) for moment in document["course"]]
    capacity = document["capacity_bytes"]
    high = 1.12 * max(capacity, *(sum(moment.values()) for moment in moments))
    x = Scale(low=0, high=len(moments), from_px=_LEFT_PX, to_px=width_px - 6)
    y = Scale(low=0, high=high, from_px=_HEIGHT_PX - _BOTTOM_PX, to_px=_TOP_PX)
    axes = Axes(x=x, y=y, x_ticks=(), y_ticks=plain_ticks(y, 6), x_word=str, y_word=tick_bytes)
    bars = [_bar(axes, index, moment, document["course"][index]) for index, moment in enumerate(moments)]
    at = y.at(capacity)
    limit = f"{document['device']} has {format_bytes(capacity)}"
    rule = tag("g", line((x.from_px, at), (x.to_px, at), "rule"), text((x.from_px + 4, at - 6), limit, "name"))
    most = format_bytes(document["peak_memory_bytes"]["p50"])
    told = f"Memory over the step: at most {most} of {format_bytes(capacity)}."
    return picture(width_px, _HEIGHT_PX, told, axes.drawn(), *bars, *_phases(axes, document), rule)


def parts_of(document: Document, moment: Document) -> dict[str, float]:
    """Bytes of each part at one moment; what the driver and the allocator add is that of the peak."""
    peak_bytes = document["peak_memory_bytes"]
    standing = {name: peak_bytes["terms"].get(name, 0.0) for name in ("weights", "optimizer")}
    fields = {name: f"{name}_bytes" for name in ("saved", "gradients", "working")} | {"copies": "weight_copies_bytes"}
    moving = sum(document["peak"][field] for field in fields.values())
    standing["other"] = max(0.0, peak_bytes["p50"] - moving - sum(standing.values()))
    return {name: standing[name] if name in standing else moment[fields[name]] for name in PARTS}


def _bar(axes: Axes, index: int, moment: Mapping[str, float], told: Document) -> Markup:
    left, right = axes.x.at(index + 0.06), axes.x.at(index + 0.94)
    parts, below = [], 0.0
    for name, value in moment.items():
        low, high = axes.y.at(below), axes.y.at(below + value)
        below += value
        if low - high >= 0.2:
            size = {"x": left, "y": high, "width": max(0.5, right - left), "height": low - high}
            parts.append(tag("rect", class_=f"m-{name}", **{key: f"{number:.1f}" for key, number in size.items()}))
    words = f"{told['phase']}, {told['operator']}: {format_bytes(sum(moment.values()))}"
    return tag("g", tag("title", words), *parts)


def _phases(axes: Axes, document: Document) -> list[Markup]:
    """The name of each pass under its first bar."""
    found, before, free_px = [], "", 0.0
    for index, moment in enumerate(document["course"]):
        at = axes.x.at(index)
        if moment["phase"] != before and at >= free_px:
            found.append(text((at, axes.y.from_px + 18), f"{moment['phase']} \N{RIGHTWARDS ARROW}", "tick"))
            free_px = at + 9 * (len(moment["phase"]) + 2)
        before = moment["phase"]
    return found
