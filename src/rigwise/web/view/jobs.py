"""What the plan page shows of several stages, of jobs that share machines, and of jobs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from rigwise.report.figures.jobs import best_of, panels, with_plan
from rigwise.report.figures.timeline import Timeline, machines_timeline, stages_timeline
from rigwise.report.html import Markup
from rigwise.report.shared_text import advice
from rigwise.units import format_seconds, format_usd
from rigwise.web.picture.plane import both
from rigwise.web.picture.rows import class_of, dollars, ranges, timeline, times
from rigwise.web.view.plan import devices, layout, place, proof

Document = Mapping[str, Any]


def staged_view(document: Document) -> dict[str, Any]:
    """The stages of a ``rigwise.plan.staged/1`` document, one after the other."""
    if not document["stages"]:
        return {"infeasible": document["infeasible"]}
    told = f"{len(document['stages'])} stages one after the other, done in {format_seconds(document['time_s']['p50'])}."
    rows = [
        {
            "name": stage["name"],
            "model": asked["job"]["model"],
            "what": devices(stage["plan"]),
            "layout": layout(stage["plan"]),
            "place": ("stays: " if stage["stay"] else "") + place(stage["plan"]),
            "moved": f"moved there in {format_seconds(stage['move_s'])}" if stage["move_s"] else "",
            "cost": format_usd(stage["plan"]["cost_usd"]["p50"] + stage["move_usd"]),
            "time": format_seconds(stage["plan"]["time_s"]["p50"] + stage["move_s"]),
            "price_date": stage["plan"]["price_date"],
        }
        for asked, stage in zip(document["job"]["stages"], document["stages"], strict=True)
    ]
    return {"infeasible": None, "rows": rows, "proof": _proof(document), **_drawn(stages_timeline(document), told)}


def shared_view(document: Document) -> dict[str, Any]:
    """The jobs of a ``rigwise.plan.shared/1`` document and the machines that they run on."""
    if not document["plans"]:
        return {"infeasible": document["infeasible"]}
    told = f"{len(document['plans'])} jobs, the last done after {format_seconds(document['end_s']['p50'])}."
    models = {one["name"]: one["job"]["model"] for one in document["question"]["jobs"]}
    rows = [
        {
            "name": one["name"],
            "model": models[one["name"]],
            "what": devices(one["plan"]),
            "layout": layout(one["plan"]),
            "where": one["machine"] or f"rented: {place(one['plan'])}",
            "start": format_seconds(one["start_s"]["p50"]) if one["start_s"]["p50"] else "at once",
            "end": format_seconds(one["end_s"]["p50"]),
            "cost": format_usd(one["plan"]["cost_usd"]["p50"]),
        }
        for one in document["plans"]
    ]
    used = {one["machine"] for one in document["plans"]}
    return {
        "infeasible": None,
        "rows": rows,
        "idle": [name for name in document["machines"] if name not in used],
        "advice": advice(document),
        "proof": _proof(document),
        **_drawn(machines_timeline(document), told),
    }


def _drawn(found: Timeline, told: str) -> dict[str, Any]:
    draw = partial(timeline, found, f"What is done when. {told}")
    keys = [(class_of(found, kind), kind) for kind in found.shown]
    return {"picture": Markup(both(draw)), "keys": keys if len(keys) > 1 else []}


def _proof(document: Document) -> str:
    certificate = document["certificate"]
    return f"{proof(certificate)}; found in {format_seconds(certificate['wall_s'])}."


def many_view(document: Document) -> dict[str, Any]:
    """The best plan of each job of a ``rigwise.plans/1`` document; of one without a plan, why there is none."""
    planned = with_plan(document)
    total = format_usd(sum(best_of(one)["cost_usd"]["p50"] for one in planned))

    def draw(width_px: int) -> Markup:
        money, waits = panels(document)
        told = f"Cost and time of {len(planned)} jobs, {total} together."
        return ranges([dollars(money), times(waits)], told, width_px)

    return {
        "infeasible": None,
        "count": len(document["results"]),
        "planned": len(planned),
        "total": total,
        "rows": [_row(one) for one in document["results"]],
        "picture": Markup(both(draw)) if planned else None,
    }


def _row(one: Document) -> dict[str, Any]:
    wrong = one.get("error") or one.get("infeasible")
    if wrong:
        return {"name": one["file"], "wrong": wrong}
    best = best_of(one)
    staged = "device" not in best
    what = f"{len(one['stages'])} stages" if staged else devices(best)
    where = "" if staged else place(best)
    return {"name": one["file"], "wrong": None, "what": what, "place": where, "best": best}
