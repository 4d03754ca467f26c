"""Charts of the document that ``rigwise plan --json`` prints.

Every function takes that document and returns an Altair chart: data as plain rows, units on the
axes, colours that people with colour-blindness can tell apart and that read on a light and on a
dark page. ``svg`` draws a chart without a browser.

Source of the colours: Okabe & Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rigwise.errors import MissingExtraError
from rigwise.units import DAY_S, HOUR_S, MINUTE_S, format_seconds, format_usd

Document = Mapping[str, Any]

#: Text, axes and grid: a grey that reads on white and on near-black.
INK = "#6e7781"
PALETTE = {"blue": "#0072b2", "vermillion": "#d55e00", "green": "#009e73", "purple": "#cc79a7", "grey": "#999999"}
BLUE, VERMILLION = PALETTE["blue"], PALETTE["vermillion"]
COLOUR_OF_LIMIT = dict(zip(("compute", "memory", "launch", "network", "input"), PALETTE.values(), strict=True))

#: A scale turns logarithmic where the largest value is this many times the smallest.
_LOG_FROM_RATIO = 8.0

#: A limit of the job is drawn if it is at most this many times the largest plan.
_NEAR = 4.0

#: Distances between the ticks of a time axis.
_STEPS_S = (
    *(1.0, 2.0, 5.0, 10.0, 20.0, 30.0),
    *(n * MINUTE_S for n in (1, 2, 5, 10, 20, 30)),
    *(n * HOUR_S for n in (1, 2, 3, 6, 12)),
    *(n * DAY_S for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
_TIME_LABEL = (
    f"datum.value >= {DAY_S} ? datum.value / {DAY_S} + ' d' : datum.value >= {HOUR_S} ? datum.value / {HOUR_S} + ' h'"
    f" : datum.value >= {MINUTE_S} ? datum.value / {MINUTE_S} + ' min' : datum.value + ' s'"
)


def cost_against_time(document: Document, *, width_px: int = 720) -> Any:
    """The listed plans and the frontier in the plane of time and cost, with deadline and budget.

    The frontier is a staircase: between two of its plans nothing cheaper is as quick. Whiskers
    reach from p10 to p90.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = _altair()
    plans = [_point(plan) for plan in reversed(document["plans"])]  # the best is drawn last, on top
    frontier = [_point(plan) for plan in document["frontier"]]
    near = [limit for limit in limits(document) if limit["near"]]
    x, y = (_position(a, q, [*plans, *frontier], near) for a, q in ((alt.X, "time_s"), (alt.Y, "cost_usd")))
    stairs = _chart(alt, frontier).mark_line(interpolate="step-after", color=BLUE, opacity=0.7)
    across = _chart(alt, plans).mark_rule(color=BLUE, opacity=0.5).encode(x="time_s_p10:Q", x2="time_s_p90:Q", y=y)
    along = _chart(alt, plans).mark_rule(color=BLUE, opacity=0.5).encode(x=x, y="cost_usd_p10:Q", y2="cost_usd_p90:Q")
    dots = _chart(alt, frontier).mark_circle(color=BLUE, size=40, opacity=1)
    colour = alt.condition(alt.datum.rank == 1, alt.value(VERMILLION), alt.value(BLUE))
    points = _chart(alt, plans).mark_circle(size=110, opacity=1).encode(color=colour)
    words = [_words(alt, plans[:-1], "rank", dy=-11), _words(alt, plans[-1:], "rank", dy=15)]
    ranked = {(plan["time_s"], plan["cost_usd"]) for plan in plans}
    words += [_words(alt, [p], "name", dy=-11) for p in frontier[-1:] if (p["time_s"], p["cost_usd"]) not in ranked]
    placed = [layer.encode(x=x, y=y) for layer in (stairs, dots, points, *words)]
    return _dress(alt.layer(*_limit_lines(alt, near, x, y), across, along, *placed), width_px, 300)


