"""ONNX files as graphs: rules against the standard's own examples, whole files against hand counts."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

pytest.importorskip("onnx")

import numpy as np

from rigwise.graph.capture.from_onnx.file import as_known, read_net
from rigwise.graph.capture.from_onnx.model import RULES, model
from rigwise.graph.capture.from_onnx.trace import Tracer
from rigwise.graph.capture.from_onnx.value import Value, small
from rigwise.graph.count import work
from rigwise.graph.op import Kind, Role

onnx = pytest.importorskip("onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

FLOAT, INT64, BOOL, INT8, UINT8 = (getattr(TensorProto, n) for n in ("FLOAT", "INT64", "BOOL", "INT8", "UINT8"))


def port(name, shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op, inputs, outputs, name="", **attrs):
    return helper.make_node(op, inputs.split(), outputs.split(), name=name, **attrs)


def whole(nodes, inputs, outputs="y", *, constants=None, opsets=None, values=()):
    """A model of these nodes; ``constants`` are arrays by name."""
    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    made = [port(name, None) for name in outputs.split()]
    graph = helper.make_graph(nodes, "net", inputs, made, weights, value_info=list(values))
    sets = [helper.make_opsetid(domain, number) for domain, number in (opsets or {"": 17}).items()]
    return helper.make_model(graph, opset_imports=sets)


def captured(proto, folder):
    path = Path(folder) / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return model({"path": str(path), "where": "net.onnx", "name": "net"})


def flops(graph, **sizes):
    return sum(op.repeat * float(work(op, sizes).flops) for op in graph.ops)


def names(graph):
    return [op.name for op in graph.ops]


def shapes(graph):
    return [tuple(str(size) for size in op.outputs[0].shape) for op in graph.ops]


def weights(*sizes, dtype=np.float32):
    return np.zeros(sizes, dtype)


# The standard's own examples.

#: How many results there are depends on data; the graph counts the most there can be.
BY_DATA = ("test_nonmaxsuppression", "test_unique", "test_string_split", "test_strnormalizer")

#: Inputs that are sequences or optional; old operators; types that NumPy holds packed.
NOT_READ = ("_opt", "_seq", "sequence", "optional", "test_scan_sum", "test_loop13_seq", "single_tree")
PACKED = ("int4", "int2", "e2m1", "e4m3", "e5m2", "_symmetric")


def is_read(name):
    if name.startswith(BY_DATA) or any(part in name for part in NOT_READ):
        return False
    return not ("quantizelinear" in name and any(part in name for part in PACKED))


def examples():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.case.node import collect_testcases

        return [case for case in collect_testcases(None) if is_read(case.name) and case.data_sets]


def value_of(array, declared):
    array = np.asarray(array)
    settings = array.dtype.kind in "iub" or array.ndim <= 1
    data = as_known(array) if settings and small(array.shape) and array.dtype.kind not in "OSU" else None
    return Value(array.shape, declared.dtype, data)


def test_rules_agree_with_every_example_of_the_standard(tmp_path):
    """Shape and type of every result, and its numbers where a graph needs to know them."""
    path = tmp_path / "net.onnx"
    faults, checked, numbers = [], 0, 0
    for case in examples():
        path.write_bytes(case.model.SerializeToString())
        net = read_net(path, case.name)
        inputs, expected = case.data_sets[0]
        feeds = {p.name: value_of(x, p) for p, x in zip(net.body.inputs, inputs, strict=False)}
        graph, results = Tracer(net, case.name, RULES).run(feeds, {})
        for op in graph.ops:
            work(op, {})
        for result, array in zip(results, expected, strict=True):
            if isinstance(array, list):
                continue
            checked += 1
            if result.shape != np.shape(array):
                faults.append((case.name, result.shape, np.shape(array)))
            elif result.data is not None:
                numbers += 1
                if not np.allclose(
                    result.data.astype(float), array.astype(float), rtol=1e-3, atol=1e-3, equal_nan=True
                ):
                    faults.append((case.name, result.data, array))
    assert not faults
    assert checked > 1500
    assert numbers > 150


def test_every_operator_of_the_standard_has_a_rule():
    for domain in ("", "ai.onnx.ml"):
        standard = {s.name for s in onnx.defs.get_all_schemas() if s.domain == domain}
        assert standard - set(RULES[domain]) <= {"ImageDecoder"}  # its result's size stands in the file it reads


# Whole files.


def test_an_image_network_by_hand(tmp_path):
    """Convolution, pooling and a linear layer: 2 x outputs x kernel FLOPs, sizes free in batch and side."""
    nodes = [
        node("Conv", "x k", "a", "/stem/conv/Conv", pads=[3, 3, 3, 3], strides=[2, 2]),
        node("Relu", "a", "r", "/stem/Relu"),
        node("MaxPool", "r", "m", "/stem/MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "m", "g", "/head/Pool"),
        node("Flatten", "g", "f", "/head/Flatten"),
        node("Gemm", "f w c", "y", "/head/fc/Gemm", transB=1),
    ]
    constants = {"k": weights(64, 3, 7, 7), "w": weights(10, 64), "c": weights(10)}
    net = captured(whole(nodes, [port("x", ["N", 3, "H", "W"])], constants=constants), tmp_path)
    graph = net.graph("infer")
    assert names(graph) == ["aten.convolution", "aten.relu", "aten.max_pool2d", "aten.mean", "aten.addmm"]
    assert shapes(graph)[0] == ("b", "64", "(p+1)//2", "(p+1)//2")
    assert [op.module for op in graph.ops] == ["stem.conv", "stem", "stem", "head", "head.fc"]
    assert flops(graph, b=4, p=224) == 2 * 4 * (112 * 112 * 64 * 3 * 49 + 64 * 10)
    assert net.parameter_count == 64 * 3 * 49 + 640 + 10
    assert net.card.assumed == ("H and W are taken to be equal sides",)


FIXED = {
    "a 1 before -1": (
        [node("Reshape", "x target", "f"), node("Gemm", "f w", "y")], (1, 4, 8), [1, -1], (32, 5), 12 * 5,
    ),
    "a 0 beside -1": (
        [node("Transpose", "x", "t", perm=[1, 0, 2]), node("Reshape", "t target", "r"), node("MatMul", "r w", "y")],
        (1, 4, 8), [0, 0, -1], (8, 5), 4 * 12 * 5,
    ),
    "the batch behind another axis": (
        [
            node("Transpose", "x", "t", perm=[1, 0, 2]),
            node("Reshape", "t target", "h"),
            node("Transpose", "h", "u", perm=[1, 0, 2]),
            node("MatMul", "u w", "y"),
        ],
        (2, 6, 8), [6, 4, 4], (4, 5), 2 * 12 * 6 * 5,
    ),
    "a target made of the shape": (
        [
            node("Shape", "x", "n", start=0, end=1),
            node("Concat", "n target", "all", axis=0),
            node("Reshape", "x all", "f"),
            node("MatMul", "f w", "y"),
        ],
        (1, 4, 8), [-1], (32, 5), 12 * 5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", FIXED)
def test_a_batch_that_the_file_fixes_is_freed(what, tmp_path):
    """Reshapes hold the file's number where the batch stands, first or behind other axes."""
    nodes, shape, target, weight, elements = FIXED[what]
    constants = {"target": np.array(target), "w": weights(*weight)}
    net = captured(whole(nodes, [port("x", shape)], constants=constants), tmp_path)
    graph = net.graph("infer")
    assert set(graph.symbols) == {"b"}
    assert graph.ops[-1].outputs[0].elements({"b": 12}) == elements
    assert net.card.assumed == ()


