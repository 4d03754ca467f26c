"""A parts list from a file: TOML with one ``[[part]]`` for each part, or text copied from PCPartPicker."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rigwise.edge import parse, parse_toml
from rigwise.errors import InvalidInputError, RigwiseError, near_matches
from rigwise.rig.figures import prebuilt_text
from rigwise.rig.names import described
from rigwise.rig.pcpartpicker import Line, part_lines
from rigwise.rig.types import KINDS, Board, Card, Cooler, Drive, Enclosure, Feed, Item, Limits, Rig, Supply
from rigwise.units import parse_bytes, parse_count, parse_usd, parse_watts

Quantity = str | float
CONDITIONS = ("new", "used", "owned")
_MOST_PARTS = 64
_LARGEST = 1e18


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A ``[[part]]``. Figures that stand here win over those of the catalogue."""

    kind: str
    name: str
    count: int = 1
    price: Quantity | None = None
    condition: str = "new"
    device: str | None = None
    power: Quantity | None = None
    memory: str | None = None
    memory_size: Quantity | None = None
    slots: int | None = None
    length_mm: Quantity | None = None
    connectors: dict[str, int] | tuple[str, ...] | None = None
    lanes: int | None = None
    exhaust: str | None = None
    socket: str | None = None
    cores: int | None = None
    form: str | None = None
    dimms: int | None = None
    max_memory: Quantity | None = None
    card_lanes: tuple[int, ...] | None = None
    modules: int | None = None
    efficiency: str | None = None
    atx: str | None = None
    fans: int | None = None
    max_card_mm: Quantity | None = None
    volume_l: Quantity | None = None
    read_rate: Quantity | None = None
    random_reads: Quantity | None = None
    capacity: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Input:
    bytes_per_sample: Quantity | None = None
    decode: str = ""
    decode_per_core_per_s: Quantity | None = None
    dataset: Quantity | None = None
    access: str = "records"


@dataclass(frozen=True, slots=True, kw_only=True)
class _RigFile:
    name: str = ""
    prebuilt: str = ""
    mains: str = ""
    part: tuple[_Part, ...] = ()
    input: _Input = field(default_factory=_Input)


@dataclass(frozen=True, slots=True, kw_only=True)
class _PrebuiltLimits:
    fixed: tuple[str, ...] = ()
    supply_options_w: tuple[float, ...] = ()
    cards: int | None = None
    card_form: str = "card"
    cpu_w: float | None = None
    other_w: float | None = None
    heat_w: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PrebuiltPart:
    socket: str = ""
    form: str = ""
    dimms: int | None = None
    max_memory: Quantity | None = None
    memory: str = ""
    card_lanes: tuple[int, ...] | None = None
    slots: int | None = None
    fans: int | None = None
    volume_l: Quantity | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PrebuiltFile:
    name: str
    source: tuple[str, ...]
    limits: _PrebuiltLimits
    motherboard: _PrebuiltPart
    case: _PrebuiltPart
    note: str = ""


def _metres(value: Quantity) -> float:
    return parse_count(value) / 1000


def _cubic_metres(value: Quantity) -> float:
    return parse_count(value) / 1000


def _same(value: Any) -> Any:
    return value


#: Key of a part -> kinds that have it, field that it fills, how it is read.
_KEYS: Mapping[str, tuple[Mapping[str, str], Callable[[Any], Any]]] = {
    "device": ({"gpu": "device", "cpu": "device"}, _same),
    "power": ({"gpu": "tdp_w", "cpu": "power_w", "psu": "rated_w", "cpu_cooler": "capacity_w"}, parse_watts),
    "memory": ({"motherboard": "memory", "ram": "memory"}, str.upper),
    "memory_size": ({"gpu": "memory_bytes", "ram": "total_bytes"}, parse_bytes),
    "slots": ({"gpu": "slots", "motherboard": "slots", "case": "slots"}, _same),
    "length_mm": ({"gpu": "length_m"}, _metres),
    "connectors": ({"gpu": "connectors", "psu": "connectors"}, _same),
    "lanes": ({"gpu": "lanes", "cpu": "lanes"}, _same),
    "exhaust": ({"gpu": "exhaust"}, _same),
    "socket": ({"cpu": "socket", "motherboard": "socket"}, _same),
    "cores": ({"cpu": "cores"}, _same),
    "form": ({"gpu": "form", "motherboard": "form", "case": "form", "cpu_cooler": "form", "storage": "form"}, _same),
    "dimms": ({"motherboard": "dimms"}, _same),
    "max_memory": ({"motherboard": "max_memory_bytes"}, parse_bytes),
    "card_lanes": ({"motherboard": "card_lanes"}, _same),
    "modules": ({"ram": "modules"}, _same),
    "efficiency": ({"psu": "efficiency"}, _same),
    "atx": ({"psu": "atx"}, _same),
    "fans": ({"case": "fans"}, _same),
    "max_card_mm": ({"case": "max_length_m"}, _metres),
    "volume_l": ({"case": "volume_m3"}, _cubic_metres),
    "read_rate": ({"storage": "read_bytes_per_s"}, parse_bytes),
    "random_reads": ({"storage": "random_reads_per_s"}, parse_count),
    "capacity": ({"storage": "capacity_bytes"}, parse_bytes),
}
_BARE: Mapping[str, type[Item]] = {
    "gpu": Card, "motherboard": Board, "psu": Supply, "case": Enclosure, "cpu_cooler": Cooler, "storage": Drive,
}  # fmt: skip


