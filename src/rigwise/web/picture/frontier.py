"""Cost against time: the listed plans, the frontier, the deadline and the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rigwise.report.figures.label import Box, Place, along, around, spread, word_box
from rigwise.report.figures.plan import limit_places, limits
from rigwise.report.html import Markup, tag
from rigwise.units import format_seconds, format_usd
from rigwise.web.picture.plane import (
    NARROW_PX,
    Axes,
    beside,
    fitting,
    line,
    path,
    picture,
    plain_ticks,
    text,
    tick_seconds,
    tick_usd,
    time_ticks,
)

Document = Mapping[str, Any]

#: A plan of the frontier is drawn if it costs at most this many times the best one.
_NEAR = 12.0
_HEIGHT_PX, _LEFT_PX, _TOP_PX, _BOTTOM_PX = 330, 58, 26, 44


def frontier(document: Document, width_px: int) -> Markup:
    """The picture of a ``rigwise.plan/1`` document that holds a plan.

    The frontier is a staircase: between two of its plans nothing cheaper is as quick. Whiskers reach
    from p10 to p90; numbers are ranks.
    """
    plans, front = document["plans"], drawn(document)
    near = [limit for limit in limits(document) if limit["near"]]
    axes = _axes(plans, front, near, width_px)
    taken = _taken(axes, document)
    told = limit_places(near, axes.plane(), taken)
    taken += [word_box(at, place, limit["text"]) for limit, at, place in told]
    parts: list[Markup | None] = [axes.drawn("time", "cost"), *(_limit(axes, *one) for one in told)]
    stairs = _stairs(axes, document)
    parts.append(path(stairs, "stairs") if len(stairs) > 1 else None)
    parts += [_dot(axes, plan) for plan in front]
    parts += [_whiskers(axes, plan) for plan in plans]
    parts += [_pin(axes, plan) for plan in reversed(plans)]  # the best is drawn last, on top
    parts += _names(axes, document, taken)
    return picture(width_px, _HEIGHT_PX, _told(plans, front), *parts)


def drawn(document: Document) -> list[Document]:
    """The plans of the frontier that are near the best one; the stairs leave the picture towards the others."""
    most_usd = _NEAR * max(plan["cost_usd"]["p50"] for plan in document["plans"])
    return [plan for plan in document["frontier"] if plan["cost_usd"]["p50"] <= most_usd]


def _axes(plans: Sequence[Document], front: Sequence[Document], near: Sequence[Document], width_px: int) -> Axes:
    values: dict[str, list[float]] = {}
    for quantity in ("time_s", "cost_usd"):
        values[quantity] = [plan[quantity][p] for plan in plans for p in ("p10", "p50", "p90")]
        values[quantity] += [plan[quantity]["p50"] for plan in front]
        values[quantity] += [limit[quantity] for limit in near if limit["quantity"] == quantity]
    x = fitting(values["time_s"], _LEFT_PX, width_px - 14)
    y = fitting(values["cost_usd"], _HEIGHT_PX - _BOTTOM_PX, _TOP_PX)
    most = 4 if width_px <= NARROW_PX else 7
    ticks = {"x_ticks": time_ticks(x, most), "y_ticks": plain_ticks(y, 7)}
    return Axes(x=x, y=y, **ticks, x_word=tick_seconds, y_word=tick_usd)


def _at(axes: Axes, plan: Document) -> tuple[float, float]:
    return axes.x.at(plan["time_s"]["p50"]), axes.y.at(plan["cost_usd"]["p50"])


def _stairs(axes: Axes, document: Document) -> list[tuple[float, float]]:
    """From the quickest down to the cheapest, level until the next plan is had; from the edge if others are quicker."""
    points: list[tuple[float, float]] = []
    for plan in sorted(drawn(document), key=lambda plan: float(plan["time_s"]["p50"])):
        x, y = _at(axes, plan)
        points += [(x, points[-1][1])] if points else []
        points.append((x, y))
    beyond = len(drawn(document)) < len(document["frontier"])
    return [(points[0][0], float(axes.y.to_px)), *points] if points and beyond else points


def _limit(axes: Axes, limit: Document, end: tuple[float, float], place: Place) -> Markup:
    """A dashed line; what lies beyond it is shaded."""
    x, y = axes.x, axes.y
    if limit["quantity"] == "time_s":
        at = x.at(limit["time_s"])
        beyond = {"x": at, "y": y.to_px, "width": x.to_px - at, "height": y.from_px - y.to_px}
        rule = line((at, y.from_px), (at, y.to_px), "rule")
    else:
        at = y.at(limit["cost_usd"])
        beyond = {"x": x.from_px, "y": y.to_px, "width": x.to_px - x.from_px, "height": at - y.to_px}
        rule = line((x.from_px, at), (x.to_px, at), "rule")
    shade = tag("rect", **{name: f"{value:g}" for name, value in beyond.items()}, class_="beyond")
    words = beside((x.from_px + end[0], y.to_px + end[1]), place, limit["text"], "limit")
    return tag("g", shade, rule, words, class_="limits")


def _dot(axes: Axes, plan: Document) -> Markup:
    x, y = _at(axes, plan)
    return tag("circle", tag("title", _words(plan)), cx=f"{x:g}", cy=f"{y:g}", r="4", class_="dot")


def _whiskers(axes: Axes, plan: Document) -> Markup:
    x, y = _at(axes, plan)
    across, along = (
        [scale.at(plan[q][p]) for p in ("p10", "p90")] for scale, q in ((axes.x, "time_s"), (axes.y, "cost_usd"))
    )
    return tag("g", line((across[0], y), (across[1], y), "whisker"), line((x, along[0]), (x, along[1]), "whisker"))


def _pin(axes: Axes, plan: Document) -> Markup:
    """A disc with the rank in it."""
    x, y = _at(axes, plan)
    disc = tag("circle", cx=f"{x:g}", cy=f"{y:g}", r="10")
    rank = text((x, y + 4), str(plan["rank"]), "middle")
    return tag("g", tag("title", _words(plan)), disc, rank, class_="pin first" if plan["rank"] == 1 else "pin")


def _names(axes: Axes, document: Document, taken: Sequence[Box]) -> list[Markup]:
    """The names of the best plan and of the quickest that is drawn, where there is room."""
    best, front = document["plans"][:1], drawn(document)
    quickest = min(front, key=lambda plan: float(plan["time_s"]["p50"]), default=None)
    named = [*best]
    if quickest is not None and _at(axes, quickest) != _at(axes, best[0]):
        named.append(quickest)
    wanted = [(plan["time_s"]["p50"], plan["cost_usd"]["p50"], _name(plan)) for plan in named]
    places = spread(wanted, axes.plane(), level=False, taken=taken)
    return [beside(_at(axes, plan), place, _name(plan)) for plan, place in zip(named, places, strict=True) if place]


def _taken(axes: Axes, document: Document) -> list[Box]:
    """What words must not cover: the stairs, the discs and the dots, in the pixels of the plane."""
    left, top = axes.x.from_px, axes.y.to_px
    boxes = [around((x - left, y - top), 11) for x, y in (_at(axes, plan) for plan in document["plans"])]
    boxes += [around((x - left, y - top), 5) for x, y in (_at(axes, plan) for plan in drawn(document))]
    return boxes + along([(x - left, y - top) for x, y in _stairs(axes, document)], 3)


def _name(plan: Document) -> str:
    return f"{plan['count']} \N{MULTIPLICATION SIGN} {plan['device']}"


def _words(plan: Document) -> str:
    time, cost = (
        f"{show(plan[q]['p50'])} ({show(plan[q]['p10'])} to {show(plan[q]['p90'])})"
        for q, show in (("time_s", format_seconds), ("cost_usd", format_usd))
    )
    return f"{_name(plan)}, {plan['provider']}: {time}, {cost}"


def _told(plans: Sequence[Document], front: Sequence[Document]) -> str:
    count = f"{len(front)} plans are on the frontier" if len(front) != 1 else "one plan is on the frontier"
    return f"Cost against time. The best: {_words(plans[0])}. {count.capitalize()}."
