"""Figures as the pages write them; each is a filter of the templates."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from rigwise.report.history_text import amount, day_and_time
from rigwise.search.bounds import format_value
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd
from rigwise.web.form import plain

_J_PER_KWH = 3.6e6
_NUMBER_AND_UNIT = re.compile(r"(?<=\d) (?=[A-Za-z%])")


def kwh(joules: float | None) -> str:
    """Energy as it is paid for.

    >>> kwh(7.2e6)
    '2 kWh'
    """
    return "unknown" if joules is None else f"{joules / _J_PER_KWH:,.3g} kWh"


def span(quantiles: Mapping[str, float], show: Callable[[float], str]) -> str:
    """From the 10th to the 90th percentile, the unit once where it is the same.

    >>> span({"p10": 1.0, "p50": 2.0, "p90": 3.0}, format_seconds)
    '1.00 to 3.00 s'
    """
    low, high = show(quantiles["p10"]), show(quantiles["p90"])
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number} to {high}" if unit and high.endswith(f" {unit}") else f"{low} to {high}"


def seconds_span(quantiles: Mapping[str, float]) -> str:
    """Two times."""
    return span(quantiles, format_seconds)


def usd_span(quantiles: Mapping[str, float]) -> str:
    """Two amounts."""
    return span(quantiles, format_usd)


def bytes_span(quantiles: Mapping[str, float]) -> str:
    """Two sizes."""
    return span(quantiles, format_bytes)


def joules(value: float) -> str:
    """Energy of a step."""
    return format_count(value, "J")


def tied(words: str) -> str:
    """A sentence in which no number is parted from what follows it at the end of a line.

    >>> tied("20 % less").split(" ")[1:]
    ['less']
    """
    return _NUMBER_AND_UNIT.sub("\N{NO-BREAK SPACE}", words)


FILTERS: dict[str, Callable[..., Any]] = {
    "seconds": format_seconds,
    "bytes": format_bytes,
    "count": format_count,
    "frac": format_fraction,
    "usd": format_usd,
    "kwh": kwh,
    "joules": joules,
    "seconds_span": seconds_span,
    "usd_span": usd_span,
    "bytes_span": bytes_span,
    "amount": amount,
    "when": day_and_time,
    "tied": tied,
    "plain": plain,
    "objective": lambda value, objective: format_value(objective, value),
}
