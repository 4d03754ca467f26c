"""What the plan page shows of a ``rigwise.plan.serving/1`` document."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rigwise.report.figures.fleet import panels
from rigwise.report.html import Markup
from rigwise.units import format_count, format_fraction, format_seconds, format_usd
from rigwise.web.picture.plane import both
from rigwise.web.picture.rows import dollars, ranges, times
from rigwise.web.view.plan import place, proof
from rigwise.workload.serving_load import MONTH_S

Document = Mapping[str, Any]

#: Why a candidate was cut, in the words of the terminal.
_CUT = {
    "memory": "cannot hold the weights",
    "ttft": "too slow at best to the first token",
    "tpot": "too slow at best from token to token",
    "limits": "not to be had in the number needed",
    "bound": "no cheaper at best",
}


def serving_view(document: Document) -> dict[str, Any]:
    """The answer first; a document without a plan says what stands in the way and what to move."""
    if not document["plans"]:
        return {"infeasible": document["infeasible"]}
    best, load, certificate = document["plans"][0], document["job"]["load"], document["certificate"]
    left_out = sorted(document["excluded"], key=lambda group: -group["count"])
    return {
        "infeasible": None,
        "best": best,
        "verb": "Use your own" if best["kind"] == "own" else "Rent",
        "what": replicas(best),
        "place": place(best),
        "period": "a month of 730 h" if load["duration_s"] == MONTH_S else format_seconds(load["duration_s"]),
        "asked": _asked(load),
        "sure": _sure(best, load),
        "proof": f"{proof(certificate)}.",
        "picture": Markup(both(partial(_picture, document))),
        "rows": [{**plan, "what": replicas(plan), "place": place(plan)} for plan in document["plans"]],
        "fallbacks": [
            {"what": replicas(plan), "place": place(plan), "why": (plan["why"] or [""])[0].partition(": ")[2]}
            for plan in document.get("fallbacks", ())
        ],
        "cut": [
            {"what": _CUT.get(name, name), "count": count, "why": certificate["reasons"].get(name, "")}
            for name, count in certificate["pruned"].items()
            if count
        ],
        "left_out": left_out,
        "left_out_count": sum(group["count"] for group in left_out),
        "advice": [*document["advice"], *(f"assumed: {one}" for one in document["assumed"])],
    }


def replicas(plan: Document) -> str:
    """How many replicas of what."""
    each = plan["parallel"]["tensor"] * plan["parallel"]["pipeline"]
    of = f"{each} \N{MULTIPLICATION SIGN} " if each > 1 else ""
    joined = " of " if each > 1 else " \N{MULTIPLICATION SIGN} "
    return f"{plan['serving']['replicas']}{joined}{of}{plan['device']}"


def _asked(load: Document) -> str:
    tokens = f"{load['prompt_tokens']:,} + {load['output_tokens']:,} tokens"
    return f"{format_count(load['rate_per_s'])} requests a second of {tokens}"


def _sure(best: Document, load: Document) -> str:
    work = best["serving"]
    sure, full = format_fraction(work["limits_probability"]), format_fraction(work["load_frac"])
    kept = "It keeps the limits" if load["ttft_s"] or load["tpot_s"] else "It keeps up"
    many = f"{work['rate_per_s']:.3g} requests a second, {work['sequences']:.3g} at one time"
    return f"{kept} with a probability of {sure}. Each replica has {many}: {full} of what it can take."


def _picture(document: Document, width_px: int) -> Markup:
    best = document["plans"][0]
    price, first = format_usd(best["usd_per_h"]), format_seconds(best["serving"]["ttft_s"]["p50"])
    told = f"Dollars an hour and times of {len(document['plans'])} plans. The best: {replicas(best)}, {price} an hour, "
    money, *waits = panels(document)
    return ranges([dollars(money), *map(times, waits)], f"{told}the first token after {first}.", width_px)
