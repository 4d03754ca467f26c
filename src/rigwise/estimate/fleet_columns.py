"""What estimates need of devices, machines and models, found once and kept.

Devices and models have no hash, so that here they are known by identity.

Source: ``estimate.columns``, ``estimate.bound`` and ``estimate.collective``; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.errors import RigwiseError
from rigwise.estimate import bound
from rigwise.estimate.bound import LeastEnergy
from rigwise.estimate.calibration import Calibration, load_calibration
from rigwise.estimate.collective import Network, alone, as_columns, network_of
from rigwise.estimate.columns import DeviceColumns, columns, stack
from rigwise.estimate.device_memory import label_spread
from rigwise.estimate.interval import time_spread
from rigwise.estimate.memory import capacity_bytes
from rigwise.estimate.power import sustained_w
from rigwise.estimate.predict import best_format_of
from rigwise.workload.table import FORMATS, Array

#: Weights that are unpacked before they are multiplied.
_PACKED = ("int8", "int4")


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """A device, machine or model as a cache key: known by identity."""

    thing: Any

    def __hash__(self) -> int:
        return id(self.thing)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Known) and self.thing is other.thing


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What estimates need of one device.

    Attributes:
        column: Its column.
        best_format: 16- or 32-bit format in which it multiplies quickest.
        formats: Formats that it computes in.
        ceilings_flops_per_s, cache_bytes: See ``estimate.bound``.
        spread: Standard deviation of ln(time) that all steps on it share.
        capacity_bytes, label_spread: What a program can have of its memory, and how sure that is.
    """

    column: DeviceColumns
    best_format: str
    formats: frozenset[str]
    ceilings_flops_per_s: Mapping[str, float]
    cache_bytes: float
    spread: float
    capacity_bytes: float
    label_spread: float


@lru_cache(maxsize=4096)
def facts_of(known: Known) -> Facts:
    """The facts of a device."""
    device, calibration = known.thing, load_calibration()
    formats = frozenset(f for f in FORMATS if device.computes(f))
    return Facts(
        column=columns([device], calibration),
        best_format=best_format_of(device) if formats & {"bf16", "fp16", "fp32"} else "fp32",
        formats=formats,
        ceilings_flops_per_s={f: bound.ceiling_flops_per_s(device, f) for f in (*FORMATS, bound.FASTEST)},
        cache_bytes=bound.cache_bytes(device),
        spread=time_spread(device, calibration),
        capacity_bytes=capacity_bytes(device, calibration.memory_terms),
        label_spread=label_spread(device, calibration),
    )


def best_format_for(dtype: str, known: Known) -> str:
    """What a dtype is multiplied in where a device may choose, which is for packed weights alone; else one for all."""
    return facts_of(known).best_format if dtype in _PACKED else "bf16"


@lru_cache(maxsize=4096)
def least_energy_of(known: Known, calibration: Calibration) -> LeastEnergy:
    """What a device spends at least.

    Measurements on it may have shown it quicker than its power limit allows, and then no limit acts.
    """
    device, column, power = known.thing, facts_of(known).column, calibration.power
    of_format = {
        name: float(column.matrix_j_per_flop[0, 0, 0]) * float(power.matrix_energy_of_format.get(name, 1.0))
        if column.is_matrix[0, index]
        else float(column.vector_j_per_flop[0, 0, 0])
        for index, name in enumerate(FORMATS)
    }
    of_format[bound.FASTEST] = min(of_format[name] for name in ("bf16", "fp16", "fp32"))
    tdp_w = float(column.tdp_w[0, 0, 0])
    is_measured = calibration.learned is not None and device.id in calibration.learned.devices
    is_limited = device.kind != "cpu" and not is_measured
    return LeastEnergy(
        flop_j=of_format,
        byte_j=float(column.memory_j_per_byte[0, 0, 0]),
        busy_w=float(power.static_frac) * tdp_w,
        limit_w=tdp_w,
        sustained_w=float(sustained_w(tdp_w, power)) if is_limited else np.inf,
    )


@lru_cache(maxsize=65536)
def network_between(known: Known) -> Network | None:
    """The links of a machine, None where it has several devices and no known link."""
    constants = load_calibration().collective
    try:
        return network_of(known.thing, constants) if known.thing.count > 1 else alone(constants)
    except RigwiseError:
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """Columns over machines that do not depend on the work ``[machines]``.

    Attributes:
        devices: Their devices, each once.
        device: Which of those each machine has.
        network: Links.
        count: Devices of each machine.
        columns, ceilings_flops_per_s, cache_bytes, bytes_per_s, spread, capacity_bytes, label_spread: Of its device.
    """

    devices: tuple[Known, ...]
    device: NDArray[np.int64]
    network: Network
    count: Array
    columns: DeviceColumns
    ceilings_flops_per_s: Mapping[str, Array]
    cache_bytes: Array
    bytes_per_s: Array
    spread: Array
    capacity_bytes: Array
    label_spread: Array

    def take(self, rows: NDArray[np.int64]) -> Fleet:
        """The columns of some machines, which may be taken often."""
        own = ("device", "count", "cache_bytes", "bytes_per_s", "spread", "capacity_bytes", "label_spread")
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in own}
        links = {f.name: getattr(self.network, f.name) for f in fields(self.network)}
        ceilings = {name: column[rows] for name, column in self.ceilings_flops_per_s.items()}
        return Fleet(
            devices=self.devices,
            network=replace(self.network, **{name: link[rows] for name, link in links.items() if np.ndim(link)}),
            columns=self.columns.take(rows),
            ceilings_flops_per_s=ceilings,
            **arrays,
        )


@lru_cache(maxsize=4096)
def fleet_of(machines: tuple[Known, ...]) -> Fleet:
    """The columns of machines whose links are known."""
    devices = tuple(dict.fromkeys(Known(known.thing.device) for known in machines))
    index = {device: i for i, device in enumerate(devices)}
    device = np.array([index[Known(known.thing.device)] for known in machines])
    facts = [facts_of(key) for key in devices]
    joined = stack([f.column for f in facts])

    def column(values: list[float]) -> Array:
        return np.asarray(np.array(values, dtype=np.float64)[device])

    return Fleet(
        devices=devices,
        device=device,
        network=as_columns([network for known in machines if (network := network_between(known)) is not None]),
        count=np.array([float(known.thing.count) for known in machines]),
        columns=joined.take(device),
        ceilings_flops_per_s={
            name: column([f.ceilings_flops_per_s[name] for f in facts]) for name in facts[0].ceilings_flops_per_s
        },
        cache_bytes=column([f.cache_bytes for f in facts]),
        bytes_per_s=joined.bytes_per_s[device, 0, 0],
        spread=column([f.spread for f in facts]),
        capacity_bytes=column([f.capacity_bytes for f in facts]),
        label_spread=column([f.label_spread for f in facts]),
    )
