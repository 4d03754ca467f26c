"""Measurements as tables that leave the store and come back: CSV and Parquet in one set of columns.

The first columns are those that ``judge`` and ``calibrate`` read; a figure that is no step leaves them empty. The
others say the rest of a record, so that what was exported can be imported without loss. Machine snapshots are long:
Parquet holds them in a column of its own, CSV in a second file beside it, ``NAME.snapshots.jsonl``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rigwise.edge import parse_json, read_text
from rigwise.errors import InvalidInputError, RigwiseError
from rigwise.measurement.measurement import Measurement, Rejected
from rigwise.measurement.parquet import LIMIT_BYTES, SUFFIXES, arrow, parquet_rows
from rigwise.measurement.records import Record, Tag, checked, digest, tags_text
from rigwise.measurement.tables import REQUIRED, read_tables

#: Columns of ``judge`` and ``calibrate``, and which tag fills them.
_STEP_TAGS = {
    "device": "device",
    "device_variant": "device_variant",
    "count": "count",
    "model": "model",
    "task": "task",
    "precision": "precision",
    "layout": "layout",
    "batch": "batch",
    "input_shape_or_seq": "shape",
    "framework": "framework",
    "source": "source",
    "notes": "notes",
}
#: What the rest of a record is called.
_RECORD = ("kind", "name", "unit", "p10", "p90", "n", "machine_id", "when", "tags", "software", "snapshot_sha256")
COLUMNS = (*_STEP_TAGS, "metric", "value", *_RECORD)

#: Unit of a record -> metric of the table; the value stands in SI either way.
METRICS = {"s": "s_per_step", "sample/s": "samples_per_s", "token/s": "tokens_per_s"}
_FROM_METRIC = {
    "s_per_step": ("s", 1.0),
    "ms_per_step": ("s", 1e-3),
    "us_per_step": ("s", 1e-6),
    "samples_per_s": ("sample/s", 1.0),
    "tokens_per_s": ("token/s", 1.0),
}


def is_step(record: Record) -> bool:
    """Whether ``judge`` and ``calibrate`` can use it."""
    return record.unit in METRICS and all(record.tags.get(tag) for tag in ("model", "task", "precision", "device"))


def table_rows(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Records in the columns of the table; numbers as numbers, None where a cell is empty."""
    rows = []
    for record in records:
        row: dict[str, Any] = dict.fromkeys(COLUMNS)
        row.update({key: getattr(record, key) for key in _RECORD[:8] if key != "name"})
        row.update(name=record.name, value=record.value, tags=tags_text(record.tags), software=record.software or None)
        row["snapshot_sha256"] = digest(record.snapshot) if record.snapshot else None
        row["device"] = _cell(record.tags.get("device"))
        if is_step(record):
            row.update({column: _cell(record.tags.get(tag)) for column, tag in _STEP_TAGS.items()})
            row["metric"] = METRICS[record.unit]
        rows.append(row)
    return rows


def _cell(value: Tag | None) -> str | None:
    return None if value is None else str(value)


