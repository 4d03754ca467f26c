"""What the catalogue pages show of ``rigwise.devices/1`` and the other tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rigwise.errors import RigwiseError
from rigwise.facts import catalogue
from rigwise.facts.device import RATES_OF_FORMAT
from rigwise.units import GIB, MIB, format_bytes, format_count, format_usd

Row = Mapping[str, Any]

#: Table -> what the tab says and what its rows are called.
TABLES = {
    "devices": ("Accelerators", "accelerators"),
    "cpus": ("CPUs", "CPUs"),
    "offers": ("Offers", "offers"),
    "parts": ("PC parts", "parts"),
    "models": ("Models", "models"),
}

#: Table -> key of the query, label, what one may write.
FILTERS: Mapping[str, Sequence[tuple[str, str, str]]] = {
    "devices": (
        ("id", "Name", "~h100"),
        ("vendor", "Vendor", "nvidia"),
        ("memory", "Memory", ">=24GB"),
        ("bf16", "bf16 peak", ">=100"),
        ("tdp", "Power", "<=300W"),
    ),
    "cpus": (("id", "Name", "~epyc"), ("vendor", "Vendor", "amd"), ("cores", "Cores", ">=16")),
    "offers": (
        ("device", "Device", "~h100"),
        ("provider", "Provider", "vast"),
        ("region", "Region", "~europe"),
        ("price", "Dollars an hour", "<=2"),
    ),
    "parts": (
        ("category", "Kind", "gpu"),
        ("name", "Name", "~rtx"),
        ("memory", "Memory", ">=16GB"),
        ("low", "Lowest price", "<=1000"),
    ),
    "models": (("name", "Name", "~llama"), ("family", "Family", "resnet"), ("parameters", "Parameters", "<=8G")),
}
SORTS: Mapping[str, Sequence[str]] = {
    "devices": ("id", "memory", "bandwidth", "fp32", "bf16", "tdp", "launch", "price"),
    "cpus": ("id", "cores", "bandwidth", "tdp", "price"),
    "offers": ("price", "spot", "device", "provider", "as-of"),
    "parts": ("name", "category", "low", "median", "memory", "tdp"),
    "models": ("name", "family", "parameters"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Attributes:
        name: Its heading, with the unit.
        show: From a row to a cell.
        kind: Class of its cells: ``n`` is flush right, ``keep`` stays on one line.
    """

    name: str
    show: Callable[[Row], str]
    kind: str = ""


def peak(row: Row, number_format: str) -> str:
    """Dense peak of a device in TFLOP/s, as ``Device.peak`` chooses it; empty if none is known.

    >>> peak({"peak_flops_per_s": {"fp16_acc32": 1.65e14}}, "fp16")
    '165'
    """
    found = [
        row["peak_flops_per_s"][rate] for rate in RATES_OF_FORMAT[number_format] if rate in row["peak_flops_per_s"]
    ]
    if not found:
        return ""
    return _plain((max(found) if number_format == "fp16" else found[0]) / 1e12)


