"""A jaxpr, JAX's own program of primitives, written down operator by operator.

``jax.make_jaxpr`` runs a function on shapes alone and lists what it asks for: forward, and, if it is the
function that computes gradients, backward. Two things are read off the name that JAX gives every entry: the
part that it differentiated in reverse (``transpose(...)``) is the backward phase, and what Flax calls its
modules is the module path.

Moves of data that a compiler merges into the reader (transpose, reshape, broadcast, slice, reverse) are no
operators here, as views are none in PyTorch. A value that does not depend on any array is known before the
program runs and costs nothing. What nothing reads is not run.

Source: documentation of ``jax.make_jaxpr``, section "Understanding jaxprs", JAX 0.10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rigwise.errors import CaptureError
from rigwise.graph.capture.faults import is_authors
from rigwise.graph.capture.from_jax.names import Scope
from rigwise.graph.capture.from_jax.operators import OPERATORS, Call, streaming
from rigwise.graph.capture.from_jax.primitives import INLINED
from rigwise.graph.capture.from_jax.values import CONSTANT, Origin, Value, array
from rigwise.graph.capture.from_jax.views import SOMETIMES, VIEWS
from rigwise.graph.count import work
from rigwise.graph.graph import Graph
from rigwise.graph.kinds import kind_of
from rigwise.graph.op import Op, Phase, Role, Tensor

#: More than this is an unrolled loop, not a model that a person would want listed.
MAX_OPS = 60_000


@dataclass(frozen=True, slots=True)
class _Node:
    """One operator, its operands still as values."""

    call: Call
    scope: Scope
    phase: Phase


class Recorder:
    """Walks a jaxpr and keeps its operators.

    Args:
        root: Name of the outermost module, which is no part of a path.
        training: Whether entries that were differentiated in reverse are a backward phase.

    Attributes:
        notes: What had to be assumed.
    """

    def __init__(self, root: str = "", *, training: bool = False) -> None:
        self.notes: list[str] = []
        self._root, self._training = root, training
        self._nodes: list[_Node] = []
        self._backward = False

    def run(self, jaxpr: Any, consts: Sequence[Value], arguments: Sequence[Value], scope: Scope) -> list[Value]:
        """What a jaxpr returns for these arguments; its operators are kept."""
        known: dict[Any, Value] = dict(zip(jaxpr.constvars, consts, strict=True))
        known |= zip(jaxpr.invars, arguments, strict=True)

        def read(atom: Any) -> Value:
            return CONSTANT if hasattr(atom, "val") else known[atom]

        for entry in jaxpr.eqns:
            results = self._entry(entry, [read(atom) for atom in entry.invars], scope.inside(entry, self._root))
            known |= zip(entry.outvars, results, strict=True)
        return [read(atom) for atom in jaxpr.outvars]

    def _entry(self, entry: Any, operands: list[Value], scope: Scope) -> Sequence[Value]:
        name = entry.primitive.name
        if name in INLINED and INLINED[name] in entry.params:
            return self._inlined(entry.params[INLINED[name]], operands, scope)
        if name in _CONTROL:
            return _CONTROL[name](self, entry, operands, scope)
        if name in VIEWS:
            seen = VIEWS[name](entry, operands)
            return seen if seen is not None else self._record(streaming(entry, operands, "aten.clone"), scope)
        if name in SOMETIMES and (seen := SOMETIMES[name](entry, operands)) is not None:
            return seen
        if not entry.outvars:
            return []  # a message to the console, say
        return self._record(OPERATORS.get(name, streaming)(entry, operands), scope)

    def _inlined(self, held: Any, operands: Sequence[Value], scope: Scope) -> list[Value]:
        jaxpr = getattr(held, "jaxpr", held)
        return self.run(jaxpr, [array(c, Role.BUFFER) for c in getattr(held, "consts", ())], operands, scope)

    def _record(self, call: Call, scope: Scope) -> list[Value]:
        if call.known:
            return [CONSTANT for _ in call.outputs]
        if len(self._nodes) >= MAX_OPS:
            raise TooManyOpsError
        self._backward = self._backward or (self._training and scope.backward)
        phase = Phase.BACKWARD if self._backward else Phase.FORWARD
        index = len(self._nodes)
        self._nodes.append(_Node(call, scope, phase))
        return [replace(made, origin=Origin(index, at), phase=phase) for at, made in enumerate(call.made)]

    # Loops and branches.

    def _scan(self, entry: Any, operands: list[Value], scope: Scope) -> list[Value]:
        """The body once, counted as often as it runs. What it carries comes from its own previous turn."""
        params = entry.params
        turns, consts, carried = params["length"], params["num_consts"], params["num_carry"]
        body = params["jaxpr"]
        if not turns:
            return [CONSTANT for _ in entry.outvars]
        before = operands[consts : consts + carried]
        phase = Phase.BACKWARD if scope.backward else Phase.FORWARD
        carry = [
            replace(array(v.aval, Role.ACTIVATION), origin=Origin(), phase=phase)
            for v in body.jaxpr.invars[consts : consts + carried]
        ]
        slices = [replace(v, shape=v.shape[1:]) if v.shape else v for v in operands[consts + carried :]]
        results = self._inlined(body, [*operands[:consts], *carry, *slices], scope.repeated(turns))
        for own, first, last in zip(carry, before, results[:carried], strict=True):
            if own.origin is not None:
                own.origin.same = last.origin if last.origin is not own.origin else first.origin
                own.origin.start = first.origin
        after = [replace(v, carried=True) for v in results[:carried]]
        return after + [replace(v, shape=(turns, *v.shape)) if not v.known else v for v in results[carried:]]

    def _while(self, entry: Any, _operands: list[Value], _scope: Scope) -> list[Value]:
        raise CaptureError(
            f"a while loop{_place(entry)} runs as often as its data say",
            hint="use jax.lax.scan, or fori_loop with bounds that are plain numbers",
        )

    def _branch(self, entry: Any, operands: list[Value], scope: Scope) -> list[Value]:
        """The costliest side, because data decide which one runs."""
        start = len(self._nodes)
        backward = self._backward
        costs = []
        for branch in entry.params["branches"]:
            self._inlined(branch, operands[1:], scope)
            costs.append(self._cost(start))
            del self._nodes[start:]
            self._backward = backward
        if len(set(costs)) > 1:
            self.notes.append(f"the branch{_place(entry)} always takes its costliest side")
        return self._inlined(entry.params["branches"][costs.index(max(costs))], operands[1:], scope)

    def _cost(self, start: int) -> tuple[float, float]:
        done = [(work(op, {}), op.repeat) for op in _operators(self._nodes[start:], range(start, len(self._nodes)))]
        return sum(w.flops * n for w, n in done), sum((w.read_bytes + w.write_bytes) * n for w, n in done)

    # Writing it down.

    def graph(self, outputs: Sequence[Value], gradients: Sequence[Value], sizes: Mapping[str, int]) -> Graph:
        """The operators that the outputs need, gradients and what is kept for the backward phase marked."""
        live = _needed(self._nodes, [v.origin for v in (*outputs, *gradients)])
        ops = list(_operators([self._nodes[i] for i in live], live))
        number = {old: new for new, old in enumerate(live)}
        marks: dict[tuple[int, int], Tensor] = {}
        for old in live:
            for value in self._nodes[old].call.values:
                place = value.origin.place() if value.origin else None
                if place and self._nodes[old].phase is Phase.BACKWARD and ops[number[place[0]]].phase is Phase.FORWARD:
                    tensor = ops[number[place[0]]].outputs[place[1]]
                    marks[number[place[0]], place[1]] = replace(tensor, saved=True)
        for value in gradients:
            place = value.origin.place() if value.origin else None
            if place and not value.carried:
                tensor = ops[number[place[0]]].outputs[place[1]]
                marks[number[place[0]], place[1]] = replace(tensor, role=Role.GRADIENT)
        for (index, at), tensor in marks.items():
            before = ops[index].outputs
            ops[index] = replace(ops[index], outputs=(*before[:at], tensor, *before[at + 1 :]))
        return Graph(ops=tuple(ops), symbols=dict(sizes))


class TooManyOpsError(Exception):
    """The jaxpr passed ``MAX_OPS``."""


_CONTROL: Mapping[str, Callable[[Recorder, Any, list[Value], Scope], list[Value]]] = {
    "scan": Recorder._scan,
    "while": Recorder._while,
    "cond": Recorder._branch,
}


def _operators(nodes: Sequence[_Node], numbers: Sequence[int]) -> Iterator[Op]:
    """Nodes as operators that know their producers by their place among ``numbers``."""
    place = {old: new for new, old in enumerate(numbers)}

    def tensor(value: Value, shape: tuple[int, ...]) -> Tensor:
        made = value.origin.place() if value.origin else None
        return Tensor(shape, value.dtype, value.role, place.get(made[0]) if made else None)

    for node in nodes:
        call, scope = node.call, node.scope
        inputs = tuple(tensor(value, shape) for value, shape in zip(call.values, call.shapes, strict=True))
        path = scope.module or next((v.path for v in call.values if v.path), "")
        attrs = {**call.attrs, "recomputed": True} if scope.recomputed else call.attrs
        yield Op(
            name=call.name,
            kind=kind_of(call.name),
            phase=node.phase,
            inputs=inputs,
            outputs=tuple(Tensor(shape, v.dtype) for v, shape in zip(call.made, call.outputs, strict=True)),
            attrs=attrs,
            module=path,
            repeat=scope.repeat,
        )


def _needed(nodes: Sequence[_Node], wanted: Sequence[Origin | None]) -> list[int]:
    """Numbers of the operators that these results come from, in order."""
    found: set[int] = set()
    seen: set[int] = set()
    open_ = list(wanted)
    while open_:
        origin = open_.pop()
        if origin is None or id(origin) in seen:
            continue
        seen.add(id(origin))
        open_ += [origin.same, origin.start]
        if origin.node is not None and origin.node not in found:
            found.add(origin.node)
            open_.extend(value.origin for value in nodes[origin.node].call.values)
    return sorted(found)


def _place(entry: Any) -> str:
    """`` at file.py:12`` of the innermost caller that is the author's own code."""
    trace = getattr(entry.source_info, "traceback", None)
    for frame in getattr(trace, "frames", None) or ():
        if is_authors(frame.file_name):
            return f" at {Path(frame.file_name).name}:{frame.line_num}"
    return ""
