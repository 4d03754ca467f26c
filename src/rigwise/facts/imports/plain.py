"""A table of a user's own: the columns of ``offers.csv``, most of which may be left out.

    provider,instance,region,accelerator,accel_count,price_usd_h
    campus,dgx-1,basement,A100-SXM4-80GB,8,12.50

Source: ``docs/reference/offers.md``, which lists the columns.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rigwise.edge import read_bytes
from rigwise.errors import InvalidInputError, RigwiseError, near_matches
from rigwise.facts.catalogue import device
from rigwise.facts.imports.devices import sold
from rigwise.facts.imports.reading import Reading, blank_offer, is_date, number, table
from rigwise.facts.offer import Offer
from rigwise.facts.tables import OFFER_COLUMNS

KIND = "csv"
REQUIRED = ("provider", "accel_count")
#: Their cells may hold dirt, which ``lint`` names.
_PRICES = frozenset(("price_usd_h", "spot_price_usd_h"))
_COLUMNS: Mapping[str, tuple[str, float | None]] = {**OFFER_COLUMNS, "zone": ("zone", None)}


def read(path: Path, name: str, as_of: str) -> Reading:
    """The offers of a table.

    Args:
        path: The table.
        name: Of the import that it makes.
        as_of: The date of the prices in rows without one.

    Raises:
        InvalidInputError: An unknown column, none for the device or the price, or a cell that is no figure, no date
            or no device; the message names the line.
    """
    content = read_bytes(path)
    rows = list(table(content, str(path), REQUIRED))
    if rows:
        _check_columns(rows[0][1], str(path))
    blank = replace(blank_offer(""), as_of=as_of, source=f"imported {KIND} {path.name}")
    offers = tuple(_offer(row, blank, f"{path}: line {line}") for line, row in rows)
    return Reading(
        name=f"{KIND}.{name}", kind=KIND, origin=str(path), content=content, offers=offers, read=len(rows),
        excluded=Counter(),
    )  # fmt: skip


def _check_columns(row: Mapping[str, str], where: str) -> None:
    for column in row:
        if column not in _COLUMNS:
            close = near_matches(column, _COLUMNS) or f"the columns are {', '.join(_COLUMNS)}"
            raise InvalidInputError(f"{where}: unknown column {column!r}", hint=close)
    for either in (("accelerator", "device"), ("price_usd_h", "spot_price_usd_h")):
        if not any(column in row for column in either):
            raise InvalidInputError(f"{where} has neither a column {either[0]!r} nor {either[1]!r}")


def _offer(row: Mapping[str, str], blank: Offer, where: str) -> Offer:
    given: dict[str, Any] = {}
    for column, cell in row.items():
        field, factor = _COLUMNS[column]
        given[field] = cell.strip() if factor is None else _figure(cell, factor, column, where)
    if not given["provider"]:
        raise InvalidInputError(f"{where}: provider is empty")
    given["provider"] = given["provider"].lower()
    if given.get("as_of") and not is_date(given["as_of"]):
        raise InvalidInputError(f"{where}: as_of is {given['as_of']!r}, not a day as YYYY-MM-DD")
    given = {field: value for field, value in given.items() if value != ""}
    offer = replace(blank, **given)
    if offer.device:
        known = "|".join(_known(name, where) for name in offer.device.split("|"))
        return replace(offer, device=known, accelerator=offer.accelerator or offer.device)
    held = sold(offer.provider, offer.instance, offer.accelerator, offer.accel_count, offer.accel_memory_bytes)
    rate = offer.inter_node_bytes_per_s
    return replace(
        offer,
        device=held.device,
        accel_count=held.accel_count,
        link=offer.link or held.link,
        inter_node_bytes_per_s=held.inter_node_bytes_per_s if rate is None else rate,
    )


def _known(name: str, where: str) -> str:
    try:
        return device(name).id
    except RigwiseError as error:
        raise type(error)(f"{where}: {error.message}", hint=error.hint) from None


def _figure(cell: str, factor: float, column: str, where: str) -> float | None:
    value = number(cell)
    if value is None or column in _PRICES:
        return value
    if math.isnan(value) or value < 0:
        raise InvalidInputError(f"{where}: {column} is {cell!r}, not a number of 0 or more")
    scaled = value * factor
    return int(scaled) if float(scaled).is_integer() else scaled
