"""What a computer is, as it was found: every field a value, where it was read, and how far to trust it.

A snapshot is one JSON document (``rigwise.inspect/1``), so that a machine can be asked about where it is not.
Its sections are mappings of fields, or tuples of such mappings for things there are several of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rigwise.edge import parse, parse_json, read_text
from rigwise.errors import InvalidInputError
from rigwise.shown import Shown

SCHEMA = "rigwise.inspect/1"

#: No snapshot of one computer is larger: 256 CPUs, 16 GPUs and 1,000 listeners take less than 2 MiB.
LIMIT_BYTES = 16 * 2**20

#: Sequences and single characters that steer a terminal; tabs and ends of lines stay.
_CODES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f-\x9f]")

#: What a field may hold.
Value = str | int | float | bool | list[Any] | dict[str, Any] | None


class Confidence(StrEnum):
    """How far a field can be trusted, best first."""

    READ = "read"  # stated by the kernel, the driver or the package itself
    DERIVED = "derived"  # computed from what was read by a stated formula
    ASSUMED = "assumed"  # from a table by what was read; the machine may differ
    UNKNOWN = "unknown"  # could not be read; the reason says why


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing about a machine.

    Attributes:
        value: What it is, in SI base units as the field's name says; None where unknown.
        source: File, command or call it was read from, or the formula it was computed by.
        confidence: How far to trust it.
        reason: Why it is unknown, or what the value leaves out.
    """

    value: Value
    source: str
    confidence: Confidence = Confidence.READ
    reason: str = ""


Section = Mapping[str, Field]

NOTHING: Section = MappingProxyType({})


