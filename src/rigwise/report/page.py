"""What all reports share: the frame of a page, its tiles and lists, its figures, its sources, its command.

A page is one file without scripts: nothing is loaded from outside, and its own policy forbids it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any

from rigwise import __version__
from rigwise.report.figures.save import svg
from rigwise.report.figures.theme import Figure
from rigwise.report.html import Markup, tag

#: Widths at which each figure is drawn; the style sheet shows the one that fits.
WIDE_PX, NARROW_PX = 720, 350

#: Between a number and its unit, where no line may end.
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|[kMGTPE]?(?:i?B|FLOP|W|Wh|J|Hz)|[mun]?s|min|h|d|[kMGTP])(?![A-Za-z]))")

_NOTHING_FROM_OUTSIDE = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(title: str, parts: Iterable[Markup | None], *, closing: str = "", sheets: Sequence[str] = ()) -> str:
    """A whole page: ``parts`` one below the other, what is None left out.

    Args:
        title: Of the window; plain text.
        parts: A header with the answer first, then sections.
        closing: A sentence in the footer.
        sheets: Style sheets of ``rigwise.report`` beside the one of all pages.
    """
    style = "".join(files("rigwise.report").joinpath(name).read_text("utf-8") for name in ("page.css", *sheets))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=_NOTHING_FROM_OUTSIDE),
        tag("title", title),
        tag("style", Markup(style)),
    )
    footer = tag("footer", f"Written by rigwise {__version__}. {closing}".strip())
    return "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *parts, footer)), lang="en") + "\n"


def answer(asked: str, title: str, sentence: str, tiles: Iterable[tuple[str, str, str]]) -> Markup:
    """The head of a page: the question, the answer in a line, in a sentence, and in figures.

    Args:
        asked: The question.
        title: The answer.
        sentence: The same with how sure it is.
        tiles: Name, figure and note of each.
    """
    cells = (tag("div", tag("dt", n), tag("dd", v), tag("dd", note) if note else None) for n, v, note in tiles)
    lead = tag("p", kept_together(sentence), class_="lead") if sentence else None
    question, told = tag("p", kept_together(asked), class_="job"), tag("h1", kept_together(title))
    return tag("header", question, told, lead, tag("dl", *cells, class_="tiles"))


def percent(fraction: float) -> str:
    r"""Three digits, as a gap needs.

    >>> percent(0.00123)
    '0.123\xa0%'
    """
    return f"{100 * fraction:.3g}\N{NO-BREAK SPACE}%"


def kept_together(text: str) -> str:
    r"""The text with no line ending between a number and its unit.

    >>> kept_together("4090 is at 80 % for 3 h")
    '4090 is at 80\xa0% for 3\xa0h'
    """
    return _BEFORE_UNIT.sub("\N{NO-BREAK SPACE}", text)


def quantiles(values: Mapping[str, float], show: Callable[[float], str]) -> str:
    """``4.94 h to 9.37 h``, or nothing where both are the same."""
    low, high = show(values["p10"]), show(values["p90"])
    return "" if low == high else f"{low} to {high}"


def section(heading: str, *children: Markup | None, class_: str | None = None) -> Markup | None:
    """A section with its heading; None where nothing is in it."""
    kept = [child for child in children if child]
    return tag("section", tag("h2", heading), *kept, class_=class_) if kept else None


def listed(heading: str, sentences: Iterable[str]) -> Markup | None:
    """A section of sentences; None where there is none."""
    items = [tag("li", kept_together(sentence)) for sentence in sentences]
    return section(heading, tag("ul", *items)) if items else None


def folded(summary: str, sentences: Iterable[str]) -> Markup | None:
    """Sentences that a reader opens; None where there is none."""
    items = [tag("li", kept_together(sentence)) for sentence in sentences]
    return tag("details", tag("summary", summary), tag("ul", *items)) if items else None


def soft(text: str) -> Markup | None:
    """A paragraph that explains what follows."""
    return tag("p", text, class_="soft") if text else None


def picture(heading: str, figure: Figure) -> Markup | None:
    """A figure under a heading, drawn twice, for a wide and for a narrow screen; the style sheet shows one.

    Raises:
        MissingExtraError: Altair or vl-convert is not installed.
    """
    words = f"{figure.title}. {figure.note}"

    def drawn(width_px: int, kind: str) -> Markup:
        return tag("div", Markup(svg(figure.draw(width_px))), class_=kind, role="img", aria_label=words)

    caption = tag("figcaption", figure.note) if figure.note else None
    return section(heading, tag("figure", caption, drawn(WIDE_PX, "wide"), drawn(NARROW_PX, "narrow")))


def rests_on(assumed: Iterable[str], sources: Sequence[Mapping[str, Any]]) -> Markup | None:
    """What a page takes for granted, and where its figures were read: each ``figure`` once, with each ``source``."""
    lines = [tag("li", kept_together(line)) for line in assumed]
    grouped: dict[str, list[str]] = {}
    for row in sources:
        grouped.setdefault(row["figure"], []).append(row["source"])
    rows = [part for name, found in grouped.items() for part in (tag("dt", name), *(tag("dd", one) for one in found))]
    count = f"{len(grouped)} figures and where they were read"
    fold = tag("details", tag("summary", count), tag("dl", *rows, class_="sources")) if rows else None
    return section("What this rests on", tag("ul", *lines) if lines else None, fold)


def repeat(command: str) -> Markup | None:
    """The command that answers again; None where nobody knows it."""
    return section("To repeat it", tag("pre", tag("code", command), class_="command")) if command else None
