"""Axes that say their unit at every tick, and scales that hold what is drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rigwise.report.figures.theme import altair
from rigwise.units import DAY_S, HOUR_S, MINUTE_S

#: Distances between the ticks of a time axis.
_STEPS_S = (
    *(float(f"{digit}e{power}") for power in range(-9, 0) for digit in (1, 2, 5)),
    *(1.0, 2.0, 5.0, 10.0, 20.0, 30.0),
    *(n * MINUTE_S for n in (1, 2, 5, 10, 20, 30)),
    *(n * HOUR_S for n in (1, 2, 3, 6, 12)),
    *(n * DAY_S for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)),
)
_TIME_UNITS = ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))

#: Powers of ten with the letter of each, for rates and amounts.
_POWERS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def _label(units: Sequence[tuple[float, str]], unit: str = "") -> str:
    """A Vega expression: the value in the largest unit of which it holds at least one."""
    last = units[-1]
    steps = "".join(
        f"datum.value >= {size * 0.9999} ? format(datum.value / {size}, '.3~g') + ' {name}{unit}' : "
        for size, name in units
    )
    return f"datum.value == 0 ? '0' : {steps}format(datum.value / {last[0]}, '.2~g') + ' {last[1]}{unit}'"


def time_axis(ticks_s: Sequence[float] = (), **more: Any) -> Any:
    """30 s, 10 min, 2 h; Vega's own ticks where none are given."""
    return altair().Axis(**({"values": list(ticks_s)} if ticks_s else {}), labelExpr=_label(_TIME_UNITS), **more)


def round_times(most_s: float) -> Any:
    """A time axis from zero to ``most_s`` with a few round times."""
    return time_axis(even_ticks(most_s, 5))


def bytes_axis(**more: Any) -> Any:
    """2 GB, 40 MB."""
    return altair().Axis(labelExpr=_label(_BYTES), **more)


def amount_axis(unit: str = "", **more: Any) -> Any:
    """10 TFLOP/s for ``FLOP/s``; 20 k without a unit."""
    return altair().Axis(labelExpr=_label(_POWERS, unit), **more)


def dollars_axis(**more: Any) -> Any:
    """$0.05, $20, $3,000."""
    text = "datum.value == 0 ? '$0' : abs(datum.value) < 1 ? '$' + format(datum.value, '.2~g')"
    return altair().Axis(labelExpr=f"{text} : '$' + format(datum.value, ',.6~g')", **more)


def percent_axis(**more: Any) -> Any:
    """20 %."""
    return altair().Axis(labelExpr="format(datum.value * 100, '.3~g') + ' %'", **more)


def even_ticks(high_s: float, most: int = 6) -> list[float]:
    """Five or so round times up to ``high_s``.

    >>> even_ticks(5000)
    [0.0, 1200.0, 2400.0, 3600.0, 4800.0]
    """
    step_s = next((step_s for step_s in _STEPS_S if high_s / step_s <= most), _STEPS_S[-1])
    return [n * step_s for n in range(int(high_s / step_s) + 1)]


def spread_ticks(low_s: float, high_s: float) -> list[float]:
    """Round times for a logarithmic axis, at most seven.

    >>> spread_ticks(20, 8000)
    [20.0, 60.0, 300.0, 1200.0, 3600.0]
    """
    inside = [step_s for step_s in _STEPS_S if low_s <= step_s <= high_s]
    return inside[:: math.ceil(len(inside) / 7)] if inside else []


def decimal_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... within the range; only powers of ten where it spans more than two decades.

    >>> decimal_ticks(0.4, 25)
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]
    """
    digits = (1, 2, 5) if high < 300 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [tick for e in decades for d in digits if low <= (tick := float(f"{d}e{e}")) <= high]