def csv_text(records: Sequence[Record]) -> str:
    """Records as CSV, numbers with all their digits."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in table_rows(records):
        writer.writerow({key: repr(cell) if isinstance(cell, float) else cell for key, cell in row.items()})
    return stream.getvalue()


def snapshots_file(table: Path) -> Path:
    """Where the machine snapshots of a CSV file lie.

    >>> str(snapshots_file(Path("a/steps.csv")))
    'a/steps.snapshots.jsonl'
    """
    return table.with_suffix(".snapshots.jsonl")


def snapshots_text(records: Iterable[Record]) -> str:
    """One line for each machine snapshot; empty where there is none."""
    found = {digest(record.snapshot): record.snapshot for record in records if record.snapshot}
    return "".join(json.dumps({"sha256": key, "snapshot": text}) + "\n" for key, text in sorted(found.items()))


def parquet_bytes(records: Sequence[Record]) -> bytes:
    """Records as Parquet, with a column for the snapshots.

    Raises:
        MissingExtraError: PyArrow is not installed.
    """
    pa, pq = arrow()
    kinds = dict.fromkeys(COLUMNS, pa.string()) | dict.fromkeys(("value", "p10", "p90"), pa.float64())
    schema = pa.schema([*kinds.items(), ("snapshot", pa.string())]).set(COLUMNS.index("n"), pa.field("n", pa.int64()))
    rows = [{**row, "snapshot": r.snapshot or None} for row, r in zip(table_rows(records), records, strict=True)]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink, compression="zstd")
    return sink.getvalue()


def read_records(path: Path, *, when: str = "") -> tuple[tuple[Record, ...], tuple[Rejected, ...]]:
    """The records of a CSV or Parquet file; rows that cannot be used come back with their reason.

    A table of ``judge`` and ``calibrate`` without the columns of the store counts as steps measured at ``when``.

    Raises:
        InvalidInputError: The file cannot be read or is no such table, or ``when`` is needed and empty.
        MissingExtraError: The file is Parquet and PyArrow is not installed.
    """
    rows = parquet_rows(path, (*COLUMNS, "snapshot")) if path.suffix.lower() in SUFFIXES else _csv_rows(path)
    columns = rows[0].keys() if rows else ()
    if rows and not set(_RECORD[:3]) | {"value", "machine_id", "when", "tags"} <= set(columns):
        return _steps(path, columns, when)
    texts = _snapshots(path) if path.suffix.lower() == ".csv" else {}
    found: list[Record] = []
    left_out: list[Rejected] = []
    for number, row in enumerate(rows, start=1):
        try:
            found.append(_record(row, texts))
        except RigwiseError as error:
            left_out.append(Rejected(where=f"{path.name} row {number}", reason=str(error)))
    return tuple(found), tuple(left_out)


def _csv_rows(path: Path) -> list[dict[str, Any]]:
    text = read_text(path, limit_bytes=LIMIT_BYTES)
    rows: list[dict[str, Any]] = []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
        if len(set(columns)) < len(columns):
            raise InvalidInputError(f"{path}: a column stands twice")
        for cells in reader:
            if not any(cells):
                continue
            if len(cells) != len(columns):
                raise InvalidInputError(
                    f"{path} line {reader.line_num}: {len(cells)} cells under {len(columns)} columns",
                    hint="the file was cut off or is no CSV",
                )
            rows.append({name: cell or None for name, cell in zip(columns, cells, strict=True)})
    except csv.Error as error:
        raise InvalidInputError(f"{path} line {reader.line_num} is no CSV: {error}") from None
    if not rows:
        raise InvalidInputError(f"{path} holds no row under the names of the columns")
    return rows


def _snapshots(table: Path) -> dict[str, str]:
    """The snapshots beside a CSV file, by their checksum; those that do not match it are left away."""
    file = snapshots_file(table)
    if not file.exists():
        return {}
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(file, limit_bytes=LIMIT_BYTES).splitlines(), start=1):
        entry = parse_json(line, f"{file} line {number}")
        text = entry.get("snapshot") if isinstance(entry, dict) else None
        if not isinstance(text, str) or digest(text) != entry.get("sha256"):
            raise InvalidInputError(f"{file} line {number} does not match its checksum", hint="export again")
        found[digest(text)] = text
    return found


def _record(row: Mapping[str, Any], texts: Mapping[str, str]) -> Record:
    words = {key: str(row.get(key) or "") for key in ("kind", "name", "unit", "machine_id", "when", "software")}
    tags = parse_json(str(row.get("tags") or "{}"), "tags")
    if not isinstance(tags, dict):
        raise InvalidInputError("tags is no JSON object")
    return checked(
        Record(
            **words,
            value=_number(row, "value", needed=True) or 0.0,
            p10=_number(row, "p10"),
            p90=_number(row, "p90"),
            n=_whole(row.get("n")),
            snapshot=str(row.get("snapshot") or texts.get(str(row.get("snapshot_sha256")), "")),
            tags=tags,
        )
    )


def _number(row: Mapping[str, Any], key: str, *, needed: bool = False) -> float | None:
    cell = row.get(key)
    if cell is None and not needed:
        return None
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InvalidInputError(f"{key} is {str(cell)[:40]!r}, which is no number") from None


def _whole(cell: Any) -> int:
    try:
        return int(cell if cell is not None else 1)
    except (TypeError, ValueError):
        raise InvalidInputError(f"n is {str(cell)[:40]!r}, which is no whole number") from None


def _steps(path: Path, columns: Iterable[str], when: str) -> tuple[tuple[Record, ...], tuple[Rejected, ...]]:
    """A table without the columns of the store."""
    missing = [name for name in REQUIRED if name not in columns]
    if missing or path.suffix.lower() != ".csv":
        raise InvalidInputError(
            f"{path} is no table of measurements: no column {', '.join(missing) or 'kind'}",
            hint="rigwise history export writes one",
        )
    if not when:
        raise InvalidInputError(f"{path} does not say when it was measured", hint="--when 2026-11-21 says it")
    rows, left_out = read_tables([path])
    return tuple(checked(step_record(row, when=when)) for row in rows), left_out


def step_record(row: Measurement, *, when: str, machine_id: str = "", n: int = 1) -> Record:
    """A row of a table of ``judge`` and ``calibrate`` as a record; its machine is its source, unless one is named."""
    unit, scale = _FROM_METRIC[row.metric]
    cells: dict[str, Tag] = {"device": row.device, "device_variant": row.device_variant, "count": row.count}
    cells |= {"model": row.model, "task": row.task, "precision": row.precision, "layout": row.layout}
    cells |= {"batch": row.batch or "", "shape": row.shape, "framework": row.framework}
    cells |= {"source": row.source, "notes": row.notes}
    return Record(
        kind="step",
        name=f"step.{row.model}.{row.task}",
        value=row.value * scale,
        unit=unit,
        n=n,
        machine_id=machine_id or f"table:{row.source}"[:200],
        when=when,
        tags={key: value for key, value in cells.items() if value != ""},
    )