def test_a_batch_that_cannot_be_freed_is_stated(tmp_path):
    """A weight of 4 x 4 mixes the first axis: it is no batch."""
    nodes = [node("Transpose", "x", "t", perm=[1, 0]), node("MatMul", "t w", "y")]
    net = captured(whole(nodes, [port("x", [4, 6])], constants={"w": weights(4, 4)}), tmp_path)
    assert net.graph("infer").symbols == {}
    assert net.card.assumed == ("the batch is fixed at 4",)


def test_equal_layers_are_folded_and_constants_do_not_run(tmp_path):
    nodes, value = [], "x"
    for i in range(6):
        nodes += [
            node("Transpose", f"w{i}", f"t{i}", f"/layers.{i}/Transpose", perm=[1, 0]),
            node("MatMul", f"{value} t{i}", f"m{i}", f"/layers.{i}/MatMul"),
            node("Relu", f"m{i}", f"r{i}", f"/layers.{i}/Relu"),
        ]
        value = f"r{i}"
    constants = {f"w{i}": weights(8, 8) for i in range(6)}
    net = captured(whole(nodes, [port("x", ["batch", 8])], value, constants=constants), tmp_path)
    graph = net.graph("infer")
    assert [(op.name, op.repeat, op.module) for op in graph.ops] == [
        ("aten.mm", 1, "layers.0"), ("aten.relu", 1, "layers.0"),  # reads the input
        ("aten.mm", 5, "layers.*"), ("aten.relu", 5, "layers.*"),
    ]  # fmt: skip
    assert net.parameter_count == 6 * 64
    assert flops(graph, b=3) == 6 * 2 * 3 * 64


