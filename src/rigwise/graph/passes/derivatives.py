"""What the backward pass of one operator runs: its rule, by name or by kind.

A rule gets the operator and says, operator by operator, what autograd would run, which of its
results is the gradient of which input, and what the forward pass must keep for it. Shapes,
names and operands are those of a captured backward pass, which the tests compare with.

Source: ``tools/autograd/derivatives.yaml`` of PyTorch states each derivative; the rules were
read off captured graphs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rigwise.graph.dim import Size
from rigwise.graph.kinds import kind_of
from rigwise.graph.op import Attr, Kind, Op, Phase, Role, Tensor

#: In place of a producer: the gradient of the operator's own result, and the last step of the same rule.
ARRIVING, PREVIOUS = -1, -2


@dataclass(frozen=True, slots=True)
class Step:
    """One operator of a backward pass.

    Attributes:
        op: The operator; inputs made by ``ARRIVING`` or ``PREVIOUS``, or by operators of the forward pass.
        of: For each output, which input of the forward operator it is the gradient of; None if of none.
    """

    op: Op
    of: tuple[int | None, ...] = (None,)


@dataclass(slots=True)
class Derivative:
    """The backward pass of one operator.

    Attributes:
        op: The forward operator.
        index: Where it stands.
        wanted: Positions of the inputs that need a gradient.
        steps: What is run.
        handed_on: Inputs whose gradient is that of the result, unchanged.
        saved: Outputs of forward operators that must be kept, as (operator, output).
    """

    op: Op
    index: int
    wanted: frozenset[int]
    steps: list[Step] = field(default_factory=list)
    handed_on: set[int] = field(default_factory=set)
    saved: set[tuple[int, int]] = field(default_factory=set)

    @property
    def arriving(self) -> Tensor:
        """The gradient of the result."""
        return self.result(0, ARRIVING)

    def result(self, position: int, producer: int | None = None) -> Tensor:
        """An output of the forward operator, as an operand."""
        tensor = self.op.outputs[position]
        made = self.index if producer is None else producer
        return Tensor(tensor.shape, tensor.dtype, Role.ACTIVATION, made)

    def kept_result(self, position: int = 0) -> Tensor:
        """An output of the forward operator that the backward pass reads."""
        self.saved.add((self.index, position))
        return self.result(position)

    def kept(self, position: int, *axes_swapped: int) -> Tensor:
        """An input of the forward operator that the backward pass reads, perhaps transposed."""
        tensor = self.op.inputs[position]
        if tensor.producer is not None and tensor.role is Role.ACTIVATION:
            self.saved.add((tensor.producer, 0))
        shape = _swapped(tensor.shape) if axes_swapped else tensor.shape
        return replace(tensor, shape=shape, saved=False)

    def run(
        self,
        name: str,
        inputs: Sequence[Tensor],
        of: Sequence[int | None],
        shape: tuple[Size, ...] = (),
        attrs: Mapping[str, Attr] | None = None,
    ) -> None:
        """Add an operator; outputs have the shapes of the inputs they are gradients of, or ``shape``."""
        outputs = tuple(self._output(position, shape) for position in of)
        known = kind_of(name)
        streams = self.op.kind not in (Kind.GEMM, Kind.CONV, Kind.ATTENTION)
        op = Op(
            name=name,
            kind=self.op.kind if known is Kind.UNKNOWN and streams else known,
            phase=Phase.BACKWARD,
            inputs=tuple(inputs),
            outputs=outputs,
            attrs=dict(attrs or {}),
            module=self.op.module,
            repeat=self.op.repeat,
        )
        self.steps.append(Step(op, tuple(of)))

    def previous(self) -> Tensor:
        """The result of the last step."""
        return replace(self.steps[-1].op.outputs[0], producer=PREVIOUS, role=Role.ACTIVATION)

    def _output(self, position: int | None, shape: tuple[Size, ...]) -> Tensor:
        if position is None:
            return Tensor(shape or self.op.outputs[0].shape, self.op.outputs[0].dtype)
        like = self.op.inputs[position]
        role = Role.GRADIENT if like.role is Role.PARAMETER else Role.ACTIVATION
        return Tensor(shape or like.shape, like.dtype, role)


def derivative(op: Op, index: int, wanted: frozenset[int]) -> Derivative:
    """The backward pass of an operator whose inputs ``wanted`` need a gradient."""
    found = Derivative(op, index, wanted)
    rule = _BY_NAME.get(op.name.removesuffix("_")) or _BY_KIND.get(op.kind, _as_forward)
    rule(found)
    return found


def _swapped(shape: tuple[Size, ...]) -> tuple[Size, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


# Matrix operators


def _gemm(d: Derivative) -> None:
    a, b = d.op.inputs[:2]
    arriving = Tensor((*a.shape[:-1], b.shape[-1]), a.dtype, Role.ACTIVATION, ARRIVING)
    grouped = d.op.name == "aten._grouped_mm"
    flat = len(a.shape) == len(b.shape) == 2
    name = d.op.name if grouped else ("aten.mm" if flat else "aten.bmm")
    attrs = dict(d.op.attrs) if grouped else {}
    if 0 in d.wanted:
        d.run(name, [arriving, d.kept(1, -1, -2)], [0], attrs=attrs)
    if 1 in d.wanted:
        d.run(name, [d.kept(0, -1, -2), arriving], [1], attrs=attrs)
    for position in d.wanted - {0, 1}:
        _as_broadcast(d, position)


def _convolution(d: Derivative) -> None:
    attrs = dict(d.op.attrs)
    if 0 in d.wanted:
        d.run("rigwise.conv_dgrad", [d.arriving, d.kept(1)], [0], attrs=attrs)
    if 1 in d.wanted:
        d.run("rigwise.conv_wgrad", [d.arriving, d.kept(0)], [1, *sorted(d.wanted - {0, 1})], attrs=attrs)


def _attention(d: Derivative) -> None:
    operands = [d.kept(i) for i in range(3)]
    results = [d.kept_result(i) for i in range(len(d.op.outputs))]
    d.run("rigwise.attention_backward", [d.arriving, *operands, *results], [0, 1, 2], attrs=d.op.attrs)


def _recurrent(d: Derivative) -> None:
    x, wi, wh = d.kept(0), d.kept(1), d.kept(2)
    states = [d.kept(i) for i in range(3, len(d.op.inputs)) if d.op.inputs[i].role is not Role.PARAMETER]
    gates_shape = (*x.shape[:-1], wi.shape[0])
    biases = [i for i in range(3, len(d.op.inputs)) if d.op.inputs[i].role is Role.PARAMETER]
    last = len(d.op.outputs) - 1
    operands = [d.arriving, wi, wh, d.kept_result(), d.kept_result(last), *states]
    d.run("rigwise.recurrent_dgrad", operands, [None, 0], attrs=d.op.attrs)
    step = d.steps[-1]
    outputs = (Tensor(gates_shape, x.dtype), *(_output_like(t, Role.ACTIVATION) for t in (x, *states)))
    d.steps[-1] = Step(replace(step.op, outputs=outputs), (None, 0, *(None for _ in states)))
    d.run("rigwise.recurrent_wgrad", [d.previous(), x, d.kept_result()], [1, 2, *biases], attrs=d.op.attrs)


def _output_like(tensor: Tensor, role: Role) -> Tensor:
    return Tensor(tensor.shape, tensor.dtype, role)


# Streaming operators


def _as_broadcast(d: Derivative, position: int) -> None:
    """The gradient of the result, summed over the axes along which the input was spread."""
    given, made = d.op.inputs[position], d.op.outputs[0]
    if given.shape == made.shape or same_size(given, made):
        d.handed_on.add(position)
        return
    source = d.arriving
    shape = (
        given.shape if given.role is not Role.PARAMETER else (1,) * (len(made.shape) - len(given.shape)) + given.shape
    )
    d.run("aten.sum", [source], [position], shape=shape)


def same_size(given: Tensor, made: Tensor) -> bool:
    """Whether two tensors hold as many elements at two sizes of every symbol: a view of one another."""
    tries = ({"b": 7, "s": 11, "c": 13, "p": 224}, {"b": 5, "s": 17, "c": 19, "p": 160})
    return all(given.elements(sizes) == made.elements(sizes) for sizes in tries)


def _sum_like(d: Derivative) -> None:
    for position in sorted(d.wanted):
        _as_broadcast(d, position)


def _difference(d: Derivative) -> None:
    for position in sorted(d.wanted):
        if position == 0:
            _as_broadcast(d, position)
        else:
            _each(d, position, ["aten.neg"])


def _product(d: Derivative) -> None:
    """``mul``: the gradient times the other factor, which is kept; with a number, the gradient times it."""
    floating = [i for i, t in enumerate(d.op.inputs) if t.is_floating]
    for position in sorted(d.wanted):
        others = [d.kept(i) for i in floating if i != position][:1]
        _each(d, position, ["aten.mul"], others)


def _quotient(d: Derivative) -> None:
    floating = [i for i, t in enumerate(d.op.inputs) if t.is_floating]
    for position in sorted(d.wanted):
        others = [d.kept(i) for i in floating if i != position][:1]
        if position == 0:
            _each(d, position, ["aten.div"], others)
        else:
            _each(d, position, ["aten.neg", "aten.mul", "aten.div"], [d.kept_result()])


def _each(d: Derivative, position: int, names: Sequence[str], others: Sequence[Tensor] = ()) -> None:
    """A chain of elementwise operators over the result's shape, then a sum over spread axes."""
    given, made = d.op.inputs[position], d.op.outputs[0]
    spread = given.shape != made.shape and not same_size(given, made)
    for number, name in enumerate(names):
        last = number == len(names) - 1 and not spread
        source = d.arriving if number == 0 else d.previous()
        operands = [source, *(others if number == 0 or name != "aten.neg" else ())]
        d.run(name, operands, [position if last else None], shape=() if last else made.shape)
    if spread:
        d.run("aten.sum", [d.previous()], [position])


