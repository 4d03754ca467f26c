"""Pictures of ``docs/accuracy.md``: predicted against measured, errors by group, coverage of the intervals.

Every function takes plain rows and returns an Altair chart; ``png`` draws it without a browser.

Source of the colours: Okabe & Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rigwise.report.figures.save import vl_convert
from rigwise.report.figures.theme import altair, chart

Plain = Mapping[str, Any]

_COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00"),
    *("#56b4e9", "#999999", "#000000", "#661100", "#f0e442"),
)
_WIDTH_PX = 640


def scatter(points: Sequence[Plain]) -> Any:
    """Predicted against measured seconds, both logarithmic, with the diagonal and a factor of 1.5 either way.

    Args:
        points: ``measured_s``, ``predicted_s`` and ``source`` of each row.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = altair()
    low = min(min(p["measured_s"], p["predicted_s"]) for p in points)
    high = max(max(p["measured_s"], p["predicted_s"]) for p in points)
    scale = alt.Scale(type="log", domain=[low * 0.8, high * 1.25], nice=False)
    axis = alt.Axis(values=[10.0**e for e in range(-9, 6)], format="~e")
    x = alt.X("measured_s:Q", title="measured (s)", scale=scale, axis=axis)
    y = alt.Y("predicted_s:Q", title="predicted (s)", scale=scale, axis=axis)
    sources = sorted({p["source"] for p in points})
    colour = alt.Color(
        "source:N", title=None, scale=alt.Scale(domain=sources, range=[*_COLOURS, *_COLOURS][: len(sources)])
    )
    dots = chart(points).mark_circle(size=14, opacity=0.35).encode(x=x, y=y, color=colour)
    ends = [
        {"measured_s": at, "predicted_s": min(max(at * by, low * 0.8), high * 1.25), "by": by}
        for by in (1 / 1.5, 1.0, 1.5)
        for at in (max(low * 0.8, low * 0.8 / by), min(high * 1.25, high * 1.25 / by))
    ]
    lines = chart(ends).mark_line(color="#555555", strokeWidth=1)
    dash = alt.condition(alt.datum.by == 1, alt.value([1, 0]), alt.value([4, 4]))
    return _dress(alt.layer(lines.encode(x=x, y=y, detail="by:N", strokeDash=dash), dots), _WIDTH_PX, 460)


def errors(rows: Sequence[Plain]) -> Any:
    """Geometric error of each predictor in each group, on a logarithmic axis.

    Args:
        rows: ``group``, ``predictor`` and ``error_frac`` of each.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = altair()
    groups = list(dict.fromkeys(row["group"] for row in rows))
    predictors = list(dict.fromkeys(row["predictor"] for row in rows))
    colour = alt.Scale(domain=predictors, range=list(_COLOURS[: len(predictors)]))
    shapes = ["diamond", "circle", "square", "triangle-up", "triangle-down", "cross"][: len(predictors)]
    marks = (
        chart(rows)
        .mark_point(filled=True, size=70, opacity=0.85)
        .encode(
            x=alt.X(
                "error_frac:Q",
                title="geometric error",
                scale=alt.Scale(type="log"),
                axis=alt.Axis(format="~%", values=[0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]),
            ),
            y=alt.Y("group:N", title=None, sort=groups, axis=alt.Axis(labelLimit=300)),
            color=alt.Color("predictor:N", title=None, scale=colour),
            shape=alt.Shape("predictor:N", title=None, scale=alt.Scale(domain=predictors, range=shapes)),
        )
    )
    return _dress(marks, _WIDTH_PX, 24 * len(groups))


def coverage(rows: Sequence[Plain]) -> Any:
    """Share of rows inside the interval of each nominal level; on the diagonal it holds what it says.

    Args:
        rows: ``group``, ``nominal_frac`` and ``inside_frac`` of each point.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = altair()
    groups = sorted({row["group"] for row in rows})
    axis = alt.Axis(format="~%")
    scale = alt.Scale(domain=[0, 1])
    x = alt.X("nominal_frac:Q", title="nominal level", scale=scale, axis=axis)
    y = alt.Y("inside_frac:Q", title="rows inside", scale=scale, axis=axis)
    colour = alt.Scale(domain=groups, range=[*_COLOURS, *_COLOURS][: len(groups)])
    lines = chart(rows).mark_line(point=True).encode(x=x, y=y, color=alt.Color("group:N", title=None, scale=colour))
    ideal = chart([{"nominal_frac": v, "inside_frac": v} for v in (0, 1)])
    return _dress(
        alt.layer(ideal.mark_line(color="#555555", strokeDash=[4, 4]).encode(x=x, y=y), lines), _WIDTH_PX, 400
    )


def png(chart: Any) -> bytes:
    """The chart as a PNG picture on white.

    Raises:
        MissingExtraError: vl-convert is not installed.
    """
    drawn: bytes = vl_convert().vegalite_to_png(chart.to_dict(validate=False), scale=1.25)
    return deflated(drawn)


def deflated(picture: bytes) -> bytes:
    """The same PNG, its pixels packed as tightly as zlib can: a quarter of what the drawing library writes.

    Source: ISO/IEC 15948 (PNG), sections 5.3 and 11.2.4: chunks, and image data as one zlib stream.
    """
    import struct
    import zlib

    start, pixels, before, after = 8, b"", b"", b""
    while start < len(picture):
        length, kind = struct.unpack(">I4s", picture[start : start + 8])
        chunk = picture[start : start + 12 + length]
        if kind == b"IDAT":
            pixels += chunk[8:-4]
        elif pixels:
            after += chunk
        else:
            before += chunk
        start += 12 + length
    body = b"IDAT" + zlib.compress(zlib.decompress(pixels), 9)
    packed = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return picture[:8] + before + packed + after


def _dress(chart: Any, width_px: int, height_px: int) -> Any:
    return (
        chart.properties(width=width_px, height=height_px, background="white", padding=12)
        .configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(gridColor="#dddddd", labelFontSize=12, titleFontSize=12, titleFontWeight="normal")
        .configure_legend(labelFontSize=12, symbolOpacity=1)
    )
