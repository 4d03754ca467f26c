"""The map of lab 9: cells, walls and steps, also across corners; and what an estimate on it is worth."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from heapq import heappop, heappush
from typing import Any

from rigwise.labs.pictures import Picture
from rigwise.report.figures.theme import BLUE, INK, VERMILLION, Figure, altair, chart, dress_panels

Cell = tuple[int, int]
Estimate = Callable[[Cell], Any]
#: Length of a way, the cells in the order in which they were taken up, the cells of the way.
Search = tuple[float, Sequence[Cell], Sequence[Cell]]

#: ``#`` is a wall, S the start, G the goal. Drawn at random until a wrong estimate misleads on it.
MAP = [
    "..................................",
    "..................................",
    "..................................",
    "..................................",
    "..................................",
    ".S................................",
    "..................#########.......",
    "..................................",
    "...............#...........#......",
    "...............#......####.#......",
    "...............#.......#######....",
    ".........#.....#...........#......",
    ".........#.....#...........#......",
    "........###....#................G.",
    "........###....#......#...........",
    "........###...........#...........",
    "........###...........#...........",
]
CELLS = frozenset((x, y) for y, row in enumerate(MAP) for x, mark in enumerate(row) if mark != "#")
START, GOAL = (next(cell for cell in sorted(CELLS) if MAP[cell[1]][cell[0]] == mark) for mark in "SG")

_NEAR = 1e-9
_PANEL_PX = 335


def steps(cell: Cell) -> Iterator[tuple[Cell, float]]:
    """The cells one step away with the length of the step: 1, or the root of 2 across a corner that no wall fills.

    >>> [step for step in steps((0, 0))]
    [((0, 1), 1.0), ((1, 0), 1.0), ((1, 1), 1.4142135623730951)]
    """
    x, y = cell
    for across in (-1, 0, 1):
        for down in (-1, 0, 1):
            free = (x + across, y + down) in CELLS and (x + across, y) in CELLS and (x, y + down) in CELLS
            if free and (across or down):
                yield (x + across, y + down), math.hypot(across, down)


@cache
def ways_home() -> Mapping[Cell, float]:
    """The length of the shortest way from each cell to the goal, found backwards without an estimate.

    Source: Dijkstra, "A Note on Two Problems in Connexion with Graphs", 1959.

    >>> round(ways_home()[START], 2)
    34.31
    """
    shortest = {GOAL: 0.0}
    waiting = [(0.0, GOAL)]
    while waiting:
        length, cell = heappop(waiting)
        for neighbour, step in steps(cell):
            if length + step < shortest.get(neighbour, math.inf) - _NEAR:
                shortest[neighbour] = length + step
                heappush(waiting, (length + step, neighbour))
    return shortest


def picture(searches: Mapping[str, Search]) -> Picture:
    """One map for each search: what it took up, the earlier the paler, and the way it found."""
    title = "What each search took up before it reached the goal"
    note = "Blue: cells taken up, the earlier the paler. Orange: the way found. The other squares are walls."
    return Picture(Figure(title=title, note=note, draw=lambda width_px: _panels(searches, width_px)))


def _panels(searches: Mapping[str, Search], width_px: int) -> Any:
    alt = altair()
    panels = [
        _panel(alt, f"{name}: {len(found[1])} cells, way {found[0]:.2f}", found) for name, found in searches.items()
    ]
    columns = 2 if width_px > 2 * _PANEL_PX else 1
    return dress_panels(alt.concat(*panels, columns=columns, spacing=18), width_px)


def _panel(alt: Any, title: str, found: Search) -> Any:
    _, taken, way = found
    x = alt.X("x:O", axis=None, scale=alt.Scale(domain=list(range(len(MAP[0]))), paddingInner=0.06))
    y = alt.Y("y:O", axis=None, scale=alt.Scale(domain=list(range(len(MAP))), paddingInner=0.06))
    walls = [{"x": x, "y": y} for y, row in enumerate(MAP) for x, mark in enumerate(row) if mark == "#"]
    blue = [{"x": x, "y": y, "share": 0.15 + 0.75 * place / len(taken)} for place, (x, y) in enumerate(taken)]
    dots = [{"x": x, "y": y, "place": place} for place, (x, y) in enumerate(way)]
    ends = [{"x": x, "y": y, "text": word} for (x, y), word in ((START, "S"), (GOAL, "G"))]
    share = alt.Opacity("share:Q", scale=alt.Scale(domain=[0, 1], range=[0, 1]), legend=None)
    layers = [
        chart([{"x": x, "y": y} for x, y in sorted(CELLS)]).mark_rect(color=INK, opacity=0.07).encode(x=x, y=y),
        chart(walls).mark_rect(color=INK).encode(x=x, y=y),
        chart(blue).mark_rect(color=BLUE).encode(x=x, y=y, opacity=share),
        chart(dots).mark_line(color=VERMILLION, strokeWidth=2.5).encode(x=x, y=y, order="place:Q"),
        chart(ends).mark_text(color=INK, fontSize=13, fontWeight="bold", dy=-10).encode(x=x, y=y, text="text:N"),
    ]
    head = alt.TitleParams(title, color=INK, fontSize=12, fontWeight="normal", anchor="start")
    return alt.layer(*layers).properties(width=_PANEL_PX, height=_PANEL_PX * len(MAP) // len(MAP[0]), title=head)
