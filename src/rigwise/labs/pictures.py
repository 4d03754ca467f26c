"""Pictures of labs: lines, points and bars of rows, in the look of all figures.

A picture is drawn as SVG inside the notebook: it needs no network, follows the colours of the page around it, and
stays when the notebook is printed. Without the extra ``plot`` its title and note are shown alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rigwise.errors import InvalidInputError, MissingExtraError
from rigwise.report.figures.axes import (
    amount_axis,
    bytes_axis,
    decimal_ticks,
    dollars_axis,
    percent_axis,
    spread_ticks,
    time_axis,
)
from rigwise.report.figures.theme import (
    BLUE,
    INK,
    NARROW_BELOW_PX,
    SERIES,
    WIDE_PX,
    Document,
    Figure,
    altair,
    chart,
    dress,
)
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds, format_usd

_HEIGHT_PX, _BAR_PX = 320, 38
#: Plain numbers as they are, very large and very small ones as powers of ten.
_POWER = "datum.value < 0.001 || datum.value >= 100000 ? format(datum.value, '~e') : format(datum.value, '~g')"
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "stroke", "wedge")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """What stands along a side of a picture.

    Attributes:
        field: Key of the rows.
        title: With the unit, if ticks do not say it.
        unit: ``s``, ``B``, ``$`` and ``%`` (of a fraction) in their own ways; any other stands after a prefix: ``B/s``
            gives 10 GB/s. Empty for plain numbers.
        logarithmic: Powers of ten at equal distances.
        low, high: The range; None for that of the data.
        ticks: Where to write a number; empty for round ones.
    """

    field: str
    title: str
    unit: str = ""
    logarithmic: bool = False
    low: float | None = None
    high: float | None = None
    ticks: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A dashed line across the picture, upright (``x``) or level (``y``), with words; in the unit of its axis."""

    text: str
    x: float | None = None
    y: float | None = None


