"""Theoretical peaks of what was found, with the arithmetic: cores x clock x FLOP, units x clock x FLOP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rigwise.facts.cpu import Cpu
from rigwise.facts.device import Device

#: fp32 lanes of a multiprocessor by compute capability; a bare number is for its minor versions that are not listed.
#: Source: CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions".
LANES = {
    "2.0": 32, "2.1": 48, "3": 192, "5": 128, "6.0": 64, "6": 128, "7": 64, "8.0": 64, "8": 128, "9": 128, "10": 128,
    "11": 128, "12": 128,
}  # fmt: skip
#: fp32 lanes of one instruction, widest first. Source: the instruction sets themselves: 512, 256 and 128 bits.
VECTORS = (("avx512", 16), ("avx2", 8), ("avx", 8), ("sse4.2", 4), ("neon", 4))
#: What each rate of a matrix or vector unit is called for people.
NAMES = {"fp32_acc32": "fp32", "tf32_acc32": "tf32", "fp16_acc32": "fp16", "bf16_acc32": "bf16", "fp8_acc32": "fp8"}
NAMES |= {"int8_acc32": "int8", "fp4_acc32": "fp4", "fp64_acc64": "fp64 matrix"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peak:
    """One theoretical peak.

    Attributes:
        what: Number format.
        flops_per_s: Dense, a multiply-add is 2.
        arithmetic: How it comes about, for people to follow.
    """

    what: str
    flops_per_s: float
    arithmetic: str


def lanes_of(compute_capability: str) -> int | None:
    """fp32 lanes of one multiprocessor.

    >>> lanes_of("8.6"), lanes_of("8.0"), lanes_of("1.3")
    (128, 64, None)
    """
    return LANES.get(compute_capability) or LANES.get(compute_capability.partition(".")[0])


def flop_per_cycle(isa: Iterable[str], widest: float | None) -> float | None:
    """fp32 FLOP per cycle of a core whose instruction sets may be masked: lanes x pipes x 2.

    Without AVX-512 a core of any maker has two pipes of 256 bits, and never does more than its architecture can.

    Source: Fog, "Instruction tables"; ``widest`` from the catalogue.

    >>> flop_per_cycle(["avx", "avx2", "fma", "avx512"], 64), flop_per_cycle(["avx", "avx2", "fma"], 64)
    (64, 32.0)
    >>> flop_per_cycle(["neon"], 32), flop_per_cycle(["avx"], None)
    (32, None)
    """
    known = set(isa)
    if widest is None or known & {"avx512", "neon", "sve"}:
        return widest
    lanes = next((lanes for name, lanes in VECTORS if name in known), 1)
    pipes, per_lane = 2.0, 2.0 if known & {"fma"} else 1.0
    return min(widest, lanes * pipes * per_lane)


def cpu_peaks(cpu: Cpu, isa: Iterable[str], *, cores: int, clock_hz: float) -> list[Peak]:
    """Peaks of so many cores of a CPU at a clock; all the cores of a hybrid count each at its own clock and width.

    Source: cores x clock x FLOP per cycle; AVX-512 with bf16 multiplies pairs; Intel's manual for AMX.

    >>> zen5 = Cpu(id="x", name="X", vendor="v", architecture="a", fp32_flop_per_cycle_per_core=64)
    >>> cpu_peaks(zen5, ["avx512"], cores=2, clock_hz=2.6e9)[0].arithmetic
    '2 cores x 2.60 GHz x 16 lanes x 2 pipes x 2'
    """
    known = set(isa)
    width = flop_per_cycle(known, cpu.fp32_flop_per_cycle_per_core)
    if not width:
        return []
    small = cpu.efficiency_cores or 0 if cores == cpu.cores else 0
    large = cores - small
    count = f"{large} core{'s' if large != 1 else ''} x {clock_hz / 1e9:.2f} GHz"
    fp32, words = large * clock_hz * width, f"{count} x {_split(known, width)}"
    small_hz, small_width = cpu.efficiency_base_hz, cpu.efficiency_fp32_flop_per_cycle_per_core
    if small and small_hz and small_width:
        fp32 += small * small_hz * small_width
        words = f"{count} x {width:.0f} + {small} x {small_hz / 1e9:.2f} GHz x {small_width:.0f}"
    peaks = [Peak(what="fp32", flops_per_s=fp32, arithmetic=words)]
    peaks.append(Peak(what="fp64", flops_per_s=fp32 / 2, arithmetic="half of the lanes"))
    if cpu.amx_bf16_flop_per_cycle_per_core and "amx-bf16" in known:
        amx = cpu.amx_bf16_flop_per_cycle_per_core
        peaks.append(Peak(what="bf16", flops_per_s=cores * clock_hz * amx, arithmetic=f"{count} x {amx:.0f} in AMX"))
    elif {"avx512", "bf16"} <= known:
        peaks.append(Peak(what="bf16", flops_per_s=2 * fp32, arithmetic="twice the lanes"))
    return peaks


def _split(known: set[str], width: float) -> str:
    """FLOP per cycle as lanes x pipes x 2, where it is a whole number of them."""
    lanes = next((lanes for name, lanes in VECTORS if name in known), 1)
    per_lane = 2 if known & {"fma", "avx512", "neon"} else 1
    pipes = width / (lanes * per_lane)
    if pipes != int(pipes):
        return f"{width:.0f} FLOP"
    return f"{lanes} lanes x {pipes:.0f} pipe{'s' if pipes != 1 else ''} x {per_lane}"


def gpu_peaks(device: Device, *, units: int, clock_hz: float | None = None) -> list[Peak]:
    """Peaks of so many units of a device of the catalogue: units x FLOP of one per clock x clock.

    FLOP of one unit per clock follow from the data sheet's peak, units and clock, so that a part with units switched
    off, or other clocks, gets its own peak.

    Args:
        device: The catalogue's.
        units: Multiprocessors or compute units that the driver reports.
        clock_hz: Highest clock that the driver reports, for vector rates; None for the data sheet's.

    >>> d = Device(id="x", name="X", vendor="v", kind="gpu", architecture="a", units=100, boost_hz=2e9,
    ...            lanes_per_unit=128, peak_flops_per_s={"fp32": 51.2e12})
    >>> gpu_peaks(d, units=50)[0].arithmetic
    '50 units x 128 lanes x 2 x 2.00 GHz'
    """
    peaks = []
    for rate, peak_flops_per_s in shown_rates(device.peak_flops_per_s).items():
        is_matrix = "_acc" in rate
        rated_hz = (device.tensor_hz if is_matrix else None) or device.boost_hz
        if not device.units or not rated_hz:
            continue
        each = peak_flops_per_s / (device.units * rated_hz)
        used_hz = rated_hz if is_matrix else clock_hz or rated_hz
        lanes = device.lanes_per_unit
        is_plain = rate == "fp32" and lanes and abs(each / (2 * lanes) - 1) < 0.01
        per_unit = f"{lanes} lanes x 2" if is_plain else f"{each:.0f} FLOP"
        words = f"{units} units x {per_unit} x {used_hz / 1e9:.2f} GHz"
        peaks.append(Peak(what=NAMES.get(rate, rate), flops_per_s=units * each * used_hz, arithmetic=words))
    return peaks


def vector_peak(*, units: float, lanes: float, clock_hz: float) -> Peak:
    """fp32 of a GPU that the catalogue does not have; its matrix rates follow from nothing that a driver states.

    Source: units x lanes x 2 x clock; lanes of NVIDIA's CUDA C++ Programming Guide, "Arithmetic Instructions".

    >>> vector_peak(units=100, lanes=128, clock_hz=2e9).flops_per_s / 1e12
    51.2
    """
    words = f"{units:.0f} units x {lanes:.0f} lanes x 2 x {clock_hz / 1e9:.2f} GHz"
    return Peak(what="fp32", flops_per_s=units * lanes * 2 * clock_hz, arithmetic=words)


def shown_rates(peaks: Mapping[str, float]) -> dict[str, float]:
    """The rates that a person compares: vector fp32 first, then the matrix rates that accumulate in 32 bits."""
    wanted = ("fp32", "fp64", "tf32_acc32", "fp16_acc32", "bf16_acc32", "fp8_acc32", "int8_acc32")
    return {rate: peaks[rate] for rate in wanted if rate in peaks}


def memory_bytes_per_s(transfers_per_s: float, bits: float) -> float:
    """Bandwidth of a memory bus: transfers x width.

    >>> memory_bytes_per_s(3200e6, 2 * 64) / 1e9
    51.2
    """
    return transfers_per_s * bits / 8