def unknown(source: str, reason: str) -> Field:
    """A field that could not be read, and why.

    >>> unknown("/proc/cpuinfo", "there is no such file").value is None
    True
    """
    return Field(value=None, source=source, confidence=Confidence.UNKNOWN, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Two sources that disagree, or a thing that is less than it could be.

    Attributes:
        where: The field it is about, ``gpus.0.sm_count``.
        text: What was found, what was expected, in one sentence.
        sources: Where the two values come from.
    """

    where: str
    text: str
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot(Shown):
    """One computer at one time.

    Attributes:
        schema: Version of this document.
        taken: Date and time, UTC, ISO 8601; empty for a captured tree that does not say.
        root: Empty for this computer, else the name of the captured tree.
        system, cpu, limits, memory, driver, software, container, scheduler: One of each; ``limits`` is what the
            process may use of the machine, ``driver`` the GPU driver and its libraries.
        gpus, links, pcie, disks, network, listeners: As many as there are; ``links`` join GPUs.
        peaks: Theoretical peaks with their arithmetic.
        findings: Where sources disagree.
        failed: Probes that ended early, by name, with the reason.
    """

    schema: str = SCHEMA
    taken: str = ""
    root: str = ""
    system: Mapping[str, Field] = field(default_factory=dict)
    cpu: Mapping[str, Field] = field(default_factory=dict)
    limits: Mapping[str, Field] = field(default_factory=dict)
    memory: Mapping[str, Field] = field(default_factory=dict)
    driver: Mapping[str, Field] = field(default_factory=dict)
    software: Mapping[str, Field] = field(default_factory=dict)
    container: Mapping[str, Field] = field(default_factory=dict)
    scheduler: Mapping[str, Field] = field(default_factory=dict)
    gpus: tuple[Mapping[str, Field], ...] = ()
    links: tuple[Mapping[str, Field], ...] = ()
    pcie: tuple[Mapping[str, Field], ...] = ()
    disks: tuple[Mapping[str, Field], ...] = ()
    network: tuple[Mapping[str, Field], ...] = ()
    listeners: tuple[Mapping[str, Field], ...] = ()
    peaks: tuple[Mapping[str, Field], ...] = ()
    findings: tuple[Finding, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Field | None:
        """The field of this dotted name, ``cpu.cores`` or ``gpus.0.name``; None where the snapshot has none."""
        section, *keys = name.split(".")
        found: Any = getattr(self, section, None) if section in SECTIONS else None
        if section in SEVERAL and keys:
            place = keys.pop(0)
            found = found[int(place)] if place.isdigit() and int(place) < len(found) else None
        return found.get(keys[0]) if isinstance(found, Mapping) and len(keys) == 1 else None

    def value(self, name: str) -> Any:
        """The value of a field; None where it is unknown or absent.

        >>> Snapshot(cpu={"cores": Field(value=8, source="a file")}).value("cpu.cores")
        8
        """
        found = self.get(name)
        return found.value if found else None

    def fields(self) -> Iterator[tuple[str, Field]]:
        """Every field with its dotted name."""
        for section in ONE_OF_EACH:
            for key, value in getattr(self, section).items():
                yield f"{section}.{key}", value
        for section in SEVERAL:
            for place, entry in enumerate(getattr(self, section)):
                for key, value in entry.items():
                    yield f"{section}.{place}.{key}", value


ONE_OF_EACH = ("system", "cpu", "limits", "memory", "driver", "software", "container", "scheduler")
SEVERAL = ("gpus", "links", "pcie", "disks", "network", "listeners", "peaks")
SECTIONS = ONE_OF_EACH + SEVERAL


def printable(text: str) -> str:
    r"""Text without the codes that steer a terminal: whoever made a tree or a snapshot does not write on the screen.

    >>> printable("a\x1b[31mb\x07c")
    'abc'
    """
    return _CODES.sub("", text)


def _cleaned(found: Any) -> Any:
    if isinstance(found, str):
        return printable(found)
    if isinstance(found, list):
        return [_cleaned(one) for one in found]
    return {printable(key): _cleaned(one) for key, one in found.items()} if isinstance(found, dict) else found


def document(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot as plain objects for JSON; a field says no reason where it has none.

    >>> document(Snapshot(cpu={"cores": Field(value=8, source="a file")}))["cpu"]
    {'cores': {'value': 8, 'source': 'a file', 'confidence': 'read'}}
    """

    def plain(one: Field) -> dict[str, Any]:
        shown = {"value": one.value, "source": one.source, "confidence": str(one.confidence)}
        return {**shown, "reason": one.reason} if one.reason else shown

    answer: dict[str, Any] = {"schema": snapshot.schema, "taken": snapshot.taken, "root": snapshot.root}
    for name in ONE_OF_EACH:
        answer[name] = {key: plain(one) for key, one in getattr(snapshot, name).items()}
    for name in SEVERAL:
        answer[name] = [{key: plain(one) for key, one in entry.items()} for entry in getattr(snapshot, name)]
    answer["findings"] = [
        {"where": finding.where, "text": finding.text, "sources": list(finding.sources)}
        for finding in snapshot.findings
    ]
    answer["failed"] = dict(snapshot.failed)
    return answer


def snapshot_text(snapshot: Snapshot) -> str:
    """The snapshot as the text of its file, to keep or give away: paths below the user's home lack its name."""
    text = json.dumps(document(snapshot), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
    home = json.dumps(str(Path.home()), ensure_ascii=False)[1:-1]
    return text.replace(home, "~") if len(home) > 1 else text


def read_snapshot(path: str | Path) -> Snapshot:
    """A snapshot that ``rigwise inspect --save`` or ``--json`` wrote.

    Raises:
        InvalidInputError: The file cannot be read, is no snapshot, or one of a newer rigwise.
    """
    found = parse_json(read_text(path, limit_bytes=LIMIT_BYTES), str(path))
    schema = found.get("schema") if isinstance(found, dict) else None
    if schema != SCHEMA:
        newer = isinstance(schema, str) and schema.startswith("rigwise.inspect/")
        said = f"its schema is {schema!r}" if schema else "it has no schema"
        hint = "it was written by another version of rigwise" if newer else "rigwise inspect --save FILE writes one"
        raise InvalidInputError(f"{path} is no snapshot that can be read: {said}", hint=hint)
    return parse(_cleaned(found), Snapshot, str(path))
