"""The roofline of a device with the kinds of operators of a step on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

from rigwise.report.figures.axes import decimal_ticks
from rigwise.report.figures.label import Box, around, spread
from rigwise.report.html import Markup, tag
from rigwise.units import format_count, format_seconds
from rigwise.web.picture.plane import NARROW_PX, Axes, Scale, beside, path, picture, text, tick_count

Document = Mapping[str, Any]
_HEIGHT_PX, _LEFT_PX, _TOP_PX, _BOTTOM_PX = 320, 62, 26, 44
_SMALLEST_PX, _LARGEST_PX = 4.0, 13.0
_LETTER_PX = 6.6


def roofline(document: Document, bytes_per_s: float, width_px: int) -> Markup | None:
    """Rate of arithmetic against intensity of each kind of operator; None if none has multiply-adds.

    Args:
        document: A ``rigwise.predict/1`` document.
        bytes_per_s: Bandwidth of the device's memory.
        width_px: Width of the picture.
    """
    kinds = [kind for kind in document["by_kind"] if kind["flops"] and kind["bytes"] and kind["time_s"]]
    count, time_s = document["case"]["count"], document["step_time_s"]["p50"]
    if not kinds or not document["mfu"]:
        return None
    peak = document["flops"] / count / document["mfu"] / time_s
    points = [_point(kind, time_s) for kind in kinds]
    axes = _axes(points, peak, bytes_per_s, width_px)
    ridge = peak / bytes_per_s
    low = max(axes.x.low, axes.y.low / bytes_per_s)
    corners = [(low, low * bytes_per_s), (ridge, peak), (axes.x.high, peak)]
    placed = [(axes.x.at(x), axes.y.at(y)) for x, y in corners]
    roof = text(
        (axes.x.to_px, axes.y.at(peak) - 8), f"{format_count(peak, 'FLOP/s')} {document['case']['dtype']}", "end"
    )
    slope, covered = _slope(axes, (low * ridge) ** 0.5, bytes_per_s)
    parts = [axes.drawn("FLOP per byte", "FLOP/s"), path(placed, "roof"), roof, slope]
    parts += [_dot(axes, point) for point in points]
    parts += _names(axes, points, placed, covered)
    words = ", ".join(f"{point['name']} limited by {point['binds']}" for point in points)
    return picture(width_px, _HEIGHT_PX, f"Roofline of {document['device']}: {words}.", *parts)


def _point(kind: Document, step_s: float) -> dict[str, Any]:
    return {
        "name": kind["kind"],
        "x": kind["flops"] / kind["bytes"],
        "y": kind["flops"] / kind["time_s"],
        "binds": kind["binds"] or "memory",
        "share": min(1.0, kind["time_s"] / step_s),
        "time": format_seconds(kind["time_s"]),
    }


def _axes(points: Sequence[Document], peak: float, bytes_per_s: float, width_px: int) -> Axes:
    xs, ys = [peak / bytes_per_s, *(p["x"] for p in points)], [peak, *(p["y"] for p in points)]
    x = Scale(low=min(xs) / 4, high=max(xs) * 4, from_px=_LEFT_PX, to_px=width_px - 14, kind="log")
    low = min(peak / 100, min(ys) / 3)
    y = Scale(low=low, high=max(ys) * 2.2, from_px=_HEIGHT_PX - _BOTTOM_PX, to_px=_TOP_PX, kind="log")
    ticks = decimal_ticks(x.low, x.high)
    x_ticks = ticks[:: -(-len(ticks) // (5 if width_px <= NARROW_PX else 9))]
    y_ticks = [10.0**e for e in range(22) if y.low <= 10.0**e <= y.high]
    return Axes(x=x, y=y, x_ticks=x_ticks, y_ticks=y_ticks, x_word="{:g}".format, y_word=tick_count)


def _radius_px(point: Document) -> float:
    return max(_SMALLEST_PX, _LARGEST_PX * sqrt(point["share"]))


def _dot(axes: Axes, point: Document) -> Markup:
    words = f"{point['name']}: {point['time']}, {format_count(point['y'], 'FLOP/s')}, limited by {point['binds']}"
    at = {"cx": f"{axes.x.at(point['x']):g}", "cy": f"{axes.y.at(point['y']):g}", "r": f"{_radius_px(point):.1f}"}
    return tag("circle", tag("title", words), class_=f"point {point['binds']}", **at)


def _slope(axes: Axes, intensity: float, bytes_per_s: float) -> tuple[Markup, Box]:
    """The bandwidth in words, and what they cover: over the slope, or below it where there is no room before it."""
    x, y = axes.x.at(intensity), axes.y.at(intensity * bytes_per_s)
    words = f"memory {format_count(bytes_per_s, 'B/s')}"
    wide = _LETTER_PX * len(words)
    if x - axes.x.from_px > wide:
        return text((x - 8, y - 8), words, "end"), (x - 8 - wide, y - 20, x - 8, y - 4)
    return text((x + 12, y + 18), words, ""), (x + 12, y + 6, x + 12 + wide, y + 22)


def _names(axes: Axes, points: Sequence[Document], roof: Sequence[tuple[float, float]], covered: Box) -> list[Markup]:
    """The names of the points, beside the roof, its words and the points."""
    plane, left, top = axes.plane(), axes.x.from_px, axes.y.to_px
    taken = [around(plane.at(p["x"], p["y"]), _radius_px(p)) for p in points]
    for (x, y), (to_x, to_y) in pairwise(roof):
        taken += [around((x + (to_x - x) * n / 40 - left, y + (to_y - y) * n / 40 - top), 3) for n in range(41)]
    taken.append((covered[0] - left, covered[1] - top, covered[2] - left, covered[3] - top))
    end, high = roof[-1]
    taken.append((end - left - 20 * _LETTER_PX, high - top - 22, end - left, high - top))
    wanted = [(p["x"], p["y"], p["name"]) for p in points]
    places = spread(wanted, plane, taken=taken)
    at = [(axes.x.at(p["x"]), axes.y.at(p["y"])) for p in points]
    return [
        beside(where, place, point["name"]) for where, place, point in zip(at, places, points, strict=True) if place
    ]
