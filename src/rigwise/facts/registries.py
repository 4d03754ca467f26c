"""Where files that rigwise fetches are published: ``data/registries.toml``."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from rigwise.edge import parse, parse_toml, read_text

FILE = Path(__file__).parent / "data" / "registries.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Where a price catalogue is published.

    Attributes:
        source, date, licence: Where the addresses were read, when, and the terms.
        url: Of one file; ``{name}`` is its provider, ``{version}`` the text at ``version_url``.
        names: Providers.
        fallback_url: The same files elsewhere, asked when ``url`` refuses.
        version_url: Where the newest version is named; empty where there is one only.
        checksum_suffix: What to add to an address for the SHA-256 of its file; empty where none is published.
        etag_is_md5: Whether the server's ETag is the MD5 of the file.
        sha256: Of single files, by name, where it is known beforehand.
    """

    source: str
    date: str
    licence: str
    url: str
    names: tuple[str, ...]
    fallback_url: str = ""
    version_url: str = ""
    checksum_suffix: str = ""
    etag_is_md5: bool = False
    sha256: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelIndex:
    """Where a framework's maker publishes builds beside the default index; ``{tag}`` in the address is the build's."""

    source: str
    date: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """A channel of conda packages, by its name or address."""

    source: str
    date: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Registries:
    """``registries.toml``."""

    catalogues: dict[str, Catalogue]
    wheels: dict[str, WheelIndex] = field(default_factory=dict)
    channels: dict[str, Channel] = field(default_factory=dict)


@cache
def registries(path: Path = FILE) -> Registries:
    """Every place, checked.

    Raises:
        InvalidInputError: The file cannot be used.
    """
    return parse(parse_toml(read_text(path), path.name), Registries, path.name)