def time_by_what_binds(document: Document, *, width_px: int = 720) -> Any:
    """Time of each plan, split by what limits it: arithmetic, memory traffic, launches, network, input.

    Each plan needs ``binds``, the fractions of a prediction.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = _altair()
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
        _chart(alt, rows)
        .mark_bar(height={"band": 0.7})
        .encode(
            x=alt.X("time_s:Q", title="time", stack="zero", axis=_time_axis(alt, _even_ticks(high_s))),
            y=_plan_axis(alt, document, width_px),
            color=alt.Color("limit:N", title=None, scale=colours, legend=legend),
            order="order:O",
        )
    )
    return _dress(bars, width_px, 34 * len(document["plans"]))


def intervals(document: Document, quantity: str, *, width_px: int = 720) -> Any:
    """Each plan's p10 to p90 as a bar and its p50 as a tick.

    Args:
        document: A plan document.
        quantity: ``cost_usd`` or ``time_s``.
        width_px: Width of the whole chart.

    Raises:
        MissingExtraError: Altair is not installed.
    """
    alt = _altair()
    rows = [{"plan": _label(plan), **_point(plan)} for plan in document["plans"]]
    y = _plan_axis(alt, document, width_px)
    start, middle = (_position(alt.X, quantity, rows, at=at) for at in ("_p10", ""))
    bars = _chart(alt, rows).mark_bar(height=9, color=BLUE, opacity=0.55, cornerRadius=4)
    ticks = _chart(alt, rows).mark_tick(thickness=3, height=17, color=VERMILLION, opacity=1)
    layers = bars.encode(x=start, x2=f"{quantity}_p90:Q", y=y), ticks.encode(x=middle, y=y)
    return _dress(alt.layer(*layers), width_px, 30 * len(rows))


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
    drawn: str = vl_convert.vegalite_to_svg(chart.to_dict(validate=False))
    for name, colour in PALETTE.items():
        drawn = drawn.replace(colour, f"var(--{name},{colour})")
    return drawn.replace(INK, "currentColor")


def _altair() -> Any:
    try:
        import altair
    except ImportError:
        raise MissingExtraError("altair", "plot") from None
    return altair


def _chart(alt: Any, rows: Sequence[Document]) -> Any:
    """Rows inside the chart, without a data frame."""
    return alt.Chart(alt.InlineData(values=rows))


def _name(plan: Document) -> str:
    return f"{plan['count']} x {plan['device']}, {plan['provider']}"


def _label(plan: Document) -> str:
    """Unique, because it starts with the rank."""
    return f"{plan['rank']}. {_name(plan)}"


def _point(plan: Document) -> dict[str, Any]:
    """One plan as a flat row: ``time_s`` is the median, ``time_s_p10`` a quantile."""
    row: dict[str, Any] = {"rank": plan["rank"], "name": _name(plan)}
    for quantity in ("time_s", "cost_usd"):
        row |= {quantity: plan[quantity]["p50"]}
        row |= {f"{quantity}_{p}": plan[quantity][p] for p in ("p10", "p90")}
    return row


def _limit_lines(alt: Any, near: Sequence[Document], x: Any, y: Any) -> list[Any]:
    layers = []
    for limit in near:
        is_time = limit["quantity"] == "time_s"
        line = _chart(alt, [limit]).encode(x=x) if is_time else _chart(alt, [limit]).encode(y=y)
        place = {"align": "right", "dx": -5, "dy": 10} if is_time else {"align": "left", "dx": 5, "dy": -7}
        edge = {"y": alt.value(0)} if is_time else {"x": alt.value(0)}
        layers.append(line.mark_rule(color=INK, strokeDash=[5, 4]))
        layers.append(line.mark_text(color=INK, **place).encode(**edge, text="text:N"))
    return layers


def _words(alt: Any, rows: Sequence[Document], field: str, dy: int) -> Any:
    """A word beside each point."""
    return (
        _chart(alt, rows).mark_text(dx=8, dy=dy, align="left", color=INK, fontWeight="bold").encode(text=f"{field}:N")
    )


def _position(
    channel: Any, quantity: str, rows: Sequence[Document], near: Sequence[Document] = (), *, at: str = ""
) -> Any:
    """The encoding of time or cost along an axis that holds everything that is drawn."""
    alt = _altair()
    values = [row[f"{quantity}_{p}"] for row in rows for p in ("p10", "p90")]
    values += [limit[quantity] for limit in near if limit["quantity"] == quantity]
    above_zero = [value for value in values if value > 0] or [1.0]
    low, high, has_zero = min(above_zero), max(above_zero), min(values) <= 0
    is_log = high / low > _LOG_FROM_RATIO
    domain = [0.0 if has_zero or not is_log else 0.8 * low, (1.25 if is_log else 1.05) * high]
    if quantity == "time_s":
        title, axis = "time", _time_axis(alt, _spread_ticks(*domain) if is_log else _even_ticks(high))
    else:
        ticks = ([0.0] if has_zero else []) + _decimal_ticks(low, domain[1])
        title, axis = "cost (US $)", alt.Axis(**({"values": ticks} if is_log else {}))
    kind = {"type": "symlog", "constant": low} if is_log and has_zero else {"type": "log" if is_log else "linear"}
    scale = alt.Scale(**kind, domain=domain, nice=False)
    return channel(f"{quantity}{at}:Q", title=title, scale=scale, axis=axis)


def _time_axis(alt: Any, ticks_s: Sequence[float]) -> Any:
    """Ticks that say their unit: 30 s, 10 min, 2 h; Vega's own where there are none."""
    return alt.Axis(values=ticks_s, labelExpr=_TIME_LABEL) if ticks_s else alt.Axis(labelExpr=_TIME_LABEL)


def _even_ticks(high_s: float) -> list[float]:
    """Five or so round times up to ``high_s``.

    >>> _even_ticks(5000)
    [0.0, 1200.0, 2400.0, 3600.0, 4800.0]
    """
    step_s = next((step_s for step_s in _STEPS_S if high_s / step_s <= 6), _STEPS_S[-1])
    return [n * step_s for n in range(int(high_s / step_s) + 1)]


def _spread_ticks(low_s: float, high_s: float) -> list[float]:
    """Round times for a logarithmic axis, at most seven.

    >>> _spread_ticks(20, 8000)
    [20.0, 60.0, 300.0, 1200.0, 3600.0]
    """
    inside = [step_s for step_s in _STEPS_S if low_s <= step_s <= high_s]
    return inside[:: math.ceil(len(inside) / 7)] if inside else []


def _decimal_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... within the range; only powers of ten where it spans more than two decades.

    >>> _decimal_ticks(0.4, 25)
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    """
    digits = (1, 2, 5) if high < 300 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for e in decades for d in digits if low <= (tick := float(f"{d}e{e}")) <= high]


def _plan_axis(alt: Any, document: Document, width_px: int) -> Any:
    axis = alt.Axis(labelLimit=round(width_px * 0.42), ticks=False)
    return alt.Y("plan:N", title=None, sort=[_label(plan) for plan in document["plans"]], axis=axis)


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
