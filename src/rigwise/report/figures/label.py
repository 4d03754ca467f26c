"""Words beside points, none over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log10

#: Pixels of a letter and of a line of text at 12 px.
_LETTER_PX, _LINE_PX = 6.6, 14.0
_GAP_PX = 14
#: How far words may stand over the edge of a plane.
_LEEWAY_PX = 4.0

#: Left, top, right, bottom.
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plane:
    """A plane: the range of each axis, its size on the screen, and which axes are logarithmic."""

    x_range: tuple[float, float]
    y_range: tuple[float, float]
    width_px: int
    height_px: int
    logarithmic: tuple[bool, bool] = (True, True)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point stands, in pixels from the upper left corner.

        >>> Plane(x_range=(1, 100), y_range=(1, 100), width_px=200, height_px=100).at(10, 100)
        (100.0, 0.0)
        """
        across, up = (
            _part(value, *between, logarithmic=flag)
            for value, between, flag in zip((x, y), (self.x_range, self.y_range), self.logarithmic, strict=True)
        )
        return across * self.width_px, (1 - up) * self.height_px


def _part(value: float, low: float, high: float, *, logarithmic: bool) -> float:
    if logarithmic and low > 0 and value > 0:
        return log10(value / low) / log10(high / low)
    return (value - low) / (high - low)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a word stands beside its point."""

    align: str
    dx_px: int
    dy_px: int


_SIDES = (
    *(Place(align="left", dx_px=_GAP_PX, dy_px=dy) for dy in (0, -14, 14, 28, -28)),
    *(Place(align="right", dx_px=-_GAP_PX, dy_px=dy) for dy in (0, -14, 14, 28, -28)),
    *(Place(align="center", dx_px=0, dy_px=dy) for dy in (20, -20, 34, -34)),
)


def spread(
    points: Sequence[tuple[float, float, str]], plane: Plane, *, level: bool = True, taken: Sequence[Box] = ()
) -> list[Place | None]:
    """A place for the word of each point, the first points first; None where there is no room.

    Args:
        points: Place and word of each.
        plane: Where they stand.
        level: A word may stand level with its point; not so where lines run through points.
        taken: What else no word may cover, in pixels.
    """
    full = [*taken, *(around(plane.at(x, y), 5) for x, y, _ in points)]
    places: list[Place | None] = []
    for x, y, text in points:
        at = plane.at(x, y)
        found = None
        for side in _SIDES:
            if not level and side.dy_px == 0:
                continue
            box = word_box(at, side, text)
            inside = box[0] >= 0 and box[2] <= plane.width_px and box[1] >= 0 and box[3] <= plane.height_px
            if inside and not any(_overlap(box, other) for other in full):
                found = side
                full.append(box)
                break
        places.append(found)
    return places


def around(at: tuple[float, float], radius_px: float) -> Box:
    """The square around a point."""
    return at[0] - radius_px, at[1] - radius_px, at[0] + radius_px, at[1] + radius_px


def along(points: Sequence[tuple[float, float]], radius_px: float) -> list[Box]:
    """What a line through points covers, as squares that leave no gap to squeeze a word through.

    >>> along([(0, 0), (4, 0)], 2)
    [(-2.0, -2.0, 2.0, 2.0), (0.0, -2.0, 4.0, 2.0), (2.0, -2.0, 6.0, 2.0)]
    """
    boxes = []
    for (x, y), (to_x, to_y) in pairwise(points):
        steps = max(1, ceil(max(abs(to_x - x), abs(to_y - y)) / radius_px))
        boxes += [around((x + (to_x - x) * n / steps, y + (to_y - y) * n / steps), radius_px) for n in range(steps + 1)]
    return boxes


def at_an_end(
    line: Sequence[tuple[float, float]], words: str, plane: Plane, taken: Sequence[Box]
) -> tuple[tuple[float, float], Place]:
    """The end of a line across the plane, and the place beside it, clear of what is taken, or of most of it.

    Args:
        line: Its ends in pixels; it is upright or level.
        words: What stands there.
        plane: Which it crosses.
        taken: What the words should not cover.
    """
    right, foot = float(plane.width_px), float(plane.height_px)
    first, last = line
    if first[0] == last[0]:
        ends = [(at, side, dy) for at, dy in ((first, 10), (last, -10)) for side in ("right", "left")]
    else:
        ends = [(at, side, dy) for dy in (-8, 9) for at, side in ((first, "left"), (last, "right"))]
    found = [(at, Place(align=side, dx_px=5 if side == "left" else -5, dy_px=dy)) for at, side, dy in ends]

    def covered(here: tuple[tuple[float, float], Place]) -> int:
        left, top, far, low = box = word_box(*here, words)
        outside = left < -_LEEWAY_PX or top < -_LEEWAY_PX or far > right + _LEEWAY_PX or low > foot + _LEEWAY_PX
        return len(taken) * outside + sum(_overlap(box, other) for other in taken)

    return min(found, key=covered)


def word_box(at: tuple[float, float], side: Place, text: str) -> Box:
    """What a word covers."""
    width_px = len(text) * _LETTER_PX
    left = at[0] + side.dx_px - {"left": 0.0, "right": width_px, "center": width_px / 2}[side.align]
    middle = at[1] + side.dy_px
    return left, middle - _LINE_PX / 2, left + width_px, middle + _LINE_PX / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
