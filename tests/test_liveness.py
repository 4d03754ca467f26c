"""What is alive while each operator runs, against what the capture says is saved."""

import pytest

from rigwise.graph.count import tensor_bytes, work
from rigwise.graph.graph import Graph
from rigwise.graph.liveness import alive_bytes, lifetimes, live_bytes, peak_live_bytes
from rigwise.graph.load import read_zoo, zoo_names
from rigwise.graph.op import Kind, Op, Phase, Tensor

TRAINED = [name for name in zoo_names() if "train" in read_zoo(name).graphs]


def op(source, *, repeat=1, phase=Phase.FORWARD, saved=False, name="aten.mul", module=""):
    sources = () if source is None else source if isinstance(source, tuple) else (source,)
    inputs = tuple(Tensor((256,), producer=s) for s in sources)
    outputs = (Tensor((256,), saved=saved),)
    return Op(
        name=name, kind=Kind.ELEMENTWISE, phase=phase, inputs=inputs, outputs=outputs, repeat=repeat, module=module
    )


def alive(*ops):
    """In units of one tensor."""
    return [n / 1024 for n in live_bytes(Graph(ops=ops, symbols={}), {})]


def test_a_result_dies_with_its_last_reader():
    assert alive(op(None), op(0), op(1), op((0, 2)), op(3)) == [1, 2, 3, 3, 2]


def test_in_place_takes_no_memory_of_its_own():
    assert alive(op(None), op(0, name="aten.relu_"), op(1)) == [1, 1, 2]


def test_what_a_block_saves_is_there_in_every_layer_until_its_backward_pass():
    layers = op(0, repeat=3, saved=True)
    gradients = op((1,), repeat=3, phase=Phase.BACKWARD)
    assert alive(op(None), layers, gradients) == [1, 1 + 3, 3 + 1]


def test_a_layer_reads_the_one_before():
    """Two operators a layer: the second's result lives until the first of the next layer has run."""
    assert alive(op(None), op(2, repeat=4), op(1, repeat=4), op(2)) == [1, 2, 2, 2]


def test_backward_blocks_give_back_one_layer_at_a_time():
    """Four layers keep two results each; the backward block reads one after the other, in its last repetition too."""
    forward = [op(None), op(0, repeat=4, saved=True), op(1, repeat=4, saved=True)]
    backward = [op(2, repeat=4, phase=Phase.BACKWARD), op((3, 1), repeat=4, phase=Phase.BACKWARD)]
    assert alive(*forward, *backward) == [1, 1 + 4 + 3, 8, 8 + 1, 8 - 1 + 2]


def test_callers_hold_what_they_call_modules_with():
    """``b`` is called with the result of ``a`` and holds it while its second operator runs, which reads another."""
    ops = (op(None, module="a"), op(0, module="b.first"), op(1, module="b.second"), op(2, module="c"))
    assert alive(*ops) == [1, 2, 3, 2]
    lives = lifetimes(ops, frames=False)
    without = alive_bytes(lives, lives.result_bytes({}))[0].sum(axis=0)[:, 0] / 1024
    assert list(without) == [1, 2, 2, 2]


@pytest.mark.parametrize("name", TRAINED)
def test_all_that_is_saved_is_alive_when_the_backward_pass_begins(name):
    graph = read_zoo(name).graphs["train"]
    saved = sum(o.repeat * float(tensor_bytes(t, graph.symbols)) for o in graph.ops for t in o.outputs if t.saved)
    largest = max(float(work(o, graph.symbols).read_bytes + work(o, graph.symbols).write_bytes) for o in graph.ops)
    peak, _ = peak_live_bytes(graph, graph.symbols)
    assert peak >= 0.9 * saved  # what nothing reads again is counted as saved, but is gone
    assert peak <= saved + 2 * largest  # beside it, what one operator reads and writes, and a residual stream


def test_an_empty_graph_needs_nothing():
    assert peak_live_bytes(Graph(ops=(), symbols={}), {}) == (0.0, 0)
