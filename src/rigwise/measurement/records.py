"""What the store keeps: one measured figure with the machine and the software it was measured on.

Two records may be merged, tested or drawn together only if they measured the same thing: the same kind, name and
unit, and the same tags, but for those in ``FREE_TAGS``. Between two machines ``MACHINE_TAGS`` may differ as well.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from rigwise.errors import InvalidInputError

Tag = str | int | float | bool

NO_TAGS: Mapping[str, Tag] = MappingProxyType({})

#: Tags that do not change what was measured.
FREE_TAGS = frozenset({"label", "note", "run", "seed", "source", "status", "wall_s"})

#: Tags that follow from the machine: they differ between two machines, never within one series.
MACHINE_TAGS = frozenset({"device", "device_variant", "threads", "workers", "host", "backend"})

#: No snapshot of one computer is larger.
SNAPSHOT_LIMIT_BYTES = 16 * 2**20

_NAME_LIMIT, _TAG_LIMIT, _TAGS_LIMIT = 200, 2_000, 64
_LINE = re.compile(r"[^\x00-\x1f\x7f]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One measured figure.

    Attributes:
        kind: What measured it: ``bench``, ``run``, ``step`` (a row that ``judge`` and ``calibrate`` read).
        name: Benchmark and case, ``matmul.fp32``.
        value: The median, in ``unit``.
        unit: SI: ``s``, ``B/s``, ``FLOP/s``, ``1/s``, ``J``; empty for a ratio.
        p10, p90: A tenth of the samples lie below and above; None where one figure is all there is.
        n: Samples behind the value.
        machine_id: Which machine, as ``machine_id`` makes it; never a host name.
        snapshot: JSON text of ``rigwise inspect``; empty where there is none.
        software: JSON object of package -> version; empty where nothing is known.
        when: Date and time, ISO 8601; UTC where no offset is given.
        tags: What was measured: sizes, dtype, device, version of the method.
    """

    kind: str
    name: str
    value: float
    unit: str
    p10: float | None = None
    p90: float | None = None
    n: int = 1
    machine_id: str
    snapshot: str = ""
    software: str = ""
    when: str
    tags: Mapping[str, Tag] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which records are asked for; empty and None mean all.

    Attributes:
        kinds: Any of these.
        names: Names, or their beginnings up to a dot: ``matmul`` stands for ``matmul.fp32``.
        machines: Machine ids, or their beginnings.
        since, until: ISO 8601; from the first on, before the second.
        tags: Values that tags must have, as text.
        limit: The newest so many.
    """

    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    machines: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    limit: int | None = None


ALL = Selection()


def checked(record: Record) -> Record:
    """The record with its time in UTC and its JSON in one form.

    Raises:
        InvalidInputError: A value is not finite, a name is empty, the quantiles are not in order, or the time,
            the snapshot or the software cannot be read.
    """
    for key in ("kind", "name", "machine_id"):
        text = getattr(record, key)
        if not (text and _is_line(text, _NAME_LIMIT)):
            raise InvalidInputError(f"{key} of a measurement is {_short(text)}", hint=f"1 to {_NAME_LIMIT} characters")
    if not _is_line(record.unit, 40):
        raise InvalidInputError(f"unit of {record.name} is {_short(record.unit)}")
    for key in ("value", "p10", "p90"):
        _finite(getattr(record, key), key, record.name)
    low, high = (record.value if edge is None else edge for edge in (record.p10, record.p90))
    if not low <= record.value <= high:
        raise InvalidInputError(f"{record.name}: p10 {low:g}, value {record.value:g}, p90 {high:g} are not in order")
    if isinstance(record.n, bool) or not isinstance(record.n, int) or not 1 <= record.n < 2**31:
        raise InvalidInputError(f"n of {record.name} is {_short(record.n)}", hint="a whole number of at least 1")
    return replace(
        record,
        value=float(record.value),
        p10=None if record.p10 is None else float(record.p10),
        p90=None if record.p90 is None else float(record.p90),
        when=utc(record.when),
        tags=MappingProxyType(_tags(record.tags, record.name)),
        software=_object(record.software, f"software of {record.name}"),
        snapshot=_object(record.snapshot, f"snapshot of {record.name}"),
    )


def _finite(value: Any, key: str, name: str) -> None:
    if value is None and key != "value":
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not (number and abs(value) <= sys.float_info.max):
        raise InvalidInputError(f"{key} of {name} is {_short(value)}", hint="a measured figure is a finite number")


def _tags(tags: Mapping[str, Tag], name: str) -> dict[str, Tag]:
    if len(tags) > _TAGS_LIMIT:
        raise InvalidInputError(f"{name} has {len(tags)} tags", hint=f"at most {_TAGS_LIMIT}")
    for key, value in tags.items():
        if not (isinstance(key, str) and key) or not isinstance(value, str | int | float | bool):
            raise InvalidInputError(
                f"tag {_short(key)} of {name} is {_short(value)}", hint="text, numbers, true, false"
            )
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInputError(f"tag {_short(key)} of {name} is {value}", hint="a tag is a finite number or text")
        if len(str(value)) > _TAG_LIMIT or len(key) > _NAME_LIMIT or not _is_utf8(f"{key}{value}"):
            raise InvalidInputError(f"tag {_short(key)} of {name} is {_short(value)}, which is too long or no text")
    return dict(sorted(tags.items()))


def _object(text: str, what: str) -> str:
    """JSON text of an object, as given; refused if it is anything else."""
    if not text:
        return ""
    if len(text) > SNAPSHOT_LIMIT_BYTES:
        raise InvalidInputError(f"the {what} has {len(text):,} characters, more than is kept")
    from rigwise.edge import parse_json

    if not isinstance(parse_json(text, f"the {what}"), dict) or not _is_utf8(text):
        raise InvalidInputError(f"the {what} is no JSON object that can be kept")
    return text


def _is_line(text: Any, most: int) -> bool:
    return isinstance(text, str) and len(text) <= most and bool(_LINE.fullmatch(text)) and _is_utf8(text)


def _is_utf8(text: str) -> bool:
    """Whether a text can be stored: no lone surrogates, no NUL."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def utc(text: str) -> str:
    """A time in UTC to the microsecond, in the one form that sorts as text.

    Raises:
        InvalidInputError: It is no date or time of ISO 8601.

    >>> utc("2026-11-21T18:00:00+01:00")
    '2026-11-21T17:00:00.000000Z'
    >>> utc("2026-11-21")
    '2026-11-21T00:00:00.000000Z'
    """
    try:
        moment = datetime.fromisoformat(text)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        raise InvalidInputError(
            f"{_short(text)} is no date or time", hint="as in 2026-11-21 or 2026-11-21T18:00Z"
        ) from None
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def now() -> str:
    """The time of a measurement that ends now."""
    return utc(datetime.now(UTC).isoformat())


