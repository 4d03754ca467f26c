"""Rows of medians and intervals, in one panel for each quantity: words over the line, a limit across all rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.report.figures.theme import (
    BLUE,
    NO_LABELS_PX,
    STRONG,
    VERMILLION,
    altair,
    chart,
    dress_panels,
    panel_px,
    words,
)

_ROW_PX = 38
_LETTER_PX = 6.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """One row: ``span`` is p10, p50 and p90 in the unit of its axis, ``text`` says them in words."""

    name: str
    text: str
    span: tuple[float, float, float]
    first: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One quantity of all rows.

    Attributes:
        title: Of the axis, with the unit if its ticks do not say it.
        rows: From the top.
        axis: The largest figure -> an axis.
        limit: What the rows must stay below, and what that is called; None for none.
    """

    title: str
    rows: Sequence[Range]
    axis: Callable[[float], Any]
    limit: tuple[float, str] | None = None


def draw_panels(panels: Sequence[Panel], width_px: int) -> Any:
    """All panels, one over the other, each from zero."""
    alt = altair()
    drawn = [_panel(alt, panel, panel_px(width_px, NO_LABELS_PX)) for panel in panels]
    return dress_panels(alt.vconcat(*drawn, spacing=18), width_px, NO_LABELS_PX)


def quantiles_row(name: str, text: str, values: Mapping[str, float], *, first: bool = False) -> Range:
    """The row of ``p10``, ``p50`` and ``p90``."""
    return Range(name=name, text=text, span=(values["p10"], values["p50"], values["p90"]), first=first)


def shortened(text: str, width_px: float) -> str:
    """The text, cut where it would not fit the width."""
    most = int(width_px / _LETTER_PX)
    return text if len(text) <= most else text[: most - 1].rstrip(" ,") + "…"


def _panel(alt: Any, panel: Panel, width_px: int) -> Any:
    rows = [
        {
            **{"name": row.name, "whole": row.text, "text": shortened(row.text, width_px), "zero": 0.0},
            **dict(zip(("low", "middle", "high"), row.span, strict=True)),
            "colour": VERMILLION if row.first else BLUE,
        }
        for row in panel.rows
    ]
    most = max([*(row.span[2] for row in panel.rows), panel.limit[0] if panel.limit else 0.0]) or 1.0
    scale = alt.Scale(domain=[0, 1.04 * most], nice=False)
    x, at, zero = (
        alt.X(f"{field}:Q", title=panel.title, axis=panel.axis(most), scale=scale)
        for field in ("low", "middle", "zero")
    )
    y = alt.Y("name:N", title=None, sort=[row.name for row in panel.rows], axis=None, scale=alt.Scale(padding=0))
    colour = alt.Color("colour:N", scale=None)
    tooltip = [alt.Tooltip("whole:N", title="what")]
    lines = chart(rows).mark_rule(strokeWidth=4, opacity=0.55, yOffset=9).encode(x=x, x2="high:Q", y=y, color=colour)
    marks = (
        chart(rows)
        .mark_point(filled=True, size=80, opacity=1, yOffset=9)
        .encode(x=at, y=y, color=colour, tooltip=tooltip)
    )
    sure = chart([row for row in rows if row["low"] == row["high"]]).mark_rule(strokeWidth=1.5, yOffset=9)
    layers = [sure.encode(x=zero, x2="middle:Q", y=y, color=colour), lines, marks]
    if panel.limit is not None:
        layers += _limit(alt, panel.limit, x, is_right=panel.limit[0] > 0.5 * most)
    return alt.layer(*layers, *words(rows, {"x": alt.value(2), "y": y}, dy=-7)).properties(
        width=width_px, height=_ROW_PX * len(rows)
    )


def _limit(alt: Any, limit: tuple[float, str], x: Any, *, is_right: bool) -> list[Any]:
    """A dashed line down all rows, its name over it."""
    row = [{"low": limit[0], "text": limit[1]}]
    place = {"align": "right", "dx": -5} if is_right else {"align": "left", "dx": 5}
    rule = chart(row).mark_rule(color=STRONG, strokeDash=[5, 4]).encode(x=x)
    text = chart(row).mark_text(color=STRONG, fontSize=12, fontWeight="bold", dy=-7, **place)
    return [rule, text.encode(x=x, y=alt.value(0), text="text:N")]
