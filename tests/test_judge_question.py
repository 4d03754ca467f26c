"""What a measured row asks, and why some rows cannot be asked."""

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rigwise.calibrate.names import device_of, dtype_of, release_of, software_of
from rigwise.calibrate.question import measured_s, question, stated_parameters
from rigwise.calibrate.shelf import Shelf, check_same_network
from rigwise.errors import AmbiguousNameError, InvalidInputError, RigwiseError, UnknownNameError, UnsupportedError
from rigwise.graph.load import load_model
from rigwise.graph.rwg import write_model
from rigwise.measurement.measurement import Measurement

STEP = Measurement(
    source="lab",
    device="RTX 3090",
    device_variant="",
    count=1,
    model="resnet-50",
    task="infer",
    precision="amp_fp16",
    layout="nhwc",
    batch=256,
    shape="3x224x224",
    framework="PyTorch 2.4.0 cu124 eager",
    metric="samples_per_s",
    value=2000.0,
    notes="",
    where="lab.csv line 2",
)
GEMM = replace(
    STEP, model="op:gemm", task="fwd", precision="fp32", shape="M64 N32 K16", metric="ms_per_step", batch=None
)


def test_a_step_becomes_a_case() -> None:
    case = question(STEP).case
    assert (case.model, case.device, case.task, case.batch) == ("resnet50", "rtx-3090", "infer", 256)
    assert (case.dtype, case.layout, case.mode, case.image_size) == ("amp-fp16", "nhwc", "eager", 224)
    assert case.software.torch == "2.4"
    assert case.optimizer == "none"


@pytest.mark.parametrize(
    ("metric", "value", "seconds"),
    [
        ("ms_per_step", 128.0, 0.128),
        ("us_per_step", 5.0, 5e-6),
        ("s_per_step", 2.0, 2.0),
        ("samples_per_s", 512.0, 0.5),
    ],
)
def test_every_metric_becomes_seconds_of_a_step(metric: str, value: float, seconds: float) -> None:
    assert measured_s(replace(STEP, metric=metric, value=value)) == pytest.approx(seconds)


def test_tokens_per_second_count_whole_sequences() -> None:
    row = replace(STEP, model="gpt2", task="train", shape="1024", batch=8, metric="tokens_per_s", value=4096.0)
    assert measured_s(row) == 8 * 1024 / 4096
    assert measured_s(replace(row, task="decode")) == 8 / 4096
    with pytest.raises(InvalidInputError, match="sequence"):
        measured_s(replace(row, shape=""))


def test_a_batch_per_gpu_is_summed_and_fsdp_is_read() -> None:
    notes = "microbatch=2; shard=FULL_SHARD; act_ckpt=True; batch column is per GPU"
    row = replace(STEP, device="A100", device_variant="SXM4 80GB", model="gpt2", task="train", shape="1024")
    case = question(replace(row, count=16, batch=4, notes=notes, framework="X 1600 Gbps")).case
    assert (case.batch, case.count, case.nodes, case.recompute) == (64, 16, 2, "full")
    assert (case.parallel.zero, case.parallel.micro_batch, case.inter_node_gbps) == (3, 2, 1600.0)


def test_host_and_power_limit_are_read_from_the_notes() -> None:
    case = question(replace(STEP, notes="host=epyc-7742; power_limit_w=250")).case
    assert (case.host, case.power_limit_w) == ("epyc-7742", 250.0)


def test_a_copy_to_the_device_counts_where_it_is_a_small_part_of_the_time() -> None:
    row = replace(STEP, notes="timed region includes pageable H2D copy", batch=12, metric="ms_per_step")
    assert question(replace(row, value=25.0)).case.batch == 12  # 7.2 MB take 2.4 ms at 3 GB/s
    with pytest.raises(UnsupportedError, match="copying"):
        question(replace(row, value=24.0))
    with pytest.raises(UnsupportedError, match="copying"):
        question(replace(row, value=25.0, precision="fp64"))


def test_halves_of_a_step_are_told_apart() -> None:
    assert [question(replace(STEP, task=task)).part for task in ("fwd", "bwd", "train")] == [
        "forward",
        "backward",
        "step",
    ]
    assert question(replace(STEP, task="train")).case.optimizer == "momentum"
    assert question(replace(STEP, task="train", notes="no optimizer step")).case.optimizer == "none"


