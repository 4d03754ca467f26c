"""The backward pass of a graph that holds only the forward one.

An ONNX file or a frozen program tells what inference runs. What training would run beside it
follows from the operators: each has a rule in ``derivatives.py``, gradients of a result with
several readers are added, and a loss stands at the end: the cross-entropy over the last axis
where the model ends in a matrix product, else the mean square of its results.

Blocks of equal layers stay folded: a layer's backward operators are repeated as often, and a
result read by the next repetition has its gradient from the one before, seen backwards.

What inference does not tell is lost: dropout, and batch normalisation that an exporter has
multiplied into the convolutions before it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rigwise.graph.graph import Graph, Model
from rigwise.graph.kinds import kind_of
from rigwise.graph.op import Attr, Kind, Op, Phase, Role, Tensor
from rigwise.graph.passes.derivatives import ARRIVING, PREVIOUS, Derivative, derivative, same_size

#: Where an operand comes from: a forward operator, a backward operator, the whole gradient of a forward
#: operator's result, or the gradient of one input of a forward operator.
_Source = tuple[str, int, int]

#: A forward operator and its readers, whose gradients are to be added.
_Due = tuple[int, Sequence[tuple[int, int]]]


_ONLY_SHAPE_NAMES = "new_zeros new_ones new_full zeros_like ones_like full_like rand_like randn_like argmax argmin"

#: Operators that read of their input no more than its shape, or give nothing that has a gradient.
_ONLY_SHAPES = frozenset(f"aten.{name}" for name in _ONLY_SHAPE_NAMES.split())


def with_training(model: Model) -> Model:
    """The model with a training graph derived from ``infer``, where it has weights to train and no such graph.

    ``captured_with`` remembers it under ``train``, and an answer about training then says so.
    """
    inference = model.graphs.get("infer")
    if "train" in model.graphs or inference is None or not _trained(inference.ops):
        return model
    graphs = {"train": with_backward(inference), **model.graphs}
    return replace(model, graphs=graphs, captured_with={**model.captured_with, "train": "derived from infer"})


def with_backward(graph: Graph) -> Graph:
    """The training graph of an inference graph, or the graph itself if it has a backward pass."""
    if any(op.phase is not Phase.FORWARD for op in graph.ops):
        return graph
    forward = [_in_training(op) for op in graph.ops]
    trained = _trained(forward)
    readers = _readers(forward, trained)
    building = _Building(forward, trained)
    read = {t.producer for op in forward for t in op.inputs}
    found = {index: readers.get(index) or _readers_in_block(forward, index, read) for index in trained}
    ends = [index for index in sorted(trained, reverse=True) if not found[index] and index not in read]
    for index in ends:
        building.lose(index)
    for index in sorted(trained, reverse=True):
        if found[index] or index in ends:
            building.differentiate(index, found[index])
    return Graph(ops=building.finish(), symbols=graph.symbols)


def _in_training(op: Op) -> Op:
    """Batch normalisation with the statistics of the batch, pooling that keeps places, recurrence that keeps gates."""
    if op.name in ("aten.max_pool1d", "aten.max_pool2d", "aten.max_pool3d"):
        name = op.name.replace("1d", "2d") + "_with_indices"
        return replace(op, name=name, outputs=(op.outputs[0], replace(op.outputs[0], dtype="int64")))
    if op.name == "aten.native_batch_norm" and len(op.outputs) > 2:
        channels = op.inputs[0].shape[1:2]
        return replace(op, outputs=(op.outputs[0], *(replace(t, shape=channels) for t in op.outputs[1:3])))
    if op.kind is Kind.RNN:  # the gates after their activation and the new state of every step
        y, gates, hidden = op.outputs[0], op.attrs["gates"], op.inputs[2].shape[1]
        width = int(hidden) * (int(gates) + 1)  # type: ignore[arg-type]
        return replace(op, outputs=(*op.outputs, replace(y, shape=(*y.shape[:-1], width))))
    return op


def _trained(ops: Sequence[Op]) -> set[int]:
    """Operators whose result depends on a weight; found by following the data twice around each block."""
    trained: set[int] = set()
    for _ in range(2):
        for index, op in enumerate(ops):
            if op.name in _ONLY_SHAPES:
                continue
            depends = any(t.is_floating and (t.role is Role.PARAMETER or t.producer in trained) for t in op.inputs)
            if depends and any(t.is_floating for t in op.outputs):
                trained.add(index)
    return trained


def _readers(ops: Sequence[Op], trained: set[int]) -> Mapping[int, list[tuple[int, int]]]:
    """For every operator, the trained operators that read its result, and at which input."""
    readers: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for index in trained:
        for position, tensor in enumerate(ops[index].inputs):
            if tensor.producer is not None and tensor.is_floating:
                readers[tensor.producer].append((index, position))
    return {index: _of_one_layer(ops, index, found) for index, found in readers.items()}


def _of_one_layer(ops: Sequence[Op], index: int, readers: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Readers of a result without those that only the last layer of a block has."""
    if all(reader > index for reader, _ in readers):
        return readers
    end = next((i for i in range(index, len(ops)) if ops[i].repeat != ops[index].repeat), len(ops))
    return [(reader, position) for reader, position in readers if reader < end]


