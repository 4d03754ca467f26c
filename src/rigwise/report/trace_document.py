"""A recorded step as the JSON of ``rigwise.trace/1``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.calibrate.trace_match import Matched, words_of
from rigwise.edge import as_plain
from rigwise.graph.tree import Load, Row
from rigwise.measurement.profile.activity import Activity
from rigwise.measurement.profile.counting import quotients
from rigwise.measurement.profile.spans import Counters, What
from rigwise.measurement.profile.steps import window_of
from rigwise.report.trace_answer import Beside, Recorded

SCHEMA = "rigwise.trace/1"


def counters_document(name: str, counters: Counters) -> dict[str, Any]:
    """The document of ``perf stat``."""
    found: dict[str, Any] = {"elapsed_s": counters.elapsed_s, "command": counters.command}
    found |= {"values": dict(counters.values)}
    found |= {"counted_frac": dict(counters.counted_frac), "missing": list(counters.missing)}
    found["quotients"] = quotients(counters)
    return {"schema": SCHEMA, "file": name, "source": "perf", "counters": found}


def trace_document(name: str, found: Recorded, other: Beside | None) -> dict[str, Any]:
    """The document of a trace; ``comparison`` is null without a model."""
    trace, step = found.tied.trace, found.steps[found.at]
    marked = found.steps if step.name else ()
    lengths = [end - start for at in range(len(marked)) for start, end in [window_of(found.tied, found.steps, at)]]
    return {
        "schema": SCHEMA,
        "file": name,
        "source": trace.source,
        "events": trace.events,
        "rank": {"rank": trace.ranks[0], "world_size": trace.ranks[1]} if trace.ranks else None,
        "notes": list(found.notes),
        "steps": {"count": found.count, "shown": step.name or None, "step_s": found.step_s, "times_s": lengths},
        "devices": [_activity(one) for one in found.activities],
        "operators": operators(found),
        "kernels": kernels(found),
        "comparison": _comparison(found, other) if other else None,
    }


def operators(found: Recorded) -> list[dict[str, Any]]:
    """Operators of the step by name, the longest first."""
    groups: dict[str, list[float]] = {}
    for unit in found.units:
        groups.setdefault(plain_name(unit.name), []).append(unit.time_s)
    listed = [{"name": name, "calls": len(times), "time_s": sum(times)} for name, times in groups.items()]
    return sorted(listed, key=lambda one: -float(str(one["time_s"])))


def plain_name(name: str) -> str:
    """An operator's name without its library, and without the engine of autograd around it."""
    return name.removeprefix("autograd::engine::evaluate_function: ").removeprefix("aten::")


def kernels(found: Recorded) -> list[dict[str, Any]]:
    """Kernels of the step by name, the longest first."""
    groups: dict[str, list[float]] = {}
    spans = (found.tied.trace.on_device[index] for index in found.steps[found.at].on_device)
    for span in spans:
        if span.what is What.KERNEL:
            groups.setdefault(span.name, []).append(span.time_s)
    listed = [{"name": name, "calls": len(times), "time_s": sum(times)} for name, times in groups.items()]
    return sorted(listed, key=lambda one: -float(str(one["time_s"])))


def _activity(one: Activity) -> dict[str, Any]:
    document: dict[str, Any] = as_plain(one)
    stretches = document.pop("stretches")
    document["launch_bound"] = {"time_s": document.pop("stretch_s"), "longest": stretches}
    return document


def _comparison(found: Recorded, other: Beside) -> dict[str, Any]:
    rows, comparison, case = other.predicted.counted, other.comparison, other.case
    total_s = sum((load.time_s for load in other.predicted.beside.values()), sum(time_s(row) for row in rows))
    return {
        "model": case.model,
        "device": other.predicted.device,
        "case": as_plain(case),
        "step_s": {"predicted": total_s, "measured": found.step_s},
        "matched_frac": comparison.matched_frac,
        "sizes_agree": comparison.sizes_agree if comparison.with_sizes else None,
        "operators": [_matched(rows, one) for one in comparison.matched],
        "kinds": [{"kind": kind, **both} for kind, both in kinds(other).items()],
        "missing": [
            {"module": rows[row].op.module, "op": words_of(rows[row].op), "predicted_s": predicted_s}
            for row, predicted_s in comparison.missing
        ],
        "extra": [{"name": name, "calls": count, "time_s": seconds} for name, count, seconds in comparison.extra],
        "optimizer": {"predicted_s": _update_s(other.predicted.beside), "measured_s": comparison.update_s},
    }


def _update_s(loads: Mapping[str, Load]) -> float:
    return loads["optimizer"].time_s if "optimizer" in loads else 0.0


def time_s(row: Row) -> float:
    """Predicted time of all calls of a row."""
    return sum(row.binds_s.values())


def _matched(rows: list[Row], one: Matched) -> dict[str, Any]:
    op = rows[one.rows[0]].op
    return {
        "module": op.module,
        "op": name_of(rows, one),
        "phase": str(op.phase),
        "kind": str(op.kind),
        "calls": one.calls,
        "seen": one.seen,
        "predicted_s": one.predicted_s,
        "measured_s": one.measured_s,
        "by": dict(one.by),
    }


def name_of(rows: list[Row], one: Matched) -> str:
    """What a matched operator is called: both gradients of a convolution are its backward pass."""
    op = rows[one.rows[0]].op
    return words_of(op) if len(one.rows) == 1 else words_of(op).rpartition("_")[0] + "_backward"


def kinds(other: Beside) -> dict[str, dict[str, float]]:
    """Predicted and measured time by kind, of what was matched; the longest first."""
    rows = other.predicted.counted
    found: dict[str, dict[str, float]] = {}
    for one in other.comparison.matched:
        both = found.setdefault(str(rows[one.rows[0]].op.kind), {"predicted_s": 0.0, "measured_s": 0.0})
        both["predicted_s"] += one.predicted_s
        both["measured_s"] += one.measured_s
    return dict(sorted(found.items(), key=lambda pair: -pair[1]["measured_s"]))
