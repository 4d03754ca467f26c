"""What a job costs on spot capacity, from a quiet market to a bad one."""

from __future__ import annotations

from typing import Any

from rigwise.report.figures.axes import dollars_axis, spread_ticks, time_axis
from rigwise.report.figures.theme import (
    BLUE,
    GREEN,
    NARROW_BELOW_PX,
    VERMILLION,
    Document,
    Figure,
    altair,
    chart,
    dress_panels,
    panel_px,
)
from rigwise.units import format_fraction, format_seconds, format_usd

_WORDS = {
    "spot only": "spot only",
    "fallback": "spot, then on demand",
    "on-demand only": "on demand only",
}
_TITLE = {"cost": "cost (US $)", "time": "time until it is done"}
_LOOK = {"spot only": (BLUE, "circle"), "fallback": (GREEN, "diamond"), "on-demand only": (VERMILLION, "square")}


def spot_costs(document: Document) -> Figure:
    """Cost and time of each policy in each scenario of a ``rigwise.plan.spot/1`` document, p10 to p90."""
    runs = [
        f"{one['name']} {format_seconds(one['run_s'])} then {format_seconds(one['wait_s'])}"
        for one in document["scenarios"]
    ]
    note = "Marks are medians, lines reach from p10 to p90. An instance runs, and then is missing, on the mean: "
    note += f"{'; '.join(runs)}."
    title = f"Spot or not: {document['question']['plan']}"
    return Figure(title=title, note=note, draw=lambda width_px: _draw(document, width_px))


def _draw(document: Document, width_px: int) -> Any:
    alt = altair()
    rows = []
    for scenario in document["scenarios"]:
        for policy in scenario["policies"]:
            row = {"market": scenario["name"], "policy": _WORDS.get(policy["policy"], policy["policy"])}
            for name, quantity, show in (("cost", "cost_usd", format_usd), ("time", "time_s", format_seconds)):
                row |= {f"{name}_{q}": policy[quantity][q] for q in ("p10", "p50", "p90")}
                row[f"{name}_text"] = show(policy[quantity]["p50"])
            late = policy.get("late_frac")
            rows.append(row | {"late": format_fraction(late) if late is not None else "no deadline"})
    highest_s = max(row["time_p90"] for row in rows)
    lowest_s = min(row["time_p10"] for row in rows)
    cost = alt.X("cost_p50:Q", title=_TITLE["cost"], axis=dollars_axis(), scale=alt.Scale(zero=True))
    time = alt.X(
        "time_p50:Q",
        title=_TITLE["time"],
        axis=time_axis(spread_ticks(lowest_s * 0.9, highest_s * 1.1)),
        scale=alt.Scale(type="log", domain=[lowest_s * 0.9, highest_s * 1.1], nice=False),
    )
    panels = [_panel(alt, rows, (name, x), width_px) for name, x in (("cost", cost), ("time", time))]
    return dress_panels(alt.vconcat(*panels, spacing=14), width_px)


def _panel(alt: Any, rows: list[dict[str, Any]], what: tuple[str, Any], width_px: int) -> Any:
    """One quantity: a row for each policy in each market."""
    name, x = what
    policies = list(dict.fromkeys(row["policy"] for row in rows))
    looks = [_LOOK[key] for key, word in _WORDS.items() if word in policies]
    markets = list(dict.fromkeys(row["market"] for row in rows))
    y = alt.Y("market:N", title=None, sort=markets, axis=alt.Axis(ticks=False, domain=False))
    lane = alt.YOffset("policy:N", sort=policies)
    legend = alt.Legend(orient="top", title=None, columns=3 if width_px > NARROW_BELOW_PX else 2)
    colour = alt.Color("policy:N", scale=alt.Scale(domain=policies, range=[c for c, _ in looks]), legend=legend)
    shape = alt.Shape("policy:N", scale=alt.Scale(domain=policies, range=[s for _, s in looks]), legend=legend)
    tips = {"policy": "policy", "market": "market", f"{name}_text": name, "late": "late"}
    base = chart(rows)
    lines = base.mark_rule(strokeWidth=2.5).encode(
        x=alt.X(f"{name}_p10:Q", title=_TITLE[name]),
        x2=f"{name}_p90:Q",
        y=y,
        yOffset=lane,
        color=colour,
    )
    marks = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=x,
        y=y,
        yOffset=lane,
        color=colour,
        shape=shape,
        tooltip=[alt.Tooltip(f"{f}:N", title=t) for f, t in tips.items()],
    )
    return alt.layer(lines, marks).properties(width=panel_px(width_px), height=46 * len(markets))