CACHED = [
    node("Gather", "table input_ids", "e"),
    node("MatMul", "e wq", "q0"),
    node("Reshape", "q0 split", "q1"),
    node("Transpose", "q1", "q", perm=[0, 2, 1, 3]),
    node("Concat", "past_key_values.0.key q", "present.0.key", axis=2),
    node("Transpose", "present.0.key", "k", perm=[0, 1, 3, 2]),
    node("MatMul", "q k", "scores"),
    node("Softmax", "scores", "p", axis=-1),
    node("MatMul", "p present.0.key", "y"),
]


def test_a_cache_of_keys_makes_a_decode_graph(tmp_path):
    """One new token against ``c`` old ones, and a whole text without a cache."""
    inputs = [
        port("input_ids", ["batch_size", "sequence_length"], INT64),
        port("attention_mask", ["batch_size", "past_sequence_length + sequence_length"], INT64),
        port("past_key_values.0.key", ["batch_size", 4, "past_sequence_length", 8]),
    ]
    constants = {"table": weights(100, 32), "wq": weights(32, 32), "split": np.array([0, 0, 4, 8])}
    net = captured(whole(CACHED, inputs, "y present.0.key", constants=constants), tmp_path)
    infer, decode = net.graph("infer"), net.graph("decode")
    assert net.card.causal
    assert flops(infer, b=2, s=50) == 2 * 2 * 50 * 32 * 32 + 2 * (2 * 2 * 4 * 50 * 50 * 8)
    assert flops(decode, b=2, c=49) == 2 * 2 * 32 * 32 + 2 * (2 * 2 * 4 * 1 * 50 * 8)
    cache = [t for op in decode.ops for t in op.inputs if t.role is Role.CACHE]
    assert [tuple(map(str, t.shape)) for t in cache] == [("b", "4", "c", "8")]


def test_a_text_model_with_few_positions_is_tried_at_short_lengths(tmp_path):
    nodes = [
        node("Gather", "table ids", "e"),
        node("Shape", "ids", "n", start=1, end=2),
        node("Slice", "positions zero n zero", "p"),
        node("Add", "e p", "y"),
    ]
    constants = {"table": weights(50, 16), "positions": weights(40, 16), "zero": np.array([0])}
    net = captured(whole(nodes, [port("ids", ["b", "s"], INT64)], constants=constants), tmp_path)
    assert net.graph("infer").symbols == {"b": 8, "s": 40}
    assert shapes(net.graph("infer"))[-1] == ("b", "s", "16")


# Quantised files.


def test_a_weight_behind_dequantize_is_read_in_eight_bits(tmp_path):
    nodes = [
        node("QuantizeLinear", "x sx zx", "xq"),
        node("DequantizeLinear", "xq sx zx", "xd"),
        node("DequantizeLinear", "w sw zw", "wd"),
        node("MatMul", "xd wd", "y"),
    ]
    scale, zero = np.array(0.1, np.float32), np.array(0, np.int8)
    constants = {"w": weights(32, 16, dtype=np.int8), "sx": scale, "sw": scale, "zx": np.array(0, np.uint8), "zw": zero}
    net = captured(whole(nodes, [port("x", ["N", 32])], constants=constants), tmp_path)
    graph = net.graph("infer")
    assert names(graph) == ["aten.quantize_per_tensor", "aten.dequantize", "aten.mm"]
    weight = graph.ops[-1].inputs[1]
    assert (weight.dtype, weight.role, weight.shape) == ("int8", Role.PARAMETER, (32, 16))
    assert net.parameter_count == 32 * 16
    assert [op.outputs[0].dtype for op in graph.ops] == ["uint8", "float32", "float32"]


def test_products_of_bytes(tmp_path):
    nodes = [
        node("DynamicQuantizeLinear", "x", "xq s z"),
        node("MatMulInteger", "xq w z", "i"),
        node("Cast", "i", "f", to=FLOAT),
        node("Mul", "f s", "y"),
    ]
    net = captured(whole(nodes, [port("x", ["N", 32])], constants={"w": weights(32, 16, dtype=np.int8)}), tmp_path)
    product = next(op for op in net.graph("infer").ops if op.name == "aten.mm")
    assert [t.dtype for t in (*product.inputs, *product.outputs)] == ["uint8", "int8", "int32"]
    assert flops(net.graph("infer"), b=1) == 2 * 32 * 16
    assert net.parameter_count == 32 * 16


