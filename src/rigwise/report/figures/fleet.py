"""Ways to serve a load: what each costs, and how quickly it answers."""

from __future__ import annotations

from typing import Any

from rigwise.report.figures.axes import dollars_axis, round_times
from rigwise.report.figures.ranges import Panel, Range, draw_panels, quantiles_row
from rigwise.report.figures.theme import Document, Figure
from rigwise.units import format_fraction, format_seconds, format_usd


def fleets(document: Document) -> Figure:
    """The plans of a ``rigwise.plan.serving/1`` document: dollars an hour, first token, each token after it."""
    load = document["job"]["load"]
    note = (
        f"{load['rate_per_s']:g} requests a second of {load['prompt_tokens']:,} + {load['output_tokens']:,} tokens. "
        "Marks are medians, lines reach from p10 to p90."
    )
    note += " Dashed is the limit that was asked for." if load["ttft_s"] or load["tpot_s"] else ""
    title = f"Serving {document['job']['job']['model']}: what each fleet costs and how quickly it answers"
    return Figure(title=title, note=note, draw=lambda width_px: draw_panels(panels(document), width_px))


def panels(document: Document) -> list[Panel]:
    """Dollars an hour, time to the first token and time for each after it, of all plans."""
    load, plans = document["job"]["load"], document["plans"]
    first = [_time(plan, "ttft_s") for plan in plans]
    found = [
        Panel(title="US $ an hour", rows=[_price(plan) for plan in plans], axis=lambda most: dollars_axis()),
        _panel("time to the first token", first, load["ttft_s"]),
    ]
    each = [_time(plan, "tpot_s") for plan in plans if plan["serving"]["tpot_s"]]
    return [*found, *([_panel("time for each token after it", each, load["tpot_s"])] if each else [])]


def _panel(title: str, rows: list[Range], limit_s: float | None) -> Panel:
    limit = (limit_s, f"limit {format_seconds(limit_s)}") if limit_s else None
    return Panel(title=title, rows=rows, axis=round_times, limit=limit)


def _name(plan: Document) -> str:
    each = plan["parallel"]["tensor"]
    return f"{plan['rank']}. {plan['serving']['replicas']} x {f'{each} ' if each > 1 else ''}{plan['device']}"


def _price(plan: Document) -> Range:
    usd, load = plan["usd_per_h"], format_fraction(plan["serving"]["load_frac"])
    where = f", {plan['provider']}" if plan["provider"] else ""
    text = f"{_name(plan)}{where}: {format_usd(usd)}/h, {load} of its most"
    return Range(name=str(plan["rank"]), text=text, span=(usd, usd, usd), first=plan["rank"] == 1)


def _time(plan: Document, key: str) -> Range:
    values: Any = plan["serving"][key]
    text = f"{_name(plan)}: {format_seconds(values['p50'])}"
    return quantiles_row(str(plan["rank"]), text, values, first=plan["rank"] == 1)
