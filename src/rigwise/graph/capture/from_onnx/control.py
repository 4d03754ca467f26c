"""Rules for branches, loops and sequences of tensors.

A branch is taken when its condition follows from shapes and constants. A loop runs as often as its trip count
says; its repetitions are numbered like layers, so that folding makes one block of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.graph.capture.from_onnx.file import DTYPES, Body
from rigwise.graph.capture.from_onnx.trace import Rule, Scope, Step
from rigwise.graph.capture.from_onnx.value import NeedsValueError, RuleError, Value, axis_of

_MOST_TURNS = 100_000


def _body(step: Step, name: str) -> Body:
    body = step.attr(name)
    if not isinstance(body, Body):
        raise RuleError(f"it has no {name}")
    return body


def _run(step: Step, body: Body, inputs: Sequence[Value]) -> list[Value]:
    """One pass over a body, which also sees the names around the node."""
    if len(inputs) != len(body.inputs):
        raise RuleError(f"its body takes {len(body.inputs)} values and gets {len(inputs)}")
    values = {port.name: value for port, value in zip(body.inputs, inputs, strict=True)}
    return step.tracer.body(body, Scope(values, step.scope, body.declared))


def _if(step: Step) -> list[Value]:
    condition = step.known(0, "its condition")
    return _run(step, _body(step, "then_branch" if condition[0] else "else_branch"), [])


def _loop(step: Step) -> list[Value]:
    body, carried = _body(step, "body"), list(step.inputs[2:])
    count = None if step.get(0) is None else int(step.known(0, "its trip count")[0])
    alive = None if step.get(1) is None else step[1]
    kept: list[list[Value]] = []
    turn = 0
    while count is None or turn < count:
        if alive is not None and not _is_true(alive, count):
            break
        if turn >= _MOST_TURNS:
            raise RuleError(f"it runs over {_MOST_TURNS:,} times")
        number = Value((), "int64", np.asarray(turn, dtype=np.int64), constant=True)
        inputs = [number, alive or _flag(), *_all(carried)]
        with step.tracer.turn(step.node, turn):
            made = _run(step, body, inputs)
        alive, carried = made[0], list(made[1 : 1 + len(carried)])
        kept.append(made[1 + len(carried) :])
        turn += 1
    if not kept:
        return [*_all(carried), *[step.result((0,), "float32") for _ in step.node.outputs[len(carried) :]]]
    return [*_all(carried), *_stacked(step, kept)]


def _all(values: Sequence[Value | None]) -> list[Value]:
    if any(value is None for value in values):
        raise RuleError("it lacks a value that it carries")
    return [value for value in values if value is not None]


def _flag() -> Value:
    return Value((), "bool", np.asarray(True), constant=True)


def _is_true(alive: Value, count: int | None) -> bool:
    """Whether a loop goes on; one with a trip count and an end that depends on data runs to its count."""
    if alive.data is None:
        if count is None:
            raise NeedsValueError("the condition that ends it")
        return True
    return bool(np.all(alive.data))


def _stacked(step: Step, rows: list[list[Value]], axes: Sequence[int] = ()) -> list[Value]:
    """What each turn made, along a new axis."""
    made = []
    for i, column in enumerate(zip(*rows, strict=True)):
        first = column[0]
        if any(value.shape != first.shape for value in column):
            raise RuleError("its turns make results of different shapes")
        axis = axis_of(axes[i], first.rank + 1) if axes else 0
        data = None
        if all(value.data is not None for value in column):
            data = np.stack([value.data for value in column], axis)
        out = Value((*first.shape[:axis], len(column), *first.shape[axis:]), first.dtype, data)
        out.constant, out.producer, out.role = all(v.constant for v in column), column[-1].producer, first.role
        made.append(out)
    return made


def _scan(step: Step) -> list[Value]:
    body, scanned = _body(step, "body"), step.attr("num_scan_inputs", 0)
    values = _all(step.inputs)
    states, sequences = values[: len(values) - scanned], values[len(values) - scanned :]
    axes = [axis_of(a, v.rank) for a, v in zip(step.attr("scan_input_axes") or [0] * scanned, sequences, strict=True)]
    turns = {value.shape[axis] for value, axis in zip(sequences, axes, strict=True)}
    if len(turns) != 1:
        raise RuleError(f"it scans sequences of lengths {sorted(turns)}")
    kept: list[list[Value]] = []
    for turn in range(turns.pop()):
        slices = [_at(value, axis, turn) for value, axis in zip(sequences, axes, strict=True)]
        with step.tracer.turn(step.node, turn):
            made = _run(step, body, [*states, *slices])
        states, rest = made[: len(states)], made[len(states) :]
        kept.append(rest)
    return [*states, *_stacked(step, kept, step.attr("scan_output_axes") or ())]


def _at(value: Value, axis: int, index: int) -> Value:
    """One slice, read where it lies."""
    data = None if value.data is None else np.take(value.data, index, axis)
    return value.viewed((*value.shape[:axis], *value.shape[axis + 1 :]), data)


# Sequences.


def _sequence(items: Sequence[Value]) -> Value:
    held = list(items)
    return Value((len(held),), held[0].dtype if held else "float32", constant=all(v.constant for v in held), items=held)


def _items(step: Step, index: int = 0) -> list[Value]:
    items = step[index].items
    if items is None:
        raise RuleError(f"its operand {index} is no sequence")
    return items


def _construct(step: Step) -> Value:
    return _sequence(_all(step.inputs))


def _split_to_sequence(step: Step) -> Value:
    x = step[0]
    axis = axis_of(step.attr("axis", 0), x.rank)
    length = x.shape[axis]
    sizes = [1] * length if step.get(1) is None else [int(v) for v in step.known(1, "the sizes of the parts")]
    if step.get(1) is not None and not step[1].rank:
        most = max(1, sizes[0])
        sizes = [min(most, length - low) for low in range(0, length, most)]
    drop = step.get(1) is None and not step.attr("keepdims", 1)
    parts: list[Value] = []
    for size in sizes:
        middle = () if drop else (size,)
        part = step.result((*x.shape[:axis], *middle, *x.shape[axis + 1 :]), x.dtype)
        step.emit("aten.slice_copy", [(x, part.shape)], [part])
        parts.append(part)
    return _sequence(parts)


def _place(step: Step, index: int, count: int) -> int:
    return axis_of(int(step.known(index, "the place in the sequence")[0]), count)


def _sequence_at(step: Step) -> Value:
    items = _items(step)
    return items[_place(step, 1, len(items))]


def _insert(step: Step) -> Value:
    items = list(_items(step))
    items.insert(len(items) if step.get(2) is None else _place(step, 2, len(items) + 1), step[1])
    return _sequence(items)


def _erase(step: Step) -> Value:
    items = list(_items(step))
    del items[-1 if step.get(1) is None else _place(step, 1, len(items))]
    return _sequence(items)


def _length(step: Step) -> Value:
    return step.result((), "int64", np.asarray(len(_items(step)), dtype=np.int64))


def _join(step: Step) -> Value:
    items, new = _items(step), step.attr("new_axis", 0)
    if not items:
        raise RuleError("it joins an empty sequence")
    first = items[0]
    axis = axis_of(step.attr("axis", 0), first.rank + new)
    if new:
        shape: tuple[Any, ...] = (*first.shape[:axis], len(items), *first.shape[axis:])
    else:
        shape = (*first.shape[:axis], sum(v.shape[axis] for v in items), *first.shape[axis + 1 :])
    out = step.result(shape, first.dtype)
    step.emit("aten.cat", items, [out])
    return out


def _map(step: Step) -> list[Value]:
    body, rows = _body(step, "body"), []
    for turn, item in enumerate(_items(step)):
        others = [v.items[turn] if v.items is not None else v for v in _all(step.inputs[1:])]
        with step.tracer.turn(step.node, turn):
            rows.append(_run(step, body, [item, *others]))
    return [_sequence(column) for column in zip(*rows, strict=True)]


def _empty(step: Step) -> Value:
    return replace(_sequence([]), dtype=DTYPES.get(step.attr("dtype", 1), "float32"), constant=True)


def _optional(step: Step) -> Value:
    return step.inputs[0] if step.inputs and step.inputs[0] is not None else Value((), "", constant=True, items=[])


def _has_element(step: Step) -> Value:
    given = step.get(0)
    return step.result((), "bool", np.asarray(given is not None and given.dtype != ""))


RULES: dict[str, Rule] = {
    "If": _if, "Loop": _loop, "Scan": _scan, "SequenceConstruct": _construct, "SplitToSequence": _split_to_sequence,
    "SequenceAt": _sequence_at, "SequenceInsert": _insert, "SequenceErase": _erase, "SequenceLength": _length,
    "ConcatFromSequence": _join, "SequenceMap": _map, "SequenceEmpty": _empty, "Optional": _optional,
    "OptionalGetElement": lambda step: step[0], "OptionalHasElement": _has_element,
}  # fmt: skip
