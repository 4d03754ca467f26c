"""From a file of another project to rows that are kept: what is dropped, and of which day its prices are.

Nothing is dropped in silence: every reason is counted. An import that fails leaves the one before it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from rigwise.edge import read_bytes
from rigwise.errors import InvalidInputError
from rigwise.facts import offer_store
from rigwise.facts.catalogue import bundled_offers
from rigwise.facts.imports import gpuhunt, plain, skypilot
from rigwise.facts.imports.reading import Reading, is_date
from rigwise.facts.offer import Offer
from rigwise.facts.offer_store import Import

KINDS = (skypilot.KIND, gpuhunt.KIND, plain.KIND)
GIVEN, FILE, DOWNLOAD = "given", "file", "download"
SAME_ROW = "the same row again"
#: An import with fewer rows than this part of the one before it is taken for a file that was cut off.
SHRINK_FRAC = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """The day of prices that carry none, and how it is known: ``given``, ``file`` or ``download``."""

    as_of: str
    by: str


def day_of(path: Path, given: str, today: date) -> Day:
    """The day that a user gives, else that of the file's last change.

    Raises:
        InvalidInputError: It is no day or one to come, or this machine's clock cannot be right.
    """
    newest = max((offer.as_of for offer in bundled_offers()), default="")
    if given:
        if not is_date(given):
            raise InvalidInputError(f"--as-of {given!r} is no day", hint="write it as 2026-09-01")
        found = Day(as_of=given, by=GIVEN)
    else:
        if today.isoformat() < newest:
            raise InvalidInputError(
                f"this machine's clock says {today}, before the newest price in the package ({newest})",
                hint="set the clock, or say of which day the prices are with --as-of",
            )
        found = Day(as_of=changed_on(path), by=FILE)
    if found.as_of > (today + timedelta(days=1)).isoformat() and today.isoformat() >= newest:
        what = f"--as-of {given}" if given else f"{path} was changed on {found.as_of}, which"
        hint = "" if given else "give the day with --as-of"
        raise InvalidInputError(f"{what} is after today ({today}): a clock is wrong", hint=hint)
    return found


def changed_on(path: Path) -> str:
    """The day on which a file was last changed.

    Raises:
        InvalidInputError: There is no such file.
    """
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC).date().isoformat()
    except FileNotFoundError:
        raise InvalidInputError(f"there is no file {path}") from None
    except (OSError, OverflowError, ValueError) as error:
        raise InvalidInputError(f"the day of {path} cannot be read: {error}") from None


def kind_of(path: Path) -> str:
    """What kind of catalogue a table is, by its columns; an archive is gpuhunt's, a folder SkyPilot's.

    Raises:
        InvalidInputError: It cannot be read.
    """
    if path.is_dir():
        return skypilot.KIND if any(path.rglob(skypilot.FILE)) else gpuhunt.KIND
    content = read_bytes(path)
    if content.startswith(b"PK"):
        return gpuhunt.KIND
    head = content[:4096].splitlines()[0]
    return next((kind for kind, column in _TELLING if column in head), plain.KIND)


#: A column that only one kind has.
_TELLING = ((skypilot.KIND, b"InstanceType"), (gpuhunt.KIND, b"instance_name"))


def sources(kind: str, path: Path) -> Mapping[str, Path]:
    """The tables that an import of this kind finds, by the name of their provider.

    Raises:
        InvalidInputError: There is none.
    """
    if kind == skypilot.KIND:
        return skypilot.files(path)
    if kind == gpuhunt.KIND:
        return gpuhunt.files(path)
    return {_name_of(path): path}


def _name_of(path: Path) -> str:
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in path.stem.lower()).strip("-_") or "table"


def read(kind: str, name: str, path: Path, as_of: str) -> Reading:
    """One of ``sources``; same errors as the readers."""
    reader = {skypilot.KIND: skypilot.read, gpuhunt.KIND: gpuhunt.read, plain.KIND: plain.read}[kind]
    return reader(path, name, as_of)


def take(reading: Reading, day: Day, today: date) -> tuple[Import, tuple[Offer, ...]]:
    """The rows to keep, and the account of what became of the others."""
    excluded = Counter(reading.excluded)
    kept = tuple(_cleaned(reading.offers, excluded))
    about = Import(
        name=reading.name,
        kind=reading.kind,
        origin=reading.origin,
        sha256=hashlib.sha256(reading.content).hexdigest(),
        as_of=day.as_of,
        dated_by=day.by,
        imported_on=today.isoformat(),
        read=reading.read,
        kept=len(kept),
        excluded={reason: number for reason, number in excluded.most_common() if number},
    )
    return about, kept


def _cleaned(offers: Iterable[Offer], excluded: Counter[str]) -> Iterator[Offer]:
    """Offers without prices that are none; those without any price left out, and those that stand there already."""
    seen: set[Offer] = set()
    for offer in offers:
        price, spot = (_usable(getattr(offer, field), name, excluded) for field, name in _PRICES)
        if price is spot is None:
            excluded["no price" if offer.price_usd_h is offer.spot_price_usd_h is None else "no usable price"] += 1
            continue
        as_it_was = price is offer.price_usd_h and spot is offer.spot_price_usd_h
        clean = offer if as_it_was else replace(offer, price_usd_h=price, spot_price_usd_h=spot)
        if clean in seen:
            excluded[SAME_ROW] += 1
            continue
        seen.add(clean)
        yield clean


_PRICES = (("price_usd_h", "an on-demand price"), ("spot_price_usd_h", "a spot price"))


def _usable(price: float | None, name: str, excluded: Counter[str]) -> float | None:
    """The price, or None and a count where it is no number or negative."""
    if price is None or (math.isfinite(price) and price >= 0):
        return price
    excluded[f"{name} that is {'negative' if price < 0 else 'no number'}"] += 1
    return None


def keep(about: Import, offers: tuple[Offer, ...], *, force: bool = False) -> Path:
    """Write an import in place of the one before it.

    Raises:
        InvalidInputError: It has no rows, or less than half as many as the one before it and ``force`` is not given,
            or it cannot be written.
    """
    if not offers:
        reasons = ", ".join(f"{number} with {reason}" for reason, number in about.excluded.items())
        raise InvalidInputError(f"{about.origin} holds no offer" + (f": {reasons}" if reasons else ""))
    before = offer_store.find(about.name)
    if before is not None and len(offers) < SHRINK_FRAC * before.kept and not force:
        raise InvalidInputError(
            f"{about.origin} has {len(offers):,} offers, and {about.name} had {before.kept:,}: perhaps it was cut off",
            hint="what was imported before stays; --force takes it all the same",
        )
    return offer_store.write_import(about, offers)
