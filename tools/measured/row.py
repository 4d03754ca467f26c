"""Rows of the tables that ``tools/fetch_measured.py`` writes, in the columns of docs/reference/measurements.md."""

from __future__ import annotations

COLUMNS = (
    "source", "repo_path", "device", "device_variant", "count", "model", "task", "precision", "layout", "batch",
    "input_shape_or_seq", "framework", "metric", "value", "notes",
)  # fmt: skip

Row = dict[str, str]


def number(value: float) -> str:
    """Six digits, as the tables write values."""
    return f"{value:.6g}"
