"""Equal consecutive layers are folded, others are not. No PyTorch here."""

from __future__ import annotations

from rigwise.graph.capture.fold import LeftOut, fold, fold_parameters
from rigwise.graph.graph import Graph, Parameter
from rigwise.graph.op import Kind, Op, Phase, Tensor


def op(name, module, producers=(), width=64):
    return Op(
        name=f"aten.{name}",
        kind=Kind.ELEMENTWISE,
        phase=Phase.FORWARD,
        inputs=tuple(Tensor((8, width), producer=p) for p in producers),
        outputs=(Tensor((8, width)),),
        module=module,
    )


def stack(layers, *, path="h", before=1, after=1, width=64):
    """Operators before, a residual layer of three repeated, operators after: each reads the one before it."""
    ops = [op("embedding", "embed", width=width) for _ in range(before)]
    for layer in range(layers):
        start = len(ops)
        ops.append(op("norm", f"{path}.{layer}.norm", (start - 1,), width))
        ops.append(op("mm", f"{path}.{layer}.mlp", (start,), width))
        ops.append(op("add", f"{path}.{layer}", (start - 1, start + 1), width))
    ops += [op("head", "head", (len(ops) - 1,), width) for _ in range(after)]
    return Graph(ops=tuple(ops), symbols={})


def outline(graph):
    return [(o.name.removeprefix("aten."), o.module, o.repeat, tuple(t.producer for t in o.inputs)) for o in graph.ops]


def test_layers_stand_once_and_read_from_the_previous_one():
    assert outline(fold(stack(5))) == [
        ("embedding", "embed", 1, ()),
        ("norm", "h.*.norm", 5, (3,)),  # the sum that ends the previous layer
        ("mm", "h.*.mlp", 5, (1,)),
        ("add", "h.*", 5, (3, 2)),
        ("head", "head", 1, (3,)),
    ]


def test_a_single_layer_is_left_alone():
    graph = stack(1)
    assert fold(graph) == graph


def test_operators_of_one_module_are_not_layers():
    graph = Graph(ops=tuple(op("relu", "act") for _ in range(6)), symbols={})
    assert [o.repeat for o in fold(graph).ops] == [1] * 6


def test_two_stacks_of_different_width_are_two_blocks():
    first, second = stack(3, path="a", after=0), stack(4, path="b", before=0, width=32)
    shifted = [
        Op(**{f: getattr(o, f) for f in ("name", "kind", "phase", "outputs", "module")},
           inputs=tuple(Tensor(t.shape, producer=t.producer + len(first.ops)) for t in o.inputs))
        for o in second.ops
    ]  # fmt: skip
    folded = fold(Graph(ops=(*first.ops, *shifted), symbols={}))
    assert [(o.module, o.repeat) for o in folded.ops if o.repeat > 1] == [
        ("a.*.norm", 3), ("a.*.mlp", 3), ("a.*", 3), ("b.*.norm", 4), ("b.*.mlp", 4), ("b.*", 4),
    ]  # fmt: skip


def test_layers_that_read_from_different_places_stay_apart():
    graph = stack(6)
    ops = list(graph.ops)
    for layer, source in ((2, 0), (3, 1), (4, 2)):  # skips that only the middle layers have, each to another place
        index = 1 + 3 * layer
        ops[index] = op("norm", f"h.{layer}.norm", (source,))
    assert all(o.repeat < 6 for o in fold(Graph(ops=tuple(ops), symbols={})).ops)


def test_left_out_layers_count_for_their_own_stack_only():
    graph = stack(3)
    whole = fold(graph, [LeftOut(path="h", first=0, more=29), LeftOut(path="other", first=0, more=7)])
    assert {o.repeat for o in whole.ops} == {1, 32}
    leading = fold(graph, [LeftOut(path="h", first=3, more=29)])  # the equal layers begin behind those traced
    assert {o.repeat for o in leading.ops} == {1, 3}


def test_every_operator_of_the_unfolded_graph_is_counted():
    graph = stack(7, before=2, after=3)
    assert sum(o.repeat for o in fold(graph).ops) == len(graph.ops)


def test_parameters_fold_by_shape_and_keep_numbers_that_do_not_differ():
    parameters = [("embed.w", (9, 4), True), *((f"h.{i}.2.w", (4, 4), i > 0) for i in range(3))]
    assert fold_parameters(parameters) == (
        Parameter(name="embed.w", shape=(9, 4)),
        Parameter(name="h.0.2.w", shape=(4, 4), trainable=False),
        Parameter(name="h.*.2.w", shape=(4, 4), count=2),
    )
