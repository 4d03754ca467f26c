"""Charts of the JSON documents that ``rigwise plan --json`` prints.

Every function takes such a document and returns an Altair chart: data as plain rows, units on
the axes, colours that people with colour-blindness can tell apart and that read on a light and
on a dark page. ``svg`` draws one without a browser.

Source of the colours: Okabe & Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rigwise.errors import MissingExtraError
from rigwise.units import DAY_S, HOUR_S, MINUTE_S, format_seconds, format_usd

Document = Mapping[str, Any]

#: Text, axes and grid: a grey with a contrast over 4:1 against white and 3.9:1 against near-black.
INK = "#6e7781"
BLUE, VERMILLION, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"
PALETTE = {"blue": BLUE, "vermillion": VERMILLION, "green": GREEN, "purple": PURPLE, "grey": GREY}
COLOUR_OF_LIMIT = {"compute": BLUE, "memory": VERMILLION, "launch": GREEN, "network": PURPLE, "input": GREY}

#: A scale turns logarithmic where the largest value is this many times the smallest.
LOG_SCALE_FROM_RATIO = 8.0


def cost_against_time(document: Document, *, width_px: int = 640) -> Any:
    """The listed plans and the frontier in the plane of time and cost, with deadline and budget.

    The frontier is a staircase: between two of its plans nothing cheaper is as quick. Whiskers
    reach from p10 to p90.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = _altair()
    frontier = sorted(document.get("frontier", []), key=lambda plan: plan["time_s"]["p50"])
    size_s, unit = _time_unit([*document["plans"], *frontier])
    rows = [_point(plan, size_s) for plan in reversed(document["plans"])]  # the best is drawn last, on top
    steps = [_point(plan, size_s) for plan in frontier]
    limits = _limits(document.get("job", {}), size_s)
    x = alt.X("time:Q", title=f"time ({unit})", **_axis(alt, [*rows, *steps], "time", limits.get("time")))
    y = alt.Y("cost:Q", title="cost (US $)", **_axis(alt, [*rows, *steps], "cost", limits.get("cost")))

    stairs = alt.Chart(_data(alt, steps)).mark_line(interpolate="step-after", color=BLUE, opacity=0.6).encode(x=x, y=y)
    across = (
        alt.Chart(_data(alt, rows)).mark_rule(color=BLUE, opacity=0.45).encode(x="time_p10:Q", x2="time_p90:Q", y=y)
    )
    along = alt.Chart(_data(alt, rows)).mark_rule(color=BLUE, opacity=0.45).encode(x=x, y="cost_p10:Q", y2="cost_p90:Q")
    others = alt.Chart(_data(alt, steps)).mark_circle(color=BLUE, size=36, opacity=1).encode(x=x, y=y)
    colour = alt.condition(alt.datum.rank == 1, alt.value(VERMILLION), alt.value(BLUE))
    points = alt.Chart(_data(alt, rows)).mark_circle(size=110, opacity=1).encode(x=x, y=y, color=colour)
    ranks = [_ranks(alt, rows[:-1], x, y, dy=-10), _ranks(alt, rows[-1:], x, y, dy=15)]
    layers = [*_limit_lines(alt, limits), stairs, across, along, others, points, *ranks]
    return _dress(alt.layer(*layers), width_px, 300)


