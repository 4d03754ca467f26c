"""The plan of several stages as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rigwise.report.evidence import sources_of
from rigwise.report.figures.timeline import stages_over_time
from rigwise.report.html import Markup, table, tag
from rigwise.report.page import answer, page, percent, picture, quantiles, repeat, rests_on, section, soft
from rigwise.report.plan_page import CLOSING
from rigwise.search.bounds import format_value
from rigwise.units import format_seconds, format_usd

Document = Mapping[str, Any]


def staged_page(document: Document, *, command: str = "") -> str:
    """The page for a ``rigwise.plan.staged/1`` document.

    Args:
        document: What ``rigwise plan --json`` prints.
        command: The command line that made it, shown at the end.
    """
    parts = [
        _answer(document),
        picture("One after the other", stages_over_time(document)),
        _stages(document),
        _certificate(document["certificate"], [stage["name"] for stage in document["stages"]]),
        rests_on(_assumptions(document), sources_of([(one["name"], one["plan"]) for one in document["stages"]])),
        repeat(command),
    ]
    return page(_headline(document), parts, closing=f"{CLOSING} Prices as known on {document['today']}.")


def _headline(document: Document) -> str:
    time, cost = format_seconds(document["time_s"]["p50"]), format_usd(document["cost_usd"]["p50"])
    return f"{len(document['stages'])} stages: {time}, {cost}"


def _answer(document: Document) -> Markup:
    job, certificate = document["job"], document["certificate"]
    limits = [f"within {format_seconds(job['deadline_s'])}"] if job["deadline_s"] is not None else []
    limits += [f"for at most {format_usd(job['budget_usd'])}"] if job["budget_usd"] is not None else []
    models = " then ".join(stage["job"]["model"] for stage in job["stages"])
    gap = certificate["gap_frac"]
    tiles = [
        ("Time", format_seconds(document["time_s"]["p50"]), quantiles(document["time_s"], format_seconds)),
        ("Cost", format_usd(document["cost_usd"]["p50"]), quantiles(document["cost_usd"], format_usd)),
        (f"Least {certificate['objective']}", "proven" if gap == 0 else f"within {percent(gap)}", ""),
    ]
    if document["energy_j"] is not None:
        tiles.append(("Energy", f"{document['energy_j'] / 3.6e6:,.3g} kWh", ""))
    return answer(", ".join([models, *limits]), _headline(document), _sentence(document["stages"]), tiles)


def _sentence(stages: Sequence[Document]) -> str:
    """What to take for each stage."""
    told = [f"{one['name']} on {one['plan']['count']} x {one['plan']['device']}" for one in stages]
    return f"Run {', then '.join(told)}."


def _stages(document: Document) -> Markup | None:
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
    return section("Stages", soft(note), table(columns, rows), class_="stack")


def _certificate(certificate: Document, names: Sequence[str]) -> Markup | None:
    def show(value: float | None) -> str:
        return "none" if value is None else format_value(certificate["objective"], value)

    facts = [
        ["best found", show(certificate["best"]), "ended before the gap was closed" if certificate["stopped"] else ""],
        ["lower bound", show(certificate["lower_bound"]), "no chain of stages can be below it"],
        ["gap", percent(certificate["gap_frac"]), ""],
    ]
    for name, listed, unlisted in zip(names, certificate["listed"], certificate["unlisted"], strict=True):
        facts.append([f"ways to do {name}", f"{listed:,}", f"told apart; least of any other: {show(unlisted)}"])
    facts.append(["search", format_seconds(certificate["wall_s"]), f"{certificate['labels']:,} chains looked at"])
    how = tag("p", "A checker of its own proves it again: ", tag("code", "rigwise plan verify PLAN.json"))
    return section("Certificate", how, table({"": "keep", "value": "number", "why": ""}, facts), class_="stack")


def _assumptions(document: Document) -> list[str]:
    summed = "times and costs of stages are added up as if all were early or late together"
    return [*document["assumed"], summed, f"the age of prices was counted on {document['today']}"]
