"""Rules for operators that move, cut or join elements, and for those that only look at a shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from rigwise.graph.capture.from_onnx.trace import Rule, Step
from rigwise.graph.capture.from_onnx.value import NeedsValueError, RuleError, Shape, Value, axis_of, broadcast, small

# Shapes as values.


def _shape(step: Step) -> Value:
    shape = step[0].shape[slice(step.attr("start"), step.attr("end"))]
    return step.result((len(shape),), "int64", np.asarray(shape, dtype=np.int64))


def _size(step: Step) -> Value:
    return step.result((), "int64", np.asarray(step[0].elements, dtype=np.int64))


# Views: the same elements under another shape.


def view(value: Value, shape: Sequence[int]) -> Value:
    """The same elements in another shape.

    Raises:
        RuleError: The shape has more or fewer elements.
    """
    if math.prod(shape) != value.elements:
        raise RuleError(f"it makes the shape {list(shape)} of {list(value.shape)}")
    return value.viewed(shape, None if value.data is None else value.data.reshape(shape))


def _reshape(step: Step) -> Value:
    x = step[0]
    target = [int(size) for size in step.known(1, "the new shape")]
    keeps = not step.attr("allowzero", 0)
    before, then = x.base, step[1].base
    written = then is None or np.array_equal(then.data, step[1].data)  # in the file, not worked out of a shape
    if before is not None and before.shape != x.shape and before.rank == x.rank and written:
        shape = _grown(_solved(before.shape, target, keeps=keeps), before.shape, x.shape)
        if shape is not None:
            return view(x, shape)
    return view(x, _solved(x.shape, target, keeps=keeps))


def _solved(shape: Shape, target: list[int], *, keeps: bool) -> list[int]:
    """The target with its 0 taken from the shape, and its -1 worked out."""
    sizes = [shape[i] if size == 0 and keeps else size for i, size in enumerate(target)]
    if -1 not in sizes:
        return sizes
    rest, elements = -math.prod(sizes), math.prod(shape)
    if sizes.count(-1) > 1 or rest <= 0 or elements % rest:
        raise RuleError(f"it makes the shape {target} of {list(shape)}")
    return [elements // rest if size == -1 else size for size in sizes]


def _grown(target: list[int], was: Shape, now: Shape) -> list[int] | None:
    """A target written for the shape ``was``, for one that grew along an axis since; None if it cannot be told.

    So a fixed batch is freed: the axis of the target is the one with as many elements before it.

    >>> _grown([16, 2, 24], was=(16, 1, 48), now=(16, 8, 48))
    [16, 16, 24]
    """
    if math.prod(target) != math.prod(was):
        return None
    first = next(i for i, (a, b) in enumerate(zip(was, now, strict=True)) if a != b)
    before = math.prod(was[:first])
    axis = next((i for i in range(len(target)) if math.prod(target[:i]) == before), None)
    if axis is None:
        return None
    while axis + 1 < len(target) and target[axis] == 1 < was[first]:
        axis += 1
    if not was[first] or target[axis] % was[first]:
        return None
    made = [n * now[first] // was[first] if i == axis else n for i, n in enumerate(target)]
    return made if math.prod(made) == math.prod(now) else None


def _flatten(step: Step) -> Value:
    x, axis = step[0], step.attr("axis", 1)
    axis = axis + step[0].rank if axis < 0 else axis
    return view(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


def _squeeze(step: Step) -> Value:
    x, axes = step[0], step.numbers(1, "axes")
    if axes is None:
        dropped = {i for i, size in enumerate(x.shape) if size == 1}
    else:
        dropped = {axis_of(int(axis), x.rank) for axis in axes}
    if any(x.shape[axis] != 1 for axis in dropped):
        raise RuleError(f"it drops axes of {list(x.shape)} that are not 1")
    return view(x, [size for i, size in enumerate(x.shape) if i not in dropped])


def _unsqueeze(step: Step) -> Value:
    axes = step.numbers(1, "axes") or []
    rank = step[0].rank + len(axes)
    added, sizes = {axis_of(int(axis), rank) for axis in axes}, iter(step[0].shape)
    if len(added) != len(axes):
        raise RuleError(f"it adds an axis twice: {axes}")
    return view(step[0], [1 if axis in added else next(sizes) for axis in range(rank)])


# Copies.


def move(step: Step, name: str, x: Value, shape: Sequence[int], data: Any = None) -> Value:
    """As many elements of ``x`` as the result has, read and written once."""
    out = step.result(shape, x.dtype, data)
    if x.constant:
        out.source, out.stored = x.source, x.stored
        out.role = x.role if data is None else out.role
    step.emit(name, [(x, out.shape) if out.elements < x.elements else x], [out])
    return out


def _transpose(step: Step) -> Value:
    x = step[0]
    order = step.attr("perm") or list(range(x.rank))[::-1]
    if sorted(order) != list(range(x.rank)):
        raise RuleError(f"it reorders the axes of {list(x.shape)} as {order}")
    shape = tuple(x.shape[axis] for axis in order)
    data = None if x.data is None else np.transpose(x.data, order)
    real = [axis for axis in order if x.shape[axis] != 1]
    return view(x, shape) if real == sorted(real) else move(step, "aten.permute_copy", x, shape, data)


def _slice(step: Step) -> Value:
    x = step[0]
    try:
        starts, ends = (step.numbers(i, name) for i, name in ((1, "starts"), (2, "ends")))
    except NeedsValueError:
        step.note(f"{step.node} is cut by a value of the data; all of it is counted")
        return x
    if starts is None or ends is None:
        raise RuleError("it lacks starts or ends")
    axes = step.numbers(3, "axes") or list(range(len(starts)))
    steps = (step.known(4, "steps") if step.get(4) is not None else None) or [1] * len(starts)
    cuts = [slice(None)] * x.rank
    for start, end, axis, by in zip(starts, ends, axes, steps, strict=True):
        if by == 0:
            raise RuleError("it has a step of 0")
        cuts[axis_of(int(axis), x.rank)] = _cut(int(start), int(end), int(by))
    shape = tuple(len(range(*cut.indices(size))) for cut, size in zip(cuts, x.shape, strict=True))
    if shape == x.shape and all((cut.step or 1) > 0 for cut in cuts):
        return x
    return move(step, "aten.slice_copy", x, shape, None if x.data is None else x.data[tuple(cuts)])


def _cut(start: int, end: int, by: int) -> slice:
    """Python's slice: an end far below zero means all the way when going backwards."""
    return slice(start, None if by < 0 and end < -(2**30) else end, by)


