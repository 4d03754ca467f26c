"""Predicted against measured time, both logarithmic, with the diagonal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rigwise.report.figures.axes import spread_ticks
from rigwise.report.html import Markup, tag
from rigwise.units import format_seconds
from rigwise.web.picture.plane import NARROW_PX, Axes, Scale, line, picture, tick_seconds

_LEFT_PX, _TOP_PX, _BOTTOM_PX = 58, 26, 44

#: Lines of over- and under-prediction beside the diagonal.
_FACTOR = 1.5


def predicted_against_measured(points: Sequence[Mapping[str, Any]], width_px: int) -> Markup:
    """A point for each of ``points``: ``measured_s``, ``predicted_s`` and ``words``; at least one."""
    height_px = 340 if width_px <= NARROW_PX else 420
    values = [point[key] for point in points for key in ("measured_s", "predicted_s")]
    low, high = min(values) / 1.3, max(values) * 1.3
    x = Scale(low=low, high=high, from_px=_LEFT_PX, to_px=width_px - 14, kind="log")
    y = Scale(low=low, high=high, from_px=height_px - _BOTTOM_PX, to_px=_TOP_PX, kind="log")
    ticks = spread_ticks(low, high)
    few = ticks[:: -(-len(ticks) // 4)] if width_px <= NARROW_PX else ticks
    axes = Axes(x=x, y=y, x_ticks=few, y_ticks=ticks, x_word=tick_seconds, y_word=tick_seconds)
    lines = []
    for by in (1 / _FACTOR, 1.0, _FACTOR):
        ends = [(x.at(at), y.at(at * by)) for at in (max(low, low / by), min(high, high / by))]
        lines.append(line(ends[0], ends[1], "axis" if by == 1.0 else "rule"))
    dots = [_dot(x.at(point["measured_s"]), y.at(point["predicted_s"]), _words(point)) for point in points]
    told = f"Predicted against measured time of {len(points)} steps and operators."
    return picture(width_px, height_px, told, axes.drawn("measured", "predicted"), *lines, *dots)


def _dot(x: float, y: float, words: str) -> Markup:
    return tag("circle", tag("title", words), cx=f"{x:g}", cy=f"{y:g}", r="5", class_="dot")


def _words(point: Mapping[str, Any]) -> str:
    times = (format_seconds(point[key]) for key in ("measured_s", "predicted_s"))
    return f"{point['words']}: measured {next(times)}, predicted {next(times)}"
