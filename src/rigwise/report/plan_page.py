"""A plan as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import Any

from rigwise import __version__
from rigwise.report.figures import plan as plots
from rigwise.report.figures.save import svg
from rigwise.report.html import Markup, table, tag
from rigwise.search.bounds import format_value
from rigwise.search.robust import TIE
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]

_J_PER_KWH = 3.6e6

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
    style = Markup(files("rigwise.report").joinpath("page.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", style),
    )
    sections = [
        _answer(document, title),
        _listed("Why this plan", document["plans"][0]["why"]),
        *_figures(document),
        _plans(document["plans"]),
        _listed("If it is not to be had", [_fallback(plan) for plan in document["fallbacks"]]),
        _certificate(document["certificate"]),
        _listed("Good to know", document["advice"]),
        _excluded(document["excluded"]),
        _assumptions(document),
        _repeat(command),
        tag("footer", f"Written by rigwise {__version__}. Best means best under this estimate."),
    ]
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *sections)), lang="en") + "\n"


def _headline(document: Document) -> str:
    best = document["plans"][0]
    verb = _VERB.get(best["kind"], "Use")
    whence = f" from {best['provider']}" if best["kind"] == "rent" else ""
    time, cost = format_seconds(best["time_s"]["p50"]), format_usd(best["cost_usd"]["p50"])
    return f"{verb} {best['count']} x {best['device']}{whence}: {time}, {cost}"


def _answer(document: Document, title: str) -> Markup:
    best, certificate = document["plans"][0], document["certificate"]
    proof = (
        "proven" if certificate["gap_frac"] == 0 else f"within {100 * certificate['gap_frac']:.2g}\N{NO-BREAK SPACE}%"
    )
    superlative = _SUPERLATIVE.get(certificate["objective"], "best")
    memory = format_fraction(best["memory_bytes"] / best["memory_capacity_bytes"])
    tiles = [
        ("Time", format_seconds(best["time_s"]["p50"]), _range(best["time_s"], format_seconds)),
        ("Cost", format_usd(best["cost_usd"]["p50"]), _range(best["cost_usd"], format_usd)),
        ("Memory", f"{memory} full", f"of {format_bytes(best['memory_capacity_bytes'])} on each device"),
        (f"The {superlative}", proof, f"among {certificate['candidates']:,} candidates"),
        ("Best with", format_fraction(best["p_best"]), f"expected regret {format_usd(best['expected_regret_usd'])}"),
    ]
    grid = tag("dl", *(tag("div", tag("dt", n), tag("dd", v), tag("dd", note)) for n, v, note in tiles), class_="tiles")
    job = tag("p", _job_line(document["job"]), class_="job")
    return tag("header", job, tag("h1", title), tag("p", _where(best), "; ", _layout(best), "."), grid)


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


def _layout(plan: Document) -> str:
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


def _range(quantiles: Document, format_value: Any) -> str:
    return f"{format_value(quantiles['p10'])} to {format_value(quantiles['p90'])}"


def _listed(heading: str, sentences: Sequence[str]) -> Markup | None:
    items = [tag("li", sentence) for sentence in sentences]
    return tag("section", tag("h2", heading), tag("ul", *items)) if items else None


def _figures(document: Document) -> list[Markup]:
    figures = [_figure("Cost against time", _trade_text(document), partial(plots.cost_against_time, document))]
    if all("binds" in plan for plan in document["plans"]):
        figures.append(_figure("What the time goes into", _BINDS_TEXT, partial(plots.time_by_what_binds, document)))
    cost, time = (partial(plots.intervals, document, quantity) for quantity in ("cost_usd", "time_s"))
    return [*figures, _figure("How sure the cost is", _SURE_TEXT, cost), _figure("How sure the time is", "", time)]


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


def _figure(heading: str, text: str, chart: Any) -> Markup:
    """One chart drawn twice, for a wide and for a narrow screen; the style sheet shows one."""
    wide, narrow = (Markup(svg(chart(width_px=width_px))) for width_px in (720, 350))
    caption = tag("figcaption", text) if text else None
    pictures = tag("div", wide, class_="wide", role="img"), tag("div", narrow, class_="narrow", role="img")
    return tag("section", tag("h2", heading), tag("figure", caption, *pictures))


def _plans(plans: Sequence[Document]) -> Markup:
    columns = {"#": "number", "what": "keep", "where": "", "how": "", "time": "number", "cost": "number"}
    columns |= {"energy": "number", "best with": "number", "price of": "keep"}
    note = (
        "Time and cost are medians. Each row is the best layout on its offer. A row marked = is ahead of the first with"
        " a probability of a tenth or more."
    )
    rows = table(columns, [_plan_row(plan) for plan in plans])
    return tag("section", tag("h2", "The best plans"), tag("p", note, class_="soft"), rows, class_="plans")


def _plan_row(plan: Document) -> list[str]:
    nodes = f" on {plan['nodes']} nodes" if plan["nodes"] > 1 else ""
    return [
        f"{plan['rank']}=" if plan.get("p_ahead", 0.0) >= TIE else str(plan["rank"]),
        f"{plan['count']} x {plan['device']}{nodes}",
        _where(plan),
        _layout(plan),
        format_seconds(plan["time_s"]["p50"]),
        format_usd(plan["cost_usd"]["p50"]),
        f"{plan['energy_j'] / _J_PER_KWH:,.2f} kWh" if plan["energy_j"] is not None else "unknown",
        format_fraction(plan["p_best"]),
        plan["price_date"],
    ]


def _fallback(plan: Document) -> str:
    """A fallback, and what sets it apart from the first plan."""
    return f"{plan['count']} x {plan['device']}, {_where(plan)}" + (f"; {plan['why'][0]}" if plan["why"] else "")


def _certificate(certificate: Document) -> Markup:
    show = partial(format_value, certificate["objective"])
    reasons = certificate["reasons"]
    facts = [
        ["candidates", f"{certificate['candidates']:,}", "every layout on every offer that counts"],
        ["estimated in full", f"{certificate['estimated']:,}", ""],
        *([f"cut by {why}", f"{n:,}", reasons.get(why, "")] for why, n in certificate["pruned"].items()),
        ["best found", show(certificate["best"]), ""],
        ["lower bound", show(certificate["lower_bound"]), "nothing that was cut can be below it"],
        ["gap", f"{100 * certificate['gap_frac']:.3g} %", ""],
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
    return tag("section", tag("h2", "Certificate"), how, table({"": "keep", "value": "number", "why": ""}, facts))


def _excluded(excluded: Sequence[Document]) -> Markup | None:
    if not excluded:
        return None
    ranked = sorted(excluded, key=lambda group: -group["count"])
    rows = table({"reason": "", "offers": "number"}, [[group["reason"], f"{group['count']:,}"] for group in ranked])
    return tag("section", tag("h2", "Offers left out"), rows, class_="facts")


def _assumptions(document: Document) -> Markup:
    lines = [f"assumed: {sentence}" for sentence in document["assumed"]]
    lines += [f"the age of prices was counted on {document['today']}"]
    grades = sorted({plan["provenance"] for plan in document["plans"] if "provenance" in plan})
    lines += [f"the constants are for: {', '.join(grades)}"] if grades else []
    rows = [[row["figure"], row["source"]] for row in document.get("sources", ())]
    sources = table({"figure": "keep", "source": ""}, rows) if rows else None
    return tag("section", tag("h2", "What this rests on"), tag("ul", *(tag("li", line) for line in lines)), sources)


def _repeat(command: str) -> Markup | None:
    return tag("section", tag("h2", "To repeat it"), tag("pre", tag("code", command))) if command else None
