"""``rigwise calibrate`` for a terminal: which rows counted, what the errors were, what changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import exp
from statistics import NormalDist
from typing import Any

Document = Mapping[str, Any]

ERROR_COLUMNS = ("device", "rows", "error before", "left out, after")
ERROR_RIGHT = ERROR_COLUMNS[1:]
CONSTANT_COLUMNS = ("device", "regime, bits", "group", "before, 80 %", "time x", "now, 80 %")
CONSTANT_RIGHT = CONSTANT_COLUMNS[3:]

_Z90 = NormalDist().inv_cdf(0.9)
#: From here on it is said that rows stray.
_STRAYS = 1.1
#: Rows named one by one; all are in the JSON document.
_NAMED = 12


def error_rows(document: Document) -> Iterator[tuple[str, ...]]:
    """A line for each device."""
    for one in document["errors"]:
        yield one["device"], str(one["rows"]), f"{one['before_frac']:.1%}", f"{one['left_out_frac']:.1%}"


def constant_table(document: Document) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns, and a line for each constant that rows depend on; a single device stands in the table of errors."""
    several = len({one["device"] for one in document["constants"]}) > 1
    first = 0 if several else 1
    lines: list[tuple[str, ...]] = []
    for one in document["constants"]:
        regime, prior, factor = one["regime"], one["prior"], one["factor"]
        words = f"{regime['mode']} {regime['layout']} {regime['width']}"
        lines.append((one["device"], words, one["group"], _span(prior), f"{factor['p50']:.2f}", _span(factor))[first:])
    return CONSTANT_COLUMNS[first:], lines


def _span(quantiles: Mapping[str, float]) -> str:
    return f"{quantiles['p10']:.2f}-{quantiles['p90']:.2f}"


def row_lines(document: Document) -> Iterator[str]:
    """How many rows counted, and each that did not."""
    rows = document["rows"]
    earlier = f", {rows['earlier']} of them from earlier fits" if rows["earlier"] else ""
    yield f"{rows['fitted']} rows fitted{earlier}; {len(rows['left_out'])} of {rows['read']} read were left out"
    for name in ("left_out", "doubtful"):
        for one in rows[name][:_NAMED]:
            yield f"  {one['where']}: {one['reason']}"
        if len(rows[name]) > _NAMED:
            yield f"  and {len(rows[name]) - _NAMED} more {name.replace('_', ' ')}; --json lists all"


def sure_lines(document: Document) -> Iterator[str]:
    """How far a step that was not measured may be off now, and what to measure to be surer, for each device."""
    for one in document["sureness"]:
        following = one["following"]
        yield f"{one['device']}: 8 of 10 other steps take {_within(one['spread'])} of what is predicted."
        if one["dispersion"] >= _STRAYS:
            yield f"Its rows stray {one['dispersion']:.1f} times further than was expected, and so may they."
        if following:
            words = f"{following['model']} {following['task']} {following['dtype']}, batch {following['batch']}"
            yield f"Surer with {words} measured: {_within(following['spread_left'])}."


def _within(spread: float) -> str:
    """The 80 % interval around 1.

    >>> _within(0.2)
    '0.77x to 1.29x'
    """
    return f"{exp(-_Z90 * spread):.2f}x to {exp(_Z90 * spread):.2f}x"
