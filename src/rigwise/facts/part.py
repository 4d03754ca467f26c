"""A PC part, or a price point of a whole build, as sold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One row of the parts table.

    Attributes:
        category: gpu, cpu, psu, motherboard, ram, storage, case, cpu_cooler, ups, build_price_point.
        device: Catalogue id of the accelerator or CPU it is, where it is one.
        launch_price_usd: List price at launch.
        street_low_usd, street_median_usd, street_samples: Asked prices and how many were seen.
        as_of: Date of the street price.
        tdp_w, slots, length_m, recommended_psu_w, power_connectors, memory_bytes: Graphics cards.
        detail: What only some categories have: ``{"wattage": "850", "efficiency": "gold"}``.
    """

    category: str
    name: str
    device: str = ""
    launch: str = ""
    launch_price_usd: float | None = None
    street_low_usd: float | None = None
    street_median_usd: float | None = None
    street_samples: int | None = None
    as_of: str = ""
    tdp_w: float | None = None
    slots: float | None = None
    length_m: float | None = None
    recommended_psu_w: float | None = None
    power_connectors: str = ""
    memory_bytes: float | None = None
    memory_bytes_per_s: float | None = None
    bus: str = ""
    detail: Mapping[str, str] = field(default_factory=dict)
    source: str = ""
