"""``rigwise setup`` on a terminal: what was chosen and why, the files, and how far they were verified."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from rigwise.facts.executed import Row
from rigwise.sandbox.setting import Setting

_WIDTH = 80


def setup_text(target: str, setting: Setting, files: Iterable[str], *, brief: bool = False) -> str:
    """The choices, the files and the level of a target."""
    place, environment = setting.place, setting.environment
    nodes = f"{place.nodes} nodes, " if place.nodes > 1 else ""
    many = f"{place.count} x " if place.has_gpu else ""
    lines = _wrapped(f"{target} for {nodes}{many}{place.device_name} ({place.of})")
    if not brief:
        lines.append("")
        width = max(len(choice.what) for choice in environment.choices)
        for choice in environment.choices:
            lines += _wrapped(
                f"{choice.value}: {choice.why}", first=f"  {choice.what:<{width}}  ", rest=" " * (width + 6)
            )
        lines += [line for text in environment.assumed for line in _wrapped(f"assumed: {text}", first="  ", rest="  ")]
    lines += ["", *_wrapped("files: " + ", ".join(files), rest="  "), *_wrapped(setting.level)]
    return "\n".join(lines) + "\n"


def targets_text(rows: Iterable[tuple[str, str, Row]]) -> str:
    """Every target, what it is and how far it was verified."""
    shown = [(name, about, row.level) for name, about, row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(2)]
    lines = [f"{name:<{widths[0]}}  {about:<{widths[1]}}  {level}" for name, about, level in shown]
    head = f"{'target':<{widths[0]}}  {'what it writes':<{widths[1]}}  verified"
    more = ["rigwise setup TARGET --output DIR writes the files", "rigwise setup verify tries whether they work"]
    return "\n".join([head, *lines, "", *more]) + "\n"


def _wrapped(text: str, *, first: str = "", rest: str = "") -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
