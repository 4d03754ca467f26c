"""A plan as one HTML page: self-contained, without scripts, with the answer first."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from rigwise import __version__
from rigwise.report import plots
from rigwise.report.html import Markup, table, tag
from rigwise.units import format_count, format_fraction, format_seconds, format_usd

Document = Mapping[str, Any]

_ENERGY_J_PER_KWH = 3.6e6

#: Objective -> how the best plan is called.
_SUPERLATIVE = {"cost": "cheapest", "time": "fastest", "energy": "most frugal", "carbon": "lowest in carbon"}
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
        _listed("Why this plan", document["plans"][0].get("why", []) if document["plans"] else []),
        *_figures(document),
        _plans(document["plans"]),
        _certificate(document),
        _listed("If it cannot be had", document.get("fallbacks", [])),
        _listed("Advice", document.get("advice", [])),
        _excluded(document.get("excluded", [])),
        _assumptions(document),
        _repeat(command),
        tag("footer", f"Written by rigwise {__version__}. Best means best under this estimate."),
    ]
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *sections)), lang="en") + "\n"


def _headline(document: Document) -> str:
    if not document["plans"]:
        return "No plan satisfies the job"
    best = document["plans"][0]
    verb = _VERB.get(best["kind"], "Use")
    whence = f" from {best['provider']}" if best["kind"] == "rent" else ""
    time, cost = format_seconds(best["time_s"]["p50"]), format_usd(best["cost_usd"]["p50"])
    return f"{verb} {best['count']} x {best['device']}{whence}: {time}, {cost}"


def _answer(document: Document, title: str) -> Markup:
    job = tag("p", _job_line(document.get("job", {})), class_="job")
    heading = tag("h1", title)
    if not document["plans"]:
        return tag("header", job, heading)
    best, certificate = document["plans"][0], document["certificate"]
    proof = "proven" if certificate["gap_frac"] == 0 else f"within {format_fraction(certificate['gap_frac'])}"
    superlative = _SUPERLATIVE.get(certificate["objective"], "best")
    tiles = [
        ("Time", format_seconds(best["time_s"]["p50"]), _range(best["time_s"], format_seconds)),
        ("Cost", format_usd(best["cost_usd"]["p50"]), _range(best["cost_usd"], format_usd)),
        (f"The {superlative}", proof, f"of {certificate['candidates']:,.0f} candidates"),
    ]
    if best.get("p_best") is not None:
        regret = f"expected regret {format_usd(best.get('expected_regret_usd') or 0.0)}"
        tiles.append(("Best after all", format_fraction(best["p_best"]), regret))
    grid = tag("dl", *(tag("div", tag("dt", n), tag("dd", v), tag("dd", note)) for n, v, note in tiles), class_="tiles")
    return tag("header", job, heading, tag("p", _how(best)), grid)


def _job_line(job: Document) -> str:
    """The job in one line: model and amount first, then how, then the constraints."""
    amount = next((f"{format_count(job[k])} {k}" for k in ("tokens", "samples", "epochs", "steps") if job.get(k)), "")
    parts = [job.get("model"), job.get("task"), job.get("method"), amount]
    parts += [f"batch {job['batch']}" if job.get("batch") else None, f"seq {job['seq']}" if job.get("seq") else None]
    parts += [f"within {format_seconds(job['deadline_s'])}" if job.get("deadline_s") else None]
    parts += [f"for at most {format_usd(job['budget_usd'])}" if job.get("budget_usd") else None]
    return ", ".join(str(part) for part in parts if part)


def _how(plan: Document) -> str:
    """Where exactly, and how the work is laid out."""
    where = " ".join(str(plan[key]) for key in ("instance", "region", "market") if plan.get(key))
    return f"{where}; {_layout(plan)}."


def _layout(plan: Document) -> str:
    parallel = plan.get("parallel") or {}
    spread = [f"{name} {n}" for name in ("data", "tensor", "pipeline") if (n := parallel.get(name) or 1) > 1]
    spread += [f"ZeRO {parallel['zero']}"] if parallel.get("zero") else []
    parts = [str(plan["dtype"]), f"micro-batch {plan['micro_batch']}"]
    parts += [f"recompute {plan['recompute']}"] if plan.get("recompute", "none") != "none" else []
    return ", ".join(parts + spread)


def _range(quantiles: Document, format_value: Any) -> str:
    return f"{format_value(quantiles['p10'])} to {format_value(quantiles['p90'])}"


def _listed(heading: str, items: list[Any]) -> Markup | None:
    if not items:
        return None
    return tag("section", tag("h2", heading), tag("ul", *(tag("li", _line(item)) for item in items)))


def _line(item: Any) -> str:
    """A remark as text; a record as ``key value, key value``."""
    if not isinstance(item, Mapping):
        return str(item)
    return ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in item.items() if value not in (None, "", []))


def _figures(document: Document) -> list[Markup | None]:
    plans = document["plans"]
    if not plans:
        return []
    drawn = [_figure("Cost against time", _TRADE_TEXT, lambda w: plots.cost_against_time(document, width_px=w))]
    if any(plan.get("binds") for plan in plans):
        drawn.append(
            _figure("What the time goes into", _BINDS_TEXT, lambda w: plots.time_by_what_binds(document, width_px=w))
        )
    drawn.append(
        _figure("How sure the cost is", _SURE_TEXT, lambda w: plots.intervals(document, "cost_usd", width_px=w))
    )
    drawn.append(_figure("How sure the time is", "", lambda w: plots.intervals(document, "time_s", width_px=w)))
    return drawn


_TRADE_TEXT = (
    "Numbers are ranks. The line joins the plans that nothing beats in both time and cost; whiskers reach from "
    "the 10th to the 90th percentile; dashed lines are the job's limits."
)
_BINDS_TEXT = "Each part of the time by its limit: arithmetic, memory traffic, launching kernels, network, input."
_SURE_TEXT = "From the 10th to the 90th percentile; the mark is the median. Overlapping bars are ties."


def _figure(heading: str, text: str, chart: Any) -> Markup:
    """One chart drawn twice, for a wide and for a narrow screen; the style sheet shows one."""
    wide, narrow = (Markup(plots.svg(chart(width_px))) for width_px in (720, 350))
    caption = tag("figcaption", text) if text else None
    pictures = tag("div", wide, class_="wide", role="img"), tag("div", narrow, class_="narrow", role="img")
    return tag("section", tag("h2", heading), tag("figure", caption, *pictures))


def _plans(plans: list[Document]) -> Markup | None:
    if not plans:
        return None
    columns = {"#": "number", "what": "keep", "where": "", "how": "", "time": "number", "cost": "number"}
    columns |= {"energy": "number", "best with": "number", "price of": "keep"}
    rows: list[list[str]] = [_plan_row(plan) for plan in plans]
    note = tag(
        "p",
        "Time and cost are medians. The last columns: the chance that the plan is the best, the date of its price.",
        class_="soft",
    )
    return tag("section", tag("h2", "The best plans"), note, table(columns, rows), class_="plans")


def _plan_row(plan: Document) -> list[str]:
    energy_j, p_best = plan.get("energy_j"), plan.get("p_best")
    energy_j = energy_j["p50"] if isinstance(energy_j, Mapping) else energy_j
    return [
        str(plan["rank"]),
        f"{plan['count']} x {plan['device']}" + (f" in {plan['nodes']} nodes" if plan["nodes"] > 1 else ""),
        " ".join(str(plan[key]) for key in ("provider", "instance", "region", "market") if plan.get(key)),
        _layout(plan),
        format_seconds(plan["time_s"]["p50"]),
        format_usd(plan["cost_usd"]["p50"]),
        f"{energy_j / _ENERGY_J_PER_KWH:,.1f} kWh" if energy_j else "unknown",
        format_fraction(p_best) if p_best is not None else "",
        plan.get("price_date") or "",
    ]


def _certificate(document: Document) -> Markup:
    certificate = document["certificate"]
    show = format_usd if certificate["objective"] == "cost" else format_seconds
    show = show if certificate["objective"] in ("cost", "time") else format_count
    rows: list[list[str]] = [
        ["objective", certificate["objective"]],
        ["best found", show(certificate["best"])],
        ["lower bound", show(certificate["lower_bound"])],
        ["gap", f"{100 * certificate['gap_frac']:g} %"],
        ["candidates", f"{certificate['candidates']:,.0f}"],
        ["states expanded", f"{certificate['expanded']:,.0f}"],
        ["plans estimated in full", f"{certificate['estimated']:,.0f}"],
        *([f"ruled out by {why}", f"{n:,.0f}"] for why, n in certificate["pruned"].items()),
        ["search time", format_seconds(certificate["wall_s"])],
    ]
    text = (
        "Every candidate was either estimated in full or cut because a physical lower bound already loses. "
        "Check it independently of the search with "
    )
    how = tag("p", text, tag("code", "rigwise plan verify PLAN.json"), ".")
    return tag("section", tag("h2", "Certificate"), how, table({"": "", "value": "number"}, rows), class_="facts")


def _excluded(items: list[Any]) -> Markup | None:
    if not items:
        return None
    lines = tag("ul", *(tag("li", _line(item)) for item in items))
    note = tag("p", "Offers that were left out, and why.", class_="soft")
    return tag("section", tag("h2", "Not considered"), note, lines)


def _assumptions(document: Document) -> Markup | None:
    plans = document["plans"]
    lines = [str(line) for line in document.get("assumed", [])]
    grades = sorted({str(plan["provenance"]) for plan in plans if plan.get("provenance")})
    if grades:
        lines.append(f"the predictions rest on: {', '.join(grades)}")
    dates = sorted({plan["price_date"] for plan in plans if plan.get("price_date")})
    if dates:
        lines.append(f"prices date from {dates[0]}" + (f" to {dates[-1]}" if len(dates) > 1 else ""))
    sources = sorted({plan["source"] for plan in plans if plan.get("source")})
    lines += [f"price source: {source}" for source in sources]
    return _listed("What this rests on", lines)


def _repeat(command: str) -> Markup | None:
    return tag("section", tag("h2", "To repeat it"), tag("pre", tag("code", command))) if command else None
