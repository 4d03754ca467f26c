"""What the page of measurements shows of ``rigwise.history/1``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from math import exp, log
from statistics import median
from typing import Any

from rigwise.report.html import Markup
from rigwise.units import format_fraction
from rigwise.web.picture.bars import interval
from rigwise.web.picture.measured import predicted_against_measured
from rigwise.web.picture.plane import both

#: Tags that say what was measured; the others are how.
_HOW = frozenset({"status", "method", "threads", "note", "tool", "run", "device"})


def measured_view(document: Mapping[str, Any], judged: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Rows, the newest first, each with its spread; and predicted against measured where both are known.

    Args:
        document: A ``rigwise.history/1`` document.
        judged: ``words``, ``measured_s`` and ``predicted_s`` of steps and operators.
    """
    records = document["records"]
    machines = {record["machine_id"] for record in records}
    count = f"{len(records)} figure{'s' if len(records) != 1 else ''}"
    where = f"{len(machines)} machines" if len(machines) != 1 else "one machine"
    points = [point for point in judged if point["measured_s"] > 0 and point["predicted_s"] > 0]
    return {
        "rows": [{**record, "tags": _tags(record["tags"]), "bar": _bar(record)} for record in records],
        "says": f"The newest {count}, of {where}.",
        "several": len(machines) > 1,
        "picture": both(partial(predicted_against_measured, points)) if points else None,
        "told": _told(points),
    }


def _tags(tags: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in tags.items() if name not in _HOW)


def _bar(record: Mapping[str, Any]) -> Markup:
    """p10 to p90 around the median, from zero to a half more than p90."""
    low, high = record["p10"], record["p90"]
    if low is None or high is None or high <= 0 or record["n"] < 2:
        return Markup("")
    return interval(low, record["value"], high)


def _told(points: Sequence[Mapping[str, Any]]) -> str:
    if not points:
        return ""
    off = [abs(log(point["predicted_s"] / point["measured_s"])) for point in points]
    half = format_fraction(exp(median(off)) - 1)
    return (
        f"{len(points)} steps and operators that were measured here and can be predicted. Half of them are off by "
        f"less than {half}. "
        "Above the line the prediction is too long; the dashed lines are a factor of 1.5 away."
    )
