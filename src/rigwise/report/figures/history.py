"""Figures that were measured, over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rigwise.report.figures.axes import amount_axis, time_axis
from rigwise.report.figures.theme import BLUE, INK, Figure, altair, chart, dress, dress_panels, panel_px
from rigwise.units import format_count, format_seconds

if TYPE_CHECKING:
    from rigwise.measurement.records import Record


def over_time(series: Mapping[str, Sequence[Record]]) -> Figure:
    """Every series in a panel of its own, by time, with p10 to p90.

    Args:
        series: The records of each, by what it is called.
    """
    count = sum(map(len, series.values()))
    only = next(iter(series)) if len(series) == 1 else f"{len(series)} figures"
    note = f"{count} run{'s' if count != 1 else ''}; a line reaches from p10 to p90 where the run knows them."
    return Figure(title=f"{only} over time", note=note, draw=lambda width_px: _draw(series, width_px))


def _draw(series: Mapping[str, Sequence[Record]], width_px: int) -> Any:
    alt = altair()
    if len(series) == 1:
        (found,) = series.values()
        return dress(_panel(alt, found), width_px, 220)
    panels = [
        _panel(alt, found).properties(
            title=alt.TitleParams(name, anchor="start", color=INK, fontSize=12), width=panel_px(width_px), height=140
        )
        for name, found in series.items()
    ]
    return dress_panels(alt.vconcat(*panels), width_px)


def _panel(alt: Any, found: Sequence[Record]) -> Any:
    unit = found[0].unit or "ratio"
    is_time = unit == "s"
    rows = [
        {
            "when": record.when,
            "value": record.value,
            "low": record.value if record.p10 is None else record.p10,
            "high": record.value if record.p90 is None else record.p90,
            "text": format_seconds(record.value) if is_time else format_count(record.value, unit),
        }
        for record in found
    ]
    axis = time_axis() if is_time else amount_axis()
    y = alt.Y("value:Q", title="time" if is_time else unit, scale=alt.Scale(zero=False), axis=axis)
    days = len({record.when[:10] for record in found})
    x = alt.X("when:T", title=None, axis=alt.Axis(format="%Y-%m-%d" if days > 2 else "%m-%d %H:%M"))
    low = alt.Y("low:Q", title="time" if is_time else unit, scale=alt.Scale(zero=False), axis=axis)
    rule = chart(rows).mark_rule(color=BLUE, opacity=0.5, strokeWidth=2).encode(x=x, y=low, y2="high:Q")
    tips = [alt.Tooltip("text:N", title="measured"), alt.Tooltip("when:T", format="%Y-%m-%d %H:%M")]
    points = chart(rows).mark_circle(color=BLUE, size=60, opacity=1).encode(x=x, y=y, tooltip=tips)
    return alt.layer(rule, points)
