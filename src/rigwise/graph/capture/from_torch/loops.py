"""Python loops over time steps: one step stands for all. Needs no PyTorch.

A hand-written recurrent network runs the same operators at every step, so a trace of it grows with the sequence
and hits every limit. It is traced at a few short lengths; in each trace, equal consecutive steps are folded into
one with a count; what is left has the same operators at every length, so that ``symbolic.align`` can solve its
sizes. A count must be a straight line in the length. The graph is then written for the reference length: a
count is a number, not a symbol.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from math import prod
from typing import Any

from rigwise.errors import CaptureError
from rigwise.graph.capture.fold import Block, fold
from rigwise.graph.capture.subject import SAMPLES
from rigwise.graph.capture.symbolic import UndecidedError, align, difference, evaluate
from rigwise.graph.dim import Atom, Dim, Size, polynomial
from rigwise.graph.graph import Graph
from rigwise.graph.op import Op, Tensor

#: Lengths that a loop is tried at, in this order; the last one checks the others.
_LENGTHS = (7, 11, 17, 13, 19)
_CHECK_LENGTH = 23

#: Fewer equal steps than this may be chance.
_LEAST_STEPS = 4

_MAX_PERIODS = 60


def folded_loops(trace: Callable[[Mapping[str, int]], Graph], reference: Mapping[str, int], what: str) -> Graph | None:
    """The graph at the reference sequence length, its batch free; None if its operators do not grow with the length.

    Args:
        trace: Unfolded graph at a size for every symbol.
        reference: Every symbol and its usual size, ``s`` among them.
        what: The model and task, for messages.

    Raises:
        CaptureError: The steps of a loop differ from each other, or from length to length.
    """
    traces: list[Graph] = []
    for index, length in enumerate(_LENGTHS):
        sizes = {symbol: length if symbol == "s" else SAMPLES[symbol][index] for symbol in reference}
        traces.append(replace(trace(sizes), symbols=sizes))
        if len(traces) == 1:
            continue
        if len(traces) == 2 and len(traces[0].ops) == len(traces[1].ops):
            return None
        try:
            graph, repeats = _solved([fold_steps(t) for t in traces])
        except UndecidedError:
            continue
        check = fold_steps(trace(dict(reference) | {"s": _CHECK_LENGTH}))
        fault = difference(_at(graph, repeats, {**reference, "s": _CHECK_LENGTH}), check)
        if fault:
            raise CaptureError(f"a loop of {what} over its steps cannot be folded: {fault}", hint=_HINT)
        return fold(_written(graph, repeats, reference))
    raise CaptureError(f"the sizes in a loop of {what} follow no rule", hint=_HINT)


_HINT = "do the same at every step, or give a shorter sequence, which is then listed step by step"


def _solved(traces: Sequence[Graph]) -> tuple[Graph, list[Size]]:
    """The operators of one step with symbols in their sizes, and how often each runs."""
    counts = {len(t.ops) for t in traces}
    if len(counts) > 1:
        raise CaptureError(f"steps differ: {min(counts)} or {max(counts)} kinds of operators", hint=_HINT)
    lengths = [t.symbols["s"] for t in traces]
    repeats = [_line(lengths, [op.repeat for op in row]) for row in zip(*(t.ops for t in traces), strict=True)]
    once = [replace(t, ops=tuple(replace(op, repeat=1) for op in t.ops)) for t in traces]
    return align(once), repeats


def _line(lengths: Sequence[int], counts: Sequence[int]) -> Size:
    """A count as a straight line in the length.

    >>> str(_line((7, 11), (6, 10))), _line((7, 11), (3, 3))
    ('s-1', 3)
    """
    slope, rest = divmod(counts[1] - counts[0], lengths[1] - lengths[0])
    start = counts[0] - slope * lengths[0]
    if rest or any(slope * length + start != count for length, count in zip(lengths, counts, strict=True)):
        raise CaptureError(f"steps of a loop run {tuple(counts)} times at lengths {tuple(lengths)}", hint=_HINT)
    return polynomial({(Atom("s"),): slope, (): start})


def _at(graph: Graph, repeats: Sequence[Size], sizes: Mapping[str, int]) -> Graph:
    """Everything as numbers."""
    fixed = evaluate(graph, sizes)
    ops = (replace(op, repeat=_number(r, sizes)) for op, r in zip(fixed.ops, repeats, strict=True))
    return replace(fixed, ops=tuple(ops))


def _written(graph: Graph, repeats: Sequence[Size], reference: Mapping[str, int]) -> Graph:
    """The graph at the reference length, all other symbols left free."""
    fixed = {"s": reference["s"]}

    def tensor(t: Tensor) -> Tensor:
        return replace(t, shape=tuple(_partly(size, fixed) for size in t.shape))

    ops = (
        replace(
            op, inputs=tuple(map(tensor, op.inputs)), outputs=tuple(map(tensor, op.outputs)), repeat=_number(r, fixed)
        )
        for op, r in zip(graph.ops, repeats, strict=True)
    )
    return Graph(ops=tuple(ops), symbols={k: v for k, v in reference.items() if k != "s"})


def _number(size: Size, sizes: Mapping[str, int]) -> int:
    return size if isinstance(size, int) else int(size.at(sizes))


def _partly(size: Size, fixed: Mapping[str, int]) -> Size:
    """A size with some symbols replaced by numbers.

    >>> from rigwise.graph.dim import parse_size
    >>> str(_partly(parse_size("2*b*s+s"), {"s": 5}))
    '10*b+5'
    """
    if not isinstance(size, Dim):
        return size
    terms: dict[tuple[Atom, ...], int] = {}
    for coefficient, atoms in size.terms:
        free = tuple(atom for atom in atoms if atom.symbol not in fixed)
        known = prod(atom.at(fixed) for atom in atoms if atom.symbol in fixed)
        terms[free] = terms.get(free, 0) + coefficient * known
    return polynomial(terms)


# Folding the steps of one trace.


def fold_steps(graph: Graph, least: int = _LEAST_STEPS) -> Graph:
    """The graph with every run of ``least`` or more equal steps standing once.

    Steps are equal if all of their operators are, module path included, and if they read from the same places:
    from each other, or from outside the loop. Short steps are folded first, so a loop in a loop is folded twice.
    """
    while True:
        tokens = _tokens(graph.ops)
        found = (_folded(graph.ops, _runs(tokens, period, least)) for period in _periods(tokens))
        ops = next((ops for ops in found if ops is not None), None)
        if ops is None:
            return graph
        graph = replace(graph, ops=ops)


def _folded(ops: Sequence[Op], runs: list[Block]) -> tuple[Op, ...] | None:
    """The operators with those runs folded whose steps are wired equally; None if there are none."""
    place = _places(len(ops), runs)
    while not all(_wired_equally(ops, run, place) for run in runs):
        runs = [run for run in runs if _wired_equally(ops, run, place)]
        place = _places(len(ops), runs)
    if not runs:
        return None
    folded: list[Op] = []
    position = 0
    for run in [*runs, Block(len(ops), 0, 0)]:
        folded.extend(_moved(op, place) for op in ops[position : run.start])
        second = ops[run.start + run.period : run.start + 2 * run.period]
        folded.extend(replace(_moved(op, place), repeat=op.repeat * run.repeat) for op in second)
        position = run.end
    return tuple(folded)


def _tokens(ops: Sequence[Op]) -> list[int]:
    """A number for every operator, equal for equal operators."""
    numbers: dict[Any, int] = {}
    return [numbers.setdefault(_signature(op), len(numbers)) for op in ops]


def _signature(op: Op) -> tuple[Any, ...]:
    looks = tuple((t.shape, t.dtype, t.role, t.saved) for t in (*op.inputs, *op.outputs))
    return (op.name, op.phase, op.module, op.repeat, str(sorted(op.attrs.items())), len(op.inputs), looks)


def _runs(tokens: Sequence[int], period: int, least: int) -> list[Block]:
    """All runs of ``least`` or more equal steps of one period, from left to right."""
    runs: list[Block] = []
    start = 0
    while start + least * period <= len(tokens):
        length = 0
        while start + length + period < len(tokens) and tokens[start + length] == tokens[start + length + period]:
            length += 1
        repeat = length // period + 1
        if repeat >= least:
            runs.append(Block(start, period, repeat))
            length = period * repeat - 1
        start += length + 1
    return runs


def _periods(tokens: Sequence[int]) -> list[int]:
    """Distances between equal operators, the most telling ones, short ones first."""
    last: dict[int, int] = {}
    gaps: Counter[int] = Counter()
    for index, token in enumerate(tokens):
        if token in last:
            gaps[index - last[token]] += 1
        last[token] = index
    telling = sorted(gaps, key=lambda gap: (-gap * gaps[gap], gap))
    return sorted(telling[:_MAX_PERIODS])


def _places(count: int, runs: Sequence[Block]) -> list[int]:
    """Where every operator stands after folding."""
    places: list[int] = []
    new = position = 0
    for run in [*runs, Block(count, 0, 0)]:
        places.extend(range(new, new + run.start - position))
        new += run.start - position
        places.extend(new + i % run.period for i in range(run.end - run.start))
        new += run.period
        position = run.end
    return places


def _wired_equally(ops: Sequence[Op], run: Block, place: Sequence[int]) -> bool:
    """Whether all steps but the outer two, which begin and end the loop, read from the same places."""

    def wiring(step: int) -> list[int | None]:
        start = run.start + step * run.period
        reads = (t.producer for op in ops[start : start + run.period] for t in op.inputs)
        return [None if index is None else place[index] for index in reads]

    return all(wiring(step) == wiring(1) for step in range(2, run.repeat - 1))


def _moved(op: Op, place: Sequence[int]) -> Op:
    def moved(tensor: Tensor) -> Tensor:
        return tensor if tensor.producer is None else replace(tensor, producer=place[tensor.producer])

    return replace(op, inputs=_joined(tuple(map(moved, op.inputs))), outputs=tuple(map(moved, op.outputs)))


def _joined(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Results of all steps of a loop, read one by one, as one tensor with an axis for the steps."""
    joined: list[Tensor] = []
    for tensor, group in groupby(inputs):
        count = len(list(group))
        several = count >= _LEAST_STEPS - 1 and tensor.producer is not None
        joined.extend([replace(tensor, shape=(count, *tensor.shape))] if several else [tensor] * count)
    return tuple(joined)
