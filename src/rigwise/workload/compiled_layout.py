"""Which memory layout a compiler gives the images of a network that comes to it in NCHW.

Channels last, unless its convolutions are of the kinds that it expects to be slower so. In inference each kind has a
factor, and their mean over the arithmetic decides; in training one convolution of the wrong kind is enough.

Source: PyTorch 2.4 (BSD-3-Clause), ``torch/_inductor/graph.py``, ``decide_layout_opt``: the kinds, their order and the
factors. What it says of CPUs (always channels last) changes nothing here, and of AMD (never) is left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from rigwise.graph.dim import size_at
from rigwise.graph.graph import Graph
from rigwise.graph.op import Kind, Op, Phase

#: Time channels last over time in NCHW that the compiler expects, by kind of convolution.
_FACTORS = {"grouped": 1.358, "small": 0.783, "narrowing": 0.725, "other": 0.823}
_SMALL_CHANNELS = 64


def compiled_layout(graph: Graph, sizes: Mapping[str, int], task: str) -> str:
    """The layout in which images run through a compiled graph: nhwc or nchw."""
    convs = [op for op in graph.phase(Phase.FORWARD) if op.kind is Kind.CONV and _is_of_images(op)]
    kinds = [_kind(op) for op in convs]
    if task == "train":
        unfit = {"grouped", "narrowing"} & set(kinds) or set(kinds) == {"small"}
        return "nchw" if unfit or not kinds else "nhwc"
    work = [_arithmetic(op, sizes) for op in convs]
    expected = sum(_FACTORS[kind] * one for kind, one in zip(kinds, work, strict=True))
    return "nhwc" if convs and expected <= sum(work) else "nchw"


def _is_of_images(op: Op) -> bool:
    weight = op.inputs[1].shape
    return len(weight) == 4 and all(isinstance(size, int) for size in weight)


def _kind(op: Op) -> str:
    """What the compiler takes a convolution for; a depthwise one is not ``grouped`` to it."""
    outputs, inputs, side = (int(size) for size in op.inputs[1].shape[:3])  # type: ignore[arg-type]
    if inputs > 1 and op.attrs.get("groups") != 1:
        return "grouped"
    if max(outputs, inputs) <= _SMALL_CHANNELS:
        return "small"
    return "narrowing" if 2 * outputs <= inputs and side > 1 else "other"


def _arithmetic(op: Op, sizes: Mapping[str, int]) -> float:
    """Multiply-adds for each sample."""
    elements = 1.0
    for size in (*op.outputs[0].shape[2:], *op.inputs[1].shape):
        elements *= float(size_at(size, sizes))
    return elements * op.repeat
