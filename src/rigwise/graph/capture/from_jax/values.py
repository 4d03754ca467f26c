"""What a variable of a jaxpr stands for: where it came from, and how much of it there is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rigwise.graph.op import Phase, Role

#: Formats that a graph is captured in: the precision pass lowers ``float32`` to what a workload asks for.
_LOWERED = ("bfloat16", "float16")

#: ``float0`` is what JAX calls the gradient of a whole number: nothing.
_OTHER_NAMES = {"uint4": "int4", "int2": "int4", "uint2": "int4", "float0": "bool"}


class Origin:
    """The result of an operator; of a value that a loop carries, what its previous turn made.

    Attributes:
        node: Number of the operator, None until it is known.
        at: Which of its results.
        same: The origin that this one turned out to be.
        start: What a loop starts from, for a value that it carries.
    """

    __slots__ = ("at", "node", "same", "start")

    def __init__(self, node: int | None = None, at: int = 0) -> None:
        self.node, self.at = node, at
        self.same: Origin | None = None
        self.start: Origin | None = None

    def place(self) -> tuple[int, int] | None:
        """Number of the operator and of its result; None where there is none."""
        seen: set[int] = set()
        origin: Origin | None = self
        while origin is not None and id(origin) not in seen:
            seen.add(id(origin))
            if origin.node is not None:
                return origin.node, origin.at
            origin = origin.same
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A tensor, or a view of one.

    Attributes:
        shape: Elements that are stored: an axis along which it is broadcast counts as 1.
        dtype: As a graph writes it.
        role: What it is to the step.
        origin: The operator that made it.
        phase: Of that operator.
        known: It depends on no array, so that a compiler computes it once.
        turned: Reversed along some axes.
        carried: What a loop carried out of its last turn.
        path: Module path of the parameter that it is, empty for anything else.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    role: Role = Role.ACTIVATION
    origin: Origin | None = None
    phase: Phase = Phase.FORWARD
    known: bool = False
    turned: bool = False
    carried: bool = False
    path: str = ""


#: A number, or a tensor of equal ones.
CONSTANT = Value(shape=(), known=True)


def array(aval: Any, role: Role, path: str = "") -> Value:
    """A value that comes from outside: an argument, or an array that the function holds.

    Args:
        aval: Anything with a shape and a dtype.
        role: What it is to the step.
        path: Module path of the parameter that it is.
    """
    return Value(shape=shape_of(aval), dtype=dtype_of(aval), role=role, path=path)


def shape_of(aval: Any) -> tuple[int, ...]:
    """Sizes in a graph: a random key is two numbers."""
    shape = tuple(int(n) for n in getattr(aval, "shape", ()))
    return (*shape, 2) if _is_key(aval) else shape


def dtype_of(aval: Any) -> str:
    """The format in a graph, whose floating tensors are captured in ``float32``.

    >>> import numpy
    >>> dtype_of(numpy.zeros(3, "int8")), dtype_of(numpy.zeros(3, "float16"))
    ('int8', 'float32')
    """
    if _is_key(aval):
        return "uint32"
    name = str(getattr(aval, "dtype", "float32"))
    if name in _LOWERED:
        return "float32"
    if name.startswith("float8"):
        return "float8"
    return _OTHER_NAMES.get(name, name)


def _is_key(aval: Any) -> bool:
    return str(getattr(aval, "dtype", "")).startswith("key<")
