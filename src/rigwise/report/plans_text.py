"""The answers to many jobs as a table for a terminal of 80 columns: one line each, and what went wrong below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from rigwise.units import format_seconds, format_usd

_WIDTH = 80


def plans_text(results: Sequence[Mapping[str, Any]]) -> str:
    """What to take for each job, what all of them cost, and why some have no plan."""
    rows = [("job", "devices", "at", "cost", "time")]
    rows += [(_short(result["file"]), *_cells(result)) for result in results]
    widths = [min(most, max(len(row[i]) for row in rows)) for i, most in enumerate((24, 22, 40, 9, 9))]
    widths[2] = max(4, min(widths[2], _WIDTH - 4 * 2 - sum(widths) + widths[2]))
    lines = [_line(row, widths) for row in rows]
    answered = [total for result in results if (total := _totals(result))]
    cost, longest = sum(usd for usd, _ in answered), max((time for _, time in answered), default=0.0)
    lines += ["", *_wrapped(_sum(len(answered), len(results), cost, longest))]
    for result in results:
        if fault := result.get("error") or result.get("infeasible"):
            text = f"{result['file']}: {fault['message'].removeprefix(result['file'] + ': ')}"
            lines += _wrapped(f"{text}; {fault['hint']}" if fault["hint"] else text)
    return "\n".join(lines) + "\n"


def _sum(answered: int, asked: int, cost: float, longest: float) -> str:
    if not answered:
        return f"none of {asked} jobs has a plan"
    together = f"{answered} of {asked} jobs planned, {format_usd(cost)} together"
    return f"{together}; at once they take {format_seconds(longest)}"


def _cells(result: Mapping[str, Any]) -> tuple[str, str, str, str]:
    totals = _totals(result)
    if totals is None:
        return "no plan" if "infeasible" in result else "error", "", "", ""
    plans = [stage["plan"] for stage in result["stages"]] if "stages" in result else result["plans"][:1]
    devices = ", ".join(f"{plan['count']} x {plan['device']}" for plan in plans)
    places = ", ".join(dict.fromkeys(f"{plan['provider']} {plan['instance']}" for plan in plans))
    return devices, places, format_usd(totals[0]), format_seconds(totals[1])


def _totals(result: Mapping[str, Any]) -> tuple[float, float] | None:
    """Median cost and time of an answer, None if there is no plan."""
    best = result if "stages" in result else next(iter(result.get("plans") or ()), None)
    return None if best is None else (best["cost_usd"]["p50"], best["time_s"]["p50"])


def _short(name: str) -> str:
    """The end of a path tells files apart."""
    return name if len(name) <= 24 else "…" + name[-23:]


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell if len(cell) <= width else cell[: width - 1] + "…" for cell, width in zip(row, widths, strict=True)]
    aligned = [cell.rjust(w) if i > 2 else cell.ljust(w) for i, (cell, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(aligned).rstrip()


def _wrapped(text: str) -> list[str]:
    return wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
