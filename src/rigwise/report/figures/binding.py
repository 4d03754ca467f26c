"""Predicted time of each device, split by what binds it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import even_ticks, percent_axis, time_axis
from rigwise.report.figures.theme import (
    COLOUR_OF_LIMIT,
    INK,
    NARROW_BELOW_PX,
    PAPER,
    STRONG,
    Document,
    Figure,
    altair,
    chart,
    dress,
)
from rigwise.units import format_fraction, format_seconds

_ROW_PX = 54

#: From so many times the quickest on, a bar would hide the others, and each is drawn as a whole by itself.
_FAR = 20.0

#: A part is told in figures inside its bar from this share of the widest bar on.
_ROOM_FRAC = {False: 0.05, True: 0.11}


def time_by_device(document: Document) -> Figure:
    """The step time of each device of a ``rigwise.compare/1`` document, stacked by what binds it.

    Raises:
        UnsupportedError: No device could do the work.
    """
    answers = [answer for answer in document["results"] if "step_time_s" in answer]
    if not answers:
        raise UnsupportedError("no device could do the work, so there is nothing to draw")
    case = answers[0]["case"]
    left_out = [answer["device"] for answer in document["results"] if "step_time_s" not in answer]
    note = f"{case['task'].capitalize()}, batch {case['batch']}, {case['dtype']}. The line below: p10 to p90."
    note += f" {', '.join(left_out)} cannot do it." if left_out else ""
    medians_s = [answer["step_time_s"]["p50"] for answer in answers]
    is_far = max(medians_s) > _FAR * min(medians_s)
    note += " The slowest would hide the others: each bar is the whole of its own step." if is_far else ""
    bars = [
        {
            "name": _name(answer, index, answers),
            "time_s": answer["step_time_s"],
            "binds": answer["binds"],
            "fits": answer["fits"],
        }
        for index, answer in enumerate(answers)
    ]
    title = f"Time of a step of {case['model']}, by what binds it"
    return Figure(title=title, note=note, draw=lambda width_px: stacked(bars, width_px))


def _name(answer: Document, index: int, answers: Sequence[Document]) -> str:
    count = answer["case"]["count"]
    name = f"{count} x {answer['device']}" if count > 1 else str(answer["device"])
    again = sum(other["device"] == answer["device"] for other in answers[:index])
    return f"{name} ({again + 1})" if again else name


def stacked(bars: Sequence[Document], width_px: int) -> Any:
    """A bar for each of ``bars``: ``name``, ``time_s`` (quantiles), ``binds`` (fractions) and ``fits``.

    Names stand over their bars, so that long ones have room at any width.
    """
    alt = altair()
    medians_s = [bar["time_s"]["p50"] for bar in bars]
    is_far = max(medians_s) > _FAR * min(medians_s)
    scales = [1 / median_s if is_far else 1.0 for median_s in medians_s]
    high = max(scale * bar["time_s"]["p90"] for bar, scale in zip(bars, scales, strict=True))
    heads, parts = [], []
    for bar, scale in zip(bars, scales, strict=True):
        time = bar["time_s"]
        fits = "" if bar["fits"] else ", does not fit its memory"
        ends = {name: scale * value for name, value in time.items()}
        heads.append({"name": bar["name"], **ends, "text": f"{bar['name']}: {format_seconds(time['p50'])}{fits}"})
        parts += _parts(bar, scale, high, narrow=width_px < NARROW_BELOW_PX)
    shown = [limit for limit in COLOUR_OF_LIMIT if any(part["limit"] == limit for part in parts)]
    colours = alt.Scale(domain=shown, range=[COLOUR_OF_LIMIT[limit] for limit in shown])
    ticks = even_ticks(high, 6 if width_px > NARROW_BELOW_PX else 4)
    title, axis = ("of its own step", percent_axis()) if is_far else ("time of a step", time_axis(ticks))
    x = alt.X("from:Q", title=title, axis=axis, scale=alt.Scale(domain=[0, 1.02 * high]))
    y = alt.Y("name:N", title=None, sort=[bar["name"] for bar in bars], axis=None, scale=alt.Scale(padding=0))
    legend = alt.Legend(orient="top", title="limited by", columns=5 if width_px > NARROW_BELOW_PX else 3)
    tips = {"name": "device", "limit": "limited by", "time": "time", "share": "share"}
    blocks = (
        chart(parts)
        .mark_bar(height=18, yOffset=8, stroke=PAPER, strokeWidth=1)
        .encode(
            x=x,
            x2="to:Q",
            y=y,
            color=alt.Color("limit:N", scale=colours, legend=legend),
            tooltip=[alt.Tooltip(f"{field}:N", title=title) for field, title in tips.items()],
        )
    )
    words = chart([part for part in parts if part["inside"]]).mark_text(color=PAPER, fontWeight="bold", dy=8)
    head = chart(heads).mark_text(align="left", color=INK, dy=-11, fontSize=12, fontWeight="bold")
    spread = chart(heads).mark_rule(color=STRONG, strokeWidth=1.5, yOffset=21).encode(x="p10:Q", x2="p90:Q", y=y)
    layers = [
        blocks,
        words.encode(x="middle:Q", y=y, text="inside:N"),
        head.encode(x=alt.value(2), y=y, text="text:N"),
        spread,
    ]
    return dress(alt.layer(*layers), width_px, _ROW_PX * len(bars))


def _parts(bar: Document, scale: float, high: float, *, narrow: bool) -> list[dict[str, Any]]:
    """One block for each limit, in the order of the legend; ``scale`` turns seconds into what the axis counts."""
    parts, start = [], 0.0
    for limit in COLOUR_OF_LIMIT:
        frac = bar["binds"].get(limit, 0.0)
        if frac <= 0:
            continue
        time_s = frac * bar["time_s"]["p50"]
        end, words = start + scale * time_s, format_fraction(frac)
        room = (end - start) / high >= _ROOM_FRAC[narrow]
        part = {"name": bar["name"], "limit": limit, "from": start, "to": end, "share": words}
        part |= {"middle": (start + end) / 2, "inside": words if room else ""}
        parts.append(part | {"time": format_seconds(time_s)})
        start = end
    return parts
