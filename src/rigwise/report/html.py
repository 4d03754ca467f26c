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
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    content = "".join(part if isinstance(part, Markup) else escape(part) for part in children if part is not None)
    return Markup(f"<{name}{written}>{content}</{name}>")


def table(columns: dict[str, str], rows: list[list[str]]) -> Markup:
    """A table that may scroll sideways; each cell also carries its heading, for narrow screens.

    Args:
        columns: Heading -> class of its cells, ``""`` for none.
        rows: One list of cells for each row, in the order of the columns.
    """
    heads = [tag("th", name, class_=kind or None, scope="col") for name, kind in columns.items()]
    cells = [
        [
            tag("td", text, class_=kind or None, data_label=name)
            for text, (name, kind) in zip(row, columns.items(), strict=True)
        ]
        for row in rows
    ]
    grid = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *(tag("tr", *row) for row in cells)))
    return tag("div", grid, class_="scroll", tabindex="0")
