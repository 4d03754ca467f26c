"""Several jobs that were planned at once: cost and time of each."""

from __future__ import annotations

from rigwise.errors import UnsupportedError
from rigwise.report.figures.axes import dollars_axis, round_times
from rigwise.report.figures.ranges import Panel, Range, draw_panels, quantiles_row
from rigwise.report.figures.theme import Document, Figure
from rigwise.units import format_seconds, format_usd

_MOST_ROWS = 30


def jobs_planned(document: Document) -> Figure:
    """The best plan of each job of a ``rigwise.plans/1`` document.

    Raises:
        UnsupportedError: None has a plan.
    """
    planned = [one for one in document["results"] if one.get("plans") or one.get("stages")]
    if not planned:
        raise UnsupportedError("no job has a plan, so there is nothing to draw")
    costs_usd = [_best(one)["cost_usd"]["p50"] for one in planned]
    without = len(document["results"]) - len(planned)
    note = "Marks are medians, lines reach from p10 to p90."
    note += f" {without} without a plan." if without else ""
    note += f" The first {_MOST_ROWS} are drawn." if len(planned) > _MOST_ROWS else ""
    title = f"{len(planned)} jobs, {format_usd(sum(costs_usd))} together"
    kept = planned[:_MOST_ROWS]
    return Figure(title=title, note=note, draw=lambda width_px: draw_panels(_panels(kept), width_px))


def _best(one: Document) -> Document:
    """The first plan of a job; of one of several stages the whole of it."""
    best: Document = one["plans"][0] if one.get("plans") else one
    return best


def _panels(planned: list[Document]) -> list[Panel]:
    costs = [_row(one, index, "cost_usd") for index, one in enumerate(planned)]
    times = [_row(one, index, "time_s") for index, one in enumerate(planned)]
    return [
        Panel(title="cost (US $)", rows=costs, axis=lambda most: dollars_axis()),
        Panel(title="time", rows=times, axis=round_times),
    ]


def _row(one: Document, index: int, quantity: str) -> Range:
    best = _best(one)
    show = format_usd if quantity == "cost_usd" else format_seconds
    what = f"{best['count']} x {best['device']}" if "device" in best else f"{len(one['stages'])} stages"
    text = f"{one['file']}: {what}, {show(best[quantity]['p50'])}"
    return quantiles_row(f"{index} {one['file']}", text, best[quantity])
