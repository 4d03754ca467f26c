"""Values between nodes: a shape, a type, and for small tensors of numbers the numbers themselves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rigwise.graph.capture.from_onnx.file import KEPT_ELEMENTS
from rigwise.graph.op import Role, Tensor

Shape = tuple[int, ...]

_MAX_ELEMENTS = 10**15


class RuleError(Exception):
    """A node cannot be what it says: its operands or attributes do not fit."""


class NeedsValueError(Exception):
    """A shape depends on numbers that are not known without data."""


@dataclass(slots=True)
class Value:
    """What one name stands for while a graph is walked.

    Attributes:
        shape: Whole numbers.
        dtype: Name as in a graph.
        data: The numbers as int64, float64 or bool where few and known.
        constant: Whether it is the same at every step, so that making it costs a step nothing.
        role: What it is to the step.
        producer: Index of the operator that made it.
        stored: The dtype it has in memory where that is another: weights that are dequantised when read.
        source: The constant of the file it is a copy, view or cast of.
        base: What it was at the sizes that the file fixes, where a fixed batch is being freed.
        items: The tensors of a sequence.
    """

    shape: Shape
    dtype: str
    data: Any = None
    constant: bool = False
    role: Role = Role.ACTIVATION
    producer: int | None = None
    stored: str = ""
    source: str = ""
    base: Value | None = None
    items: list[Value] | None = field(default=None)

    @property
    def elements(self) -> int:
        """How many."""
        return math.prod(self.shape)

    @property
    def rank(self) -> int:
        """How many axes."""
        return len(self.shape)

    def tensor(self, shape: Shape | None = None) -> Tensor:
        """The value as an operand, seen in another shape if one is given."""
        dtype = self.stored or self.dtype
        return Tensor(self.shape if shape is None else shape, MEMORY_DTYPE.get(dtype, dtype), self.role, self.producer)

    def viewed(self, shape: Sequence[int], data: Any = None) -> Value:
        """The same elements in another shape, which moves nothing."""
        return replace(self, shape=tuple(int(d) for d in shape), data=data, base=None)


#: Types that a graph has no name for: a string is what points to it.
MEMORY_DTYPE = {"string": "int64"}


def small(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape has few enough elements for its numbers to be kept."""
    return math.prod(shape) <= KEPT_ELEMENTS


def checked(shape: Sequence[Any]) -> Shape:
    """A shape of plain whole numbers.

    Raises:
        RuleError: A size is negative, or the whole absurdly large.
    """
    plain = tuple(int(size) for size in shape)
    if any(size < 0 for size in plain):
        raise RuleError(f"its result would have the shape {list(plain)}")
    if math.prod(plain) > _MAX_ELEMENTS:
        raise RuleError(f"its result would have {float(math.prod(plain)):.1e} elements")
    return plain


def broadcast(*shapes: Shape) -> Shape:
    """The shape that operands of these shapes are stretched to.

    >>> broadcast((4, 1, 3), (5, 1))
    (4, 5, 3)

    Raises:
        RuleError: They do not fit.
    """
    rank = max(map(len, shapes))
    result = []
    for axis in range(rank):
        sizes = {shape[axis - rank + len(shape)] for shape in shapes if axis - rank + len(shape) >= 0} - {1}
        if len(sizes) > 1:
            raise RuleError(f"its operands of shapes {' and '.join(str(list(s)) for s in shapes)} do not fit")
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        RuleError: There is no such axis.
    """
    if not -rank <= axis < max(rank, 1):
        raise RuleError(f"it has no axis {axis}: its operand has {rank}")
    return axis + rank if axis < 0 else axis
