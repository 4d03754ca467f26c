"""What one step of a model costs on paper: FLOPs, MACs, bytes, parameters, activations.

Sums of ``count.work`` over a graph, as a whole and by phase, operator kind, layer or
operator. Nothing here knows a device. Bytes are those of the capture, in which weights
and activations are float32; the optimizer's own operators are not part of a graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from rigwise.errors import InvalidInputError
from rigwise.graph.count import Sizes, tensor_bytes, work
from rigwise.graph.dim import Dim
from rigwise.graph.graph import Graph, Model
from rigwise.graph.op import Kind, Op

#: What a person calls each symbol: the flag without its dashes, and the key in JSON.
WORD_OF_SYMBOL = {"b": "batch", "s": "seq", "c": "context", "p": "image_size"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A sum over executions of operators.

    Attributes:
        calls: How often an operator ran.
        flops: Two for each multiply-add; operators that multiply no matrices count as 0.
        macs: Multiply-adds.
        read_bytes: Operands, each read once.
        write_bytes: Results, each written once.
        saved_bytes: Results kept for the backward pass.
    """

    calls: int = 0
    flops: float = 0.0
    macs: float = 0.0
    read_bytes: float = 0.0
    write_bytes: float = 0.0
    saved_bytes: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            calls=self.calls + other.calls,
            flops=self.flops + other.flops,
            macs=self.macs + other.macs,
            read_bytes=self.read_bytes + other.read_bytes,
            write_bytes=self.write_bytes + other.write_bytes,
            saved_bytes=self.saved_bytes + other.saved_bytes,
        )

    @property
    def bytes(self) -> float:
        """Bytes moved."""
        return self.read_bytes + self.write_bytes

    @property
    def flops_per_byte(self) -> float:
        """Arithmetic intensity; 0 for what moves nothing.

        >>> Cost(flops=600.0, read_bytes=100.0, write_bytes=50.0).flops_per_byte
        4.0
        """
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The cost of one step and where it lies.

    Attributes:
        model, task: What was summed.
        sizes: Size of each symbol, ``{"b": 8, "p": 224}``.
        total: The whole step.
        by_phase, by_kind, by_layer, by_op: Parts that add up to ``total``, in the order they first
            run. A layer is a module path with layer numbers folded; an op is an operator name.
        parameters, trainable_parameters: Elements.
        parameter_bytes, buffer_bytes: As captured.
        unknown_ops: Operators that no cost law covers; they count as memory traffic.
    """

    model: str
    task: str
    sizes: Mapping[str, int]
    total: Cost
    by_phase: Mapping[str, Cost]
    by_kind: Mapping[str, Cost]
    by_layer: Mapping[str, Cost]
    by_op: Mapping[str, Cost]
    parameters: int
    trainable_parameters: int
    parameter_bytes: float
    buffer_bytes: float
    unknown_ops: tuple[str, ...]


def summarise(model: Model, task: str, sizes: Mapping[str, int]) -> Summary:
    """The cost of one step of ``task`` at the given symbol sizes.

    Raises:
        UnsupportedError: The model has no graph for the task.
        InvalidInputError: A symbol of the graph has no size, or one too small or too large for the model.
    """
    graph = model.graph(task)
    check_sizes(model.name, graph, sizes)
    try:
        costs = [(op, cost_of(op, sizes)) for op in graph.ops]
    except OverflowError:
        raise InvalidInputError(f"{_words(sizes)} is too large for {model.name}: its cost is no number") from None
    trainable = sum(p.elements for p in model.parameters if p.trainable)
    return Summary(
        model=model.name,
        task=task,
        sizes=dict(sizes),
        total=sum((cost for _, cost in costs), Cost()),
        by_phase=_sums(costs, lambda op: op.phase),
        by_kind=_sums(costs, lambda op: op.kind),
        by_layer=_sums(costs, lambda op: op.module),
        by_op=_sums(costs, lambda op: op.name),
        parameters=model.parameter_count,
        trainable_parameters=trainable,
        parameter_bytes=4.0 * model.parameter_count,
        buffer_bytes=model.buffer_bytes,
        unknown_ops=unknown_ops(graph),
    )


def check_sizes(name: str, graph: Graph, sizes: Mapping[str, int]) -> None:
    """See that no tensor vanishes: an image may be smaller than the kernels and strides it meets.

    Raises:
        InvalidInputError: Names the sizes and the model.
    """
    outputs = (tensor for op in graph.ops for tensor in op.outputs)
    distinct = {id(size): size for tensor in outputs for size in tensor.shape if isinstance(size, Dim)}
    for size in distinct.values():
        if size.at(sizes) < 1 <= size.at(graph.symbols):
            raise InvalidInputError(f"{_words(sizes)} is too small for {name}: a tensor of size {size} would be empty")


def _words(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{WORD_OF_SYMBOL[symbol]} {size}" for symbol, size in sizes.items())


def cost_of(op: Op, sizes: Sizes) -> Cost:
    """Cost of all executions of one operator.

    Raises:
        OverflowError: It exceeds the largest number that a float holds.
    """
    once, saved = work(op, sizes), sum(tensor_bytes(t, sizes) for t in op.outputs if t.saved)
    if not math.isfinite(op.repeat * (once.flops + once.read_bytes + once.write_bytes)):
        raise OverflowError
    return Cost(
        calls=op.repeat,
        flops=op.repeat * once.flops,
        macs=op.repeat * once.macs,
        read_bytes=op.repeat * once.read_bytes,
        write_bytes=op.repeat * once.write_bytes,
        saved_bytes=op.repeat * float(saved),
    )


def unknown_ops(graph: Graph) -> tuple[str, ...]:
    """Names of the operators that no cost law covers."""
    return tuple(sorted({op.name for op in graph.ops if op.kind is Kind.UNKNOWN}))


def _sums(costs: Iterable[tuple[Op, Cost]], key: Callable[[Op], str]) -> dict[str, Cost]:
    sums: dict[str, Cost] = {}
    for op, cost in costs:
        name = str(key(op))
        sums[name] = sums.get(name, Cost()) + cost
    return sums