def test_a_weight_of_four_bits(tmp_path):
    product = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=64, N=24, bits=4, block_size=32
    )
    constants = {"w": weights(24, 2, 16, dtype=np.uint8), "s": weights(48)}
    net = captured(
        whole([product], [port("x", ["N", "seq", 64])], constants=constants, opsets={"": 17, "com.microsoft": 1}),
        tmp_path,
    )
    (op,) = net.graph("infer").ops
    assert op.inputs[1].dtype == "int4"
    assert net.parameter_count == 24 * 64
    assert flops(net.graph("infer"), b=2, s=5) == 2 * 2 * 5 * 64 * 24


def contrib(op, inputs, outputs, **attrs):
    return helper.make_node(op, inputs.split(), outputs.split(), domain="com.microsoft", **attrs)


def test_fused_transformer_operators(tmp_path):
    """Grouped-query attention: 4 query heads share 2 of keys; the product is of every query with every key."""
    nodes = [
        contrib("SkipLayerNormalization", "x x gamma beta", "n"),
        node("MatMul", "n w", "qkv"),
        helper.make_node(
            "GroupQueryAttention", ["qkv", "", "", "", "", "lens", "total"], ["y", "pk", "pv"],
            domain="com.microsoft", num_heads=4, kv_num_heads=2,
        ),
    ]  # fmt: skip
    constants = {"gamma": weights(32), "beta": weights(32), "w": weights(32, 64)}
    inputs = [port("x", ["b", "s", 32]), port("lens", ["b"], TensorProto.INT32), port("total", [1], TensorProto.INT32)]
    net = captured(whole(nodes, inputs, constants=constants, opsets={"": 17, "com.microsoft": 1}), tmp_path)
    graph = net.graph("infer")
    assert names(graph) == ["aten.native_layer_norm", "aten.mm", "rigwise.attention"]
    q, k, _ = graph.ops[2].inputs
    assert [tuple(map(str, t.shape)) for t in (q, k)] == [("b", "4", "s", "8"), ("b", "2", "s", "8")]
    assert flops(graph, b=1, s=10) == 2 * 10 * 32 * 64 + 2 * (2 * 4 * 10 * 10 * 8)


# Control flow, functions, other domains.


def loop(count):
    body = helper.make_graph(
        [node("MatMul", "v w", "m"), node("Tanh", "m", "n"), node("Identity", "c", "go")],
        "body",
        [port("i", [], INT64), port("c", [], BOOL), port("v", None)],
        [port("go", None, BOOL), port("n", None)],
    )
    return helper.make_node("Loop", ["times", "", "x"], ["y"], name="steps", body=body), {"times": np.array(count)}


def test_a_loop_of_known_length_is_one_block(tmp_path):
    again, constants = loop(12)
    net = captured(whole([again], [port("x", ["N", 8])], constants=constants | {"w": weights(8, 8)}), tmp_path)
    graph = net.graph("infer")
    assert [(op.name, op.repeat) for op in graph.ops[2:]] == [("aten.mm", 11), ("aten.tanh", 11)]
    assert flops(graph, b=3) == 12 * 2 * 3 * 8 * 8


def test_a_branch_on_a_shape_is_taken(tmp_path):
    def branch(op):
        return helper.make_graph([node(op, "x", "out")], op, [], [port("out", None)])

    nodes = [
        node("Shape", "x", "n", start=1, end=2),
        node("Greater", "n four", "wide"),
        node("If", "wide", "y", then_branch=branch("Relu"), else_branch=branch("Tanh")),
    ]
    net = captured(whole(nodes, [port("x", ["N", 8])], constants={"four": np.array([4])}), tmp_path)
    assert names(net.graph("infer")) == ["aten.relu"]


def test_functions_of_the_file_are_run_in_place(tmp_path):
    body = [
        helper.make_node("MatMul", ["a", "w"], ["m"]),
        onnx.parser.parse_node("b = LeakyRelu<alpha: float = @slope>(m)"),
    ]
    function = helper.make_function("mine", "Block", ["a", "w"], ["b"], body, [helper.make_opsetid("", 17)], ["slope"])
    call = helper.make_node("Block", ["x", "k"], ["y"], name="/net/block/Block", domain="mine", slope=0.1)
    proto = whole([call], [port("x", ["N", 8])], constants={"k": weights(8, 3)}, opsets={"": 17, "mine": 1})
    proto.functions.append(function)
    graph = captured(proto, tmp_path).graph("infer")
    assert [(op.name, op.module) for op in graph.ops] == [("aten.mm", "net.block"), ("aten.leaky_relu", "net.block")]


