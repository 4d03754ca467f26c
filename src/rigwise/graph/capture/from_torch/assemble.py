"""From a subject to a model: trace at a few sizes, solve for the symbols, check on one more, fold."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from rigwise.errors import CaptureError
from rigwise.graph.capture.faults import as_capture_error
from rigwise.graph.capture.fold import fold, fold_parameters
from rigwise.graph.capture.from_torch.loops import fold_steps, folded_loops
from rigwise.graph.capture.from_torch.stacks import DEPTH, Stack, cut_short, find_stacks
from rigwise.graph.capture.from_torch.trace import TooManyOpsError, trace
from rigwise.graph.capture.solve import Attempt, NotPredictedError, attempts, predicts, solved
from rigwise.graph.capture.subject import Subject
from rigwise.graph.graph import Graph, Model

#: More operators than this, with stacks cut short, may be an unrolled loop.
_MANY_OPS = 4_000

#: Tasks that a model may lack: some have a cache that is not of keys and values.
_OPTIONAL = ("prefill", "decode")

#: Libraries whose models change from version to version.
_LIBRARIES = ("timm", "transformers", "diffusers")


#: What it means that an operator is in a graph.
_ASSUMED_OF = {
    "aten._grouped_mm": "experts get equally many tokens",
    "rigwise.linear_scan": "a recurrence runs as one fused kernel, for which mamba-ssm, fla or the like is installed",
}


@dataclass(slots=True)
class _Capture:
    """One subject on its way to a model."""

    subject: Subject
    stacks: Sequence[Stack]
    notes: list[str] = field(default_factory=list)

    def trace(self, task: str, sizes: Mapping[str, int], depth: int, limit: int = 0) -> Graph:
        """One pass with the stacks cut to ``depth``, at reference sizes where none are given."""
        with cut_short(self.subject.module, self.stacks, depth):
            graph = trace(self.subject, task, {**self.subject.symbols[task], **sizes}, limit)
        return replace(fold_steps(graph) if len(graph.ops) > _MANY_OPS else graph, symbols=dict(sizes))

    def task(self, task: str) -> Graph:
        """The folded symbolic graph of one task.

        Equal layers turn out to differ where a list of them is no chain; then all are traced. A network may
        keep what its first pass computed; then a second round knows it as it runs from then on.
        """
        faults: list[Exception] = []
        for stacks in dict.fromkeys((tuple(self.stacks), ())):
            self.stacks = stacks
            faults = []
            if graph := self._round(task, faults):
                return graph
        if any(isinstance(fault.__cause__, NotPredictedError) for fault in faults):
            faults = []
            if graph := self._round(task, faults):
                return graph
        raise faults[0]

    def _round(self, task: str, faults: list[Exception]) -> Graph | None:
        """The graph with as many symbols free as can be; None, and what went wrong, if there is none."""
        reference = self.subject.symbols[task]
        try:
            try:
                check = self.trace(task, reference, DEPTH + 1, limit=_MANY_OPS if "s" in reference else 0)
            except TooManyOpsError:
                if graph := self._looped(task, faults):
                    return graph
                check = self.trace(task, reference, DEPTH + 1)
        except Exception as error:
            faults.append(as_capture_error(error, f"{self.subject.name} ({task})"))
            return None
        for attempt in attempts(reference, self.subject.samples):
            try:
                graph = self._solved(task, attempt, check)
            except Exception as error:
                faults.append(as_capture_error(error, f"{self.subject.name} ({task}) at other sizes"))
            else:
                self.note(attempt.note)
                return graph
        return None

    def _looped(self, task: str, faults: list[Exception]) -> Graph | None:
        """The graph with its loops over time folded; None if it has none, or none that can be folded."""
        reference = self.subject.symbols[task]
        what = f"{self.subject.name} ({task})"
        try:
            graph = folded_loops(lambda sizes: trace(self.subject, task, sizes), reference, what)
        except Exception as error:
            faults.append(as_capture_error(error, f"{what} at other sizes"))
            return None
        if graph:
            self.note(f"a loop over time steps is folded; sequence length fixed at {reference['s']}")
        return graph

    def note(self, text: str) -> None:
        """Remember what had to be assumed."""
        if text and text not in self.notes:
            self.notes.append(text)

    def _solved(self, task: str, attempt: Attempt, check: Graph) -> Graph:
        """The graph with these symbols free, proven on the trace ``check``."""
        if not attempt.free:
            return self._proven(self.trace(task, {}, DEPTH), {}, check)
        sizes = {symbol: check.symbols[symbol] for symbol in attempt.free}
        return solved(
            lambda tried: self.trace(task, tried, DEPTH),
            attempt.free,
            lambda graph: self._proven(graph, sizes, check),
            f"{self.subject.name} ({task})",
        )

    def _proven(self, graph: Graph, sizes: Mapping[str, int], check: Graph) -> Graph:
        """The graph, folded and with all its layers, if it predicts the trace ``check`` operator by operator."""
        if self.stacks:
            one_more = [stack.left_out(DEPTH + 1, DEPTH) for stack in self.stacks]
            predicts(fold(graph, one_more), replace(fold(check), symbols=dict(sizes)))
        else:
            predicts(graph, replace(check, symbols=dict(sizes)))
        whole = fold(graph, [stack.left_out(stack.groups, DEPTH) for stack in self.stacks])
        return replace(whole, symbols=dict(sizes))


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
    names = {op.name for graph in graphs.values() for op in graph.ops}
    for name, assumed in _ASSUMED_OF.items():
        if name in names:
            work.note(assumed)
    parameters = [(name, tuple(p.shape), p.requires_grad) for name, p in module.named_parameters()]
    return Model(
        name=subject.name,
        card=replace(subject.card, assumed=(*subject.card.assumed, *work.notes)),
        parameters=fold_parameters(parameters),
        graphs=graphs,
        buffer_bytes=float(sum(b.numel() * b.element_size() for b in module.buffers())),
        captured_with=_versions(module),
    )


def _versions(module: Any) -> dict[str, str]:
    """PyTorch, and the library that the model is from."""
    made_by = {"torch": torch.__version__.partition("+")[0]}
    library = type(module).__module__.partition(".")[0]
    return made_by | {library: sys.modules[library].__version__} if library in _LIBRARIES else made_by
