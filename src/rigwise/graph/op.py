"""Operators and tensors: the rows of a captured compute graph.

Everything here is shape bookkeeping. What an operator costs is said in ``count.py``;
how long it takes, in ``estimate/``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from rigwise.graph.dim import Size, product_at

Attr = int | float | str | bool | tuple[int, ...]


class Phase(StrEnum):
    """The part of a step an operator belongs to."""

    FORWARD = "forward"
    BACKWARD = "backward"
    OPTIMIZER = "optimizer"


class Kind(StrEnum):
    """Families of operators that share a cost law; ``count.py`` says which operator is which."""

    GEMM = "gemm"
    CONV = "conv"
    ATTENTION = "attention"
    NORM = "norm"
    SOFTMAX = "softmax"
    ELEMENTWISE = "elementwise"
    REDUCE = "reduce"
    POOL = "pool"
    EMBEDDING = "embedding"
    INDEX = "index"  # gather, scatter, index, masked writes
    COPY = "copy"  # contiguous, cat, clone, cast, pad, fill
    SORT = "sort"
    SCAN = "scan"  # cumulative sums, state-space scans
    RNN = "rnn"
    OPTIMIZER = "optimizer"
    PAIRWISE = "pairwise"  # all-pairs or neighbour-list force loops
    COLLECTIVE = "collective"
    UNKNOWN = "unknown"


class Role(StrEnum):
    """What a tensor is to the step."""

    PARAMETER = "parameter"  # a weight, trained or frozen
    BUFFER = "buffer"  # running statistics, rotary tables, caches of constants
    INPUT = "input"  # the batch
    CACHE = "cache"  # keys and values of earlier tokens
    ACTIVATION = "activation"  # made by an operator of this graph
    GRADIENT = "gradient"  # gradient of a parameter, kept until the optimizer step


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as an operator sees it.

    Attributes:
        shape: Sizes of the elements really read or written: an expanded axis counts as 1.
        dtype: Name as PyTorch writes it: ``float32``, ``bfloat16``, ``int64``, ``bool``.
            Floating activations and weights are captured in ``float32``; the precision
            pass lowers them to what a workload asks for.
        role: What the tensor is to the step.
        producer: Index in ``Graph.ops`` of the operator that made it, None if none did.
            Inside a repeated block an index at or after the reader's own means the
            previous repetition.
        saved: An output that the forward pass keeps for the backward pass.
    """

    shape: tuple[Size, ...]
    dtype: str = "float32"
    role: Role = Role.ACTIVATION
    producer: int | None = None
    saved: bool = False

    def elements(self, sizes: Mapping[str, Any]) -> Any:
        """How many elements, for given symbol sizes (numbers or NumPy arrays).

        >>> from rigwise.graph.dim import parse_size
        >>> Tensor((parse_size("b"), 1000)).elements({"b": 64})
        64000
        """
        return product_at(self.shape, sizes)

    @property
    def is_floating(self) -> bool:
        """Whether the precision of a workload applies to it."""
        return "float" in self.dtype


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operator, standing for ``repeat`` equal ones.

    Attributes:
        name: As PyTorch calls it, without overload: ``aten.addmm``, ``rigwise.attention``.
        kind: The family that shares a cost law.
        phase: Forward, backward or optimizer.
        inputs: Tensors read, in the operator's own order.
        outputs: Tensors written.
        attrs: What shapes do not say: stride, padding, groups, causal, heads ...
        module: Path of the module that ran it, layer numbers folded to ``*``.
        repeat: How often the block it stands in is repeated.
    """

    name: str
    kind: Kind
    phase: Phase
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    module: str = ""
    repeat: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class SameOps:
    """Operators as a cache key: known by identity."""

    ops: tuple[Op, ...]

    def __hash__(self) -> int:
        return id(self.ops)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SameOps) and self.ops is other.ops
