"""A serving fleet as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rigwise.report.figures.fleet import fleets
from rigwise.report.html import Markup, table, tag
from rigwise.report.page import answer, listed, page, percent, picture, quantiles, repeat, rests_on, section, soft
from rigwise.report.plan_page import CLOSING
from rigwise.search.bounds import format_value
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]


def serving_page(document: Document, *, command: str = "") -> str:
    """The page for a ``rigwise.plan.serving/1`` document.

    Args:
        document: What ``rigwise plan --task serve --json`` prints.
        command: The command line that made it, shown at the end.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    best = document["plans"][0]
    price, replicas = f"{format_usd(best['usd_per_h'])} an hour", best["serving"]["replicas"]
    title = f"{replicas} x {_replica(best)}{_whence(best)}: {price}"
    parts = [
        answer(_question(document["job"]), title, _sentence(document), _tiles(document)),
        listed("Why this fleet", best["why"]),
        picture("What each fleet costs and how quickly it answers", fleets(document)),
        _plans(document["plans"]),
        listed("Good to know", document["advice"]),
        _certificate(document["certificate"]),
        listed("Offers left out", (f"{one['reason']}: {one['count']:,}" for one in document["excluded"])),
        rests_on(
            [*document["assumed"], f"the age of prices was counted on {document['today']}"], document.get("sources", ())
        ),
        repeat(command),
    ]
    return page(title, parts, closing=f"{CLOSING} Prices as known on {document['today']}.")


def _replica(plan: Document) -> str:
    each = plan["parallel"]["tensor"] * plan["parallel"]["pipeline"]
    return f"{each} x {plan['device']}" if each > 1 else str(plan["device"])


def _whence(plan: Document) -> str:
    return f" from {plan['provider']}" if plan["kind"] == "rent" else ""


def _question(job: Document) -> str:
    load = job["load"]
    tokens = f"{load['prompt_tokens']:,} + {load['output_tokens']:,} tokens"
    parts = [f"serve {job['job']['model']}", f"{format_count(load['rate_per_s'])} requests a second of {tokens}"]
    limits = (("the first token within", load["ttft_s"]), ("each next within", load["tpot_s"]))
    parts += [f"{words} {format_seconds(limit_s)}" for words, limit_s in limits if limit_s is not None]
    return ", ".join(parts)


def _sentence(document: Document) -> str:
    best = document["plans"][0]
    work, load = best["serving"], document["job"]["load"]
    sure = format_fraction(work["limits_probability"])
    told = f"Rent {_where(best)}" if best["kind"] == "rent" else f"Use {_where(best)}"
    cost = f"{format_usd(best['cost_usd']['p50'])} in {format_seconds(load['duration_s'])}"
    return (
        f"{told}. It keeps the limits with a probability of {sure}, works at {format_fraction(work['load_frac'])}"
        f" of what it can take, and costs {cost}."
    )


def _where(plan: Document) -> str:
    return " ".join(str(plan[key]) for key in ("provider", "instance", "region", "market") if plan[key])


def _tiles(document: Document) -> list[tuple[str, str, str]]:
    best, certificate = document["plans"][0], document["certificate"]
    work, gap = best["serving"], certificate["gap_frac"]
    dollars = work["usd_per_million_tokens"]["all"]
    proof = "proven" if gap == 0 else f"within {percent(gap)}"
    tiles = [
        ("Cost", f"{format_usd(best['usd_per_h'])}/h", f"{format_usd(dollars)} a million tokens"),
        ("First token", format_seconds(work["ttft_s"]["p50"]), quantiles(work["ttft_s"], format_seconds)),
    ]
    if work["tpot_s"]:
        tiles.append(("Each next", format_seconds(work["tpot_s"]["p50"]), quantiles(work["tpot_s"], format_seconds)))
    held = format_fraction(best["memory_bytes"] / best["memory_capacity_bytes"])
    tiles.append(("Memory", f"{held} full", f"of {format_bytes(best['memory_capacity_bytes'])} on each device"))
    tiles.append(("The cheapest", proof, f"among {certificate['candidates']:,} candidates"))
    return tiles


def _plans(plans: Sequence[Document]) -> Markup | None:
    columns = {"#": "number", "replicas": "keep", "where": "", "an hour": "number", "a million tokens": "number"}
    columns |= {"load": "number", "best with": "number", "price of": "keep"}
    rows = [
        [
            str(plan["rank"]),
            f"{plan['serving']['replicas']} x {_replica(plan)}, {plan['dtype']}",
            _where(plan),
            format_usd(plan["usd_per_h"]),
            format_usd(plan["serving"]["usd_per_million_tokens"]["all"]),
            format_fraction(plan["serving"]["load_frac"]),
            format_fraction(plan["p_best"]),
            plan["price_date"],
        ]
        for plan in plans
    ]
    note = "A million tokens are those of prompts and answers together; load is the part of what a replica can take."
    return section("The best fleets", soft(note), table(columns, rows), class_="plans stack")


def _certificate(certificate: Document) -> Markup | None:
    reasons = certificate["reasons"]
    facts = [["candidates", f"{certificate['candidates']:,}", ""]]
    facts += [["estimated in full", f"{certificate['estimated']:,}", ""]]
    facts += [[f"cut by {why}", f"{n:,}", reasons.get(why, "")] for why, n in certificate["pruned"].items()]
    facts += [
        ["best found", format_value(certificate["objective"], certificate["best"]), ""],
        ["lower bound", format_value(certificate["objective"], certificate["lower_bound"]), "no fleet can be below it"],
        ["gap", percent(certificate["gap_frac"]), ""],
    ]
    how = tag("p", "A checker of its own proves it again: ", tag("code", "rigwise plan verify PLAN.json"))
    return section("Certificate", how, table({"": "keep", "value": "number", "why": ""}, facts), class_="stack")
