"""From a function that traces at given sizes to one graph with symbols. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from rigwise.errors import CaptureError, RigwiseError
from rigwise.graph.capture.faults import as_capture_error
from rigwise.graph.capture.fold import fold
from rigwise.graph.capture.subject import ROUND_SIDES, SAMPLES
from rigwise.graph.capture.symbolic import UndecidedError, align, difference, evaluate
from rigwise.graph.graph import Graph

_MAX_SAMPLES = 6

#: What a person calls the sizes that may have to stay fixed.
WORDS = {"b": "batch", "s": "sequence length", "c": "context", "p": "image side"}

#: Sizes to try each symbol at.
Samples = Mapping[str, tuple[int, ...]]


class NotPredictedError(Exception):
    """A solution does not predict a fresh trace: operator, what it predicts and what is there."""

    def __init__(self, found: str, *, final: bool) -> None:
        super().__init__(found)
        self.final = final  # other operators, which no further trace would change


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Which symbols to leave free, and what it means for the model if that is what works."""

    free: Samples
    note: str = ""


def attempts(reference: Mapping[str, int], samples: Samples | None = None) -> Iterator[Attempt]:
    """All symbols free first; then images of round sides; then all but the batch fixed.

    Args:
        reference: Every symbol that may vary, and its usual size.
        samples: Sizes to try, for symbols that need others than ``SAMPLES``.
    """
    samples = samples or {}
    free = {symbol: samples.get(symbol, SAMPLES[symbol]) for symbol in reference}
    yield Attempt(free=free)
    if "p" in free and "p" not in samples:
        yield Attempt(free={**free, "p": ROUND_SIDES}, note="image sides are multiples of 64")
    others = [symbol for symbol in free if symbol != "b"]
    if others and "b" in free:
        fixed = ", ".join(f"{WORDS[symbol]} fixed at {reference[symbol]}" for symbol in others)
        yield Attempt(free={"b": free["b"]}, note=fixed)


def solved(
    trace: Callable[[Mapping[str, int]], Graph], samples: Samples, prove: Callable[[Graph], Graph], what: str
) -> Graph:
    """Trace at more and more sizes, until the graph that explains them all is accepted.

    Args:
        trace: Unfolded graph at a size for every free symbol.
        samples: Those sizes.
        prove: Returns the finished graph, or raises ``NotPredictedError``.
        what: The model and task, for messages.

    Raises:
        CaptureError: The traces hold other operators at other sizes, or their sizes are no polynomials.
    """
    traces: list[Graph] = []
    fault: Exception | None = None
    for index in range(min(_MAX_SAMPLES, *(len(sample) for sample in samples.values()))):
        traces.append(trace({symbol: sample[index] for symbol, sample in samples.items()}))
        if len(traces) < 2:
            continue
        try:
            return prove(align(traces))
        except (UndecidedError, NotPredictedError) as error:
            fault = error
            if error.final:
                break
    raise CaptureError(f"the sizes of {what} follow no rule: {fault}") from fault


def predicts(graph: Graph, check: Graph) -> None:
    """See that a graph, at the sizes of a fresh trace, is that trace operator by operator.

    Raises:
        NotPredictedError: It is not.
    """
    then = evaluate(graph, check.symbols)
    if found := difference(then, check):
        raise NotPredictedError(found, final=bool(difference(then, check, shapes=False)))


def symbolic_graph(
    trace: Callable[[Mapping[str, int]], Graph], reference: Mapping[str, int], what: str
) -> tuple[Graph, str]:
    """The folded graph of one task, and what had to be assumed about its sizes.

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
    if not reference:
        return replace(fold(check), symbols={}), ""
    faults: list[RigwiseError] = []
    for attempt in attempts(reference):
        try:
            graph = _of_attempt(trace, attempt, check, what)
        except Exception as error:
            faults.append(as_capture_error(error, f"{what} at other sizes"))
        else:
            return graph, attempt.note
    raise faults[0]


def _of_attempt(trace: Callable[[Mapping[str, int]], Graph], attempt: Attempt, check: Graph, what: str) -> Graph:
    own = {symbol: check.symbols[symbol] for symbol in attempt.free}

    def at(sizes: Mapping[str, int]) -> Graph:
        return replace(trace({**check.symbols, **sizes}), symbols=dict(sizes))

    def prove(graph: Graph) -> Graph:
        predicts(graph, replace(check, symbols=own))
        return replace(fold(graph), symbols=own)

    return solved(at, attempt.free, prove, what)
