"""A captured model: its parameters, and one graph of operators for each task."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from rigwise.errors import UnsupportedError
from rigwise.graph.op import Op, Phase
from rigwise.shown import Shown

#: Which captured graphs answer which task of a workload, best first.
GRAPHS_OF_TASK = {"train": ("train",), "infer": ("infer",), "prefill": ("prefill", "infer"), "decode": ("decode",)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """Equal parameters of a model.

    Attributes:
        name: Module path and name, layer numbers folded to ``*``.
        shape: Sizes, whole numbers.
        count: How many such parameters there are (one for each layer, say).
        trainable: False for what the model itself freezes.
    """

    name: str
    shape: tuple[int, ...]
    count: int = 1
    trainable: bool = True

    @property
    def elements(self) -> int:
        """Elements of all ``count`` parameters."""
        product = self.count
        for size in self.shape:
            product *= size
        return product


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The operators of one task in the order they run, repeated blocks folded.

    Attributes:
        ops: Operators; those of a repeated block stand once, with ``repeat`` > 1.
        symbols: Free symbols and the size each had in the reference capture.
    """

    ops: tuple[Op, ...]
    symbols: Mapping[str, int]

    def phase(self, phase: Phase) -> Iterator[Op]:
        """The operators of one phase."""
        return (op for op in self.ops if op.phase is phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What a person should know about a model.

    Attributes:
        title: The model as its makers call it.
        family: Group for filters: ``resnet``, ``llama``, ``simulation`` ...
        source: Where the shape comes from.
        reference_batch: Batch that ``plan`` assumes where a job gives none.
        causal: A causal language model, so prefill and decode make sense.
        assumed: What capture had to assume (balanced experts, text length ...).
    """

    title: str
    family: str = ""
    source: str = ""
    reference_batch: int = 1
    causal: bool = False
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Model(Shown):
    """A captured model.

    Attributes:
        name: Zoo name, or the stem of the file it came from.
        card: Words for people.
        parameters: All parameters, equal ones folded.
        buffer_bytes: Persistent state that is no parameter (running statistics).
        graphs: ``train``, ``infer`` and, for causal language models, ``prefill`` and ``decode``.
        captured_with: Versions of what made the capture: ``{"torch": "2.13.0"}``.
    """

    name: str
    card: Card
    parameters: tuple[Parameter, ...]
    graphs: Mapping[str, Graph]
    buffer_bytes: float = 0.0
    captured_with: Mapping[str, str] = field(default_factory=dict)

    @property
    def parameter_count(self) -> int:
        """Elements of all parameters."""
        return sum(p.elements for p in self.parameters)

    def graph(self, task: str) -> Graph:
        """The graph that answers a task.

        Raises:
            UnsupportedError: The model has none, such as ``decode`` for a convnet.
        """
        for key in GRAPHS_OF_TASK[task]:
            if key in self.graphs:
                return self.graphs[key]
        have = ", ".join(t for t, keys in GRAPHS_OF_TASK.items() if keys[0] in self.graphs)
        raise UnsupportedError(f"{self.name} has no {task} graph", hint=f"it can: {have}")
