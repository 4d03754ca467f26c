"""Jobs that share machines as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from rigwise.report.evidence import sources_of
from rigwise.report.figures.timeline import jobs_on_machines
from rigwise.report.html import Markup, table, tag
from rigwise.report.page import answer, listed, page, percent, picture, quantiles, repeat, rests_on, section, soft
from rigwise.report.plan_page import CLOSING, layout_of
from rigwise.report.shared_text import advice
from rigwise.search.bounds import format_value
from rigwise.units import format_count, format_seconds, format_usd

Document = Mapping[str, Any]


def shared_page(document: Document, *, command: str = "") -> str:
    """The page for a ``rigwise.plan.shared/1`` document.

    Args:
        document: What ``rigwise plan --share --json`` prints.
        command: The command line that made it, shown at the end.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    told = [one for one in advice(document) if not one.startswith("assumed: ")]
    assumed = [*document["assumed"], f"the age of prices was counted on {document['today']}"]
    sources = sources_of([(one["name"], one["plan"]) for one in document["plans"]])
    parts = [
        _answer(document),
        picture("Which job runs where, and when", jobs_on_machines(document)),
        _jobs(document),
        listed("Good to know", told),
        _certificate(document["certificate"]),
        rests_on(assumed, sources),
        repeat(command),
    ]
    return page(_headline(document), parts, closing=f"{CLOSING} Prices as known on {document['today']}.")


def _headline(document: Document) -> str:
    end, cost = format_seconds(document["end_s"]["p50"]), format_usd(document["cost_usd"]["p50"])
    return f"{len(document['plans'])} jobs: {cost}, the last done after {end}"


def _answer(document: Document) -> Markup:
    question, gap = document["question"], document["certificate"]["gap_frac"]
    machines = ", ".join(document["machines"]) or "none of one's own"
    limit = f", all within {format_seconds(question['deadline_s'])}" if question["deadline_s"] is not None else ""
    tiles = [
        ("Cost", format_usd(document["cost_usd"]["p50"]), quantiles(document["cost_usd"], format_usd)),
        ("The last", format_seconds(document["end_s"]["p50"]), quantiles(document["end_s"], format_seconds)),
        (f"Least {document['certificate']['objective']}", "proven" if gap == 0 else f"within {percent(gap)}", ""),
    ]
    if document["energy_j"] is not None:
        tiles.append(("Energy", f"{document['energy_j'] / 3.6e6:,.3g} kWh", ""))
    return answer(f"{len(question['jobs'])} jobs on {machines}{limit}", _headline(document), _sentence(document), tiles)


def _sentence(document: Document) -> str:
    """How many jobs run on each machine."""
    where = [one["machine"] or "rented machines" for one in document["plans"]]
    places = list(dict.fromkeys(where))
    told = f"All run on {places[0]}" if len(places) == 1 else f"{where.count(places[0])} run on {places[0]}"
    told += "".join(f", {where.count(name)} on {name}" for name in places[1:])
    return f"{told}. A machine of one's own does one job after the other."


def _jobs(document: Document) -> Markup | None:
    columns = {"job": "keep", "model": "keep", "machine": "", "what": "keep", "how": "", "starts": "number"}
    columns |= {"ends": "number", "cost": "number"}
    models = {one["name"]: one["job"]["model"] for one in document["question"]["jobs"]}
    rows = []
    for one in sorted(document["plans"], key=lambda one: (not one["machine"], one["machine"], one["place"])):
        plan = one["plan"]
        offer = " ".join(str(plan[key]) for key in ("provider", "instance", "region", "market") if plan[key])
        rows.append(
            [
                one["name"],
                models[one["name"]],
                one["machine"] or f"rented: {offer}",
                f"{plan['count']} x {plan['device']}",
                layout_of(plan),
                format_seconds(one["start_s"]["p50"]) if one["start_s"]["p50"] else "at once",
                format_seconds(one["end_s"]["p50"]),
                format_usd(plan["cost_usd"]["p50"]),
            ]
        )
    note = "Times and costs are medians. Jobs of one machine stand in the order in which they run."
    return section("The jobs", soft(note), table(columns, rows), class_="stack")


def _certificate(certificate: Document) -> Markup | None:
    def show(value: float) -> str:
        return format_value(certificate["objective"], value)

    stopped = "ended before the gap was closed" if certificate["stopped"] else ""
    facts = [
        ["best found", show(certificate["best"]), stopped],
        ["lower bound", show(certificate["lower_bound"]), "no other way to share the machines can be below it"],
        ["gap", percent(certificate["gap_frac"]), ""],
        ["choices", format_count(prod(len(work["options"]) for work in certificate["works"])), "where to run the jobs"],
        ["parts looked at", f"{len(certificate['cover']):,}", "ruled out or estimated"],
        ["search", format_seconds(certificate["wall_s"]), f"states expanded: {certificate['expanded']:,}"],
    ]
    how = tag("p", "A checker of its own proves it again: ", tag("code", "rigwise plan verify PLAN.json"))
    return section("Certificate", how, table({"": "keep", "value": "number", "why": ""}, facts), class_="stack")
