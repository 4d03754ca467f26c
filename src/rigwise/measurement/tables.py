"""Tables of measurements: CSV or Parquet files in the columns that docs/reference/measurements.md lists.

A row that cannot mean anything is named and left out, and so is a file that is no such table:
one slip must not cost the other rows.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from rigwise.edge import read_text
from rigwise.errors import InvalidInputError, RigwiseError, near_matches
from rigwise.measurement.measurement import METRICS, Measurement, Rejected, spread_frac
from rigwise.measurement.parquet import SUFFIXES, parquet_rows

REQUIRED = ("device", "model", "task", "precision", "batch", "metric", "value")
OPTIONAL = ("source", "device_variant", "count", "layout", "input_shape_or_seq", "framework", "notes", "p10", "p90")

#: Of a profiler's files; those are no tables.
_PROFILES = (".json", ".gz", ".sqlite")
#: No time of a step, and no rate, lies outside.
_LEAST, _MOST = 1e-9, 1e15
_LARGEST_COUNT = 10**9


def read_tables(paths: Sequence[Path]) -> tuple[tuple[Measurement, ...], tuple[Rejected, ...]]:
    """Every row of the given files and of all CSV and Parquet files in the given folders.

    Rows that cannot be used, and files that are no such table, come back as ``Rejected``.

    Raises:
        InvalidInputError: A path does not exist, or a folder holds no table.
    """
    rows: list[Measurement] = []
    left_out: list[Rejected] = []
    for file in _files(paths):
        for row in _rows(file):
            (rows if isinstance(row, Measurement) else left_out).append(row)  # type: ignore[arg-type]
    return tuple(rows), tuple(left_out)


def _files(paths: Sequence[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        if os.path.isdir(path):
            inside = sorted(file for file in path.iterdir() if file.suffix.lower() in (".csv", *SUFFIXES))
            if not inside:
                raise InvalidInputError(f"the folder {path} holds no .csv file")
            found.update(dict.fromkeys(inside))
        elif os.path.exists(path):
            found[path] = None
        else:
            raise InvalidInputError(f"there is no file or folder {path}")
    return list(found)


def _rows(file: Path) -> Iterator[Measurement | Rejected]:
    """Rows of one file; a fault of the file itself ends it."""
    if file.suffix.lower() in SUFFIXES:
        yield from _parquet(file)
        return
    try:
        text = _text(file)
    except InvalidInputError as error:
        yield Rejected(where=file.name, reason=error.message)
        return
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: list[str] = []
    count = 0
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Rejected(where=f"{file.name} line {reader.line_num}", reason=f"no CSV from here on: {error}")
            return
        if cells is None:
            if not count:
                yield Rejected(where=file.name, reason="no row under the names of the columns")
            return
        where = f"{file.name} line {reader.line_num}"
        if not columns:
            columns = [cell.strip() for cell in cells]
            if fault := _fault_of_header(columns):
                yield Rejected(where=where, reason=fault)
                return
        elif any(cell.strip() for cell in cells):
            count += 1
            yield _row(columns, cells, where, file.stem)


def _text(file: Path) -> str:
    """The text of a table.

    Raises:
        InvalidInputError: It cannot be read, or is what a profiler wrote.
    """
    if file.suffix.lower() in _PROFILES:
        raise InvalidInputError("no table; of a profiler's file, rigwise trace --to-rows makes one")
    return read_text(file)


def _parquet(file: Path) -> Iterator[Measurement | Rejected]:
    try:
        rows = parquet_rows(file, (*REQUIRED, *OPTIONAL))
    except RigwiseError as error:
        yield Rejected(where=file.name, reason=str(error))
        return
    if fault := _fault_of_header(list(rows[0])):
        yield Rejected(where=file.name, reason=fault)
        return
    for number, row in enumerate(rows, start=1):
        cells = ["" if cell is None else str(cell).strip() for cell in row.values()]
        yield _row(list(row), cells, f"{file.name} row {number}", file.stem)


def _fault_of_header(columns: list[str]) -> str:
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        close = near_matches(missing[0], columns)
        return f"no column {', '.join(missing)}" + (f"; {close}" if close else "")
    twice = [name for name in (*REQUIRED, *OPTIONAL) if columns.count(name) > 1]
    return f"column {twice[0]} stands twice" if twice else ""


def _row(columns: list[str], cells: list[str], where: str, stem: str) -> Measurement | Rejected:
    if len(cells) != len(columns):
        return Rejected(where=where, reason=f"{len(cells)} cells under {len(columns)} columns")
    row = dict(zip(columns, (cell.strip() for cell in cells), strict=True))
    try:
        return _measurement(row, where, stem)
    except InvalidInputError as error:
        return Rejected(where=where, reason=str(error))


def _measurement(row: dict[str, str], where: str, stem: str) -> Measurement:
    for name in ("device", "model", "task", "precision", "metric", "value"):
        if not row[name]:
            raise InvalidInputError(f"{name} is empty")
    if row["metric"] not in METRICS:
        raise InvalidInputError(f"metric is {_short(row['metric'])}", hint=f"one of: {', '.join(METRICS)}")
    return Measurement(
        source=row.get("source") or stem,
        device=row["device"],
        device_variant=row.get("device_variant", ""),
        count=_whole(row.get("count") or "1", "count"),
        model=row["model"],
        task=row["task"].lower(),
        precision=row["precision"],
        layout=row.get("layout", "").lower(),
        batch=_whole(row["batch"], "batch") if row["batch"] else None,
        shape=row.get("input_shape_or_seq", ""),
        framework=row.get("framework", ""),
        metric=row["metric"],
        value=_value(row["value"]),
        notes=row.get("notes", ""),
        where=where,
        spread_frac=spread_frac(*(_value(row[edge]) if row.get(edge) else None for edge in ("p10", "p90"))),
    )


def _whole(text: str, name: str) -> int:
    """A whole number of at least 1; spreadsheets write 16 as 16.0."""
    try:
        number = float(text)
    except ValueError:
        raise InvalidInputError(f"{name} is {_short(text)}, which is no number") from None
    if not (1 <= number <= _LARGEST_COUNT and number == int(number)):
        raise InvalidInputError(f"{name} is {_short(text)}", hint=f"{name} is a whole number of at least 1")
    return int(number)


def _value(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InvalidInputError(f"value is {_short(text)}, which is no number") from None
    if not math.isfinite(value) or value <= 0:
        raise InvalidInputError(f"value is {_short(text)}", hint="a time or rate is above 0 and finite")
    if not _LEAST <= value <= _MOST:
        raise InvalidInputError(f"value is {_short(text)}, which no device can have taken")
    return value


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
