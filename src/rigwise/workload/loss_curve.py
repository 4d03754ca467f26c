"""How much work a loss needs, from a measured loss curve.

The curve is taken for a power law with a floor, ``loss = a + b x^-c``, as learning curves of
networks mostly are while nothing about the training changes. The amount at which it reaches a
loss comes with an interval: all amounts for which some such curve through the loss misses the
points not much more than the best one does. Points far off count less (Huber's weights).

Left out: that neighbouring points of a curve err together, so the interval is rather too narrow;
and everything that a schedule does beyond the points, a decay of the learning rate above all.

Source: Hestness et al., "Deep Learning Scaling is Predictable, Empirically", arXiv 1712.00409, for
the form; Bates & Watts, "Nonlinear Regression Analysis and Its Applications", 1988, ch. 6, for
intervals by profiling; Huber, "Robust Estimation of a Location Parameter", 1964.
"""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.units import format_count

#: What amounts of work a curve may be measured in.
UNITS = ("samples", "tokens", "steps", "epochs")
#: Fewer points leave nothing to judge a curve of three constants by.
LEAST_POINTS = 6
#: How many times the longest measured amount an answer may lie beyond.
FARTHEST = 10.0
_MOST_ROWS = 1_000_000
_MOST_POINTS = 100
_LEAST_POWER, _MOST_POWER = 0.02, 4.0
_GRID = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """A measured curve.

    Attributes:
        unit: Of the amounts: samples, tokens, steps or epochs.
        amounts, losses: One each for every point, in order of the amounts.
    """

    unit: str
    amounts: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AmountNeeded:
    """The amount of work for a loss.

    Attributes:
        unit: samples, tokens, steps or epochs.
        amount: Where the best curve reaches the loss.
        low, high: An interval for it that should hold in 80 % of cases; ``high`` may be infinite.
        measured: The longest measured amount.
    """

    unit: str
    amount: float
    low: float
    high: float
    measured: float

    @property
    def words(self) -> str:
        """The amount and how sure it is."""
        high = "without end" if math.isinf(self.high) else f"to {format_count(self.high)}"
        words = f"{format_count(self.amount)} {self.unit} by the loss curve (80 %: {format_count(self.low)} {high})"
        if self.amount <= self.measured:
            return words
        return f"{words}, {self.amount / self.measured:.2g} times what was measured"


def read_curve(text: str, where: str) -> LossCurve:
    """Read a CSV file with a column of amounts and a column ``loss``; other columns are left aside.

    Raises:
        InvalidInputError: A column is missing, or a row holds no such pair; names the line.
    """
    rows = csv.reader(io.StringIO(text))
    heads = [cell.strip().lower() for cell in next(rows, [])]
    units = [name for name in UNITS if name in heads]
    if len(units) != 1 or heads.count("loss") != 1:
        raise InvalidInputError(
            f"{where} has the columns {', '.join(heads)[:60] or 'of an empty file'}",
            hint=f"a loss curve has one of {', '.join(UNITS)}, and loss",
        )
    places = heads.index(units[0]), heads.index("loss")
    points: list[tuple[float, ...]] = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        if len(points) == _MOST_ROWS:
            raise InvalidInputError(f"{where} has over {_MOST_ROWS:,} rows", hint="keep every tenth")
        points.append(tuple(_number(row, place, f"{where}, line {rows.line_num}", heads[place]) for place in places))
    points.sort()
    return LossCurve(unit=units[0], amounts=tuple(p[0] for p in points), losses=tuple(p[1] for p in points))


def _number(row: list[str], place: int, where: str, name: str) -> float:
    try:
        value = float(row[place])
    except (IndexError, ValueError):
        found = row[place][:40] if place < len(row) else ""
        raise InvalidInputError(f"{where}: {name} is {found!r}, no number") from None
    if not 0 < value < 1e30:
        raise InvalidInputError(f"{where}: {name} is {value:g}", hint="a number above 0")
    return value


