"""What the predict and compare pages show of ``rigwise.predict/1``, ``rigwise.memory/1`` and ``rigwise.compare/1``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rigwise.report.html import Markup
from rigwise.units import format_fraction, format_seconds
from rigwise.web.picture.bars import LIMITS, bar
from rigwise.web.picture.course import PARTS, course, parts_of
from rigwise.web.picture.plane import both
from rigwise.web.picture.roofline import roofline
from rigwise.web.view.catalogue import is_listed

Document = Mapping[str, Any]

#: Column of the comparison -> what it sorts by, and whether more is better.
SORTS: dict[str, tuple[Callable[[Document], float], bool]] = {
    "time": (lambda answer: float(answer["step_time_s"]["p50"]), False),
    "throughput": (lambda answer: float(answer["throughput_per_s"]), True),
    "memory": (lambda answer: float(answer["peak_memory_bytes"]["p50"] / answer["capacity_bytes"]), False),
    "energy": (lambda answer: answer["energy_j"]["p50"] if answer["energy_j"] else float("inf"), False),
    "mfu": (lambda answer: float(answer["mfu"]), True),
}


def predict_view(document: Document, memory: Document | None, bytes_per_s: float | None) -> dict[str, Any]:
    """One prediction: the answer, what binds, the roofline, memory over the step, operators.

    Args:
        document: A ``rigwise.predict/1`` document.
        memory: The ``rigwise.memory/1`` document of the same case, if it could be had.
        bytes_per_s: Bandwidth of the device's memory, if it is known.
    """
    case, whole_s = document["case"], sum(kind["time_s"] for kind in document["by_kind"]) or 1.0
    bandwidth = bytes_per_s or 0.0
    found = roofline(document, bandwidth, 720) if bandwidth else None
    watts = (
        document["energy_j"]["p50"] / document["step_time_s"]["p50"] / case["count"] if document["energy_j"] else None
    )
    whole_bytes = sum(document["peak_memory_bytes"]["terms"].values()) or 1.0
    terms = sorted(document["peak_memory_bytes"]["terms"].items(), key=lambda item: -item[1])
    return {
        "answer": document,
        "machine": f"{case['count']} \N{MULTIPLICATION SIGN} {document['device']}"
        if case["count"] > 1
        else document["device"],
        "watts": watts,
        "binds": binding(document),
        "bar": Markup(bar(document, document["step_time_s"]["p90"], _bar_words(document))),
        "roofline": both(partial(_roofline, document, bandwidth)) if found else None,
        "course": both(partial(course, memory)) if memory else None,
        "parts": _parts(memory) if memory else [],
        "peak": memory["peak"] if memory else None,
        "shown": [
            limit for limit in LIMITS if any(kind["flops"] and kind["binds"] == limit for kind in document["by_kind"])
        ],
        "kinds": [{**kind, "share": kind["time_s"] / whole_s} for kind in document["by_kind"]],
        "terms": [
            {"name": name.replace("_", " "), "bytes": value, "share": value / whole_bytes} for name, value in terms
        ],
    }


def _roofline(document: Document, bytes_per_s: float, width_px: int) -> Markup:
    return roofline(document, bytes_per_s, width_px) or Markup("")


def binding(document: Document) -> list[tuple[str, float]]:
    """What binds, most first; nothing below half a per cent."""
    return sorted(
        ((name, share) for name, share in document["binds"].items() if share >= 0.005), key=lambda item: -item[1]
    )


def _bar_words(document: Document) -> str:
    shares = ", ".join(f"{name} {format_fraction(share)}" for name, share in binding(document))
    return f"{document['device']}: {format_seconds(document['step_time_s']['p50'])}; {shares}"


def _parts(memory: Document) -> list[tuple[str, str]]:
    """Class and words of what the picture of memory has in it."""
    moments = [parts_of(memory, moment) for moment in memory["course"]]
    return [(name, words) for name, words in PARTS.items() if any(moment[name] > 0 for moment in moments)]


def compare_view(document: Document, sort: str) -> dict[str, Any]:
    """Devices side by side, in the order of a column; what a device cannot do stands below.

    Args:
        document: A ``rigwise.compare/1`` document.
        sort: A key of ``SORTS``; anything else sorts by time.
    """
    answers = [answer for answer in document["results"] if "step_time_s" in answer]
    by, most_first = SORTS.get(sort, SORTS["time"])
    answers.sort(key=by, reverse=most_first)
    most_s = max((answer["step_time_s"]["p90"] for answer in answers), default=1.0)
    quickest = min(answers, key=SORTS["time"][0], default=None)
    return {
        "rows": [
            {
                **answer,
                "is_listed": is_listed(answer["device"]),
                "bar": Markup(bar(answer, most_s, _bar_words(answer))),
                "binds_most": binding(answer)[:1],
            }
            for answer in answers
        ],
        "sort": sort if sort in SORTS else "time",
        "quickest": quickest,
        "next": _next(answers),
        "limits": [limit for limit in LIMITS if any(answer["binds"].get(limit, 0.0) > 0 for answer in answers)],
        "left_out": [answer for answer in document["results"] if "error" in answer],
    }


def _next(answers: Sequence[Document]) -> dict[str, Any] | None:
    """The second quickest, and how much longer it takes."""
    by_time = sorted(answers, key=SORTS["time"][0])
    if len(by_time) < 2:
        return None
    first_s, second_s = (answer["step_time_s"]["p50"] for answer in by_time[:2])
    return {"device": by_time[1]["device"], "longer": second_s / first_s - 1}