def _chain(*names: str, keeps: str = "input") -> Callable[[Derivative], None]:
    """A rule for a function of one variable: so many elementwise operators, and what they read."""

    def rule(d: Derivative) -> None:
        (position,) = sorted(d.wanted)[:1]
        others = {"input": d.kept, "result": lambda _: d.kept_result()}
        _each(d, position, names, [others[keeps](position)] if keeps else [])

    return rule


def _power(d: Derivative) -> None:
    """``pow``, ``rsqrt``: another power of what was kept, times a number, times the gradient."""
    (position,) = sorted(d.wanted)[:1]
    d.run("aten.pow", [d.kept(position) if d.op.name.startswith("aten.pow") else d.kept_result()], [None])
    d.run("aten.mul", [d.previous()], [None])
    d.run("aten.mul", [d.arriving, d.previous()], [position])


def _activation(d: Derivative) -> None:
    """One kernel of its own: ``gelu_backward``, and ``threshold_backward`` for ReLU."""
    plain = d.op.name.removesuffix("_")
    of_result = plain in ("aten.relu", "aten.sigmoid", "aten.tanh") or d.op.name.endswith("_")
    name = "aten.threshold_backward" if plain == "aten.relu" else f"{plain}_backward"
    d.run(name, [d.arriving, d.kept_result() if of_result else d.kept(0)], [0])