def _plain(value: float) -> str:
    """Three digits, or all before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _sized(key: str, size: float) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else _plain(row[key] / size)


def _text(key: str) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else str(row[key])


def _usd(key: str) -> Callable[[Row], str]:
    return lambda row: "" if row[key] is None else format_usd(row[key])


def _number(name: str, show: Callable[[Row], str]) -> Column:
    return Column(name=name, show=show, kind="n")


COLUMNS: Mapping[str, Sequence[Column]] = {
    "devices": (
        Column(name="Device", show=_text("id")),
        _number("Memory, GiB", _sized("memory_bytes", GIB)),
        _number("GB/s", _sized("memory_bytes_per_s", 1e9)),
        _number("fp32, TFLOP/s", lambda row: peak(row, "fp32")),
        _number("bf16, TFLOP/s", lambda row: peak(row, "bf16")),
        _number("Power, W", _sized("tdp_w", 1)),
        Column(name="Launch", show=_text("launch"), kind="keep"),
        _number("Launch price", _usd("launch_price_usd")),
    ),
    "cpus": (
        Column(name="CPU", show=_text("id")),
        Column(name="Architecture", show=_text("architecture")),
        _number("Cores", _text("cores")),
        _number("GB/s", _sized("memory_bytes_per_s", 1e9)),
        _number("L3, MiB", _sized("l3_bytes", MIB)),
        _number("Power, W", _sized("tdp_w", 1)),
        _number("Price", _usd("price_usd")),
    ),
    "offers": (
        Column(name="Offer", show=lambda row: f"{row['provider']} {row['instance']}"),
        Column(name="Region", show=_text("region")),
        Column(name="Device", show=lambda row: str(row["device"] or row["accelerator"])),
        _number("Devices", _sized("accel_count", 1)),
        _number("An hour", _usd("price_usd_h")),
        _number("Spot", _usd("spot_price_usd_h")),
        Column(name="Price of", show=_text("as_of"), kind="keep"),
        Column(name="Source", show=_text("source")),
    ),
    "parts": (
        Column(name="Part", show=_text("name")),
        Column(name="Kind", show=_text("category")),
        _number("Launch price", _usd("launch_price_usd")),
        _number("Lowest", _usd("street_low_usd")),
        _number("Median", _usd("street_median_usd")),
        _number("Asked by", _text("street_samples")),
        Column(name="Price of", show=_text("as_of"), kind="keep"),
        _number("Power, W", _sized("tdp_w", 1)),
    ),
    "models": (
        Column(name="Model", show=_text("name")),
        Column(name="What it is", show=_text("title")),
        _number("Parameters", lambda row: format_count(row["parameters"])),
        _number("Forward", lambda row: format_count(row["forward_macs"], "MAC")),
        _number("Usual batch", _text("reference_batch")),
        Column(name="Source", show=_text("source")),
    ),
}


#: What the offers with one device need not say again.
_OFFERS_OF_ONE = tuple(column for column in COLUMNS["offers"] if column.name not in ("Device", "Source"))

#: Most letters across a column of text, and of sources; those of numbers are as wide as they need.
_TEXT_CH, _SOURCE_CH, _OF_ONE_CH = 22, 26, 16

#: What all rows of a table have in common.
_NOTES = {
    "devices": "Peaks are dense; memory is as marketed.",
    "offers": "Dollars are for an hour of the whole instance.",
    "parts": "Prices were asked on the day beside them.",
    "models": "Forward is one sample at the usual size, in multiply-adds.",
}


def table_view(document: Mapping[str, Any], table: str, *, of_one: bool = False) -> dict[str, Any]:
    """Rows of a table as cells; accelerators can be ticked.

    Args:
        document: Of the command of the table.
        table: A key of ``TABLES``.
        of_one: All offers are of one device, whose page they stand on.
    """
    columns = _OFFERS_OF_ONE if of_one else COLUMNS[table]
    rows = []
    for row in document[table]:
        link = ""
        if table in ("devices", "cpus"):
            link = f"/catalogue/{row['id']}"
        elif table == "models":
            link = f"/?model={row['name']}"
        tick = row["id"] if table == "devices" else ""
        rows.append({"cells": [column.show(row) for column in columns], "link": link, "tick": tick})
    most = _OF_ONE_CH if of_one else _TEXT_CH
    widths = [_width_ch(column, [row["cells"][n] for row in rows], most) for n, column in enumerate(columns)]
    return {"columns": columns, "widths": widths, "rows": rows, "word": TABLES[table][1], "note": _NOTES.get(table, "")}


def _width_ch(column: Column, cells: Sequence[str], text_ch: int) -> int:
    """Letters across a column, even: told beforehand, so that no column moves while rows arrive; long text wraps."""
    longest = max(map(len, [column.name, *cells]))
    most = 40 if column.kind else _SOURCE_CH if column.name == "Source" else text_ch
    return min(most, longest + longest % 2)


#: Figure of a device or a CPU -> how it is shown; others as they stand.
_UNITS: Mapping[str, Callable[[float], str]] = {
    "memory_bytes": lambda value: f"{value / GIB:,.4g} GiB",
    "usable_bytes": lambda value: f"{value / GIB:,.4g} GiB",
    "_usd": format_usd,
    "_bytes_per_s": lambda value: format_count(value, "B/s"),
    "bytes_per_s_each_way": lambda value: format_count(value, "B/s"),
    "_hz": lambda value: format_count(value, "Hz"),
    "_w": lambda value: f"{value:,.4g} W",
    "bytes": format_bytes,
    "bytes_per_unit": format_bytes,
}
_HEAD = ("id", "name", "vendor", "kind", "architecture", "segment", "launch", "basis", "source", "note")
_WORDS = {
    "boost_hz": "boost clock",
    "base_hz": "base clock",
    "tensor_hz": "clock under matrix work",
    "allcore_hz": "clock of all cores",
    "max_hz": "highest clock",
    "shared_bytes_per_unit": "shared memory of a unit",
    "register_bytes_per_unit": "registers of a unit",
    "usable_bytes": "usable memory",
    "peer_bytes_per_s_each_way": "links to peers, each way",
    "host_bytes_per_s_each_way": "link to the host, each way",
    "peer_link": "kind of links to peers",
    "host_link": "kind of link to the host",
    "l2_bytes": "last-level cache",
    "tdp_w": "power limit",
    "memory_bytes_per_s": "memory bandwidth",
    "per_board": "devices on a board",
}


def device_view(row: Row) -> dict[str, Any]:
    """One device or CPU in full: every figure with its basis, what nobody published, and the sources."""
    basis = row["basis"]
    figures, missing = [], []
    for key, value in row.items():
        if key in _HEAD or value == "" or key == "peak_flops_per_s":
            continue
        name = _named(key)
        if value is None:
            missing.append(name)
        else:
            figures.append({"name": name, "value": _shown(key, value), "basis": basis.get(key, basis.get("", ""))})
    for rate, value in row.get("peak_flops_per_s", {}).items():
        key = f"peak_flops_per_s.{rate}"
        accumulated = rate.replace("_acc", ", accumulating in fp")
        figures.append(
            {
                "name": f"peak {accumulated}",
                "value": format_count(value, "FLOP/s"),
                "basis": basis.get(key, basis.get("", "")),
            }
        )
    line = (row["vendor"], row["architecture"], row["segment"], f"launched {row['launch']}" if row["launch"] else "")
    return {
        "id": row["id"],
        "name": row["name"],
        "line": ", ".join(word for word in (row["id"], *line) if word),
        "figures": figures,
        "missing": missing,
        "sources": catalogue.cited(row["source"]),
        "note": row["note"],
    }


def is_listed(name: str) -> bool:
    """Whether the catalogue has a page of this id; a part of this machine has none."""
    return name in _listed()


@cache
def _listed() -> frozenset[str]:
    return frozenset(row.id for rows in (catalogue.devices(), catalogue.cpus()) for row in rows)


def bandwidth_of(name: str) -> float | None:
    """Bandwidth of the memory of a device of the catalogue, in bytes a second; None if it is not known."""
    try:
        return catalogue.resolve_device(name).memory_bytes_per_s
    except RigwiseError:
        return None


def _named(key: str) -> str:
    if key in _WORDS:
        return _WORDS[key]
    for unit in ("_bytes_per_s_each_way", "_bytes_per_s", "_bytes", "_hz", "_usd", "_w", "_frac"):
        if key.endswith(unit):
            return key.removesuffix(unit).replace("_", " ") + (" each way" if unit.endswith("each_way") else "")
    return key.replace("_bytes_per_unit", " of a unit").replace("_", " ")


def _shown(key: str, value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(one) for one in value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        show = next((show for unit, show in _UNITS.items() if key.endswith(unit)), "{:,.6g}".format)
        return show(value)
    return str(value)
