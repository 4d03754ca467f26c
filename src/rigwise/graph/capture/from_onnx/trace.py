"""One pass over an ONNX graph at given sizes, written down operator by operator.

Every node has a rule that knows the shape of its result and which operators a device runs for it. Small
tensors of whole numbers are computed along the way, because reshapes and slices depend on them. What depends
on nothing but constants and shapes does not run at inference and is not written down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rigwise.errors import CaptureError, InvalidInputError, RigwiseError, UnsupportedError
from rigwise.graph.capture.from_onnx.file import Body, Const, Function, Net, Node, Port, Reference
from rigwise.graph.capture.from_onnx.value import NeedsValueError, RuleError, Shape, Value, checked
from rigwise.graph.graph import Graph
from rigwise.graph.kinds import kind_of
from rigwise.graph.op import Attr, Op, Phase, Role

Operand = Value | tuple[Value, Shape]
Rule = Callable[["Step"], "Value | Sequence[Value | None]"]

#: More operators than this are an unrolled loop; more nodes than this, functions that call each other.
MAX_OPS, MAX_STEPS = 60_000, 400_000
_MAX_CALLS = 32

#: Results of these differ from step to step even if all that they read is constant.
_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")


class Step:
    """One node while its rule runs."""

    def __init__(self, tracer: Tracer, node: Node, inputs: list[Value | None], scope: Scope) -> None:
        self.tracer, self.node, self.inputs, self.scope = tracer, node, inputs, scope
        given = [value for value in inputs if value is not None]
        self.constant = all(value.constant for value in given) and node.op not in _RANDOM
        self._weights = self.constant and any(value.role is Role.PARAMETER for value in given)

    def __getitem__(self, index: int) -> Value:
        """An operand that must be there."""
        value = self.get(index)
        if value is None:
            raise RuleError(f"it lacks its operand {index}")
        return value

    def get(self, index: int) -> Value | None:
        """An operand, None if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute."""
        value = self.node.attrs.get(name)
        return default if value is None else value

    def known(self, index: int, what: str) -> list[Any]:
        """The numbers of an operand as a flat list.

        Raises:
            NeedsValueError: They are not known.
        """
        value = self[index]
        if value.data is None:
            lies = self.tracer.external.get(value.source)
            raise NeedsValueError(f"{what} lies in the external file {lies!r}" if lies else what)
        return [item.item() for item in np.ravel(value.data)]

    def numbers(self, index: int, name: str) -> list[Any] | None:
        """What newer opsets give as an operand and older ones as an attribute; None if it is left out."""
        if self.get(index) is not None:
            return self.known(index, name)
        value = self.attr(name)
        return value if value is None or isinstance(value, list) else [value]

    def result(self, shape: Sequence[Any], dtype: str, data: Any = None) -> Value:
        """A result of this shape."""
        constant = self.constant or data is not None
        role = Role.ACTIVATION
        if constant:
            role = Role.PARAMETER if self._weights and "float" in dtype else Role.BUFFER
        return Value(checked(shape), dtype, data, constant, role)

    def emit(self, name: str, inputs: Sequence[Operand], outputs: Sequence[Operand], **attrs: Attr) -> None:
        """Write down one operator; results of constants are made before the first step."""
        if not self.constant:
            self.tracer.record(self.node, name, inputs, outputs, attrs)

    def note(self, text: str) -> None:
        """Say what was assumed."""
        self.tracer.notes[text] = None

    def weight(self, value: Value, shape: Shape | None = None) -> None:
        """Count a constant as a parameter although it is not floating."""
        if value.source:
            self.tracer.weights[value.source] = shape or self.tracer.weights.get(value.source)


@dataclass(frozen=True, slots=True)
class Scope:
    """Names that a body can read: its own, and those around it."""

    values: dict[str, Value]
    outer: Scope | None = None
    declared: Mapping[str, Port] = field(default_factory=dict)

    def find(self, name: str) -> Value | None:
        """The value of a name, None if nothing has it."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        return None