def amount_needed(curve: LossCurve, loss: float, where: str) -> AmountNeeded:
    """The amount of work after which the curve reaches a loss.

    Raises:
        InvalidInputError: Too few points, a curve that does not fall, a loss that it never reaches, or one
            that lies too far beyond what was measured.

    >>> x = [10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0]
    >>> exact = LossCurve(unit="steps", amounts=tuple(x), losses=tuple(2 + 10 * n**-0.5 for n in x))
    >>> round(amount_needed(exact, 2.25, "curve.csv").amount)
    1600
    """
    import numpy as np

    x, y = _thinned(np.array(curve.amounts), np.array(curve.losses))
    if len(x) < LEAST_POINTS:
        raise InvalidInputError(f"{where} has {len(x)} points", hint=f"a loss curve needs at least {LEAST_POINTS}")
    third = len(x) // 3
    if np.median(y[-third:]) >= np.median(y[:third]):
        raise InvalidInputError(f"{where}: the loss does not fall", hint="is it in the order of training?")
    if not 0 < loss < 1e30:
        raise InvalidInputError(f"{where}: loss {loss:g} cannot be reached", hint="give a loss above 0")
    longest = float(x[-1])
    box = _Box(target=(float(x[0]) / FARTHEST, longest * FARTHEST * 1e2), power=(_LEAST_POWER, _MOST_POWER))
    weights = y**-2.0  # a point misses by a share of its loss
    for _ in range(4):
        fit = _narrowed(x, y, weights, loss, box)
        share = np.abs(y - fit.curve) / y
        scatter = 1.4826 * np.median(share) + 1e-12
        weights = y**-2.0 / np.maximum(1.0, share / (1.345 * scatter))
    fit = _narrowed(x, y, weights, loss, box)
    if fit.target > longest * FARTHEST:
        raise InvalidInputError(
            f"{where}: loss {loss:g} is not reached within {FARTHEST:g} times the measured"
            f" {format_count(longest)} {curve.unit}",
            hint=f"the last measured loss is {y[-1]:.3g}: measure longer, or ask for less",
        )
    low, high = fit.region.target
    return AmountNeeded(
        unit=curve.unit,
        amount=fit.target,
        low=low,
        high=math.inf if high >= 0.99 * box.target[1] else high,
        measured=longest,
    )


def _thinned(x: Any, y: Any) -> tuple[Any, Any]:
    """At most a few hundred points, evenly spread over the logarithm of the amount, each a mean."""
    import numpy as np

    if len(x) <= _MOST_POINTS:
        return x, y
    edges = np.geomspace(x[0], x[-1] * (1 + 1e-12), _MOST_POINTS + 1)
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, _MOST_POINTS - 1)
    count = np.bincount(place, minlength=_MOST_POINTS)
    kept = count > 0
    means = [np.bincount(place, weights=v, minlength=_MOST_POINTS)[kept] / count[kept] for v in (x, y)]
    return means[0], means[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """Ranges of the amount at which a curve reaches the loss, and of its power."""

    target: tuple[float, float]
    power: tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fit:
    """The best curve, where it reaches the loss, and the box of all curves that are about as good."""

    target: Any
    curve: Any
    region: _Box


def _narrowed(x: Any, y: Any, weights: Any, loss: float, box: _Box) -> _Fit:
    """Look at a grid of curves through (target, loss), then at a finer one where they are good, and so on."""
    import numpy as np

    allowed = 1 + _student(len(x) - 3) ** 2 / (len(x) - 3)
    here = box
    for _ in range(8):
        targets, powers = np.geomspace(*here.target, _GRID), np.geomspace(*here.power, _GRID)
        curves = _curves(x, y, weights, loss, targets[:, None], powers[None, :])
        misses = (weights * (y - curves) ** 2).sum(axis=-1)
        best = np.unravel_index(misses.argmin(), misses.shape)
        good = misses <= misses[best] * allowed + 1e-24
        here, last = (
            _Box(target=_extent(targets, good.any(axis=1), wider), power=_extent(powers, good.any(axis=0), wider))
            for wider in (_GRID // 8, 1)
        )
    return _Fit(target=float(targets[best[0]]), curve=curves[best], region=last)


def _extent(values: Any, good: Any, wider: int) -> tuple[float, float]:
    """The range of good values, and some steps of the grid on either side."""
    import numpy as np

    places = np.flatnonzero(good)
    return float(values[max(0, places[0] - wider)]), float(values[min(len(values) - 1, places[-1] + wider)])


def _curves(x: Any, y: Any, weights: Any, loss: float, target: Any, power: Any) -> Any:
    """The best curve of each power through (target, loss), at the points ``[targets, powers, points]``.

    With ``g = x^-c - target^-c`` such a curve is ``loss + b g``; its floor ``loss - b target^-c``
    and ``b`` must not be negative.
    """
    import numpy as np

    middle = float(np.exp(np.log(x).mean()))
    at_target = (target / middle) ** -power
    g = (x / middle) ** -power[..., None] - at_target[..., None]
    squares = (weights * g * g).sum(axis=-1)
    b = (weights * g * (y - loss)).sum(axis=-1) / np.maximum(squares, 1e-300)
    return loss + np.clip(b, 0.0, loss / at_target)[..., None] * g


def _student(freedom: int) -> float:
    """The 90th percentile of Student's distribution, by the first two terms of Cornish and Fisher.

    >>> abs(_student(10) - 1.372) < 0.005
    True
    """
    z = NormalDist().inv_cdf(0.9)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
