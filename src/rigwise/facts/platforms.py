"""Which board, memory and case go with a processor of ``parts.csv``, and how many cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from rigwise.edge import parse, parse_toml, read_text
from rigwise.facts.catalogue import DATA


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What a processor's architecture needs.

    Attributes:
        board, memory: First word of the names of boards and of memory that fit.
        graphics_lanes: PCIe lanes for cards.
    """

    board: str
    memory: str
    graphics_lanes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A size of board: its slots, how many cards it gives 8 lanes each, and the cases it goes into."""

    slots: int
    cards: int
    cases: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformFile:
    """``platforms.toml``."""

    source: str
    as_of: str
    architectures: Mapping[str, Platform]
    forms: Mapping[str, Form]


@cache
def platform_file() -> PlatformFile:
    """The platforms in the package."""
    path = DATA / "platforms.toml"
    return parse(parse_toml(read_text(path), path.name), PlatformFile, path.name)
