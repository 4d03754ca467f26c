"""What was measured on two machines, or at two times: how many times larger the second is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.ranges import shortened
from rigwise.report.figures.theme import (
    BLUE,
    GREEN,
    GREY,
    NARROW_BELOW_PX,
    NO_LABELS_PX,
    STRONG,
    VERMILLION,
    Document,
    Figure,
    altair,
    chart,
    dress,
    words,
)

_ROW_PX = 36
_MOST_ROWS = 30
#: Verdict -> colour and shape.
_LOOKS = {
    "better": (GREEN, "triangle-up"),
    "worse": (VERMILLION, "triangle-down"),
    "changed": (BLUE, "diamond"),
    "same": (GREY, "circle"),
    "unclear": (GREY, "cross"),
}


def sides_compared(document: Document) -> Figure:
    """The ratios of a ``rigwise.history.compare/1`` document with their intervals, the largest changes first.

    Raises:
        UnsupportedError: The sides share no figure above zero.
    """
    comparisons = [one for one in document["comparisons"] if one["ratio"] and one["ratio"]["value"] > 0]
    rows = [_row(one, comparisons) for one in comparisons]
    if not rows:
        raise UnsupportedError("no figure can be compared, so there is nothing to draw")
    rows.sort(key=lambda row: -abs(math.log(row["ratio"])))
    left_out = len(rows) - _MOST_ROWS
    note = f"{document['second']['words']} over {document['first']['words']}. Lines are 95 % intervals; "
    note += "at the dashed line both are the same."
    note += f" {left_out} smaller changes are left out." if left_out > 0 else ""
    title = f"{len(rows)} figures measured on both sides, the second over the first"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(rows[:_MOST_ROWS], width_px))


def _row(one: Document, others: Sequence[Document]) -> dict[str, Any]:
    ratio = one["ratio"]
    low, high = ratio["low"] or ratio["value"], ratio["high"] or ratio["value"]
    runs = " and ".join(str(count) for count in one["runs"])
    text = f"{_name(one, others)}: {ratio['value']:.3g} x, {one['verdict']} ({runs} runs)"
    key = f"{one['kind']} {one['name']} {one['unit']} {sorted(one['tags'].items())}"
    return {"name": key, "ratio": ratio["value"], "low": low, "high": high, "verdict": one["verdict"], "text": text}


def _name(one: Document, others: Sequence[Document]) -> str:
    """The figure, with the tags that tell it from others of its name."""
    same = [other["tags"] for other in others if other["name"] == one["name"]]
    apart = [f"{key}={value}" for key, value in one["tags"].items() if any(t.get(key) != value for t in same)]
    return " ".join([one["name"], *apart])


def _draw(rows: list[dict[str, Any]], width_px: int) -> Any:
    alt = altair()
    narrow = width_px < NARROW_BELOW_PX
    far = max(1.1, *(max(row["high"], 1 / row["low"], row["ratio"], 1 / row["ratio"]) for row in rows)) * 1.05
    ticks = [by for by in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.8, 0.9, 1, 1.1, 1.25, 2, 5, 10, 20, 50, 100)]
    ticks = [by for by in ticks if 1 / far <= by <= far and (far < 3 or (not 0.5 < by < 1 and not 1 < by < 2))]
    axis = alt.Axis(values=ticks, labelExpr="format(datum.value, '.3~g') + ' x'")
    scale = alt.Scale(type="log", domain=[1 / far, far], nice=False)
    title = "second over first"
    x, low = (alt.X(f"{field}:Q", title=title, axis=axis, scale=scale) for field in ("ratio", "low"))
    y = alt.Y("name:N", title=None, sort=[row["name"] for row in rows], axis=None, scale=alt.Scale(padding=0))
    shown = [verdict for verdict in _LOOKS if any(row["verdict"] == verdict for row in rows)]
    legend = alt.Legend(orient="top", title=None, columns=3 if narrow else 5)
    colours, shapes = zip(*(_LOOKS[verdict] for verdict in shown), strict=True)
    colour = alt.Color("verdict:N", title=None, scale=alt.Scale(domain=shown, range=list(colours)), legend=legend)
    shape = alt.Shape("verdict:N", title=None, scale=alt.Scale(domain=shown, range=list(shapes)), legend=legend)
    kept = [row | {"whole": row["text"], "text": shortened(row["text"], width_px - NO_LABELS_PX)} for row in rows]
    lines = chart(kept).mark_rule(strokeWidth=2.5, yOffset=9).encode(x=low, x2="high:Q", y=y, color=colour)
    marks = (
        chart(kept)
        .mark_point(filled=True, size=90, opacity=1, yOffset=9)
        .encode(x=x, y=y, color=colour, shape=shape, tooltip=[alt.Tooltip("whole:N", title="what")])
    )
    even = chart([{"ratio": 1.0}]).mark_rule(color=STRONG, strokeDash=[5, 4]).encode(x=x)
    layers = [even, lines, marks, *words(kept, {"x": alt.value(2), "y": y}, dy=-7)]
    return dress(alt.layer(*layers), width_px, _ROW_PX * len(rows))
