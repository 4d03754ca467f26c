"""``offers refresh``: published price catalogues, downloaded and imported.

Each provider's file is a download and an import of its own: one that fails is reported, and what was
imported of it before stays. Addresses are data, in ``facts/data/registries.toml``.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path

from rigwise.errors import InvalidInputError, RigwiseError, RunError, near_matches
from rigwise.facts import offer_store
from rigwise.facts.imports import take
from rigwise.facts.offer_store import Import
from rigwise.facts.registries import Catalogue
from rigwise.market.download import Checks, Limits, RefusedError, UnreachableError, check_address, download, text_at

_VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to refresh.

    Attributes:
        kind: ``skypilot`` or ``gpuhunt``.
        catalogue: Where it is published.
        names: Providers; empty for all.
        mirror: Another server with the same paths, empty for none.
        force: Whether to take files with far fewer offers than before.
    """

    kind: str
    catalogue: Catalogue
    names: Sequence[str] = ()
    mirror: str = ""
    force: bool = False


def refresh(
    wish: Wish, today: date, progress: Callable[[str, int], None], limits: Limits = _NO_LIMITS
) -> tuple[list[Import], dict[str, RigwiseError]]:
    """Download and import each file; what was imported, and why the others were not, by name.

    Args:
        wish: What to refresh.
        today: The day of the prices.
        progress: Told a name and how many of its bytes are there.
        limits: How much a file may take.

    Raises:
        InvalidInputError: A provider that the catalogue does not have, or no place to keep anything.
        RunError: The server cannot be reached.
    """
    names = tuple(wish.names) or wish.catalogue.names
    for name in names:
        if name not in wish.catalogue.names:
            close = near_matches(name, wish.catalogue.names) or f"it has {', '.join(wish.catalogue.names)}"
            raise InvalidInputError(f"{wish.kind} publishes no {name!r}", hint=close)
    if wish.mirror:
        try:
            check_address(wish.mirror, asked_for=True)
        except RunError:
            raise InvalidInputError(f"--mirror {wish.mirror!r} is no address", hint="http://HOST:PORT") from None
    folder = offer_store.writable_folder() / "downloads" / wish.kind
    done: list[Import] = []
    failed: dict[str, RigwiseError] = {}
    for name in names:
        try:
            done.append(_refresh_one(wish, name, folder / name, (today, progress, limits)))
        except UnreachableError as error:
            if not done:  # nor will the others be
                raise RunError(error.message, hint="what was imported before stays") from None
            failed[name] = error
        except RigwiseError as error:
            failed[name] = error
        except OSError as error:
            failed[name] = RunError(f"{name} cannot be kept: {error.strerror or error}")
    return done, failed


_Setting = tuple[date, Callable[[str, int], None], Limits]


def _refresh_one(wish: Wish, name: str, folder: Path, setting: _Setting) -> Import:
    today, _, _ = setting
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / Path(urllib.parse.urlsplit(wish.catalogue.url).path).name
    url, day = _fetch(wish, name, target, setting)
    if day is not None and abs(day - today) > timedelta(days=1):
        raise RunError(f"this machine's clock says {today}, the server's {day}", hint="set the clock")
    try:
        reading = replace(take.read(wish.kind, name, target, today.isoformat()), origin=url)
        about, offers = take.take(reading, take.Day(as_of=today.isoformat(), by=take.DOWNLOAD), today)
        take.keep(about, offers, force=wish.force)
    except RigwiseError as error:  # the file is gone in a moment, the address stays
        raise RunError(error.message.replace(str(target), url), hint=error.hint) from None
    finally:
        target.unlink(missing_ok=True)
    return about


def _fetch(wish: Wish, name: str, target: Path, setting: _Setting) -> tuple[str, date | None]:
    """Download a file from where it is, or from the second place if the first refuses."""
    places = [url for url in (wish.catalogue.url, wish.catalogue.fallback_url) if url]
    for place in places[:-1]:
        try:
            return _fetch_from(place, wish, name, target, setting)
        except RefusedError:
            continue
    return _fetch_from(places[-1], wish, name, target, setting)


def _fetch_from(place: str, wish: Wish, name: str, target: Path, setting: _Setting) -> tuple[str, date | None]:
    _, progress, limits = setting
    version = ""
    if wish.catalogue.version_url:
        version = text_at(_address(wish, wish.catalogue.version_url.format(name=name)), limits)
        if not _VERSION.fullmatch(version):
            raise RunError(f"the version of {name} is {version[:40]!r}, which is none")
    url = _address(wish, place.format(name=name, version=version))
    sha256 = wish.catalogue.sha256.get(name, "")
    if wish.catalogue.checksum_suffix:
        published = text_at(url + wish.catalogue.checksum_suffix, limits).lower()
        sha256 = published.split()[0] if published else ""
        if not _SHA256.fullmatch(sha256):
            raise RunError(f"the checksum published for {url} is none")
    checks = Checks(sha256=sha256, etag_is_md5=wish.catalogue.etag_is_md5)
    return url, download(url, target, checks, limits, lambda arrived: progress(name, arrived))


def _address(wish: Wish, url: str) -> str:
    """The address, on the mirror under the same path."""
    if wish.mirror:
        return wish.mirror.rstrip("/") + urllib.parse.urlsplit(url).path
    check_address(url)
    return url
