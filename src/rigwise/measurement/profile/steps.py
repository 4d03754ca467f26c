"""Which host span stands inside which, which of them started what on a device, and one step out of several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from rigwise.measurement.profile.spans import Span, Trace, What

#: How loops and profilers name a step. Source: ``torch.profiler.profile.step`` for the first.
_STEP = re.compile(r"(ProfilerStep#|(train(ing)?[ _])?(step|iteration|iter)[ _:#=]*)\d+", re.IGNORECASE)
#: Clocks of host threads agree to this.
_SLACK_S = 1e-9


@dataclass(frozen=True)
class Linked:
    """A trace whose spans know each other.

    Attributes:
        trace: The trace.
        parents: Index of the host span around each host span, -1 for none.
        starters: Index of the innermost host span that started each span of a device, -1 for none.
    """

    trace: Trace
    parents: Sequence[int]
    starters: Sequence[int]

    @cached_property
    def children(self) -> list[list[int]]:
        """Indices of the host spans directly inside each host span."""
        found: list[list[int]] = [[] for _ in self.parents]
        for index, parent in enumerate(self.parents):
            if parent >= 0:
                found[parent].append(index)
        return found

    def asked_s(self, index: int) -> float | None:
        """When the host asked for a span of a device; None where nobody knows."""
        starter = self.starters[index]
        return self.trace.host[starter].start_s if starter >= 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step.

    Attributes:
        name: As it is marked; empty where no step is.
        start_s, end_s: On the host.
        host: Indices of the host spans that began in it.
        on_device: Indices of the spans of devices that were started in it.
    """

    name: str
    start_s: float
    end_s: float
    host: tuple[int, ...]
    on_device: tuple[int, ...]


def linked(trace: Trace) -> Linked:
    """Find what stands inside what, and what started what."""
    parents = _parents(trace.host)
    calls = {span.link: index for index, span in enumerate(trace.host) if span.what is What.CALL and span.link}
    outer: dict[int, int] = {}
    for index, span in enumerate(trace.host):
        if span.what is What.OP and span.outer:
            outer.setdefault(span.outer, index)
    starters = [calls.get(span.link, outer.get(span.outer, -1)) for span in trace.on_device]
    return Linked(trace=trace, parents=parents, starters=starters)


def _parents(spans: Sequence[Span]) -> list[int]:
    """By thread: a span stands inside the last one that began before it and is not over."""
    stacks: dict[str, list[int]] = {}
    found = []
    for index, span in enumerate(spans):
        stack = stacks.setdefault(span.lane, [])
        while stack and spans[stack[-1]].end_s <= span.start_s + (_SLACK_S if span.time_s else 0.0):
            stack.pop()
        found.append(stack[-1] if stack else -1)
        stack.append(index)
    return found


def steps_of(tied: Linked) -> tuple[Step, ...]:
    """The marked steps in order; the whole trace as one where none is marked."""
    trace = tied.trace
    marks = [span for span in trace.host if span.what is What.MARK and _STEP.fullmatch(span.name)]
    lanes = [span.lane for span in marks]
    marks = [span for span in marks if span.lane == max(set(lanes), key=lanes.count)]
    marks = [span for span in marks if span.time_s > 0]
    if not marks:
        last = max((span.end_s for span in (*trace.host, *trace.on_device)), default=0.0)
        everything = tuple(range(len(trace.host))), tuple(range(len(trace.on_device)))
        return (Step(name="", start_s=0.0, end_s=last, host=everything[0], on_device=everything[1]),)
    hosts: list[list[int]] = [[] for _ in marks]
    devices: list[list[int]] = [[] for _ in marks]
    starts = [mark.start_s for mark in marks]
    for index, span in enumerate(trace.host):
        _into(hosts, marks, starts, index, span.start_s)
    for index, span in enumerate(trace.on_device):
        asked_s = tied.asked_s(index)
        _into(devices, marks, starts, index, span.start_s if asked_s is None else asked_s)
    return tuple(
        Step(name=mark.name, start_s=mark.start_s, end_s=mark.end_s, host=tuple(host), on_device=tuple(device))
        for mark, host, device in zip(marks, hosts, devices, strict=True)
    )


def _into(boxes: list[list[int]], marks: Sequence[Span], starts: Sequence[float], index: int, time_s: float) -> None:
    from bisect import bisect_right

    at = bisect_right(starts, time_s) - 1
    if at >= 0 and time_s < marks[at].end_s:
        boxes[at].append(index)


def window_of(tied: Linked, steps: Sequence[Step], at: int, device: int | None = None) -> tuple[float, float]:
    """When a step began and ended on a device, else on the host.

    A device works behind the host: its step runs from its first work to that of the next step.
    """
    step = steps[at]
    own = _of_device(tied, step, device)
    if not own:
        return step.start_s, step.end_s
    first_s = min(span.start_s for span in own)
    if not step.name:
        return first_s, max(span.end_s for span in own)
    following = _of_device(tied, steps[at + 1], device) if at + 1 < len(steps) else []
    if following:
        return first_s, max(first_s, min(span.start_s for span in following))
    return first_s, max(first_s + step.end_s - step.start_s, *(span.end_s for span in own))


def _of_device(tied: Linked, step: Step, device: int | None) -> list[Span]:
    spans = (tied.trace.on_device[index] for index in step.on_device)
    return [span for span in spans if device is None or span.device == device]


def median_step(tied: Linked, steps: Sequence[Step]) -> int:
    """Which step is the median by duration, the earlier of two."""
    lengths = sorted((end - start, at) for at in range(len(steps)) for start, end in [window_of(tied, steps, at)])
    return lengths[(len(lengths) - 1) // 2][1]
