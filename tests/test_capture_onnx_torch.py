"""The same model through PyTorch and through an ONNX file; shapes against a runtime that really runs."""

from __future__ import annotations

import logging
import warnings

import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytest.importorskip("transformers")

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.graph.capture.from_onnx.file import read_net
from rigwise.graph.capture.from_onnx.model import RULES, model
from rigwise.graph.capture.from_onnx.trace import Tracer
from rigwise.graph.capture.from_onnx.value import Value
from rigwise.graph.capture.from_torch import hf_config
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.count import work

onnx = pytest.importorskip("onnx")
torch = pytest.importorskip("torch")
TensorProto, helper, numpy_helper = onnx.TensorProto, onnx.helper, onnx.numpy_helper

BERT = {
    "model_type": "bert", "architectures": ["BertModel"], "vocab_size": 997, "hidden_size": 64, "num_hidden_layers": 3,
    "intermediate_size": 160, "num_attention_heads": 4,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "vocab_size": 997, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 6, "num_key_value_heads": 2, "use_cache": False,
}  # fmt: skip
RESNET = {
    "model_type": "resnet", "architectures": ["ResNetForImageClassification"], "embedding_size": 16,
    "hidden_sizes": [32, 64, 96, 128], "depths": [1, 1, 2, 1],
}  # fmt: skip


def flops(graph, sizes):
    return sum(op.repeat * float(work(op, sizes).flops) for op in graph.ops)


def exported(config, path, *, on_meta):
    """The file that PyTorch writes: without weights as it is traced, or with weights and its own rewriting."""
    from transformers import AutoConfig, BertModel, LlamaForCausalLM, ResNetForImageClassification

    kinds = {
        "bert": BertModel,
        "llama": LlamaForCausalLM,
        "resnet": ResNetForImageClassification,
    }
    options = {k: v for k, v in config.items() if k not in ("model_type", "architectures")}
    auto = torch.export.Dim.AUTO
    with torch.device("meta" if on_meta else "cpu"):
        module = kinds[config["model_type"]](AutoConfig.for_model(config["model_type"], **options)).eval()
        if config["model_type"] == "resnet":
            inputs = {"pixel_values": torch.zeros(2, 3, 64, 64)}
            free = {"pixel_values": {0: auto, 2: auto, 3: auto}}
        else:
            inputs = {"input_ids": torch.zeros(2, 16, dtype=torch.long)}
            free = {"input_ids": {0: auto, 1: auto}}
        logging.disable(logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module, (), kwargs=inputs, dynamo=True, optimize=not on_meta, dynamic_shapes=free, verbose=False
            )
        logging.disable(logging.NOTSET)
    if on_meta:
        path.write_bytes(without_data(program))
    else:
        program.save(str(path))
    return path


def without_data(program):
    """The file of a program whose weights are on no device: their names and shapes alone."""
    from onnx_ir import serde

    held = dict(program.model.graph.initializers.items())
    shapes = {name: tuple(value.const_value.shape) for name, value in held.items()}
    kinds = {name: int(value.const_value.dtype) for name, value in held.items()}
    small = {name: value.const_value.numpy() for name, value in held.items() if not is_meta(value.const_value)}
    for name in shapes:
        if name not in small:
            held[name].const_value = None
    proto = serde.serialize_model(program.model)
    del proto.graph.initializer[:]
    for name, shape in shapes.items():
        if name in small:
            proto.graph.initializer.append(numpy_helper.from_array(small[name], name))
        else:
            proto.graph.initializer.append(TensorProto(name=name, dims=shape, data_type=kinds[name]))
    return proto.SerializeToString()


def is_meta(tensor):
    raw = getattr(tensor, "raw", None)
    return getattr(getattr(raw, "device", None), "type", "") == "meta"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "on_meta", "sizes"),
    [
        (RESNET, False, {"b": 4, "p": 224}),
        (BERT, False, {"b": 4, "s": 128}),
        (LLAMA, True, {"b": 4, "s": 128}),
    ],
    ids=["resnet", "bert", "llama-without-weights"],
)
def test_a_file_costs_what_the_module_costs(config, on_meta, sizes, tmp_path):
    """FLOPs equal; parameters within 2 %, or 3 % where the exporter folds norms into convolutions of a tiny net."""
    path = exported(config, tmp_path / "net.onnx", on_meta=on_meta)
    net = model({"path": str(path), "where": "net.onnx", "name": "net"})
    with fake_tensors():
        whole = capture(hf_config.subject(config, name="net", where="config.json"))
    assert flops(net.graph("infer"), sizes) == pytest.approx(flops(whole.graph("infer"), sizes), rel=0.02)
    assert net.parameter_count == pytest.approx(whole.parameter_count, rel=0.03 if config is RESNET else 0.02)
    assert set(net.graph("infer").symbols) == set(sizes)
    assert any(op.repeat > 1 for op in net.graph("infer").ops) or config is RESNET
    assert not [op.name for op in net.graph("infer").ops if op.kind == "unknown"]
    trained, real = net.graph("train"), whole.graph("train")  # attention is written out, so not computed again
    assert flops(trained, sizes) == pytest.approx(flops(real, sizes), rel=0.06)
    assert not [op.name for op in trained.ops if op.kind == "unknown"]
    assert net.captured_with["train"] == "derived from infer"


