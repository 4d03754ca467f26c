"""From an entry of a jaxpr to the form in which a graph keeps it: see ``canonical.py`` for PyTorch's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from rigwise.graph.capture.from_jax.primitives import (
    NEVER_FOLDED,
    STREAMING,
    Shape,
    convolution,
    matrix_product,
    pooling,
)
from rigwise.graph.capture.from_jax.values import Value, dtype_of, shape_of
from rigwise.graph.op import Attr, Phase, Role


@dataclass(frozen=True, slots=True)
class Call:
    """One operator call.

    Attributes:
        name: Of the operator.
        values: Operands.
        shapes: What is read of each operand.
        made: Results as those who read them find them.
        outputs: What is written of each result, its axes in the operator's order.
        attrs: What shapes do not say.
        known: All operands are known before the program runs.
    """

    name: str
    values: Sequence[Value]
    shapes: Sequence[Shape]
    made: Sequence[Value]
    outputs: Sequence[Shape]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    known: bool = False


def streaming(entry: Any, operands: Sequence[Value], name: str = "") -> Call:
    """An operator that reads its operands as they are stored; numbers are no operands."""
    primitive = entry.primitive.name
    read = [value for value in operands if not value.known]
    made = _results(entry)
    name = name or STREAMING.get(primitive, f"jax.{primitive.replace('-', '_')}")
    known = not read and primitive not in NEVER_FOLDED
    return Call(name, read, [v.shape for v in read], made, [v.shape for v in made], known=known)


def _results(entry: Any) -> list[Value]:
    return [Value(shape=shape_of(v.aval), dtype=dtype_of(v.aval)) for v in entry.outvars]


def _full(entry: Any, at: int) -> Shape:
    return shape_of(entry.invars[at].aval)


def _operand(value: Value, entry: Any, at: int) -> Value:
    """An operand that the operator needs even where its content is known."""
    return (
        Value(shape=_full(entry, at), dtype=dtype_of(entry.invars[at].aval), role=Role.BUFFER) if value.known else value
    )


def _product(entry: Any, operands: Sequence[Value]) -> Call:
    """The weight comes second, as in PyTorch."""
    numbers = entry.params["dimension_numbers"]
    left, right = (_operand(value, entry, at) for at, value in enumerate(operands))
    name, a, b, c = matrix_product(numbers, _full(entry, 0), _full(entry, 1))
    if left.role is Role.PARAMETER and right.role is not Role.PARAMETER:
        left, right, a, b, c = right, left, _flipped(b), _flipped(a), _flipped(c)
    return Call(name, [left, right], [a, b], _results(entry), [c])


def _flipped(shape: Shape) -> Shape:
    return (*shape[:-2], shape[-1], shape[-2])


def _ragged_product(entry: Any, operands: Sequence[Value]) -> Call:
    """Rows in groups, each with its own matrix."""
    a, b = (_full(entry, at) for at in (0, 1))
    made = _results(entry)
    groups: dict[str, Attr] = {"groups": _full(entry, 2)[-1]}
    values = [_operand(value, entry, at) for at, value in enumerate(operands[:2])]
    return Call("aten._grouped_mm", values, [a, b], made, [made[0].shape], groups)


def _conv(entry: Any, operands: Sequence[Value]) -> Call:
    """A gradient is told by its operands: the turned weight, or the incoming gradient in the weight's place."""
    made = _results(entry)
    values = [_operand(value, entry, at) for at, value in enumerate(operands)]
    kind = "forward"
    if values[1].turned:
        kind = "dgrad"
    elif values[1].phase is Phase.BACKWARD or (operands[1].known and values[1].role is not Role.PARAMETER):
        kind = "wgrad"
    name, operand_shapes, out, attrs = convolution(
        entry.params, (_full(entry, 0), _full(entry, 1), made[0].shape), kind
    )
    return Call(
        name, [values[at] for at, _ in operand_shapes], [shape for _, shape in operand_shapes], made, [out], attrs
    )


def _pool(entry: Any, operands: Sequence[Value]) -> Call:
    call = streaming(entry, operands)
    found = pooling(entry.primitive.name, entry.params, _full(entry, 0), shape_of(entry.outvars[0].aval))
    if found is None or call.known or len(call.values) != 1:
        return call
    name, shape, out, attrs = found
    return replace(call, name=name, shapes=[shape], outputs=[out], attrs=attrs)


def _pool_backward(entry: Any, operands: Sequence[Value]) -> Call:
    """The gradient goes to where the largest values were found."""
    values = [_operand(value, entry, at) for at, value in enumerate(operands)]
    call = streaming(entry, values, "aten.max_pool2d_with_indices_backward")
    return replace(call, known=all(value.known for value in operands))


def _gather(entry: Any, operands: Sequence[Value]) -> Call:
    """Rows of a table, or anything else that is picked by index."""
    numbers, sizes = entry.params["dimension_numbers"], entry.params["slice_sizes"]
    table = _full(entry, 0)
    rows = len(table) == 2 and tuple(sizes) == (1, table[1]) and tuple(numbers.collapsed_slice_dims) == (0,)
    values = [_operand(value, entry, at) for at, value in enumerate(operands[:2])]
    made = _results(entry)
    name = "aten.embedding" if rows else "aten.index"
    shapes = [v.shape for v in values]
    return Call(name, values, shapes, made, [made[0].shape], known=all(v.known for v in operands))


def _scatter(entry: Any, operands: Sequence[Value]) -> Call:
    """Rows added to, or written into, a tensor that stands or that is made of zeros here."""
    made = _results(entry)
    table, indices, rows = operands[:3]
    rows, indices = _operand(rows, entry, 2), _operand(indices, entry, 1)
    adds = entry.primitive.name in ("scatter-add", "scatter_add")
    if table.known and adds:
        return Call(
            "aten.embedding_dense_backward", [rows, indices], [rows.shape, indices.shape], made, [made[0].shape]
        )
    values = [_operand(table, entry, 0), indices, rows]
    plain = entry.primitive.name == "scatter"
    name = "aten.scatter_add" if adds else "aten.scatter" if plain else "aten.scatter_reduce"
    return Call(name, values, [v.shape for v in values], made, [made[0].shape])


def _dynamic_slice(entry: Any, operands: Sequence[Value]) -> Call:
    """As much is read as comes out."""
    call = streaming(entry, operands[:1], "aten.slice_copy")
    return replace(call, shapes=[made.shape for made in call.made][: len(call.values)])


def _dynamic_update(entry: Any, operands: Sequence[Value]) -> Call:
    """A part of a tensor that stands is written over."""
    values = [_operand(value, entry, at) for at, value in enumerate(operands[:2])]
    made = _results(entry)
    return Call("aten.index_copy", values, [v.shape for v in values], made, [made[0].shape])


def _concatenate(entry: Any, operands: Sequence[Value]) -> Call:
    return streaming(entry, operands, "aten.cat")


OPERATORS: Mapping[str, Callable[[Any, Sequence[Value]], Call]] = {
    "dot_general": _product,
    "ragged_dot": _ragged_product,
    "ragged_dot_general": _ragged_product,
    "conv_general_dilated": _conv,
    **dict.fromkeys(("reduce_window_max", "reduce_window_min", "reduce_window_sum"), _pool),
    "select_and_scatter_add": _pool_backward,
    "gather": _gather,
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter_add", "scatter-mul", "scatter_mul", "scatter-min", "scatter_min",
         "scatter-max", "scatter_max", "scatter-sub", "scatter_sub"), _scatter,
    ),
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update,
    "concatenate": _concatenate,
}  # fmt: skip
