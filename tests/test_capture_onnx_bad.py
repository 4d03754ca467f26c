"""ONNX files that are damaged, hostile or not to be understood: one line with the place, and nothing in the cache."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")

import numpy as np

from rigwise.errors import CaptureError, InvalidInputError, RigwiseError, UnsupportedError
from rigwise.graph.capture.from_onnx import file as onnx_file
from rigwise.graph.capture.from_onnx import trace as onnx_trace
from rigwise.graph.capture.from_onnx import wire as onnx_wire
from rigwise.graph.capture.from_onnx.model import model
from rigwise.graph.load import load_model

onnx = pytest.importorskip("onnx")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def port(name, shape, dtype=FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def node(op, inputs, outputs, name="", **attrs):
    return helper.make_node(op, inputs.split(), outputs.split(), name=name, **attrs)


def whole(nodes, inputs=None, outputs=None, *, constants=None, opsets=None, functions=(), values=()):
    """A model of these nodes; ``constants`` are arrays by name."""
    inputs = [port("x", ["batch", 8])] if inputs is None else inputs
    outputs = [port("y", None)] if outputs is None else outputs
    weights = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, weights, value_info=list(values))
    sets = [helper.make_opsetid(domain, number) for domain, number in (opsets or {"": 17}).items()]
    return helper.make_model(graph, opset_imports=sets, functions=list(functions))


def saved(proto, folder, name="net.onnx"):
    path = Path(folder) / name
    path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return path


def captured(proto, folder):
    path = saved(proto, folder)
    return model({"path": str(path), "where": "net.onnx", "name": "net"})


RELU = [node("Relu", "x", "y", "first")]


def without_type():
    proto = whole(RELU)
    proto.graph.input[0].ClearField("type")
    return proto


def without_element_type():
    proto = whole(RELU)
    proto.graph.input[0].type.tensor_type.elem_type = 0
    return proto


def external(location, *, as_shape=False):
    """A weight, or the target of a reshape, whose data is said to lie in another file."""
    array = np.zeros((8, 4), np.float32) if not as_shape else np.array([-1, 4], np.int64)
    nodes = [node("Reshape", "x w", "y", "cut")] if as_shape else [node("MatMul", "x w", "y", "product")]
    proto = whole(nodes, constants={"w": array})
    weight = proto.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value=location)
    return proto


def calling_itself():
    body = [helper.make_node("Twice", ["a"], ["b"], domain="mine")]
    function = helper.make_function("mine", "Twice", ["a"], ["b"], body, [helper.make_opsetid("mine", 1)])
    call = helper.make_node("Twice", ["x"], ["y"], domain="mine", name="call")
    return whole([call], functions=[function], opsets={"": 17, "mine": 1})


def doubling(levels):
    """Functions that each call the one below twice."""
    functions = []
    for level in range(levels):
        op, domain = (f"Level{level - 1}", "mine") if level else ("Relu", "")
        body = [
            helper.make_node(op, ["a"], ["m"], domain=domain),
            helper.make_node(op, ["m"], ["b"], domain=domain),
        ]
        imports = [helper.make_opsetid("mine", 1), helper.make_opsetid("", 17)]
        functions.append(helper.make_function("mine", f"Level{level}", ["a"], ["b"], body, imports))
    call = helper.make_node(f"Level{levels - 1}", ["x"], ["y"], domain="mine", name="call")
    return whole([call], functions=functions, opsets={"": 17, "mine": 1})


def branching():
    def branch(op):
        return helper.make_graph([node(op, "x", "out")], op, [], [port("out", None)])

    choice = node("If", "flag", "y", "choice", then_branch=branch("Relu"), else_branch=branch("Tanh"))
    return whole([choice], [port("x", ["batch", 8]), port("flag", [], BOOL)])


def endless():
    """A loop without a trip count whose end depends on data."""
    body = helper.make_graph(
        [node("Relu", "v", "w"), node("ReduceSum", "v", "t", keepdims=0), node("Cast", "t", "go", to=BOOL)],
        "body",
        [port("i", [], INT64), port("c", [], BOOL), port("v", ["batch", 8])],
        [port("go", None, BOOL), port("w", None)],
    )
    return whole([helper.make_node("Loop", ["", "", "x"], ["y"], name="again", body=body)])


def nested(depth):
    """Branches inside branches."""
    inner = leaf = helper.make_graph([node("Relu", "x", "out")], "g", [], [port("out", None)])
    for _ in range(depth):
        choice = node("If", "yes", "out", then_branch=inner, else_branch=leaf)
        inner = helper.make_graph([choice], "g", [], [port("out", None)])
    return whole(
        [node("If", "yes", "y", "top", then_branch=inner, else_branch=leaf)], constants={"yes": np.array(True)}
    )


def buried(depth):
    """The bytes of a graph in a graph in a graph ..."""
    content = b""
    for _ in range(depth):
        for tag in (0x32, 0x2A, 0x0A):  # a graph in an attribute, in a node, in a graph
            content = bytes([tag]) + onnx_wire._encoded(len(content)) + content
    return b"\x08\x0a\x3a" + onnx_wire._encoded(len(content)) + content


def cut_off():
    content = whole([node("MatMul", "x w", "y")], constants={"w": np.ones((8, 4), np.float32)}).SerializeToString()
    return content[: len(content) // 2]


CYCLE = [node("Add", "x b", "a", "one"), node("Relu", "a", "b", "two"), node("Relu", "b", "y", "three")]
IMAGE = [port("x", ["batch", 3, "height", "width"])]
KERNEL = {"w": np.zeros((4, 3, 3, 3), np.float32)}

BAD = {
    "a cycle": (lambda: whole(CYCLE), InvalidInputError, "is part of a cycle"),
    "no type": (without_type, InvalidInputError, "the input 'x' has no type"),
    "no element type": (without_element_type, InvalidInputError, "the input 'x' has no type"),
    "no shape": (lambda: whole(RELU, [port("x", None)]), InvalidInputError, "the input 'x' has no shape"),
    "a negative dim": (
        lambda: whole(RELU, [port("x", [2, -3])]),
        InvalidInputError,
        "the input 'x' has the shape [2, -3]",
    ),
    "an undefined value": (
        lambda: whole([node("Add", "x z", "y", "sum")]),
        InvalidInputError,
        "node 'sum' (Add) reads 'z'",
    ),
    "an undefined output": (
        lambda: whole(RELU, outputs=[port("z", None)]),
        InvalidInputError,
        "the output 'z' is made by no",
    ),
    "no outputs": (lambda: whole(RELU, outputs=[]), InvalidInputError, "its graph has no outputs"),
    "a value made twice": (
        lambda: whole([*RELU, node("Tanh", "x", "y", "second")]),
        InvalidInputError,
        "the value 'y' is made twice, the second time by node 'second' (Tanh)",
    ),
    "two inputs of one name": (
        lambda: whole(RELU, [port("x", [2]), port("x", [2])]),
        InvalidInputError,
        "have the same name",
    ),
    "a rank that does not fit": (
        lambda: whole([node("Conv", "x w", "y", "conv")], constants=KERNEL),
        InvalidInputError,
        "node 'conv' (Conv): a kernel of [4, 3, 3, 3] in 1 groups meets an image of [",
    ),
    "sizes that do not fit": (
        lambda: whole([node("MatMul", "x w", "y", "product")], constants={"w": np.zeros((7, 4), np.float32)}),
        InvalidInputError,
        "node 'product' (MatMul): it multiplies [8, 8] by [7, 4]",
    ),
    "a stride of 0": (
        lambda: whole([node("Conv", "x w", "y", "conv", strides=[0, 0])], IMAGE, constants=KERNEL),
        InvalidInputError,
        "it has strides [0, 0]",
    ),
    "an attribute of another type": (
        lambda: whole([node("Conv", "x w", "y", "conv", strides="two")], IMAGE, constants=KERNEL),
        InvalidInputError,
        "node 'conv' (Conv) has operands or attributes that do not fit",
    ),
    "a missing operand": (lambda: whole([node("MatMul", "x", "y", "p")]), InvalidInputError, "it lacks its operand 1"),
    "an axis that is not there": (
        lambda: whole([node("Softmax", "x", "z"), node("ArgMax", "z", "y", "best", axis=5)]),
        InvalidInputError,
        "node 'best' (ArgMax): it has no axis 5",
    ),
    "an absurd size": (
        lambda: whole([node("Expand", "x shape", "y", "grow")], constants={"shape": np.array([10**9, 10**9, 1, 1])}),
        InvalidInputError,
        "node 'grow' (Expand): its result would have",
    ),
    "a range without end": (
        lambda: whole(
            [node("Range", "a b c", "r", "count"), node("Expand", "x r", "y")],
            constants={"a": np.array(0), "b": np.array(10**12), "c": np.array(1)},
        ),
        InvalidInputError,
        "node 'count' (Range): it counts from 0 to 1000000000000 by 1",
    ),
    "data outside the folder": (
        lambda: external("../../secret"),
        InvalidInputError,
        "'../../secret', outside the folder",
    ),
    "data at an absolute path": (lambda: external("/etc/passwd"), InvalidInputError, "outside the folder"),
    "data at a path of Windows": (lambda: external("C:\\data"), InvalidInputError, "outside the folder"),
    "a shape in absent data": (
        lambda: external("weights.bin", as_shape=True),
        CaptureError,
        "node 'cut' (Reshape): the new shape lies in the external file 'weights.bin'",
    ),
    "a custom operator": (
        lambda: whole([helper.make_node("Solve", ["x"], ["y"], domain="mine", name="s")], opsets={"": 17, "mine": 1}),
        UnsupportedError,
        "node 's' (mine.Solve) is of the custom domain 'mine'",
    ),
    "an operator of no standard": (
        lambda: whole([node("Frobnicate", "x", "y", "f")]),
        UnsupportedError,
        "node 'f' (Frobnicate) is no operator that rigwise knows",
    ),
    "a file cut off": (cut_off, InvalidInputError, "is no whole ONNX file: byte"),
    "a field of no kind": (lambda: b"\x08\x0a\x0f\x0f", InvalidInputError, "is no whole ONNX file: byte"),
    "only a head": (lambda: b"\x08\x0a", InvalidInputError, "it holds no graph"),
    "no opset": (lambda: whole(RELU, opsets={"mine": 1}), InvalidInputError, "does not say which opset"),
    "a function that calls itself": (calling_itself, InvalidInputError, "functions call each other more than 32 deep"),
    "functions that multiply": (lambda: doubling(25), CaptureError, "its functions or loops multiply them"),
    "a branch on data": (branching, CaptureError, "node 'choice' (If): its condition decides its shape"),
    "a loop that data ends": (endless, CaptureError, "node 'again' (Loop): the condition that ends it"),
    "branches too deep": (lambda: nested(12), InvalidInputError, "graphs are nested more than 8 deep"),
    "branches deeper than a parser goes": (lambda: buried(400), InvalidInputError, "it cannot be parsed"),
    "a shape out of data": (
        lambda: whole(
            [node("Cast", "x", "i", to=INT64), node("Reshape", "x i", "y", "cut")], [port("x", ["batch"])]
        ),
        CaptureError,
        "node 'cut' (Reshape): the new shape decides its shape and is not known without data",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_file_is_one_line_with_the_place(what, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_trace, "MAX_STEPS", 2000)
    monkeypatch.setattr(onnx_file, "_MAX_DEPTH", 8)
    make, kind, expected = BAD[what]
    with pytest.raises(RigwiseError) as caught:
        captured(make(), tmp_path)
    assert isinstance(caught.value, kind), caught.value
    assert expected in str(caught.value)
    assert "net.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_line_says_it_in_one_line_and_caches_nothing(tmp_path):
    saved(whole(CYCLE), tmp_path)
    command = [sys.executable, "-m", "rigwise", "show", "net.onnx", "--task", "infer"]
    place = os.environ | {"RIGWISE_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(command, cwd=tmp_path, env=place, capture_output=True, encoding="utf-8", check=False)
    assert result.returncode == 2
    assert "is part of a cycle" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list((tmp_path / "cache").rglob("*.rwg"))


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01", b"hello", b"\x80\x04K\x01."], ids=["empty", "zeros", "text", "pickle"]
)
def test_what_is_no_onnx_file_is_not_opened_as_one(content, tmp_path):
    path = saved(content, tmp_path)
    with pytest.raises(InvalidInputError, match="but is no ONNX file"):
        load_model(str(path))


def test_too_many_nodes_are_counted_before_they_are_parsed(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_wire, "MAX_NODES", 100)
    monkeypatch.setattr(onnx_wire, "KEPT_BYTES", 16)
    chain = [node("Relu", "x" if i == 0 else f"v{i - 1}", f"v{i}") for i in range(101)]
    with pytest.raises(InvalidInputError, match="has over 100 nodes"):
        captured(whole(chain, outputs=[port("v100", None)]), tmp_path)


def test_too_many_operators_are_an_unrolled_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_trace, "MAX_OPS", 50)
    chain = [node("Relu", "x" if i == 0 else f"v{i - 1}", f"v{i}") for i in range(60)]
    with pytest.raises(CaptureError, match="has over 50 operators"):
        captured(whole(chain, outputs=[port("v59", None)]), tmp_path)


def refusal(content, folder):
    """What is said of a file, empty if it is understood."""
    try:
        captured(content, folder)
    except RigwiseError as error:
        return str(error)
    return ""


def test_names_that_are_no_text_are_one_line(tmp_path):
    content = whole([node("Relu", "x", "y", "first")]).SerializeToString()
    said = refusal(content.replace(b"first", b"fi\xff\xfet").replace(b"Relu", b"R\xfflu"), tmp_path)
    assert "is no operator that rigwise knows" in said
    assert said.isprintable()


def test_every_cut_of_a_file_is_one_line(tmp_path):
    """Wherever a download stops, what is left is refused or, if only a trailing field is gone, understood."""
    content = whole([node("MatMul", "x w", "y")], constants={"w": np.ones((8, 4), np.float32)}).SerializeToString()
    refused = 0
    for length in range(0, len(content), 3):
        said = refusal(content[:length], tmp_path)
        refused += bool(said)
        assert "\n" not in said
    assert refused > len(content) // 4


def test_damaged_bytes_are_one_line(tmp_path):
    """Every byte changed in turn: whatever comes of it, it is no traceback."""
    content = whole([node("Conv", "x w", "y", pads=[1, 1, 1, 1])], IMAGE, constants=KERNEL).SerializeToString()
    for place in (*range(0, 60), *range(len(content) - 120, len(content))):
        damaged = bytearray(content)
        damaged[place] ^= 0x15
        assert "\n" not in refusal(bytes(damaged), tmp_path)


CONVERTED = {
    "saved/saved_model.pb": "python -m tf2onnx.convert --saved-model",
    "frozen.pb": "python -m tf2onnx.convert --graphdef",
    "net.tflite": "python -m tf2onnx.convert --tflite",
    "net.h5": "format='onnx'",
    "net.keras": "format='onnx'",
}


@pytest.mark.parametrize("name", CONVERTED)
def test_models_of_tensorflow_name_the_command_that_converts_them(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(b"\x08\x01")
    for spec in (f"./{name}", "./saved") if "/" in name else (f"./{name}",):
        with pytest.raises(UnsupportedError) as caught:
            load_model(spec)
        assert CONVERTED[name] in caught.value.hint
        assert "\n" not in str(caught.value)
