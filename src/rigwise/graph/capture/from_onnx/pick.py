"""Rules for operators that pick, put or make elements by index."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.graph.capture.from_onnx.elementwise import in_family
from rigwise.graph.capture.from_onnx.file import DTYPES, Const
from rigwise.graph.capture.from_onnx.layout import move
from rigwise.graph.capture.from_onnx.trace import Rule, Step
from rigwise.graph.capture.from_onnx.value import RuleError, Shape, Value, axis_of, small
from rigwise.graph.op import Role

_LONGEST_RANGE = 10**9

#: Types of tables of quantised weights.
_FEW_BITS = ("int8", "uint8", "int4", "float8")


# Picking and putting.


def _gather(step: Step) -> Value:
    x, indices = step[0], step[1]
    axis = axis_of(step.attr("axis", 0), x.rank)
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    data = None
    if x.data is not None and indices.data is not None and small(shape):
        data = np.take(x.data, indices.data.astype(np.int64), axis=axis)
    elif x.constant and indices.data is not None and x.data is None and indices.rank == 0:
        return move(step, "aten.select_copy", x, shape)
    out = step.result(shape, x.dtype, data)
    few_bits = x.constant and (x.stored or x.dtype in _FEW_BITS)
    is_table = axis == 0 and (x.role is Role.PARAMETER or few_bits)
    if is_table and few_bits:
        step.weight(x)
        x = replace(x, role=Role.PARAMETER)
    step.emit("aten.embedding" if is_table else "aten.index_select", [x, indices], [out])
    return out


def _picked(name: str, shape_of: Any) -> Rule:
    def rule(step: Step) -> Value:
        out = step.result(shape_of(step), step[0].dtype)
        step.emit(name, [step[0], step[1]], [out])
        return out

    return rule


def _gather_nd(step: Step) -> Shape:
    x, indices, lead = step[0], step[1], step.attr("batch_dims", 0)
    return (*indices.shape[:-1], *x.shape[lead + indices.shape[-1] :])


def _scatter(name: str) -> Rule:
    def rule(step: Step) -> Value:
        x, updates = step[0], step[2]
        out = step.result(x.shape, x.dtype)
        step.emit(name, [x, step[1], updates], [out])
        return out

    return rule


def _compress(step: Step) -> Value:
    x, axis, kept = step[0], step.attr("axis"), step[1].data
    axis = None if axis is None else axis_of(axis, x.rank)
    length = x.elements if axis is None else x.shape[axis]
    if kept is None:
        step.note(f"{step.node} keeps all elements; which it keeps depends on data")
    count = length if kept is None else int(np.count_nonzero(kept))
    shape = (count,) if axis is None else (*x.shape[:axis], count, *x.shape[axis + 1 :])
    return move(step, "aten.masked_select", x, shape)


def _nonzero(step: Step) -> Value:
    x = step[0]
    if x.data is not None:
        data = np.asarray(np.nonzero(x.data), dtype=np.int64)
        return step.result(data.shape, "int64", data)
    step.note(f"{step.node} finds all elements different from zero; how many are depends on data")
    out = step.result((x.rank, x.elements), "int64")
    step.emit("aten.nonzero", [x], [out])
    return out


def _unique(step: Step) -> list[Value]:
    x, axis = step[0], step.attr("axis")
    count = x.elements if axis is None else x.shape[axis]
    step.note(f"{step.node} finds no two elements equal; how many are depends on data")
    out = step.result((count,) if axis is None else x.shape, x.dtype)
    places = [step.result((count,), "int64") for _ in range(3)]
    step.emit("aten._unique2", [x], [out, *places])
    return [out, *places]


def _one_hot(step: Step) -> Value:
    depth = int(step.known(1, "the depth")[0])
    axis = step.attr("axis", -1)
    axis = axis + step[0].rank + 1 if axis < 0 else axis
    out = step.result((*step[0].shape[:axis], depth, *step[0].shape[axis:]), step[2].dtype)
    step.emit("aten.one_hot", [step[0]], [out])
    return out


# Making.


def _range(step: Step) -> Value:
    start, limit, delta = (step.known(i, name)[0] for i, name in enumerate(("the start", "the limit", "the step")))
    if delta == 0 or not math.isfinite((limit - start) / delta) or abs((limit - start) / delta) > _LONGEST_RANGE:
        raise RuleError(f"it counts from {start} to {limit} by {delta}")
    count = max(0, math.ceil((limit - start) / delta))
    data = in_family(start + delta * np.arange(count), step[0].dtype) if small((count,)) else None
    out = step.result((count,), step[0].dtype, data)
    out.constant, out.role = True, Role.BUFFER
    return out


def _constant_of_shape(step: Step) -> Value:
    shape = [int(size) for size in step.known(0, "the shape")]
    held = step.attr("value")
    dtype = held.dtype if isinstance(held, Const) else "float32"
    fill = held.data if isinstance(held, Const) else np.zeros(1)
    data = None
    if fill is not None and all(size >= 0 for size in shape) and small(shape):
        data = in_family(np.full(shape, fill.reshape(-1)[0]), dtype)
    if step[0].source and "float" in dtype and math.prod(shape) > 1:
        return step.tracer.constant(Const(step.node.outputs[0], tuple(shape), dtype, data, filled=True))
    out = step.result(shape, dtype, data)
    out.constant, out.role = True, Role.BUFFER
    return out


def _eye(step: Step) -> Value:
    out = step.result(step[0].shape, DTYPES.get(step.attr("dtype"), step[0].dtype))
    out.constant, out.role = True, Role.BUFFER
    return out


def _tensor_scatter(step: Step) -> Value:
    """New keys or values are written into a cache in place."""
    out = step.result(step[0].shape, step[0].dtype)
    indices = [step[2]] if step.get(2) is not None else []
    step.emit("aten.index_copy", [step[0], *indices, step[1]], [out])
    return out


RULES: dict[str, Rule] = {
    "Gather": _gather, "Compress": _compress, "NonZero": _nonzero, "Unique": _unique, "OneHot": _one_hot,
    "Range": _range, "ConstantOfShape": _constant_of_shape, "EyeLike": _eye,
    "GatherElements": _picked("aten.gather", lambda step: step[1].shape),
    "GatherND": _picked("aten.index", _gather_nd),
    "ScatterElements": _scatter("aten.scatter"), "Scatter": _scatter("aten.scatter"),
    "ScatterND": _scatter("aten.index_put"), "TensorScatter": _tensor_scatter,
}  # fmt: skip
