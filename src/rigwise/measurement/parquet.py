"""Parquet files as rows of plain values."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from rigwise.edge import read_bytes
from rigwise.errors import InvalidInputError, MissingExtraError

SUFFIXES = (".parquet", ".pq")

#: No table of measurements is larger, packed or unpacked.
LIMIT_BYTES, _MOST_ROWS = 2**30, 5_000_000


def arrow() -> tuple[Any, Any]:
    """PyArrow and its Parquet module.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("PyArrow", "parquet") from None
    return pyarrow, pyarrow.parquet


def parquet_rows(path: Path, columns: Collection[str]) -> list[dict[str, Any]]:
    """The rows of a file, of those columns that it has; an empty cell is None.

    Raises:
        InvalidInputError: It cannot be read, is no Parquet file, too large, or has no row.
        MissingExtraError: PyArrow is not installed.
    """
    pa, pq = arrow()
    content = read_bytes(path, limit_bytes=LIMIT_BYTES)
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        groups = [file.metadata.row_group(place) for place in range(file.metadata.num_row_groups)]
        if file.metadata.num_rows > _MOST_ROWS or sum(group.total_byte_size for group in groups) > LIMIT_BYTES:
            raise InvalidInputError(f"{path} holds {file.metadata.num_rows:,} rows, more than is read")
        wanted = [name for name in file.schema_arrow.names if name in columns]
        rows: list[dict[str, Any]] = file.read(columns=wanted).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InvalidInputError(f"{path} is no Parquet file: {' '.join(str(error).split())[:120]}") from None
    if not rows:
        raise InvalidInputError(f"{path} holds no row")
    return rows
