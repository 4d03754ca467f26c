"""The derived backward pass, against the captured one of every zoo model that has both graphs."""

from dataclasses import replace

import pytest

from rigwise.estimate.predict import predict
from rigwise.graph.count import tensor_bytes, work
from rigwise.graph.graph import Graph
from rigwise.graph.load import read_zoo, zoo_names
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.passes.backward import with_backward
from rigwise.workload.case import Case

BOTH = [name for name in zoo_names() if {"infer", "train"} <= set(read_zoo(name).graphs)]


def totals(graph):
    """FLOPs, bytes moved, bytes kept for the backward pass, bytes of gradients of weights."""
    flops = moved = saved = gradients = 0.0
    for op in graph.ops:
        cost = work(op, graph.symbols)
        flops += op.repeat * float(cost.flops)
        moved += op.repeat * float(cost.read_bytes + cost.write_bytes)
        saved += op.repeat * float(sum(tensor_bytes(t, graph.symbols) for t in op.outputs if t.saved))
        gradients += op.repeat * sum(tensor_bytes(t, {}) for t in op.outputs if t.role is Role.GRADIENT)
    return flops, moved, saved, gradients


@pytest.mark.parametrize("name", BOTH)
def test_costs_what_the_captured_backward_pass_costs(name):
    model = read_zoo(name)
    derived = with_backward(model.graphs["infer"])
    flops, moved, saved, gradients = totals(derived)
    real_flops, real_moved, real_saved, real_gradients = totals(model.graphs["train"])
    assert flops == pytest.approx(real_flops, rel=1e-6)
    assert 0.75 * real_moved < moved < 1.05 * real_moved  # inference has no dropout; slices are joined at once
    assert 0.65 * real_saved < saved < 1.10 * real_saved  # nor does it clone what in-place activations overwrite
    assert gradients >= 0.999 * real_gradients  # a weight used three times has three gradients here
    assert gradients <= real_gradients + 4.0 * max(p.elements for p in model.parameters) * 2.02


@pytest.mark.parametrize("name", BOTH)
def test_is_wired_like_a_graph(name):
    inference = read_zoo(name).graphs["infer"]
    ops = with_backward(inference).ops
    assert {t.producer for op in ops for t in op.inputs} - {None} <= set(range(len(ops)))
    unknown = {op.name for op in inference.ops if op.kind is Kind.UNKNOWN}
    assert {op.name.removesuffix("_backward") for op in ops if op.kind is Kind.UNKNOWN} <= unknown
    phases = [op.phase for op in ops]
    assert phases == sorted(phases, key=[Phase.FORWARD, Phase.BACKWARD].index)
    arriving = [op.inputs[0] for op in ops if op.phase is Phase.BACKWARD and op.kind in (Kind.GEMM, Kind.CONV)]
    assert all(t.producer is not None or t.role is not Role.ACTIVATION for t in arriving)


@pytest.mark.parametrize("name", ["resnet50", "vgg16", "vit-b-16", "bert-base", "gpt2", "llama-3.2-1b", "unet"])
@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_predicts_nearly_the_same_step(name, mode):
    model = read_zoo(name)
    derived = replace(model, graphs={"train": with_backward(model.graphs["infer"])})
    seq = 256 if "s" in model.graphs["train"].symbols else None
    case = Case(model=name, device="h100-sxm5-80gb", batch=16, seq=seq, mode=mode, dtype="amp-bf16")
    ours, real = predict(case, derived), predict(case, model)
    assert ours.peak_memory_bytes["p50"] == pytest.approx(real.peak_memory_bytes["p50"], rel=0.04)
    busy = replace(case, batch=256)  # a smaller batch waits for the host, which counts operators
    ours, real = predict(busy, derived), predict(busy, model)
    assert ours.step_time_s["p50"] == pytest.approx(real.step_time_s["p50"], rel=0.06)


def test_a_layer_and_its_gradients():
    """y = x W: dx = dy W^T and dW = x^T dy, after a loss over the 10 classes."""
    x, w = Tensor((8, 4), role=Role.INPUT), Tensor((4, 10), role=Role.PARAMETER)
    layer = Op(name="aten.mm", kind=Kind.GEMM, phase=Phase.FORWARD, inputs=(x, w), outputs=(Tensor((8, 10)),))
    ops = with_backward(Graph(ops=(layer,), symbols={})).ops
    assert [op.name for op in ops] == [
        "aten.mm", "aten._log_softmax", "aten.nll_loss_forward",
        "aten.ones_like", "aten.nll_loss_backward", "aten._log_softmax_backward_data", "aten.mm",
    ]  # fmt: skip
    (gradient,) = ops[-1].outputs
    assert (gradient.shape, gradient.role) == ((4, 10), Role.GRADIENT)
    assert [t.shape for t in ops[-1].inputs] == [(4, 8), (8, 10)]
    assert ops[-1].inputs[1].producer == 5


def test_what_has_a_backward_pass_is_left_alone():
    graph = read_zoo("resnet18").graphs["train"]
    assert with_backward(graph) is graph


def test_an_operator_without_a_rule_is_counted_and_listed():
    w = Tensor((4,), role=Role.PARAMETER)
    op = Op(name="mine.solve", kind=Kind.UNKNOWN, phase=Phase.FORWARD, inputs=(w,), outputs=(Tensor((4,)),))
    ops = with_backward(Graph(ops=(op,), symbols={})).ops
    assert [o.name for o in ops if o.kind is Kind.UNKNOWN] == ["mine.solve", "mine.solve_backward"]
    assert float(work(ops[-1], {}).read_bytes) == 2 * 4 * 4  # its input and the gradient
