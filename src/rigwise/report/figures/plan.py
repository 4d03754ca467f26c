"""Figures of the document that ``rigwise plan --json`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rigwise.report.figures.axes import decimal_ticks, dollars_axis, even_ticks, spread_ticks, time_axis
from rigwise.report.figures.label import Box, Place, Plane, along, around, at_an_end, spread, word_box
from rigwise.report.figures.theme import (
    BLUE,
    COLOUR_OF_LIMIT,
    INK,
    PAPER,
    VERMILLION,
    Document,
    Figure,
    altair,
    chart,
    dress,
    words,
)
from rigwise.units import format_count, format_seconds, format_usd

#: A scale turns logarithmic where the largest value is this many times the smallest.
_LOG_FROM_RATIO = 8.0

#: A limit of the job is drawn if it is at most this many times the largest plan.
_NEAR = 4.0
_HEIGHT_PX = 300
#: Half the width of the disc of a listed plan.
_DISC_PX = 10
#: The same of the dot of a plan of the frontier.
_DOT_PX = 5


def plan_figure(document: Document) -> Figure:
    """The plans and the frontier, in the plane of time and cost."""
    job, far = document["job"], [limit["text"] for limit in limits(document) if not limit["near"]]
    note = (
        "Numbers are the ranks of the listed plans; the line is the frontier: nothing is both cheaper "
        "and quicker. Whiskers reach from p10 to p90."
    )
    note += f" Too far off to be drawn: {', '.join(far)}." if far else ""
    title = f"{job['model']}, {format_count(job['amount'])} {job['unit']}: cost against time"
    return Figure(title=title, note=note, draw=lambda width_px: cost_against_time(document, width_px=width_px))


def cost_against_time(document: Document, *, width_px: int = 720) -> Any:
    """The listed plans and the frontier in the plane of time and cost, with deadline and budget.

    The frontier is a staircase: between two of its plans nothing cheaper is as quick. Whiskers
    reach from p10 to p90.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = altair()
    plans = [_point(plan) for plan in reversed(document["plans"])]  # the best is drawn last, on top
    frontier = [_point(plan) for plan in document["frontier"]]
    near = [limit for limit in limits(document) if limit["near"]]
    x, y = (_position(a, q, [*plans, *frontier], near) for a, q in ((alt.X, "time_s"), (alt.Y, "cost_usd")))
    stairs = chart(frontier).mark_line(interpolate="step-after", color=BLUE, opacity=0.7)
    across = chart(plans).mark_rule(color=BLUE, opacity=0.5).encode(x="time_s_p10:Q", x2="time_s_p90:Q", y=y)
    upright = chart(plans).mark_rule(color=BLUE, opacity=0.5).encode(x=x, y="cost_usd_p10:Q", y2="cost_usd_p90:Q")
    dots = chart(frontier).mark_circle(color=BLUE, size=40, opacity=1).encode(tooltip=_tips(alt))
    plane = _plane((x, y), width_px)
    drawn = _drawn(plans, frontier, plane)
    told = limit_places(near, plane, drawn)
    taken = [*drawn, *(word_box(at, place, limit["text"]) for limit, at, place in told)]
    names = _names(plans, frontier, plane, taken)
    placed = [layer.encode(x=x, y=y) for layer in (stairs, dots, *_pins(alt, plans), *names)]
    limit_lines = [layer for one in told for layer in _limit_line(alt, *one, (x, y, plane))]
    return dress(alt.layer(*limit_lines, across, upright, *placed), width_px, _HEIGHT_PX)


