"""Scaling as text for a terminal of 80 columns, and as JSON."""

from __future__ import annotations

from textwrap import wrap
from typing import Any

from rigwise.estimate.scaling import TERMS, Scaling, ScalingPoint
from rigwise.units import format_bytes, format_count, format_seconds

_WIDTH = 80
_SHORT = {"communication": "comm", "straggling": "straggle"}


def scaling_text(scaling: Scaling, *, brief: bool = False) -> str:
    """A row for each count, the shares of each step, then why scaling stops; ``brief`` gives the reason alone."""
    why = wrap(scaling.why, _WIDTH)
    if brief:
        return "\n".join(why) + "\n"
    case = scaling.points[0].prediction.case
    batch = f"batch {case.batch}" if scaling.kind == "strong" else f"batch {case.batch // case.count} a device"
    lines = [f"{case.model} on {scaling.points[0].prediction.device.id}: {case.task}, {case.dtype}, {batch}", ""]
    lines += [
        f"  {'count':>5} {'nodes':>5} {'step time':>10} {'80 % in':>12} {'samples/s':>10} {'efficiency':>10}  binds"
    ]
    lines += [_row(point) for point in scaling.points]
    if not all(point.prediction.fits for point in scaling.points):
        lines.append("  ! does not fit the memory of the device")
    lines += ["", *_shares(scaling), "", *why]
    lines += wrap(f"What would change it: {scaling.change}.", _WIDTH) if scaling.change else []
    lines += wrap(_worth(scaling), _WIDTH)
    if scaling.crossover_bytes:
        lines += wrap(f"Inside a node a ring beats a tree above {format_bytes(scaling.crossover_bytes)}.", _WIDTH)
    assumed = dict.fromkeys(word for point in scaling.points for word in point.prediction.assumed)
    lines += wrap("assumed: " + "; ".join(assumed), _WIDTH) if assumed else []
    return "\n".join(lines) + "\n"


def _row(point: ScalingPoint) -> str:
    p, time = point.prediction, point.prediction.step_time_s
    inside = f"-{(1 - time['p10'] / time['p50']) * 100:.0f}/+{(time['p90'] / time['p50'] - 1) * 100:.0f}%"
    row = f"  {p.case.count:>5} {p.case.nodes:>5} {format_seconds(time['p50']):>10} {inside:>12}"
    row += f" {format_count(p.throughput_per_s):>10} {point.efficiency_frac * 100:>8.0f} %  {point.binds}"
    return row + ("" if p.fits else " !")


def _shares(scaling: Scaling) -> list[str]:
    """Percent of each step by term; terms that are nowhere half a percent are left out."""
    parts = {t: [p.terms_s[t] / p.prediction.step_time_s["p50"] for p in scaling.points] for t in TERMS}
    shown = [term for term in TERMS if max(parts[term]) >= 0.005]
    lines = ["  % of step " + "".join(f"{_SHORT.get(term, term):>9}" for term in shown)]
    for index, point in enumerate(scaling.points):
        cells = "".join(f"{parts[term][index] * 100:>9.0f}" for term in shown)
        lines.append(f"  {point.prediction.case.count:>9} {cells}")
    return lines


def _worth(scaling: Scaling) -> str:
    last = scaling.points[-1].prediction.case.count
    if scaling.stops_at == last:
        return f"Worth its devices up to {last}, the largest count asked for."
    return f"Worth its devices up to {scaling.stops_at}: beyond, added devices give less than half of what they could."


def scaling_document(scaling: Scaling) -> dict[str, Any]:
    """The JSON object of ``rigwise.scaling/1``."""
    from rigwise.estimate.predict import predict_document

    return {
        "schema": "rigwise.scaling/1",
        "kind": scaling.kind,
        "points": [_point(point, predict_document(point.prediction)) for point in scaling.points],
        "stops_at": scaling.stops_at,
        "grows": scaling.grows or None,
        "why": scaling.why,
        "change": scaling.change or None,
        "crossover_bytes": scaling.crossover_bytes,
    }


def _point(point: ScalingPoint, document: dict[str, Any]) -> dict[str, Any]:
    case = point.prediction.case
    head = {"count": case.count, "nodes": case.nodes, "batch": case.batch}
    told = {"efficiency": point.efficiency_frac, "binds": point.binds, "terms_s": dict(point.terms_s)}
    return head | told | {"prediction": document}
