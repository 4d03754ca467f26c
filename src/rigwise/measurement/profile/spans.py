"""A recorded run as spans of time: what the host did, and what devices did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Shapes = tuple[tuple[int, ...], ...]


class What(StrEnum):
    """What a span is."""

    OP = "op"  # an operator of a framework, on the host
    MARK = "mark"  # what a person or a framework named: a step, an optimizer, a loader
    CALL = "call"  # a call of the device's runtime or driver
    KERNEL = "kernel"
    COPY = "copy"
    FILL = "fill"


#: What runs on a device rather than on the host.
ON_DEVICE = frozenset({What.KERNEL, What.COPY, What.FILL})


@dataclass(frozen=True, slots=True)
class Span:
    """One span.

    Attributes:
        what: Kind of span.
        name: As the profiler wrote it.
        start_s: Since the first event of the file.
        time_s: How long it took.
        lane: Thread of the host, or stream of a device.
        device: Number of the device; -1 on the host.
        link: Joins a call of the runtime and what it started; 0 for none.
        outer: Number of the operator inside which it was started; 0 where it is not said.
        shapes: Sizes of the tensors among the inputs; empty where they were not recorded.
        copied_bytes: Of a copy.
    """

    what: What
    name: str
    start_s: float
    time_s: float
    lane: str
    device: int = -1
    link: int = 0
    outer: int = 0
    shapes: Shapes = ()
    copied_bytes: float = 0.0

    @property
    def end_s(self) -> float:
        """When it ended."""
        return self.start_s + self.time_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A recorded run.

    Attributes:
        source: ``torch``, ``chrome`` or ``nsight``.
        host: Spans of the host in the order in which they began; of two that begin together the longer first.
        on_device: Spans of devices in the order in which they began.
        devices: Names by number, where the file says them.
        ranks: Number of this process and how many there are, where the file says so.
        events: That were read.
        notes: What was left out or mended, in words.
    """

    source: str
    host: tuple[Span, ...]
    on_device: tuple[Span, ...]
    devices: Mapping[int, str] = field(default_factory=dict)
    ranks: tuple[int, int] | None = None
    events: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What ``perf stat`` counted.

    Attributes:
        values: By name of the event, without modifiers; times in seconds.
        counted_frac: Part of the run during which each was counted, where that is not all of it.
        missing: Events that could not be counted.
        elapsed_s: Of the run; None where the file does not say.
        command: What ran; empty where the file does not say.
    """

    values: Mapping[str, float]
    counted_frac: Mapping[str, float]
    missing: tuple[str, ...]
    elapsed_s: float | None
    command: str = ""