class Tracer:
    """Walks a file once.

    Args:
        net: The file.
        where: Its path, for messages.
        rules: For each domain, how its operators are run.
        base: Values of an earlier walk at the sizes that the file fixes, by node and output.
    """

    def __init__(
        self, net: Net, where: str, rules: Mapping[str, Mapping[str, Rule]], base: Mapping[Any, Value] | None = None
    ) -> None:
        self.net, self.where, self.rules = net, where, rules
        self.base, self.values = base, dict[Any, Value]()
        self.notes: dict[str, None] = {}
        self.external: dict[str, str] = {}
        self.constants: dict[str, Const] = {}
        self.weights: dict[str, Shape | None] = {}
        self.readers: dict[str, dict[str, None]] = {}
        self.places: dict[str, str] = {}
        self._ops: list[Op] = []
        self._steps = self._calls = 0
        self._prefix = ""

    def run(self, inputs: Mapping[str, Value], symbols: Mapping[str, int]) -> tuple[Graph, list[Value]]:
        """The operators of the whole graph, and its results."""
        for name, value in inputs.items():
            self._remember(name, [value])
        scope = Scope(dict(inputs), None, self.net.body.declared)
        outputs = self.body(self.net.body, scope)
        return Graph(ops=tuple(self._ops), symbols=dict(symbols)), outputs

    def body(self, body: Body, scope: Scope) -> list[Value]:
        """Run all nodes of a body, whose inputs are in the scope, and return its results."""
        for name, const in body.constants.items():
            scope.values[name] = self.constant(const)
        for node in body.nodes:
            self._node(node, scope)
        return [self._read(name, scope, "an output of the graph") for name in body.outputs]

    @contextmanager
    def turn(self, node: Node, number: int) -> Iterator[None]:
        """Inside this context runs one of several repetitions, numbered like a layer so that folding finds it."""
        before, self._prefix = self._prefix, f"{self._prefix}{node.module or node.name or 'loop'}.{number}."
        try:
            yield
        finally:
            self._prefix = before

    def constant(self, const: Const) -> Value:
        """The value of a constant in the file."""
        if const.name:
            self.constants[const.name] = const
            if const.external:
                self.external[const.name] = const.external
        role = Role.PARAMETER if "float" in const.dtype and const.shape else Role.BUFFER
        return Value(const.shape, const.dtype, const.data, True, role, source=const.name)

    # One node.

    def _node(self, node: Node, scope: Scope) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise CaptureError(f"{self.where} runs over {MAX_STEPS:,} nodes: its functions or loops multiply them")
        inputs = [self._read(name, scope, str(node)) if name else None for name in node.inputs]
        self._note_readers(node, inputs)
        step = Step(self, node, inputs, scope)
        try:
            made = self._made(step)
        except (RuleError, NeedsValueError) as error:
            raise self._refused(node, error) from None
        except RigwiseError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise InvalidInputError(f"{self.where}: {node} has operands or attributes that do not fit") from error
        values = [made] if isinstance(made, Value) else list(made)
        self._remember(self._steps, values)
        for name, value in zip(node.outputs, values, strict=False):
            if name and value is not None:
                scope.values[name] = value

    def _made(self, step: Step) -> Value | Sequence[Value | None]:
        node = step.node
        function = self.net.functions.get((node.domain, node.op))
        if function is not None:
            return self._call(step, function)
        rule = self.rules.get(node.domain, {}).get(node.op)
        if rule is None:
            return self._unknown(step)
        try:
            return rule(step)
        except NeedsValueError as error:
            declared = self._declared(step)
            if declared is None:
                raise
            step.note(f"{node}: {error} is not known without data; its shape is the one that the file declares")
            return declared

    def _call(self, step: Step, function: Function) -> list[Value]:
        """Run the nodes of a function in place of the node that calls it."""
        if self._calls >= _MAX_CALLS:
            raise RuleError(f"functions call each other more than {_MAX_CALLS} deep")
        given = {**function.defaults, **step.node.attrs}
        inputs = {p.name: v for p, v in zip(function.body.inputs, step.inputs, strict=False) if v is not None}
        scope = Scope(dict(inputs))
        absent = {p.name for p in function.body.inputs} - set(inputs)
        self._calls += 1
        try:
            for node in function.body.nodes:
                self._node(_bound(node, given, absent, step.node.module), scope)
        finally:
            self._calls -= 1
        return [self._read(name, scope, str(step.node)) for name in function.body.outputs]

    def _unknown(self, step: Step) -> list[Value]:
        """An operator without a rule: its shapes must be in the file, and it counts as memory traffic."""
        declared = self._declared(step)
        node = step.node
        if declared is None:
            hint = "add its shape to the file's value_info, or replace it by operators of the standard"
            if not node.domain:
                raise UnsupportedError(f"{self.where}: {node} is no operator that rigwise knows", hint=hint)
            raise UnsupportedError(
                f"{self.where}: {node} is of the custom domain {node.domain!r}, and the file does not say the shape"
                f" of its result",
                hint=hint,
            )
        step.emit(f"{node.domain or 'onnx'}.{node.op}", [v for v in step.inputs if v is not None], declared)
        return declared

    def _declared(self, step: Step) -> list[Value] | None:
        """Results in the shapes that the file's own value_info gives them, None if it does not."""
        values = []
        for name in step.node.outputs:
            port = step.scope.declared.get(name)
            if port is None or port.dims is None or not port.dtype:
                return None
            dims = [self.net_size(d) for d in port.dims]
            if any(d is None for d in dims):
                return None
            values.append(step.result(dims, port.dtype))
        return values or None

    #: The size of a declared dim at the sizes of this walk, None if it is not known.
    net_size: Callable[[int | str | None], int | None] = staticmethod(lambda d: d if isinstance(d, int) else None)

    def _refused(self, node: Node, error: Exception) -> RigwiseError:
        if isinstance(error, NeedsValueError):
            return CaptureError(
                f"{self.where}: {node}: {error} decides its shape and is not known without data",
                hint="simplify the file with fixed sizes, or add the shape to its value_info",
            )
        return InvalidInputError(f"{self.where}: {node}: {error}")

    def _read(self, name: str, scope: Scope, reader: str) -> Value:
        value = scope.find(name)
        if value is None:
            raise InvalidInputError(f"{self.where}: {reader} reads {name!r}, which nothing makes")
        return value

    def _remember(self, key: Any, values: Sequence[Value | None]) -> None:
        """Keep values for a later walk, or fetch those of an earlier one."""
        for slot, value in enumerate(values):
            if value is None:
                continue
            if self.base is None:
                self.values[key, slot] = value
            else:
                value.base = self.base.get((key, slot))

    def _note_readers(self, node: Node, inputs: list[Value | None]) -> None:
        """Which operators read a constant tells whether it is a parameter."""
        for slot, value in enumerate(inputs):
            if value is not None and value.source:
                self.readers.setdefault(value.source, {})[f"{node.op}.{slot}"] = None
                self.places.setdefault(value.source, f"{node.module}.{node.op}.{slot}".lstrip("."))

    # Writing down.

    def record(
        self, node: Node, name: str, inputs: Sequence[Operand], outputs: Sequence[Operand], attrs: dict[str, Attr]
    ) -> None:
        """Append one operator and make it the producer of its outputs."""
        index = len(self._ops)
        if index >= MAX_OPS:
            raise CaptureError(f"{self.where} has over {MAX_OPS:,} operators, at {node}", hint="does it unroll a loop?")
        reads = tuple(_tensor(operand) for operand in inputs)
        written = []
        for operand in outputs:
            value = operand if isinstance(operand, Value) else operand[0]
            value.role, value.producer = Role.ACTIVATION, None
            written.append(_tensor(operand))
            value.producer = index
        module = f"{self._prefix}{node.module}".strip(".")
        self._ops.append(
            Op(name=name, kind=kind_of(name), phase=Phase.FORWARD, inputs=reads, outputs=tuple(written),
               attrs=attrs, module=module[:300])
        )  # fmt: skip


def _tensor(operand: Operand) -> Any:
    return operand.tensor() if isinstance(operand, Value) else operand[0].tensor(operand[1])


def _bound(node: Node, given: Mapping[str, Any], absent: set[str], module: str) -> Node:
    """A node of a function with the attributes and operands of the call."""
    attrs = {k: given.get(v.name) if isinstance(v, Reference) else v for k, v in node.attrs.items()}
    inputs = tuple("" if name in absent else name for name in node.inputs)
    return Node(node.op, node.domain, node.name, inputs, node.outputs, attrs, node.module or module)