def time_by_what_binds(document: Document, *, width_px: int = 720) -> Any:
    """Time of each plan, split by what limits it: arithmetic, memory traffic, launches, network, input.

    Each plan needs ``binds``, the fractions of a prediction.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = altair()
    rows = [
        {"plan": _label(plan), "limit": limit, "time_s": plan["time_s"]["p50"] * frac, "order": order}
        for plan in document["plans"]
        for order, limit in enumerate(COLOUR_OF_LIMIT)
        if (frac := plan["binds"].get(limit, 0.0)) > 0
    ]
    shown = [limit for limit in COLOUR_OF_LIMIT if any(row["limit"] == limit for row in rows)]
    colours = alt.Scale(domain=shown, range=[COLOUR_OF_LIMIT[limit] for limit in shown])
    legend = alt.Legend(orient="top", columns=5 if width_px > 500 else 3)
    high_s = max(plan["time_s"]["p50"] for plan in document["plans"])
    bars = (
        chart(rows)
        .mark_bar(height={"band": 0.7}, stroke=PAPER, strokeWidth=1)
        .encode(
            x=alt.X("time_s:Q", title="time", stack="zero", axis=time_axis(even_ticks(high_s))),
            y=_plan_axis(alt, document, width_px),
            color=alt.Color("limit:N", title=None, scale=colours, legend=legend),
            order="order:O",
        )
    )
    return dress(bars, width_px, 34 * len(document["plans"]))


def intervals(document: Document, quantity: str, *, width_px: int = 720) -> Any:
    """Each plan's p10 to p90 as a bar and its p50 as a tick.

    Args:
        document: A plan document.
        quantity: ``cost_usd`` or ``time_s``.
        width_px: Width of the whole chart.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = altair()
    rows = [{"plan": _label(plan), **_point(plan)} for plan in document["plans"]]
    y = _plan_axis(alt, document, width_px)
    start, middle = (_position(alt.X, quantity, rows, at=at) for at in ("_p10", ""))
    bars = chart(rows).mark_bar(height=9, color=BLUE, opacity=0.55, cornerRadius=4)
    ticks = chart(rows).mark_tick(thickness=3, height=17, color=VERMILLION, opacity=1)
    layers = bars.encode(x=start, x2=f"{quantity}_p90:Q", y=y), ticks.encode(x=middle, y=y)
    return dress(alt.layer(*layers), width_px, 30 * len(rows))


def limits(document: Document) -> list[dict[str, Any]]:
    """Deadline and budget of the job: ``quantity``, its value, ``text``, and whether it is ``near`` the plans.

    Only what is near is drawn in ``cost_against_time``: a far limit would squeeze the plans together.
    """
    job, found = document["job"], []
    for quantity, limit, word, show in (
        ("time_s", job["deadline_s"], "deadline", format_seconds),
        ("cost_usd", job["budget_usd"], "budget", format_usd),
    ):
        if limit is not None:
            near = limit <= _NEAR * max(plan[quantity]["p90"] for plan in (*document["plans"], *document["frontier"]))
            found.append({"quantity": quantity, quantity: limit, "text": f"{word} {show(limit)}", "near": near})
    return found


def _name(plan: Document) -> str:
    return f"{plan['count']} x {plan['device']}, {plan['provider']}"


def _label(plan: Document) -> str:
    """Unique, because it starts with the rank."""
    return f"{plan['rank']}. {_name(plan)}"


def _point(plan: Document) -> dict[str, Any]:
    """One plan as a flat row: ``time_s`` is the median, ``time_s_p10`` a quantile."""
    row: dict[str, Any] = {"rank": plan["rank"], "name": _name(plan)}
    row |= {"where": " ".join(str(plan[key]) for key in ("instance", "region", "market") if plan[key])}
    for name, quantity, show in (("time", "time_s", format_seconds), ("cost", "cost_usd", format_usd)):
        low, middle, high = (show(plan[quantity][p]) for p in ("p10", "p50", "p90"))
        row[name] = f"{middle} ({low} to {high})"
    for quantity in ("time_s", "cost_usd"):
        row |= {quantity: plan[quantity]["p50"]}
        row |= {f"{quantity}_{p}": plan[quantity][p] for p in ("p10", "p90")}
    return row


def limit_places(
    near: Sequence[Document], plane: Plane, taken: Sequence[Box]
) -> list[tuple[Document, tuple[float, float], Place]]:
    """Each limit and where its words stand: at an end of its line, clear of the other's and of what is drawn."""
    found = []
    for limit in near:
        others = [point for other in near if other is not limit for point in along(_ends(other, plane), 3)]
        found.append((limit, *at_an_end(_ends(limit, plane), limit["text"], plane, [*taken, *others])))
    return found


def _ends(limit: Document, plane: Plane) -> list[tuple[float, float]]:
    """The line of a limit across the plane, in pixels."""
    x, y = plane.at(limit.get("time_s", plane.x_range[1]), limit.get("cost_usd", plane.y_range[1]))
    right, foot = float(plane.width_px), float(plane.height_px)
    return [(x, 0.0), (x, foot)] if limit["quantity"] == "time_s" else [(0.0, y), (right, y)]


def _limit_line(alt: Any, limit: Document, at: tuple[float, float], place: Place, where: tuple[Any, Any, Plane]) -> Any:
    x, y, plane = where
    if limit["quantity"] == "time_s":
        line, edge = chart([limit]).encode(x=x), {"y": alt.value("height" if at[1] == plane.height_px else 0)}
    else:
        line, edge = chart([limit]).encode(y=y), {"x": alt.value("width" if at[0] == plane.width_px else 0)}
    look = {"align": place.align, "dx": place.dx_px, "dy": place.dy_px}
    rule = line.mark_rule(color=INK, strokeDash=[5, 4])
    return [rule, line.mark_text(color=INK, **look).encode(**edge, text="text:N")]


