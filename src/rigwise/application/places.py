"""Places and links of an application: what the file states, and what the catalogue adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

from rigwise.application.quantity import quantity, whole
from rigwise.application.tables import LinkTable, PlaceTable
from rigwise.application.types import CPU, DISK, GPU, Link, Place
from rigwise.errors import InvalidInputError, RigwiseError, near_matches
from rigwise.facts.device import Device
from rigwise.machine.this import resolve_device
from rigwise.units import format_bytes

_KINDS = (CPU, GPU, DISK)


def places_of(stated: Mapping[str, PlaceTable], where: str) -> tuple[dict[str, Place], list[str]]:
    """The places, and what was assumed about them.

    Raises:
        InvalidInputError: A place without cores, a host that is none, or a quantity that means nothing.
        UnknownNameError: A device that the catalogue does not have.
    """
    places = {name: _place(name, table, f"{where}: place.{name}") for name, table in stated.items()}
    cpus = [place.name for place in places.values() if place.kind == CPU]
    for name, table in stated.items():
        if table.host and table.host not in cpus:
            close = near_matches(table.host, cpus) or "give the name of a CPU place"
            raise InvalidInputError(f"{where}: place.{name}.host is {table.host!r}, which is no CPU place", hint=close)
        if places[name].kind != CPU:
            host = table.host or (cpus[0] if len(cpus) == 1 else "")
            places[name] = replace(places[name], host=host)
    memory = [
        f"{format_bytes(place.memory_bytes)} of memory on {name} (its catalogue figure)"
        for name, place in places.items()
        if place.memory_bytes is not None and stated[name].memory is None
    ]
    return places, memory


def _place(name: str, table: PlaceTable, where: str) -> Place:
    try:
        device = resolve_device(table.device) if table.device else None
    except RigwiseError as error:
        raise type(error)(f"{where}.device: {error.message}", hint=error.hint) from None
    kind = table.kind or _usual_kind(table, device)
    if kind not in _KINDS:
        raise InvalidInputError(f"{where}.kind is {kind!r}", hint=f"choose one of: {', '.join(_KINDS)}")
    if kind == DISK and table.bytes_per_s is None:
        raise InvalidInputError(f"{where} is a disk without bytes_per_s", hint='give its rate, "500MB/s" say')
    if kind != CPU and table.cores is not None:
        raise InvalidInputError(f"{where}.cores: a {kind} has none", hint="leave it out")
    if kind == CPU and table.host:
        raise InvalidInputError(f"{where}.host: a CPU has none", hint="join places with [[link]]")
    cores = table.cores if table.cores is not None else device.units if device else None
    if kind == CPU and cores is None:
        raise InvalidInputError(f"{where} is a CPU without cores", hint="give cores = 8, or a device")
    memory = None if table.memory is None else quantity(table.memory, "bytes", f"{where}.memory")
    rate = None if table.bytes_per_s is None else quantity(table.bytes_per_s, "bytes/s", f"{where}.bytes_per_s")
    return Place(
        name=name,
        kind=kind,
        device=device.id if device else "",
        cores=whole(1 if cores is None else cores, f"{where}.cores") if kind == CPU else 1,
        read_bytes_per_s=rate,
        memory_bytes=memory if memory is not None else _catalogue_memory_bytes(device),
        usd_per_h=quantity(table.usd_per_h, "usd", f"{where}.usd_per_h", zero=True),
    )


def _usual_kind(table: PlaceTable, device: Device | None) -> str:
    if device:
        return CPU if device.kind == "cpu" else GPU
    return DISK if table.bytes_per_s is not None and table.cores is None else CPU


def _catalogue_memory_bytes(device: Device | None) -> float | None:
    """What the device offers; the memory of a CPU is its owner's choice, so nothing is known of it."""
    return (device.usable_bytes or device.memory_bytes) if device and device.kind != "cpu" else None


def links_of(
    stated: Sequence[LinkTable], places: Mapping[str, Place], where: str
) -> tuple[tuple[Link, ...], list[str]]:
    """The links, those to hosts included, and what was assumed about them.

    Raises:
        InvalidInputError: A link to nowhere or to itself, or two between the same places.
    """
    links: dict[frozenset[str], Link] = {}
    for number, table in enumerate(stated, 1):
        key = f"{where}: link {number}"
        for name in table.between:
            if name not in places:
                close = near_matches(name, places) or f"places are {', '.join(places)}"
                raise InvalidInputError(f"{key}.between names the unknown place {name!r}", hint=close)
        pair = frozenset(table.between)
        if len(pair) == 1:
            raise InvalidInputError(f"{key} joins {table.between[0]!r} to itself")
        if pair in links:
            raise InvalidInputError(f"{key} joins {' and '.join(table.between)} a second time")
        links[pair] = Link(
            between=table.between,
            bytes_per_s=quantity(table.bytes_per_s, "bytes/s", f"{key}.bytes_per_s"),
            latency_s=quantity(table.latency, "seconds", f"{key}.latency", zero=True),
        )
    assumed = []
    for place in places.values():
        pair = frozenset((place.name, place.host))
        if place.host and pair not in links:
            link, words = _usual_link(place)
            if link:
                links[pair] = link
            assumed.append(words)
    return tuple(links.values()), assumed


def _usual_link(place: Place) -> tuple[Link | None, str]:
    between = (place.host, place.name)
    if place.kind == DISK:
        return Link(between=between, bytes_per_s=inf), f"{place.name} delivers to {place.host} at its own rate"
    device = resolve_device(place.device) if place.device else None
    rate = device.host_bytes_per_s_each_way if device else None
    if device is None or rate is None:
        return None, f"no link from {place.name} to {place.host}: none is given, and the catalogue knows none"
    words = f"{place.name} is linked to {place.host} by {device.host_link}, {format_bytes(rate)}/s each way (peak)"
    return Link(between=between, bytes_per_s=rate), words
