"""A plane with two axes in SVG: scales, ticks, grid, words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, log10

from rigwise.report.figures.axes import decimal_ticks, even_ticks, spread_ticks
from rigwise.report.figures.label import Place, Plane
from rigwise.report.html import Markup, tag
from rigwise.units import DAY_S, HOUR_S, MINUTE_S, format_count

#: A scale turns logarithmic where the largest value is this many times the smallest.
LOG_FROM_RATIO = 8.0

#: Width of the two forms of each picture; the style sheet shows one.
WIDE_PX, NARROW_PX = 720, 344

_TIMES = ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))


def tick_seconds(value: float) -> str:
    """A round time as short as it can be.

    >>> tick_seconds(7200), tick_seconds(0.05), tick_seconds(0)
    ('2 h', '50 ms', '0')
    """
    return _tick(value, _TIMES)


def tick_bytes(value: float) -> str:
    """A round size as short as it can be.

    >>> tick_bytes(2e9)
    '2 GB'
    """
    return _tick(value, _BYTES)


def tick_usd(value: float) -> str:
    """A round amount as short as it can be.

    >>> tick_usd(1000), tick_usd(0.5)
    ('$1,000', '$0.5')
    """
    return f"${value:,.6g}"


def tick_count(value: float) -> str:
    """A round count with its prefix.

    >>> tick_count(1e13)
    '10 T'
    """
    number, _, prefix = format_count(value).partition(" ")
    return f"{float(number.replace(',', '')):g} {prefix}".strip()


def _tick(value: float, units: Sequence[tuple[float, str]]) -> str:
    if value == 0:
        return "0"
    size, name = next(((size, name) for size, name in units if value >= size * 0.9999), units[-1])
    return f"{value / size:.3g} {name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Values along one axis and where they stand, in pixels.

    Attributes:
        low: Value at ``from_px``; of a ``symlog`` scale, which begins at zero, where it bends.
        high: Value at ``to_px``.
        from_px: Where the axis begins.
        to_px: Where it ends; less than ``from_px`` where values grow upwards.
        kind: ``linear``, ``log``, or ``symlog``: logarithmic down to ``low``, linear from there to zero.
    """

    low: float
    high: float
    from_px: int
    to_px: int
    kind: str = "linear"

    @property
    def start(self) -> float:
        """The value at ``from_px``."""
        return 0.0 if self.kind == "symlog" else self.low

    def at(self, value: float) -> float:
        """Where a value stands, to a tenth of a pixel; what lies outside stands at the end.

        >>> Scale(low=1, high=100, from_px=0, to_px=200, kind="log").at(10)
        100.0
        """
        low, here, high = (self._even(v) for v in (self.start, value, self.high))
        part = (here - low) / (high - low) if high > low else 0.5
        return round(self.from_px + min(1.0, max(0.0, part)) * (self.to_px - self.from_px), 1)

    def _even(self, value: float) -> float:
        if self.kind == "log":
            return log10(max(value, 1e-300))
        if self.kind == "symlog":
            return log10(1 + max(0.0, value) / self.low)
        return value


def fitting(values: Sequence[float], from_px: int, to_px: int, room: float = 1.25) -> Scale:
    """A scale that holds the values: linear, or logarithmic where they span much; it need not reach down to zero.

    Args:
        values: What is drawn; none below zero.
        from_px: Where the axis begins.
        to_px: Where it ends.
        room: How far beyond the largest a logarithmic scale reaches.
    """
    kept = [value for value in values if isfinite(value)]
    above = [value for value in kept if value > 0] or [1.0]
    low, high = min(above), max(above)
    if high / low <= LOG_FROM_RATIO:
        return Scale(low=0.8 * low if min(kept) > 0 else 0.0, high=1.06 * high, from_px=from_px, to_px=to_px)
    if min(kept) <= 0:
        return Scale(low=low, high=room * high, from_px=from_px, to_px=to_px, kind="symlog")
    return Scale(low=low / room, high=room * high, from_px=from_px, to_px=to_px, kind="log")


def time_ticks(scale: Scale, most: int) -> list[float]:
    """Round times on a scale."""
    if scale.kind == "linear":
        return [tick for tick in even_ticks(scale.high, most + 2) if tick >= scale.low][-most:]
    return _thinned(spread_ticks(scale.low, scale.high), most)


