"""The catalogue in the package: read once, looked up by any common name.

The figures lie in ``data/*/*.toml`` and ``data/*.csv``; ``tools/build_catalogue.py`` compiles
them to ``data/catalogue.json``, the only file read here. Objects are built when asked for.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from rigwise.errors import UnknownNameError
from rigwise.facts.cpu import Cpu, as_device
from rigwise.facts.device import Device
from rigwise.facts.names import Names, merged
from rigwise.facts.offer import Offer
from rigwise.facts.offer_store import imported_offers
from rigwise.facts.part import Part
from rigwise.provenance import Basis

DATA = Path(__file__).parent / "data"


@cache
def _compiled() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((DATA / "catalogue.json").read_bytes())
    return document


def _basis(plain: dict[str, str]) -> dict[str, Basis]:
    return {key: Basis(value) for key, value in plain.items()}


@cache
def _device(identifier: str) -> Device:
    fields = {k: v for k, v in _compiled()["devices"][identifier].items() if k != "aliases"}
    return Device(id=identifier, **{**fields, "basis": _basis(fields["basis"])})


@cache
def _cpu(identifier: str) -> Cpu:
    fields = {k: v for k, v in _compiled()["cpus"][identifier].items() if k != "aliases"}
    return Cpu(id=identifier, **{**fields, "isa": tuple(fields["isa"]), "basis": _basis(fields["basis"])})


@cache
def device_names() -> Names:
    """Every name of every accelerator; its memory narrows a choice."""
    names = Names("device")
    for identifier, row in _compiled()["devices"].items():
        properties = [row.get("memory_kind", "")]
        if "memory_bytes" in row:
            properties.append(f"{row['memory_bytes'] / 2**30:.0f}GB")
        names.add(identifier, [row["name"], *row.get("aliases", ())], properties)
    return names


@cache
def cpu_names() -> Names:
    """Every name of every CPU."""
    names = Names("cpu")
    for identifier, row in _compiled()["cpus"].items():
        names.add(identifier, [row["name"], *row.get("aliases", ())])
    return names


@cache
def _all_names() -> Names:
    return merged("device", [device_names(), cpu_names()])


def device(name: str) -> Device:
    """The accelerator of this name.

    Raises:
        UnknownNameError: No accelerator has it; the message lists near matches.
        AmbiguousNameError: Several variants have it; the message lists them.

    >>> device("NVIDIA GeForce RTX 3090").id
    'rtx-3090'
    """
    return _device(name if name in _compiled()["devices"] else device_names().resolve(name))


def devices() -> tuple[Device, ...]:
    """Every accelerator, in catalogue order."""
    return tuple(_device(identifier) for identifier in _compiled()["devices"])


def cpu(name: str) -> Cpu:
    """The CPU of this name; same errors as ``device``.

    >>> cpu("Intel(R) Core(TM) i9-10940X CPU @ 3.30GHz").id
    'core-i9-10940x'
    """
    return _cpu(name if name in _compiled()["cpus"] else cpu_names().resolve(name))


def cpus() -> tuple[Cpu, ...]:
    """Every CPU, in catalogue order."""
    return tuple(_cpu(identifier) for identifier in _compiled()["cpus"])


def resolve_device(text: str) -> Device:
    """The accelerator, or the CPU as a device, that ``text`` names; same errors as ``device``.

    >>> resolve_device("Tesla T4").id, resolve_device("epyc-7742").kind
    ('t4', 'cpu')
    """
    compiled = _compiled()
    known = text in compiled["devices"] or text in compiled["cpus"]
    identifier = text if known else _all_names().resolve(text)
    return _device(identifier) if identifier in compiled["devices"] else as_device(_cpu(identifier))


def offers() -> tuple[Offer, ...]:
    """Every offer, those in the package and then the imported ones, dirty rows included: ``lint`` names their faults.

    Raises:
        InvalidInputError: A file of imported offers is damaged.
    """
    return bundled_offers() + imported_offers()


@cache
def bundled_offers() -> tuple[Offer, ...]:
    """The offers in the package."""
    table = _compiled()["offers"]
    return tuple(Offer(**dict(zip(table["columns"], row, strict=True))) for row in table["rows"])


@cache
def parts() -> tuple[Part, ...]:
    """Every PC part and price point."""
    table = _compiled()["parts"]
    return tuple(Part(**dict(zip(table["columns"], row, strict=True))) for row in table["rows"])


def cited(source: str) -> tuple[str, ...]:
    """Each citation of a row in full: title and edition of the source, then what was taken from it.

    >>> cited("epoch launch price")[0]
    'Epoch AI, Machine Learning Hardware (2026-04): launch price'
    """
    titles = _compiled()["sources"]
    full = []
    for text in filter(None, source.split("; ")):
        name, _, detail = text.partition(" ")
        title = f"{titles[name]['title']} ({titles[name]['date']})" if name in titles else name
        full.append(f"{title}: {detail}" if detail else title)
    return tuple(full)


def torch_year(version: str) -> float:
    """When a version of PyTorch came out, as a year with its fraction; one newer than all known: the newest.

    >>> torch_year("2.4.1")
    2024.56

    Raises:
        UnknownNameError: It is no version, or older than all known.
    """
    years: dict[str, float] = _compiled()["torch_years"]
    minor = ".".join(version.split("+", maxsplit=1)[0].split(".")[:2])
    if minor in years:
        return years[minor]
    newest = list(years)[-1]
    if minor.replace(".", "", 1).isdigit() and _parts(minor) > _parts(newest):
        return years[newest]
    raise UnknownNameError(f"no PyTorch release is called {version!r}", hint=f"known: {next(iter(years))} to {newest}")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part)
