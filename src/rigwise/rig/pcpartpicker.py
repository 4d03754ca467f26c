"""The text that PCPartPicker puts on the clipboard: a table in Markdown, or one part on a line.

    **CPU** | [AMD Ryzen 5 5600X 3.7 GHz 6-Core Processor](https://...) | $158.99 @ Amazon
    CPU: AMD Ryzen 5 5600X 3.7 GHz 6-Core Processor  ($158.99 @ Amazon)

A price is what the list says; "Purchased For" marks what is owned already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

#: What the site calls a part -> kind; other labels of its lists are read and left out.
_LABELS = {
    "cpu": "cpu",
    "cpu cooler": "cpu_cooler",
    "motherboard": "motherboard",
    "memory": "ram",
    "storage": "storage",
    "video card": "gpu",
    "gpu": "gpu",
    "case": "case",
    "power supply": "psu",
}
_OTHERS = (
    "operating system", "monitor", "case fan", "case accessory", "fan controller", "keyboard", "mouse", "headphones",
    "speakers", "webcam", "sound card", "wired network adapter", "wireless network adapter", "optical drive",
    "external storage", "thermal compound", "ups system", "ups", "software", "custom", "optical",
)  # fmt: skip
_LONGEST_LINE = 1000
_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_PRICE = re.compile(r"[$€£]\s*([\d,]+(?:\.\d+)?)")
_TAIL = re.compile(r"\(([^()]*(?:[$€£][^()]*|Purchased[^()]*|-))\)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One part of a list. ``kind`` is empty for what the rules do not look at."""

    number: int
    label: str
    kind: str
    name: str
    price_usd: float | None
    condition: str


def part_lines(text: str) -> list[Line]:
    """The parts of a list; empty if the text is no such list.

    >>> [(x.kind, x.price_usd) for x in part_lines("CPU: Intel Core i7-11700KF  ($354.57 @ Amazon)")]
    [('cpu', 354.57)]
    """
    found: list[Line] = []
    for number, raw in enumerate(text.splitlines(), 1):
        cells = _cells(raw) if 0 < len(raw) <= _LONGEST_LINE else None
        if cells is None:
            continue
        label, name, price = cells
        label = label or (found[-1].label if found else "")
        key = label.lower()
        if name and (key in _LABELS or key in _OTHERS):
            found.append(_line(number, label, name, price))
    return found


def _cells(raw: str) -> tuple[str, str, str] | None:
    """Label, item and price of a line; None where it is no part."""
    text = _LINK.sub(r"\1", raw).replace("**", "").strip()
    if "|" in text:
        cells = [cell.strip() for cell in text.strip("|").split("|")]
        if text.startswith("|") and len(cells) == 2:
            cells = ["", *cells]
        is_rule = bool(cells[0]) and set(cells[0]) <= set(":-")
        if is_rule or len(cells) < 2 or cells[1].startswith(("*", "Total", "Generated")):
            return None
        return cells[0], cells[1], cells[2] if len(cells) > 2 else ""
    label, colon, rest = text.partition(":")
    if not colon:
        return None
    tail = _TAIL.search(rest)
    return label.strip(), _TAIL.sub("", rest).strip(), tail.group(1) if tail else ""


def _line(number: int, label: str, name: str, price: str) -> Line:
    amount = _PRICE.search(price)
    owned = price.lower().startswith("purchased")
    usd = float(amount.group(1).replace(",", "")) if amount and "$" in amount.group() else None
    kind = _LABELS.get(label.lower(), "")
    used = re.search(r"\b(used|refurbished|renewed)\b", f"{name} {price}", re.IGNORECASE)
    condition = "owned" if owned else "used" if used else "new"
    return Line(number=number, label=label, kind=kind, name=name, price_usd=usd, condition=condition)
