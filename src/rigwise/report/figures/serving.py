"""Tokens a second for one user against all, by batch."""

from __future__ import annotations

from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import amount_axis
from rigwise.report.figures.theme import INK, SERIES, Document, Figure, altair, chart, dress
from rigwise.units import format_bytes, format_count, format_usd

_SHAPES = ("circle", "square", "diamond", "triangle-up", "cross", "triangle-down")


def serving_curve(document: Document) -> Figure:
    """The points of a ``rigwise.serving/1`` document that fit: what a user gets against what the devices give.

    Raises:
        UnsupportedError: No point fits the memory.
    """
    points = [point for point in document["points"] if point["fits"]]
    if not points:
        raise UnsupportedError("no batch and context fits the memory, so there is nothing to draw")
    case = document["case"]
    left_out = len(document["points"]) - len(points)
    note = "Each point is a batch, the number beside it; lines join the batches of one context."
    note += f" Left out, because they do not fit the memory: {left_out}." if left_out else ""
    title = f"Serving {case['model']} on {document['count']} x {case['device']}: speed of one user against all"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(points, width_px))


def _draw(points: list[Document], width_px: int) -> Any:
    alt = altair()
    rows = []
    for point in points:
        price = point["usd_per_million_tokens"]
        rows.append(
            {
                "context": f"{point['context']:,} tokens",
                "batch": str(point["batch"]),
                "user": point["user_tokens_per_s"]["p50"],
                "all": point["tokens_per_s"]["p50"],
                "memory": format_bytes(point["memory_bytes"]),
                "user_text": format_count(point["user_tokens_per_s"]["p50"], "tokens/s"),
                "all_text": format_count(point["tokens_per_s"]["p50"], "tokens/s"),
                "price": f"{format_usd(price['p50'])} a million tokens" if price else "no price",
            }
        )
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    shapes = alt.Scale(domain=contexts, range=[_SHAPES[i % len(_SHAPES)] for i in range(len(contexts))])
    colours = alt.Scale(domain=contexts, range=[SERIES[i % len(SERIES)] for i in range(len(contexts))])
    legend = alt.Legend(orient="top", title="context")
    x = alt.X("user:Q", title="tokens a second for each user", scale=alt.Scale(zero=True))
    y = alt.Y("all:Q", title="tokens a second in all", axis=amount_axis(), scale=alt.Scale(zero=True))
    tips = {"batch": "batch", "user_text": "each user", "all_text": "all", "price": "price", "memory": "memory"}
    colour = alt.Color("context:N", scale=colours, legend=legend)
    lines = chart(rows).mark_line(strokeWidth=2).encode(x=x, y=y, color=colour, order="all:Q")
    marks = (
        chart(rows)
        .mark_point(filled=True, size=80, opacity=1)
        .encode(
            x=x,
            y=y,
            color=colour,
            shape=alt.Shape("context:N", scale=shapes, legend=legend),
            tooltip=[alt.Tooltip(f"{field}:N", title=name) for field, name in tips.items()],
        )
    )
    words = chart(rows).mark_text(color=INK, align="left", dx=9, dy=-9, fontSize=12).encode(x=x, y=y, text="batch:N")
    return dress(alt.layer(lines, marks, words), width_px, 340)
