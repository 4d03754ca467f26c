"""HTML that cannot be broken by its content: every text is escaped unless it is markup already."""

from __future__ import annotations

from html import escape

#: Elements without content and without an end tag.
_VOID = frozenset({"meta", "br", "hr", "img", "link"})


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


def tag(name: str, /, *children: str | None, **attributes: str | None) -> Markup:
    """One element; ``None`` among children or attributes is left out, ``class_`` writes ``class``.

    >>> tag("p", "a < b", tag("b", "!"), class_="note")
    '<p class="note">a &lt; b<b>!</b></p>'
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{named}>")
    return Markup(f"<{name}{named}>{join(*children)}</{name}>")


def join(*parts: str | None, by: str = "") -> Markup:
    """Parts one after the other, escaped where they are plain text.

    >>> join("R&D", Markup("<br>"), None)
    'R&amp;D<br>'
    """
    return Markup(by.join(part if isinstance(part, Markup) else escape(part) for part in parts if part is not None))


def table(columns: dict[str, str], rows: list[list[str | None]]) -> Markup:
    """A table that scrolls sideways on a narrow screen.

    Args:
        columns: Heading -> class of its cells (``"number"`` aligns to the right, ``""`` is text).
        rows: One list of cells for each row, in the order of the columns.
    """
    kinds = [kind or None for kind in columns.values()]
    head = join(*(tag("th", name, class_=kind, scope="col") for name, kind in zip(columns, kinds, strict=True)))
    body = [join(*(tag("td", cell or "", class_=k) for cell, k in zip(row, kinds, strict=True))) for row in rows]
    grid = tag("table", tag("thead", tag("tr", head)), tag("tbody", *(tag("tr", row) for row in body)))
    return tag("div", grid, class_="scroll", tabindex="0")
