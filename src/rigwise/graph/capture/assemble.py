"""From a subject to a model: trace at a few sizes, solve for the symbols, check on one more, fold."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rigwise.errors import CaptureError, RigwiseError
from rigwise.graph.capture.faults import as_capture_error
from rigwise.graph.capture.fold import fold, fold_parameters
from rigwise.graph.capture.stacks import DEPTH, Stack, cut_short, find_stacks
from rigwise.graph.capture.subject import ROUND_SIDES, SAMPLES, Subject
from rigwise.graph.capture.symbolic import UndecidedError, align, difference, evaluate
from rigwise.graph.capture.trace import trace
from rigwise.graph.graph import Graph, Model

_MAX_SAMPLES = 6

#: Tasks that a model may lack: some have a cache that is not of keys and values.
_OPTIONAL = ("prefill", "decode")

#: Libraries whose models change from version to version.
_LIBRARIES = ("transformers", "diffusers")


_WORDS = {"s": "sequence length", "c": "context", "p": "image side"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """Which symbols to leave free, and what it means for the model if that is what works."""

    free: Mapping[str, tuple[int, ...]]
    note: str = ""


@dataclass(slots=True)
class _Capture:
    """One subject on its way to a model."""

    subject: Subject
    stacks: Sequence[Stack]
    notes: list[str] = field(default_factory=list)

    def trace(self, task: str, sizes: Mapping[str, int], depth: int) -> Graph:
        """One pass with the stacks cut to ``depth``, at reference sizes where none are given."""
        with cut_short(self.subject.module, self.stacks, depth):
            graph = trace(self.subject, task, {**self.subject.symbols[task], **sizes})
        return replace(graph, symbols=dict(sizes))

    def task(self, task: str) -> Graph:
        """The folded symbolic graph of one task."""
        faults: list[RigwiseError] = []
        for stacks in (self.stacks, ()) if self.stacks else ((),):
            self.stacks = stacks  # all layers, where equal layers turned out to differ
            try:
                check = self.trace(task, self.subject.symbols[task], DEPTH + 1)
            except Exception as error:
                raise as_capture_error(error, f"{self.subject.name} ({task})") from error
            for attempt in _attempts(self.subject, task):
                try:
                    graph = self._solved(task, attempt, check)
                except Exception as error:
                    faults.append(as_capture_error(error, f"{self.subject.name} ({task}) at other sizes"))
                else:
                    self.note(attempt.note)
                    return graph
        raise faults[0]

    def note(self, text: str) -> None:
        """Remember what had to be assumed."""
        if text and text not in self.notes:
            self.notes.append(text)

    def _solved(self, task: str, attempt: _Attempt, check: Graph) -> Graph:
        """The graph with these symbols free, proven on the trace ``check``."""
        if not attempt.free:
            return self._proven(task, self.trace(task, {}, DEPTH), {}, check)
        sizes = {symbol: check.symbols[symbol] for symbol in attempt.free}
        traces: list[Graph] = []
        fault: Exception | None = None
        for index in range(_MAX_SAMPLES):
            traces.append(self.trace(task, {symbol: sample[index] for symbol, sample in attempt.free.items()}, DEPTH))
            if len(traces) < 2:
                continue
            try:
                return self._proven(task, align(traces), sizes, check)
            except (UndecidedError, _NotPredictedError) as error:
                fault = error
        raise CaptureError(f"the sizes of {self.subject.name} ({task}) follow no rule: {fault}")

    def _proven(self, task: str, graph: Graph, sizes: Mapping[str, int], check: Graph) -> Graph:
        """The graph, folded and with all its layers, if it predicts the trace ``check`` operator by operator."""
        if self.stacks:
            one_more = [stack.left_out(DEPTH + 1, DEPTH) for stack in self.stacks]
            found = difference(evaluate(fold(graph, one_more), sizes), fold(check))
        else:
            found = difference(evaluate(graph, sizes), check)
        if found:
            raise _NotPredictedError(found)
        whole = fold(graph, [stack.left_out(stack.groups, DEPTH) for stack in self.stacks])
        return replace(whole, symbols=dict(sizes))


class _NotPredictedError(Exception):
    """The solution so far does not predict a fresh trace: operator, what it predicts and what is there."""


def capture(subject: Subject, *, whole: bool = False) -> Model:
    """Every graph of a subject.

    Args:
        subject: Built inside ``fake_tensors()``, which must still be open.
        whole: Trace all layers even where stacks of equal layers could be cut short.

    Raises:
        CaptureError: The model fails, runs other operators at another batch, or its sizes are no polynomials.
    """
    module = subject.module
    work = _Capture(subject, [] if whole else find_stacks(module))
    trains = any(parameter.requires_grad for parameter in module.parameters())
    tasks = [task for task in subject.symbols if trains or task != "train"]
    graphs = {}
    for task in tasks:
        try:
            graphs[task] = work.task(task)
        except CaptureError as error:
            if task not in _OPTIONAL:
                raise
            work.note(f"no {task} graph: {error.message}")
    if any(op.name == "aten._grouped_mm" for graph in graphs.values() for op in graph.ops):
        work.note("experts get equally many tokens")
    parameters = [(name, tuple(p.shape), p.requires_grad) for name, p in module.named_parameters()]
    return Model(
        name=subject.name,
        card=replace(subject.card, assumed=(*subject.card.assumed, *work.notes)),
        parameters=fold_parameters(parameters),
        graphs=graphs,
        buffer_bytes=float(sum(b.numel() * b.element_size() for b in module.buffers())),
        captured_with=_versions(module),
    )


def _attempts(subject: Subject, task: str) -> Iterator[_Attempt]:
    """All symbols free first; then images of round sides; then all but the batch fixed."""
    reference = subject.symbols[task]
    free = {symbol: subject.samples.get(symbol, SAMPLES[symbol]) for symbol in reference}
    yield _Attempt(free=free)
    if "p" in free and "p" not in subject.samples:
        yield _Attempt(free={**free, "p": ROUND_SIDES}, note="image sides are multiples of 64")
    others = [symbol for symbol in free if symbol != "b"]
    fixed = ", ".join(f"{_WORDS[symbol]} fixed at {reference[symbol]}" for symbol in others)
    if others and "b" in free:
        yield _Attempt(free={"b": free["b"]}, note=fixed)


def _versions(module: Any) -> dict[str, str]:
    """PyTorch, and the library that the model is from."""
    made_by = {"torch": torch.__version__.partition("+")[0]}
    library = type(module).__module__.partition(".")[0]
    return made_by | {library: sys.modules[library].__version__} if library in _LIBRARIES else made_by
