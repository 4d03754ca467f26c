"""Rows of words over a bar or an interval: plans that serve, several jobs, what is done when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rigwise.report.figures.axes import even_ticks
from rigwise.report.figures.ranges import Panel, Range, shortened
from rigwise.report.figures.theme import PALETTE
from rigwise.report.figures.timeline import Timeline
from rigwise.report.html import Markup, tag
from rigwise.web.picture.plane import (
    NARROW_PX,
    Scale,
    line,
    picture,
    plain_ticks,
    text,
    tick_seconds,
    tick_usd,
)

_LEFT_PX, _RIGHT_PX, _TOP_PX, _ROW_PX, _AXIS_PX = 6, 10, 22, 38, 52
_CLASS_OF = {colour: f"c-{name}" for name, colour in PALETTE.items()}

Ticks = Callable[[float, int], Sequence[float]]


def dollars(panel: Panel) -> tuple[Panel, Ticks, Callable[[float], str]]:
    """A panel of dollars, for ``ranges``."""
    return panel, _round_dollars, tick_usd


def times(panel: Panel) -> tuple[Panel, Ticks, Callable[[float], str]]:
    """A panel of times, for ``ranges``."""
    return panel, even_ticks, tick_seconds


def _round_dollars(most: float, count: int) -> list[float]:
    return plain_ticks(Scale(low=0.0, high=most, from_px=0, to_px=1), count)


def ranges(panels: Sequence[tuple[Panel, Ticks, Callable[[float], str]]], told: str, width_px: int) -> Markup:
    """Medians and intervals in one panel for each quantity, as ``report.figures.ranges`` draws them.

    Args:
        panels: Each as ``dollars`` or ``times`` gives it.
        told: The picture in words.
        width_px: Of the picture.
    """
    parts: list[Markup | None] = []
    top_px = 0
    for panel, ticks, word in panels:
        most = max([*(max(row.span) for row in panel.rows), panel.limit[0] if panel.limit else 0.0]) or 1.0
        scale = Scale(low=0.0, high=1.04 * most, from_px=_LEFT_PX, to_px=width_px - _RIGHT_PX)
        foot_px = top_px + _TOP_PX + _ROW_PX * len(panel.rows)
        parts.append(_axis(scale, ticks(most, 4 if width_px <= NARROW_PX else 6), word, (top_px, foot_px, panel.title)))
        parts += [_range(row, scale, top_px + _TOP_PX + _ROW_PX * n) for n, row in enumerate(panel.rows)]
        parts += _limit(panel.limit, scale, (top_px, foot_px)) if panel.limit else []
        top_px = foot_px + _AXIS_PX
    return picture(width_px, top_px, told, *parts)


def _axis(scale: Scale, ticks: Sequence[float], word: Callable[[float], str], where: tuple[int, int, str]) -> Markup:
    """Upright grid lines, their words below, and the title of the axis below those."""
    top_px, foot_px, title = where
    parts: list[Markup] = []
    for tick in ticks:
        at = scale.at(tick)
        parts.append(line((at, top_px + _TOP_PX), (at, foot_px), "gridline"))
        kind = "" if at - scale.from_px < 12 else " end" if scale.to_px - at < 12 else " middle"
        parts.append(text((at, foot_px + 16), word(tick), f"tick{kind}"))
    parts.append(line((scale.from_px, foot_px), (scale.to_px, foot_px), "axis"))
    parts.append(text((scale.to_px, foot_px + 33), title, "tick end"))
    return tag("g", *parts, class_="axes")


def _words(words: str, scale: Scale, y_px: float) -> Markup:
    cut = shortened(words, scale.to_px - scale.from_px)
    return text((scale.from_px, y_px), cut, "name")


def _range(row: Range, scale: Scale, top_px: float) -> Markup:
    low, middle, high = (scale.at(value) for value in row.span)
    y_px = top_px + 27
    start = scale.from_px if low == high else low
    sure = line((start, y_px), (high, y_px), "level" if low == high else "span")
    dot = tag("circle", cx=f"{middle:g}", cy=f"{y_px:g}", r="5", class_="dot")
    words = _words(row.text, scale, top_px + 14)
    return tag("g", tag("title", row.text), sure, dot, words, class_="range first" if row.first else "range")


def _limit(limit: tuple[float, str], scale: Scale, where: tuple[int, int]) -> list[Markup]:
    """A dashed line down all rows, its name over it."""
    at, (top_px, foot_px) = scale.at(limit[0]), where
    is_right = at > (scale.from_px + scale.to_px) / 2
    rule = line((at, top_px + 4), (at, foot_px), "rule")
    return [tag("g", rule, text((at + (-6 if is_right else 6), top_px + 14), limit[1], "end" if is_right else ""),
                class_="limits")]  # fmt: skip


def timeline(found: Timeline, told: str, width_px: int) -> Markup:
    """What is done when, as ``report.figures.timeline`` draws it.

    Args:
        found: Rows, bars and ends.
        told: The picture in words.
        width_px: Of the picture.
    """
    scale = Scale(low=0.0, high=1.02 * found.most_s, from_px=_LEFT_PX, to_px=width_px - _RIGHT_PX)
    foot_px = 4 + _ROW_PX * len(found.ends) + 6
    ticks = even_ticks(found.most_s, 4 if width_px <= NARROW_PX else 6)
    parts: list[Markup | None] = [_axis(scale, ticks, tick_seconds, (-_TOP_PX, foot_px, "time from the start"))]
    for number, end in enumerate(found.ends):
        top_px = 4 + _ROW_PX * number
        bars = [_bar(bar, found, scale, top_px + 19) for bar in found.bars if bar["name"] == end["name"]]
        late = line((scale.at(end["low_s"]), top_px + 35), (scale.at(end["high_s"]), top_px + 35), "late")
        words = _words(end["text"], scale, top_px + 14)
        parts.append(tag("g", tag("title", end["text"]), *bars, late, words))
    return picture(width_px, foot_px + 40, told, *parts)


def _bar(bar: Mapping[str, Any], found: Timeline, scale: Scale, y_px: float) -> Markup:
    start, end = scale.at(bar["from_s"]), scale.at(bar["to_s"])
    size = {"x": f"{start:g}", "y": f"{y_px:g}", "width": f"{max(1.0, end - start):g}", "height": "12", "rx": "2"}
    return tag("rect", class_=class_of(found, bar["kind"]), **size)


def class_of(found: Timeline, kind: str) -> str:
    """The class of the style sheet for a kind of bar."""
    return _CLASS_OF[found.kinds[kind]]