class Picture:
    """A figure as a notebook shows it."""

    __slots__ = ("figure",)

    def __init__(self, figure: Figure) -> None:
        self.figure = figure

    def __repr__(self) -> str:
        return f"{self.figure.title}. {self.figure.note}"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from rigwise.report.figures.save import svg
        from rigwise.report.figures.theme import bare
        from rigwise.report.html import Markup, tag

        del include, exclude
        try:
            drawn = Markup(svg(bare(self.figure, WIDE_PX)))
        except MissingExtraError as error:
            return {"text/plain": f"{self!r} ({error})"}
        head = tag("figcaption", tag("strong", self.figure.title), tag("br"), self.figure.note)
        drawn = tag("div", drawn, style="overflow-x: auto; margin-top: 0.8em")
        return {"text/plain": repr(self), "text/html": tag("figure", head, drawn, style="margin: 0.5em 0")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Which field tells lines apart, and how each is drawn; else as a line with points.

    Attributes:
        field: Key of the rows.
        loose: Values whose points are not joined.
        plain: Values that are a line without points.
    """

    field: str
    loose: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()


def plot(
    rows: Sequence[Document],
    x: Axis,
    y: Axis,
    *,
    heading: tuple[str, str],
    series: Series | str = "",
    rules: Sequence[Rule] = (),
) -> Picture:
    """Lines with a point at every row, one for each value of ``series``; they differ in colour and shape.

    Args:
        rows: Each with the fields of both axes, and of the series.
        x: Along the bottom.
        y: Up the side.
        heading: What it answers; how to read it, or what it leaves out.
        series: Field that tells lines apart.
        rules: Dashed lines with words.

    Raises:
        InvalidInputError: There are no rows, or a field is missing in one.
    """
    told = Series(field=series) if isinstance(series, str) else series
    kept = _checked(rows, (x.field, y.field, *([told.field] if told.field else [])))
    title, note = heading
    return Picture(Figure(title=title, note=note, draw=lambda width_px: _plot(kept, (x, y), told, rules, width_px)))


def bars(rows: Sequence[Document], name: str, value: Axis, *, heading: tuple[str, str], part: str = "") -> Picture:
    """A bar for each value of the field ``name``, in the order of the rows, stacked where ``part`` tells parts apart.

    Raises:
        InvalidInputError: There are no rows, or a field is missing in one.
    """
    kept = _checked(rows, (name, value.field, *([part] if part else [])))
    title, note = heading
    return Picture(Figure(title=title, note=note, draw=lambda width_px: _bars(kept, (name, part), value, width_px)))


def _checked(rows: Sequence[Document], fields: Sequence[str]) -> list[Document]:
    """The rows; those without a number in one of the fields are left out.

    Raises:
        InvalidInputError: None is left, or a field is missing.
    """
    missing = [field for field in fields if any(field not in row for row in rows)]
    if missing:
        raise InvalidInputError(f"not every row has {', '.join(missing)}")
    kept = [row for row in rows if all(row[field] is not None for field in fields)]
    if not kept:
        raise InvalidInputError("there are no rows to draw")
    return kept


def _plot(
    rows: Sequence[Document], axes: tuple[Axis, Axis], series: Series, rules: Sequence[Rule], width_px: int
) -> Any:
    alt = altair()
    x, y = (
        _encoded(alt, axis, [float(row[axis.field]) for row in rows], upright=place == 1)
        for place, axis in enumerate(axes)
    )
    names = list(dict.fromkeys(str(row[series.field]) for row in rows)) if series.field else []
    layers = []
    for place, name in enumerate(names or [""]):
        mine = [row for row in rows if not names or str(row[series.field]) == name]
        colour, shape = SERIES[place % len(SERIES)], _SHAPES[place % len(_SHAPES)]
        style = {"color": alt.value(colour)}
        if names:
            legend = alt.Legend(
                orient="top", title=None, labelLimit=320, columns=3 if width_px > NARROW_BELOW_PX else 1
            )
            colours = alt.Scale(domain=names, range=[SERIES[n % len(SERIES)] for n in range(len(names))])
            style = {"color": alt.Color(f"{series.field}:N", scale=colours, legend=legend)}
        drawn = chart(mine)
        order = alt.Order(f"{axes[0].field}:Q")
        if name not in series.loose or not names:
            layers.append(drawn.mark_line(strokeWidth=2).encode(x=x, y=y, order=order, **style))
        if name not in series.plain or not names:
            point = drawn.mark_point(filled=True, size=60, opacity=1, shape=shape)
            layers.append(point.encode(x=x, y=y, **style))
    layers += [layer for rule in rules for layer in _rule(alt, rule, x, y, axes)]
    return dress(alt.layer(*layers), width_px, _HEIGHT_PX)


def _rule(alt: Any, rule: Rule, x: Any, y: Any, axes: tuple[Axis, Axis]) -> list[Any]:
    """The dashed line and its words: beside its top where it is upright, over its right end where it is level."""
    upright = rule.x is not None
    row = {axes[0].field: rule.x} if upright else {axes[1].field: rule.y}
    place = {"x": x} if upright else {"y": y}
    drawn = chart([{**row, "text": rule.text}])
    line = drawn.mark_rule(color=INK, strokeDash=[5, 4]).encode(**place)
    if upright:
        word = drawn.mark_text(color=INK, align="left", dx=6, dy=8, fontSize=12).encode(y=alt.value(0), **place)
    else:
        word = drawn.mark_text(color=INK, align="right", dx=-4, dy=-8, fontSize=12)
        word = word.encode(x=alt.value("width"), **place)
    return [line, word.encode(text="text:N")]


def _bars(rows: Sequence[Document], fields: tuple[str, str], value: Axis, width_px: int) -> Any:
    alt = altair()
    name, part = fields
    names = list(dict.fromkeys(str(row[name]) for row in rows))
    sums = {one: sum(float(row[value.field]) for row in rows if str(row[name]) == one) for one in names}
    most = max(sums.values())
    room = most if part else (most * 4 if value.logarithmic else most * 1.15)
    totals = [*sums.values(), room]
    x = _encoded(alt, value, totals)
    y = alt.Y(f"{name}:N", title=None, sort=names, axis=alt.Axis(labelLimit=width_px // 3, domain=False, ticks=False))
    style: dict[str, Any] = {"color": alt.value(BLUE)}
    if part:
        parts = list(dict.fromkeys(str(row[part]) for row in rows))
        colours = alt.Scale(domain=parts, range=[SERIES[n % len(SERIES)] for n in range(len(parts))])
        style = {"color": alt.Color(f"{part}:N", scale=colours, legend=alt.Legend(orient="top", title=None))}
        style["order"] = alt.Order("part_place:Q")
        rows = [{**row, "part_place": parts.index(str(row[part]))} for row in rows]
    if value.logarithmic:  # such a scale has no zero to begin at
        rows = [{**row, "base": _range(value, totals)[0]} for row in rows]
        style["x2"] = "base:Q"
    marks = chart(rows).mark_bar(height=18).encode(x=x, y=y, **style)
    ends = [{name: one, value.field: total, "text": amount_text(total, value.unit)} for one, total in sums.items()]
    words = chart([] if part else ends).mark_text(align="left", dx=5, color=INK, fontSize=12)
    return dress(alt.layer(marks, words.encode(x=x, y=y, text="text:N")), width_px, max(3, len(names)) * _BAR_PX)


def amount_text(value: float, unit: str) -> str:
    """A number with the unit of its axis.

    >>> amount_text(0.25, "%"), amount_text(2e9, "B/s"), amount_text(2.5, ""), amount_text(45900, "")
    ('25 %', '2.00 GB/s', '2.5', '45,900')
    """
    if unit == "s":
        return format_seconds(value)
    if unit == "B":
        return format_bytes(value)
    if unit == "$":
        return format_usd(value)
    if unit == "%":
        return format_fraction(value)
    if unit:
        return format_count(value, unit)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _encoded(alt: Any, axis: Axis, values: Sequence[float], *, upright: bool = False) -> Any:
    """The channel of an axis: its range, its ticks and their unit."""
    between = _range(axis, values)
    if axis.logarithmic:
        scale = alt.Scale(type="log", domain=between, nice=False)
    else:
        scale = alt.Scale(domain=between, nice=axis.high is None)
    channel = alt.Y if upright else alt.X
    return channel(f"{axis.field}:Q", title=axis.title or None, scale=scale, axis=_ticks(alt, axis, between))


def _range(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    """From zero, or on a logarithmic axis with a little room on both sides; what the axis says itself goes first."""
    low, high = min(values), max(values)
    if not axis.logarithmic:
        return min(0.0, low) if axis.low is None else axis.low, high if axis.high is None else axis.high
    low = min((value for value in values if value > 0), default=1.0)
    high = max(low, high)
    room = 1.05 * (high / low) ** 0.04
    return low / room if axis.low is None else axis.low, high * room if axis.high is None else axis.high


def _ticks(alt: Any, axis: Axis, between: tuple[float, float]) -> Any:
    round_ones = decimal_ticks(*between) if axis.logarithmic else ()
    values = {"values": list(axis.ticks or round_ones)} if axis.ticks or axis.logarithmic else {}
    if axis.unit == "s":
        return time_axis(axis.ticks or (spread_ticks(*between) if axis.logarithmic else ()))
    if axis.unit == "B":
        return bytes_axis(**values)
    if axis.unit == "$":
        return dollars_axis(**values)
    if axis.unit == "%":
        return percent_axis(**values)
    if axis.unit:
        return amount_axis(axis.unit, **values)
    return alt.Axis(**values, **({"labelExpr": _POWER} if axis.logarithmic else {}))
