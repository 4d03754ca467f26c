"""What the machine page shows of ``rigwise.inspect/1`` and ``rigwise.doctor/1``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rigwise.report.doctor_text import why_unknown
from rigwise.units import format_bytes, format_count, format_fraction

Document = Mapping[str, Any]

_SECTIONS = {
    "system": "System",
    "cpu": "CPU",
    "limits": "Limits",
    "memory": "Memory",
    "gpus": "GPUs",
    "links": "Links between GPUs",
    "driver": "Drivers",
    "software": "Software",
    "container": "Container",
    "scheduler": "Scheduler",
    "pcie": "PCIe",
    "disks": "Disks",
    "network": "Network",
    "listeners": "Open to others",
}
_ORDER = {"error": 0, "warning": 1, "note": 2}


def machine_view(inspected: Document, doctor: Document) -> dict[str, Any]:
    """What is wrong first, then what it is, each value with where it was read."""
    findings = doctor["findings"]
    problems = sorted(
        (one for one in findings if one["status"] == "problem"), key=lambda one: _ORDER.get(one["severity"], 3)
    )
    unknown = [{**one, "evidence": why_unknown(one["evidence"])} for one in findings if one["status"] == "unknown"]
    fine = [one for one in findings if one["status"] == "ok" and one["applies"]]
    says = (
        "Nothing wrong was found."
        if not problems
        else f"{len(problems)} thing{'s' if len(problems) > 1 else ''} to mend."
    )
    return {
        "says": says,
        "counts": f"{len(fine)} checks passed, {len(unknown)} could not be told.",
        "taken": inspected["taken"],
        "problems": problems,
        "unknown": unknown,
        "peaks": [_peak(peak) for peak in inspected.get("peaks", ())],
        "sections": [section for key, name in _SECTIONS.items() if (section := _section(name, inspected.get(key)))],
    }


def _section(name: str, part: Any) -> dict[str, Any] | None:
    fields = [field for field in _fields(part) if field]
    known = [field for field in fields if field["value"]]
    unknown = [field for field in fields if not field["value"]]
    return {"name": name, "known": known, "unknown": unknown} if fields else None


def _fields(part: Any, where: str = "") -> Iterator[dict[str, str]]:
    """Every value of a section, however deep, by the path to it."""
    if isinstance(part, Mapping) and "confidence" in part:
        key = where.rpartition(" ")[2]
        value = part.get("value")
        yield {
            "name": _named(where),
            "value": "" if value is None else _shown(key, value),
            "source": f"{part.get('source', '')}{', assumed' if part['confidence'] == 'assumed' else ''}",
            "reason": part.get("reason", ""),
        }
    elif isinstance(part, Mapping):
        for key, inner in part.items():
            yield from _fields(inner, f"{where} {key}".strip())
    elif isinstance(part, list):
        for number, inner in enumerate(part):
            yield from _fields(inner, f"{where} {number}".strip())


def _named(path: str) -> str:
    for unit in ("_bytes_per_s", "_bytes", "_hz", "_frac", "_per_s", "_w", "_s"):
        path = path.removesuffix(unit)
    return path.replace("_", " ")


def _shown(key: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, int | float):
        for unit, show in _SHOW.items():
            if key.endswith(unit):
                return show(float(value))
        return str(value) if isinstance(value, int) else f"{value:,.6g}"
    return str(value)


_SHOW: Mapping[str, Callable[[float], str]] = {
    "_bytes_per_s": lambda value: format_count(value, "B/s"),
    "_bytes": format_bytes,
    "_hz": lambda value: format_count(value, "Hz"),
    "_per_s": lambda value: format_count(value, "/s"),
    "_frac": format_fraction,
    "_w": lambda value: f"{value:,.4g} W",
    "_s": lambda value: f"{value:,.0f} s",
}


def _peak(peak: Document) -> dict[str, str]:
    """A peak of the machine; its rate is the field with a unit in its name."""
    words = [str(peak[key]["value"]) for key in ("of", "what") if key in peak]
    key, rate = next((key, field) for key, field in peak.items() if key.endswith("_per_s"))
    unit = "FLOP/s" if key.startswith("flops") else "B/s"
    value = "unknown" if rate["value"] is None else format_count(rate["value"], unit)
    assumed = ", something assumed" if rate["confidence"] == "assumed" else ""
    return {"name": " ".join(words), "value": value, "how": f"{rate['source']}{assumed}"}
