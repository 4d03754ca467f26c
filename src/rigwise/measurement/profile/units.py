"""The operators of a step as a model's graph knows them, each with the time that it took.

An operator calls others; which of them count is decided by name: of those that stand inside each other, the outermost
whose name is asked for. What is inside counts with it. What nobody asked for stands beside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rigwise.measurement.profile.activity import communicates
from rigwise.measurement.profile.spans import Shapes, What
from rigwise.measurement.profile.steps import Linked, Step

_OPTIMIZER = "Optimizer.step#"
_BACKWARD = "autograd::engine"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One call of an operator, or one kernel that no operator is known for.

    Attributes:
        name: As the profiler wrote it.
        shapes: Of its inputs; empty where they were not recorded.
        start_s: On the host.
        time_s: On devices, where any was recorded; else on the host.
        kernels: Names of the kernels that it started, the first few.
        is_op: Whether it is a call on the host; else a kernel.
        is_asked: Whether its name was asked for.
        is_backward, is_update: Part of a backward pass, or of an optimizer's step.
    """

    name: str
    shapes: Shapes
    start_s: float
    time_s: float
    kernels: tuple[str, ...]
    is_op: bool
    is_asked: bool
    is_backward: bool
    is_update: bool


_KERNELS_KEPT = 8


class _Walk:
    def __init__(self, tied: Linked, step: Step, is_asked: Callable[[str], bool]) -> None:
        self.tied, self.step, self.is_asked = tied, step, is_asked
        self.host = tied.trace.host
        self.inside = set(step.host)
        self.by_device = bool(tied.trace.on_device)
        self.direct: dict[int, list[int]] = {}
        self.loose: list[int] = []
        for index in step.on_device:
            span = tied.trace.on_device[index]
            if communicates(span.name) or (span.what is What.COPY and "DtoD" not in span.name):
                continue
            starter = tied.starters[index]
            (self.direct.setdefault(starter, []) if starter in self.inside else self.loose).append(index)
        self.holds_asked = self._holds_asked()
        self.units: list[Unit] = []

    def _holds_asked(self) -> set[int]:
        """Host spans inside which some name is asked for."""
        found: set[int] = set()
        for index in reversed(self.step.host):
            parent = self.tied.parents[index]
            is_asked = self.host[index].what is What.OP and self.is_asked(self.host[index].name)
            if parent >= 0 and (is_asked or index in found):
                found.add(parent)
        return found

    def run(self) -> list[Unit]:
        """All units in the order in which the host came to them."""
        for index in self.step.host:
            if self.tied.parents[index] not in self.inside:
                self._descend(index)
        for index in self.loose:
            self._kernel(index, backward=False, update=False)
        return sorted(self.units, key=lambda unit: unit.start_s)

    def _descend(self, root: int) -> None:
        stack = [(root, False, False, False)]
        while stack:
            index, backward, update, is_inside = stack.pop()
            span = self.host[index]
            backward = backward or span.name.startswith(_BACKWARD)
            update = update or span.name.startswith(_OPTIMIZER)
            inner = [child for child in self.tied.children[index] if child in self.inside]
            if span.what is What.OP and not communicates(span.name) and self._is_whole(index, inner):
                self._unit(index, backward=backward, update=update)
                continue
            is_inside = (is_inside or span.what is What.OP) and not communicates(span.name)
            if is_inside and not self.by_device and span.what is not What.CALL:
                counted = (self.host[child] for child in inner if self.host[child].what is not What.CALL)
                own_s = span.time_s - sum(one.time_s for one in counted)
                self.units.append(self._part(index, own_s, backward=backward, update=update))
            for kernel in self.direct.get(index, ()):
                self._kernel(kernel, backward=backward, update=update)
            stack.extend((child, backward, update, is_inside) for child in inner)

    def _is_whole(self, index: int, inner: list[int]) -> bool:
        """Whether what is inside a call counts with it.

        On the host a call also takes time of its own, so that one in which nothing is asked for stays whole; on a
        device all time is that of kernels, and the innermost call says most of them.
        """
        if self.is_asked(self.host[index].name):
            return True
        if self.by_device:
            return all(self.host[child].what is What.CALL for child in inner)
        return index not in self.holds_asked

    def _unit(self, root: int, *, backward: bool, update: bool) -> None:
        span = self.host[root]
        kernels: list[int] = []
        stack = [root]
        while stack and self.by_device:
            index = stack.pop()
            kernels += self.direct.get(index, ())
            stack.extend(self.tied.children[index])
        times = [self.tied.trace.on_device[index].time_s for index in kernels]
        if self.by_device and not kernels:
            return
        self.units.append(
            Unit(
                name=span.name,
                shapes=span.shapes,
                start_s=span.start_s,
                time_s=sum(times) if self.by_device else span.time_s,
                kernels=tuple(self._kernel_names(kernels)),
                is_op=True,
                is_asked=self.is_asked(span.name),
                is_backward=backward,
                is_update=update,
            )
        )

    def _part(self, index: int, own_s: float, *, backward: bool, update: bool) -> Unit:
        """What a call on the host did itself, around those that count one by one."""
        span = self.host[index]
        return Unit(
            name=span.name,
            shapes=(),
            start_s=span.start_s,
            time_s=max(0.0, own_s),
            kernels=(),
            is_op=True,
            is_asked=False,
            is_backward=backward,
            is_update=update,
        )

    def _kernel(self, index: int, *, backward: bool, update: bool) -> None:
        span, asked_s = self.tied.trace.on_device[index], self.tied.asked_s(index)
        self.units.append(
            Unit(
                name=span.name,
                shapes=(),
                start_s=span.start_s if asked_s is None else asked_s,
                time_s=span.time_s,
                kernels=tuple(self._kernel_names([index])),
                is_op=False,
                is_asked=False,
                is_backward=backward,
                is_update=update,
            )
        )

    def _kernel_names(self, indices: list[int]) -> list[str]:
        spans = (self.tied.trace.on_device[index] for index in indices)
        return [span.name for span in spans if span.what is What.KERNEL][:_KERNELS_KEPT]


def units_of(tied: Linked, step: Step, is_asked: Callable[[str], bool]) -> list[Unit]:
    """The operators of a step in the order in which the host came to them.

    Left out are communication and copies between host and device, which no graph of a model knows.

    Args:
        tied: The trace.
        step: One of its steps.
        is_asked: Whether an operator of this name is to count as one.
    """
    return _Walk(tied, step, is_asked).run()