def digest(text: str) -> str:
    """Under which a text is kept once.

    >>> digest("")[:8]
    'e3b0c442'
    """
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def identity(record: Record) -> str:
    """Two records with the same identity are the same measurement, read twice.

    The machine snapshot and the software are left out: an export without them is still the same measurement.
    """
    # A database may give -0.0 back as 0.0; adding zero makes them one.
    value, p10, p90 = (None if x is None else x + 0.0 for x in (record.value, record.p10, record.p90))
    parts = (record.kind, record.name, repr(value), record.unit, repr(p10), repr(p90), record.n)
    rest = (record.machine_id, record.when, tags_text(record.tags))
    return digest(json.dumps([*parts, *rest], ensure_ascii=True))


def tags_text(tags: Mapping[str, Tag]) -> str:
    """Tags as one JSON text, the same for the same tags."""
    return json.dumps(dict(sorted(tags.items())), ensure_ascii=False, allow_nan=False)


#: What makes a machine the one it is, in a snapshot; clocks, free space and versions change on one machine.
_OF_THE_MACHINE = (("cpu", ("name", "family", "model", "cores", "logical", "sockets")), ("limits", ("usable_cpus",)))
_OF_A_GPU = ("name", "memory_bytes", "uuid")


def machine_id(snapshot: str) -> str:
    """A name for the machine of a snapshot: its GPUs or CPU in words, and eight digits of a checksum.

    Two machines of one make without GPUs are the same machine to it: no host name is kept, and memory and disks
    change on one machine. Whoever measures many equal nodes gives them ids.

    Raises:
        InvalidInputError: The text is no JSON object.

    >>> machine_id('{"cpu": {"name": {"value": "AMD EPYC"}, "cores": {"value": 2}}}')
    'amd-epyc-2-3f82a6c5'
    """
    from rigwise.edge import parse_json

    found = parse_json(snapshot, "the snapshot")
    if not isinstance(found, dict):
        raise InvalidInputError("the snapshot is no JSON object")
    parts: dict[str, Any] = {
        f"{section}.{key}": _value(found.get(section), key) for section, keys in _OF_THE_MACHINE for key in keys
    }
    gpus = found.get("gpus")
    cards = [[_value(card, key) for key in _OF_A_GPU] for card in gpus] if isinstance(gpus, list) else []
    words = f"{len(cards)}x {cards[0][0]}" if cards else f"{parts['cpu.name'] or 'machine'} {parts['cpu.cores'] or ''}"
    name = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")[:40].rstrip("-")
    return f"{name}-{digest(json.dumps([parts, cards], sort_keys=True))[:8]}"


def _value(section: Any, key: str) -> Any:
    field_ = section.get(key) if isinstance(section, dict) else None
    return field_.get("value") if isinstance(field_, dict) else field_


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
