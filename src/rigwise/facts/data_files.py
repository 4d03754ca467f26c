"""Read, check and compile the files under ``data/``: what a person edits -> what rigwise loads.

Every fault is one line that names the file and the key. Run by ``tools/build_catalogue.py``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from rigwise.edge import as_plain, parse, parse_toml, read_text
from rigwise.errors import InvalidInputError, RigwiseError, near_matches
from rigwise.facts.compile import check_family, cite, cpu_fields, device_fields
from rigwise.facts.rows import CpuFile, DeviceFile, LinkRow, SourceRow
from rigwise.facts.tables import OFFER_COLUMNS, PART_COLUMNS, offer_fields, part_fields

T = TypeVar("T")
COMPILED_SCHEMA = "rigwise.catalogue/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SourceFile:
    sources: dict[str, SourceRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class _LinkFile:
    links: dict[str, LinkRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class _ReleaseFile:
    source: list[str]
    releases: dict[str, date]


def _read(path: Path, kind: type[T]) -> T:
    return parse(parse_toml(read_text(path), path.name), kind, path.name)


def read_sources(data: Path) -> dict[str, SourceRow]:
    """``sources.toml``: where figures were read."""
    return _read(data / "sources.toml", _SourceFile).sources


def read_links(data: Path) -> dict[str, LinkRow]:
    """``links.toml``: rates of links to the host."""
    return _read(data / "links.toml", _LinkFile).links


def read_releases(data: Path) -> _ReleaseFile:
    """``torch_releases.toml``: when each version of the framework came out."""
    return _read(data / "torch_releases.toml", _ReleaseFile)


def read_device_files(data: Path) -> dict[str, DeviceFile]:
    """Every file of ``devices/`` by its name."""
    return {path.name: _read(path, DeviceFile) for path in sorted((data / "devices").glob("*.toml"))}


def read_cpu_files(data: Path) -> dict[str, CpuFile]:
    """Every file of ``cpus/`` by its name."""
    return {path.name: _read(path, CpuFile) for path in sorted((data / "cpus").glob("*.toml"))}


def _placed(file: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call ``function`` and put the file's name before its complaint."""
    try:
        return function(*arguments)
    except RigwiseError as error:
        raise InvalidInputError(f"{file}: {error.message}", hint=error.hint) from None


def _devices(data: Path, sources: dict[str, SourceRow]) -> dict[str, Any]:
    links = read_links(data)
    for name, link in links.items():
        _placed("links.toml", cite, link.source, sources, f"links.{name}")
    compiled: dict[str, Any] = {}
    for file_name, file in read_device_files(data).items():
        for name, family in file.families.items():
            _placed(file_name, check_family, name, family, sources)
        for name, row in file.devices.items():
            _refuse_twice(name, compiled, f"{file_name}: devices.{name}")
            _refuse_negative(row, f"{file_name}: devices.{name}")
            compiled[name] = _placed(file_name, device_fields, name, row, file, links, sources)
            if row.aliases:
                compiled[name]["aliases"] = row.aliases
    return compiled


def _cpus(data: Path, sources: dict[str, SourceRow], devices: dict[str, Any]) -> dict[str, Any]:
    compiled: dict[str, Any] = {}
    for file_name, file in read_cpu_files(data).items():
        for name, family in file.families.items():
            _placed(file_name, cite, family.source, sources, f"families.{name}")
        for name, row in file.cpus.items():
            _refuse_twice(name, {**compiled, **devices}, f"{file_name}: cpus.{name}")
            _refuse_negative(row, f"{file_name}: cpus.{name}")
            compiled[name] = _placed(file_name, cpu_fields, name, row, file, sources)
            if row.aliases:
                compiled[name]["aliases"] = row.aliases
    return compiled


def _refuse_twice(name: str, known: dict[str, Any], where: str) -> None:
    if name in known:
        raise InvalidInputError(f"{where}: the id stands in another file too")


def _refuse_negative(row: Any, where: str) -> None:
    """No figure of a device is below zero."""
    for name, value in as_plain(row).items():
        for one in value.values() if isinstance(value, dict) else [value]:
            if isinstance(one, int | float) and one < 0:
                raise InvalidInputError(f"{where}: {name} is {one:g}", hint="no figure is below zero")


def read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    """A CSV with exactly these columns, in this order, and as many cells in every row.

    Raises:
        InvalidInputError: It has others; the message names the file and the column or line.
    """
    expected = list(columns)
    lines = list(csv.reader(io.StringIO(read_text(path))))
    if lines[0] != expected:
        odd = next((c for c in lines[0] if c not in expected), None)
        if odd is not None:
            raise InvalidInputError(f"{path.name}: unknown column {odd!r}", hint=near_matches(odd, expected))
        raise InvalidInputError(f"{path.name}: the columns are not {', '.join(expected)}")
    for number, cells in enumerate(lines[1:], start=2):
        if len(cells) != len(expected):
            raise InvalidInputError(f"{path.name}: line {number} has {len(cells)} cells, not {len(expected)}")
    return [dict(zip(expected, cells, strict=True)) for cells in lines[1:]]


def _rows(path: Path, sources: dict[str, SourceRow], columns: Iterable[str], convert: Any) -> list[dict[str, Any]]:
    compiled = []
    for number, row in enumerate(read_table(path, columns), start=2):
        where = f"{path.name}: line {number}"
        fields = convert(row, where)
        cite(fields["source"].split("; "), sources, where)
        compiled.append(fields)
    return compiled


def _check_devices_of(rows: list[dict[str, Any]], known: dict[str, Any], file_name: str) -> None:
    for number, row in enumerate(rows, start=2):
        for identifier in filter(None, row["device"].split("|")):
            if identifier not in known:
                raise InvalidInputError(
                    f"{file_name}: line {number}: unknown device {identifier!r}", hint=near_matches(identifier, known)
                )


def _columns_and_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {"columns": list(rows[0]), "rows": [list(row.values()) for row in rows]}


def _as_year(day: date) -> float:
    return round(day.year + (day.timetuple().tm_yday - 1) / 365, 2)


def compile_catalogue(data: Path) -> str:
    """All files under ``data`` as the text of ``catalogue.json``.

    Raises:
        InvalidInputError: The first fault, with its file and key.
    """
    sources = read_sources(data)
    devices = _devices(data, sources)
    cpus = _cpus(data, sources, devices)
    offers = _rows(data / "offers.csv", sources, OFFER_COLUMNS, offer_fields)
    _check_devices_of(offers, devices, "offers.csv")
    parts = _rows(data / "parts.csv", sources, PART_COLUMNS, part_fields)
    _check_devices_of(parts, {**devices, **cpus}, "parts.csv")
    releases = read_releases(data)
    _placed("torch_releases.toml", cite, releases.source, sources, "releases")
    document = {
        "schema": COMPILED_SCHEMA,
        "sources": {
            name: {"title": row.title, "date": row.date, "licence": row.licence} for name, row in sources.items()
        },
        "devices": devices,
        "cpus": cpus,
        "offers": _columns_and_rows(offers),
        "parts": _columns_and_rows(parts),
        "torch_years": {version: _as_year(day) for version, day in releases.releases.items()},
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"
