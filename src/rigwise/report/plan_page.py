"""A plan as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from rigwise.report.figures import plan as plots
from rigwise.report.figures.theme import Figure
from rigwise.report.html import Markup, table, tag
from rigwise.report.page import answer, listed, page, percent, picture, quantiles, repeat, rests_on, section, soft
from rigwise.search.bounds import format_value
from rigwise.search.robust import TIE
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]

_J_PER_KWH = 3.6e6

#: What every plan's page ends with.
CLOSING = "Best means best under this estimate."

#: Objective -> how the best plan is called.
_SUPERLATIVE = {"cost": "cheapest", "time": "fastest", "energy": "most frugal", "carbon": "lowest in carbon"}
_METHOD = {"astar": "A*", "exhaustive": "exhaustive"}
_VERB = {"rent": "Rent", "buy": "Buy", "own": "Use your own", "mixed": "Combine"}


def plan_page(document: Document, *, command: str = "") -> str:
    """The page for a ``rigwise.plan/1`` document.

    Args:
        document: What ``rigwise plan --json`` prints.
        command: The command line that made it, shown at the end.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    title = _headline(document)
    parts = [
        _answer(document, title),
        listed("Why this plan", document["plans"][0]["why"]),
        *(picture(figure.title, figure) for figure in _figures(document)),
        _plans(document["plans"]),
        listed("If it is not to be had", map(_fallback, document["fallbacks"])),
        listed("Good to know", _advice(document)),
        _certificate(document["certificate"]),
        _excluded(document["excluded"]),
        rests_on(_assumptions(document), document.get("sources", ())),
        repeat(command),
    ]
    return page(title, parts, closing=f"{CLOSING} Prices as known on {document['today']}.")


def _headline(document: Document) -> str:
    best = document["plans"][0]
    verb = _VERB.get(best["kind"], "Use")
    whence = f" from {best['provider']}" if best["kind"] == "rent" else ""
    time, cost = format_seconds(best["time_s"]["p50"]), format_usd(best["cost_usd"]["p50"])
    return f"{verb} {best['count']} x {best['device']}{whence}: {time}, {cost}"


def _answer(document: Document, title: str) -> Markup:
    best, certificate = document["plans"][0], document["certificate"]
    gap = certificate["gap_frac"]
    proof = "proven" if gap == 0 else f"within {percent(gap)}"
    superlative = _SUPERLATIVE.get(certificate["objective"], "best")
    memory = format_fraction(best["memory_bytes"] / best["memory_capacity_bytes"])
    tiles = [
        ("Time", format_seconds(best["time_s"]["p50"]), quantiles(best["time_s"], format_seconds)),
        ("Cost", format_usd(best["cost_usd"]["p50"]), quantiles(best["cost_usd"], format_usd)),
        ("Memory", f"{memory} full", f"of {format_bytes(best['memory_capacity_bytes'])} on each device"),
        (f"The {superlative}", proof, f"among {certificate['candidates']:,} candidates"),
        (
            "Chance that it is",
            format_fraction(best["p_best"]),
            f"expected regret {format_usd(best['expected_regret_usd'])}",
        ),
    ]
    return answer(_job_line(document["job"]), title, _sentence(best), tiles)


def _sentence(best: Document) -> str:
    """The answer with how sure it is, and what exactly to take."""
    time, cost = (quantiles(best[name], show) for name, show in (("time_s", format_seconds), ("cost_usd", format_usd)))
    ranges = [f"take {time}" if time else "", f"cost {cost}" if cost else ""]
    sure = " and ".join(word for word in ranges if word)
    sure = f"With a probability of 80 % it will {sure}. " if sure else ""
    return f"{sure}Take {_where(best)}; run it with {layout_of(best)}."


def _job_line(job: Document) -> str:
    """The job in one line: model and amount first, then how, then the limits."""
    method = job["method"] if job["task"] == "train" else ""
    parts = [job["model"], f"{job['task']} {method}".strip(), f"{format_count(job['amount'])} {job['unit']}"]
    parts += [f"{name} {job[name]}" for name in ("batch", "seq", "context", "image_size") if job.get(name)]
    parts += [f"within {format_seconds(job['deadline_s'])}"] if job["deadline_s"] else []
    parts += [f"for at most {format_usd(job['budget_usd'])}"] if job["budget_usd"] is not None else []
    return ", ".join(parts).replace("_", " ")


def _where(plan: Document) -> str:
    """Which offer exactly."""
    return " ".join(str(plan[key]) for key in ("provider", "instance", "region", "market") if plan[key])


def layout_of(plan: Document) -> str:
    """How each step is computed."""
    parallel = plan["parallel"]
    parts = [plan["dtype"], plan["mode"], f"micro-batch {plan['micro_batch']}"]
    parts += [f"accumulation {plan['accumulation']}"] if plan["accumulation"] > 1 else []
    parts += [f"{plan['recompute']} recompute"] if plan["recompute"] != "none" else []
    parts += [
        f"{name} parallel {parallel[name]}" for name in ("data", "tensor", "pipeline") if (parallel[name] or 1) > 1
    ]
    parts += [f"ZeRO {parallel['zero']}"] if parallel["zero"] else []
    return ", ".join(parts)


