"""How busy devices and the host were during a step, and what they waited for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rigwise.measurement.profile.intervals import Cover, Pieces, merged, total_s, without
from rigwise.measurement.profile.spans import Span, What
from rigwise.measurement.profile.steps import Linked, Step, window_of

#: Kernels and operators that move data between devices of a job.
_COMMUNICATES = re.compile(
    r"nccl|rccl|oneccl|msccl|nvshmem|gloo:|(c10d|_c10d_functional)::(?!barrier)|cross_device_reduce", re.IGNORECASE
)
#: Calls in which the host waits for a device. ``cudaMemcpy`` waits, ``cudaMemcpyAsync`` from pinned memory does not.
_WAITS = re.compile(r"Synchronize|^(cuda|hip|cu)Memcpy(?!.*Async)|StreamWait|EventQuery")
#: What a loader of PyTorch is called. Source: ``torch.utils.data``, names of its profiler ranges.
_LOADS = re.compile(r"enumerate\(DataLoader\)|DataLoader.*__next__|next\(data", re.IGNORECASE)
_DIRECTION = re.compile(r"\b(HtoD|DtoH|DtoD|PtoP|HtoH)\b")
#: A shorter wait of a device is how it starts one kernel after another.
_LEAST_GAP_S = 1e-6
_STRETCHES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Work on a device that the host did not ask for in time, piece after piece.

    Attributes:
        start_s, time_s: From the first wait to the end of the last piece.
        idle_s: Of that the device waited.
        pieces: Kernels, copies and fills.
        first, last: What the host was in when it asked for the first and the last.
    """

    start_s: float
    time_s: float
    idle_s: float
    pieces: int
    first: str
    last: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """All copies of one direction.

    Attributes:
        direction: HtoD, DtoH, DtoD, PtoP, HtoH or other.
        count: How many.
        moved_bytes, time_s: Of all together.
        exposed_s: While no kernel ran on the device.
        pageable: How many had one end in memory that is not pinned.
    """

    direction: str
    count: int
    moved_bytes: float
    time_s: float
    exposed_s: float
    pageable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One device, or the host where no device was recorded, during one step.

    Attributes:
        device: Its number; -1 for the host.
        name: Its name; empty where the file does not say.
        lanes: Streams or threads.
        window_s: Length of the step there.
        busy_s: While anything ran.
        kernel_s: Sum over kernels, or over outermost operators of the host; more than ``busy_s`` where some overlap.
        pieces: Kernels or operators.
        idle_s: What the rest went into: ``input``, ``synchronising``, ``in operators``, ``between operators`` (Python
            and whatever else the host did), ``queued`` (asked for in time, but not yet begun), ``unknown``.
        stretches: Where the device waited for the host, the longest wait first.
        stretch_s: Length of all such stretches.
        copies: By direction.
        communication_s, exposed_communication_s: Collectives, and those of them during which no other kernel ran.
    """

    device: int
    name: str
    lanes: int
    window_s: float
    busy_s: float
    kernel_s: float
    pieces: int
    idle_s: Mapping[str, float]
    stretches: tuple[Stretch, ...] = ()
    stretch_s: float = 0.0
    copies: tuple[Copies, ...] = field(default=())
    communication_s: float = 0.0
    exposed_communication_s: float = 0.0


def communicates(name: str) -> bool:
    """Whether a kernel or an operator moves data between devices of a job."""
    return bool(_COMMUNICATES.search(name))


def activities(tied: Linked, steps: Sequence[Step], at: int) -> tuple[Activity, ...]:
    """Every device during one step; the host where none was recorded."""
    step = steps[at]
    devices = sorted({tied.trace.on_device[index].device for index in step.on_device})
    if not devices:
        return (_host(tied, step),)
    return tuple(_device(tied, steps, at, device) for device in devices)


def _host(tied: Linked, step: Step) -> Activity:
    """Outermost operators count as work; marks are only around it."""
    spans = [tied.trace.host[index] for index in step.host]
    ops = [tied.trace.host[index] for index in step.host if _is_outermost(tied, index)]
    busy = merged((op.start_s, min(op.end_s, step.end_s)) for op in ops)
    loading = without(merged((s.start_s, min(s.end_s, step.end_s)) for s in spans if _LOADS.search(s.name)), busy)
    window_s, busy_s, input_s = step.end_s - step.start_s, total_s(busy), total_s(loading)
    idle = {"input": input_s, "between operators": max(0.0, window_s - busy_s - input_s)}
    sent = merged((s.start_s, min(s.end_s, step.end_s)) for s in spans if communicates(s.name))
    others = merged((op.start_s, min(op.end_s, step.end_s)) for op in ops if not communicates(op.name))
    return Activity(
        device=-1,
        name="",
        lanes=len({op.lane for op in ops}),
        window_s=window_s,
        busy_s=busy_s,
        kernel_s=sum(op.time_s for op in ops),
        pieces=len(ops),
        idle_s={name: value for name, value in idle.items() if value > 0},
        communication_s=total_s(sent),
        exposed_communication_s=total_s(without(sent, others)),
    )


def _is_outermost(tied: Linked, index: int) -> bool:
    if tied.trace.host[index].what is not What.OP:
        return False
    parent = tied.parents[index]
    while parent >= 0 and tied.trace.host[parent].what is not What.OP:
        parent = tied.parents[parent]
    return parent < 0


def _device(tied: Linked, steps: Sequence[Step], at: int, device: int) -> Activity:
    own = [index for index in steps[at].on_device if tied.trace.on_device[index].device == device]
    spans = [tied.trace.on_device[index] for index in own]
    window = window_of(tied, steps, at, device)
    kernels = [span for span in spans if span.what is What.KERNEL]
    busy = merged((span.start_s, min(span.end_s, window[1])) for span in spans)
    sent = merged((span.start_s, span.end_s) for span in kernels if communicates(span.name))
    computed = merged((span.start_s, span.end_s) for span in kernels if not communicates(span.name))
    idle, stretches = _idle(tied, own, window)
    return Activity(
        device=device,
        name=tied.trace.devices.get(device, ""),
        lanes=len({span.lane for span in spans}),
        window_s=window[1] - window[0],
        busy_s=total_s(busy),
        kernel_s=sum(span.time_s for span in kernels),
        pieces=len(kernels),
        idle_s=idle,
        stretches=tuple(sorted(stretches, key=lambda one: -one.idle_s)[:_STRETCHES]),
        stretch_s=sum(one.time_s for one in stretches),
        copies=_copies([span for span in spans if span.what is What.COPY], computed),
        communication_s=total_s(sent),
        exposed_communication_s=total_s(without(sent, computed)),
    )


@dataclass(frozen=True, slots=True)
class _Lane:
    """What a thread of the host was doing, apart."""

    waiting: Cover
    loading: Cover
    working: Cover


def _lane(spans: Iterable[Span]) -> _Lane:
    found: dict[str, Pieces] = {"waiting": [], "loading": [], "working": []}
    for span in spans:
        piece = (span.start_s, span.end_s)
        if span.what is What.CALL and _WAITS.search(span.name):
            found["waiting"].append(piece)
        elif _LOADS.search(span.name):
            found["loading"].append(piece)
        elif span.what in (What.OP, What.CALL):
            found["working"].append(piece)
    waiting = merged(found["waiting"])
    loading = without(merged(found["loading"]), waiting)
    working = without(without(merged(found["working"]), waiting), merged(found["loading"]))
    return _Lane(Cover(waiting), Cover(loading), Cover(working))


def _idle(tied: Linked, own: Sequence[int], window: tuple[float, float]) -> tuple[dict[str, float], list[Stretch]]:
    """Where the device waited: for each gap, whether the host had asked for the next piece, and what it did instead."""
    by_lane: dict[str, list[Span]] = {}
    for span in tied.trace.host:
        if span.end_s > window[0] - 1.0 and span.start_s < window[1]:
            by_lane.setdefault(span.lane, []).append(span)
    lanes: dict[str, _Lane] = {}
    idle: dict[str, float] = {}
    stretches: list[Stretch] = []
    run: list[tuple[float, float, int]] = []
    busy_until = window[0]
    for index in own:
        span = tied.trace.on_device[index]
        gap_s = span.start_s - busy_until
        late = 0.0
        if gap_s > 0:
            starter = tied.starters[index]
            if starter < 0:
                _add(idle, "unknown", gap_s)
            else:
                asked = tied.trace.host[starter]
                late = min(max(0.0, asked.start_s - busy_until), gap_s)
                lane = lanes.setdefault(asked.lane, _EMPTY)
                if lane is _EMPTY:
                    lane = lanes[asked.lane] = _lane(by_lane.get(asked.lane, ()))
                _share(idle, lane, busy_until, busy_until + late)
                _add(idle, "queued", gap_s - late)
        if late >= _LEAST_GAP_S:
            run.append((busy_until, late, index))
        elif gap_s >= 0 or not run:
            stretches += _stretch(tied, run)
            run = []
        busy_until = max(busy_until, span.end_s)
    stretches += _stretch(tied, run)
    if window[1] > busy_until:
        lane = next(iter(lanes.values()), _EMPTY)
        _share(idle, lane, busy_until, window[1])
    return {name: value for name, value in idle.items() if value > 0}, stretches


_EMPTY = _Lane(Cover([]), Cover([]), Cover([]))


def _share(idle: dict[str, float], lane: _Lane, start_s: float, end_s: float) -> None:
    waiting, loading, working = (one.within_s(start_s, end_s) for one in (lane.waiting, lane.loading, lane.working))
    _add(idle, "synchronising", waiting)
    _add(idle, "input", loading)
    _add(idle, "in operators", working)
    _add(idle, "between operators", max(0.0, end_s - start_s - waiting - loading - working))


def _add(idle: dict[str, float], name: str, time_s: float) -> None:
    idle[name] = idle.get(name, 0.0) + time_s


def _stretch(tied: Linked, run: Sequence[tuple[float, float, int]]) -> list[Stretch]:
    if not run:
        return []
    spans = [tied.trace.on_device[index] for _, _, index in run]
    start_s = run[0][0]
    return [
        Stretch(
            start_s=start_s,
            time_s=max(span.end_s for span in spans) - start_s,
            idle_s=sum(late for _, late, _ in run),
            pieces=len(run),
            first=operator_of(tied, run[0][2]),
            last=operator_of(tied, run[-1][2]),
        )
    ]


def operator_of(tied: Linked, index: int) -> str:
    """The outermost operator that started a span of a device; its own name where there is none."""
    at, found = tied.starters[index], ""
    while at >= 0:
        if tied.trace.host[at].what is What.OP:
            found = tied.trace.host[at].name
        at = tied.parents[at]
    return found or tied.trace.on_device[index].name


def _copies(spans: Sequence[Span], computed: Pieces) -> tuple[Copies, ...]:
    cover = Cover(computed)
    groups: dict[str, list[Span]] = {}
    for span in spans:
        match = _DIRECTION.search(span.name)
        groups.setdefault(match.group(1) if match else "other", []).append(span)
    return tuple(
        Copies(
            direction=direction,
            count=len(some),
            moved_bytes=sum(span.copied_bytes for span in some),
            time_s=sum(span.time_s for span in some),
            exposed_s=sum(span.time_s - cover.within_s(span.start_s, span.end_s) for span in some),
            pageable=sum("Pageable" in span.name for span in some),
        )
        for direction, some in sorted(groups.items())
    )
