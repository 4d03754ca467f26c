"""A recorded step: its operators, beside the predicted ones where a model was named."""

from __future__ import annotations

from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import time_axis
from rigwise.report.figures.judged import predicted_against_measured
from rigwise.report.figures.ranges import shortened
from rigwise.report.figures.theme import BLUE, NO_LABELS_PX, Document, Figure, altair, chart, dress, words
from rigwise.units import format_fraction, format_seconds

_ROW_PX, _MOST_ROWS = 36, 20


def recorded_step(document: Document) -> Figure:
    """The operators of a ``rigwise.trace/1`` document: predicted against measured, or the longest alone.

    Raises:
        UnsupportedError: It counts whole runs, or no operator took any time.
    """
    if "operators" not in document:
        raise UnsupportedError("counters of a whole run have no figure", hint="a trace of a profiler has one")
    comparison = document["comparison"]
    if comparison:
        points = [
            {"source": one["kind"], "measured_s": one["measured_s"], "predicted_s": one["predicted_s"]}
            for one in comparison["operators"]
        ]
        figure = predicted_against_measured(points, "operators")
        head = f"{comparison['model']} on {comparison['device']}, by kind of operator. "
        return Figure(title=figure.title, note=head + figure.note, draw=figure.draw)
    return _longest(document)


def _longest(document: Document) -> Figure:
    operators = [one for one in document["operators"] if one["time_s"] > 0]
    if not operators:
        raise UnsupportedError("no operator took any time, so there is nothing to draw")
    whole_s = sum(one["time_s"] for one in operators)
    rows = [_row(one, whole_s) for one in operators[:_MOST_ROWS]]
    rest = len(operators) - len(rows)
    note = f"Together {format_seconds(whole_s)} in a step of {format_seconds(document['steps']['step_s'])}."
    note += f" {rest} shorter ones are left out." if rest > 0 else ""
    title = f"Where the time of a recorded step goes: {document['file']}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(rows, width_px))


def _row(one: Document, whole_s: float) -> dict[str, Any]:
    share = format_fraction(one["time_s"] / whole_s)
    calls = f"{one['calls']:,} call{'s' if one['calls'] != 1 else ''}"
    text = f"{one['name']}: {format_seconds(one['time_s'])}, {share}, {calls}"
    return {"name": one["name"], "time_s": one["time_s"], "text": text}


def _draw(rows: list[dict[str, Any]], width_px: int) -> Any:
    alt = altair()
    x = alt.X("time_s:Q", title="time in a step", axis=time_axis(), scale=alt.Scale(zero=True))
    y = alt.Y("name:N", title=None, sort=[row["name"] for row in rows], axis=None, scale=alt.Scale(padding=0))
    kept = [row | {"whole": row["text"], "text": shortened(row["text"], width_px - NO_LABELS_PX)} for row in rows]
    bars = (
        chart(kept)
        .mark_bar(height=12, yOffset=8, color=BLUE)
        .encode(x=x, y=y, tooltip=[alt.Tooltip("whole:N", title="what")])
    )
    layers = [bars, *words(kept, {"x": alt.value(2), "y": y}, dy=-8)]
    return dress(alt.layer(*layers), width_px, _ROW_PX * len(rows))