# Random graphs, run for real.

SHAPE_ONLY = ("Relu", "Sigmoid", "Neg", "Identity")
WITH_AXIS = ("Softmax", "Flatten")


def settings_of(draw, op, size, constants, name):
    """Operands beside the first, which become constants, and attributes of one random node."""
    axis = draw(st.integers(0, len(size) - 1))
    attrs = {"axis": axis} if op in (*WITH_AXIS, "Gather") else {}
    arrays = []
    if op == "Transpose":
        attrs["perm"] = draw(st.permutations(range(len(size))))
    elif op == "ReduceMean":
        attrs |= {"axes": [axis], "keepdims": 1}
    elif op == "Unsqueeze":
        arrays = [np.array([axis])]
    elif op == "Slice":
        start = draw(st.integers(0, size[axis] - 1))
        arrays = [
            np.array([v])
            for v in (start, draw(st.integers(start + 1, start + 40)), axis, draw(st.sampled_from([1, 2])))
        ]
    elif op == "MatMul":
        arrays = [np.ones((size[-1], draw(st.integers(1, 4))), np.float32)]
    elif op == "Gather":
        arrays = [np.array(draw(st.lists(st.integers(0, size[axis] - 1), min_size=1, max_size=3)))]
    elif op == "Reshape":
        arrays = [np.array([*size[:axis], -1])]
    elif op == "Tile":
        arrays = [np.array([draw(st.integers(1, 2)) for _ in size])]
    elif op == "Add":
        arrays = [np.ones([draw(st.sampled_from([1, n])) for n in size], np.float32)]
    names = [f"{name}_{i}" for i in range(len(arrays))]
    constants |= dict(zip(names, arrays, strict=True))
    return names, attrs


@st.composite
def programs(draw):
    """A few standard operators in a row or in a bush, all on small tensors."""
    shape = tuple(draw(st.lists(st.integers(1, 5), min_size=2, max_size=4)))
    shapes, nodes, constants = {"x": shape}, [], {}
    others = ("Transpose", "ReduceMean", "Unsqueeze", "Slice", "MatMul", "Gather", "Reshape", "Tile", "Add")
    for index in range(draw(st.integers(1, 7))):
        source = draw(st.sampled_from(sorted(shapes)))
        op, name = draw(st.sampled_from((*SHAPE_ONLY, "Softmax", "Flatten", *others))), f"v{index}"
        if op == "Unsqueeze" and len(shapes[source]) > 4:
            continue
        names, attrs = settings_of(draw, op, shapes[source], constants, name)
        nodes.append(helper.make_node(op, [source, *names], [name], **attrs))
        known = onnx.shape_inference.infer_shapes(program(nodes, shape, [name], constants), data_prop=True)
        shapes[name] = tuple(d.dim_value for d in known.graph.output[0].type.tensor_type.shape.dim)
    made = [name for name in shapes if name != "x"]
    return (program(nodes, shape, made, constants), shape) if nodes else None


def program(nodes, shape, outputs, constants):
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    results = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in outputs]
    weights = [numpy_helper.from_array(array, n) for n, array in constants.items()]
    graph = helper.make_graph(nodes, "net", [x], results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@settings(max_examples=150, deadline=None)
@given(made=programs())
def test_shapes_are_those_of_a_runtime(made, tmp_path_factory):
    runtime = pytest.importorskip("onnxruntime")
    if made is None:
        return
    proto, shape = made
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    graph, results = Tracer(read_net(path, "net"), "net", RULES).run({"x": Value(shape, "float32")}, {})
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    real = session.run(None, {"x": np.zeros(shape, np.float32)})
    assert [value.shape for value in results] == [array.shape for array in real]
    assert all(work(op, {}).read_bytes >= 0 for op in graph.ops)
