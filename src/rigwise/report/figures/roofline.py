"""The roofline of a device with the operators of a model on it.

The roof is the lesser of the dense peak and bandwidth times intensity. Only operators with
multiply-adds have a place: the others move bytes and reach no rate of arithmetic.

Source: Williams, Waterman & Patterson, "Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rigwise.errors import MissingFactError, UnsupportedError
from rigwise.report.figures.axes import amount_axis, decimal_ticks
from rigwise.report.figures.label import Place, Plane, around, spread, word_box
from rigwise.report.figures.theme import (
    COLOUR_OF_LIMIT,
    INK,
    NARROW_BELOW_PX,
    PAPER,
    SHAPE_OF_LIMIT,
    Document,
    Figure,
    altair,
    chart,
    dress,
)
from rigwise.units import format_count, format_fraction, format_seconds

_HEIGHT_PX = 380
_MOST_NAMED = 6
_SMALLEST_PX2, _LARGEST_PX2 = 30.0, 420.0


def roofline(document: Document, operators: Sequence[Document] = ()) -> Figure:
    """Rate of arithmetic against intensity, a point for each operator, as large as its time.

    Args:
        document: A ``rigwise.predict/1`` document.
        operators: ``name``, ``flops``, ``bytes``, ``time_s`` and ``binds`` of each operator on one device;
            the kinds of operators of the document if there are none.

    Raises:
        MissingFactError: The bandwidth of the device is not known.
        UnsupportedError: No operator has multiply-adds.
    """
    rows = operators or [{"name": kind["kind"], **kind} for kind in document["by_kind"]]
    points = [_point(row) for row in rows if row["flops"] and row["bytes"] and row["time_s"]]
    if not points:
        raise UnsupportedError("no operator of this step has multiply-adds, so a roofline has nothing to show")
    case, time_s = document["case"], document["step_time_s"]["p50"]
    bytes_per_s = _bandwidth(document)
    peak = document["flops"] / case["count"] / document["mfu"] / time_s if document["mfu"] else 0.0
    peak = peak or max(point["rate"] for point in points)
    shown_s = sum(point["time_s"] for point in points)
    note = (
        f"{case['task'].capitalize()}, batch {case['batch']}, {case['dtype']}, {format_seconds(time_s)} a step. "
        f"These operators take {format_fraction(min(1.0, shown_s / time_s))} of it; the rest has no multiply-adds. "
        "A larger point takes longer; the nearer to the roof, the better used."
    )
    if any(point["rate"] > 1.01 * min(peak, point["intensity"] * bytes_per_s) for point in points):
        note += " What stands over it keeps data in cache, runs above the clock of the data sheet, or is a convolution"
        note += " that a transform spares products."
    roof = (peak, bytes_per_s, str(case["dtype"]))
    title = f"Roofline of {document['device']} with the operators of {case['model']}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(points, roof, width_px))


def _point(row: Document) -> dict[str, Any]:
    rate, intensity = row["flops"] / row["time_s"], row["flops"] / row["bytes"]
    words = {"rate_text": format_count(rate, "FLOP/s"), "intensity_text": f"{intensity:,.3g} FLOP/byte"}
    binds = row["binds"] or "memory"
    head = {"name": row["name"], "binds": binds, "time_s": row["time_s"], "time": format_seconds(row["time_s"])}
    return head | {"rate": rate, "intensity": intensity} | words


def _bandwidth(document: Document) -> float:
    from rigwise.machine.this import resolve_device

    found = resolve_device(document["case"]["device"]).memory_bytes_per_s
    if not found:
        raise MissingFactError(f"the bandwidth of {document['device']} is not known, so it has no roofline")
    return float(found)


def _draw(points: Sequence[Document], roof: tuple[float, float, str], width_px: int) -> Any:
    alt = altair()
    peak, bytes_per_s, dtype = roof
    ridge = peak / bytes_per_s
    xs, ys = [ridge, *(p["intensity"] for p in points)], [peak, *(p["rate"] for p in points)]
    x_range, y_range = (min(xs) / 4, max(xs) * 4), (min(peak / 30, min(ys) / 3), max(ys) * 2.2)
    wide = width_px > NARROW_BELOW_PX
    x = alt.X(
        "intensity:Q",
        title="arithmetic intensity (FLOP per byte of memory traffic)" if wide else "FLOP per byte",
        scale=alt.Scale(type="log", domain=x_range, nice=False),
        axis=alt.Axis(values=decimal_ticks(*x_range), format="~g"),
    )
    powers = [10.0**e for e in range(22) if y_range[0] <= 10.0**e <= y_range[1]]
    y = alt.Y(
        "rate:Q",
        title=None,
        scale=alt.Scale(type="log", domain=y_range, nice=False),
        axis=amount_axis("FLOP/s", values=powers),
    )
    low = max(x_range[0], y_range[0] / bytes_per_s)
    corners = ((low, low * bytes_per_s), (ridge, peak), (x_range[1], peak))
    line = chart([{"intensity": at, "rate": rate} for at, rate in corners]).mark_line(color=INK, strokeWidth=2)
    plane = Plane(x_range=x_range, y_range=y_range, width_px=width_px - 90, height_px=_HEIGHT_PX)
    middle = (low * ridge) ** 0.5
    told = [
        (x_range[1], peak, f"{format_count(peak, 'FLOP/s')} {dtype}", Place(align="right", dx_px=0, dy_px=-9)),
        (middle, middle * bytes_per_s, format_count(bytes_per_s, "B/s"), Place(align="right", dx_px=-6, dy_px=-8)),
    ]
    words = [*told, *_names(points, corners, told, plane)]
    texts = [_word(*word).encode(x=x, y=y) for word in words]
    return dress(alt.layer(line.encode(x=x, y=y), _dots(alt, points, x, y), *texts), width_px, _HEIGHT_PX)


Word = tuple[float, float, str, Place]


def _names(
    points: Sequence[Document], corners: Sequence[tuple[float, float]], told: Sequence[Word], plane: Plane
) -> list[Word]:
    """The names of the heaviest operators, where there is room beside points and roof."""
    longest_s = max(point["time_s"] for point in points)
    taken = [around(plane.at(p["intensity"], p["rate"]), _area(p["time_s"] / longest_s) ** 0.5 / 2) for p in points]
    taken += [word_box(plane.at(x, y), place, text) for x, y, text, place in told]
    for (x, y), (to_x, to_y) in pairwise(plane.at(*corner) for corner in corners):
        taken += [around((x + (to_x - x) * n / 40, y + (to_y - y) * n / 40), 3) for n in range(41)]
    heaviest = sorted(points, key=lambda p: -p["time_s"])[:_MOST_NAMED]
    wanted = [(p["intensity"], p["rate"], p["name"]) for p in heaviest]
    places = spread(wanted, plane, taken=taken)
    return [(x, y, text, place) for (x, y, text), place in zip(wanted, places, strict=True) if place]


def _area(time_frac: float) -> float:
    """Square pixels of a point, in proportion to its time."""
    return _SMALLEST_PX2 + (_LARGEST_PX2 - _SMALLEST_PX2) * time_frac


def _dots(alt: Any, points: Sequence[Document], x: Any, y: Any) -> Any:
    limits = [limit for limit in COLOUR_OF_LIMIT if any(p["binds"] == limit for p in points)]
    colour = alt.Scale(domain=limits, range=[COLOUR_OF_LIMIT[limit] for limit in limits])
    shape = alt.Scale(domain=limits, range=[SHAPE_OF_LIMIT[limit] for limit in limits])
    legend = alt.Legend(orient="top", title="limited by")
    tips = {"name": "operator", "time": "time", "rate_text": "rate", "intensity_text": "intensity"}
    tips |= {"binds": "limited by"}
    longest_s = max(point["time_s"] for point in points)
    return (
        chart([{**p, "area": _area(p["time_s"] / longest_s)} for p in sorted(points, key=lambda p: -p["time_s"])])
        .mark_point(filled=True, opacity=0.7, stroke=PAPER, strokeWidth=0.5)
        .encode(
            x=x,
            y=y,
            size=alt.Size("area:Q", scale=None, legend=None),
            color=alt.Color("binds:N", scale=colour, legend=legend),
            shape=alt.Shape("binds:N", scale=shape, legend=legend),
            tooltip=[alt.Tooltip(f"{field}:N", title=title) for field, title in tips.items()],
        )
    )


def _word(x: float, y: float, text: str, place: Place) -> Any:
    row = [{"intensity": x, "rate": y, "text": text}]
    mark = chart(row).mark_text(color=INK, align=place.align, dx=place.dx_px, dy=place.dy_px, fontSize=12)
    return mark.encode(text="text:N")
