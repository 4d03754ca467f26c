"""Predicted against measured time, both logarithmic, with the diagonal."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from statistics import median
from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import spread_ticks, time_axis
from rigwise.report.figures.theme import INK, NARROW_BELOW_PX, SERIES, Document, Figure, altair, chart, dress
from rigwise.units import format_fraction, format_seconds

#: Lines of over- and under-prediction that are drawn beside the diagonal.
_FACTOR = 1.5
#: Points that may be drawn larger.
_FEW = 60
_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down", "triangle-right", "triangle-left")


def predicted_against_measured(points: Sequence[Document], what: str = "steps") -> Figure:
    """A point for each of ``points``: ``measured_s``, ``predicted_s`` and ``source``.

    Args:
        points: What was measured and what was predicted for it.
        what: What was timed, in the plural.

    Raises:
        UnsupportedError: There is none with both above zero.
    """
    kept = [point for point in points if point["measured_s"] > 0 and point["predicted_s"] > 0]
    if not kept:
        raise UnsupportedError("nothing was both measured and predicted, so there is nothing to draw")
    off = [abs(log(point["predicted_s"] / point["measured_s"])) for point in kept]
    error = format_fraction(exp(median(off)) - 1)
    within = format_fraction(sum(one <= log(_FACTOR) for one in off) / len(off))
    note = (
        f"Half of them are off by less than {error}; {within} lie between the dashed lines, which stand for "
        f"{_FACTOR} times too long and too short. Above the diagonal the prediction is too long."
    )
    title = f"Predicted against measured time of {len(kept):,} {what}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(kept, width_px))


def _draw(points: Sequence[Document], width_px: int) -> Any:
    alt = altair()
    values = [point[key] for point in points for key in ("measured_s", "predicted_s")]
    low, high = min(values) * 0.8, max(values) * 1.25
    scale, axis = alt.Scale(type="log", domain=[low, high], nice=False), time_axis(spread_ticks(low, high))
    x = alt.X("measured_s:Q", title="measured time", scale=scale, axis=axis)
    y = alt.Y("predicted_s:Q", title="predicted time", scale=scale, axis=axis)
    sources = sorted({point["source"] for point in points})
    looks = range(len(sources))
    legend = alt.Legend(orient="top", columns=3 if width_px > NARROW_BELOW_PX else 1, labelLimit=300, symbolLimit=60)
    colours = alt.Scale(domain=sources, range=[SERIES[i % len(SERIES)] for i in looks])
    shapes = alt.Scale(domain=sources, range=[_SHAPES[(i // len(SERIES) + i) % len(_SHAPES)] for i in looks])
    rows = [
        {**point, "measured": format_seconds(point["measured_s"]), "predicted": format_seconds(point["predicted_s"])}
        for point in points
    ]
    dots = (
        chart(rows)
        .mark_point(filled=True, size=34 if len(points) > _FEW else 90, opacity=0.6 if len(points) < 500 else 0.3)
        .encode(
            x=x,
            y=y,
            color=alt.Color("source:N", title=None, scale=colours, legend=legend),
            shape=alt.Shape("source:N", title=None, scale=shapes, legend=legend),
            tooltip=[alt.Tooltip(f"{field}:N") for field in ("source", "measured", "predicted")],
        )
    )
    return dress(alt.layer(*_diagonals(alt, (low, high), x, y), dots), width_px, 400)


def _diagonals(alt: Any, ends: tuple[float, float], x: Any, y: Any) -> list[Any]:
    low, high = ends
    lines = []
    for by in (1 / _FACTOR, 1.0, _FACTOR):
        rows = [{"measured_s": at, "predicted_s": at * by} for at in (max(low, low / by), min(high, high / by))]
        lines.append(chart(rows).mark_line(color=INK, strokeWidth=1, strokeDash=[1, 0] if by == 1 else [5, 4]))
    return [line.encode(x=x, y=y) for line in lines]
