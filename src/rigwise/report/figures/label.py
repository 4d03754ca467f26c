"""Words beside points, none over another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

#: Pixels of a letter and of a line of text at 12 px.
_LETTER_PX, _LINE_PX = 6.6, 14.0
_GAP_PX = 14

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


def word_box(at: tuple[float, float], side: Place, text: str) -> Box:
    """What a word covers."""
    width_px = len(text) * _LETTER_PX
    left = at[0] + side.dx_px - {"left": 0.0, "right": width_px, "center": width_px / 2}[side.align]
    middle = at[1] + side.dy_px
    return left, middle - _LINE_PX / 2, left + width_px, middle + _LINE_PX / 2


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
