"""What a benchmark measures, and what its figure is compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Parameter = str | int | float | bool

#: Units of figures; of a time, an energy and a power less is better, of a rate more.
TIME, FLOPS, BYTES, ITEMS, ERROR = "s", "FLOP/s", "B/s", "1/s", ""
JOULES, WATTS = "J", "W"

#: Parameters that are results themselves: they say more of a figure, and two figures that differ in them still compare.
OUTCOMES = frozenset({"error", "looked_at", "p99_us", "same_class_frac", "setup_s", "speed_over_fp32", "steps_per_s"})
OUTCOMES |= {"target_loss"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Times of one call, each the mean over a block of calls.

    Attributes:
        samples_s: One for each block, in the order they were taken; none is left out.
        calls: Calls in a block.
        cpu_s: CPU time of the process over all blocks, all threads together.
        wall_s: Time from the first block to the last.
        warm_up_s: Before the first block: compilation, allocation, choice of algorithms.
    """

    samples_s: tuple[float, ...]
    calls: int = 1
    cpu_s: float = 0.0
    wall_s: float = 0.0
    warm_up_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What else went on while a figure was taken; None where the machine does not tell.

    Attributes:
        others_frac: Share of all CPU time that other processes took.
        steal_frac: Share that the host of a virtual machine gave to others.
        stall_frac: Share of the time in which some process waited for a CPU.
        gpu_hz, gpu_w: Clock and power of the GPU as last sampled.
        throttled: Why the GPU held its clock back; empty where it did not, or does not say.
    """

    others_frac: float | None = None
    steal_frac: float | None = None
    stall_frac: float | None = None
    gpu_hz: float | None = None
    gpu_w: float | None = None
    throttled: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One figure as it was measured.

    Attributes:
        name: Benchmark and case, ``matmul.fp32``.
        unit: One of ``TIME``, ``FLOPS``, ``BYTES``, ``ITEMS``, ``JOULES``, ``WATTS``, or ``ERROR`` for a ratio.
        amount: FLOP, bytes or items of one call; 1 for a time.
        timing: How long calls took; None for a ratio and for what was skipped.
        value: A ratio, or a figure that was measured elsewhere; None where the timing says it.
        parameters: Sizes, dtype, threads: what another machine needs to do the same; ``flops_per_item`` and
            ``bytes_per_item`` say what physics asks of each item of a rate.
        limit: The physical limit: a number format, ``memory``, ``host link``, or empty where there is none.
        work: What the catalogue is asked to predict; empty where it has no law.
        note: What the figure leaves out.
        skipped: Why there is no figure; empty where there is one.
        state: What else went on.
    """

    name: str
    unit: str
    amount: float = 1.0
    timing: Timing | None = None
    value: float | None = None
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    limit: str = ""
    work: Mapping[str, Parameter] = field(default_factory=dict)
    note: str = ""
    skipped: str = ""
    state: State = field(default_factory=State)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A figure to compare with, in the unit of what it stands beside.

    Attributes:
        value: The figure.
        words: How it comes about, or on what it was measured.
        source: Where it is from.
    """

    value: float
    words: str
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure, with its spread and what it is compared with.

    Attributes:
        raw: As it was measured.
        value: The median, in the raw figure's unit; None where it was skipped.
        low, high: 95 % interval of the median.
        best: Of the quickest block.
        spread_frac: Middle half of the samples over their median.
        limit, predicted, published: What it is compared with, where there is such a thing.
        remarks: Noise, its likely causes, figures above the limit.
    """

    raw: Raw
    value: float | None = None
    low: float | None = None
    high: float | None = None
    best: float | None = None
    spread_frac: float | None = None
    limit: Reference | None = None
    predicted: Reference | None = None
    published: tuple[Reference, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """How one suite measures, the same for all of its benchmarks.

    Attributes:
        target: As PyTorch names it: ``cpu``, ``cuda:0``, ``mps``, ``xpu:0``.
        threads: Of arithmetic on the CPU.
        each_s: Time for one figure.
        folder: Where the disk is tested: new, empty, and removed by whoever made it; empty for none.
        memory_bytes: What may be used of the target's memory.
        cache_bytes: Last-level cache of the target.
        disk_bytes: How large the file of the disk test is.
        seed: Of all random data.
        wanted: Names of figures or of their beginnings; empty for all.
    """

    target: str = "cpu"
    threads: int = 1
    each_s: float = 0.5
    folder: str = ""
    memory_bytes: float = 2e9
    cache_bytes: float = 32e6
    disk_bytes: int = 256 * 2**20
    seed: int = 0
    wanted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One file of this package.

    Attributes:
        name: First word of its figures.
        group: What part of the machine it is about.
        figures: How many it takes, in times of one figure.
        answers: What it measures, for people.
        quick: Whether ``--quick`` runs it without being asked: not what loads further libraries, exports a model, or
            trains.
    """

    name: str
    group: str
    figures: int
    answers: str
    quick: bool = True

    @property
    def module(self) -> str:
        """Where its ``run`` is."""
        return f"rigwise.bench.{self.name.replace('-', '_')}"