def test_a_custom_operator_with_a_declared_shape_is_counted_as_traffic(tmp_path):
    nodes = [helper.make_node("Solve", ["x"], ["s"], domain="mine"), node("Relu", "s", "y")]
    declared = [port("s", ["N", 5])]
    net = captured(whole(nodes, [port("x", ["N", 8])], values=declared, opsets={"": 17, "mine": 1}), tmp_path)
    unknown = net.graph("infer").ops[0]
    assert (unknown.name, unknown.kind) == ("mine.Solve", Kind.UNKNOWN)
    cost = work(unknown, {"b": 10})
    assert cost.read_bytes + cost.write_bytes == 4 * 10 * (8 + 5)


def test_weights_in_another_file_are_not_opened(tmp_path):
    proto = whole([node("MatMul", "x w", "y")], [port("x", ["N", 8])], constants={"w": weights(8, 4)})
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="absent/weights.bin")
    net = captured(proto, tmp_path)
    assert net.parameter_count == 32
    assert net.card.assumed == ("weights in external files were not read: only their shapes count",)


def test_large_weights_never_reach_the_parser(tmp_path):
    """A product by 25 million numbers: the file is walked, its graph is a few hundred bytes."""
    from rigwise.graph.capture.from_onnx.wire import graph_bytes

    proto = whole([node("MatMul", "x w", "y")], [port("x", ["N", 5000])], constants={"w": weights(5000, 5000)})
    path = tmp_path / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    assert path.stat().st_size > 10**8
    assert len(graph_bytes(path, "net.onnx")) < 500
    assert captured(proto, tmp_path).parameter_count == 25_000_000


def test_nodes_in_any_order_and_an_old_opset(tmp_path):
    nodes = [node("Relu", "a", "y"), node("MatMul", "x w", "a")]
    net = captured(whole(nodes, [port("x", ["N", 8])], constants={"w": weights(8, 4)}, opsets={"": 7}), tmp_path)
    assert names(net.graph("infer")) == ["aten.mm", "aten.relu"]
    assert net.card.assumed == ("opset 7 is read as opset 11",)
    assert net.captured_with["opset"] == "7"


def test_sizes_without_a_meaning_are_stated(tmp_path):
    nodes = [node("Transpose", "x", "y", perm=[4, 3, 2, 1, 0])]
    net = captured(whole(nodes, [port("x", ["N", "foo", "bar", 3, 4])]), tmp_path)
    assert "axis 1 of the input 'x' is taken to be 16" in net.card.assumed


def test_a_free_size_that_a_weight_decides(tmp_path):
    nodes = [node("MatMul", "x w", "y")]
    net = captured(whole(nodes, [port("x", [None, None])], constants={"w": weights(784, 10)}), tmp_path)
    assert flops(net.graph("infer"), b=3) == 2 * 3 * 784 * 10


def test_forests_and_scalers(tmp_path):
    pytest.importorskip("skl2onnx")
    from skl2onnx import to_onnx
    from sklearn.ensemble import GradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64) + (x[:, 1] > 0)
    options = {"zipmap": False}
    linear = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y)
    net = captured(to_onnx(linear, x[:1], options={id(linear): options}), tmp_path)
    assert flops(net.graph("infer"), b=7) == 2 * 7 * 4 * 3
    trees = GradientBoostingClassifier(n_estimators=3).fit(x, y)
    net = captured(to_onnx(trees, x[:1], options={id(trees): options}), tmp_path)
    unknown = [op.name for op in net.graph("infer").ops if op.kind is Kind.UNKNOWN]
    assert unknown == ["ai.onnx.ml.TreeEnsembleClassifier"]


def test_a_file_is_captured_once_for_its_content_in_a_child(tmp_path, monkeypatch):
    from rigwise.graph.capture import run
    from rigwise.graph.load import load_model

    monkeypatch.setenv("RIGWISE_CACHE", str(tmp_path / "cache"))
    proto = whole([node("MatMul", "x w", "y")], [port("x", ["N", 8])], constants={"w": weights(8, 4)})
    for name in ("one.onnx", "two.onnx"):
        (tmp_path / name).write_bytes(proto.SerializeToString())
    first = load_model(str(tmp_path / "one.onnx"))
    monkeypatch.setattr(run, "capture_onnx", lambda path: pytest.fail(f"{path} was captured again"))
    again = load_model(str(tmp_path / "two.onnx"))
    assert (first.name, again.name) == ("one", "two")
    assert first.graphs == again.graphs
    assert flops(first.graph("infer"), b=2) == 2 * 2 * 8 * 4
