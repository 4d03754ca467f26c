"""A figure as a file: PNG, SVG, or an HTML page that needs nothing from outside."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from rigwise.edge import check_writable
from rigwise.errors import InvalidInputError, MissingExtraError
from rigwise.report.figures.theme import (
    DARK,
    INK,
    NARROW_BELOW_PX,
    NARROW_PX,
    PALETTE,
    PAPER,
    STRONG,
    Figure,
    bare,
    in_theme,
    titled,
)
from rigwise.report.html import Markup, tag

KINDS = (".png", ".svg", ".html")

#: Pixels of a PNG for each pixel of the figure, so that text is sharp on a fine screen.
_SCALE = 2.0

#: What the page may load: its own script, and the pictures that a reader saves from it.
_NOTHING_FROM_OUTSIDE = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)


def check_place(path: str) -> str:
    """The kind of file that a name asks for, before anything is computed.

    Raises:
        InvalidInputError: The name ends in something else, or nothing can be written there.
        MissingExtraError: What draws is not installed.
    """
    kind = Path(path).suffix.lower()
    if kind not in KINDS:
        raise InvalidInputError(
            f"--plot {path} does not end in .png, .svg or .html", hint="the ending says what to draw"
        )
    check_writable(path, "--plot")
    vl_convert()
    return kind


def content_of(figure: Figure, kind: str, theme: str = "light") -> bytes | str:
    """What the file holds: ``kind`` is one of ``KINDS``; an HTML page follows the reader's theme.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    if kind == ".html":
        return page(figure)
    spec = in_theme(titled(figure), theme)
    if kind == ".svg":
        drawn: str = vl_convert().vegalite_to_svg(spec)
        return drawn
    picture: bytes = vl_convert().vegalite_to_png(spec, scale=_SCALE)
    return picture


def page(figure: Figure) -> str:
    """The figure as a page: light or dark and wide or narrow as the reader's screen is, with the values at a point."""
    specs = {name: bare(figure, width_px) for name, width_px in (("wide", 720), ("narrow", NARROW_PX))}
    data = {**specs, "below_px": NARROW_BELOW_PX, "dark": DARK}
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_NOTHING_FROM_OUTSIDE),
        tag("title", figure.title),
        tag("style", _resource("figure.css")),
    )
    drawing = tag("div", id="figure", role="img", aria_label=f"{figure.title}. {figure.note}")
    body = tag(
        "main",
        tag("h1", figure.title),
        tag("p", figure.note),
        drawing,
        tag("script", _as_data(data), type="application/json", id="specs"),
        tag("script", Markup(vl_convert().javascript_bundle().replace("</script", "<\\/script")), type="module"),
        tag("script", _resource("figure.js"), type="module"),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def svg(chart: Any) -> str:
    """The chart as one SVG element that follows the colours of the page around it.

    Text and axes take the page's text colour; a page may set ``--blue``, ``--vermillion`` and so on, and ``--paper``
    for words on a colour.

    Raises:
        MissingExtraError: vl-convert is not installed.
    """
    spec = chart if isinstance(chart, dict) else chart.to_dict(validate=False)
    drawn: str = vl_convert().vegalite_to_svg(spec)
    for name, colour in (*PALETTE.items(), ("paper", PAPER)):
        drawn = drawn.replace(f'"{colour}"', f'"var(--{name},{colour})"')
    return drawn.replace(INK, "currentColor").replace(STRONG, "currentColor")


def vl_convert() -> Any:
    """What turns a specification into a picture.

    Raises:
        MissingExtraError: It is not installed, or Altair is not.
    """
    try:
        import altair  # noqa: F401  a figure needs both
    except ImportError:
        raise MissingExtraError("altair", "plot") from None
    try:
        import vl_convert
    except ImportError:
        raise MissingExtraError("vl-convert-python", "plot") from None
    return vl_convert


def _as_data(data: Any) -> Markup:
    """JSON that cannot end the element it stands in."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _resource(name: str) -> Markup:
    return Markup(files("rigwise.report.figures").joinpath(name).read_text(encoding="utf-8"))