def plain_ticks(scale: Scale, most: int) -> list[float]:
    """Round numbers on a scale."""
    if scale.kind == "linear":
        step = 10.0 ** (len(str(int(scale.high))) - 1) if scale.high >= 1 else 10.0 ** round(log10(scale.high) - 1)
        step = next(s for s in (step / 10, step / 5, step / 2, step, 2 * step, 5 * step) if scale.high / s <= most)
        return [tick for n in range(int(scale.high / step) + 1) if (tick := step * n) >= scale.low]
    ticks = _thinned(decimal_ticks(scale.low, scale.high), most)
    return [0.0, *ticks] if scale.kind == "symlog" else ticks


def _thinned(ticks: list[float], most: int) -> list[float]:
    """At most so many, evenly taken, the first kept."""
    step = -(-len(ticks) // most) if most else 1
    return ticks[:: max(1, step)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """Two scales, their ticks, and how a tick is told."""

    x: Scale
    y: Scale
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    x_word: Callable[[float], str]
    y_word: Callable[[float], str]

    def drawn(self, x_title: str = "", y_title: str = "") -> Markup:
        """Grid, ticks and titles; the title of the upright axis stands over it."""
        x, y = self.x, self.y
        parts: list[Markup | None] = []
        for tick in self.y_ticks:
            at = y.at(tick)
            parts.append(line((x.from_px, at), (x.to_px, at), "gridline"))
            parts.append(text((x.from_px - 8, at + 4), self.y_word(tick), "tick end"))
        for tick in self.x_ticks:
            at = x.at(tick)
            parts.append(line((at, y.from_px), (at, y.from_px + 5), "axis"))
            parts.append(text((at, y.from_px + 19), self.x_word(tick), "tick middle"))
        parts.append(line((x.from_px, y.from_px), (x.to_px, y.from_px), "axis"))
        parts.append(text((x.to_px, y.from_px + 37), x_title, "tick end") if x_title else None)
        parts.append(text((4, y.to_px - 10), y_title, "tick") if y_title else None)
        return tag("g", *parts, class_="axes")

    def plane(self) -> Plane:
        """The same plane for placing words; its corner is that of the axes."""
        x, y = self.x, self.y
        return Plane(
            x_range=(x.low, x.high),
            y_range=(y.low, y.high),
            width_px=x.to_px - x.from_px,
            height_px=y.from_px - y.to_px,
            logarithmic=(x.kind != "linear", y.kind != "linear"),
        )


def picture(width_px: int, height_px: int, label: str, *parts: Markup | None) -> Markup:
    """An SVG element that fills the width it is given, with words for who cannot see it."""
    sized = {"viewBox": f"0 0 {width_px} {height_px}", "width": str(width_px), "height": str(height_px)}
    return tag("svg", *parts, role="img", aria_label=label, **sized)


def both(draw: Callable[[int], Markup]) -> Markup:
    """The picture for a wide and for a narrow screen; the style sheet hides one from everybody."""
    wide, narrow = (
        tag("div", draw(px), class_=name) for px, name in ((WIDE_PX, "for-wide"), (NARROW_PX, "for-narrow"))
    )
    return Markup(wide + narrow)


def line(start: tuple[float, float], end: tuple[float, float], kind: str) -> Markup:
    """A straight line of a class of the style sheet."""
    (x1, y1), (x2, y2) = start, end
    return tag("line", x1=f"{x1:g}", y1=f"{y1:g}", x2=f"{x2:g}", y2=f"{y2:g}", class_=kind)


def path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """A line through points."""
    return tag("path", d="M" + "L".join(f"{x:g} {y:g}" for x, y in points), class_=kind)


def text(at: tuple[float, float], words: str, kind: str) -> Markup:
    """Words at a point."""
    return tag("text", words, x=f"{at[0]:g}", y=f"{at[1]:g}", class_=kind)


def beside(at: tuple[float, float], place: Place, words: str, kind: str = "name") -> Markup:
    """Words beside a point, where ``report.figures.label`` found room."""
    anchor = {"left": "", "right": " end", "center": " middle"}[place.align]
    return text((at[0] + place.dx_px, at[1] + place.dy_px + 4), words, kind + anchor)