def _dropout(d: Derivative) -> None:
    d.run("aten.native_dropout_backward", [d.arriving, d.kept_result(1)], [0])


def _where(d: Derivative) -> None:
    for position in sorted(d.wanted):
        _each(d, position, ["aten.where"], [d.kept(0)])


# Normalisation, reductions, pooling


def _layer_norm(d: Derivative) -> None:
    statistics = [d.kept_result(i) for i in range(1, len(d.op.outputs))]
    weights = [d.kept(i) for i in range(1, len(d.op.inputs))]
    order = [*weights, *statistics] if "batch_norm" in d.op.name else [*statistics, *weights]
    gradients = [i for i in sorted(d.wanted) if i == 0 or d.op.inputs[i].role is Role.PARAMETER]
    d.run(f"{d.op.name}_backward", [d.arriving, d.kept(0), *order], gradients)


def _softmax(d: Derivative) -> None:
    d.run(f"{d.op.name}_backward_data", [d.arriving, d.kept_result()], [0])


def _mean(d: Derivative) -> None:
    d.run("aten.div", [d.arriving], [0])


def _extreme(d: Derivative) -> None:
    """``amax``: where the input equals the result, the gradient."""
    d.run("aten.eq", [d.kept(0), d.kept_result()], [None], shape=d.op.inputs[0].shape)
    d.run("aten.mul", [d.previous(), d.arriving], [0])


