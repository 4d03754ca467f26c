"""What every reader shares: tables that may be cut off, cells that may hold anything, an account of what was left out.

A reader keeps dirt: a negative or absurd price stays in its row, so that ``lint`` can name it.
Only a row that is no offer of an accelerator is left out, and counted.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from rigwise.errors import InvalidInputError, near_matches
from rigwise.facts.offer import Offer

NO_ACCELERATOR = "no accelerator"
#: What tables write where they have no figure.
_ABSENT = frozenset(("", "none", "null", "n/a", "-"))
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a file held.

    Attributes:
        name: Of the import it makes, ``skypilot.aws``.
        kind: ``skypilot``, ``gpuhunt`` or ``csv``.
        origin: The file, as it was named.
        content: Its bytes, for the checksum.
        offers: Its offers, dirt included.
        read: Rows that the file holds.
        excluded: Rows that are no offer, by reason.
    """

    name: str
    kind: str
    origin: str
    content: bytes = field(repr=False)
    offers: tuple[Offer, ...] = field(repr=False)
    read: int
    excluded: Counter[str]


def table(
    content: bytes, where: str, required: Sequence[str], *, whole: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV in UTF-8 with their line numbers, by column.

    Args:
        content: The file.
        where: Its name, for messages.
        required: Columns that it must have.
        whole: Whether a last line without an end is a sign that the file was cut off, as it is where programs write it.

    Raises:
        InvalidInputError: It is no text, a column is missing or stands twice, a row has too few or too many cells, or
            the file ends in the middle of one.
    """
    if b"\0" in content:
        raise InvalidInputError(f"{where} is no table: it holds zero bytes")
    cut = f"{where} seems to have been cut off"
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline=""), strict=True)
    try:
        head = [name.strip() for name in next(reader, [])]
        _check_head(head, where, required)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(head):
                line = reader.line_num
                last = next(reader, None) is None
                found = f"line {line} has {len(cells)} cells, not {len(head)}"
                raise InvalidInputError(f"{cut}: its last {found}" if last else f"{where}: {found}")
            yield reader.line_num, dict(zip(head, cells, strict=True))
    except UnicodeDecodeError:
        raise InvalidInputError(f"{where} is not text in UTF-8") from None
    except csv.Error as error:
        if "end of data" in str(error):
            raise InvalidInputError(f"{cut} in line {reader.line_num}") from None
        raise InvalidInputError(f"{where} is no table: line {reader.line_num}: {error}") from None
    if whole and not content.endswith((b"\n", b"\r")):
        raise InvalidInputError(f"{cut}: its last line has no end", hint="download it again")


def counted(rows: Iterable[tuple[int, dict[str, str]]], tally: Counter[str]) -> Iterator[dict[str, str]]:
    """Rows as they pass, counted under ``read``, so that a large table need not be held."""
    for _, row in rows:
        tally["read"] += 1
        yield row


def _check_head(head: Sequence[str], where: str, required: Sequence[str]) -> None:
    twice = [name for name in head if head.count(name) > 1]
    if twice:
        raise InvalidInputError(f"{where}: column {twice[0]!r} stands twice")
    for name in required:
        if name not in head:
            close = near_matches(name, head) or f"it has {', '.join(head)[:200]}"
            raise InvalidInputError(f"{where} has no column {name!r}", hint=close)


def number(text: str) -> float | None:
    """A cell as a number: None if it is blank, NaN if it is none; whole numbers stay whole.

    >>> number(""), number("8"), number("0.35"), number("free")
    (None, 8, 0.35, nan)
    """
    bare = text.strip().removeprefix("$").lower()
    if bare in _ABSENT:
        return None
    try:
        value = float(bare)
    except ValueError:
        return math.nan
    if not math.isfinite(value):
        return math.nan
    return int(value) if value.is_integer() else value


def size(text: str, factor: float = 1.0) -> float | None:
    """A count or a size, None where it is blank, no number or none at all; only prices are worth naming as dirt.

    >>> size("1.5", 2.0**30), size("nan"), size("-1")
    (1610612736, None, None)
    """
    value = number(text)
    if value is None or math.isnan(value) or value < 0:
        return None
    scaled = value * factor
    return int(scaled) if float(scaled).is_integer() else scaled


def is_date(text: str) -> bool:
    """Whether a text is a day, ``YYYY-MM-DD``, that exists.

    >>> is_date("2026-02-28"), is_date("2026-02-30"), is_date("28.2.2026")
    (True, False, False)
    """
    from datetime import date

    if not _DATE.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def blank_offer(provider: str) -> Offer:
    """An offer of which nothing is known yet but who makes it."""
    return Offer(
        provider=provider,
        instance="",
        region="",
        device="",
        accelerator="",
        accel_count=None,
        accel_memory_bytes=None,
        vcpus=None,
        memory_bytes=None,
        disk_bytes=None,
        link="",
        inter_node_bytes_per_s=None,
        price_usd_h=None,
        spot_price_usd_h=None,
        as_of="",
        source="",
    )
