"""An accelerator as the framework sees it: one GPU of a K80, one GCD of an MI250."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rigwise.errors import MissingFactError, UnsupportedError
from rigwise.provenance import Basis

#: Number formats that a workload may compute in, and the peak rates that serve each, best first.
#: ``acc32`` and ``acc16`` name the accumulator of a matrix unit; a bare name is the vector rate.
RATES_OF_FORMAT: Mapping[str, tuple[str, ...]] = {
    "fp64": ("fp64_acc64", "fp64"),
    "fp32": ("fp32_acc32", "fp32"),
    "tf32": ("tf32_acc32",),
    "fp16": ("fp16_acc32", "fp16", "fp32"),
    "bf16": ("bf16_acc32",),
    "fp8": ("fp8_acc32", "fp8_acc16"),
    "int8": ("int8_acc32",),
    "int4": ("int4_acc32",),
    "fp4": ("fp4_acc32",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator (or, built by ``cpu.as_device``, one CPU).

    Attributes:
        id: Catalogue name, ``h100-sxm5-80gb``.
        name: Marketing name.
        vendor, kind, architecture, segment, launch: For filters. ``kind`` is
            gpu, tpu, npu, soc or cpu; ``launch`` is ``YYYY-MM``.
        compute_capability: NVIDIA only, ``"9.0"``.
        units: Streaming multiprocessors, compute units or cores.
        lanes_per_unit: fp32 lanes of one unit.
        shared_bytes_per_unit, register_bytes_per_unit: On-chip memory of one unit.
        boost_hz, base_hz, tensor_hz: Highest and lowest rated clock; rated clock under matrix work
            where it differs.
        peak_flops_per_s: Dense peak by rate name (see ``RATES_OF_FORMAT``); a multiply-add is 2.
        memory_bytes: As marketed. ``usable_bytes``: what the driver really offers, where known.
        memory_bytes_per_s, l2_bytes, memory_kind: Device memory and last-level cache.
        tdp_w: Board power limit.
        host_link, host_bytes_per_s_each_way: Link to the host.
        peer_link, peer_bytes_per_s_each_way: All links to other devices of the node together.
        slots, per_board: Expansion slots of a card; devices on one board (two on a K80 or MI250).
        matrix_class: ``dc``, ``pro``, ``geforce``, ``halfpipe``, ``none`` ...: which accumulate
            rates of its generation the product line is allowed.
        basis: Basis of each figure, by field name (``peak_flops_per_s.bf16_acc32``);
            the empty key is the basis of all others.
    """

    id: str
    name: str
    vendor: str
    kind: str
    architecture: str
    segment: str = ""
    launch: str = ""
    compute_capability: str = ""
    units: int | None = None
    lanes_per_unit: int | None = None
    shared_bytes_per_unit: float | None = None
    register_bytes_per_unit: float | None = None
    boost_hz: float | None = None
    base_hz: float | None = None
    tensor_hz: float | None = None
    peak_flops_per_s: Mapping[str, float] = field(default_factory=dict)
    memory_bytes: float | None = None
    usable_bytes: float | None = None
    memory_kind: str = ""
    memory_bytes_per_s: float | None = None
    l2_bytes: float | None = None
    tdp_w: float | None = None
    host_link: str = ""
    host_bytes_per_s_each_way: float | None = None
    peer_link: str = ""
    peer_bytes_per_s_each_way: float | None = None
    slots: float | None = None
    per_board: int = 1
    launch_price_usd: float | None = None
    matrix_class: str = ""
    basis: Mapping[str, Basis] = field(default_factory=dict)
    source: str = ""
    note: str = ""

    def peak(self, number_format: str) -> float:
        """Dense peak in FLOP/s for arithmetic in ``number_format``, accumulating in 32 bits.

        Where fp16 lanes are slower than fp32 (compute capability 6.1: 1/64), libraries
        convert and compute in fp32, so that is the rate.

        Raises:
            UnsupportedError: The device has no unit for the format.
            MissingFactError: The device may have one, but nobody published its rate.

        >>> Device(id="x", name="X", vendor="v", kind="gpu", architecture="a",
        ...        peak_flops_per_s={"fp32": 1e13}).peak("fp16")
        10000000000000.0
        """
        peaks = [
            self.peak_flops_per_s[rate] for rate in RATES_OF_FORMAT[number_format] if rate in self.peak_flops_per_s
        ]
        if peaks:
            return max(peaks) if number_format == "fp16" else peaks[0]
        known = ", ".join(f for f in RATES_OF_FORMAT if self.computes(f))
        if not known:
            raise MissingFactError(
                f"{self.id} has no sourced peak rate for any number format", hint="see rigwise devices --incomplete"
            )
        raise UnsupportedError(f"{self.id} has no sourced peak for {number_format}", hint=f"it has: {known}")

    def computes(self, number_format: str) -> bool:
        """Whether a peak rate is known for the format."""
        return any(rate in self.peak_flops_per_s for rate in RATES_OF_FORMAT[number_format])

    def missing(self) -> tuple[str, ...]:
        """The figures a prediction needs and the catalogue lacks."""
        needed = {
            "memory_bytes": self.memory_bytes,
            "memory_bytes_per_s": self.memory_bytes_per_s,
            "peak_flops_per_s": self.peak_flops_per_s or None,
        }
        return tuple(name for name, value in needed.items() if value is None)