def _pins(alt: Any, plans: Sequence[Document]) -> list[Any]:
    """A disc for each listed plan with its rank in it; each number lies on its own disc, whatever covers that."""
    layers = []
    for plan in plans:
        colour = VERMILLION if plan["rank"] == 1 else BLUE
        disc = chart([plan]).mark_circle(size=260, opacity=1, color=colour, stroke=PAPER, strokeWidth=1)
        layers.append(disc.encode(tooltip=_tips(alt)))
        layers.append(chart([plan]).mark_text(color=PAPER, fontWeight="bold", fontSize=11).encode(text="rank:Q"))
    return layers


def _plane(axes: tuple[Any, Any], width_px: int) -> Plane:
    """The plane of two axes, as large as it will about be."""
    x_scale, y_scale = (axis.to_dict()["scale"] for axis in axes)
    return Plane(
        x_range=x_scale["domain"],
        y_range=y_scale["domain"],
        width_px=width_px - 70,
        height_px=_HEIGHT_PX,
        logarithmic=(x_scale["type"] != "linear", y_scale["type"] != "linear"),
    )


def _drawn(plans: Sequence[Document], frontier: Sequence[Document], plane: Plane) -> list[Box]:
    """What words must not cover: discs and the staircase."""
    at = sorted(plane.at(p["time_s"], p["cost_usd"]) for p in frontier)
    stairs = [point for (x, y), (to_x, _) in pairwise(at) for point in ((x, y), (to_x, y))] + at[-1:]
    boxes = [around(plane.at(p["time_s"], p["cost_usd"]), _DISC_PX) for p in plans]
    boxes += [around(point, _DOT_PX) for point in at]
    return boxes + along(stairs, 4)


def _names(plans: Sequence[Document], frontier: Sequence[Document], plane: Plane, taken: Sequence[Box]) -> list[Any]:
    """The names of the best plan and of the quickest, none over another."""
    ranked = {(plan["time_s"], plan["cost_usd"]) for plan in plans}
    named = [{**plan, "text": plan["name"]} for plan in plans[-1:]]
    named += [{**p, "text": p["name"]} for p in frontier[-1:] if (p["time_s"], p["cost_usd"]) not in ranked]
    places = spread([(p["time_s"], p["cost_usd"], p["text"]) for p in named], plane, level=False, taken=taken)
    look = {"fontWeight": "bold"}
    return [
        layer
        for row, place in zip(named, places, strict=True)
        if place
        for layer in words([row], {}, align=place.align, dx=place.dx_px, dy=place.dy_px, **look)
    ]


def _tips(alt: Any) -> list[Any]:
    """What a reader sees at a point."""
    shown = {"rank": "rank", "name": "plan", "where": "where", "time": "time", "cost": "cost"}
    return [alt.Tooltip(f"{field}:N", title=title) for field, title in shown.items()]


def _position(
    channel: Any, quantity: str, rows: Sequence[Document], near: Sequence[Document] = (), *, at: str = ""
) -> Any:
    """The encoding of time or cost along an axis that holds everything that is drawn."""
    alt = altair()
    values = [row[f"{quantity}_{p}"] for row in rows for p in ("p10", "p90")]
    values += [limit[quantity] for limit in near if limit["quantity"] == quantity]
    above_zero = [value for value in values if value > 0] or [1.0]
    low, high, has_zero = min(above_zero), max(above_zero), min(values) <= 0
    is_log = high / low > _LOG_FROM_RATIO
    domain = [0.0 if has_zero or not is_log else 0.8 * low, (1.25 if is_log else 1.05) * high]
    if quantity == "time_s":
        title, axis = "time", time_axis(spread_ticks(*domain) if is_log else even_ticks(high))
    else:
        ticks = ([0.0] if has_zero else []) + decimal_ticks(low, domain[1])
        title, axis = "cost (US $)", dollars_axis(**({"values": ticks} if is_log else {}))
    kind = {"type": "symlog", "constant": low} if is_log and has_zero else {"type": "log" if is_log else "linear"}
    scale = alt.Scale(**kind, domain=domain, nice=False)
    return channel(f"{quantity}{at}:Q", title=title, scale=scale, axis=axis)


def _plan_axis(alt: Any, document: Document, width_px: int) -> Any:
    axis = alt.Axis(labelLimit=round(width_px * 0.42), ticks=False)
    return alt.Y("plan:N", title=None, sort=[_label(plan) for plan in document["plans"]], axis=axis)