def _split(step: Step) -> list[Value]:
    x, count = step[0], len(step.node.outputs)
    axis = axis_of(step.attr("axis", 0), x.rank)
    sizes = step.numbers(1, "the sizes of the parts")
    if sizes is None:
        part = -(-x.shape[axis] // count)
        sizes = [max(0, min(part, x.shape[axis] - part * i)) for i in range(count)]
    if sum(sizes) != x.shape[axis] or len(sizes) != count:
        raise RuleError(f"it splits {x.shape[axis]} into parts of {sizes}")
    parts = []
    for low, high in pairwise(sum(sizes[:i]) for i in range(count + 1)):
        cut = (*[slice(None)] * axis, slice(low, high))
        shape = (*x.shape[:axis], high - low, *x.shape[axis + 1 :])
        parts.append(move(step, "aten.slice_copy", x, shape, None if x.data is None else x.data[cut]))
    return parts


def _concat(step: Step) -> Value:
    values = [value for value in step.inputs if value is not None]
    rank = max(value.rank for value in values)
    axis = axis_of(step.attr("axis", 0), rank)
    shape = list(max((v.shape for v in values), key=math.prod))
    for value in values:
        for i, (size, whole) in enumerate(zip(value.shape, shape, strict=True)):
            stretched = value.constant and step.tracer.base is not None  # made for the batch of the file
            if i != axis and size != whole and not stretched:
                raise RuleError(f"it joins {' and '.join(str(list(v.shape)) for v in values)} along axis {axis}")
    shape[axis] = sum(value.shape[axis] for value in values)
    data = None
    if small(shape) and all(value.data is not None for value in values):
        data = np.concatenate([value.data for value in values], axis)
    out = step.result(shape, values[0].dtype, data)
    step.emit("aten.cat", [v for v in values if v.elements], [out])
    return out


def _expand(step: Step) -> Value:
    x = step[0]
    shape = broadcast(x.shape, tuple(int(size) for size in step.known(1, "the new shape")))
    if shape == x.shape:
        return x
    if math.prod(shape) == x.elements:
        return view(x, shape)
    data = np.broadcast_to(x.data, shape) if x.data is not None and small(shape) else None
    return move(step, "aten.expand_copy", x, shape, data)


def _tile(step: Step) -> Value:
    x, times = step[0], [int(n) for n in step.known(1, "the repeats")]
    shape = [size * n for size, n in zip(x.shape, times, strict=True)]
    data = np.tile(x.data, times) if x.data is not None and small(shape) else None
    return move(step, "aten.repeat", x, shape, data)


def _pad(step: Step) -> Value:
    x, pads = step[0], step.numbers(1, "pads")
    if pads is None:
        raise RuleError("it has no pads")
    axes = step.numbers(3, "axes") if step.get(3) is not None else None
    axes = list(range(x.rank)) if axes is None else [axis_of(int(axis), x.rank) for axis in axes]
    if len(pads) != 2 * len(axes):
        raise RuleError(f"it has {len(pads)} pads for {len(axes)} axes")
    shape = list(x.shape)
    for i, axis in enumerate(axes):
        shape[axis] += int(pads[i]) + int(pads[i + len(axes)])
    if tuple(shape) == x.shape and not any(pads):
        return x
    return move(step, "aten.constant_pad_nd", x, shape)


# Reordering within blocks.


def _depth_to_space(step: Step) -> Value:
    n, c, h, w = step[0].shape
    side = step.attr("blocksize")
    return move(step, "aten.pixel_shuffle", step[0], (n, c // side**2, h * side, w * side))


def _space_to_depth(step: Step) -> Value:
    n, c, h, w = step[0].shape
    side = step.attr("blocksize")
    return move(step, "aten.pixel_unshuffle", step[0], (n, c * side**2, h // side, w // side))


def _crop_pad(step: Step) -> Value:
    x, sizes = step[0], step.known(1, "the target shape")
    axes = step.attr("axes") or list(range(x.rank))
    shape = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = int(size)
    return move(step, "aten.constant_pad_nd", x, shape)


def _col2im(step: Step) -> Value:
    image, block = step.known(1, "the image shape"), step.known(2, "the block shape")
    n, columns = step[0].shape[:2]
    return move(step, "aten.col2im", step[0], (n, columns // math.prod(map(int, block)), *image))


def _like_first(name: str) -> Rule:
    return lambda step: move(step, name, step[0], step[0].shape)


RULES: dict[str, Rule] = {
    "Shape": _shape, "Size": _size, "Reshape": _reshape, "Flatten": _flatten, "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze, "Transpose": _transpose, "Slice": _slice, "Split": _split, "Concat": _concat,
    "Expand": _expand, "Tile": _tile, "Pad": _pad, "DepthToSpace": _depth_to_space, "SpaceToDepth": _space_to_depth,
    "CenterCropPad": _crop_pad, "Col2Im": _col2im, "ReverseSequence": _like_first("aten.flip"),
    "Trilu": lambda step: move(step, "aten.tril" if not step.attr("upper", 1) else "aten.triu", step[0], step[0].shape),
}  # fmt: skip
