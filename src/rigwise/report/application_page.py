"""An application's answer as one HTML page: self-contained, without scripts, the drawing first."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import log10

from rigwise.application.answer import Answer
from rigwise.application.plan import ApplicationPlan, Move
from rigwise.application.types import Edge
from rigwise.report.application_draw import edge_words
from rigwise.report.application_text import (
    assumptions,
    busy_words,
    certificate_lines,
    change,
    headline,
    move_words,
    rate,
    resource_words,
)
from rigwise.report.html import Markup, table, tag
from rigwise.report.layers import Spot, layered
from rigwise.report.page import answer, listed, page, percent, repeat, rests_on, section
from rigwise.units import format_bytes, format_fraction, format_seconds, format_usd

_WIDE, _HIGH, _GAP_X, _GAP_Y, _EDGE = 164, 66, 104, 40, 16
_COLOURS = 6


def application_page(plan: ApplicationPlan, *, command: str = "") -> str:
    """The page.

    Args:
        plan: The answer.
        command: The command line that made it, shown at the end.
    """
    parts = [
        _answer(plan, plan.answers[0]),
        _flow(plan),
        section("Components", _components(plan, plan.answers[0]), class_="stack"),
        section("Places and links", _resources(plan, plan.answers[0]), class_="stack"),
        section("Moving one component", _moves(plan), class_="stack") if plan.moves else None,
        listed("Certificate", certificate_lines(plan.certificate)),
        rests_on(assumptions(plan), ()),
        repeat(command),
    ]
    return page(headline(plan), parts, closing="Best means best with these costs.", sheets=("application_page.css",))


def _answer(plan: ApplicationPlan, found: Answer) -> Markup:
    offered = plan.costed.offered_per_s
    carried = f"of {rate(offered)} offered" if offered else _range(found.throughput_per_s, rate)
    latency = _range(found.latency_s, format_seconds) or "without queueing"
    limit = resource_words(found.bottleneck).replace(" -> ", "\N{NO-BREAK SPACE}→ ")
    tiles = [
        ("Throughput", rate(found.throughput_per_s["p50"]), carried),
        ("Latency", format_seconds(found.latency_s["p50"]), latency),
        ("Bottleneck", limit, f"busy {format_fraction(found.busy_frac[found.bottleneck])}"),
    ]
    if offered and not found.backlog:
        tiles.insert(1, ("Could carry", rate(found.capacity_per_s["p50"]), _range(found.capacity_per_s, rate)))
    for pile in found.backlog[:1]:
        tiles.append(
            (
                "Piles up",
                rate(pile.items_per_s),
                f"{format_bytes(pile.bytes_per_s)}/s at {pile.edge.replace('->', '→')}",
            )
        )
    if found.usd_per_h:
        tiles.append(("Cost", f"{format_usd(found.usd_per_h)}/h", "of the places in use"))
    gap = plan.certificate.gap_frac
    proof = "proven" if gap == 0 else f"within {percent(gap)}"
    tiles.append(("Best", proof, f"of {plan.certificate.candidates:,} placements"))
    name, _, asked = headline(plan).partition(": ")
    return answer(asked, name, "", tiles)


def _range(values: Mapping[str, float], show: Callable[[float], str]) -> str:
    low, high = show(values["p10"]), show(values["p90"])
    return "" if low == high else f"80 %: {low} to {high}"


def _components(plan: ApplicationPlan, found: Answer) -> Markup:
    columns = {"component": "keep", "on": "", "items/s": "number", "one call": "number", "at once": "number"}
    rows = []
    for name, place in found.placement.items():
        service, batch = plan.costed.services[name][place], plan.costed.application.components[name].batch
        call = format_seconds(service.call_s["p50"]) + (f" for {batch}" if batch > 1 else "")
        busy = busy_words(found.busy_frac[f"workers {name}"])
        per_s = rate(found.rates_per_s[name]).removesuffix(" items/s")
        rows.append([name, place, per_s, call, str(service.side_by_side), busy, service.source])
    return table({**columns, "busy": "number", "cost is": ""}, rows)


def _resources(plan: ApplicationPlan, found: Answer) -> Markup:
    rows = []
    for name, place in plan.costed.application.places.items():
        held = found.memory_bytes.get(name, 0.0)
        memory = format_bytes(held) + (f" of {format_bytes(place.memory_bytes)}" if place.memory_bytes else "")
        what = place.device or (f"{place.cores} cores" if place.kind == "cpu" else place.kind)
        runs = ", ".join(c for c, where in found.placement.items() if where == name) or "nothing"
        busy = busy_words(found.busy_frac.get(f"place {name}", 0.0))
        rows.append([name, what, busy, memory if held else "-", runs])
    for resource, busy_frac in found.busy_frac.items():
        if resource.startswith("link "):
            rows.append([resource.removeprefix("link "), "link", busy_words(busy_frac), "-", ""])
    return table({"place": "keep", "is": "", "busy": "number", "memory": "number", "runs": ""}, rows)


def _moves(plan: ApplicationPlan) -> Markup:
    ranked = sorted(plan.moves, key=lambda move: -move.answer.capacity_per_s["p50"] if move.answer else 1.0)
    numbers = dict.fromkeys(("throughput", "change", "latency", "change "), "number")
    rows = [_move(move, plan.answers[0]) for move in ranked]
    grid = table({"move": "keep", **numbers, "then limits": ""}, rows)
    pinned = tag("p", "* against on or places in the file", class_="soft")
    return Markup(grid + ("" if all(move.allowed for move in ranked) else pinned))


def _move(move: Move, first: Answer) -> list[str]:
    name, found = move_words(move), move.answer
    if found is None:
        return [name, "cannot be", "", "", "", move.why_not]
    per_s, latency_s = found.capacity_per_s["p50"], found.latency_s["p50"]
    changes = change(per_s, first.capacity_per_s["p50"]), change(latency_s, first.latency_s["p50"])
    return [name, rate(per_s), changes[0], format_seconds(latency_s), changes[1], resource_words(found.bottleneck)]


# The drawing


def _flow(plan: ApplicationPlan) -> Markup:
    """The graph from left to right, a colour for each place, the bottleneck outlined."""
    application = plan.costed.application
    pairs = list(dict.fromkeys((edge.source, edge.target) for edge in application.edges))
    spots = layered(list(application.components), pairs)
    lowest = min(row for _, row in spots.values())
    at = {
        spot: (_EDGE + layer * (_WIDE + _GAP_X), _EDGE + (row - lowest) * (_HIGH + _GAP_Y))
        for spot, (layer, row) in spots.items()
    }
    width = max(x for x, _ in at.values()) + _WIDE + _EDGE
    height = max(y for _, y in at.values()) + _HIGH + _EDGE
    edges = [part for edge in application.edges for part in _edge(plan, edge, at)]
    boxes = [part for name in application.components for part in _box(plan, name, at[name])]
    labels = [part for edge in application.edges for part in _label(plan, edge, at)]
    picture = tag(
        "svg",
        tag("title", headline(plan)),
        *edges,
        *boxes,
        *labels,
        viewBox=f"0 0 {width} {height:g}",
        style=f"min-width:{0.8 * width:g}px;max-width:{width:g}px",
        role="img",
        xmlns="http://www.w3.org/2000/svg",
    )
    used = [p for p in application.places if p in plan.answers[0].placement.values()]
    key = tag("ul", *(tag("li", tag("i", style=f"background:{_colour(plan, p)}"), p) for p in used), class_="key")
    return tag("figure", key, tag("div", picture, class_="scroll", tabindex="0"), class_="flow")


def _colour(plan: ApplicationPlan, place: str) -> str:
    number = list(plan.costed.application.places).index(place)
    return f"var(--place{min(number, _COLOURS - 1)})"


def _box(plan: ApplicationPlan, name: str, at: tuple[float, float]) -> list[Markup]:
    found, (x, y) = plan.answers[0], at
    place = found.placement[name]
    busy = min(1.0, found.busy_frac[f"workers {name}"])
    service, batch = plan.costed.services[name][place], plan.costed.application.components[name].batch
    call = format_seconds(service.call_s["p50"]) + (f" for {batch}" if batch > 1 else "")
    size = {"x": f"{x:g}", "y": f"{y:g}", "width": str(_WIDE), "height": str(_HIGH), "rx": "6"}
    kind = "box limit" if name in found.limiting else "box"
    bar, long = {"y": f"{y + _HIGH - 12:g}", "height": "5", "rx": "2"}, _WIDE - 24
    return [
        tag("rect", tag("title", f"{name} on {place}: busy {format_fraction(busy)}"), class_=kind, **size),
        tag("rect", x=f"{x:g}", y=f"{y:g}", width="6", height=str(_HIGH), rx="3", fill=_colour(plan, place)),
        _text(x + 14, y + 19, _short(name, 22), "name"),
        _text(x + 14, y + 34, f"{_short(place, 12)}, {rate(found.rates_per_s[name])}", ""),
        _text(x + 14, y + 48, f"{call}, busy {busy_words(busy)}", "note"),
        tag("rect", x=f"{x + 14:g}", width=str(long), class_="track", **bar),
        tag("rect", x=f"{x + 14:g}", width=f"{max(2.0, long * busy):.1f}", fill=_colour(plan, place), **bar),
    ]


def _points(edge: Edge, at: Mapping[Spot, tuple[float, float]]) -> list[tuple[float, float]]:
    """Where an edge leaves, enters and leaves each layer that it crosses, and ends."""
    bends = sorted((s for s in at if isinstance(s, tuple) and s[:2] == (edge.source, edge.target)), key=lambda s: s[2])
    (x, y), (end_x, end_y) = at[edge.source], at[edge.target]
    middle = _HIGH / 2
    inside = [(at[s][0] + side, at[s][1] + middle) for s in bends for side in (0, _WIDE)]
    return [(x + _WIDE, y + middle), *inside, (end_x, end_y + middle)]


def _edge(plan: ApplicationPlan, edge: Edge, at: Mapping[Spot, tuple[float, float]]) -> list[Markup]:
    """A curve as wide as the logarithm of what flows, with an arrow head."""
    found, points = plan.answers[0], _points(edge, at)
    path = f"M{points[0][0]:g} {points[0][1]:g}"
    for (a, b), (c, d) in pairwise(points):
        half = (c - a) / 2
        path += f" C{a + half:g} {b:g} {c - half:g} {d:g} {c:g} {d:g}"
    per_s = _bytes_per_s(plan, edge)
    width = min(9.0, 1.5 + max(0.0, log10(max(per_s, 1.0)) - 3))
    x, y = points[-1]
    kind = "edge limit" if str(edge) in found.limiting else "edge"
    arrow = f"M{x - 9:g} {y - 6:g} L{x - 1:g} {y:g} L{x - 9:g} {y + 6:g}"
    curve = tag(
        "path", tag("title", f"{edge}: {edge_words(plan, edge)}"), d=path, class_=kind, stroke_width=f"{width:.1f}"
    )
    return [curve, tag("path", d=arrow, class_=kind, stroke_width="2")]


def _label(plan: ApplicationPlan, edge: Edge, at: Mapping[Spot, tuple[float, float]]) -> list[Markup]:
    """What flows, over the first stretch of an edge."""
    (a, b), (c, d) = _points(edge, at)[:2]
    output = plan.costed.application.components[edge.source].outputs[edge.output]
    x, y = (a + c) / 2, d + (0 if b == d else 12 if d > b else -16)
    return [
        _text(x, y - 5, _short(output.type, 16), "behind", "middle"),
        _text(x, y + 14, f"{format_bytes(_bytes_per_s(plan, edge))}/s", "note behind", "middle"),
    ]


def _bytes_per_s(plan: ApplicationPlan, edge: Edge) -> float:
    application, per_s = plan.costed.application, plan.answers[0].rates_per_s[edge.source]
    return per_s * application.components[edge.source].outputs[edge.output].ratio_frac * application.item_bytes(edge)


def _text(x: float, y: float, words: str, kind: str, anchor: str | None = None) -> Markup:
    return tag("text", words, x=f"{x:g}", y=f"{y:g}", class_=kind or None, text_anchor=anchor)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
