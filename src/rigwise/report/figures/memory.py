"""Memory over a step, with the limit of the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.report.figures.axes import bytes_axis
from rigwise.report.figures.theme import (
    BLUE,
    GREEN,
    GREY,
    INK,
    NARROW_BELOW_PX,
    ORANGE,
    PAPER,
    SKY,
    STRONG,
    VERMILLION,
    YELLOW,
    Document,
    Figure,
    altair,
    chart,
    dress,
)
from rigwise.units import format_bytes

_HEIGHT_PX = 320

#: What stands all the time, by the terms at the peak.
_STANDING = {"weights": ("weights",), "optimizer": ("optimizer",)}
#: What comes and goes, by the parts of a moment.
_COMING = {
    "saved for the backward pass": "saved_bytes",
    "gradients": "gradients_bytes",
    "copies of weights": "weight_copies_bytes",
    "the operator that runs": "working_bytes",
}
_OTHER = "context, workspace, allocator"
_COLOURS = dict(
    zip(("weights", "optimizer", _OTHER, *_COMING), (BLUE, SKY, GREY, ORANGE, GREEN, YELLOW, VERMILLION), strict=True)
)


def memory_over_step(document: Document) -> Figure:
    """The course of a ``rigwise.memory/1`` document: a bar for each stretch of the step, in order."""
    case, peak = document["case"], document["peak"]
    fits = "It fits." if document["fits"] else "It does not fit."
    most = format_bytes(document["peak_memory_bytes"]["p50"])
    at = f"{peak['operator'].partition('.')[2] or peak['operator']}"
    where = f" in {peak['module']}" if peak["module"] else ""
    note = (
        f"{fits} Fullest, {most}, at {at}{where} in the {peak['phase']} pass. Each bar is the fullest moment of its "
        "stretch; the allocator's share is that of the peak."
    )
    title = f"Memory over a step of {case['model']} on {document['device']}: {case['task']}, batch {case['batch']}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(document, width_px))


def _standing(document: Document) -> Mapping[str, float]:
    """Bytes that are there all the time, and what the driver and the allocator add at the peak."""
    peak_bytes = document["peak_memory_bytes"]
    moving = sum(document["peak"][part] for part in _COMING.values())
    standing = {name: sum(peak_bytes["terms"].get(t, 0.0) for t in terms) for name, terms in _STANDING.items()}
    return standing | {_OTHER: max(0.0, peak_bytes["p50"] - moving - sum(standing.values()))}


def _draw(document: Document, width_px: int) -> Any:
    alt = altair()
    standing, rows = _standing(document), []
    for index, moment in enumerate(document["course"]):
        parts = dict(standing) | {name: moment[part] for name, part in _COMING.items()}
        for order, (name, value) in enumerate(parts.items()):
            head = {"index": index, "phase": moment["phase"], "operator": moment["operator"]}
            rows.append(head | {"part": name, "bytes": value, "order": order, "text": format_bytes(value)})
    shown = [name for name in _COLOURS if any(row["bytes"] > 0 for row in rows if row["part"] == name)]
    capacity = document["capacity_bytes"]
    totals = [sum(row["bytes"] for row in rows if row["index"] == i) for i in range(len(document["course"]))]
    y = alt.Y(
        "bytes:Q",
        title=None,
        stack="zero",
        axis=bytes_axis(),
        scale=alt.Scale(domain=[0, 1.12 * max(*totals, capacity)]),
    )
    x = alt.X("index:O", title=None, axis=None, scale=alt.Scale(padding=0.08))
    colours = alt.Scale(domain=shown, range=[_COLOURS[name] for name in shown])
    legend = alt.Legend(orient="top", title=None, columns=3 if width_px > NARROW_BELOW_PX else 1, labelLimit=300)
    tips = {"operator": "operator", "phase": "pass", "part": "memory for", "text": "size"}
    bars = (
        chart([row for row in rows if row["part"] in shown])
        .mark_bar()
        .encode(
            x=x,
            y=y,
            color=alt.Color("part:N", scale=colours, legend=legend),
            order="order:O",
            tooltip=[alt.Tooltip(f"{field}:N", title=title) for field, title in tips.items()],
        )
    )
    limit = [{"bytes": capacity, "text": f"{document['device']}: {format_bytes(capacity)}"}]
    line = chart(limit).mark_rule(color=STRONG, strokeWidth=2, strokeDash=[6, 4]).encode(y="bytes:Q")
    words = chart(limit).mark_text(color=STRONG, align="left", dx=4, dy=-8, fontSize=12, fontWeight="bold")
    behind = words.mark_text(stroke=PAPER, strokeWidth=5, align="left", dx=4, dy=-8, fontSize=12, fontWeight="bold")
    placed = [word.encode(x=alt.value(0), y="bytes:Q", text="text:N") for word in (behind, words)]
    layers = [bars, line, *placed, *_phases(alt, document, x)]
    return dress(alt.layer(*layers), width_px, _HEIGHT_PX)


def _phases(alt: Any, document: Document, x: Any) -> list[Any]:
    """The name of each pass under its first bar."""
    course, found = document["course"], []
    for index, moment in enumerate(course):
        if index == 0 or moment["phase"] != course[index - 1]["phase"]:
            found.append({"index": index, "text": f"{moment['phase']} \N{RIGHTWARDS ARROW}"})
    words = chart(found).mark_text(color=INK, align="left", baseline="top", dx=-8, fontSize=12)
    return [words.encode(x=x, y=alt.value(_HEIGHT_PX + 6), text="text:N")]