def read_rig(text: str, where: str) -> Rig:
    """A parts list; which of the two formats it is shows in its first lines.

    Raises:
        InvalidInputError: It is neither, or a key or figure cannot be used; names the file and the line or key.
        RigwiseError: A part that is not known; names the line and near matches.
    """
    lines = [] if where.lower().endswith(".toml") else part_lines(text)
    if lines:
        return _from_lines(lines, where)
    if not where.lower().endswith(".toml") and not re.search(r"^[ \t]*(\[|\w+[ \t]*=)", text, re.MULTILINE):
        hint = "write [[part]] tables, or copy the text of a PCPartPicker list"
        raise InvalidInputError(f"{where}: no part is listed", hint=hint)
    return _from_toml(text, where)


def _from_lines(lines: list[Line], where: str) -> Rig:
    _refuse_crowd(len(lines), where)
    found: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    ignored = []
    for line in lines:
        if not line.kind:
            ignored.append(f"{line.label}: {line.name}")
            continue
        try:
            item = described(line.kind, line.name)
        except RigwiseError as error:
            raise type(error)(f"{where}: line {line.number}: {error.message}", hint=error.hint) from None
        found[line.kind].append(replace(item, price_usd=line.price_usd, condition=line.condition, as_of=""))
    return Rig(name=where, ignored=tuple(ignored), **_tuples(found))


def _refuse_crowd(parts: int, where: str) -> None:
    if parts > _MOST_PARTS:
        raise InvalidInputError(f"{where}: {parts} parts", hint=f"one computer has {_MOST_PARTS} at most")


def _tuples(found: Mapping[str, list[Item]]) -> dict[str, Any]:
    return {kind: tuple(items) for kind, items in found.items()}


def _from_toml(text: str, where: str) -> Rig:
    file = parse(parse_toml(text, where), _RigFile, where)
    if not file.part:
        raise InvalidInputError(f"{where}: no part is listed", hint='write a [[part]] with kind = "gpu" and a name')
    _refuse_crowd(len(file.part), where)
    _refuse_crowd(sum(part.count for part in file.part if part.count > 0), where)
    found: dict[str, list[Item]] = {kind: [] for kind in KINDS}
    for number, part in enumerate(file.part, 1):
        place = f"{where}: part {number}"
        found[_kind(part.kind, place)] += [_item(part, place)] * part.count
    limits = _apply_prebuilt(file.prebuilt, found, where) if file.prebuilt else None
    feed = _feed(file.input, where)
    return Rig(name=file.name or where, feed=feed, limits=limits, mains=file.mains, **_tuples(found))


def _kind(kind: str, place: str) -> str:
    if kind not in KINDS:
        close = near_matches(kind, KINDS) or f"choose one of: {', '.join(KINDS)}"
        raise InvalidInputError(f"{place}: there is no kind {kind!r}", hint=close)
    return kind


def _item(part: _Part, place: str) -> Item:
    """A part with the figures of the catalogue, or of its name, and over them those of the file."""
    if not 1 <= part.count <= _MOST_PARTS:
        raise InvalidInputError(f"{place}: count is {part.count}", hint=f"give 1 to {_MOST_PARTS}")
    if part.condition not in CONDITIONS:
        raise InvalidInputError(
            f"{place}: condition is {part.condition!r}", hint=f"choose one of: {', '.join(CONDITIONS)}"
        )
    given = _given(part, place)
    try:
        item = described(part.kind, part.name)
    except RigwiseError as error:
        if part.kind not in _BARE or not given:
            raise type(error)(f"{place}: {error.message}", hint=error.hint) from None
        item = _BARE[part.kind](name=part.name)
    price = None if part.price is None else _quantity(f"{place}: price", part.price, parse_usd)
    return replace(item, price_usd=price, condition=part.condition, as_of="", **given)


