"""JAX programs as graphs: against hand counts, against the same model in PyTorch, and at sizes not traced."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("jax")
pytest.importorskip("flax")

import numpy as np
from flax import linen, nnx

from rigwise.errors import CaptureError
from rigwise.graph.capture.factory import Factory, _accepted, _call_on_shapes
from rigwise.graph.capture.from_jax import factory as jax_factory
from rigwise.graph.capture.from_jax.names import numbered
from rigwise.graph.count import work
from rigwise.graph.op import Kind, Phase, Role

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
lax, SHAPE = jax.lax, jax.ShapeDtypeStruct


def model_of(function, name="net"):
    """What ``factory.model_of`` gives for a function that returns a JAX model, in this process."""
    factory = Factory(spec="nets:net", name=name, function=function, accepted=_accepted(function, "nets:net"))
    return jax_factory.captured(factory, *_call_on_shapes(factory))


def of(made, *arguments):
    return model_of(lambda: (made, arguments))


def flops(model, task="infer", sizes=None):
    """FLOPs of each phase."""
    graph, found = model.graphs[task], Counter()
    for op in graph.ops:
        found[op.phase] += op.repeat * work(op, sizes or graph.symbols).flops
    return found


def names(model, task="infer"):
    return [op.name for op in model.graphs[task].ops]


def dense(parameters, x):
    return jnp.tanh(x @ parameters["first"]["w"] + parameters["first"]["b"]) @ parameters["second"]["w"]


DENSE = {
    "first": {"w": SHAPE((16, 32), "float32"), "b": SHAPE((32,), "float32")},
    "second": {"w": SHAPE((32, 4), "float32")},
}


def test_a_function_of_parameters_and_inputs_trains_and_infers():
    model = of(dense, DENSE, SHAPE((6, 16), "float32"))
    assert {(p.name, p.shape) for p in model.parameters} == {
        ("first.w", (16, 32)), ("first.b", (32,)), ("second.w", (32, 4))
    }  # fmt: skip
    assert names(model) == ["aten.mm", "aten.add", "aten.tanh", "aten.mm"]
    b = 8
    assert model.graphs["train"].symbols == {"b": b}
    forward = 2 * b * (16 * 32 + 32 * 4)
    assert flops(model)[Phase.FORWARD] == forward
    assert flops(model, "train")[Phase.FORWARD] == forward
    # every weight has a gradient, and the second layer's input has one
    assert flops(model, "train")[Phase.BACKWARD] == forward + 2 * b * 32 * 4
    assert flops(model, sizes={"b": 80})[Phase.FORWARD] == 10 * forward


def test_data_flow_roles_and_what_is_saved_are_kept():
    train = of(dense, DENSE, SHAPE((6, 16), "float32")).graphs["train"].ops
    first = train[0]
    assert [t.role for t in first.inputs] == [Role.INPUT, Role.PARAMETER]
    assert first.module == "first"
    tanh = next(op for op in train if op.name == "aten.tanh")
    assert train[tanh.inputs[0].producer].name == "aten.add"
    assert tanh.outputs[0].saved
    gradients = [t.shape for op in train for t in op.outputs if t.role is Role.GRADIENT]
    assert sorted(map(sorted, gradients)) == [[4, 32], [16, 32], [32]]
    assert all(op.phase is Phase.BACKWARD for op in train for t in op.outputs if t.role is Role.GRADIENT)


def test_nothing_is_listed_that_no_result_needs():
    def wasteful(w, x):
        jnp.sin(x) @ w
        return x @ w

    assert names(of(wasteful, SHAPE((8, 8), "float32"), SHAPE((2, 8), "float32"))) == ["aten.mm"]


def test_numpy_arrays_settings_and_half_precision_are_taken():
    def net(w, x, times, key):
        del key
        return sum(x.astype(jnp.bfloat16) @ w for _ in range(times))

    model = of(net, np.zeros((8, 8), "float16"), np.zeros((3, 8)), 2, jax.random.key(0))
    assert names(model).count("aten.mm") == 2
    assert {t.dtype for op in model.graphs["infer"].ops for t in (*op.inputs, *op.outputs)} == {"float32"}
    assert model.graphs["infer"].symbols == {"b": 8}


def test_a_broadcast_axis_is_read_once():
    def net(bias, x):
        return jnp.sin(bias[None, :, None] + jnp.zeros((1, 1, 7))) + x

    added = of(net, SHAPE((5,), "float32"), SHAPE((4, 5, 7), "float32")).graphs["infer"].ops[-1]
    assert (added.name, added.inputs[0].shape) == ("aten.add", (1, 5, 7))
    spread = of(lambda bias, x: jnp.broadcast_to(bias, (4, 5)) * x, SHAPE((5,), "float32"), SHAPE((4, 5), "float32"))
    (product,) = spread.graphs["infer"].ops
    assert work(product, {}).read_bytes == 4 * (5 + 4 * 5)


def test_a_function_that_runs_at_one_batch_alone_keeps_it():
    model = of(lambda w, x: (x @ w).reshape(4, 2, 3), SHAPE((5, 6), "float32"), SHAPE((4, 5), "float32"))
    assert dict(model.graphs["infer"].symbols) == {}
    assert "the batch is that of the example inputs" in model.card.assumed


# Convolutions


def image_net(transposed=False, **options):
    """Two convolutions, so that one of them has a gradient for its input; and a hand count of the second."""

    def net(parameters, x):
        layout = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, parameters[0], (1, 1), "SAME", dimension_numbers=layout)
        if transposed:
            return lax.conv_transpose(x, parameters[1], options["window_strides"], "SAME", dimension_numbers=layout)
        return lax.conv_general_dilated(x, parameters[1], **options, dimension_numbers=layout)

    return net


@pytest.mark.parametrize(
    ("kernel", "options", "pixels", "transposed"),
    [
        ((3, 3, 8, 6), {"window_strides": (1, 1), "padding": "SAME"}, 20 * 20, False),
        ((3, 3, 8, 6), {"window_strides": (2, 2), "padding": "SAME"}, 10 * 10, False),
        ((4, 4, 8, 6), {"window_strides": (4, 4), "padding": "VALID"}, 5 * 5, False),
        ((3, 3, 1, 8), {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 8}, 20 * 20, False),
        ((3, 3, 4, 6), {"window_strides": (2, 2), "padding": "SAME", "feature_group_count": 2}, 10 * 10, False),
        ((3, 3, 8, 6), {"window_strides": (1, 1), "padding": "SAME", "rhs_dilation": (2, 2)}, 20 * 20, False),
        ((3, 3, 8, 6), {"window_strides": (2, 2)}, 20 * 20, True),  # every pixel of the input meets the kernel
    ],
    ids=["plain", "strided", "patches", "depthwise", "grouped", "dilated", "transposed"],
)
def test_a_convolution_and_both_its_gradients_cost_the_same(kernel, options, pixels, transposed):
    weights = [SHAPE((1, 1, 5, 8), "float32"), SHAPE(kernel, "float32")]
    model = of(image_net(transposed, **options), weights, SHAPE((2, 20, 20, 5), "float32"))
    b = 8
    first, second = 2 * b * 400 * 5 * 8, 2 * b * pixels * np.prod(kernel)
    assert flops(model)[Phase.FORWARD] == first + second
    assert flops(model, "train")[Phase.BACKWARD] == first + 2 * second
    assert Counter(n for n in names(model, "train") if "conv" in n) == {
        "aten.convolution": 2, "rigwise.conv_wgrad": 2, "rigwise.conv_dgrad": 1
    }  # fmt: skip


def test_sides_of_an_image_are_free():
    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Conv(8, (7, 7), strides=2)(x)
            x = linen.max_pool(linen.relu(x), (3, 3), strides=(2, 2), padding="SAME")
            return linen.Dense(5)(linen.Conv(16, (3, 3), strides=2)(x).mean((1, 2)))

    def factory(batch=2, image_size=64):
        return Net(), SHAPE((batch, image_size, image_size, 3), "float32")

    graph = model_of(factory).graphs["infer"]
    assert dict(graph.symbols) == {"b": 2, "p": 64}
    first = next(op for op in graph.ops if op.name == "aten.convolution")
    assert [str(n) for n in first.outputs[0].shape] == ["b", "8", "(p+1)//2", "(p+1)//2"]
    assert first.attrs["padding"] == (3, 3)


# Loops, branches, recomputation


def test_a_scan_is_its_body_as_often_as_it_runs():
    def net(parameters, x):
        return lax.scan(lambda carry, w: (jnp.tanh(carry @ w), None), x, parameters)[0]

    model = of(net, SHAPE((12, 32, 32), "float32"), SHAPE((4, 32), "float32"))
    infer = model.graphs["infer"].ops
    assert [(op.name, op.repeat) for op in infer] == [("aten.mm", 12), ("aten.tanh", 12)]
    assert infer[0].inputs[0].producer == 1  # the previous turn's
    assert flops(model)[Phase.FORWARD] == 12 * 2 * 8 * 32 * 32
    assert flops(model, "train")[Phase.BACKWARD] == 2 * flops(model)[Phase.FORWARD]
    gradient = next(op for op in model.graphs["train"].ops for t in op.outputs if t.role is Role.GRADIENT)
    assert (gradient.repeat, gradient.outputs[0].shape) == (12, (32, 32))


def test_a_scan_in_a_scan_multiplies():
    def net(w, x):
        inner = lambda carry, _: (carry @ w, None)  # noqa: E731
        return lax.scan(lambda carry, _: (lax.scan(inner, carry, None, length=3)[0], None), x, None, length=5)[0]

    model = of(net, SHAPE((8, 8), "float32"), SHAPE((4, 8), "float32"))
    assert [(op.name, op.repeat) for op in model.graphs["infer"].ops] == [("aten.mm", 15)]


def test_what_a_loop_starts_from_is_run_too():
    def net(parameters, x):
        for layer in parameters:
            x = lax.scan(lambda carry, _, w=layer["w"]: (jnp.tanh(carry @ w), None), x, None, length=3)[0]
            x = x @ layer["v"]
        return x

    layers = [{"w": SHAPE((8, 8), "float32"), "v": SHAPE((8, 8), "float32")} for _ in range(5)]
    model = of(net, layers, SHAPE((4, 8), "float32"))
    assert flops(model)[Phase.FORWARD] == 5 * (3 + 1) * 2 * 8 * 8 * 8
    assert flops(model, "train")[Phase.BACKWARD] == 2 * flops(model)[Phase.FORWARD]


def test_a_recurrent_layer_keeps_its_sequence_length_and_says_so():
    class Text(linen.Module):
        @linen.compact
        def __call__(self, words):
            return linen.RNN(linen.OptimizedLSTMCell(32))(linen.Embed(100, 16)(words))

    model = model_of(lambda batch=2, seq=20: (Text(), jnp.zeros((batch, seq), "int32")))
    assert dict(model.graphs["infer"].symbols) == {"b": 2}
    assert "sequence length fixed at 20" in model.card.assumed
    assert flops(model)[Phase.FORWARD] == 20 * 2 * 2 * (16 + 32) * 4 * 32


def test_layers_in_a_python_loop_are_folded():
    def net(parameters, x):
        for layer in parameters["layers"]:
            x = jnp.tanh(x @ layer["w"])
        return x

    layers = [{"w": SHAPE((32, 32), "float32")} for _ in range(20)]
    model = of(net, {"layers": layers}, SHAPE((4, 32), "float32"))
    assert len(model.graphs["infer"].ops) < 10
    assert flops(model)[Phase.FORWARD] == 20 * 2 * 8 * 32 * 32
    assert [(p.name, p.count) for p in model.parameters] == [("layers.*.w", 20)]


def test_a_branch_takes_its_costliest_side_and_says_where():
    def net(w, x):
        return lax.cond(x.sum() > 0, lambda x: x @ w @ w, jnp.sin, x)

    model = of(net, SHAPE((8, 8), "float32"), SHAPE((4, 8), "float32"))
    assert names(model).count("aten.mm") == 2
    assert any("takes its costliest side" in note and "test_capture_jax.py:" in note for note in model.card.assumed)


def test_a_loop_whose_turns_depend_on_data_is_refused_with_its_line():
    def net(w, x):
        return lax.while_loop(lambda x: x.sum() < 3, lambda x: x @ w, x)

    with pytest.raises(CaptureError, match=r"a while loop at test_capture_jax.py:\d+ runs as often as its data say"):
        of(net, SHAPE((8, 8), "float32"), SHAPE((4, 8), "float32"))


def test_a_function_that_cannot_be_differentiated_still_infers():
    def net(w, x):
        return jnp.argmax(x @ w, -1)

    model = of(net, SHAPE((8, 8), "float32"), SHAPE((4, 8), "float32"))
    assert set(model.graphs) == {"infer"}
    assert any("no train graph" in note for note in model.card.assumed)


def test_what_is_run_again_is_marked_and_counted():
    def net(parameters, x):
        block = jax.checkpoint(lambda w, x: jnp.tanh(jnp.tanh(x @ w[0]) @ w[1]))
        for w in parameters:
            x = block(w, x)
        return x

    weights = [[SHAPE((32, 32), "float32")] * 2 for _ in range(3)]
    model = of(net, weights, SHAPE((4, 32), "float32"))
    again = [op for op in model.graphs["train"].ops if op.attrs.get("recomputed")]
    assert sum(op.repeat for op in again if op.name == "aten.mm") == 6
    assert {op.phase for op in again} == {Phase.BACKWARD}


# Operators


def test_a_table_is_picked_from_and_its_gradient_scattered():
    def net(table, words):
        return table[words]

    model = of(net, SHAPE((1000, 64), "float32"), SHAPE((4, 16), "int32"))
    pick = next(op for op in model.graphs["infer"].ops if op.name == "aten.embedding")
    assert work(pick, {"b": 4}).read_bytes == 4 * 16 * (64 * 4 + 4)
    assert "aten.embedding_dense_backward" in names(model, "train")


def test_an_operator_without_a_cost_law_is_listed_and_its_traffic_counted():
    (op,) = of(jnp.fft.fft, SHAPE((4, 64), "complex64")).graphs["infer"].ops
    assert (op.name, op.kind) == ("jax.fft", Kind.UNKNOWN)
    assert work(op, {"b": 4}).read_bytes == 4 * 64 * 8


def test_a_cache_is_written_in_place():
    def net(cache, new):
        return lax.dynamic_update_slice(cache, new, (0, 3, 0))

    graph = of(net, SHAPE((4, 1000, 8), "float32"), SHAPE((4, 1, 8), "float32")).graphs["infer"]
    assert graph.symbols == {}  # the cache is of four sequences, whatever the batch
    (op,) = graph.ops
    assert work(op, {}).write_bytes == 4 * 8 * 4


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (jax.nn.softmax, "aten.exp"),
        (lambda x: jnp.cumsum(x, 1), "aten.cumsum"),
        (lambda x: jnp.sort(x, 1), "aten.sort"),
        (lambda x: lax.top_k(x, 3), "aten.topk"),
        (lambda x: jnp.concatenate([x, x], 1), "aten.cat"),
        (lambda x: jnp.pad(x, ((0, 0), (1, 1))), "aten.constant_pad_nd"),
        (lambda x: jnp.where(x > 0, x, 0), "aten.where"),
        (lambda x: x.astype("int32"), "aten._to_copy"),
        (lambda x: jnp.tile(x, (1, 3)) + 1, "aten.repeat"),
        (lambda x: jnp.argmax(x, 1), "aten.argmax"),
        (lambda x: jnp.take_along_axis(x, x.astype("int32"), 1), "aten.index"),
        (lambda x: jnp.zeros((5, 6)).at[x[0].astype("int32")].add(1.0), "aten.scatter_add"),
        (lambda x: lax.dynamic_slice(x, (0, x[0, 0].astype("int32")), (2, 1)), "aten.slice_copy"),
        (lambda x: jnp.einsum("bi,bj->bij", x, x), "aten.mul"),
        (lambda x: jax.random.uniform(jax.random.key(x[0, 0].astype("int32")), (4,)) + x.sum(), "aten.random"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_common_operators_have_the_names_that_carry_cost_laws(function, name):
    model = of(function, SHAPE((4, 6), "float32"))
    found = {op.name: op.kind for op in model.graphs["infer"].ops}
    assert (
        name in found
        or (name == "aten.mul" and "aten.bmm" in found)
        or (name, Kind.EMBEDDING) in found.items()
        or (name == "aten.scatter_add" and "aten.embedding_dense_backward" in found)
    )
    assert Kind.UNKNOWN not in found.values()


# Flax, and other callables with parameters of their own


class Block(linen.Module):
    width: int

    @linen.compact
    def __call__(self, x, train: bool):
        h = linen.Dense(4 * self.width)(linen.LayerNorm()(x))
        return x + linen.Dropout(0.1, deterministic=not train)(linen.Dense(self.width)(linen.gelu(h)))


class Linen(linen.Module):
    @linen.compact
    def __call__(self, x, train: bool = False):
        x = linen.BatchNorm(use_running_average=not train)(linen.Dense(32)(x))
        for _ in range(6):
            x = Block(32)(x, train)
        return x


class Nnx(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(32, 32, rngs=rngs) for _ in range(6)])
        self.norm, self.drop = nnx.BatchNorm(32, rngs=rngs), nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = nnx.relu(layer(x))
        return self.drop(self.norm(x))


def test_a_linen_module_follows_the_task_and_keeps_its_names():
    model = model_of(lambda: (Linen(), SHAPE((4, 16), "float32")))
    assert model.buffer_bytes >= 2 * 32 * 4
    assert "aten.random" in names(model, "train")
    assert "aten.random" not in names(model)
    infer = {(op.module, op.repeat) for op in model.graphs["infer"].ops if op.kind is Kind.GEMM}
    assert infer == {("Dense.0", 1), ("Block.*.Dense.0", 6), ("Block.*.Dense.1", 6)}
    assert model.parameter_count == 17 * 32 + 2 * 32 + 6 * (2 * 32 + 33 * 128 + 129 * 32)


def test_an_nnx_module_keeps_its_state():
    model = model_of(lambda: (Nnx(nnx.Rngs(0)), SHAPE((4, 32), "float32")))
    assert model.parameter_count == 6 * 33 * 32 + 2 * 32
    assert "aten.random" in names(model, "train")
    assert "aten.random" not in names(model)
    assert flops(model)[Phase.FORWARD] == 6 * 2 * 8 * 32 * 32


@jax.tree_util.register_pytree_with_keys_class
class Callable:
    def __init__(self, weight, scale):
        self.weight, self.scale = weight, scale

    def tree_flatten_with_keys(self):
        return [(jax.tree_util.GetAttrKey("weight"), self.weight)], self.scale

    @classmethod
    def tree_unflatten(cls, scale, children):
        return cls(*children, scale)

    def __call__(self, x):
        return (x @ self.weight) * self.scale


def test_a_callable_pytree_has_its_own_parameters():
    model = model_of(lambda: (Callable(jnp.zeros((8, 4)), 2), jnp.zeros((3, 8))))
    assert [(p.name, p.shape) for p in model.parameters] == [("weight", (8, 4))]
    assert set(model.graphs) == {"train", "infer"}


# What a factory may do


def test_weights_are_not_made():
    def factory():
        weight = jax.random.normal(jax.random.key(0), (1_000_000, 1_000_000))
        return lambda w, x: x @ w, (weight, jnp.zeros((2, 1_000_000)))

    assert model_of(factory).parameter_count == 10**12


def test_a_factory_that_looks_at_values_gets_them():
    def factory():
        width = int(jnp.arange(5).sum())
        return lambda w, x: x @ w, (jnp.zeros((width, 4)), jnp.zeros((2, width)))

    assert model_of(factory).parameter_count == 40


def test_arrays_that_the_function_holds_are_no_parameters():
    def factory():
        held = jnp.ones((8, 8))
        return lambda x: x @ held, (jnp.zeros((3, 8)),)

    model = model_of(factory)
    assert set(model.graphs) == {"infer"}
    assert "a function of one argument has no parameters: inference only" in model.card.assumed


def test_inputs_whose_first_axes_differ_keep_the_batch():
    def net(w, nodes, edges):
        return jax.ops.segment_sum((nodes @ w)[edges[:, 0]], edges[:, 1], 50)

    model = of(net, SHAPE((16, 8), "float32"), SHAPE((50, 16), "float32"), SHAPE((200, 2), "int32"))
    assert dict(model.graphs["infer"].symbols) == {}
    assert "the batch is that of the example inputs" in model.card.assumed


def test_parameters_of_the_factory_are_symbols():
    def factory(batch=3, seq=20):
        def net(w, x):
            scores = jnp.einsum("bsd,btd->bst", x @ w, x)
            return jax.nn.softmax(scores) @ x

        return net, (SHAPE((16, 16), "float32"), SHAPE((batch, seq, 16), "float32"))

    model = model_of(factory)
    assert dict(model.graphs["infer"].symbols) == {"b": 3, "s": 20}
    b, s = 7, 50
    assert flops(model, sizes={"b": b, "s": s})[Phase.FORWARD] == 2 * b * (s * 16 * 16 + 2 * s * s * 16)


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (lambda w, x: x if (x @ w).sum() > 0 else x @ w, r"at test_capture_jax.py:\d+: TracerBoolConversionError"),
        (lambda w, x: x[x.sum(1) > 0] @ w, r"at test_capture_jax.py:\d+: NonConcreteBooleanIndexError"),
        (lambda w, x: x @ w @ w, r"at test_capture_jax.py:\d+: TypeError: dot_general"),
        (lambda w, x: np.asarray(x @ w), r"at test_capture_jax.py:\d+: TracerArrayConversionError"),
        (lambda w, x: (x @ w).sum().item(), r"at test_capture_jax.py:\d+: ConcretizationTypeError"),
    ],
    ids=["branch", "mask", "shapes", "numpy", "item"],
)
def test_a_fault_of_the_function_is_one_line_with_its_place(net, words):
    with pytest.raises(CaptureError, match=words) as caught:
        of(net, SHAPE((8, 4), "float32"), SHAPE((3, 8), "float32"))
    assert "\n" not in str(caught.value)


def test_a_function_that_returns_nothing_to_learn_from_has_no_train_graph():
    model = of(lambda w, x: (x @ w) > 0, SHAPE((8, 4), "float32"), SHAPE((3, 8), "float32"))
    assert "no train graph: the model returns no tensor that a loss could be made of" in model.card.assumed


def test_numbers_in_names_stand_alone():
    assert numbered("encoder.layer_3.Dense_10.kernel") == "encoder.layer.3.Dense.10.kernel"