def _readers_in_block(ops: Sequence[Op], index: int, read: Collection[int | None]) -> list[tuple[int, int]]:
    """Who reads what stands before a block of equal layers: those that read the previous layer.

    A folded block is wired as its second layer, so the operator that feeds the first has no reader.
    """
    made = ops[index].outputs[0]
    if index in read:
        return []
    for reader in range(index + 1, len(ops)):
        for tensor in ops[reader].inputs:
            if tensor.producer is None or tensor.producer < reader:
                continue
            if same_size(tensor, made) and ops[reader].repeat > ops[index].repeat:
                return [
                    (other, position)
                    for other in range(reader, len(ops))
                    for position, t in enumerate(ops[other].inputs)
                    if t.producer == tensor.producer and other <= tensor.producer
                ]
    return []


@dataclass(slots=True)
class _Building:
    """A backward pass while it grows."""

    forward: list[Op]
    trained: set[int]
    loss: list[Op] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    sources: list[tuple[_Source | None, ...]] = field(default_factory=list)
    whole: dict[int, _Source] = field(default_factory=dict)  # forward operator -> gradient of its result
    parts: dict[tuple[int, int], _Source] = field(default_factory=dict)  # (operator, input) -> its gradient
    due: dict[int, list[_Due]] = field(default_factory=lambda: defaultdict(list))
    saved: set[tuple[int, int]] = field(default_factory=set)

    def differentiate(self, index: int, readers: Sequence[tuple[int, int]]) -> None:
        """Add what one operator's backward pass runs.

        Gradients are added as soon as the last of them is there: for what the next layer reads, that is
        at the end of a layer's backward pass.
        """
        first = min((reader for reader, _ in readers), default=index + 1)
        if readers and first > index:
            self.whole[index] = self._summed(index, readers)
        elif readers:
            self.due[first].append((index, readers))
        self._differentiate(index)
        for earlier, its_readers in self.due.pop(index, ()):
            self.whole[earlier] = self._summed(earlier, its_readers)

    def _differentiate(self, index: int) -> None:
        op = self.forward[index]
        wanted = frozenset(i for i, t in enumerate(op.inputs) if self._needs_gradient(t))
        if not wanted:
            return
        found = derivative(op, index, wanted)
        self.saved |= found.saved
        for position in found.handed_on:
            self.parts[index, position] = ("whole", index, 0)
        self._append(found)

    def _needs_gradient(self, tensor: Tensor) -> bool:
        return tensor.is_floating and (tensor.role is Role.PARAMETER or tensor.producer in self.trained)

    def _summed(self, index: int, readers: Sequence[tuple[int, int]]) -> _Source:
        """The gradients that the readers of a result hand back, added two by two.

        Those of readers that took a slice each are put side by side first.
        """
        made = replace(self.forward[index].outputs[0], saved=False, producer=None)
        tensors = {(i, position): self.forward[i].inputs[position] for i, position in readers}
        slices = [reader for reader in readers if not same_size(tensors[reader], made)]
        parts: list[_Source] = [("part", *reader) for reader in reversed(readers) if reader not in slices]
        if len(slices) == 1 and not parts:
            self._combine(
                "aten.slice_backward",
                index,
                [replace(tensors[slices[0]], role=Role.ACTIVATION)],
                [("part", *slices[0])],
            )
        elif slices:
            pieces = [replace(tensors[reader], role=Role.ACTIVATION) for reader in slices]
            self._combine("aten.cat", index, pieces, [("part", *reader) for reader in slices])
        if slices:
            parts.append(("backward", len(self.ops) - 1, 0))
        total = parts[0]
        for part in parts[1:]:
            self._combine("aten.add", index, [made, made], [total, part])
            total = ("backward", len(self.ops) - 1, 0)
        return total

    def _combine(self, name: str, index: int, inputs: Sequence[Tensor], sources: Sequence[_Source]) -> None:
        """Add an operator that makes the gradient of the result of ``index``."""
        op = self.forward[index]
        made = replace(op.outputs[0], saved=False, producer=None)
        joined = replace(_op(name, Phase.BACKWARD, inputs, (made,), {}), module=op.module, repeat=op.repeat)
        self._put(joined, tuple(sources))

    def _append(self, found: Derivative) -> None:
        for step in found.steps:
            sources: list[_Source | None] = []
            for tensor in step.op.inputs:
                if tensor.producer == ARRIVING:
                    sources.append(("whole", found.index, 0))
                elif tensor.producer == PREVIOUS:
                    sources.append(("backward", len(self.ops) - 1, 0))
                else:
                    sources.append(None if tensor.producer is None else ("forward", tensor.producer, 0))
            self._put(step.op, tuple(sources))
            for position in step.of:
                if position is not None:
                    self.parts[found.index, position] = ("backward", len(self.ops) - 1, 0)

    def _put(self, op: Op, sources: tuple[_Source | None, ...]) -> None:
        self.ops.append(op)
        self.sources.append(sources)

    def lose(self, index: int) -> None:
        """Add a loss over a result of the model, and its gradient."""
        op = self.forward[index]
        y = replace(op.outputs[0], saved=False, producer=None)
        is_biased = op.name == "aten.add" and any(t.role is Role.PARAMETER for t in op.inputs)
        of_classes = (op.kind is Kind.GEMM or is_biased) and len(y.shape) > 1 and y.shape[-1] != 1
        (_cross_entropy if of_classes else _mean_square)(self, index, y)
        self.whole[index] = ("backward", len(self.ops) - 1, 0)

    def forth(self, name: str, inputs: Sequence[Tensor], *outputs: Tensor, **attrs: Attr) -> int:
        """Add an operator of the loss; inputs know their producers."""
        self.loss.append(_op(name, Phase.FORWARD, inputs, outputs, attrs))
        return len(self.forward) + len(self.loss) - 1

    def back(self, name: str, inputs: Sequence[Tensor], output: Tensor, *sources: _Source | None) -> None:
        """Add an operator of the loss's backward pass."""
        self._put(_op(name, Phase.BACKWARD, inputs, (output,), {}), sources)

    def finish(self) -> tuple[Op, ...]:
        """Forward pass, loss and backward pass, with what is kept marked and producers set."""
        forward = [self._marked(index, op) for index, op in enumerate([*self.forward, *self.loss])]
        start = len(forward)
        backward = []
        for op, sources in zip(self.ops, self.sources, strict=True):
            producers = [self._place(source, start) for source in sources]
            inputs = (replace(t, producer=p) for t, p in zip(op.inputs, producers, strict=True))
            backward.append(replace(op, inputs=tuple(inputs)))
        return (*forward, *backward)

    def _marked(self, index: int, op: Op) -> Op:
        if not any((index, position) in self.saved for position in range(len(op.outputs))):
            return op
        return replace(
            op, outputs=tuple(replace(t, saved=(index, i) in self.saved or t.saved) for i, t in enumerate(op.outputs))
        )

    def _place(self, source: _Source | None, start: int) -> int | None:
        """Index of the operator that a source comes from; None if a gradient goes round without end."""
        for _ in range(2 * len(self.forward) + 2):
            if source is None:
                return None
            kind, index, position = source
            if kind == "forward":
                return index
            if kind == "backward":
                return start + index
            source = self.whole.get(index) if kind == "whole" else self.parts.get((index, position))
        return None