@pytest.mark.parametrize(
    ("change", "error", "word"),
    [
        ({"device": "RTX 3091"}, UnknownNameError, "rtx-3090"),
        ({"device": "RTX 3090 and T4"}, UnknownNameError, "RTX 3090 and T4"),
        ({"device": "A100"}, AmbiguousNameError, "a100-sxm4-80gb"),
        ({"model": "resnet51"}, UnknownNameError, "resnet50"),
        ({"model": "os:system"}, UnknownNameError, "os:system"),
        ({"model": "/etc/passwd"}, UnknownNameError, "passwd"),
        ({"model": "timm:../secret x"}, UnknownNameError, "secret"),
        ({"task": "dream"}, UnsupportedError, "infer"),
        ({"precision": "fp3"}, UnsupportedError, "fp3"),
        ({"layout": "upside-down"}, InvalidInputError, "nhwc"),
        ({"batch": None}, InvalidInputError, "batch"),
        ({"shape": "3x224x160"}, UnsupportedError, "square"),
        ({"shape": "seq ?", "model": "bert-large"}, InvalidInputError, "sequence length"),
        ({"notes": "timed region includes pageable H2D copy"}, UnsupportedError, "copying"),
        ({"notes": "timed region includes pageable H2D copy", "count": 2}, UnsupportedError, "DataParallel"),
        ({"source": "soumith-convnet", "framework": "Caffe"}, UnsupportedError, "kernels"),
    ],
)
def test_a_row_that_cannot_be_asked_says_why(change: dict, error: type[RigwiseError], word: str) -> None:
    with pytest.raises(error, match=word):
        question(replace(STEP, **change))


def test_a_product_becomes_an_operator() -> None:
    op = question(GEMM).op
    assert [t.shape for t in (*op.inputs, *op.outputs)] == [(64, 16), (16, 32), (64, 32)]
    assert question(replace(GEMM, shape="B8 M64 N32 K16")).op.outputs[0].shape == (8, 64, 32)
    assert question(replace(GEMM, model="op:linear", shape="B8 M64 N32 K16")).op.outputs[0].shape == (8 * 64, 32)
    assert question(replace(GEMM, source="neusight_ops")).op.outputs[0].shape == (64, 16)


@pytest.mark.parametrize(
    ("precision", "dtypes"),
    [
        ("bfloat16", ["bfloat16", "bfloat16", "bfloat16"]),
        ("int4_wo", ["bfloat16", "int4", "bfloat16"]),
        ("fp8", ["float8", "float8", "bfloat16"]),
        ("sq", ["int8", "int8", "bfloat16"]),
        ("int8", ["int8", "int8", "int8"]),
    ],
)
def test_operands_have_the_types_that_a_precision_says(precision: str, dtypes: list[str]) -> None:
    op = question(replace(GEMM, precision=precision)).op
    assert [t.dtype for t in (*op.inputs, *op.outputs)] == dtypes


def test_a_convolution_becomes_its_forward_and_both_gradients() -> None:
    shape = "w14 h12 c256 n8 k1024 r3 s1 pad1,0 str2,1"
    ops = {
        name: question(replace(GEMM, model=f"op:{name}", shape=shape)).op
        for name in ("conv", "conv_dgrad", "conv_wgrad")
    }
    x, w, y = (8, 256, 12, 14), (1024, 256, 3, 1), (8, 1024, 6, 14)
    shapes = {name: [t.shape for t in (*op.inputs, *op.outputs)] for name, op in ops.items()}
    assert shapes == {"conv": [x, w, y], "conv_dgrad": [y, w, x], "conv_wgrad": [y, x, w]}


