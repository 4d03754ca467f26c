"""The shape of the TOML files under ``data/``: figures in the units people quote, one table for each thing.

``compile.py`` turns these rows into SI units once; ``tools/build_catalogue.py`` writes the result.
A key that stands in a row wins over the same key of its family.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rigwise.provenance import Basis


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRow:
    """Where figures were read: ``[sources.ID]`` of ``sources.toml``.

    Attributes:
        title: Author, work and edition.
        date: When it was published or read, ``YYYY`` to ``YYYY-MM-DD``.
        licence: Licence of the work; we take facts from it, no text and no arrangement.
        url: Where to find it.
        took: What was taken.
    """

    title: str
    date: str
    licence: str
    took: str
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRow:
    """A link to the host: ``[links.ID]`` of ``links.toml``; without a rate where nothing crosses it."""

    source: list[str]
    gbs_each_way: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """What holds for every device of an architecture: ``[families.ID]``.

    Attributes:
        vector: Dense FLOP of one unit in one clock on its vector lanes, by rate name; a multiply-add is 2.
        matrix: The same on its matrix unit, by matrix class, then by rate name.
        tensor_clock: ``boost`` where matrix work runs at the boost clock; ``own`` where it is rated at
            another, so that nothing is derived for a device whose ``tensor_mhz`` is unknown.
        basis: Basis of a rate by rate name, where it is not ``published``.
    """

    architecture: str
    source: list[str]
    compute_capability: str = ""
    kind: str = "gpu"
    host_link: str = ""
    lanes_per_unit: int | None = None
    shared_kib_per_unit: float | None = None
    registers_kib_per_unit: float | None = None
    vector: dict[str, float] = field(default_factory=dict)
    matrix: dict[str, dict[str, float]] = field(default_factory=dict)
    tensor_clock: str = "boost"
    basis: dict[str, Basis] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRow:
    """One accelerator as a framework sees it: ``[devices.ID]``.

    Attributes:
        matrix_class: Which table of the family's ``matrix`` the product line is allowed.
        memory_gib: As marketed; ``usable_mib``: what the driver offers, read off a device.
        published_tflops: Dense peaks that somebody other than us states, by rate name.
        basis: Basis by key of this row, where it is not ``published`` (``usable_mib``: ``measured``);
            ``matrix`` stands for the matrix rates derived from the family, a rate for that published peak,
            ``all`` for the whole row.
        per_board: Devices on one board or module.
        aliases: Other names; one that stands on several devices is ambiguous.
    """

    name: str
    family: str
    segment: str
    source: list[str]
    launch: str = ""
    matrix_class: str = "none"
    units: int | None = None
    boost_mhz: float | None = None
    base_mhz: float | None = None
    tensor_mhz: float | None = None
    published_tflops: dict[str, float] = field(default_factory=dict)
    memory_gib: float | None = None
    usable_mib: float | None = None
    memory_kind: str = ""
    memory_gbs: float | None = None
    l2_mib: float | None = None
    tdp_w: float | None = None
    host_link: str = ""
    peer_link: str = ""
    peer_gbs_each_way: float | None = None
    slots: float | None = None
    per_board: int = 1
    launch_price_usd: float | None = None
    aliases: list[str] = field(default_factory=list)
    basis: dict[str, Basis] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFile:
    """One file of ``data/devices``."""

    vendor: str
    families: dict[str, FamilyRow]
    devices: dict[str, DeviceRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroarchitectureRow:
    """What holds for every CPU of a microarchitecture: ``[families.ID]``.

    Attributes:
        efficiency_fp32_flop_per_cycle_per_core: Of an efficiency core, on hybrids.
        ipc_frac: Instructions in a cycle of one (performance) core against Skylake's.
    """

    architecture: str
    source: list[str]
    isa: list[str]
    fp32_flop_per_cycle_per_core: float
    amx_bf16_flop_per_cycle_per_core: float | None = None
    efficiency_fp32_flop_per_cycle_per_core: float | None = None
    ipc_frac: float | None = None
    basis: dict[str, Basis] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuRow:
    """One CPU package: ``[cpus.ID]``.

    Attributes:
        memory_mts: Transfers of one channel in millions a second, the fastest the maker supports;
            bandwidth is channels x MT/s x 8 bytes unless ``memory_gbs`` states another.
        base_ghz: Of a performance core, on hybrids; ``efficiency_base_ghz`` of the others.
        price_usd: As its source says: a list price for 1,000 units or the lowest asked.
    """

    name: str
    family: str
    segment: str
    source: list[str]
    launch: str = ""
    cores: int | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None
    threads: int | None = None
    base_ghz: float | None = None
    efficiency_base_ghz: float | None = None
    allcore_ghz: float | None = None
    max_ghz: float | None = None
    memory_kind: str = ""
    memory_channels: int | None = None
    memory_mts: float | None = None
    memory_gbs: float | None = None
    l3_mib: float | None = None
    pcie_generation: float | None = None
    pcie_lanes: int | None = None
    tdp_w: float | None = None
    price_usd: float | None = None
    aliases: list[str] = field(default_factory=list)
    basis: dict[str, Basis] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFile:
    """One file of ``data/cpus``."""

    vendor: str
    families: dict[str, MicroarchitectureRow]
    cpus: dict[str, CpuRow]
