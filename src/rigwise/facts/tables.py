"""Rows of ``offers.csv`` and ``parts.csv`` as the fields of our dataclasses, in SI units. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from rigwise.errors import InvalidInputError
from rigwise.units import GB, GIB, HOUR_S

#: Column of ``offers.csv`` -> field of ``Offer`` and factor to SI; None for text.
OFFER_COLUMNS: Mapping[str, tuple[str, float | None]] = {
    "provider": ("provider", None),
    "instance": ("instance", None),
    "region": ("region", None),
    "device": ("device", None),
    "accelerator": ("accelerator", None),
    "accel_count": ("accel_count", 1),
    "accel_memory_gib": ("accel_memory_bytes", GIB),
    "vcpus": ("vcpus", 1),
    "memory_gib": ("memory_bytes", GIB),
    "disk_gib": ("disk_bytes", GIB),
    "link": ("link", None),
    "inter_node_gbps": ("inter_node_bytes_per_s", 1e9 / 8),
    "price_usd_h": ("price_usd_h", 1),
    "spot_price_usd_h": ("spot_price_usd_h", 1),
    "session_cap_h": ("session_cap_s", HOUR_S),
    "weekly_quota_h": ("weekly_quota_s", HOUR_S),
    "term_h": ("term_s", HOUR_S),
    "as_of": ("as_of", None),
    "source": ("source", None),
}

#: The same for ``parts.csv`` and ``Part``; ``detail`` is ``key=value;key=value``.
PART_COLUMNS: Mapping[str, tuple[str, float | None]] = {
    "category": ("category", None),
    "name": ("name", None),
    "device": ("device", None),
    "launch": ("launch", None),
    "launch_price_usd": ("launch_price_usd", 1),
    "street_low_usd": ("street_low_usd", 1),
    "street_median_usd": ("street_median_usd", 1),
    "street_samples": ("street_samples", 1),
    "as_of": ("as_of", None),
    "tdp_w": ("tdp_w", 1),
    "slots": ("slots", 1),
    "length_mm": ("length_m", 1e-3),
    "recommended_psu_w": ("recommended_psu_w", 1),
    "power_connectors": ("power_connectors", None),
    "memory_gib": ("memory_bytes", GIB),
    "memory_gbs": ("memory_bytes_per_s", GB),
    "bus": ("bus", None),
    "detail": ("detail", None),
    "source": ("source", None),
}

_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}$")


def _number(text: str, factor: float, where: str) -> float | None:
    """A cell in SI units; whole numbers stay whole, an empty cell is None."""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value >= 0):
        raise InvalidInputError(f"{where} is {text!r}, not a number of 0 or more")
    value *= factor
    return int(value) if value.is_integer() else value


def _fields(row: Mapping[str, str], columns: Mapping[str, tuple[str, float | None]], where: str) -> dict[str, Any]:
    return {
        name: row[column] if factor is None else _number(row[column], factor, f"{where}: {column}")
        for column, (name, factor) in columns.items()
    }


def _check_date(text: str, where: str) -> None:
    if text and not _DATE.match(text):
        raise InvalidInputError(f"{where}: as_of is {text!r}, not YYYY-MM-DD")


def offer_fields(row: Mapping[str, str], where: str) -> dict[str, Any]:
    """The fields of one ``Offer``.

    Raises:
        InvalidInputError: A cell that is no number, no date or no source; the message names line and column.
    """
    plain = _fields(row, OFFER_COLUMNS, where)
    _check_date(plain["as_of"], where)
    if not plain["source"]:
        raise InvalidInputError(f"{where}: source is empty", hint="every fact names where it was read")
    return plain


def part_fields(row: Mapping[str, str], where: str) -> dict[str, Any]:
    """The fields of one ``Part``; same errors as ``offer_fields``."""
    plain = _fields(row, PART_COLUMNS, where)
    _check_date(plain["as_of"], where)
    if not plain["source"]:
        raise InvalidInputError(f"{where}: source is empty", hint="every fact names where it was read")
    pairs = [item.partition("=") for item in row["detail"].split(";") if item]
    plain["detail"] = {key: value for key, _, value in pairs}
    return plain
