"""From a function that traces at given sizes to one graph with symbols. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from rigwise.errors import CaptureError, RigwiseError
from rigwise.graph.capture.faults import as_capture_error
from rigwise.graph.capture.fold import fold
from rigwise.graph.capture.subject import ROUND_SIDES, SAMPLES
from rigwise.graph.capture.symbolic import UndecidedError, align, difference, evaluate
from rigwise.graph.graph import Graph

_MAX_SAMPLES = 6
_WORDS = {"s": "sequence length", "c": "context", "p": "image side"}

#: Sizes to try each symbol at.
Samples = Mapping[str, tuple[int, ...]]


def symbolic_graph(
    trace: Callable[[Mapping[str, int]], Graph], reference: Mapping[str, int], what: str
) -> tuple[Graph, str]:
    """The folded graph of one task, and what had to be assumed about its sizes.

    All symbols are left free first; then image sides are multiples of 64; then all but the batch is fixed.
    Each solution has to predict a trace at the reference sizes, which it was not made from.

    Args:
        trace: Unfolded graph at a size for every symbol.
        reference: Every symbol that may vary, and its usual size.
        what: The model and task, for messages.

    Raises:
        CaptureError: The trace fails, holds other operators at other sizes, or its sizes are no polynomials.
    """
    try:
        check = trace(reference)
    except Exception as error:
        raise as_capture_error(error, what) from error
    faults: list[RigwiseError] = []
    for samples, note in _attempts(reference):
        try:
            graph = _solved(trace, samples, check, what)
        except Exception as error:
            faults.append(as_capture_error(error, f"{what} at other sizes"))
        else:
            return graph, note
    raise faults[0]


def _attempts(reference: Mapping[str, int]) -> Iterator[tuple[Samples, str]]:
    free = {symbol: SAMPLES[symbol] for symbol in reference}
    yield free, ""
    if "p" in free:
        yield {**free, "p": ROUND_SIDES}, "image sides are multiples of 64"
    others = [symbol for symbol in free if symbol != "b"]
    if others and "b" in free:
        yield {"b": free["b"]}, ", ".join(f"{_WORDS[symbol]} fixed at {reference[symbol]}" for symbol in others)


def _solved(trace: Callable[[Mapping[str, int]], Graph], samples: Samples, check: Graph, what: str) -> Graph:
    reference = check.symbols
    own = {symbol: reference[symbol] for symbol in samples}
    if not samples:
        return replace(fold(check), symbols={})
    traces: list[Graph] = []
    fault: object = ""
    for index in range(_MAX_SAMPLES):
        sizes = {symbol: tried[index] for symbol, tried in samples.items()}
        traces.append(replace(trace({**reference, **sizes}), symbols=sizes))
        if len(traces) < 2:
            continue
        try:
            graph = align(traces)
        except UndecidedError as error:
            fault = error
            continue
        fault = difference(evaluate(graph, own), check)
        if not fault:
            return replace(fold(graph), symbols=own)
    raise CaptureError(f"the sizes of {what} follow no rule: {fault}")
