"""Several jobs, each planned by itself, as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rigwise.report.evidence import sources_of
from rigwise.report.figures.jobs import best_of, jobs_planned, names_of, with_plan
from rigwise.report.html import Markup, table
from rigwise.report.page import answer, page, picture, repeat, rests_on, section, soft
from rigwise.report.plan_page import CLOSING
from rigwise.units import format_seconds, format_usd

Document = Mapping[str, Any]


def jobs_page(document: Document, *, command: str = "") -> str:
    """The page for a ``rigwise.plans/1`` document.

    Args:
        document: What ``rigwise plan JOB.toml JOB.toml ... --json`` prints.
        command: The command line that made it, shown at the end.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    names = names_of(document)
    document = {**document, "results": [{**one, "file": names[one["file"]]} for one in document["results"]]}
    planned = with_plan(document)
    plans = list(_plans(planned))
    days = sorted({one["today"] for one in planned})
    assumed = [f"{one['file']}: {line}" for one in planned for line in one["assumed"]]
    parts = [
        _answer(document, planned),
        picture("Cost and time of each", jobs_planned(document)) if planned else None,
        _jobs(document),
        _unplanned(document),
        rests_on([*assumed, *(f"the age of prices was counted on {day}" for day in days)], sources_of(plans)),
        repeat(command),
    ]
    return page(_headline(document, planned), parts, closing=CLOSING if planned else "")


def _plans(planned: list[Document]) -> Iterator[tuple[str, Document]]:
    """The plans of all jobs by name, those of each stage by its own."""
    for one in planned:
        for stage in one.get("stages", ()):
            yield f"{one['file']}, {stage['name']}", stage["plan"]
        if one.get("plans"):
            yield one["file"], one["plans"][0]


def _headline(document: Document, planned: list[Document]) -> str:
    count, total = len(document["results"]), sum(best_of(one)["cost_usd"]["p50"] for one in planned)
    if len(planned) == count:
        return f"{count} jobs: {format_usd(total)} together"
    return f"{len(planned)} of {count} jobs have a plan" + (f": {format_usd(total)} together" if planned else "")


def _answer(document: Document, planned: list[Document]) -> Markup:
    tiles = [
        (one["file"], format_usd(best_of(one)["cost_usd"]["p50"]), format_seconds(best_of(one)["time_s"]["p50"]))
        for one in sorted(planned, key=lambda one: -best_of(one)["cost_usd"]["p50"])[:4]
    ]
    told = "Each job is planned by itself, as if it were alone." + (" The dearest of them:" if len(planned) > 4 else "")
    return answer(f"{len(document['results'])} jobs side by side", _headline(document, planned), told, tiles)


def _jobs(document: Document) -> Markup | None:
    columns = {"job": "keep", "what": "keep", "where": "", "time": "number", "cost": "number"}
    rows = []
    for one in with_plan(document):
        best = best_of(one)
        has_one = "device" in best
        what = f"{best['count']} x {best['device']}" if has_one else f"{len(one['stages'])} stages"
        offer = [best[key] for key in ("provider", "instance", "region", "market")] if has_one else []
        row = [one["file"], what, " ".join(filter(None, offer))]
        rows.append([*row, format_seconds(best["time_s"]["p50"]), format_usd(best["cost_usd"]["p50"])])
    told = soft("Times and costs are medians.")
    return section("The jobs", told, table(columns, rows), class_="stack") if rows else None


def _unplanned(document: Document) -> Markup | None:
    wrong = [(one["file"], one.get("error") or one.get("infeasible")) for one in document["results"]]
    rows = [[name, error["message"], error["hint"]] for name, error in wrong if error]
    return section("Without a plan", table({"job": "keep", "why": "", "what to do": ""}, rows)) if rows else None
