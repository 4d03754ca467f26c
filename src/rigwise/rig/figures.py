"""The figures of the rules: ``facts/data/rig_rules.toml`` and ``facts/data/builds``, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from rigwise.edge import parse, parse_toml, read_text
from rigwise.errors import UnknownNameError, near_matches
from rigwise.facts.catalogue import DATA, cited

_FILE = DATA / "rig_rules.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of a rule, in ``unit``. ``basis`` is ``assumed`` for a rule of thumb."""

    value: float
    unit: str
    what: str
    source: tuple[str, ...]
    basis: str = "published"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connector:
    """A power cable: what it delivers, and by how many 8-pin cables it can be replaced (0: by its watts)."""

    power_w: float
    eight_pins: int
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """What follows from a CPU socket."""

    architectures: tuple[str, ...]
    memory: tuple[str, ...]
    card_lanes: int
    pcie_generation: int
    source: tuple[str, ...]
    turbo_frac: float | None = None  # most sustained power over TDP


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardForm:
    """What follows from the form of a board."""

    slots: int
    source: tuple[str, ...]
    dimms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseForm:
    """What follows from the form of a case."""

    slots: int
    boards: tuple[str, ...]
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveForm:
    """What follows from the interface of a drive."""

    read_bytes_per_s: float
    source: tuple[str, ...]
    random_reads_per_s: float | None = None
    is_ceiling: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Mains:
    """One circuit of a home: what its breaker lets through, and the share of that for hours."""

    breaker_w: float
    continuous_frac: float
    source: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """All of ``rig_rules.toml``."""

    figures: Mapping[str, Figure]
    connectors: Mapping[str, Connector]
    sockets: Mapping[str, Socket]
    turbo_w: Mapping[str, float]
    boards: Mapping[str, BoardForm]
    cases: Mapping[str, CaseForm]
    drives: Mapping[str, DriveForm]
    coolers_w: Mapping[str, float]
    efficiency_frac: Mapping[str, float]
    mains: Mapping[str, Mains]
    sources: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@cache
def figures() -> Figures:
    """Every figure of the rules."""
    return parse(parse_toml(read_text(_FILE), _FILE.name), Figures, _FILE.name)


def value(name: str) -> float:
    """One figure of a rule.

    >>> value("memory-per-vram")
    2.0
    """
    return figures().figures[name].value


def source(*names: str) -> tuple[str, ...]:
    """Where figures of rules come from, in full; those that are rules of thumb say so.

    >>> source("slot-power")[0].endswith("12 V x 5.5 A + 3.3 V x 3 A")
    True
    """
    found = []
    for name in names:
        figure = figures().figures[name]
        note = " (a rule of thumb)" if figure.basis == "assumed" else ""
        found += [text + note for row in figure.source for text in cited(row)]
    return tuple(dict.fromkeys(found))


def mains(name: str) -> Mains:
    """The circuit of this name.

    Raises:
        UnknownNameError: There is none; the message lists them.
    """
    known = figures().mains
    if name not in known:
        close = near_matches(name, known) or f"known: {', '.join(known)}"
        raise UnknownNameError(f"there is no mains {name!r}", hint=close)
    return known[name]


@cache
def prebuilt_names() -> tuple[str, ...]:
    """Machines sold whole whose limits are known."""
    return tuple(sorted(file.stem for file in (DATA / "builds").glob("*.toml")))


def prebuilt_text(name: str) -> str:
    """The file of a machine sold whole.

    Raises:
        UnknownNameError: There is none; the message lists them.
    """
    if name not in prebuilt_names():
        close = near_matches(name, prebuilt_names()) or f"known: {', '.join(prebuilt_names())}"
        raise UnknownNameError(f"there is no prebuilt machine {name!r}", hint=close)
    return read_text(DATA / "builds" / f"{name}.toml")
