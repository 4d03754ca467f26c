"""How busy each part of an application is at its best placement: what limits it stands at the top."""

from __future__ import annotations

from typing import Any

from rigwise.report.figures.axes import percent_axis
from rigwise.report.figures.ranges import shortened
from rigwise.report.figures.theme import (
    BLUE,
    GREEN,
    NO_LABELS_PX,
    PURPLE,
    STRONG,
    Document,
    Figure,
    altair,
    chart,
    dress,
    words,
)
from rigwise.units import format_count, format_fraction, format_seconds

_ROW_PX = 40
_COLOURS = {"component": BLUE, "place": GREEN, "link": PURPLE}
_MOST_ROWS = 24


def busy_parts(document: Document) -> Figure:
    """Components, places and links of the best placement of a ``rigwise.application/1`` document, the busiest first."""
    best = document["placements"][0]
    rows = sorted((_row(document, best, name, frac) for name, frac in best["busy_frac"].items()), key=_busiest_first)
    throughput, latency = best["throughput_per_s"]["p50"], best["latency_s"]["p50"]
    capacity = best["capacity_per_s"]["p50"]
    note = f"{format_count(throughput)} items a second, each done after {format_seconds(latency)}"
    note += f"; it could carry {format_count(capacity)}." if capacity > 1.001 * throughput else "."
    pile = best["backlog"]
    note += f" At {pile[0]['edge']} items pile up." if pile else ""
    left_out = len(rows) - _MOST_ROWS
    note += f" {left_out} that are less busy are left out." if left_out > 0 else ""
    title = f"What limits {document['name']}: {_plain(best['bottleneck'])}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(rows[:_MOST_ROWS], width_px))


def _busiest_first(row: Document) -> tuple[float, str]:
    return -row["busy"], row["name"]


def _plain(resource: str) -> str:
    """``workers inspect`` as people say it."""
    return resource.removeprefix("workers ")


def _row(document: Document, best: Document, resource: str, busy_frac: float) -> dict[str, Any]:
    kind, _, name = resource.partition(" ")
    busy = f"{format_fraction(busy_frac) if busy_frac >= 0.005 or not busy_frac else 'under 1 %'} busy"
    told = f"{name}: {busy}"
    if kind == "workers":
        place = best["placement"][name]
        call = format_seconds(document["services"][name][place]["call_s"]["p50"])
        told = f"{name} on {place}: {busy}, {call} a call, {format_count(best['rates_per_s'][name])} a second"
    return {
        "name": resource,
        "kind": "component" if kind == "workers" else kind,
        "busy": busy_frac,
        "text": told if kind != "link" else f"link {told}",
    }


def _draw(rows: list[dict[str, Any]], width_px: int) -> Any:
    alt = altair()
    shown = [kind for kind in _COLOURS if any(row["kind"] == kind for row in rows)]
    colours = alt.Scale(domain=shown, range=[_COLOURS[kind] for kind in shown])
    most = max(1.0, *(row["busy"] for row in rows)) if len(rows) > 1 else 1.0
    x = alt.X("busy:Q", title="busy", axis=percent_axis(), scale=alt.Scale(domain=[0, 1.02 * most], nice=False))
    y = alt.Y("name:N", title=None, sort=[row["name"] for row in rows], axis=None, scale=alt.Scale(padding=0))
    legend = alt.Legend(orient="top", title=None)
    colour = alt.Color("kind:N", title=None, scale=colours, legend=legend)
    kept = [row | {"whole": row["text"], "text": shortened(row["text"], width_px - NO_LABELS_PX)} for row in rows]
    tooltip = [alt.Tooltip("whole:N", title="what")]
    bars = chart(kept).mark_bar(height=12, yOffset=8).encode(x=x, y=y, color=colour, tooltip=tooltip)
    full = chart([{"busy": 1.0}]).mark_rule(color=STRONG, strokeDash=[5, 4]).encode(x=x)
    layers = [bars, full, *words(kept, {"x": alt.value(2), "y": y}, dy=-8)]
    return dress(alt.layer(*layers), width_px, _ROW_PX * len(rows))
