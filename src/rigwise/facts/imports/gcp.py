"""Google Cloud's rows in SkyPilot's catalogue: a host and its accelerators stand apart and are added here.

A price of an A2 host without its A100s looks like a bargain: $0.94 an hour. Only TPUs are complete alone.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rigwise.edge import parse, parse_toml, read_text
from rigwise.facts.imports.reading import NO_ACCELERATOR, number

Row = Mapping[str, str]
NO_HOST = "an accelerator without a host in its zone"
NO_CARDS = "a host without its accelerators"
_FILE = Path(__file__).parents[1] / "data" / "gcp_machine_types.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundled:
    """Machine types that come with accelerators: the names of these, and how many each type has."""

    accelerators: list[str]
    count_of: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attached:
    """Accelerators that are attached to a host of a family, and what it must have for each."""

    accelerators: list[str]
    family: str
    vcpus_of_each: int
    memory_gib_of_each: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTypes:
    """``gcp_machine_types.toml``."""

    source: str
    date: str
    bundled: list[Bundled]
    attached: Attached


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    machine_types: MachineTypes


@cache
def machine_types() -> MachineTypes:
    """Which host goes with which accelerators."""
    return parse(parse_toml(read_text(_FILE), _FILE.name), _File, _FILE.name).machine_types


def is_accelerator_host(instance: str) -> bool:
    """Whether a machine type comes with accelerators, so that a price without them is half of one.

    >>> is_accelerator_host("a2-highgpu-1g"), is_accelerator_host("n1-standard-8")
    (True, False)
    """
    return any(instance in group.count_of for group in machine_types().bundled)


def joined(rows: Iterable[Row], excluded: Counter[str]) -> Iterator[Row]:
    """Rows of whole instances; what cannot be completed is counted."""
    hosts: dict[str, list[Row]] = defaultdict(list)
    cards: list[Row] = []
    for row in rows:
        if row["AcceleratorName"]:
            cards.append(row)
        else:
            hosts[row.get("AvailabilityZone", "")].append(row)
    used: set[int] = set()
    for row in cards:
        if row["AcceleratorName"].startswith("tpu") or row["InstanceType"]:
            yield row
            continue
        found = list(_hosts_of(row, hosts[row.get("AvailabilityZone", "")]))
        excluded[NO_HOST] += not found
        for host in found:
            used.add(id(host))
            yield _sum(host, row)
    for host in (host for zone in hosts.values() for host in zone if id(host) not in used):
        excluded[NO_CARDS if is_accelerator_host(host["InstanceType"]) else NO_ACCELERATOR] += 1


def _hosts_of(cards: Row, hosts: Iterable[Row]) -> Iterator[Row]:
    """The hosts of a zone that hold these cards: every type made for them, or the cheapest they can be attached to."""
    name, count = cards["AcceleratorName"], number(cards["AcceleratorCount"])
    types = machine_types()
    for group in types.bundled:
        if name in group.accelerators:
            yield from (host for host in hosts if group.count_of.get(host["InstanceType"]) == count)
            return
    attached = types.attached
    if name in attached.accelerators and count and count > 0:
        least = (attached.vcpus_of_each * count, attached.memory_gib_of_each * count)
        fits = [host for host in hosts if host["InstanceType"].startswith(attached.family) and _has(host, least)]
        yield from sorted(fits, key=_price)[:1]


def _has(host: Row, least: tuple[float, float]) -> bool:
    vcpus, memory_gib = number(host.get("vCPUs", "")), number(host.get("MemoryGiB", ""))
    return (vcpus or 0) >= least[0] and (memory_gib or 0) >= least[1]


def _price(host: Row) -> float:
    price = number(host["Price"])
    return math.inf if price is None or not price > 0 else price


def _sum(host: Row, cards: Row) -> Row:
    """One row: the host's sizes, the accelerators' names, both prices added; no price where either has none."""
    prices = {}
    for column in ("Price", "SpotPrice"):
        of_both = (number(host.get(column, "")), number(cards.get(column, "")))
        # Zero and less are kept as they are, so that a faulty half shows and does not vanish in the sum.
        bad = [price for price in of_both if price is not None and not price > 0]
        total = bad[0] if bad else None if None in of_both else round(sum(p for p in of_both if p), 6)
        prices[column] = "" if total is None else repr(total)
    instance = host["InstanceType"]
    if not is_accelerator_host(instance):
        instance = f"{instance} + {number(cards['AcceleratorCount'])} {cards['AcceleratorName']}"
    kept = {column: cards[column] for column in ("AcceleratorName", "AcceleratorCount") if column in cards}
    return {**host, **kept, "GpuInfo": cards.get("GpuInfo", ""), **prices, "InstanceType": instance}
