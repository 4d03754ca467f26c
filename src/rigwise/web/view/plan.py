"""What the plan page shows of a ``rigwise.plan/1`` document."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rigwise.report.figures.plan import limits
from rigwise.report.html import Markup
from rigwise.search.robust import TIE
from rigwise.units import format_count, format_fraction, format_seconds, format_usd
from rigwise.web.picture.frontier import drawn, frontier
from rigwise.web.picture.plane import both

Document = Mapping[str, Any]

_VERB = {"rent": "Rent", "buy": "Buy", "own": "Use your own", "mixed": "Combine"}

#: Why a candidate was cut, in the words of the terminal.
_CUT = {
    "memory": "cannot hold the weights",
    "deadline": "too slow at best",
    "budget": "too dear at best",
    "bound": "no better at best",
}
_SUPERLATIVE = {"cost": "cheapest", "time": "fastest", "energy": "most frugal", "carbon": "lowest in carbon"}


def plan_view(document: Document) -> dict[str, Any]:
    """The answer first; a document without a plan says what stands in the way and what to move."""
    if not document["plans"]:
        return {"infeasible": document["infeasible"]}
    best, certificate = document["plans"][0], document["certificate"]
    left_out = sorted(document["excluded"], key=lambda group: -group["count"])
    return {
        "infeasible": None,
        "best": best,
        "verb": _VERB.get(best["kind"], "Use"),
        "what": devices(best),
        "place": place(best),
        "layout": layout(best),
        "sure": _sure(best, certificate),
        "picture": Markup(both(partial(frontier, document))),
        "far": _far(document),
        "rows": [_row(plan) for plan in document["plans"]],
        "ties": any(plan.get("p_ahead", 0.0) >= TIE for plan in document["plans"][1:]),
        "fallbacks": [
            {
                "what": devices(plan),
                "place": place(plan),
                "why": plan["why"][0].partition(": ")[2] if plan["why"] else "",
            }
            for plan in document["fallbacks"]
        ],
        "cut": _cut(certificate),
        "left_out": left_out,
        "left_out_count": sum(group["count"] for group in left_out),
    }


def devices(plan: Document) -> str:
    """How many of what, on how many nodes."""
    nodes = f" on {plan['nodes']} nodes" if plan["nodes"] > 1 else ""
    return f"{plan['count']} \N{MULTIPLICATION SIGN} {plan['device']}{nodes}"


def place(plan: Document) -> str:
    """Which offer exactly."""
    words = (plan["provider"], plan["instance"], plan["region"], plan["market"])
    said = [str(word) for word in words if word]
    return ", ".join(said[:1] + [word for word in said[1:] if f"({word})" not in " ".join(said)])


def layout(plan: Document) -> str:
    """How each step is computed."""
    parallel = plan["parallel"]
    parts = [plan["dtype"], plan["mode"], f"micro-batch {plan['micro_batch']}"]
    parts += [f"accumulation {plan['accumulation']}"] if plan["accumulation"] > 1 else []
    parts += [f"{plan['recompute']} recompute"] if plan["recompute"] != "none" else []
    sizes = ((name, parallel[name] or 1) for name in ("data", "tensor", "pipeline"))
    parts += [f"{name} parallel {size}" for name, size in sizes if size > 1]
    parts += [f"ZeRO {parallel['zero']}"] if parallel["zero"] else []
    return ", ".join(parts)


def _sure(best: Document, certificate: Document) -> str:
    """What is proven, and with what probability it is the best all the same."""
    sure = f"as sure as the estimate is, it is the best with probability {format_fraction(best['p_best'])}."
    return f"{proof(certificate)}; {sure}"


def proof(certificate: Document) -> str:
    """What is proven, without a full stop."""
    gap = certificate["gap_frac"]
    word = _SUPERLATIVE.get(certificate["objective"], "best")
    found = f"the {word}" if gap == 0 else f"within {format_fraction(gap)} of the {word}"
    if certificate.get("stopped"):
        found = f"the {word} that was found"
    among = f" of {certificate['candidates']:,} candidates" if "candidates" in certificate else ""
    return f"Proven {found}{among} under this estimate"


def _far(document: Document) -> list[str]:
    """Limits, and plans of the frontier, too far off to be drawn; of the plans the quickest."""
    words = [limit["text"] for limit in limits(document) if not limit["near"]]
    far = [plan for plan in document["frontier"] if plan not in drawn(document)]
    if far:
        quickest = min(far, key=lambda plan: float(plan["time_s"]["p50"]))
        time, cost = format_seconds(quickest["time_s"]["p50"]), format_usd(quickest["cost_usd"]["p50"])
        words.append(
            f"{len(far)} quicker plan{'s' if len(far) > 1 else ''}, up to {devices(quickest)} in {time} for {cost}"
        )
    return words


def _row(plan: Document) -> dict[str, Any]:
    tied = plan["rank"] > 1 and plan.get("p_ahead", 0.0) >= TIE
    words = {"rank": f"{plan['rank']}=" if tied else str(plan["rank"]), "what": devices(plan)}
    return {**plan, **words, "place": place(plan), "layout": layout(plan)}


def _cut(certificate: Document) -> list[dict[str, Any]]:
    reasons = certificate["reasons"]
    return [
        {"what": _CUT.get(name, name), "count": number, "why": reasons.get(name, "")}
        for name, number in certificate["pruned"].items()
        if number
    ]


def job_line(job: Document) -> str:
    """The job in one line, for the title of the page."""
    return f"{job['model']}, {job['task']}, {format_count(job['amount'])} {job['unit']}"
