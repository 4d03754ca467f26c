"""Throughput by the number of devices, and where the time of more devices goes."""

from __future__ import annotations

from typing import Any

from rigwise.report.figures.axes import amount_axis, percent_axis
from rigwise.report.figures.theme import (
    BLUE,
    GREEN,
    GREY,
    INK,
    NARROW_BELOW_PX,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    VERMILLION,
    YELLOW,
    Document,
    Figure,
    altair,
    chart,
    dress_panels,
    panel_px,
)
from rigwise.units import format_count, format_fraction, format_seconds

_RATE = "samples a second"
_COLOURS = {
    "compute": BLUE,
    "memory": VERMILLION,
    "launch": GREEN,
    "update": SKY,
    "communication": PURPLE,
    "bubble": ORANGE,
    "straggling": YELLOW,
    "input": GREY,
}


def scaling_curve(document: Document) -> Figure:
    """The points of a ``rigwise.scaling/1`` document: throughput beside the ideal, and the parts of each step."""
    first = document["points"][0]
    case = first["prediction"]["case"]
    batch = f"batch {case['batch']}" if document["kind"] == "strong" else f"batch {first['batch']} a device"
    title = f"Scaling of {case['model']} on {first['prediction']['device']}: {case['task']}, {case['dtype']}, {batch}"
    why = document["why"].rstrip(".")
    change = f" What would change it: {document['change']}." if document["change"] else ""
    note = (
        f"{why[:1].upper()}{why[1:]}.{change} The dashed line is the ideal, percentages are the efficiency; "
        "whiskers reach from p10 to p90."
    )
    return Figure(title=title, note=note, draw=lambda width_px: _draw(document, width_px))


def _draw(document: Document, width_px: int) -> Any:
    alt = altair()
    rows, parts = [], []
    first = document["points"][0]
    for point in document["points"]:
        p, time = point["prediction"], point["prediction"]["step_time_s"]
        rate = p["throughput_per_s"]
        low, high = (rate * time["p50"] / time[q] for q in ("p90", "p10"))
        ideal = first["prediction"]["throughput_per_s"] * point["count"] / first["count"]
        head = {"devices": point["count"], "efficiency": format_fraction(point["efficiency"])}
        rows.append(head | {"rate": rate, "low": low, "high": high, "ideal": ideal, "text": format_count(rate, "/s")})
        parts += _parts(point, time["p50"])
    counts = [row["devices"] for row in rows]
    x = alt.X(
        "devices:Q",
        title=None,
        scale=alt.Scale(type="log", base=2, domain=[counts[0] * 0.9, counts[-1] * 1.25], nice=False),
        axis=alt.Axis(values=counts, format="d", grid=False),
    )
    y = alt.Y("rate:Q", title=_RATE, axis=amount_axis(), scale=alt.Scale(zero=True))
    tips = {"devices": "devices", "text": "samples", "efficiency": "efficiency"}
    ideal = chart(rows).mark_line(color=INK, strokeDash=[5, 4]).encode(x=x, y=alt.Y("ideal:Q", title=_RATE))
    whiskers = chart(rows).mark_rule(color=BLUE, opacity=0.6).encode(x=x, y=alt.Y("low:Q", title=_RATE), y2="high:Q")
    line = (
        chart(rows)
        .mark_line(color=BLUE, point={"size": 70, "color": BLUE})
        .encode(x=x, y=y, tooltip=[alt.Tooltip(f"{field}:N", title=name) for field, name in tips.items()])
    )
    words = (
        chart(rows).mark_text(color=INK, align="left", dy=16, dx=8, fontSize=12).encode(x=x, y=y, text="efficiency:N")
    )
    curve = alt.layer(ideal, whiskers, line, words).properties(width=panel_px(width_px), height=220)
    return dress_panels(alt.vconcat(curve, _reasons(alt, parts, counts, width_px), spacing=12), width_px)


def _parts(point: Document, step_s: float) -> list[dict[str, Any]]:
    """The terms of one step, as shares of it."""
    terms = {name: seconds for name, seconds in point["terms_s"].items() if seconds > 0}
    return [
        {
            "devices": point["count"],
            "part": name,
            "share": seconds / step_s,
            "order": order,
            "text": f"{format_fraction(seconds / step_s)}, {format_seconds(seconds)}",
        }
        for order, (name, seconds) in enumerate(terms.items())
    ]


def _reasons(alt: Any, parts: list[dict[str, Any]], counts: list[int], width_px: int) -> Any:
    """A bar for each number of devices: what its step consists of."""
    shown = [name for name in _COLOURS if any(part["part"] == name for part in parts)]
    colours = alt.Scale(domain=shown, range=[_COLOURS[name] for name in shown])
    legend = alt.Legend(orient="bottom", title=None, columns=4 if width_px > NARROW_BELOW_PX else 2)
    tips = {"devices": "devices", "part": "part of the step", "text": "share"}
    return (
        chart(parts)
        .mark_bar(stroke=PAPER, strokeWidth=0.5)
        .encode(
            x=alt.X("devices:O", title="devices", sort=counts, axis=alt.Axis(labelAngle=0)),
            y=alt.Y("share:Q", title="of a step", axis=percent_axis(), stack="zero"),
            color=alt.Color("part:N", scale=colours, legend=legend),
            order="order:O",
            tooltip=[alt.Tooltip(f"{field}:N", title=name) for field, name in tips.items()],
        )
        .properties(width=panel_px(width_px), height=150)
    )
