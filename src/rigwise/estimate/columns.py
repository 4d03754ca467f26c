"""Devices as NumPy columns, so that one formula serves one device or three hundred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.estimate.calibration import Calibration
from rigwise.facts.device import RATES_OF_FORMAT, Device
from rigwise.workload.table import FORMATS, Array

#: Device memory by technology, for constants that depend on nothing finer.
_KINDS_OF_MEMORY = ("HBM", "GDDR6X", "GDDR7", "GDDR", "LPDDR", "DDR", "SRAM")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceColumns:
    """Columns over devices, shaped ``[devices, 1, 1]`` to meet ``[operators, sizes]``.

    Attributes:
        devices: The devices themselves.
        peak_flops_per_s: Dense peak by number format ``[devices, formats]``; nan: cannot.
        is_matrix: Whether a matrix unit gives that peak ``[devices, formats]``.
        matrix_frac, vector_frac: What share of a matrix or vector peak gemm kernels reach.
        conv_frac: What of that convolutions reach, beyond what layouts cost.
        units, bytes_per_s, l2_bytes, tdp_w: Of the device; tdp_w is inf where unknown.
        memory_frac, memory_j_per_byte: By memory technology.
        node_scale: Energy of one operation against the 12 nm of the calibration.
        is_cpu: A CPU: no launches to a distant device, no idle board.
    """

    devices: tuple[Device, ...]
    peak_flops_per_s: Array
    is_matrix: NDArray[np.bool_]
    matrix_frac: Array
    vector_frac: Array
    conv_frac: Array
    units: Array
    bytes_per_s: Array
    l2_bytes: Array
    tdp_w: Array
    memory_frac: Array
    memory_j_per_byte: Array
    node_scale: Array
    is_cpu: NDArray[np.bool_]


def memory_family(device: Device) -> str:
    """HBM, GDDR6X, GDDR7, GDDR, LPDDR, DDR or SRAM, from the marketing word for its memory.

    >>> memory_family(Device(id="x", name="X", vendor="v", kind="gpu", architecture="a", memory_kind="HBM3e"))
    'HBM'
    """
    kind = device.memory_kind.upper()
    return next((family for family in _KINDS_OF_MEMORY if family in kind), "DDR")


def columns(
    devices: Sequence[Device], calibration: Calibration, power_limits_w: Sequence[float | None] = ()
) -> DeviceColumns:
    """Columns for these devices; ``power_limits_w`` caps their board power one by one."""
    limits = tuple(power_limits_w) or (None,) * len(devices)
    families = [memory_family(d) for d in devices]
    power = calibration.power
    node = power.node_nm_of_architecture

    def column(values: Sequence[float]) -> Array:
        return np.array(values, dtype=np.float64)[:, None, None]

    return DeviceColumns(
        devices=tuple(devices),
        peak_flops_per_s=np.array([[_peak(d, f) for f in FORMATS] for d in devices]),
        is_matrix=np.array([[_has_matrix_unit(d, f) for f in FORMATS] for d in devices]),
        matrix_frac=column([_matrix_frac(d, calibration) for d in devices]),
        units=column([float(d.units or 64) for d in devices]),
        bytes_per_s=column([d.memory_bytes_per_s or np.nan for d in devices]),
        l2_bytes=column([d.l2_bytes or 0.0 for d in devices]),
        tdp_w=column([min(d.tdp_w or np.inf, cap or np.inf) for d, cap in zip(devices, limits, strict=True)]),
        memory_frac=column([_memory_frac(d, f, calibration) for d, f in zip(devices, families, strict=True)]),
        vector_frac=column(
            [calibration.cpu.gemm_frac if d.kind == "cpu" else calibration.gemm.vector_frac for d in devices]
        ),
        conv_frac=column(
            [calibration.cpu.conv_frac / calibration.cpu.gemm_frac if d.kind == "cpu" else 1.0 for d in devices]
        ),
        memory_j_per_byte=column([power.memory_j_per_byte[f] for f in families]),
        node_scale=column([(node.get(d.architecture, 7) / 12.0) ** power.node_exponent for d in devices]),
        is_cpu=np.array([d.kind == "cpu" for d in devices])[:, None, None],
    )


def stack(parts: Sequence[DeviceColumns]) -> DeviceColumns:
    """Several columns as one, in that order."""
    arrays = [f.name for f in fields(DeviceColumns) if f.name != "devices"]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    return DeviceColumns(devices=tuple(device for part in parts for device in part.devices), **joined)


def _peak(device: Device, number_format: str) -> float:
    return device.peak(number_format) if device.computes(number_format) else np.nan


def _has_matrix_unit(device: Device, number_format: str) -> bool:
    """Whether the best rate of the format comes from a matrix unit."""
    rates = (rate for rate in RATES_OF_FORMAT[number_format] if rate in device.peak_flops_per_s)
    return "_acc" in next(rates, "")


def _matrix_frac(device: Device, calibration: Calibration) -> float:
    """By product line where that decides, else by architecture."""
    gemm = calibration.gemm
    if device.kind == "cpu":
        return float(calibration.cpu.gemm_frac)
    by_class = gemm.matrix_frac_of_class.get(device.matrix_class)
    return float(by_class or gemm.matrix_frac_of_architecture.get(device.architecture, gemm.matrix_frac))


def _memory_frac(device: Device, family: str, calibration: Calibration) -> float:
    return float(calibration.cpu.memory_frac if device.kind == "cpu" else calibration.memory.frac_of_kind[family])
