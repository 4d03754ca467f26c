"""Devices as NumPy columns, so that one formula serves one device or three hundred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rigwise.errors import RigwiseError
from rigwise.estimate.calibration import Calibration
from rigwise.estimate.overhead import host_frac
from rigwise.facts.catalogue import cpu
from rigwise.facts.device import RATES_OF_FORMAT, Device
from rigwise.workload.table import FORMATS, KINDS, Array

if TYPE_CHECKING:
    from rigwise.estimate.learned import Knowledge
    from rigwise.machine.machine import Machine

#: Device memory by technology, for constants that depend on nothing finer.
_KINDS_OF_MEMORY = ("HBM", "GDDR6X", "GDDR7", "GDDR", "LPDDR", "DDR", "SRAM")
#: What executes a product: vector lanes, matrix units that threads wait for, or ones fed in the background.
ENGINES = ("vector", "synchronous", "asynchronous")
#: Clock of a device whose clock is not listed, where only latencies depend on it.
_USUAL_HZ = 1.8e9


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceColumns:
    """Columns over devices, shaped ``[devices, 1, 1]`` to meet ``[operators, sizes]``.

    Attributes:
        devices: The devices themselves.
        peak_flops_per_s: Dense peak at the clock held by number format ``[devices, formats]``; nan: cannot.
        is_matrix: Whether a matrix unit gives that peak ``[devices, formats]``.
        engine: Which of ``ENGINES`` that is ``[devices, formats]``.
        walks_slowly: Fetches the rows of a wide weight slowly: Pascal and older.
        matrix_frac, vector_frac: What share of a matrix or vector peak gemm kernels reach.
        units, hz, bytes_per_s, l2_bytes, tdp_w: Of the device; tdp_w is inf where unknown.
        memory_frac, memory_j_per_byte: By memory technology.
        matrix_j_per_flop, vector_j_per_flop: Energy of one operation, 16-bit inputs and fp32, on its process node.
        is_cpu: A CPU: no launches to a distant device, no idle board.
        core_hz: Clock that the slowest core of a CPU holds with all at work; nan on other devices.
        even_frac: Rate of a CPU whose cores share work evenly, at that clock, against its peak.
        lacks_fp16: A CPU that has no arithmetic in fp16.
        mkl_frac: Share of a CPU's vector width that MKL uses for products in fp32 and fp64.
        usual_host_frac: Dispatch time on the host that a device usually has against the reference host.
        time_scale: Measured over predicted time by kind of operator ``[devices, kinds, sizes]``, see ``learned.py``.
        host_scale: The same of dispatch on the host.
    """

    devices: tuple[Device, ...]
    peak_flops_per_s: Array
    is_matrix: NDArray[np.bool_]
    engine: NDArray[np.int64]
    walks_slowly: NDArray[np.bool_]
    matrix_frac: Array
    vector_frac: Array
    units: Array
    hz: Array
    bytes_per_s: Array
    l2_bytes: Array
    tdp_w: Array
    memory_frac: Array
    memory_j_per_byte: Array
    matrix_j_per_flop: Array
    vector_j_per_flop: Array
    is_cpu: NDArray[np.bool_]
    core_hz: Array
    even_frac: Array
    lacks_fp16: NDArray[np.bool_]
    mkl_frac: Array
    usual_host_frac: Array
    time_scale: Array
    host_scale: Array

    def take(self, rows: NDArray[Any]) -> DeviceColumns:
        """The columns of some of the devices, by mask or index; a device may be taken often."""
        arrays: dict[str, Any] = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "devices"}
        picked = np.arange(len(self.devices))[rows].tolist()
        return DeviceColumns(devices=tuple(map(self.devices.__getitem__, picked)), **arrays)


def columns_of(machine: Machine, known: Knowledge | None, calibration: Calibration) -> DeviceColumns:
    """The device of one machine as columns, with what was learned of it; threads that take turns dispatch in turns."""
    plain = columns([machine.device], calibration, [machine.power_limit_w])
    scaled = known.scaled(plain) if known else plain
    if machine.core_frac == 1.0:
        return scaled
    return replace(scaled, host_scale=scaled.host_scale / machine.core_frac)


def design_of(device: Device) -> str:
    """Architecture by how a multiprocessor is built: Blackwell's boards for graphics follow Ada, not the data centre.

    Source: CUDA C++ Programming Guide, compute capabilities 10.0 and 12.0.

    >>> design_of(Device(id="x", name="X", vendor="v", kind="gpu", architecture="Blackwell", compute_capability="12.0"))
    'Blackwell 2.0'
    """
    is_graphics = device.architecture == "Blackwell" and device.compute_capability.startswith("12")
    return "Blackwell 2.0" if is_graphics else device.architecture


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

    def column(values: Sequence[float]) -> Array:
        return np.array(values, dtype=np.float64)[:, None, None]

    return DeviceColumns(
        devices=tuple(devices),
        peak_flops_per_s=np.array([[_peak(d, f) * _clock_gain(d, calibration) for f in FORMATS] for d in devices]),
        is_matrix=np.array([[_has_matrix_unit(d, f) for f in FORMATS] for d in devices]),
        engine=np.array([[_engine(d, f, calibration) for f in FORMATS] for d in devices]),
        walks_slowly=np.array([design_of(d) in calibration.gemm.slow_walkers for d in devices])[:, None, None],
        matrix_frac=column([_matrix_frac(d, calibration) for d in devices]),
        units=column([float(d.units or 64) for d in devices]),
        hz=column([d.boost_hz or _implied_hz(d) for d in devices]),
        bytes_per_s=column([d.memory_bytes_per_s or np.nan for d in devices]),
        l2_bytes=column([d.l2_bytes or 0.0 for d in devices]),
        tdp_w=column([min(d.tdp_w or np.inf, cap or np.inf) for d, cap in zip(devices, limits, strict=True)]),
        memory_frac=column([_memory_frac(d, f, calibration) for d, f in zip(devices, families, strict=True)]),
        vector_frac=column([calibration.gemm.vector_frac for d in devices]),
        memory_j_per_byte=column([power.memory_j_per_byte[f] for f in families]),
        matrix_j_per_flop=column([_matrix_j_per_flop(d, calibration) for d in devices]),
        vector_j_per_flop=column([power.vector_j_per_flop * _node_scale(d, calibration) for d in devices]),
        is_cpu=np.array([d.kind == "cpu" for d in devices])[:, None, None],
        core_hz=column([held_hz(d) if d.kind == "cpu" else np.nan for d in devices]),
        even_frac=column([_even_frac(d) if d.kind == "cpu" else 1.0 for d in devices]),
        lacks_fp16=np.array([d.kind == "cpu" and "fp16" not in d.peak_flops_per_s for d in devices])[:, None, None],
        mkl_frac=column([_mkl_frac(d) for d in devices]),
        usual_host_frac=column([_usual_host_frac(d, calibration) for d in devices]),
        time_scale=np.ones((len(devices), len(KINDS), 1)),
        host_scale=np.ones((len(devices), 1, 1)),
    )


def held_hz(device: Device) -> float:
    """Clock that the slowest core of a CPU holds under load: between rated and highest, in ratio.

    What package power leaves depends on cooling and settings, which nobody knows here. A core of the slower
    kind gains as much over its rated clock as one of the quicker.

    Source: an assumption; the efficiencies of the calibration were fitted with it.

    >>> clocks = {"base_hz": 2e9, "tensor_hz": 2e9, "boost_hz": 4.5e9}
    >>> held_hz(Device(id="x", name="X", vendor="v", kind="cpu", architecture="a", **clocks))
    3000000000.0
    """
    rated_hz = device.base_hz or device.boost_hz or np.nan
    return float(rated_hz * np.sqrt((device.boost_hz or rated_hz) / (device.tensor_hz or rated_hz)))


def _even_frac(device: Device) -> float:
    """Threads get equal shares, so a hybrid goes at the pace of its slowest core."""
    peak = device.peak_flops_per_s.get("fp32")
    if not peak or not device.units or not device.lanes_per_unit:
        return 1.0
    return device.units * device.lanes_per_unit * 2.0 * held_hz(device) / peak


def _mkl_frac(device: Device) -> float:
    """MKL keeps to 256-bit vectors on the CPUs of other makers: 16 lanes in two units."""
    lanes = device.lanes_per_unit or 16
    return 16.0 / lanes if device.kind == "cpu" and device.vendor == "AMD" and lanes > 16 else 1.0


def _usual_host_frac(device: Device, calibration: Calibration) -> float:
    """A server's for boards of data centres, a desktop's for others; its own for a CPU, if its speed is known.

    On a CPU a good part of what dispatch costs is in what starting its threads costs.
    """
    launch = calibration.launch
    if device.kind != "cpu":
        return float(launch.reference_core_hz / launch.server_core_hz) if device.segment == "datacenter" else 1.0
    try:
        return float(launch.cpu_dispatch_frac) * host_frac(cpu(device.id), launch)
    except RigwiseError:
        return float(launch.cpu_dispatch_frac)


def stack(parts: Sequence[DeviceColumns]) -> DeviceColumns:
    """Several columns as one, in that order."""
    arrays = [f.name for f in fields(DeviceColumns) if f.name != "devices"]
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays}
    return DeviceColumns(devices=tuple(device for part in parts for device in part.devices), **joined)


def _peak(device: Device, number_format: str) -> float:
    return device.peak(number_format) if device.computes(number_format) else np.nan


def _clock_gain(device: Device, calibration: Calibration) -> float:
    """Clock that a board holds, power allowing, over the boost clock of its data sheet."""
    is_geforce = device.vendor == "NVIDIA" and device.segment == "consumer"
    return float(calibration.power.geforce_clock_gain) if is_geforce else 1.0


def _has_matrix_unit(device: Device, number_format: str) -> bool:
    """Whether the best rate of the format comes from a matrix unit."""
    rates = (rate for rate in RATES_OF_FORMAT[number_format] if rate in device.peak_flops_per_s)
    return "_acc" in next(rates, "")


def _implied_hz(device: Device) -> float:
    """Clock at which the lanes of the device give its vector peak; a usual one if the lanes are not listed."""
    lanes = (device.units or 0) * (device.lanes_per_unit or 0)
    peak = device.peak_flops_per_s.get("fp32")
    return peak / (2.0 * lanes) if peak and lanes else _USUAL_HZ


def _engine(device: Device, number_format: str, calibration: Calibration) -> int:
    if not _has_matrix_unit(device, number_format):
        return ENGINES.index("vector")
    is_fed = design_of(device) in calibration.gemm.asynchronous
    return ENGINES.index("asynchronous" if is_fed else "synchronous")


def _matrix_frac(device: Device, calibration: Calibration) -> float:
    """By product line where that decides, else by architecture."""
    gemm = calibration.gemm
    by_class = gemm.matrix_frac_of_class.get(device.matrix_class)
    return float(by_class or gemm.matrix_frac_of_architecture.get(design_of(device), gemm.matrix_frac))


def _node_scale(device: Device, calibration: Calibration) -> float:
    """Energy of one operation against that on 12 nm."""
    power = calibration.power
    node_nm = power.node_nm_of_architecture.get(design_of(device), power.node_nm)
    return float((node_nm / 12.0) ** power.node_exponent)


def _matrix_j_per_flop(device: Device, calibration: Calibration) -> float:
    """Measured for some architectures; elsewhere by process node."""
    power = calibration.power
    of_architecture = power.matrix_j_per_flop_of_architecture.get(design_of(device))
    return float(of_architecture or power.matrix_j_per_flop * _node_scale(device, calibration))


def _memory_frac(device: Device, family: str, calibration: Calibration) -> float:
    """By architecture where its controllers fall behind those of the same kind of memory later."""
    if device.kind == "cpu":
        return float(calibration.cpu.memory_frac)
    of_kind = calibration.memory.frac_of_kind
    return float(of_kind.get(f"{design_of(device)} {family}", of_kind[family]))
