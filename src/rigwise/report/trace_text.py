"""A recorded step as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from textwrap import wrap
from typing import Any

from rigwise.report.trace_document import plain_name
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds

#: Rows of a table where nobody asks for more.
ROWS = 15
_WIDTH = 80
_LABEL = 15
_SOURCES = {"torch": "PyTorch profiler", "chrome": "Chrome trace", "nsight": "Nsight Systems"}
_LISTED = 4
#: A smaller part of a step is not worth a line.
_WORTH_FRAC = 0.005


def trace_text(document: Mapping[str, Any], *, limit: int = ROWS, width: int = _WIDTH, brief: bool = False) -> str:
    """The document of a trace as text: activity, then the comparison, or the operators where there is none."""
    lines = [] if brief else [*_head(document), ""]
    for device in document["devices"]:
        lines += [*_device(device, document, width), ""]
    other = document["comparison"]
    lines += _comparison(document, other, limit, width) if other else _operators(document, limit, width)
    return "\n".join(lines).rstrip() + "\n"


def _head(document: Mapping[str, Any]) -> Iterator[str]:
    steps = document["steps"]
    words = [_SOURCES[document["source"]], f"{document['events']:,} events"]
    if document["rank"]:
        words.append(f"rank {document['rank']['rank']} of {document['rank']['world_size']}")
    if steps["shown"]:
        words += [_count(steps["count"], "step"), f"the median is shown: {steps['shown']}"]
    else:
        words.append(f"no step is marked, taken as {steps['count']}")
    yield from wrap(f"{printable(document['file'])}: " + ", ".join(words), _WIDTH, subsequent_indent="  ")


def _device(device: Mapping[str, Any], document: Mapping[str, Any], width: int) -> Iterator[str]:
    on_host = device["device"] < 0
    lanes, pieces = ("thread", "outermost operator") if on_host else ("stream", "kernel")
    name = "host" if on_host else printable(device["name"]) or "device"
    number = "" if on_host or len(document["devices"]) < 2 else f" {device['device']}"
    yield f"{name}{number}: {_count(device['lanes'], lanes)}, {_count(device['pieces'], pieces)}"
    window_s = device["window_s"] or 1.0
    what = "step" if document["steps"]["shown"] or document["steps"]["count"] == 1 else "trace"
    yield _line(what, format_seconds(device["window_s"]))
    yield _line("busy", f"{format_seconds(device['busy_s'])}, {format_fraction(device['busy_s'] / window_s)}")
    idle = {k: v for k, v in sorted(device["idle_s"].items(), key=lambda pair: -pair[1]) if v >= _WORTH_FRAC * window_s}
    if idle:
        total_s = sum(device["idle_s"].values())
        parts = ", ".join(f"{name} {format_seconds(value)}" for name, value in idle.items())
        yield from _lines("idle", f"{format_seconds(total_s)}, {format_fraction(total_s / window_s)}: {parts}", width)
    yield from _launches(device, window_s, width)
    for one in device["copies"]:
        yield from _lines("copies " + one["direction"], _copies(one), width)
    sent_s = device["communication_s"]
    if sent_s > 0:
        hidden = 1 - device["exposed_communication_s"] / sent_s
        words = f"{format_seconds(sent_s)}, {format_seconds(device['exposed_communication_s'])} of it exposed"
        yield _line("communication", f"{words} ({format_fraction(hidden)} overlapped)")


def _launches(device: Mapping[str, Any], window_s: float, width: int) -> Iterator[str]:
    bound = device["launch_bound"]
    if bound["time_s"] < _WORTH_FRAC * window_s or not bound["longest"]:
        return
    words = f"{format_seconds(bound['time_s'])}, {format_fraction(bound['time_s'] / window_s)} of the step"
    yield from _lines("launch-bound", words + ": the device waits for the host to start its work", width)
    for one in bound["longest"][:3]:
        ends = " to ".join(dict.fromkeys(short(plain_name(one[key]), 30) for key in ("first", "last")))
        yield from _lines(
            "", f"{format_seconds(one['idle_s'])} idle over {_count(one['pieces'], 'piece')}, {ends}", width
        )


def _copies(one: Mapping[str, Any]) -> str:
    words = f"{one['count']}, {format_bytes(one['moved_bytes'])} in {format_seconds(one['time_s'])}"
    if one["time_s"] > 0 and one["moved_bytes"]:
        words += f" ({format_bytes(one['moved_bytes'] / one['time_s'])}/s)"
    words += f", {format_seconds(one['exposed_s'])} while no kernel ran"
    return words + (f"; {one['pageable']} from or to memory that is not pinned" if one["pageable"] else "")


def _operators(document: Mapping[str, Any], limit: int, width: int) -> Iterator[str]:
    whole_s = sum(one["time_s"] for one in document["operators"]) or 1.0
    shown = document["operators"][: limit or None]
    rows = [
        (one["name"], (f"{one['calls']:,}", format_seconds(one["time_s"]), format_fraction(one["time_s"] / whole_s)))
        for one in shown
    ]
    yield from _table("operator", ("calls", "time", "share"), rows, width)
    yield from _left_out(len(shown), len(document["operators"]))


def _comparison(document: Mapping[str, Any], other: Mapping[str, Any], limit: int, width: int) -> Iterator[str]:
    case, step = other["case"], other["step_s"]
    work = [case["task"], f"batch {case['batch']}", case["dtype"] or "", case["mode"]]
    yield f"{printable(case['model'])} on {other['device']}: {', '.join(word for word in work if word)}"
    yield f"{'':{_LABEL + 2}}{'predicted':>12}{'measured':>12}{'ratio':>9}"
    yield _pair("step", step["predicted"], step["measured"])
    if other["optimizer"]["predicted_s"] or other["optimizer"]["measured_s"]:
        yield _pair("optimizer", other["optimizer"]["predicted_s"], other["optimizer"]["measured_s"])
    for one in other["kinds"]:
        yield _pair(one["kind"], one["predicted_s"], one["measured_s"])
    calls, seen = (sum(one[key] for one in other["operators"]) for key in ("calls", "seen"))
    yield ""
    words = f"{format_fraction(other['matched_frac'])} of the measured time of operators is matched, {seen} calls"
    yield from wrap(words + (f" of {calls} of those operators" if seen < calls else ""), width)
    yield ""
    shown = other["operators"][: limit or None]
    rows = [(_place(one), _cells(one)) for one in shown]
    yield from _table("operator", ("calls", "predicted", "measured", "ratio"), rows, width)
    yield from _left_out(len(shown), len(other["operators"]))
    extra = [f"{short(plain_name(one['name']), 30)} {format_seconds(one['time_s'])}" for one in other["extra"]]
    yield from _named("not in the graph", extra, width)
    missing = [short(f"{one['module']} {one['op']}".strip(), 40) for one in other["missing"]]
    yield from _named("not in the trace", missing, width)


def _named(label: str, names: Sequence[str], width: int) -> list[str]:
    """The first few of a list in a sentence."""
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return _lines(label, ", ".join(names[:_LISTED]) + more, width) if names else []


def _place(one: Mapping[str, Any]) -> str:
    return f"{one['module']} {one['op']}".strip()


def _cells(one: Mapping[str, Any]) -> tuple[str, ...]:
    calls = f"{one['seen']:,}" if one["seen"] == one["calls"] else f"{one['seen']:,}/{one['calls']:,}"
    predicted_s, measured_s = one["predicted_s"], one["measured_s"]
    return calls, format_seconds(predicted_s), format_seconds(measured_s), _ratio(measured_s, predicted_s)


def _ratio(measured_s: float, predicted_s: float) -> str:
    if not predicted_s:
        return ""
    ratio = measured_s / predicted_s
    return f"{ratio:.2f}" if ratio < 100 else f"{ratio:,.0f}"


def counters_text(document: Mapping[str, Any]) -> str:
    """The document of ``perf stat`` as text."""
    counters = document["counters"]
    values, found = counters["values"], counters["quotients"]
    lines = [
        f"{printable(document['file'])}: perf stat"
        + (f" of {printable(counters['command'])}" if counters["command"] else "")
    ]
    lines += [_line("elapsed", format_seconds(counters["elapsed_s"]))] if counters["elapsed_s"] else []
    for name, (words, show) in _QUOTIENTS.items():
        if name in found:
            lines.append(_line(words, show(found[name])))
    for name in ("page-faults", "context-switches", "cpu-migrations"):
        if name in values:
            lines.append(_line(name, f"{values[name]:,.0f}"))
    least = min(counters["counted_frac"].values(), default=1.0)
    if least < 1.0:
        lines.append(f"Counters took turns: some were counted in {format_fraction(least)} of the run and scaled.")
    if counters["missing"]:
        lines += wrap("Not counted on this machine: " + ", ".join(map(printable, counters["missing"])), _WIDTH)
    if not found:
        lines.append("No pair of counters makes a ratio: add -e cycles,instructions,cache-references,cache-misses.")
    return "\n".join(lines) + "\n"


_QUOTIENTS: Mapping[str, tuple[str, Any]] = {
    "cpus_used": ("CPUs used", lambda value: f"{value:.2f}"),
    "clock_hz": ("clock", lambda value: format_count(value, "Hz")),
    "instructions_per_cycle": ("instructions", lambda value: f"{value:.2f} per cycle (IPC)"),
    "cache_miss_frac": ("cache misses", lambda value: f"{100 * value:.1f} % of references"),
    "l1d_miss_frac": ("L1 data misses", lambda value: f"{100 * value:.1f} % of loads"),
    "llc_miss_frac": ("LLC misses", lambda value: f"{100 * value:.1f} % of loads"),
    "dtlb_miss_frac": ("TLB misses", lambda value: f"{100 * value:.2f} % of loads"),
    "branch_miss_frac": ("branch misses", lambda value: f"{100 * value:.2f} % of branches"),
    "frontend_stalled_frac": ("stalled, front", lambda value: f"{100 * value:.0f} % of cycles"),
    "backend_stalled_frac": ("stalled, back", lambda value: f"{100 * value:.0f} % of cycles"),
    "memory_bytes_per_s": ("from memory", lambda value: f"{format_bytes(value)}/s by cache misses, without prefetches"),
}


def _line(label: str, words: str) -> str:
    return f"  {label:{_LABEL}}{words}"


def _lines(label: str, words: str, width: int) -> list[str]:
    is_short = len(label) < _LABEL
    indent = " " * (_LABEL + 2 if is_short else 4)
    first = f"  {label:{_LABEL}}" if is_short else f"  {label}: "
    return wrap(words, max(40, width), initial_indent=first, subsequent_indent=indent)


def _pair(label: str, predicted_s: float, measured_s: float) -> str:
    ratio = f"{_ratio(measured_s, predicted_s):>9}"
    return _line(label, f"{format_seconds(predicted_s):>12}{format_seconds(measured_s):>12}{ratio}")


def _table(
    heading: str, columns: Sequence[str], rows: Sequence[tuple[str, tuple[str, ...]]], width: int
) -> Iterator[str]:
    widths = (
        [max(len(name), *(len(cells[at]) for _, cells in rows), 0) for at, name in enumerate(columns)] if rows else []
    )
    room = max(20, width - 1 - sum(2 + one for one in widths))
    labels = [short(label, room) for label, _ in rows]
    room = max([len(heading), *map(len, labels)])
    if not rows:
        return
    first = f" {heading:{room}}" + "".join(f"  {name:>{one}}" for name, one in zip(columns, widths, strict=True))
    yield first
    yield " " + "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * (len(first) - 1)
    for label, (_, cells) in zip(labels, rows, strict=True):
        yield f" {label:{room}}" + "".join(f"  {cell:>{one}}" for cell, one in zip(cells, widths, strict=True))


def _left_out(shown: int, count: int) -> Iterator[str]:
    if shown < count:
        yield ""
        yield f"{shown} of {count} rows; --limit 0 shows all"


def short(name: str, room: int) -> str:
    """A name cut in the middle: where it stands and what it is."""
    clean = printable(name)
    if len(clean) <= room:
        return clean
    tail = room * 2 // 3
    return clean[: room - tail - 1] + "\N{HORIZONTAL ELLIPSIS}" + clean[-tail:]


def printable(name: str) -> str:
    """A name that sends no control codes to a terminal, wherever it came from."""
    return "".join(c if c.isprintable() else "?" for c in name)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")
