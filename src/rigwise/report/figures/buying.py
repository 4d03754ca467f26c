"""What buying and renting have cost, month by month."""

from __future__ import annotations

from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import dollars_axis
from rigwise.report.figures.theme import BLUE, INK, VERMILLION, Document, Figure, altair, chart, dress
from rigwise.units import format_usd

_WAYS = {"own": ("buy", BLUE, []), "rent": ("rent", VERMILLION, [7, 4])}


def buying_over_months(document: Document) -> Figure:
    """The course of a ``rigwise.plan.buying/1`` document, with the month in which both cost the same.

    Raises:
        UnsupportedError: The document is older than its course, or says that nothing can be bought.
    """
    if not document.get("course"):
        raise UnsupportedError("this answer has no course over months, so there is nothing to draw")
    months, hours = document["horizon"]["months"], document["horizon"]["hours_per_week"]
    even = document["even"]["months"]
    told = f"Buying pays after {even:.0f} months." if even is not None else "Buying never pays at this use."
    note = (
        f"At {hours:.3g} hours of work a week. {told} Buying is its price, electricity and care less what the machine "
        f"would still bring if sold that month; it is bought for {months:.3g} months."
    )
    title = f"Buy {document['name']}, or rent {document['rent']['name'] or 'one'}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(document, width_px))


def _draw(document: Document, width_px: int) -> Any:
    alt = altair()
    rows = [
        {"way": word, "months": point["months"], "usd": point[f"{way}_usd"], "text": format_usd(point[f"{way}_usd"])}
        for way, (word, _, _) in _WAYS.items()
        for point in document["course"]
    ]
    words, colours, dashes = zip(*_WAYS.values(), strict=True)
    last = document["course"][-1]["months"]
    x = alt.X("months:Q", title="months", scale=alt.Scale(domain=[0, last], nice=False))
    room_above = alt.Scale(domainMax=1.15 * max(row["usd"] for row in rows))  # for the words at the rules
    y = alt.Y("usd:Q", title="spent so far (US $)", axis=dollars_axis(), scale=room_above)
    legend = alt.Legend(orient="top", title=None, symbolSize=400, symbolStrokeWidth=3)
    lines = (
        chart(rows)
        .mark_line(strokeWidth=3)
        .encode(
            x=x,
            y=y,
            color=alt.Color("way:N", scale=alt.Scale(domain=words, range=colours), legend=legend),
            strokeDash=alt.StrokeDash("way:N", scale=alt.Scale(domain=words, range=dashes), legend=legend),
            tooltip=[alt.Tooltip("way:N"), alt.Tooltip("months:Q", format=".1f"), alt.Tooltip("text:N", title="spent")],
        )
    )
    marks = [{"months": document["horizon"]["months"], "text": "end of the horizon"}]
    even = document["even"]["months"]
    marks += [{"months": even, "text": f"even after {even:.0f} months"}] if even is not None and even <= last else []
    rules = chart(marks).mark_rule(color=INK, strokeDash=[4, 4]).encode(x=x)
    layers = [lines, rules]
    for order, mark in enumerate(marks):
        right = mark["months"] > 0.6 * last
        text = chart([mark]).mark_text(
            color=INK, align="right" if right else "left", dx=-5 if right else 5, fontSize=12
        )
        layers.append(text.encode(x=x, y=alt.value(10 + 16 * order), text="text:N"))
    return dress(alt.layer(*layers), width_px, 320)
