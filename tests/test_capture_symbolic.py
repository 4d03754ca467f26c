"""Sizes are recovered from a few traces, or the solver says that it cannot tell. No PyTorch here."""

from __future__ import annotations

from math import prod

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from rigwise.errors import CaptureError
from rigwise.graph.capture.subject import SAMPLES
from rigwise.graph.capture.symbolic import UndecidedError, align, difference, evaluate
from rigwise.graph.dim import parse_size, size_at
from rigwise.graph.graph import Graph
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor

LANGUAGE = tuple({"b": SAMPLES["b"][i], "s": SAMPLES["s"][i]} for i in range(4))
IMAGE = tuple({"b": SAMPLES["b"][i], "p": SAMPLES["p"][i]} for i in range(3))


def trace_of(sizes, *shapes, name="aten.add", **attrs):
    """One operator for each shape, whose output has that shape at ``sizes``."""
    ops = []
    for shape in shapes:
        fixed = tuple(size_at(parse_size(size), sizes) for size in shape)
        ops.append(
            Op(
                name=name,
                kind=Kind.ELEMENTWISE,
                phase=Phase.FORWARD,
                inputs=(),
                outputs=(Tensor(fixed),),
                attrs=attrs,
            )
        )
    return Graph(ops=tuple(ops), symbols=sizes)


def shapes_of(graph):
    return [tuple(str(size) for size in op.outputs[0].shape) for op in graph.ops]


@pytest.mark.parametrize(
    ("text", "traces"),
    [("7", 2), ("b", 2), ("s", 2), ("3*b*s", 2), ("12*s*s", 2), ("b*b", 2), ("s+1", 3), ("b*s-b", 3), ("2*b+s", 3)],
)
def test_a_size_is_recovered_from_the_least_traces_that_leave_one_over(text, traces):
    graph = align([trace_of(sizes, (text,)) for sizes in LANGUAGE[:traces]])
    unseen = {"b": 13, "s": 1024}
    assert size_at(graph.ops[0].outputs[0].shape[0], unseen) == size_at(parse_size(text), unseen)


def test_two_terms_need_a_third_trace():
    with pytest.raises(UndecidedError):
        align([trace_of(sizes, ("s+1",)) for sizes in LANGUAGE[:2]])


def test_a_size_that_is_no_polynomial_is_never_explained():
    graphs = []
    for sizes, odd in zip(LANGUAGE, (17, 5, 301, 44), strict=True):
        graphs.append(trace_of(sizes, (odd,)))
    with pytest.raises(UndecidedError):
        align(graphs)


def test_different_operators_are_named_with_the_sizes():
    left = trace_of(LANGUAGE[0], ("b",), ("s",))
    right = trace_of(LANGUAGE[1], ("b",), ("s",), name="aten.mul")
    with pytest.raises(CaptureError, match=r"b = 5, s = 347 than at b = 7, s = 73: operator 0 .*aten.add or aten.mul"):
        align([left, right])


def test_a_missing_operator_is_counted():
    with pytest.raises(CaptureError, match="2 or 1 operators"):
        align([trace_of(LANGUAGE[0], ("b",), ("s",)), trace_of(LANGUAGE[1], ("b",))])


def test_difference_names_the_first_shape_that_differs():
    graph = trace_of(LANGUAGE[0], ("b", "s"))
    assert difference(graph, graph) == ""
    assert "(7, 73)" in difference(graph, trace_of(LANGUAGE[1], ("b", "s")))


def convolutions(sizes, layers):
    """A stack of square convolutions, as PyTorch would size it."""
    side, ops = sizes["p"], []
    for kernel, stride, padding in layers:
        out = (side + 2 * padding - kernel) // stride + 1
        ops.append(
            Op(
                name="aten.convolution",
                kind=Kind.CONV,
                phase=Phase.FORWARD,
                inputs=(
                    Tensor((sizes["b"], 8, side, side), role=Role.INPUT),
                    Tensor((8, 8, kernel, kernel), role=Role.PARAMETER),
                ),
                outputs=(Tensor((sizes["b"], 8, out, out)),),
                attrs={"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (1, 1), "groups": 1},
            )
        )
        side = out
    flat = Tensor((sizes["b"] * side * side, 8))
    ops.append(Op(name="aten.relu", kind=Kind.ELEMENTWISE, phase=Phase.FORWARD, inputs=(), outputs=(flat,)))
    return Graph(ops=tuple(ops), symbols=sizes)


def test_the_stem_of_a_residual_network():
    graph = align([convolutions(sizes, [(7, 2, 3), (3, 2, 1)]) for sizes in IMAGE])
    assert shapes_of(graph)[:2] == [("b", "8", "(p+1)//2", "(p+1)//2"), ("b", "8", "(p+3)//4", "(p+3)//4")]
    assert shapes_of(graph)[2] == ("b*(p+3)//4*(p+3)//4", "8")


@given(
    st.lists(st.sampled_from([(1, 1, 0), (3, 1, 1), (3, 1, 0), (3, 2, 1), (3, 2, 0), (2, 2, 0), (7, 2, 3), (5, 3, 2)]),
             min_size=1, max_size=5),
    st.integers(150, 600),
)  # fmt: skip
def test_any_stack_of_windows_predicts_a_side_that_was_not_traced(layers, side):
    assume(prod(stride for _, stride, _ in layers) <= 64)
    graph = align([convolutions(sizes, layers) for sizes in IMAGE])
    unseen = {"b": 9, "p": side}
    assert difference(evaluate(graph, unseen), convolutions(unseen, layers)) == ""
