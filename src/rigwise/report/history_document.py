"""What was measured, compared and found, as the JSON of ``rigwise history``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from rigwise.measurement.compare import Comparison, Finding, Key, Sides
from rigwise.measurement.records import Record
from rigwise.measurement.sides import Side


def record_document(record: Record) -> dict[str, Any]:
    """One record."""
    keys = ("when", "kind", "name", "value", "unit", "p10", "p90", "n", "machine_id")
    software = json.loads(record.software) if record.software else None
    return {**{key: getattr(record, key) for key in keys}, "tags": dict(record.tags), "software": software}


def series_document(machine: str, key: Key, records: Sequence[Record]) -> dict[str, Any]:
    """One figure of one machine over time."""
    points = [{name: getattr(one, name) for name in ("when", "value", "p10", "p90", "n")} for one in records]
    return {"machine_id": machine, **_key(key), "points": points}


def compare_document(first: Side, second: Side, found: Sides) -> dict[str, Any]:
    """Two sides, figure by figure: ``rigwise.history.compare/1``."""
    refused = [{"name": name, "reason": why} for name, why in found.refused]
    changed = [{"package": name, "first": old, "second": new} for name, old, new in found.changed]
    return {
        "schema": "rigwise.history.compare/1",
        "first": first,
        "second": second,
        "comparisons": [_compared(one) for one in found.comparisons],
        "refused": refused,
        "only": found.only,
        "software": changed,
    }


def finding_document(one: Finding) -> dict[str, Any]:
    """A regression, an improvement, a change or an outlier."""
    keys = ("what", "machine_id", "when", "runs", "disturbed", "medians", "p", "z")
    changed = [{"package": name, "before": old, "after": new} for name, old, new in one.changed]
    return {**_key(one.key), **{key: getattr(one, key) for key in keys}, "software": changed}


def _key(key: Key) -> dict[str, Any]:
    return {"kind": key[0], "name": key[1], "unit": key[2], "tags": dict(key[3])}


def _compared(one: Comparison) -> dict[str, Any]:
    ratio = one.ratio and {
        "value": one.ratio.value,
        "low": one.ratio.low or None,
        "high": one.ratio.high if math.isfinite(one.ratio.high) else None,
    }
    rest = {"runs": one.runs, "medians": one.medians, "ratio": ratio, "p": one.p}
    return {**_key(one.key), **rest, "verdict": one.verdict, "note": one.note}
