"""A time split by what binds it, as a bar that takes whatever width its place has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.report.html import Markup, tag

#: Limits in the order of the bars and of the legend.
LIMITS = ("compute", "memory", "launch", "network", "input")


def bar(answer: Mapping[str, Any], most_s: float, label: str) -> Markup:
    """The step time of one ``rigwise.predict/1`` document, with a thin line from p10 to p90 below it.

    Args:
        answer: The document.
        most_s: Time at the right end, the same for all bars of a table.
        label: The same in words.
    """
    time, start = answer["step_time_s"], 0.0
    parts = []
    for limit in LIMITS:
        width = 1000 * answer["binds"].get(limit, 0.0) * time["p50"] / most_s
        if width > 0:
            parts.append(_block(start, 0, width, 14, limit))
            start += width
    low, high = (1000 * time[p] / most_s for p in ("p10", "p90"))
    parts.append(_block(low, 17, max(2.0, high - low), 2, "spread"))
    sized = {"viewBox": "0 0 1000 20", "preserveAspectRatio": "none", "width": "100%", "height": "20"}
    return tag("svg", *parts, role="img", aria_label=label, class_="bar", **sized)


def _block(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    size = {"x": f"{x:.1f}", "y": f"{y:g}", "width": f"{width:.1f}", "height": f"{height:g}"}
    return tag("rect", class_=kind, **size)


def interval(low: float, middle: float, high: float) -> Markup:
    """p10 to p90 and the median, from zero to a quarter beyond the higher of p90 and the median."""
    most = 1.25 * max(high, middle)
    ends = [1000 * max(0.0, value) / most for value in (low, high)]
    parts = [
        _block(0, 5, 1000, 1, "track"),
        _block(ends[0], 3, max(4.0, ends[1] - ends[0]), 5, "compute"),
        _block(1000 * max(0.0, middle) / most - 3, 0, 6, 11, "spread"),
    ]
    sized = {"viewBox": "0 0 1000 11", "preserveAspectRatio": "none", "width": "100%", "height": "11"}
    return tag("svg", *parts, aria_hidden="true", class_="bar interval", **sized)
