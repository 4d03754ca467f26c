"""Several jobs that were planned at once: cost and time of each."""

from __future__ import annotations

from pathlib import PurePath

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
    planned = with_plan(document)
    if not planned:
        raise UnsupportedError("no job has a plan, so there is nothing to draw")
    costs_usd = [best_of(one)["cost_usd"]["p50"] for one in planned]
    without = len(document["results"]) - len(planned)
    note = "Marks are medians, lines reach from p10 to p90."
    note += f" {without} without a plan." if without else ""
    note += f" The first {_MOST_ROWS} are drawn." if len(planned) > _MOST_ROWS else ""
    title = f"{len(planned)} jobs, {format_usd(sum(costs_usd))} together"
    return Figure(title=title, note=note, draw=lambda width_px: draw_panels(panels(document), width_px))


def with_plan(document: Document) -> list[Document]:
    """The jobs that have a plan."""
    return [one for one in document["results"] if one.get("plans") or one.get("stages")]


def names_of(document: Document) -> dict[str, str]:
    """What each file is called where there is little room: without its folder, if the names still differ."""
    files = [one["file"] for one in document["results"]]
    names = [PurePath(file).name for file in files]
    return dict(zip(files, names if len(set(names)) == len(names) else files, strict=True))


def best_of(one: Document) -> Document:
    """The first plan of a job; of one of several stages the whole of it."""
    best: Document = one["plans"][0] if one.get("plans") else one
    return best


def panels(document: Document) -> list[Panel]:
    """Cost and time of the best plan of each job that has one, the first thirty."""
    planned = with_plan(document)[:_MOST_ROWS]
    names = names_of(document)
    costs = [_row({**one, "file": names[one["file"]]}, index, "cost_usd") for index, one in enumerate(planned)]
    times = [_row({**one, "file": names[one["file"]]}, index, "time_s") for index, one in enumerate(planned)]
    return [
        Panel(title="cost (US $)", rows=costs, axis=lambda most: dollars_axis()),
        Panel(title="time", rows=times, axis=round_times),
    ]


def _row(one: Document, index: int, quantity: str) -> Range:
    best = best_of(one)
    show = format_usd if quantity == "cost_usd" else format_seconds
    what = f"{best['count']} x {best['device']}" if "device" in best else f"{len(one['stages'])} stages"
    text = f"{one['file']}: {what}, {show(best[quantity]['p50'])}"
    return quantiles_row(f"{index} {one['file']}", text, best[quantity])
