"""gpuhunt's files: ``PROVIDER.csv``, or an archive that holds it, as dstack publishes them.

A row is an instance in a region or zone at one price, on demand or spot; rows that differ in that
alone are one offer here. Sizes are written as GB and are GiB, as the providers mean them.

Source: gpuhunt 0.1.34, ``storage.py`` for the columns, ``catalog.py`` for the files.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rigwise.edge import TEXT_LIMIT_BYTES, read_bytes
from rigwise.errors import InvalidInputError
from rigwise.facts.imports.devices import sold
from rigwise.facts.imports.reading import NO_ACCELERATOR, Reading, blank_offer, counted, number, size, table
from rigwise.facts.imports.zones import one_for_equal_zones
from rigwise.facts.offer import Offer
from rigwise.units import GIB

KIND = "gpuhunt"
PROVIDERS: Mapping[str, str] = {"lambdalabs": "lambda", "vastai": "vast", "datacrunch": "verda"}
REQUIRED = ("instance_name", "location", "price", "gpu_count", "gpu_name", "spot")
NOT_SPOT_OR_NOT = "neither spot nor not"
#: Google's zones are its regions and a letter.
_ZONED = frozenset(("gcp",))
#: What a damaged archive raises: it is cut off, or packed, named or encrypted as it says it is not.
_BAD_ARCHIVE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    struct.error,
)


def files(path: Path) -> dict[str, Path]:
    """The tables and archives of a folder by provider, or ``path`` itself.

    Raises:
        InvalidInputError: There is none.
    """
    if path.is_file():
        return {_provider_of(path): path}
    if not path.is_dir():
        raise InvalidInputError(f"there is no folder {path}", hint="GPUHUNT_CATALOG_DIR names gpuhunt's own")
    found = {_provider_of(file): file for suffix in (".zip", ".csv") for file in sorted(path.glob(f"*{suffix}"))}
    if not found:
        raise InvalidInputError(f"{path} holds no .csv and no .zip", hint="gpuhunt has one for each provider")
    return dict(sorted(found.items()))


def _provider_of(path: Path) -> str:
    """The name of the file; an archive as it is published, ``aws/VERSION/catalog.zip``, says it inside."""
    if path.suffix == ".zip":
        tables = [name for name in _members(path) if name.endswith(".csv")]
        if len(tables) == 1:
            return Path(tables[0]).stem
    return path.stem


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except _BAD_ARCHIVE:
        return []


def _unpacked(path: Path, content: bytes) -> bytes:
    """The one table of an archive, or the file itself.

    Raises:
        InvalidInputError: The archive is damaged, cut off, too large, or holds no table or several.
    """
    if path.suffix != ".zip":
        return content
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            tables = [entry for entry in archive.infolist() if entry.filename.endswith(".csv")]
            if len(tables) != 1:
                raise InvalidInputError(f"{path} holds {len(tables)} tables, not one")
            with archive.open(tables[0]) as stream:
                unpacked = stream.read(TEXT_LIMIT_BYTES + 1)
    except _BAD_ARCHIVE as error:
        raise InvalidInputError(f"{path} is a damaged archive, or was cut off: {error}") from None
    if len(unpacked) > TEXT_LIMIT_BYTES:
        raise InvalidInputError(f"{path} unpacks to over {TEXT_LIMIT_BYTES:,} bytes")
    return unpacked


def read(path: Path, provider: str, as_of: str) -> Reading:
    """The offers of one provider.

    Args:
        path: Its table or archive.
        provider: gpuhunt's name of it.
        as_of: The date of its prices.

    Raises:
        InvalidInputError: It is no such table, or was cut off.
    """
    content = read_bytes(path)
    tally: Counter[str] = Counter()
    rows = counted(table(_unpacked(path, content), str(path), REQUIRED, whole=True), tally)
    ours = PROVIDERS.get(provider.lower(), provider.lower())
    excluded: Counter[str] = Counter()
    blank = replace(blank_offer(ours), as_of=as_of, source=f"imported {KIND} {provider}.csv")
    offers = tuple(one_for_equal_zones(_both_prices(_offers(rows, excluded, blank), excluded), excluded))
    return Reading(
        name=f"{KIND}.{ours}",
        kind=KIND,
        origin=str(path),
        content=content,
        offers=offers,
        read=tally["read"],
        excluded=excluded,
    )


def _offers(rows: Iterable[Mapping[str, str]], excluded: Counter[str], blank: Offer) -> Iterator[Offer]:
    """Each row with its price in the column that it belongs to."""
    for row in rows:
        accelerator, count, spot = row["gpu_name"].strip(), size(row["gpu_count"]), row["spot"].strip().lower()
        if not accelerator or count == 0:
            excluded[NO_ACCELERATOR] += 1
            continue
        if spot not in ("true", "false"):
            excluded[NOT_SPOT_OR_NOT] += 1
            continue
        memory_bytes = size(row.get("gpu_memory", ""), GIB)
        held = sold(blank.provider, row["instance_name"].strip(), accelerator, count, memory_bytes)
        place = row["location"].strip()
        zoned = blank.provider in _ZONED and place[-2:-1] == "-"
        price = number(row["price"])
        yield replace(
            blank,
            instance=row["instance_name"].strip(),
            region=place[:-2] if zoned else place,
            zone=place if zoned else "",
            device=held.device,
            accelerator=accelerator,
            accel_count=held.accel_count,
            accel_memory_bytes=memory_bytes,
            vcpus=size(row.get("cpu", "")),
            memory_bytes=size(row.get("memory", ""), GIB),
            disk_bytes=size(row.get("disk_size", ""), GIB),
            link=held.link,
            inter_node_bytes_per_s=held.inter_node_bytes_per_s,
            price_usd_h=None if spot == "true" else price,
            spot_price_usd_h=price if spot == "true" else None,
        )


def _both_prices(offers: Iterable[Offer], excluded: Counter[str]) -> Iterator[Offer]:
    """An on-demand and a spot row of one instance in one place as one offer."""
    first: dict[Offer, Offer] = {}
    repeats: list[Offer] = []
    for offer in offers:
        key = replace(offer, price_usd_h=None, spot_price_usd_h=None)
        other = first.get(key)
        if other is None:
            first[key] = offer
        elif other.spot_price_usd_h is None and offer.price_usd_h is None:
            first[key] = replace(other, spot_price_usd_h=offer.spot_price_usd_h)
        elif other.price_usd_h is None and offer.spot_price_usd_h is None:
            first[key] = replace(other, price_usd_h=offer.price_usd_h)
        else:
            repeats.append(offer)
            continue
        excluded["a spot row, joined to its on-demand row"] += other is not None
    yield from first.values()
    yield from repeats