def time_by_what_binds(document: Document, *, width_px: int = 640) -> Any:
    """Time of each plan, split by what limits it: arithmetic, memory traffic, launches, network, input.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = _altair()
    plans = [plan for plan in document["plans"] if plan.get("binds")]
    size_s, unit = _time_unit(plans)
    rows = [
        {"plan": name, "limit": limit, "time": plan["time_s"]["p50"] / size_s * frac, "order": order}
        for name, plan in _named(plans)
        for order, limit in enumerate(COLOUR_OF_LIMIT)
        if (frac := plan["binds"].get(limit, 0.0)) > 0
    ]
    shown = [limit for limit in COLOUR_OF_LIMIT if any(row["limit"] == limit for row in rows)]
    colours = alt.Scale(domain=shown, range=[COLOUR_OF_LIMIT[limit] for limit in shown])
    bars = (
        alt.Chart(_data(alt, rows))
        .mark_bar(height={"band": 0.7})
        .encode(
            x=alt.X("time:Q", title=f"time ({unit})", stack="zero"),
            y=_plan_axis(alt, [name for name, _ in _named(plans)], width_px),
            color=alt.Color(
                "limit:N",
                title=None,
                scale=colours,
                legend=alt.Legend(orient="top", columns=5 if width_px > 500 else 3),
            ),
            order="order:O",
        )
    )
    return _dress(bars, width_px, 34 * max(1, len(plans)))


def intervals(document: Document, quantity: str, *, width_px: int = 640) -> Any:
    """Each plan's p10 to p90 as a bar and its p50 as a tick.

    Args:
        document: A plan document.
        quantity: ``cost_usd`` or ``time_s``.
        width_px: Width of the drawing area.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = _altair()
    plans = document["plans"]
    size, title = (1.0, "cost (US $)") if quantity == "cost_usd" else _titled(_time_unit(plans))
    rows = [
        {"plan": name, **{p: plan[quantity][p] / size for p in ("p10", "p50", "p90")}} for name, plan in _named(plans)
    ]
    ends = [{f"of_{p}": row[p] for p in ("p10", "p90")} for row in rows]
    scaled = _axis(alt, ends, "of", None)
    base = alt.Chart(_data(alt, rows)).encode(y=_plan_axis(alt, [row["plan"] for row in rows], width_px))
    bars = base.mark_bar(height=9, color=BLUE, opacity=0.55, cornerRadius=4).encode(
        x=alt.X("p10:Q", title=title, **scaled), x2="p90:Q"
    )
    ticks = base.mark_tick(thickness=3, height=17, color=VERMILLION, opacity=1).encode(x=alt.X("p50:Q", **scaled))
    return _dress(alt.layer(bars, ticks), width_px, 30 * max(1, len(rows)))


def svg(chart: Any) -> str:
    """The chart as one SVG element that follows the colours of the page around it.

    Text and axes take the page's text colour; a page may set ``--blue``, ``--vermillion`` and so on.

    Raises:
        MissingExtraError: vl-convert is not installed.
    """
    try:
        import vl_convert
    except ImportError:
        raise MissingExtraError("vl-convert-python", "plot") from None
    drawn: str = vl_convert.vegalite_to_svg(chart.to_dict())
    for name, colour in PALETTE.items():
        drawn = drawn.replace(colour, f"var(--{name},{colour})")
    return drawn.replace(INK, "currentColor")


def plan_name(plan: Document) -> str:
    """What is used and where, short: ``8 x h100-sxm5-80gb, lambda``."""
    where = plan.get("provider") or plan.get("kind", "")
    return f"{plan['count']} x {plan['device']}, {where}"


def _altair() -> Any:
    try:
        import altair
    except ImportError:
        raise MissingExtraError("altair", "plot") from None
    return altair


def _data(alt: Any, rows: list[dict[str, Any]]) -> Any:
    """Rows inside the chart, without a data frame."""
    return alt.InlineData(values=rows)


def _named(plans: list[Document]) -> list[tuple[str, Document]]:
    """Plans with a label that is unique because it starts with the rank."""
    return [(f"{plan['rank']}. {plan_name(plan)}", plan) for plan in plans]


def _point(plan: Document, size_s: float) -> dict[str, Any]:
    """One plan as a row of numbers for the plane of time and cost."""
    row: dict[str, Any] = {
        "rank": plan.get("rank"),
        "time": plan["time_s"]["p50"] / size_s,
        "cost": plan["cost_usd"]["p50"],
    }
    for p in ("p10", "p90"):
        row |= {f"time_{p}": plan["time_s"][p] / size_s, f"cost_{p}": plan["cost_usd"][p]}
    return row


def _time_unit(plans: list[Document]) -> tuple[float, str]:
    """Seconds in the unit in which the longest of the plans reads well, and its name."""
    longest_s = max((plan["time_s"]["p50"] for plan in plans), default=0.0)
    steps = [(3 * DAY_S, DAY_S, "days"), (2 * HOUR_S, HOUR_S, "hours"), (2 * MINUTE_S, MINUTE_S, "minutes")]
    return next(((size_s, unit) for least_s, size_s, unit in steps if longest_s >= least_s), (1.0, "seconds"))


