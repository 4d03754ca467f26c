"""Rows of the TOML files as the fields of our dataclasses: SI units, derived peaks, basis of each figure.

Pure; run by ``tools/build_catalogue.py`` and the tests, never when a command starts.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from rigwise.errors import InvalidInputError, near_matches
from rigwise.facts.device import RATES_OF_FORMAT
from rigwise.facts.rows import (
    CpuFile,
    CpuRow,
    DeviceFile,
    DeviceRow,
    FamilyRow,
    LinkRow,
    MicroarchitectureRow,
    SourceRow,
)
from rigwise.provenance import Basis
from rigwise.units import GB, GIB, KIB, MIB

#: Every rate a row may state. The 16-bit accumulators are facts of a device, though no format asks for them first.
RATES = frozenset(rate for rates in RATES_OF_FORMAT.values() for rate in rates) | {"fp16_acc16", "fp8_acc16"}

#: Matrix rates that run at the boost clock even where other matrix work is rated lower.
#: Source: NVIDIA H100 whitepaper v1.04, table 3 (66.9 TFLOP/s = 132 SMs x 256 x 1980 MHz).
BOOST_CLOCK_MATRIX_RATES = frozenset({"fp64_acc64"})

#: Key of a TOML row -> field of the dataclass, where the name or the unit differs.
DEVICE_FIELDS: Mapping[str, tuple[str, float]] = {
    "boost_mhz": ("boost_hz", 1e6),
    "base_mhz": ("base_hz", 1e6),
    "tensor_mhz": ("tensor_hz", 1e6),
    "memory_gib": ("memory_bytes", GIB),
    "usable_mib": ("usable_bytes", MIB),
    "memory_gbs": ("memory_bytes_per_s", GB),
    "l2_mib": ("l2_bytes", MIB),
    "peer_gbs_each_way": ("peer_bytes_per_s_each_way", GB),
}
CPU_FIELDS: Mapping[str, tuple[str, float]] = {
    "base_ghz": ("base_hz", 1e9),
    "efficiency_base_ghz": ("efficiency_base_hz", 1e9),
    "allcore_ghz": ("allcore_hz", 1e9),
    "max_ghz": ("max_hz", 1e9),
    "memory_gbs": ("memory_bytes_per_s", GB),
    "l3_mib": ("l3_bytes", MIB),
}


def _worst(*basis: Basis) -> Basis:
    return max(basis, key=list(Basis).index)


def derived_peaks(row: DeviceRow, family: FamilyRow) -> dict[str, float]:
    """Dense peaks in FLOP/s: units x FLOP of one unit in one clock x clock.

    Vector rates and fp64 matrix rates run at the boost clock, other matrix rates at the tensor clock.

    >>> ga10x = FamilyRow(architecture="Ampere", source=["x"], vector={"fp32": 256})
    >>> derived_peaks(DeviceRow(name="RTX 3090", family="ga10x", segment="consumer", source=["x"],
    ...                         units=82, boost_mhz=1695), ga10x)
    {'fp32': 35581440000000.0}
    """
    if row.units is None:
        return {}
    tensor_mhz = row.tensor_mhz or (row.boost_mhz if family.tensor_clock == "boost" else None)
    peaks = {}
    for rate, flop_per_clock in {**family.vector, **family.matrix.get(row.matrix_class, {})}.items():
        vector = rate in family.vector or rate in BOOST_CLOCK_MATRIX_RATES
        clock_mhz = row.boost_mhz if vector else tensor_mhz
        if clock_mhz is not None:
            peaks[rate] = float(round(row.units * flop_per_clock * clock_mhz * 1e6))
    return peaks


def _peak_basis(rate: str, row: DeviceRow, family: FamilyRow) -> Basis:
    """A derived peak is as good as its worst factor."""
    factors = [Basis.DERIVED, row.basis.get("units", Basis.PUBLISHED), family.basis.get(rate, Basis.PUBLISHED)]
    if rate in family.vector:
        factors.append(row.basis.get("boost_mhz", Basis.PUBLISHED))
    else:
        factors += [row.basis.get("tensor_mhz", Basis.PUBLISHED), row.basis.get("matrix", Basis.PUBLISHED)]
    return _worst(*factors)


def _check_rates(rates: Iterable[str], where: str) -> None:
    for rate in rates:
        if rate not in RATES:
            close = near_matches(rate, RATES)
            raise InvalidInputError(f"{where}: unknown rate {rate!r}" + (f", {close}" if close else ""))


def cite(source: list[str], sources: Mapping[str, SourceRow], where: str) -> str:
    """The sources of a row as one text; the first word of each names an entry of ``sources.toml``.

    Raises:
        InvalidInputError: There is none, or one that ``sources.toml`` lacks.
    """
    if not source:
        raise InvalidInputError(f"{where}: source is empty", hint="every fact names where it was read")
    for text in source:
        name = text.partition(" ")[0]
        if name not in sources:
            close = near_matches(name, sources) or "add it to sources.toml"
            raise InvalidInputError(f"{where}: unknown source {name!r}", hint=close)
    return "; ".join(source)


def _converted(row: Any, fields: Mapping[str, tuple[str, float]], keep: Iterable[str]) -> dict[str, Any]:
    """The keys of a row under the names and in the units of the dataclass; absent figures left out."""
    plain = {key: getattr(row, key) for key in keep}
    for key, (name, factor) in fields.items():
        value = getattr(row, key)
        plain[name] = None if value is None else value * factor
    return {name: value for name, value in plain.items() if value is not None and value != ""}


def _basis_of_fields(row: DeviceRow | CpuRow, fields: Mapping[str, tuple[str, float]], where: str) -> dict[str, str]:
    """Basis by field name; the empty key is the basis of the rest."""
    basis = {"": str(row.basis.get("all", Basis.PUBLISHED))}
    for key, value in row.basis.items():
        if key in RATES:
            basis[f"peak_flops_per_s.{key}"] = str(value)
        elif hasattr(row, key):
            basis[fields.get(key, (key, 1.0))[0]] = str(value)
        elif key not in ("all", "matrix"):
            close = near_matches(key, [f.name for f in dataclasses.fields(row)])
            raise InvalidInputError(f"{where}.basis: unknown key {key!r}", hint=close)
    return basis


def device_fields(
    name: str, row: DeviceRow, file: DeviceFile, links: Mapping[str, LinkRow], sources: Mapping[str, SourceRow]
) -> dict[str, Any]:
    """The fields of one ``Device``, absent ones left out.

    Raises:
        InvalidInputError: A family, class, rate, link, basis key or source that does not exist.
    """
    where = f"devices.{name}"
    family = _family(row, file, where)
    if row.matrix_class != "none" and family.matrix and row.matrix_class not in family.matrix:
        known = ", ".join(family.matrix)
        raise InvalidInputError(f"{where}: matrix_class {row.matrix_class!r} is not one of {known}")
    _check_rates(row.published_tflops, f"{where}.published_tflops")
    keep = ["segment", "launch", "matrix_class", "units", "memory_kind", "tdp_w", "peer_link", "slots"]
    keep += ["per_board", "launch_price_usd", "note"]
    plain: dict[str, Any] = {"name": row.name, "vendor": file.vendor, "kind": family.kind}
    plain |= {"architecture": family.architecture, "compute_capability": family.compute_capability}
    plain |= _converted(row, DEVICE_FIELDS, keep)
    plain |= _converted(family, {"shared_kib_per_unit": ("shared_bytes_per_unit", KIB)}, ["lanes_per_unit"])
    plain |= _converted(family, {"registers_kib_per_unit": ("register_bytes_per_unit", KIB)}, [])
    link = row.host_link or family.host_link
    if link:
        if link not in links:
            raise InvalidInputError(f"{where}: unknown host_link {link!r}", hint=near_matches(link, links))
        plain |= {"host_link": link}
        plain |= _converted(links[link], {"gbs_each_way": ("host_bytes_per_s_each_way", GB)}, [])
    basis = _basis_of_fields(row, DEVICE_FIELDS, where)
    if row.usable_mib is not None:
        basis.setdefault("usable_bytes", str(Basis.MEASURED))
    peaks = derived_peaks(row, family)
    for rate in peaks:
        if rate not in row.published_tflops:
            basis[f"peak_flops_per_s.{rate}"] = str(_worst(_peak_basis(rate, row, family), Basis(basis[""])))
    peaks |= {rate: float(round(tflops * 1e12)) for rate, tflops in row.published_tflops.items()}
    plain["peak_flops_per_s"] = peaks
    plain["basis"] = {key: value for key, value in basis.items() if key == "" or value != basis[""]}
    plain["source"] = cite(row.source, sources, where)
    return plain


def _family(row: Any, file: Any, where: str) -> Any:
    if row.family not in file.families:
        close = near_matches(row.family, file.families) or f"the file has {', '.join(file.families)}"
        raise InvalidInputError(f"{where}: unknown family {row.family!r}", hint=close)
    return file.families[row.family]


def check_family(name: str, family: FamilyRow, sources: Mapping[str, SourceRow]) -> None:
    """Refuse a family that names an unknown rate or source, or the same rate as vector and matrix rate."""
    where = f"families.{name}"
    cite(family.source, sources, where)
    _check_rates([*family.vector, *family.basis], where)
    for matrix_class, rates in family.matrix.items():
        _check_rates(rates, f"{where}.matrix.{matrix_class}")
        if twice := set(rates) & set(family.vector):
            raise InvalidInputError(f"{where}: {', '.join(sorted(twice))} stands under vector and matrix")
    if family.tensor_clock not in ("boost", "own"):
        raise InvalidInputError(f"{where}: tensor_clock is {family.tensor_clock!r}, not boost or own")


_OF_MICROARCHITECTURE = (
    "isa",
    "fp32_flop_per_cycle_per_core",
    "amx_bf16_flop_per_cycle_per_core",
    "efficiency_fp32_flop_per_cycle_per_core",
    "ipc_frac",
)


def cpu_fields(name: str, row: CpuRow, file: CpuFile, sources: Mapping[str, SourceRow]) -> dict[str, Any]:
    """The fields of one ``Cpu``, absent ones left out; same errors as ``device_fields``."""
    where = f"cpus.{name}"
    family: MicroarchitectureRow = _family(row, file, where)
    keep = ["segment", "launch", "cores", "performance_cores", "efficiency_cores", "threads", "memory_kind"]
    keep += ["memory_channels", "pcie_generation", "pcie_lanes", "tdp_w", "price_usd", "note"]
    plain: dict[str, Any] = {"name": row.name, "vendor": file.vendor, "architecture": family.architecture}
    plain |= _converted(row, CPU_FIELDS, keep)
    plain |= _converted(family, {}, _OF_MICROARCHITECTURE)
    basis = _basis_of_fields(row, CPU_FIELDS, where)
    basis |= {key: str(value) for key, value in family.basis.items()}
    if row.memory_gbs is None and row.memory_channels and row.memory_mts:
        plain["memory_bytes_per_s"] = row.memory_channels * row.memory_mts * 1e6 * 8
        basis["memory_bytes_per_s"] = str(_worst(Basis.DERIVED, row.basis.get("memory_channels", Basis.PUBLISHED)))
    plain["basis"] = {key: value for key, value in basis.items() if key == "" or value != basis[""]}
    plain["source"] = cite(row.source, sources, where)
    return plain
