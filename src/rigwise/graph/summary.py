"""What the operators of a step cost on paper: FLOPs, MACs, bytes, saved activations.

Runs of ``count.work``, priced and added up; ``tree.py`` sums them by module. Nothing here
knows a device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from rigwise.errors import InvalidInputError
from rigwise.graph.count import Sizes, tensor_bytes, work
from rigwise.graph.dim import Dim
from rigwise.graph.graph import Graph
from rigwise.graph.op import Kind, Op, SameOps

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


def check_sizes(name: str, graph: Graph, sizes: Mapping[str, int]) -> None:
    """See that no tensor vanishes: an image may be smaller than the kernels and strides it meets.

    Raises:
        InvalidInputError: Names the sizes and the model.
    """
    for size in _symbolic(SameOps(graph.ops)):
        if size.at(sizes) < 1 <= size.at(graph.symbols):
            raise InvalidInputError(
                f"{size_words(sizes)} is too small for {name}: a tensor of size {size} would be empty"
            )


@lru_cache(maxsize=64)
def _symbolic(held: SameOps) -> tuple[Dim, ...]:
    """Sizes of all results that hold a symbol, each once."""
    outputs = (tensor for op in held.ops for tensor in op.outputs)
    return tuple(dict.fromkeys(size for tensor in outputs for size in tensor.shape if isinstance(size, Dim)))


def size_words(sizes: Mapping[str, int]) -> str:
    """Sizes as a person writes them: ``batch 8, image_size 224``."""
    return ", ".join(f"{WORD_OF_SYMBOL[symbol]} {size}" for symbol, size in sizes.items())


def costs_of(ops: Iterable[Op], sizes: Mapping[str, int], name: str) -> list[Cost]:
    """Cost of every operator of the model ``name``.

    Raises:
        InvalidInputError: At these sizes it is no number.
    """
    try:
        return [cost_of(op, sizes) for op in ops]
    except OverflowError:
        raise InvalidInputError(f"{size_words(sizes)} is too large for {name}: its cost is no number") from None


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


def folded_layers(graph: Graph) -> dict[str, int]:
    """Stacks of equal layers, and how many layers of each stand as one.

    >>> from rigwise.graph.op import Phase
    >>> op = Op(name="aten.mm", kind=Kind.GEMM, phase=Phase.FORWARD, inputs=(), outputs=(),
    ...         module="layers.*.mlp", repeat=32)
    >>> folded_layers(Graph(ops=(op,), symbols={}))
    {'layers.*': 32}
    """
    stacks: dict[str, int] = {}
    for op in graph.ops:
        stack, star, _ = op.module.partition("*")
        if op.repeat > 1 and star:
            stacks[stack + star] = max(op.repeat, stacks.get(stack + star, 0))
    return stacks


def unknown_ops(graph: Graph) -> tuple[str, ...]:
    """Names of the operators that no cost law covers."""
    return tuple(sorted({op.name for op in graph.ops if op.kind is Kind.UNKNOWN}))