def _titled(time_unit: tuple[float, str]) -> tuple[float, str]:
    size_s, unit = time_unit
    return size_s, f"time ({unit})"


def _limits(job: Document, size_s: float) -> dict[str, dict[str, Any]]:
    """Deadline and budget of the job as rows to draw."""
    found: dict[str, dict[str, Any]] = {}
    if job.get("deadline_s"):
        found["time"] = {"at": job["deadline_s"] / size_s, "text": f"deadline {format_seconds(job['deadline_s'])}"}
    if job.get("budget_usd"):
        found["cost"] = {"at": job["budget_usd"], "text": f"budget {format_usd(job['budget_usd'])}"}
    return found


def _ranks(alt: Any, rows: list[dict[str, Any]], x: Any, y: Any, dy: int) -> Any:
    """The rank of each plan beside its point."""
    return (
        alt.Chart(_data(alt, rows))
        .mark_text(dx=10, dy=dy, color=INK, fontWeight="bold")
        .encode(x=x, y=y, text="rank:N")
    )


def _limit_lines(alt: Any, limits: dict[str, dict[str, Any]]) -> list[Any]:
    layers = []
    for axis, row in limits.items():
        base = alt.Chart(_data(alt, [row]))
        along = {"x": alt.X("at:Q")} if axis == "time" else {"y": alt.Y("at:Q")}
        edge = {"y": alt.value(0)} if axis == "time" else {"x": alt.value(0)}
        place = {"align": "right", "dx": -5, "dy": 10} if axis == "time" else {"align": "left", "dx": 5, "dy": -7}
        layers.append(base.mark_rule(color=INK, strokeDash=[5, 4]).encode(**along))
        layers.append(base.mark_text(color=INK, **place).encode(**along, **edge, text="text:N"))
    return layers


def _spans(rows: list[dict[str, Any]], keys: tuple[str, ...]) -> bool:
    """Whether the values range so widely that a linear axis would hide the small ones."""
    values = [row[key] for row in rows for key in keys]
    return bool(values) and min(values) > 0 and max(values) / min(values) > LOG_SCALE_FROM_RATIO


def _axis(alt: Any, rows: list[dict[str, Any]], axis: str, limit: dict[str, Any] | None) -> dict[str, Any]:
    """Scale and ticks that hold every whisker and the limit, logarithmic where they span much."""
    values = [{"at": row[f"{axis}_{p}"]} for row in rows for p in ("p10", "p90")] + ([limit] if limit else [])
    if not _spans(values, ("at",)):
        return {"scale": alt.Scale(zero=True, nice=True)}
    low, high = 0.8 * min(row["at"] for row in values), 1.25 * max(row["at"] for row in values)
    return {
        "scale": alt.Scale(type="log", domain=[low, high], nice=False),
        "axis": alt.Axis(values=_log_ticks(low, high)),
    }


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... within the range; only powers of ten where it spans over three decades.

    >>> _log_ticks(0.4, 25)
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    """
    digits = (1, 2, 5) if high < 1000 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for e in decades for d in digits if low <= (tick := float(f"{d}e{e}")) <= high]


def _plan_axis(alt: Any, names: list[str], width_px: int) -> Any:
    return alt.Y("plan:N", title=None, sort=names, axis=alt.Axis(labelLimit=round(width_px * 0.42), ticks=False))


def _dress(chart: Any, width_px: int, height_px: int) -> Any:
    """Size and the look that all charts share."""
    grid = {"gridColor": INK, "gridOpacity": 0.22, "domainColor": INK, "tickColor": INK}
    text = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
    return (
        chart.properties(width=width_px, height=height_px, background="transparent")
        .properties(autosize={"type": "fit-x", "contains": "padding"})
        .configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**grid, **text, tickCount=6)
        .configure_legend(labelColor=INK, labelFontSize=12)
    )
