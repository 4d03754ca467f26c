"""What is to be captured: a module on fake tensors, how to feed it, and what may vary."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rigwise.graph.graph import Card

#: Sizes at which a symbol is tried, in this order. Primes, so that no size of a model is a
#: multiple of one by chance, and never 1, which PyTorch treats as broadcastable.
SAMPLES = {
    "b": (7, 5, 13, 3, 11, 2),
    "s": (73, 347, 313, 109, 151, 257),
    "c": (71, 331, 307, 113, 157, 263),
    "p": (257, 455, 340, 594, 390, 523),
}

#: For networks that only take sides that can be halved many times.
ROUND_SIDES = (256, 320, 448, 512, 576, 640)

#: Sizes of the trace that checks the others; also what a graph says of its symbols.
REFERENCE_BATCH, REFERENCE_TOKENS = 8, 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A model ready to be traced.

    Attributes:
        name: Name of the captured model.
        module: The module, its parameters on fake tensors.
        inputs: From a task and the size of every symbol to the keyword or positional arguments of ``forward``.
        loss: From what ``forward`` returned, and its arguments, to a scalar.
        symbols: For every task that makes sense, the symbols that may vary and their reference sizes.
        samples: Sizes to trace at, for symbols that need others than ``SAMPLES``.
        card: Words for people.
    """

    name: str
    module: Any
    inputs: Callable[[str, Mapping[str, int]], Any]
    loss: Callable[[Any, Any], Any]
    symbols: Mapping[str, Mapping[str, int]]
    samples: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    card: Card
