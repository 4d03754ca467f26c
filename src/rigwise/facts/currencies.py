"""What money of other countries is worth: dated rates, and how amounts are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from rigwise.edge import parse, parse_toml, read_text
from rigwise.facts.catalogue import DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class RateTable:
    """Rates of one day from one source.

    Attributes:
        base: The currency whose unit is worth ``rates[code]`` units of each other one.
        as_of, source: The day, and where the rates were read.
        rates: By ISO 4217 code.
    """

    base: str
    as_of: str
    source: str
    rates: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencyFile:
    """``currencies.toml``: tables of rates, signs, and signs that several currencies share."""

    tables: tuple[RateTable, ...]
    signs: Mapping[str, str]
    unclear: Mapping[str, tuple[str, ...]]


@cache
def currency_file() -> CurrencyFile:
    """The rates and signs in the package."""
    path = DATA / "currencies.toml"
    return parse(parse_toml(read_text(path), path.name), CurrencyFile, path.name)
