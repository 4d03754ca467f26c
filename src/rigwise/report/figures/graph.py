"""The compute graph of a step: modules folded, data flowing downwards, heat by time.

A row is an operator, a folded module, or the head of an open one, whose rows stand in a frame below
it. A line beside the rows is data that goes past the next row.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rigwise.graph.graph import Model
from rigwise.graph.tree import Load
from rigwise.report.figures.theme import INK, STRONG, VERMILLION, Figure, altair, chart, dress
from rigwise.report.graph_scene import Box, drawn_phase, scene, weight
from rigwise.report.step_rows import Step
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds

_ROW_PX, _BOX_PX, _INDENT_PX, _LANE_PX, _LETTER_PX = 26.0, 20.0, 22.0, 5.0, 6.9
_NUMBERS_PX = 118.0
_LANES = 3


def compute_graph(model: Model, step: Step, depth: int | None = None) -> Figure:
    """The graph of a step; ``depth`` levels of modules are open, or as many as can be taken in at once.

    Raises:
        UnsupportedError: There are too many operators for a picture.
    """
    root = scene(model, step, depth)
    whole = sum(step.beside.values(), root.total)
    heat = "time" if step.device else "FLOPs"
    beside = ", ".join(f"{name} {format_seconds(load.time_s)}" for name, load in step.beside.items())
    note = (
        f"The {drawn_phase(step)} pass, data flowing downwards; colour and figures are the {heat} of all passes. "
        "x32 stands for 32 equal layers; a line on the left is data that skips rows."
    )
    note += f" Not drawn: {beside}." if beside else ""
    where = f" on {step.device}, {format_seconds(whole.time_s)}" if step.device else ""
    title = f"Compute graph of {model.name}: {step.case.task}{where}"
    return Figure(
        title=title, note=note, draw=lambda width_px: _draw(_laid_out(root, whole), width_px, timed=bool(step.device))
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    """What is drawn, in rows from the top: boxes, frames around open modules, and lines between rows."""

    whole: Load
    boxes: list[tuple[Box, int]] = field(default_factory=list)
    frames: list[tuple[int, int]] = field(default_factory=list)
    lines: list[tuple[int, int, int, int]] = field(default_factory=list)


def _laid_out(root: Box, whole: Load) -> _Picture:
    picture = _Picture(whole=whole)
    _place(picture, root, 0)
    return picture


def _place(picture: _Picture, box: Box, depth: int) -> tuple[int, int]:
    """Add a box and what is open in it; its first and last row."""
    first = len(picture.boxes)
    picture.boxes.append((box, depth))
    if not (box.opened and box.boxes):
        return first, first
    rows = [_place(picture, inner, depth + 1) for inner in box.boxes]
    last = rows[-1][1]
    picture.frames.append((first, last))
    busy: list[int] = []
    for source, target in sorted(box.edges):
        if source < 0 or target < 0 or target <= source:
            continue
        start, end = rows[source][1], rows[target][0]
        lane = 0
        if target > source + 1:
            lane = next((n for n, until in enumerate(busy) if until <= start), len(busy))
            busy[lane : lane + 1] = [end]
            lane = min(lane, _LANES - 1) + 1
        picture.lines.append((start, end, depth + 1, lane))
    return first, last


def _draw(picture: _Picture, width_px: int, *, timed: bool) -> Any:
    alt = altair()
    height_px = round(_ROW_PX * len(picture.boxes))
    right = float(width_px - 4)
    rows = [_row(box, depth, index, picture.whole, (timed, right)) for index, (box, depth) in enumerate(picture.boxes)]
    for frame_first, frame_last in picture.frames:
        rows[frame_first]["to_y"] = _ROW_PX * (frame_last + 1) - 1
        rows[frame_first]["is_open"] = True
    x, y = _scales(alt, width_px, height_px)
    tips = {
        "path": "module",
        "does": "does",
        "flops": "arithmetic",
        "bytes": "traffic",
        "time": "time",
        "share": "share",
    }
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in tips.items()]
    ends = {"x": x("x"), "x2": "to_x:Q", "y": y("y"), "y2": "to_y:Q"}
    heat = alt.Opacity("heat:Q", scale=None, legend=None)
    frames = chart([row for row in rows if row["is_open"]]).mark_rect(
        filled=False, stroke=INK, strokeOpacity=0.5, cornerRadius=4
    )
    filled = chart([row for row in rows if not row["is_open"]]).mark_rect(color=VERMILLION, cornerRadius=3)
    edged = chart([row for row in rows if not row["is_open"]]).mark_rect(
        fillOpacity=0, stroke=INK, strokeOpacity=0.6, cornerRadius=3
    )
    names = chart(rows).mark_text(align="left", color=STRONG, fontSize=12)
    numbers = chart(rows).mark_text(align="right", color=STRONG, fontSize=12)
    layers = [
        frames.encode(**ends),
        *_lines(alt, picture, x, y),
        filled.encode(**ends, opacity=heat),
        edged.encode(**ends, tooltip=tooltip),
        names.encode(x=x("text_x"), y=y("middle"), text="label:N"),
        numbers.encode(x=x("number_x"), y=y("middle"), text="number:N"),
    ]
    return dress(alt.layer(*layers), width_px, height_px)


def _row(box: Box, depth: int, index: int, whole: Load, how: tuple[bool, float]) -> dict[str, Any]:
    timed, right = how
    share, cost = weight(box, whole), box.total.cost
    left, top = _LANES * _LANE_PX + depth * _INDENT_PX, _ROW_PX * index + (_ROW_PX - _BOX_PX) / 2
    amount = format_seconds(box.total.time_s) if timed else format_count(cost.flops, "FLOP")
    room = int((right - left - _NUMBERS_PX) / _LETTER_PX)
    label = f"{box.label}  {box.detail}" if box.detail and not box.boxes else box.label
    label = label if len(label) <= room else label[: max(1, room - 1)] + "\N{HORIZONTAL ELLIPSIS}"
    place = {"x": left, "to_x": right - depth * 4, "y": top, "to_y": top + _BOX_PX, "middle": top + _BOX_PX / 2}
    place |= {"text_x": left + 7, "number_x": right - depth * 4 - 7}
    told = {"path": box.path or box.label, "does": box.detail, "flops": format_count(cost.flops, "FLOP")}
    told |= {"bytes": format_bytes(cost.bytes), "time": amount if timed else "", "share": format_fraction(share)}
    number = f"{amount}  {format_fraction(share)}" if share >= 0.0005 or timed else ""
    return {**place, **told, "label": label, "number": number, "heat": 0.75 * share**0.5, "is_open": False}


def _scales(alt: Any, width_px: int, height_px: int) -> tuple[Any, Any]:
    """Encodings in pixels from the upper left corner."""
    across, down = alt.Scale(domain=[0, width_px], nice=False), alt.Scale(domain=[height_px, 0], nice=False)
    return (
        lambda name: alt.X(f"{name}:Q", axis=None, scale=across),
        lambda name: alt.Y(f"{name}:Q", axis=None, scale=down),
    )


def _lines(alt: Any, picture: _Picture, x: Any, y: Any) -> list[Any]:
    """Data from row to row: a short line to the next, a bracket on the left past others."""
    points = []
    for index, (start, end, depth, lane) in enumerate(picture.lines):
        left = _LANES * _LANE_PX + depth * _INDENT_PX
        top, bottom = _ROW_PX * (start + 1) - 3, _ROW_PX * end + 3
        path = [(left + 12, top), (left + 12, bottom)]
        if lane:
            out, top, bottom = left - lane * _LANE_PX, _ROW_PX * (start + 0.5), _ROW_PX * (end + 0.5)
            path = [(left, top), (out, top), (out, bottom), (left, bottom)]
        points += [{"edge": index, "order": n, "x": px, "y": py} for n, (px, py) in enumerate(path)]
    if not points:
        return []
    line = chart(points).mark_line(color=INK, strokeWidth=1.3, opacity=0.8)
    return [line.encode(x=x("x"), y=y("y"), detail="edge:N", order="order:Q")]