def _op(name: str, phase: Phase, inputs: Sequence[Tensor], outputs: Sequence[Tensor], attrs: Mapping[str, Attr]) -> Op:
    return Op(
        name=name, kind=kind_of(name), phase=phase, inputs=tuple(inputs), outputs=tuple(outputs), attrs=dict(attrs)
    )


def _scalar(producer: int | None = None) -> Tensor:
    return Tensor((), producer=producer)


def _cross_entropy(building: _Building, index: int, y: Tensor) -> None:
    labels = Tensor(y.shape[:-1], "int64", Role.INPUT)
    likely = building.forth("aten._log_softmax", [replace(y, producer=index)], replace(y, saved=True), dim=1)
    given = replace(y, producer=likely)
    lost = building.forth("aten.nll_loss_forward", [given, labels], _scalar(), replace(_scalar(), saved=True))
    building.back("aten.ones_like", [_scalar(lost)], _scalar(), ("forward", lost, 0))
    one: _Source = ("backward", len(building.ops) - 1, 0)
    kept: _Source = ("forward", likely, 0)
    building.back(
        "aten.nll_loss_backward", [_scalar(), given, labels, _scalar()], y, one, kept, None, ("forward", lost, 0)
    )
    arrived: _Source = ("backward", len(building.ops) - 1, 0)
    building.back("aten._log_softmax_backward_data", [y, given], y, arrived, kept)


def _mean_square(building: _Building, index: int, y: Tensor) -> None:
    squared = building.forth("aten.pow", [replace(y, producer=index)], y)
    lost = building.forth("aten.mean", [replace(y, producer=squared)], _scalar())
    building.saved.add((index, 0))
    building.back("aten.ones_like", [_scalar(lost)], _scalar(), ("forward", lost, 0))
    building.back("aten.div", [_scalar()], y, ("backward", len(building.ops) - 1, 0))
    spread: _Source = ("backward", len(building.ops) - 1, 0)
    building.back("aten.mul", [y], y, ("forward", index, 0))
    building.back("aten.mul", [y, y], y, spread, ("backward", len(building.ops) - 1, 0))
