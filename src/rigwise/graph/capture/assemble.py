"""From a subject to a model: trace at a few sizes, solve for the symbols, check on one more, fold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import torch

from rigwise.errors import CaptureError
from rigwise.graph.capture.fold import fold, fold_parameters
from rigwise.graph.capture.stacks import DEPTH, Stack, cut_short, find_stacks
from rigwise.graph.capture.subject import SAMPLES, Subject
from rigwise.graph.capture.symbolic import UndecidedError, align, difference, evaluate
from rigwise.graph.capture.trace import trace
from rigwise.graph.graph import Graph, Model

_MAX_SAMPLES = 6


def capture(subject: Subject, *, whole: bool = False) -> Model:
    """Every graph of a subject.

    Args:
        subject: Built inside ``fake_tensors()``, which must still be open.
        whole: Trace all layers even where stacks could be cut short.

    Raises:
        CaptureError: The model runs other operators at other sizes, or its sizes are no polynomials.
    """
    module = subject.module
    stacks = [] if whole else find_stacks(module)
    graphs, assumed = {}, list(subject.card.assumed)
    for task in subject.symbols:
        graphs[task], notes = _capture_task(subject, task, stacks)
        assumed.extend(note for note in notes if note not in assumed)
    parameters = [(name, tuple(p.shape), p.requires_grad) for name, p in module.named_parameters()]
    return Model(
        name=subject.name,
        card=replace(subject.card, assumed=tuple(assumed)),
        parameters=fold_parameters(parameters),
        graphs=graphs,
        buffer_bytes=float(sum(b.numel() * b.element_size() for b in module.buffers())),
        captured_with=_versions(),
    )


def _capture_task(subject: Subject, task: str, stacks: Sequence[Stack]) -> tuple[Graph, list[str]]:
    reference = dict(subject.symbols[task])
    with cut_short(subject.module, stacks, DEPTH + 1):
        check = trace(subject, task, reference)
    grown = {stack.path: stack.equal - DEPTH for stack in stacks}
    graph = _solve(subject, task, stacks, check)
    predicted = evaluate(fold(graph, {path: 1 for path in grown}), reference) if stacks else evaluate(graph, reference)
    fault = difference(predicted, fold(check) if stacks else check)
    if fault:
        raise CaptureError(f"the symbolic graph of {subject.name} ({task}) does not predict a fresh trace: {fault}")
    folded = fold(graph, grown)
    return replace(folded, symbols=reference), []


def _solve(subject: Subject, task: str, stacks: Sequence[Stack], check: Graph) -> Graph:
    traces: list[Graph] = []
    for sizes in _sample_sizes(subject, task):
        with cut_short(subject.module, stacks, DEPTH):
            traces.append(trace(subject, task, sizes))
        if len(traces) < 2:
            continue
        try:
            graph = align(traces)
        except UndecidedError as undecided:
            if len(traces) == _MAX_SAMPLES:
                raise CaptureError(f"the sizes of {subject.name} are no polynomials: {undecided}") from None
            continue
        return graph
    raise CaptureError(f"{subject.name} could not be traced at two sizes")


def _sample_sizes(subject: Subject, task: str) -> Iterator[dict[str, int]]:
    samples = {**SAMPLES, **subject.samples}
    for index in range(_MAX_SAMPLES):
        yield {symbol: samples[symbol][index] for symbol in subject.symbols[task]}


def _versions() -> dict[str, str]:
    versions = {"torch": torch.__version__.partition("+")[0]}
    try:
        import transformers
    except ImportError:
        return versions
    return versions | {"transformers": transformers.__version__}
