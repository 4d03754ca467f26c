"""Figures of a machine against their limits."""

from __future__ import annotations

from typing import Any

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import percent_axis
from rigwise.report.figures.theme import BLUE, STRONG, Document, Figure, altair, chart, dress, words
from rigwise.units import format_count, format_seconds

_ROW_PX = 40
_UNITS = {"FLOP/s": "FLOP/s", "B/s": "B/s", "1/s": "/s", "J": "J", "W": "W"}


def figures_of_limits(document: Document) -> Figure:
    """Each figure of a ``rigwise.bench/1`` document that has a limit, as a share of it.

    Raises:
        UnsupportedError: No figure has a limit.
    """
    rows = [_row(figure) for figure in document["figures"] if figure["value"] and figure["limit"]]
    if not rows:
        raise UnsupportedError("no figure was measured that has a limit, so there is nothing to draw")
    rows.sort(key=lambda row: -row["share"])
    others = sum(bool(figure["value"]) for figure in document["figures"]) - len(rows)
    note = "Bars are what was measured, as a share of the physical limit; the line is the limit."
    note += " A cross is what rigwise predicts." if any(row["predicted"] for row in rows) else ""
    note += f" {others} more have no limit." if others else ""
    who = document["name"] or document["device"] or "this machine"
    title = f"What {who} reaches of its limits"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(rows, width_px))


def _row(figure: Document) -> dict[str, Any]:
    unit, value, limit = figure["unit"], figure["value"], figure["limit"]["value"]
    predicted = figure["predicted"]["value"] if figure["predicted"] else None
    share = _share(value, limit, unit)
    text = f"{figure['name']}: {_amount(value, unit)}, limit {_amount(limit, unit)}"
    return {
        "name": figure["name"],
        "share": share,
        "predicted": _share(predicted, limit, unit) if predicted else None,
        "text": text,
        "measured_text": _amount(value, unit),
        "limit_text": _amount(limit, unit),
        "percent": f"{share:.0%}".replace("%", " %") if share >= 0.01 else f"{share:.1%}".replace("%", " %"),
    }


def _share(value: float, limit: float, unit: str) -> float:
    """Of times and energies the limit is the least, of rates the most."""
    return limit / value if unit in ("s", "J") else value / limit


def _amount(value: float, unit: str) -> str:
    return format_seconds(value) if unit == "s" else format_count(value, _UNITS.get(unit, unit))


def _draw(rows: list[dict[str, Any]], width_px: int) -> Any:
    alt = altair()
    most = max(1.0, *(max(row["share"], row["predicted"] or 0.0) for row in rows))
    x = alt.X("share:Q", title="of the limit", axis=percent_axis(), scale=alt.Scale(domain=[0, 1.02 * most]))
    y = alt.Y("name:N", title=None, sort=[row["name"] for row in rows], axis=None, scale=alt.Scale(padding=0))
    tips = {"name": "figure", "measured_text": "measured", "limit_text": "limit", "percent": "of the limit"}
    tooltip = [alt.Tooltip(f"{field}:N", title=title) for field, title in tips.items()]
    bars = chart(rows).mark_bar(height=12, yOffset=8, color=BLUE).encode(x=x, y=y, tooltip=tooltip)
    layers = [bars]
    guessed = [{"name": row["name"], "share": row["predicted"]} for row in rows if row["predicted"]]
    if guessed:
        mark = chart(guessed).mark_point(shape="cross", filled=True, size=60, color=STRONG, opacity=1, yOffset=8)
        layers.append(mark.encode(x=x, y=y))
    layers.append(chart([{"share": 1.0}]).mark_rule(color=STRONG, strokeDash=[5, 4]).encode(x=x))
    layers += words(rows, {"x": alt.value(2), "y": y}, dy=-8)
    return dress(alt.layer(*layers), width_px, _ROW_PX * len(rows))
