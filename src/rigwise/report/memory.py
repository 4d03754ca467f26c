"""The course of memory over a step as text for a terminal of 80 columns."""

from __future__ import annotations

from rigwise.estimate.memory_course import MemoryCourse, Moment
from rigwise.report.prediction import largest_line
from rigwise.units import format_bytes, format_fraction

_BAR = 24


def memory_text(course: MemoryCourse, *, brief: bool = False) -> str:
    """Whether it fits, the terms at the peak, the operator there, the course of the step."""
    p = course.prediction
    fits = "fits" if p.fits else "DOES NOT FIT"
    lines = [
        f"{p.case.model} on {p.device.id}: {p.case.task}, batch {p.case.batch}, {p.case.dtype}, {p.case.mode}",
        "",
        f"  memory       {format_bytes(p.peak_memory_bytes['p50'])} of {format_bytes(p.capacity_bytes)}"
        f"   {fits} (chance {format_fraction(p.fit_probability)})",
        f"               80 %: {format_bytes(p.peak_memory_bytes['p10'])}"
        f" to {format_bytes(p.peak_memory_bytes['p90'])}",
        *([largest_line(p)] if p.largest_micro_batch is not None else []),
    ]
    if brief:
        return "\n".join(lines) + "\n"
    whole = sum(p.memory_terms.values()) or 1.0
    lines += ["", f"  {'at the peak':<18} {'bytes':>9} {'share':>6}"]
    for name, value in sorted(p.memory_terms.items(), key=lambda item: -item[1]):
        lines.append(f"  {name.replace('_', ' '):<18} {format_bytes(value):>9} {format_fraction(value / whole):>6}")
    lines += ["", f"  the fullest operator: {_name(course.peak)}", "", *_course_lines(course)]
    if course.replay:
        more = format_fraction(course.replay.reserved_bytes / course.replay.allocated_bytes - 1)
        lines += ["", f"  caching allocator: in a replay of two steps it reserves {more} more than is asked for"]
    return "\n".join(lines) + "\n"


def _name(moment: Moment) -> str:
    where = f" in {moment.module}" if moment.module else ""
    times = f" x{moment.repeat}" if moment.repeat > 1 else ""
    return f"{moment.operator}{times}{where}, {moment.phase}"


def _course_lines(course: MemoryCourse) -> list[str]:
    """One bar for each stretch: kept for the backward pass, gradients, the rest."""
    most = max(moment.total_bytes for moment in (*course.course, course.peak)) or 1.0
    lines = ["  what comes and goes: s kept for the backward pass, g gradients, w the rest"]
    for moment in course.course:
        parts = ((moment.saved_bytes, "s"), (moment.gradients_bytes, "g"))
        total = round(moment.total_bytes / most * _BAR)
        bar = "".join(mark * round(value / most * _BAR) for value, mark in parts)[:total]
        name = f"{moment.phase[:1]} {moment.operator.partition('.')[2]}"[:26]
        lines.append(f"  {name:<26} {format_bytes(moment.total_bytes):>9}  {bar}{'w' * (total - len(bar))}")
    return lines
