"""SkyPilot's catalogue folder: one ``vms.csv`` for each cloud, by the version of its columns.

The files carry no date; a row is an instance in a zone with an on-demand and a spot price. Most rows
have no accelerator. Where a zone repeats the prices of another in its region, one row stands for
both; where spot prices differ between zones, and they differ three- to fourfold, every zone stays.

Source: SkyPilot 0.14.1, ``sky/catalog`` for the folder, the columns and their units.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rigwise.edge import read_bytes
from rigwise.errors import InvalidInputError
from rigwise.facts.imports import gcp
from rigwise.facts.imports.devices import sold
from rigwise.facts.imports.reading import NO_ACCELERATOR, Reading, blank_offer, counted, number, size, table
from rigwise.facts.imports.zones import one_for_equal_zones
from rigwise.facts.offer import Offer
from rigwise.units import GIB, MIB

KIND = "skypilot"
FILE = "vms.csv"
#: Folders of clouds that are called otherwise here.
PROVIDERS: Mapping[str, str] = {"do": "digitalocean", "vastai": "vast", "lambdalabs": "lambda"}
REQUIRED = ("InstanceType", "AcceleratorName", "AcceleratorCount", "Price", "Region")
#: Memory of one device in the column that describes them, whatever its quotes.
_DEVICE_MEMORY = re.compile(r"SizeInMiB\W{1,4}(\d+(?:\.\d+)?)")
#: The maker's name of the device in the same column, which may say the variant that the accelerator's name leaves open.
_DEVICE_NAME = re.compile(r"""['"]Name['"]\s*:\s*['"]([^'"]+)['"]""")
_VERSION = re.compile(r"v(\d+)")


def files(path: Path) -> dict[str, Path]:
    """The tables below ``path`` by cloud: a folder of versions, of clouds, of one cloud, or a table itself.

    Of several versions of the columns the newest is read.

    Raises:
        InvalidInputError: There is none.
    """
    if path.is_file():
        return {path.parent.name or path.stem if path.name == FILE else path.stem: path}
    if not path.is_dir():
        raise InvalidInputError(f"there is no folder {path}", hint="SkyPilot keeps its own in ~/.sky/catalogs")
    if (path / FILE).is_file():
        return {path.resolve().name: path / FILE}
    versions = sorted(
        (int(match.group(1)), folder)
        for folder in path.iterdir()
        if (match := _VERSION.fullmatch(folder.name)) and any(folder.glob(f"*/{FILE}"))
    )
    found = sorted((versions[-1][1] if versions else path).glob(f"*/{FILE}"))
    if not found:
        raise InvalidInputError(f"{path} holds no {FILE}", hint="a SkyPilot catalogue has CLOUD/vms.csv")
    return {file.parent.name: file for file in found}


def read(path: Path, cloud: str, as_of: str) -> Reading:
    """The offers of one cloud.

    Args:
        path: Its table.
        cloud: SkyPilot's name of the cloud.
        as_of: The date of its prices.

    Raises:
        InvalidInputError: It is no such table, or was cut off.
    """
    content = read_bytes(path)
    tally: Counter[str] = Counter()
    provider = PROVIDERS.get(cloud.lower(), cloud.lower())
    excluded: Counter[str] = Counter()
    source = f"imported {KIND} {cloud}/{path.name}"
    plain: Iterable[Mapping[str, str]] = counted(table(content, str(path), REQUIRED, whole=True), tally)
    if provider == "gcp":
        plain = gcp.joined(plain, excluded)
    offers = tuple(
        one_for_equal_zones(
            _offers(plain, excluded, replace(blank_offer(provider), as_of=as_of, source=source)), excluded
        )
    )
    return Reading(
        name=f"{KIND}.{provider}",
        kind=KIND,
        origin=str(path),
        content=content,
        offers=offers,
        read=tally["read"],
        excluded=excluded,
    )


def _offers(rows: Iterable[Mapping[str, str]], excluded: Counter[str], blank: Offer) -> Iterator[Offer]:
    for row in rows:
        accelerator = row["AcceleratorName"].strip()
        count = number(row["AcceleratorCount"])
        if not accelerator or count == 0:
            excluded[NO_ACCELERATOR] += 1
            continue
        info = row.get("GpuInfo", "")
        described = _DEVICE_MEMORY.search(info)
        memory_bytes = size(described.group(1), MIB) if described else None
        count = None if count is None or math.isnan(count) or count < 0 else count
        called = _DEVICE_NAME.search(info)
        named = called.group(1) if called else ""
        held = sold(blank.provider, row["InstanceType"], accelerator, count, memory_bytes, also_called=named)
        yield replace(
            blank,
            instance=row["InstanceType"].strip() or (accelerator if accelerator.startswith("tpu") else ""),
            region=row["Region"].strip(),
            zone=row.get("AvailabilityZone", "").strip(),
            device=held.device,
            accelerator=accelerator,
            accel_count=held.accel_count,
            accel_memory_bytes=memory_bytes,
            vcpus=size(row.get("vCPUs", "")),
            memory_bytes=size(row.get("MemoryGiB", ""), GIB),
            link=held.link,
            inter_node_bytes_per_s=held.inter_node_bytes_per_s,
            price_usd_h=number(row["Price"]),
            spot_price_usd_h=number(row.get("SpotPrice", "")),
        )