def _pool(d: Derivative) -> None:
    chosen = [d.kept_result(1)] if len(d.op.outputs) > 1 else []
    operands = [] if "upsample" in d.op.name else [d.kept(0)]
    d.run(f"{d.op.name}_backward", [d.arriving, *operands, *chosen], [0], attrs=d.op.attrs)


# Moving data


def _embedding(d: Derivative) -> None:
    d.run("aten.embedding_dense_backward", [d.arriving, d.kept(1)], [0])


def _pieces(d: Derivative) -> None:
    """``cat``: views of the gradient, which cost nothing."""
    d.handed_on |= d.wanted


def _scattered(d: Derivative) -> None:
    """``index``, ``gather``: a fresh zero gradient into which the arriving one is added."""
    indices = [d.kept(i) for i, t in enumerate(d.op.inputs) if not t.is_floating]
    for position in sorted(d.wanted)[:1]:
        zeros = replace(d.op.inputs[position], producer=PREVIOUS, role=Role.ACTIVATION)
        d.run("aten.new_zeros", [], [None], shape=d.op.inputs[position].shape)
        d.run("aten.index_put", [zeros, *indices, d.arriving], [position])


def _copied(d: Derivative) -> None:
    for position in sorted(d.wanted):
        if d.op.inputs[position].dtype != d.op.outputs[0].dtype:
            d.run("aten._to_copy", [d.arriving], [position])
        else:
            _as_broadcast(d, position)


def _sliced(d: Derivative) -> None:
    """A fresh zero gradient, into which the slice is written."""
    d.run(d.op.name.replace("_copy", "_backward"), [d.arriving], [0])


def _padded(d: Derivative) -> None:
    d.run(d.op.name, [d.arriving], [0])


def _as_forward(d: Derivative) -> None:
    """An operator without a rule: reads its inputs and the gradient, writes a gradient for each input."""
    wanted = sorted(d.wanted)
    d.run(
        f"{d.op.name}_backward", [d.arriving, *(d.kept(i) for i in range(len(d.op.inputs)))], wanted, attrs=d.op.attrs
    )


def _names(rule: Callable[[Derivative], None], names: str) -> Iterator[tuple[str, Callable[[Derivative], None]]]:
    return ((f"aten.{name}", rule) for name in names.split())


_KERNELS = "relu gelu silu sigmoid tanh hardswish hardsigmoid hardtanh leaky_relu elu mish softplus threshold"

_BY_NAME: Mapping[str, Callable[[Derivative], None]] = dict([
    *_names(_sum_like, "add sum"),
    *_names(_difference, "sub rsub"),
    *_names(_product, "mul"),
    *_names(_quotient, "div"),
    *_names(_activation, _KERNELS),
    *_names(_dropout, "native_dropout"),
    *_names(_where, "where"),
    *_names(_chain("aten.neg", keeps=""), "neg"),
    *_names(_chain("aten.mul", keeps="result"), "exp"),
    *_names(_chain("aten.div"), "log"),
    *_names(_chain("aten.div", "aten.mul", keeps="result"), "sqrt"),
    *_names(_power, "pow rsqrt reciprocal"),
    *_names(_chain("aten.pow", "aten.neg", "aten.exp", "aten.mul", "aten.mul"), "erf"),
    *_names(_mean, "mean"),
    *_names(_extreme, "amax amin max min"),
    *_names(_pieces, "cat stack"),
    *_names(_copied, "clone copy _to_copy contiguous repeat expand_copy permute_copy roll flip tril triu"),
    *_names(_sliced, "slice_copy select_copy"),
    *_names(_chain("aten.where"), "clamp clamp_min clamp_max abs"),
    *_names(_padded, "constant_pad_nd"),
])  # fmt: skip

_BY_KIND: Mapping[Kind, Callable[[Derivative], None]] = {
    Kind.GEMM: _gemm,
    Kind.CONV: _convolution,
    Kind.ATTENTION: _attention,
    Kind.RNN: _recurrent,
    Kind.NORM: _layer_norm,
    Kind.SOFTMAX: _softmax,
    Kind.POOL: _pool,
    Kind.EMBEDDING: _embedding,
    Kind.INDEX: _scattered,
}
