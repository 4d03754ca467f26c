"""A CPU: host of accelerators, and a device in its own right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rigwise.facts.device import Device
from rigwise.provenance import Basis

#: Memory assumed behind one channel when a CPU is used as a device: it is the owner's choice.
ASSUMED_BYTES_PER_CHANNEL = 32e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """One CPU package.

    Attributes:
        cores, performance_cores, efficiency_cores, threads: Counts; hybrids split the cores.
        base_hz, allcore_hz, max_hz: Rated clock, all cores busy, one core busy.
        efficiency_base_hz: Rated clock of an efficiency core; the others are then of performance cores.
        isa: Vector instruction sets, ``("avx2", "avx512")``.
        fp32_flop_per_cycle_per_core, amx_bf16_flop_per_cycle_per_core: A multiply-add is 2.
        efficiency_fp32_flop_per_cycle_per_core: The same of an efficiency core.
        ipc_frac: Instructions in a cycle of one (performance) core against Skylake's, as makers state it
            from one generation to the next.
        memory_kind, memory_channels, memory_bytes_per_s, l3_bytes: Memory of one socket.
        pcie_generation, pcie_lanes: Lanes of the CPU itself.
    """

    id: str
    name: str
    vendor: str
    architecture: str
    segment: str = ""
    launch: str = ""
    cores: int | None = None
    performance_cores: int | None = None
    efficiency_cores: int | None = None
    threads: int | None = None
    base_hz: float | None = None
    efficiency_base_hz: float | None = None
    allcore_hz: float | None = None
    max_hz: float | None = None
    isa: tuple[str, ...] = ()
    fp32_flop_per_cycle_per_core: float | None = None
    amx_bf16_flop_per_cycle_per_core: float | None = None
    efficiency_fp32_flop_per_cycle_per_core: float | None = None
    ipc_frac: float | None = None
    memory_kind: str = ""
    memory_channels: int | None = None
    memory_bytes_per_s: float | None = None
    l3_bytes: float | None = None
    pcie_generation: float | None = None
    pcie_lanes: int | None = None
    tdp_w: float | None = None
    price_usd: float | None = None
    basis: Mapping[str, Basis] = field(default_factory=dict)
    source: str = ""
    note: str = ""


#: Instruction sets with arithmetic in fp16. Source: Intel, "AVX512-FP16 Architecture Specification"; Arm, "Architecture
#: Reference Manual", FEAT_FP16, which SVE implies.
_HALF = frozenset({"fp16", "sve", "sve2"})


def peak_rates(cpu: Cpu) -> dict[str, float]:
    """Dense peaks in FLOP/s: cores x clock x FLOP per cycle, at the base clock.

    The base clock is what the package holds under full vector load at its rated power; bounds use the
    highest clock instead. The cores of a hybrid count each at its own clock and width. AVX-512 with bf16
    multiplies pairs: twice the fp32 rate. Arithmetic in fp16 counts at the fp32 rate, since libraries accumulate in
    fp32; a CPU without it emulates it, which is slower by far (see ``estimate.cpu``), and has no such rate.

    Source: Fog, "Instruction tables"; Intel, "Optimization Reference Manual", for AMX.

    >>> x = Cpu(id="x", name="X", vendor="v", architecture="a", cores=14, base_hz=3.3e9,
    ...         fp32_flop_per_cycle_per_core=64)
    >>> peak_rates(x)["fp32"]
    2956800000000.0
    """
    clock_hz, cores = cpu.allcore_hz or cpu.base_hz, cpu.cores
    if not clock_hz or not cores:
        return {}
    rates = {}
    if cpu.fp32_flop_per_cycle_per_core:
        rates["fp32"] = cores * clock_hz * cpu.fp32_flop_per_cycle_per_core
        if cpu.efficiency_cores and cpu.efficiency_base_hz and cpu.efficiency_fp32_flop_per_cycle_per_core:
            small = cpu.efficiency_cores * cpu.efficiency_base_hz * cpu.efficiency_fp32_flop_per_cycle_per_core
            large = (cores - cpu.efficiency_cores) * clock_hz * cpu.fp32_flop_per_cycle_per_core
            rates["fp32"] = large + small
        rates["fp64"] = rates["fp32"] / 2
        if {"avx512", "bf16"} <= set(cpu.isa):
            rates["bf16_acc32"] = 2 * rates["fp32"]
        if _HALF & set(cpu.isa):
            rates["fp16"] = rates["fp32"]
    if cpu.amx_bf16_flop_per_cycle_per_core:
        rates["bf16_acc32"] = cores * clock_hz * cpu.amx_bf16_flop_per_cycle_per_core
        rates["int8_acc32"] = 2 * rates["bf16_acc32"]
    return rates


def slowest_core(cpu: Cpu) -> tuple[float | None, float | None]:
    """Rated clock, and fp32 FLOP per cycle, of the core that an even split of work waits for.

    >>> slowest_core(Cpu(id="x", name="X", vendor="v", architecture="a", efficiency_cores=8, base_hz=2.3e9,
    ...                  efficiency_base_hz=1.7e9, fp32_flop_per_cycle_per_core=32,
    ...                  efficiency_fp32_flop_per_cycle_per_core=16))
    (1700000000.0, 16)
    """
    if cpu.efficiency_cores and cpu.efficiency_base_hz:
        return cpu.efficiency_base_hz, cpu.efficiency_fp32_flop_per_cycle_per_core
    return cpu.allcore_hz or cpu.base_hz, cpu.fp32_flop_per_cycle_per_core


def as_device(cpu: Cpu) -> Device:
    """The CPU as a device a model can run on, with an assumed size of memory.

    Its units are cores; clock and lanes of a unit are those of the slowest kind of core. ``tensor_hz`` is the
    clock of its peaks.
    """
    channels = cpu.memory_channels or 2
    core_hz, flop_per_cycle = slowest_core(cpu)
    return Device(
        id=cpu.id,
        name=cpu.name,
        vendor=cpu.vendor,
        kind="cpu",
        architecture=cpu.architecture,
        segment=cpu.segment,
        launch=cpu.launch,
        units=cpu.cores,
        lanes_per_unit=int(flop_per_cycle / 2) if flop_per_cycle else None,
        boost_hz=cpu.max_hz or cpu.base_hz,
        base_hz=core_hz,
        tensor_hz=cpu.allcore_hz or cpu.base_hz,
        peak_flops_per_s=peak_rates(cpu),
        memory_bytes=channels * ASSUMED_BYTES_PER_CHANNEL,
        memory_kind=cpu.memory_kind,
        memory_bytes_per_s=cpu.memory_bytes_per_s,
        l2_bytes=cpu.l3_bytes,
        tdp_w=cpu.tdp_w,
        launch_price_usd=cpu.price_usd,
        basis={key: basis for key, basis in cpu.basis.items() if key != "ipc_frac"} | {"memory_bytes": Basis.ASSUMED},
        source=cpu.source,
        note=cpu.note,
    )
