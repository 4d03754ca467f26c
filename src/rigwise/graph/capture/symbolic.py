"""Several traces of one model, at different sizes, become one graph with symbols.

Every size of every tensor is a row of whole numbers, one per trace. It is explained by the polynomial
with the fewest terms that gives all of them exactly: ``(511, 1735, 4069)`` at ``(b, s) = (7, 73), (5, 347),
(13, 313)`` is ``b*s``. A polynomial has to leave at least one trace over to be believed, and to be the
only one of its length; else another trace is asked for. Sizes of images go through strides, so the
atoms ``(p+a)//d`` are followed from convolution to convolution by the rule for windows.

Source for the rule: documentation of ``torch.nn.Conv2d`` and ``torch.nn.MaxPool2d``, section Shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from typing import Any

from rigwise.errors import CaptureError
from rigwise.graph.dim import Atom, Dim, Size, polynomial, size_at
from rigwise.graph.graph import Graph
from rigwise.graph.op import Op, Phase, Tensor

Monomial = tuple[Atom, ...]

_MAX_TERMS = 3

#: Traces after which explanations that still agree are one: where image sides are round, ``4*p`` is ``16*(p+3)//4``.
_ENOUGH = 6


class UndecidedError(Exception):
    """Several polynomials, or none, explain a size: one more trace is needed to tell, unless this is final."""

    def __init__(self, found: str, *, final: bool = False) -> None:
        super().__init__(found)
        self.final = final


def align(traces: Sequence[Graph]) -> Graph:
    """One graph whose sizes give every trace exactly.

    Args:
        traces: The same task at different sizes, two or more.

    Raises:
        CaptureError: The traces do not hold the same operators.
        UndecidedError: Another trace is needed.
    """
    first = traces[0]
    for other in traces[1:]:
        fault = difference(first, other, shapes=False)
        if fault:
            raise CaptureError(
                f"the model runs other operators at {_where(other)} than at {_where(first)}: {fault}",
                hint="capture it at fixed sizes, or remove the branch on a size",
            )
    solver = _Solver([t.symbols for t in traces])
    ops = tuple(_aligned(solver, row) for row in zip(*(t.ops for t in traces), strict=True))
    return Graph(ops=ops, symbols=dict(first.symbols))


def _aligned(solver: _Solver, row: tuple[Op, ...]) -> Op:
    op = row[0]
    inputs = tuple(solver.tensor(tensors) for tensors in zip(*(o.inputs for o in row), strict=True))
    if "stride" in op.attrs:
        solver.follow_window(inputs, row)
    outputs = tuple(solver.tensor(tensors) for tensors in zip(*(o.outputs for o in row), strict=True))
    return replace(op, inputs=inputs, outputs=outputs)


def evaluate(graph: Graph, sizes: Mapping[str, int]) -> Graph:
    """The same graph with every size a whole number."""

    def fixed(tensor: Tensor) -> Tensor:
        return replace(tensor, shape=tuple(size_at(size, sizes) for size in tensor.shape))

    ops = (replace(op, inputs=tuple(map(fixed, op.inputs)), outputs=tuple(map(fixed, op.outputs))) for op in graph.ops)
    return Graph(ops=tuple(ops), symbols=dict(sizes))


def difference(left: Graph, right: Graph, *, shapes: bool = True) -> str:
    """In words, where two graphs part; empty if they agree operator by operator.

    Producers are not compared, because folding changes them.
    """
    for index, (a, b) in enumerate(zip(left.ops, right.ops, strict=False)):
        for what, x, y in _features(a, b, shapes=shapes):
            if x != y:
                place = f" in {a.module}" if a.module else ""
                return f"operator {index} ({a.name}{place}): {what} {x} or {y}"
    if len(left.ops) != len(right.ops):
        return f"{len(left.ops)} or {len(right.ops)} operators"
    return ""


def _features(a: Op, b: Op, *, shapes: bool) -> Iterator[tuple[str, Any, Any]]:
    yield "name", a.name, b.name
    yield "phase", a.phase.value, b.phase.value
    yield "repetitions", a.repeat, b.repeat
    yield "attributes", dict(a.attrs), dict(b.attrs)
    for what, left, right in (("inputs", a.inputs, b.inputs), ("outputs", a.outputs, b.outputs)):
        yield what, [_looks(t) for t in left], [_looks(t) for t in right]
        if shapes:
            yield f"{what} of shape", [t.shape for t in left], [t.shape for t in right]


def _looks(tensor: Tensor) -> tuple[Any, ...]:
    return (len(tensor.shape), tensor.dtype, tensor.role.value, tensor.saved)


def _where(trace: Graph) -> str:
    return ", ".join(f"{symbol} = {size}" for symbol, size in trace.symbols.items())


class _Solver:
    """Explains rows of sizes, and remembers what it explained."""

    def __init__(self, samples: Sequence[Mapping[str, int]]) -> None:
        self.samples = samples
        self.known: dict[tuple[int, ...], Size] = {}
        self.monomials: dict[tuple[int, ...], Monomial] = {}
        self._add(())
        symbols = list(samples[0])
        plain = [Atom(s) for s in symbols if s != "p"]
        for atom in plain:
            self._add((atom,))
        for pair in combinations(plain, 2):
            self._add(pair)
        for atom in plain:
            self._add((atom, atom))
            if atom.symbol != "b" and "b" in symbols:
                self._add((Atom("b"), atom, atom))
        if "p" in symbols:
            self.add_atom(Atom("p"))

    def add_atom(self, atom: Atom) -> None:
        """A side length of an image; areas and batches of them follow."""
        if len(set(self._values(polynomial({(atom,): 1})))) == 1:
            return  # too coarse for these samples: it would be mistaken for a number
        batch = (Atom("b"),) if "b" in self.samples[0] else ()
        for monomial in ((atom,), (atom, atom), (*batch, atom), (*batch, atom, atom)):
            self._add(monomial)

    def _add(self, monomial: Monomial) -> None:
        values = self._values(Dim(((1, monomial),)))
        self.monomials.setdefault(values, monomial)

    def _values(self, size: Size) -> tuple[int, ...]:
        return tuple(size_at(size, sample) for sample in self.samples)

    def tensor(self, row: tuple[Tensor, ...]) -> Tensor:
        """The tensor whose shape gives those of all traces."""
        shape = tuple(self.size(values) for values in zip(*(t.shape for t in row), strict=True))
        return replace(row[0], shape=shape)

    def size(self, values: tuple[int, ...]) -> Size:
        """The simplest size with these values."""
        if len(set(values)) == 1:
            return values[0]
        if values not in self.known:
            self.known[values] = self._explain(values)
        return self.known[values]

    def _explain(self, values: tuple[int, ...]) -> Size:
        for count in range(1, min(_MAX_TERMS, len(values) - 1) + 1):
            found = {str(s): s for s in self._with_terms(values, count)}
            if len(found) == 1 or (found and len(values) >= _ENOUGH):
                return min(found.values(), key=_floors)
            if found:
                raise UndecidedError(f"{values} is {' or '.join(sorted(found)[:3])}")
            if count == 1:
                made = self._divided_side(values) or self._padded_side(values)
                if made is not None:
                    return made
        raise UndecidedError(f"no polynomial explains {values}", final=len(values) > _MAX_TERMS)

    def _with_terms(self, values: tuple[int, ...], count: int) -> Iterator[Size]:
        for chosen in combinations(self.monomials, count):
            coefficients = _solve([list(row) for row in zip(*chosen, strict=True)], values)
            if coefficients is not None and all(coefficients):
                yield polynomial({self.monomials[m]: c for m, c in zip(chosen, coefficients, strict=True)})

    def _divided_side(self, values: tuple[int, ...]) -> Size | None:
        """A side of an image divided by a view or a slice: rounded down, or else up."""
        if "p" not in self.samples[0]:
            return None
        sides = [sample["p"] for sample in self.samples]
        for divisor in range(2, 65):
            for add in (0, divisor - 1):
                if all((side + add) // divisor == value for side, value in zip(sides, values, strict=True)):
                    atom = Atom("p", add, divisor)
                    self.add_atom(atom)
                    return polynomial({(atom,): 1})
        return None

    def _padded_side(self, values: tuple[int, ...]) -> Size | None:
        """A side padded for windows at every second place: twice their number, and what the last one adds."""
        sides = [atoms[0] for atoms in self.monomials.values() if len(atoms) == 1 and atoms[0].symbol == "p"]
        for side in sides:
            windows = Atom("p", side.add + side.div, 2 * side.div)
            counts = self._values(polynomial({(windows,): 1}))
            rest = {value - 2 * count for value, count in zip(values, counts, strict=True)}
            if len(rest) == 1:
                self.add_atom(windows)
                return polynomial({(windows,): 2, (): rest.pop()})
        return None

    def follow_window(self, inputs: tuple[Tensor, ...], row: tuple[Op, ...]) -> None:
        """Remember the side lengths that a convolution or pooling makes."""
        op = row[0]
        kernel: Any = inputs[1].shape[2:] if op.name == "aten.convolution" else op.attrs.get("kernel_size")
        if not kernel or "p" not in self.samples[0] or op.phase is not Phase.FORWARD or op.attrs.get("transposed"):
            return
        made = list(zip(*(o.outputs[0].shape for o in row), strict=True))[-len(kernel) :]
        for axis, (side, values) in enumerate(zip(inputs[0].shape[-len(kernel) :], made, strict=True)):
            size = window(side, axis, op.attrs, kernel)
            if size is None or isinstance(size, int) or self._values(size) != values:
                continue
            self.known.setdefault(values, size)
            if len(size.terms) == 1 and len(size.terms[0][1]) == 1:
                self.add_atom(size.terms[0][1][0])


def window(side: Size, axis: int, attrs: Mapping[str, Any], kernel: Sequence[Any]) -> Size | None:
    """The side after a window slides over it, None where that is no polynomial with one floor.

    >>> str(window(polynomial({(Atom("p"),): 1}), 0, {"stride": (2, 2), "padding": (3, 3)}, (7, 7)))
    '(p+1)//2'
    """
    if isinstance(side, int):
        return side
    stride, padding, dilation = (
        _along(attrs.get(key), axis, default)
        for key, default in (("stride", kernel[axis]), ("padding", 0), ("dilation", 1))
    )
    add = 2 * padding - dilation * (kernel[axis] - 1) - 1 + stride
    if attrs.get("ceil_mode"):
        add += stride - 1
    if len(side.terms) == 1 and side.terms[0][0] == 1 and len(side.terms[0][1]) == 1:
        (atom,) = side.terms[0][1]
        return polynomial({(Atom(atom.symbol, atom.add + add * atom.div, atom.div * stride),): 1})
    if stride == 1:
        return polynomial({**{monomial: c for c, monomial in side.terms}, (): add})
    return None


def _floors(size: Size) -> tuple[int, int, str]:
    """How far a size is from a plain polynomial, to tell the simplest of several."""
    atoms = [] if isinstance(size, int) else [atom for _, monomial in size.terms for atom in monomial]
    return max((atom.div for atom in atoms), default=1), len(atoms), str(size)


def _along(value: Any, axis: int, default: Any) -> Any:
    if value is None or value == ():
        return default
    if isinstance(value, tuple):
        return value[axis] if axis < len(value) else value[-1]
    return value


def _solve(rows: list[list[int]], values: tuple[int, ...]) -> list[int] | None:
    """Whole coefficients with ``rows @ coefficients == values``, None if there are none or many."""
    count = len(rows[0])
    matrix = [[Fraction(x) for x in row] + [Fraction(v)] for row, v in zip(rows, values, strict=True)]
    for column in range(count):
        pivot = next((r for r in range(column, len(matrix)) if matrix[r][column]), None)
        if pivot is None:
            return None
        matrix[column], matrix[pivot] = matrix[pivot], matrix[column]
        lead = matrix[column]
        matrix[column] = lead = [x / lead[column] for x in lead]
        for r, row in enumerate(matrix):
            if r != column and row[column]:
                factor = row[column]
                matrix[r] = [x - factor * y for x, y in zip(row, lead, strict=True)]
    if any(row[count] for row in matrix[count:]) or any(row[count].denominator != 1 for row in matrix[:count]):
        return None
    return [int(row[count]) for row in matrix[:count]]
