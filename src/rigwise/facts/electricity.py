"""What a kilowatt-hour costs and how much carbon dioxide it stands for, country by country and grid by grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import InvalidInputError, MissingFactError, UnknownNameError, near_matches
from rigwise.facts.catalogue import DATA

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A network of electricity: that of a country as a whole, or one of several in it.

    Attributes:
        name: Of the country or the place.
        g_per_kwh: Carbon dioxide equivalents of a kilowatt-hour, in grams.
        scope: ``operation`` of the plants, or their ``whole life``: the two are not the same figure.
        year: Of the electricity.
        source: Where the figure was read.
    """

    name: str
    g_per_kwh: float
    scope: str
    year: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """A country: its average grid, and what households pay where that is known.

    Attributes:
        name, g_per_kwh, scope, year, source: Of its grid, as in ``Grid``.
        words: What regions of providers call it, in lower case.
        price_per_kwh, currency: What households pay, taxes included; None and empty for not known.
        price_as_of, price_source: Date of the price, and where it was read.
    """

    name: str
    words: tuple[str, ...]
    g_per_kwh: float
    scope: str
    year: int
    source: str
    price_per_kwh: float | None = None
    currency: str = ""
    price_as_of: str = ""
    price_source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pue:
    """Power usage effectiveness: power of the building over power of its computers."""

    ratio: float
    as_of: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Efficiency:
    source: str
    as_of: str
    at_half_load_frac: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    psu_efficiency: _Efficiency
    pue: Mapping[str, Pue]
    countries: Mapping[str, Country]
    grids: Mapping[str, Grid]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Regions:
    source: str
    as_of: str
    code_first: tuple[str, ...] = ()
    code_last_but_one: tuple[str, ...] = ()
    regions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def _read(name: str, kind: type[T]) -> T:
    path = DATA / name
    return parse(parse_toml(read_text(path), name), kind, name)


@cache
def _electricity() -> _File:
    file = _read("electricity.toml", _File)
    for name, frac in file.psu_efficiency.at_half_load_frac.items():
        if not 0 < frac <= 1:
            raise InvalidInputError(f"electricity.toml: psu_efficiency.at_half_load_frac.{name} is {frac:g}")
    return file


@cache
def _regions() -> _Regions:
    return _read("regions.toml", _Regions)


def countries() -> Mapping[str, Country]:
    """Every country with a figure, by its ISO 3166-1 code."""
    return _electricity().countries


def grids() -> Mapping[str, Grid]:
    """Every grid that is a part of a country, by its ISO 3166-2 code."""
    return _electricity().grids


def country(name: str) -> Country:
    """The country of a code or a name.

    Raises:
        UnknownNameError: We have no figures for it; the message lists near matches.

    >>> country("de").name, country("United States").currency
    ('Germany', 'USD')
    """
    known = countries()
    if name.upper() in known:
        return known[name.upper()]
    for row in known.values():
        if name.lower() in row.words:
            return row
    words = [word for row in known.values() for word in row.words]
    raise UnknownNameError(
        f"no electricity is known for the country {name!r}",
        hint=near_matches(name, words) or "use an ISO 3166 code, US or DE say, or give your own price",
    )


def priced_country(name: str) -> Country:
    """A country whose price of electricity is known.

    Raises:
        UnknownNameError: As ``country``.
        MissingFactError: Its price is not known.

    >>> priced_country("DE").price_per_kwh
    0.3835
    """
    row = country(name)
    if row.price_per_kwh is None:
        raise MissingFactError(
            f"no sourced price of electricity is known for {row.name}", hint="give your own, in dollars for a kWh"
        )
    return row


def psu_efficiency_frac(label: str) -> float | None:
    """Least efficiency at half load that an 80 PLUS label asks for, None for no such label.

    Source: see the data file.

    >>> psu_efficiency_frac("gold"), psu_efficiency_frac("none")
    (0.9, None)
    """
    return _electricity().psu_efficiency.at_half_load_frac.get(label.lower())


def pue_of(provider: str) -> Pue:
    """The power usage effectiveness of a provider, the average of a survey if it publishes none.

    >>> pue_of("aws").ratio, pue_of("nobody").ratio
    (1.15, 1.56)
    """
    table = _electricity().pue
    return table.get(provider.lower(), table["average"])


@cache
def grid_code(provider: str, region: str) -> str:
    """Where a region of a provider lies: a grid or a country by its code, empty if nobody says.

    A region outside the table is looked for by the country that its name contains.

    >>> grid_code("gcp", "us-central1"), grid_code("hyperstack", "montreal-canada-2"), grid_code("salad", "")
    ('US-IA', 'CA', '')
    >>> grid_code("vast", "Romania RO EU"), grid_code("verda", "FIN-03"), grid_code("cudo", "no-kristiansand-1")
    ('RO', 'FI', 'NO')
    """
    table, name = _regions(), provider.lower()
    of_provider = {key.lower(): code for key, code in table.regions.get(name, {}).items()}
    if region.lower() in of_provider:
        return of_provider[region.lower()]
    tokens = region.lower().replace("-", " ").replace("_", " ").split()
    if not tokens:
        return ""
    coded = ""
    if name in table.code_first:
        coded = tokens[0].upper()
    elif name in table.code_last_but_one and len(tokens) > 1:
        coded = tokens[-2].upper()
    if coded in countries():
        return coded
    text = f" {' '.join(tokens)} "
    return next((code for code, row in countries().items() if any(f" {word} " in text for word in row.words)), "")


def country_code(provider: str, region: str) -> str:
    """The country a region of a provider lies in, by its ISO 3166-1 code; empty if nobody says.

    >>> country_code("gcp", "us-central1"), country_code("runpod", "")
    ('US', '')
    """
    return grid_code(provider, region).partition("-")[0]


def grid(code: str) -> Grid | None:
    """The grid of a code that ``grid_code`` gave, None if we have no figure.

    >>> grid("US-IA").g_per_kwh, grid("FR").g_per_kwh, grid("")
    (431.95, 15.83, None)
    """
    if code in grids():
        return grids()[code]
    row = countries().get(code.partition("-")[0])
    if row is None:
        return None
    return Grid(name=row.name, g_per_kwh=row.g_per_kwh, scope=row.scope, year=row.year, source=row.source)
