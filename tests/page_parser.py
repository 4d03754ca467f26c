"""A page of a report as its tests read it."""

import re
from html.parser import HTMLParser
from itertools import pairwise


class Page(HTMLParser):
    """Elements and visible words; fails where tags do not nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.words += data.replace("\N{NO-BREAK SPACE}", " ") + " "


def check_page(html: str) -> Page:
    """What holds for every report: one file, nothing from outside, headings in order, a text for every picture."""
    read = Page(html)
    names = {name for name, _ in read.elements}
    assert names & {"script", "link", "img", "iframe", "object", "form", "base"} == set()
    attributes = {name for _, found in read.elements for name in found}
    assert not {name for name in attributes if name in ("src", "href", "srcset") or name.startswith("on")}
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", html)
    policies = [found["content"] for _, found in read.elements if found.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'")
    levels = [int(name[1]) for name, _ in read.elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    pictures = [found for name, found in read.elements if name == "div" and found.get("role") == "img"]
    assert all(len(found.get("aria-label") or "") > 20 for found in pictures)
    assert len(html.encode()) < 1_000_000
    return read
