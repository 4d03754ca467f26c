"""What ``perf stat`` counted, as text for people or with ``-x`` or ``-j``.

Source: the manual page perf-stat(1) of Linux 6, "CSV FORMAT" and "JSON FORMAT", and the layout of its usual output.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rigwise.errors import InvalidInputError
from rigwise.measurement.profile.source import KNOWN
from rigwise.measurement.profile.spans import Counters

_NOT = re.compile(r"<not (counted|supported)>")
_LINE = re.compile(
    r"^\s*(?P<value>\d[\d.,'\u00a0\u2009\u202f ]*?|<not counted>|<not supported>)"
    r"(?:\s+(?P<unit>msec|ns|Joules|MiB|Bytes|C))?\s+(?P<event>[A-Za-z_][^\s#]*)\s*(?P<rest>.*)$"
)
_ELAPSED = re.compile(r"^\s*([\d.,]+)\s+(?:\+-\s*[\d.,]+\s+)?seconds time elapsed")
_COMMAND = re.compile(r"Performance counter stats for '(.*)'")
_SHARE = re.compile(r"\(\s*([\d.,]+)%\s*\)\s*$")
_MODIFIERS = re.compile(r"(?<=[\w/]):[a-zA-Z]+$")
_MOST_EVENTS = 4096


@dataclass(frozen=True, slots=True)
class _Count:
    """One counted event: its value is None where it could not be counted."""

    event: str
    value: float | None
    counted_frac: float = 1.0


def looks_like_perf(text: str) -> bool:
    """Whether a text may be output of ``perf stat``."""
    return any(True for _ in _counts(text))


def read_perf(text: str, path: Path) -> Counters:
    """The counters of a text.

    Raises:
        InvalidInputError: There is none in it.
    """
    values: dict[str, float] = {}
    shares: dict[str, float] = {}
    missing: list[str] = []
    for count in _counts(text):
        if len(values) + len(missing) > _MOST_EVENTS:
            break
        if count.value is None:
            missing.append(count.event)
            continue
        values[count.event] = values.get(count.event, 0.0) + count.value
        if count.counted_frac < 1.0:
            shares[count.event] = count.counted_frac
    if not values and not missing:
        raise InvalidInputError(f"{path} is no output of a profiler that rigwise knows", hint=KNOWN)
    elapsed = next((_plain(m.group(1)) for line in text.splitlines() if (m := _ELAPSED.match(line))), None)
    command = _COMMAND.search(text)
    return Counters(
        values=values,
        counted_frac=shares,
        missing=tuple(dict.fromkeys(missing)),
        elapsed_s=elapsed if elapsed is not None else _duration_s(values),
        command=command.group(1)[:200] if command else "",
    )


def _duration_s(values: dict[str, float]) -> float | None:
    return values.get("duration_time")


def _counts(text: str) -> Iterator[_Count]:
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _from_json(line) if line.lstrip().startswith("{") else _from_csv(line) or _from_text(line)
        if found is not None:
            yield found


def _from_json(line: str) -> _Count | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("event"), str) or "counter-value" not in row:
        return None
    share = row.get("pcnt-running", 100.0)
    share = share if isinstance(share, int | float) and not isinstance(share, bool) else 100.0
    return _count(row["event"], str(row["counter-value"]), str(row.get("unit", "")), share / 100)


def _from_csv(line: str) -> _Count | None:
    """Value, unit, event, then how long and in which part of the run it was counted; CPU numbers may stand before."""
    for separator in (",", ";", "|", "\t"):
        cells = [cell.strip() for cell in line.split(separator)]
        for at in range(min(3, max(0, len(cells) - 4))):
            value, unit, event = cells[at : at + 3]
            is_value = bool(_NOT.fullmatch(value)) or re.fullmatch(r"\d+(\.\d+)?", value) is not None
            if is_value and re.fullmatch(r"[A-Za-z_][^\s]*", event) and not re.search(r"\s", unit):
                running = [cell for cell in cells[at + 3 : at + 6] if re.fullmatch(r"\d+(\.\d+)?", cell)]
                share = float(running[1]) / 100 if len(running) > 1 else 1.0
                return _count(event, value, unit, share)
    return None


def _from_text(line: str) -> _Count | None:
    match = _LINE.match(line)
    if match is None or "seconds" in match.group("event") or match.group("event").startswith(("time", "raw")):
        return None
    share = _SHARE.search(match.group("rest"))
    part = _plain(share.group(1)) if share else None
    return _count(match.group("event"), match.group("value"), match.group("unit") or "", (part or 100.0) / 100)


_UNITS = {"msec": 1e-3, "ns": 1e-9, "Joules": 1.0, "MiB": 2.0**20}


def _count(event: str, text: str, unit: str, share: float) -> _Count | None:
    name = _MODIFIERS.sub("", event)
    if _NOT.search(text):
        return _Count(name, None)
    value = _plain(text, whole=unit == "")
    if value is None or not math.isfinite(value):
        return None
    scale = 1e-9 if name == "duration_time" and unit in ("", "ns") else _UNITS.get(unit, 1.0)
    if name in ("task-clock", "cpu-clock") and not unit:
        scale = 1e-3
    return _Count(name, value * scale, min(1.0, max(0.0, share)))


def _plain(text: str, *, whole: bool = False) -> float | None:
    """A number with marks between thousands, as the locale of a machine writes them.

    >>> _plain("1,234,567", whole=True), _plain("1.234.567", whole=True), _plain("12,50"), _plain("1,234.56")
    (1234567.0, 1234567.0, 12.5, 1234.56)
    """
    bare = re.sub(r"['\u00a0\u2009\u202f\s]", "", text)
    if whole and re.fullmatch(r"\d{1,3}([.,]\d{3})+", bare):
        bare = re.sub(r"[.,]", "", bare)
    elif "," in bare and "." in bare:
        last = max(bare.rfind(","), bare.rfind("."))
        bare = re.sub(r"[.,]", "", bare[:last]) + "." + bare[last + 1 :]
    else:
        bare = bare.replace(",", ".")
    try:
        return float(bare)
    except ValueError:
        return None