def _given(part: _Part, place: str) -> dict[str, Any]:
    """The figures that a part states itself.

    Raises:
        InvalidInputError: A key that this kind of part does not have, or a figure that cannot be.
    """
    given = {}
    for key, (kinds, read) in _KEYS.items():
        stated = getattr(part, key)
        if stated is None:
            continue
        if part.kind not in kinds:
            own = [name for name, (owners, _) in _KEYS.items() if part.kind in owners]
            raise InvalidInputError(f"{place}: a {part.kind} has no {key}", hint=f"it has: {', '.join(own)}")
        given[kinds[part.kind]] = _quantity(f"{place}: {key}", stated, read)
    if part.kind == "gpu" and isinstance(given.get("connectors"), dict):
        given["connectors"] = tuple(name for name, n in given["connectors"].items() for _ in range(n))
    if part.kind == "psu" and isinstance(given.get("connectors"), tuple):
        raise InvalidInputError(f"{place}: connectors of a psu are counts", hint='{ "8-pin" = 4, "16-pin" = 1 }')
    return given


def _quantity(where: str, stated: Any, read: Callable[[Any], Any]) -> Any:
    try:
        value = read(stated)
    except InvalidInputError as error:
        raise InvalidInputError(f"{where}: {error.message}", hint=error.hint) from None
    if isinstance(value, int | float) and not 0 <= value <= _LARGEST:
        raise InvalidInputError(f"{where} is {stated}", hint="give a number of 0 or more")
    return value


def _feed(stated: _Input, where: str) -> Feed:
    """The input pipeline.

    Raises:
        InvalidInputError: A word or figure that cannot be.
    """
    for key, choices in (("decode", ("", "jpeg")), ("access", ("files", "records"))):
        if getattr(stated, key) not in choices:
            known = ", ".join(filter(None, choices))
            raise InvalidInputError(f"{where}: input.{key} is {getattr(stated, key)!r}", hint=f"known: {known}")
    read = {"bytes_per_sample": parse_bytes, "decode_per_core_per_s": parse_count, "dataset": parse_bytes}
    numbers: dict[str, float] = {}
    for key, parser in read.items():
        given = getattr(stated, key)
        if given is not None:
            numbers["dataset_bytes" if key == "dataset" else key] = _quantity(f"{where}: input.{key}", given, parser)
    for key, number in numbers.items():
        if not number > 0:
            raise InvalidInputError(f"{where}: input.{key} is {number:g}", hint="give a number above 0")
    return Feed(decode=stated.decode, access=stated.access, **numbers)


def _apply_prebuilt(name: str, found: dict[str, list[Item]], where: str) -> Limits:
    """The limits of a machine sold whole; its own board and case where the list has none."""
    file = parse(parse_toml(prebuilt_text(name), name), _PrebuiltFile, name)
    source = "; ".join(file.source)
    for kind, own in (("motherboard", file.motherboard), ("case", file.case)):
        if found[kind]:
            raise InvalidInputError(f"{where}: {file.name} has its own {kind}", hint=f"leave the {kind} out")
        found[kind].append(_own_part(kind, own, file))
    limits = file.limits
    stated = {f.name: getattr(limits, f.name) for f in fields(limits) if f.name != "heat_w"}
    return Limits(name=file.name, note=file.note, source=source, **stated)


def _own_part(kind: str, own: _PrebuiltPart, file: _PrebuiltFile) -> Item:
    whose: dict[str, Any] = {"name": f"{kind} of the {file.name}", "condition": "owned"}
    whose["source"] = "; ".join(file.source)
    if kind == "motherboard":
        most = parse_bytes(own.max_memory.replace("GB", "GiB")) if isinstance(own.max_memory, str) else None
        lanes, slots = own.card_lanes, own.slots
        board = Board(socket=own.socket, form=own.form, memory=own.memory, dimms=own.dimms, **whose)
        return replace(board, max_memory_bytes=most, card_lanes=lanes, slots=slots)
    volume = _cubic_metres(own.volume_l) if own.volume_l else None
    case = Enclosure(form=own.form, boards=(own.form, file.motherboard.form), slots=own.slots, **whose)
    return replace(case, fans=own.fans, volume_m3=volume, heat_w=file.limits.heat_w)
