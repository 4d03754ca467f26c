"""The plan of several stages as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from rigwise import __version__
from rigwise.report.html import Markup, table, tag
from rigwise.search.bounds import format_value
from rigwise.units import format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]

#: The picture of the stages along time.
_WIDTH_PX, _BAR_PX, _ROW_PX = 720, 18, 30


def staged_page(document: Document, *, command: str = "") -> str:
    """The page for a ``rigwise.plan.staged/1`` document.

    Args:
        document: What ``rigwise plan --json`` prints.
        command: The command line that made it, shown at the end.
    """
    title = _headline(document)
    style = Markup(files("rigwise.report").joinpath("page.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", style),
    )
    repeat = tag("section", tag("h2", "To repeat it"), tag("pre", tag("code", command))) if command else None
    sections = [
        _answer(document, title),
        _along_time(document["stages"]),
        _stages(document),
        _certificate(document["certificate"], [stage["name"] for stage in document["stages"]]),
        _rests_on(document),
        repeat,
        tag("footer", f"Written by rigwise {__version__}. Best means best under this estimate."),
    ]
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *sections)), lang="en") + "\n"


def _headline(document: Document) -> str:
    time, cost = format_seconds(document["time_s"]["p50"]), format_usd(document["cost_usd"]["p50"])
    return f"{len(document['stages'])} stages: {time}, {cost}"


def _answer(document: Document, title: str) -> Markup:
    job, certificate = document["job"], document["certificate"]
    limits = [f"within {format_seconds(job['deadline_s'])}"] if job["deadline_s"] is not None else []
    limits += [f"for at most {format_usd(job['budget_usd'])}"] if job["budget_usd"] is not None else []
    models = " then ".join(stage["job"]["model"] for stage in job["stages"])
    gap = certificate["gap_frac"]
    tiles = [
        ("Time", format_seconds(document["time_s"]["p50"]), _range(document["time_s"], format_seconds)),
        ("Cost", format_usd(document["cost_usd"]["p50"]), _range(document["cost_usd"], format_usd)),
        (f"Least {certificate['objective']}", "proven" if gap == 0 else f"within {format_fraction(gap)}", ""),
    ]
    if document["energy_j"] is not None:
        tiles.append(("Energy", f"{document['energy_j'] / 3.6e6:,.3g} kWh", ""))
    grid = tag("dl", *(tag("div", tag("dt", n), tag("dd", v), tag("dd", note)) for n, v, note in tiles), class_="tiles")
    return tag("header", tag("p", ", ".join([models, *limits]), class_="job"), tag("h1", title), grid)


def _range(quantiles: Document, show: Any) -> str:
    return f"{show(quantiles['p10'])} to {show(quantiles['p90'])}"


def _along_time(stages: Sequence[Document]) -> Markup:
    """The stages one after the other, at the median, with the time that data move before each."""
    lengths_s = [stage["plan"]["time_s"]["p50"] + stage["move_s"] for stage in stages]
    whole_s = sum(lengths_s) or 1.0
    shapes, start_s = [], 0.0
    for row, (stage, length_s) in enumerate(zip(stages, lengths_s, strict=True)):
        x, width = _WIDTH_PX * start_s / whole_s, max(_WIDTH_PX * length_s / whole_s, 1.0)
        y = row * _ROW_PX
        shapes.append(tag("rect", x=f"{x:.1f}", y=f"{y}", width=f"{width:.1f}", height=f"{_BAR_PX}", fill="#4c78a8"))
        words = f"{stage['name']}: {format_seconds(length_s)}"
        if x > _WIDTH_PX / 2:
            at, anchor, fill = x - 6, "end", "currentColor"
        elif x + width < 0.7 * _WIDTH_PX:
            at, anchor, fill = x + width + 6, "start", "currentColor"
        else:
            at, anchor, fill = x + 6, "start", "#fff"
        shapes.append(tag("text", words, x=f"{at:.1f}", y=f"{y + 13}", text_anchor=anchor, fill=fill))
        start_s += length_s
    picture = tag(
        "svg",
        *shapes,
        viewBox=f"0 0 {_WIDTH_PX} {_ROW_PX * len(stages)}",
        role="img",
        aria_label="Stages along time",
        style="width:100%;font:13px system-ui,sans-serif",
    )
    return tag("section", tag("h2", "One after the other"), tag("figure", picture))


def _stages(document: Document) -> Markup:
    columns = {"stage": "keep", "model": "keep", "what": "keep", "where": "", "how": "", "time": "number"}
    columns |= {"cost": "number", "price of": "keep"}
    rows = []
    for asked, stage in zip(document["job"]["stages"], document["stages"], strict=True):
        plan = stage["plan"]
        where = " ".join(str(plan[key]) for key in ("provider", "instance", "region", "market") if plan[key])
        moved = f", moved there in {format_seconds(stage['move_s'])}" if stage["move_s"] else ""
        how = f"{plan['dtype']}, {plan['mode']}, micro-batch {plan['micro_batch']} x {plan['accumulation']}"
        rows.append(
            [
                stage["name"],
                asked["job"]["model"],
                f"{plan['count']} x {plan['device']}",
                ("stays: " if stage["stay"] else "") + where + moved,
                how + (f", {plan['recompute']} recompute" if plan["recompute"] != "none" else ""),
                format_seconds(plan["time_s"]["p50"] + stage["move_s"]),
                format_usd(plan["cost_usd"]["p50"] + stage["move_usd"]),
                plan["price_date"],
            ]
        )
    note = "Time and cost are medians, with what it takes to move there."
    return tag("section", tag("h2", "Stages"), tag("p", note, class_="soft"), table(columns, rows), class_="plans")


def _certificate(certificate: Document, names: Sequence[str]) -> Markup:
    def show(value: float | None) -> str:
        return "none" if value is None else format_value(certificate["objective"], value)

    facts = [
        ["best found", show(certificate["best"]), "ended before the gap was closed" if certificate["stopped"] else ""],
        ["lower bound", show(certificate["lower_bound"]), "no chain of stages can be below it"],
        ["gap", f"{100 * certificate['gap_frac']:.3g} %", ""],
    ]
    for name, listed, unlisted in zip(names, certificate["listed"], certificate["unlisted"], strict=True):
        facts.append([f"ways to do {name}", f"{listed:,}", f"told apart; least of any other: {show(unlisted)}"])
    facts.append(["search", format_seconds(certificate["wall_s"]), f"{certificate['labels']:,} chains looked at"])
    how = tag("p", "A checker of its own proves it again: ", tag("code", "rigwise plan verify PLAN.json"))
    return tag("section", tag("h2", "Certificate"), how, table({"": "keep", "value": "number", "why": ""}, facts))


def _rests_on(document: Document) -> Markup:
    lines = [f"assumed: {sentence}" for sentence in document["assumed"]]
    lines += ["times and costs of stages are added up as if all were early or late together"]
    lines += [f"the age of prices was counted on {document['today']}"]
    return tag("section", tag("h2", "What this rests on"), tag("ul", *(tag("li", line) for line in lines)))
