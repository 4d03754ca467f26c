"""What all figures share: colours, text and size, on a light and on a dark page.

A figure is drawn in the light colours; ``in_theme`` puts the dark ones in their place. No figure
says anything by colour alone: bars carry words, points have shapes.

Source of the colours: Okabe & Ito, "Color Universal Design", 2008.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

from rigwise.errors import MissingExtraError

Document = Mapping[str, Any]

#: Text, axes and grid: a grey that reads on white and on near-black.
INK = "#6e7781"
#: Titles and what must stand out from bars.
STRONG = "#24292f"
#: The page, and words on a colour.
PAPER = "#ffffff"
PALETTE = {
    "blue": "#0072b2",
    "vermillion": "#d55e00",
    "green": "#009e73",
    "purple": "#cc79a7",
    "grey": "#4d4d4d",
    "orange": "#e69f00",
    "sky": "#56b4e9",
    "yellow": "#f0e442",
}
BLUE, VERMILLION, GREEN, PURPLE, GREY, ORANGE, SKY, YELLOW = PALETTE.values()
COLOUR_OF_LIMIT = {"compute": BLUE, "memory": VERMILLION, "launch": GREEN, "network": PURPLE, "input": GREY}
SHAPE_OF_LIMIT = {"compute": "circle", "memory": "square", "launch": "triangle-up", "network": "diamond"}
SHAPE_OF_LIMIT["input"] = "cross"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY, YELLOW)

THEMES = ("light", "dark")

#: What a dark page shows in place of each light colour; the others read on both.
DARK = {INK: "#a9b1ba", BLUE: "#4aa3df", VERMILLION: "#f0803c", GREEN: "#2dbd92", SKY: "#a5d8f7"}
DARK |= {STRONG: "#e6edf3", PAPER: "#0d1117", GREY: "#d0d7de"}

#: Width of a picture, and of a page below which a figure takes its narrow form.
WIDE_PX, NARROW_PX, NARROW_BELOW_PX = 760, 340, 560

#: Room beside the panels of a chart for the labels of their axes, and where words stand over the bars instead.
PANEL_LABELS_PX, NO_LABELS_PX = 100, 24

_TITLE_PX, _NOTE_PX = 16, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart that can be drawn at any width.

    Attributes:
        title: What it answers.
        note: How to read it, or what it leaves out; one or two sentences.
        draw: Width in pixels -> Altair chart without a title.
    """

    title: str
    note: str
    draw: Callable[[int], Any]


def altair() -> Any:
    """The drawing library, loaded when the first figure is drawn.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import altair
    except ImportError:
        raise MissingExtraError("altair", "plot") from None
    return altair


def chart(rows: Sequence[Document]) -> Any:
    """Rows inside the chart, without a data frame."""
    alt = altair()
    return alt.Chart(alt.InlineData(values=list(rows)))


def words(rows: Sequence[Document], encoding: Mapping[str, Any], **mark: Any) -> list[Any]:
    """The field ``text`` of rows as words that lines may run behind: the layer of their halo and their own."""
    look = {"align": "left", "color": INK, "fontSize": 12} | mark
    halo = look | {"stroke": PAPER, "strokeWidth": 4, "strokeJoin": "round"}
    return [chart(rows).mark_text(**one).encode(text="text:N", **encoding) for one in (halo, look)]


def dress(drawn: Any, width_px: int, height_px: int) -> Any:
    """Size and the look that all charts share."""
    sized = drawn.properties(width=width_px, height=height_px, autosize={"type": "fit-x", "contains": "padding"})
    return _looks(sized, width_px)


def dress_panels(drawn: Any, width_px: int, labels_px: int = PANEL_LABELS_PX) -> Any:
    """The look of a chart of several panels, one over the other; each has its width already."""
    return _looks(drawn.properties(usermeta={"labels_px": labels_px}), width_px)


def panel_px(width_px: int, labels_px: int = PANEL_LABELS_PX) -> int:
    """Width of a panel that leaves room for the labels of its axis."""
    return width_px - labels_px


def _looks(drawn: Any, width_px: int) -> Any:
    grid = {"gridColor": INK, "gridOpacity": 0.22, "domainColor": INK, "tickColor": INK}
    words = {"labelColor": INK, "titleColor": INK, "labelFontSize": 12, "titleFontSize": 12}
    text = {**words, "titleFontWeight": "normal"}
    return (
        drawn.properties(background="transparent")
        .configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(**grid, **text, tickCount=6 if width_px > NARROW_BELOW_PX else 4)
        .configure_legend(**text, symbolOpacity=1)
    )


def titled(figure: Figure, width_px: int = WIDE_PX) -> dict[str, Any]:
    """The specification of a figure that stands alone, with title and note above it, on white."""
    heading = {
        "text": wrap(figure.title, int(width_px / (_TITLE_PX * 0.56))),
        "subtitle": wrap(figure.note, int(width_px / (_NOTE_PX * 0.53))),
        **{"anchor": "start", "frame": "bounds", "color": STRONG, "subtitleColor": INK, "offset": 14},
        **{"fontSize": _TITLE_PX, "subtitleFontSize": _NOTE_PX, "subtitlePadding": 6, "subtitleLineHeight": 16},
    }
    spec = bare(figure, width_px)
    return spec | {"title": heading, "background": PAPER, "padding": 16}


def bare(figure: Figure, width_px: int = WIDE_PX) -> dict[str, Any]:
    """The specification of a figure whose title stands in the page around it."""
    spec: dict[str, Any] = figure.draw(width_px).to_dict(validate=False)
    return spec | {"description": f"{figure.title}. {figure.note}"}


def in_theme(spec: Any, theme: str) -> Any:
    """The specification in the colours of a theme."""
    if theme == "light":
        return spec
    if isinstance(spec, Mapping):
        return {key: in_theme(value, theme) for key, value in spec.items()}
    if isinstance(spec, list):
        return [in_theme(value, theme) for value in spec]
    return DARK.get(spec, spec) if isinstance(spec, str) else spec
