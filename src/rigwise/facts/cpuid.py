"""Microarchitecture of a CPU from the numbers it gives of itself, and what its relatives in the catalogue share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from rigwise.edge import parse, parse_toml, read_text
from rigwise.facts.catalogue import DATA, cpus
from rigwise.facts.cpu import Cpu


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """CPUs of one microarchitecture.

    Attributes:
        family: As the CPU states it.
        models: Every model; with ``range`` the first and the last.
        steppings: First and last; absent for all.
        architecture: As the catalogue spells it.
    """

    family: int
    models: tuple[int, ...]
    architecture: str
    steppings: tuple[int, int] | None = None
    range: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """The rows of one maker and where they were read."""

    source: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    as_of: str
    vendors: Mapping[str, Vendor]


@cache
def vendors() -> Mapping[str, Vendor]:
    """The table, by the maker's name as its CPUs state it."""
    path = DATA / "cpuid.toml"
    return parse(parse_toml(read_text(path), path.name), _File, path.name).vendors


def architecture_of(vendor: str, family: int, model: int, stepping: int = 0) -> str:
    """The microarchitecture, empty where the table has none.

    >>> architecture_of("AuthenticAMD", 26, 2), architecture_of("GenuineIntel", 6, 85, 7)
    ('Zen 5', 'Cascade Lake')
    """
    for row in vendors()[vendor].rows if vendor in vendors() else ():
        first, last = row.models[0], row.models[-1]
        is_model = first <= model <= last if row.range else model in row.models
        low, high = row.steppings or (0, stepping)
        if row.family == family and is_model and low <= stepping <= high:
            return row.architecture
    return ""


def relative_of(architecture: str, *, is_server: bool) -> Cpu | None:
    """The CPU of this architecture with the most memory bandwidth, one for servers before others or after them.

    Its vector width and its memory stand for those of a CPU that hides its name: width is the same for all, and the
    most bandwidth and the highest clock of all keep a lower bound of time a bound. Its counts are its own and left out.
    """
    known = [one for one in cpus() if one.architecture == architecture]
    if not known:
        return None
    best = max(known, key=lambda one: ((one.segment == "server") == is_server, one.memory_bytes_per_s or 0.0))
    highest = max((one.max_hz or 0.0 for one in known if one.segment == best.segment), default=0.0) or None
    return replace(
        best, cores=None, threads=None, base_hz=None, allcore_hz=None, max_hz=highest, tdp_w=None, price_usd=None
    )
