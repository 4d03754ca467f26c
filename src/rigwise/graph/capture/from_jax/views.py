"""Primitives that only look at a tensor in another way, and move nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rigwise.graph.capture.from_jax.primitives import SAME, Shape, reshaped
from rigwise.graph.capture.from_jax.values import Value, dtype_of, shape_of

#: From an entry and its operands to what it returns, or None if the data have to be moved after all.
View = Callable[[Any, Sequence[Value]], list[Value] | None]


def _stored(value: Value, shape: Shape) -> list[Value]:
    return [value if value.known else replace(value, shape=shape)]


def _broadcast(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    shape = [1] * len(entry.params["shape"])
    for size, axis in zip(operands[0].shape, entry.params["broadcast_dimensions"], strict=False):
        shape[axis] = size
    return _stored(operands[0], tuple(shape))


def _reshape(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    if operands[0].known:
        return [operands[0]]
    shape = reshaped(operands[0].shape, shape_of(entry.invars[0].aval), shape_of(entry.outvars[0].aval))
    return None if shape is None else _stored(operands[0], shape)


def _transpose(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    if operands[0].known:
        return [operands[0]]
    return _stored(operands[0], tuple(operands[0].shape[axis] for axis in entry.params["permutation"]))


def _squeeze(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    gone = entry.params["dimensions"]
    return _stored(operands[0], tuple(n for axis, n in enumerate(operands[0].shape) if axis not in gone))


def _parts(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    """Slices: as much of an axis as is left, or 1 where it is broadcast."""
    if operands[0].known:
        return [operands[0]] * len(entry.outvars)
    shapes = (shape_of(v.aval) for v in entry.outvars)
    return [
        replace(operands[0], shape=tuple(min(n, m) for n, m in zip(operands[0].shape, shape, strict=True)))
        for shape in shapes
    ]


def _same(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    """What comes in goes out; a format of the same size may be another."""
    if len(operands) != len(entry.outvars):
        return None
    out = zip(operands, entry.outvars, strict=True)
    return [
        v if v.known or len(v.shape) != len(shape_of(o.aval)) else replace(v, dtype=dtype_of(o.aval)) for v, o in out
    ]


def _reverse(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    return [replace(operands[0], turned=True)]


def _convert(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    """A conversion between formats that a graph does not tell apart."""
    return [operands[0]] if operands[0].known or dtype_of(entry.outvars[0].aval) == operands[0].dtype else None


def _pad(entry: Any, operands: Sequence[Value]) -> list[Value] | None:
    """Padding by less than nothing cuts off."""
    cuts = all(low <= 0 and high <= 0 and not inner for low, high, inner in entry.params["padding_config"])
    return _parts(entry, operands) if cuts else None


VIEWS: Mapping[str, View] = {
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "transpose": _transpose,
    "squeeze": _squeeze,
    "slice": _parts,
    "split": _parts,
    **dict.fromkeys(SAME, _same),
    "rev": _reverse,
}

#: Views only in the cases their functions say; else operators of their own.
SOMETIMES: Mapping[str, View] = {"convert_element_type": _convert, "pad": _pad}