def test_a_collective_states_its_message() -> None:
    row = replace(GEMM, model="op:all_reduce", count=8, precision="half", shape="message_size=1024 elements")
    assert question(row).message.message_bytes == 2048
    assert question(replace(row, shape="bytes=4096")).message.message_bytes == 4096
    with pytest.raises(InvalidInputError, match="1 device"):
        question(replace(row, count=1))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"model": "op:"}, "operator"),
        ({"model": "op:fft"}, "fft"),
        ({"shape": "M64 N32"}, "K"),
        ({"shape": "M64 N32 K0"}, "range"),
        ({"precision": "fp3"}, "fp3"),
        ({"count": 2}, "several devices"),
        ({"shape": f"M64 N32 K{10**500}"}, "range"),
        ({"model": "op:conv", "shape": "w1 h1 c1 n1 k1 r3 s3"}, "no output"),
        ({"model": "op:all_reduce", "count": 2, "shape": "7 doubles"}, "message_size"),
    ],
)
def test_an_operator_that_cannot_be_asked_says_why(change: dict, word: str) -> None:
    with pytest.raises(RigwiseError, match=word):
        question(replace(GEMM, **change))


CELLS = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"(op:)?(gemm|conv|softmax|all_reduce|resnet50)", fullmatch=True),
    st.from_regex(r"(w|h|c|n|k|r|s|M|N|K|B|H|pad|str)[0-9]{1,30}( (w|h|c|n|k|r|s|M|N|K|B|H|pad|str)[0-9]{1,3}){0,7}"),
    st.from_regex(r"(message_size=|bytes=|seq |3x)?[0-9]{1,400}(x[0-9]{1,20})?( elements)?"),
    st.from_regex(r"(PyTorch |cuDNN |NGC a-)[0-9]{1,30}(\.[0-9]{1,30})?"),
    st.from_regex(r"(microbatch|devices_per_node|n_params|params_M|optimizer|shard)=[0-9a-zA-Z.]{1,12}"),
)


@given(
    cells=st.fixed_dictionaries({}, optional=dict.fromkeys(("model", "shape", "framework", "notes", "layout"), CELLS))
)
@settings(max_examples=200, deadline=None)
def test_whatever_a_cell_holds_a_row_is_asked_or_refused(cells: dict) -> None:
    for row in (STEP, GEMM):
        stated_parameters(replace(row, **cells))
        with contextlib.suppress(RigwiseError):  # anything else is a traceback, and fails
            question(replace(row, **cells))


def test_names_of_software_and_devices() -> None:
    assert software_of("Torch7 cuDNN 5.1.05 CUDA 8.0").year == 2016
    assert software_of("PyTorch NGC pytorch-21.03").year == 2021
    assert software_of("Torch7 no cuDNN (torch/nn) CUDA 8.0").convolution == "plain"
    assert software_of("PyTorch 2.1.0 eager HF").attention == "math"
    assert release_of("PyTorch 2.1.0 cu121 eager") == "PyTorch 2.1"
    assert device_of("A100", "PCIe 40GB").id == "a100-pcie-40gb"
    assert device_of("Core i9-10940X", "whatever it says").kind == "cpu"
    assert dtype_of("fp32 (TF32 off)") == "fp32"


def test_a_folder_of_graphs_comes_before_the_zoo_and_timm(tmp_path) -> None:
    write_model(tmp_path / "mine.rwg", load_model("resnet18"))
    shelf = Shelf(tmp_path)
    asked = question(replace(STEP, model="mine"), shelf.names)
    assert shelf.model(asked.case.model).parameter_count == load_model("resnet18").parameter_count
    assert question(replace(STEP, source="timm", model="gernet_l")).case.model == "timm:gernet_l"
    assert shelf.model("timm:resnet50").name == "resnet50"
    with pytest.raises(UnknownNameError, match="--capture"):
        shelf.model("timm:gernet_l")


def test_a_shelf_needs_a_folder_with_graphs(tmp_path) -> None:
    with pytest.raises(InvalidInputError, match=r"no \.rwg"):
        Shelf(tmp_path)
    with pytest.raises(InvalidInputError, match="no folder"):
        Shelf(tmp_path / "absent")


def test_another_network_of_the_same_name_is_refused() -> None:
    model = load_model("resnet50")
    true_m = model.parameter_count / 1e6
    check_same_network(replace(STEP, notes=f"params_M={true_m:.2f}; gmacs=4.1"), model)
    check_same_network(replace(STEP, notes="no figure"), model)
    with pytest.raises(InvalidInputError, match="another network"):
        check_same_network(replace(STEP, notes=f"params_M={true_m * 1.02:.2f}"), model)
    assert stated_parameters(replace(STEP, notes="params_M=many")) is None