def _figures(document: Document) -> list[Figure]:
    def figure(title: str, note: str, draw: Any, *arguments: Any) -> Figure:
        return Figure(title=title, note=note, draw=lambda width_px: draw(document, *arguments, width_px=width_px))

    figures = [figure("Cost against time", _trade_text(document), plots.cost_against_time)]
    if all("binds" in plan for plan in document["plans"]):
        figures.append(figure("What the time goes into", _BINDS_TEXT, plots.time_by_what_binds))
    figures.append(figure("How sure the cost is", _SURE_TEXT, plots.intervals, "cost_usd"))
    return [*figures, figure("How sure the time is", "", plots.intervals, "time_s")]


_BINDS_TEXT = "Each part of the time by its limit: arithmetic, memory traffic, launching kernels, network, input."
_SURE_TEXT = (
    "From the 10th to the 90th percentile; the mark is the median. Where bars overlap, the order is not certain."
)


def _trade_text(document: Document) -> str:
    near, far = (
        [limit["text"] for limit in plots.limits(document) if limit["near"] is is_near] for is_near in (True, False)
    )
    return (
        "Numbers are ranks. The line joins plans that nothing beats in both time and cost; whiskers reach from the "
        "10th to the 90th percentile."
        + (f" Dashed: {' and '.join(near)}." if near else "")
        + (f" Far outside: {' and '.join(far)}." if far else "")
    )


def _plans(plans: Sequence[Document]) -> Markup | None:
    columns = {"#": "number", "what": "keep", "where": "", "how": "", "time": "number", "cost": "number"}
    columns |= {"energy": "number", "best with": "number", "price of": "keep"}
    note = (
        "Time and cost are medians. Each row is the best layout on its offer. A row marked = is ahead of the first with"
        " a probability of a tenth or more."
    )
    rows = table(columns, [_plan_row(plan) for plan in plans])
    return section("The best plans", soft(note), rows, class_="plans stack")


def _plan_row(plan: Document) -> list[str]:
    nodes = f" on {plan['nodes']} nodes" if plan["nodes"] > 1 else ""
    return [
        f"{plan['rank']}=" if plan.get("p_ahead", 0.0) >= TIE else str(plan["rank"]),
        f"{plan['count']} x {plan['device']}{nodes}",
        _where(plan),
        layout_of(plan),
        format_seconds(plan["time_s"]["p50"]),
        format_usd(plan["cost_usd"]["p50"]),
        f"{plan['energy_j'] / _J_PER_KWH:,.2f} kWh" if plan["energy_j"] is not None else "unknown",
        format_fraction(plan["p_best"]),
        plan["price_date"],
    ]


def _fallback(plan: Document) -> str:
    """A fallback, and what sets it apart from the first plan."""
    return f"{plan['count']} x {plan['device']}, {_where(plan)}" + (f"; {plan['why'][0]}" if plan["why"] else "")


def _certificate(certificate: Document) -> Markup | None:
    show = partial(format_value, certificate["objective"])
    reasons = certificate["reasons"]
    facts = [
        ["candidates", f"{certificate['candidates']:,}", "every layout on every offer that counts"],
        ["estimated in full", f"{certificate['estimated']:,}", ""],
        *([f"cut by {why}", f"{n:,}", reasons.get(why, "")] for why, n in certificate["pruned"].items()),
        ["best found", show(certificate["best"]), ""],
        ["lower bound", show(certificate["lower_bound"]), "nothing that was cut can be below it"],
        ["gap", percent(certificate["gap_frac"]), ""],
        [
            "search",
            format_seconds(certificate["wall_s"]),
            {"astar": "A*"}.get(certificate["method"], certificate["method"]),
        ],
    ]
    text = (
        "Every candidate was estimated, or cut because a physical bound already loses. "
        "A checker of its own proves it again: "
    )
    how = tag("p", text, tag("code", "rigwise plan verify PLAN.json"))
    return section("Certificate", how, table({"": "keep", "value": "number", "why": ""}, facts), class_="stack")


def _excluded(excluded: Sequence[Document]) -> Markup | None:
    if not excluded:
        return None
    ranked = sorted(excluded, key=lambda group: -group["count"])
    rows = table({"reason": "", "offers": "number"}, [[group["reason"], f"{group['count']:,}"] for group in ranked])
    return section("Offers left out", rows, class_="facts")


def _advice(document: Document) -> list[str]:
    """What the plan advises, without the assumptions, which stand by themselves."""
    return [sentence for sentence in document["advice"] if not sentence.startswith("assumed: ")]


def _assumptions(document: Document) -> list[str]:
    grades = sorted({plan["provenance"] for plan in document["plans"] if "provenance" in plan})
    of_grades = [f"the constants are for: {', '.join(grades)}"] if grades else []
    return [*document["assumed"], f"the age of prices was counted on {document['today']}", *of_grades]
