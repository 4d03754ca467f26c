"""Captured graphs against fresh traces, against hand counts and against PyTorch's own counter."""

from __future__ import annotations

import importlib.util
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rigwise.errors import CaptureError, InvalidInputError
from rigwise.graph.capture.fold import fold
from rigwise.graph.capture.from_torch import hf_config
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import BuildingModules, fake_tensors
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.from_torch.trace import trace
from rigwise.graph.capture.subject import Subject
from rigwise.graph.capture.symbolic import difference, evaluate
from rigwise.graph.count import work
from rigwise.graph.graph import Card
from rigwise.graph.op import Kind, Phase, Role

torch = pytest.importorskip("torch")

REPOSITORY = Path(__file__).parents[1]

LLAMA = {
    "model_type": "llama", "vocab_size": 997, "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 6,
    "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 4096,
}  # fmt: skip
MIXTRAL = LLAMA | {"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
BERT = {
    "model_type": "bert", "architectures": ["BertForMaskedLM"], "vocab_size": 997, "hidden_size": 64,
    "intermediate_size": 160, "num_hidden_layers": 6, "num_attention_heads": 4, "max_position_embeddings": 512,
}  # fmt: skip
GEMMA2 = LLAMA | {"model_type": "gemma2", "head_dim": 16, "num_hidden_layers": 10, "sliding_window": 32}
T5 = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 997, "d_model": 64, "d_ff": 160,
    "d_kv": 16, "num_layers": 6, "num_heads": 4, "decoder_start_token_id": 0, "pad_token_id": 0,
}  # fmt: skip


def language(config):
    return hf_config.subject(config, name=config["model_type"], where="config.json")


@cache
def captured(model_type):
    """The captured model, once for all tests."""
    config = {c["model_type"]: c for c in (LLAMA, MIXTRAL, BERT, GEMMA2, T5)}[model_type]
    with fake_tensors():
        return capture(language(config))


def images(module, side=64):
    """A subject of images of any side, with the stand-in loss."""

    def inputs(_task, sizes):
        return (torch.empty(sizes["b"], 3, sizes["p"], sizes["p"]),)

    symbols = {task: {"b": 4, "p": side} for task in ("train", "infer")}
    return Subject(name="net", module=module, inputs=inputs, loss=own_loss, symbols=symbols, card=Card(title="net"))


def plain(module, *shape):
    """A subject whose only symbol is the batch."""

    def inputs(_task, sizes):
        return (torch.empty(sizes["b"], *shape),)

    symbols = {task: {"b": 4} for task in ("train", "infer")}
    return Subject(name="net", module=module, inputs=inputs, loss=own_loss, symbols=symbols, card=Card(title="net"))


def resnet(depths, **options):
    spec = importlib.util.spec_from_file_location("zoo_resnet", REPOSITORY / "tools" / "zoo" / "resnet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ResNet(depths, **options)


def test_an_image_network_predicts_a_size_it_was_not_traced_at():
    with fake_tensors():
        subject = images(resnet((2, 2, 2, 2), deep=False))
        model = capture(subject)
        sizes = {"b": 9, "p": 199}
        for task in ("train", "infer"):
            fresh = fold(trace(subject, task, sizes))
            assert difference(evaluate(model.graphs[task], sizes), fresh) == ""


@pytest.mark.parametrize("config", [LLAMA, MIXTRAL, BERT, GEMMA2, T5], ids=lambda c: c["model_type"])
def test_a_language_model_predicts_sizes_it_was_not_traced_at(config):
    sizes = {"b": 6, "s": 200, "c": 121}
    model = captured(config["model_type"])
    with fake_tensors():
        subject = language(config)
        assert set(model.graphs) == set(subject.symbols)
        for task, graph in model.graphs.items():
            own = {symbol: sizes[symbol] for symbol in graph.symbols}
            assert difference(evaluate(graph, own), fold(trace(subject, task, own))) == ""


@pytest.mark.parametrize("config", [LLAMA, GEMMA2, T5], ids=lambda c: c["model_type"])
def test_a_stack_cut_short_gives_the_same_graph_as_all_its_layers(config):
    with fake_tensors():
        assert captured(config["model_type"]) == capture(language(config), whole=True)


def test_layers_that_differ_are_not_taken_for_equal():
    config = LLAMA | {"model_type": "deepseek_v3", "num_key_value_heads": 6, "moe_intermediate_size": 32,
                      "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
                      "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
                      "v_head_dim": 16, "first_k_dense_replace": 2, "num_hidden_layers": 9}  # fmt: skip
    with fake_tensors():
        graph = capture(language(config)).graphs["infer"]
    assert {op.repeat for op in graph.ops if op.name == "rigwise.attention"} == {2, 7}
    assert {op.repeat for op in graph.ops if op.name == "aten._grouped_mm"} == {7}


def test_attention_keeps_its_own_key_heads_and_says_what_is_causal():
    llama, bert = captured("llama"), captured("bert")
    (decoder,) = (op for op in llama.graphs["train"].ops if op.name == "rigwise.attention")
    assert [str(size) for size in decoder.inputs[0].shape] == ["b", "6", "s", "16"]
    assert [str(size) for size in decoder.inputs[1].shape] == ["b", "2", "s", "16"]
    assert (decoder.attrs["causal"], decoder.repeat) == (True, 6)
    (encoder,) = (op for op in bert.graphs["train"].ops if op.name == "rigwise.attention")
    assert (encoder.attrs["causal"], encoder.attrs["dropout"]) == (False, 0.1)
    (encoder,) = (op for op in bert.graphs["infer"].ops if op.name == "rigwise.attention")
    assert encoder.attrs["dropout"] == 0.0


def test_local_and_global_layers_keep_their_windows():
    ops = captured("gemma2").graphs["infer"].ops
    assert [(o.attrs["window"], o.repeat) for o in ops if o.name == "rigwise.attention"] == [(32, 5), (0, 5)]


def test_one_decoded_token_writes_only_its_own_keys():
    graph = captured("llama").graphs["decode"]
    (attention,) = (op for op in graph.ops if op.name == "rigwise.attention")
    assert [str(size) for size in attention.inputs[1].shape] == ["b", "2", "c+1", "16"]
    assert {t.role for t in attention.inputs[1:3]} == {Role.CACHE}
    written = [t for op in graph.ops for t in op.outputs if t.role is Role.CACHE]
    assert [[str(size) for size in t.shape] for t in written] == [["b", "2", "1", "16"]] * 2


def test_prefill_scores_the_last_position_only():
    model = captured("llama")
    for task, rows in (("prefill", "b"), ("infer", "b*s")):
        head = [op for op in model.graphs[task].ops if op.module == "lm_head"]
        assert [[str(size) for size in op.outputs[0].shape] for op in head] == [[rows, "997"]]


def test_what_is_saved_for_the_backward_pass_of_a_small_net():
    with fake_tensors():
        net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))
        graph = capture(plain(net, 8)).graphs["train"]
    saved = [t for op in graph.phase(Phase.FORWARD) for t in op.outputs if t.saved]
    batch = 10
    # ReLU keeps its result, which the second layer needs too; the squared loss keeps the output.
    assert sum(t.elements({"b": batch}) for t in saved) == batch * 16 + batch * 4


def test_a_result_overwritten_in_place_is_saved_once():
    with fake_tensors():
        net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(inplace=True))
        graph = capture(images(net)).graphs["train"]
    saved = [(op.name, [t.saved for t in op.outputs]) for op in graph.ops if any(t.saved for t in op.outputs)]
    assert saved == [
        ("aten.convolution", [True]),  # input of the normalisation
        ("aten.native_batch_norm", [False, True, True]),  # its mean and deviation, not its result
        ("aten.relu_", [True]),
    ]


def test_every_parameter_gets_one_gradient():
    model = captured("llama")
    gradients = Counter(
        tuple(t.shape)
        for op in model.graphs["train"].ops
        for t in op.outputs
        if t.role is Role.GRADIENT
        for _ in range(op.repeat)
    )
    elements = sum(torch.Size(shape).numel() * n for shape, n in gradients.items())
    assert elements == model.parameter_count


def test_backward_operators_belong_to_the_module_of_their_forward():
    ops = list(captured("llama").graphs["train"].phase(Phase.BACKWARD))
    gemms = Counter(op.module for op in ops if op.kind is Kind.GEMM)
    assert gemms["model.layers.*.mlp.up_proj"] == gemms["model.layers.*.self_attn.k_proj"] == gemms["lm_head"] == 2


def test_flops_of_a_residual_network_are_those_of_pytorchs_counter():
    from torch.utils.flop_counter import FlopCounterMode

    with fake_tensors():
        subject = images(resnet((1, 1, 1, 1), deep=True))
        graph = capture(subject).graphs["train"]
        module, batch = subject.module.train(), torch.empty(4, 3, 96, 96)
        with FlopCounterMode(display=False) as counter:
            own_loss(module(batch)).backward()
    ours = sum(op.repeat * work(op, {"b": 4, "p": 96}).flops for op in graph.ops)
    assert ours == counter.get_total_flops()


def test_flops_of_a_language_model_are_six_per_weight_and_token_besides_attention():
    sizes = {"b": 3, "s": 50}
    model = captured("llama")
    gemms = [op for op in model.graphs["train"].ops if op.kind is Kind.GEMM]
    weights = sum(p.elements for p in model.parameters if len(p.shape) == 2 and "embed" not in p.name)
    assert sum(op.repeat * work(op, sizes).flops for op in gemms) == 6 * weights * sizes["b"] * sizes["s"]


def test_experts_compute_for_the_tokens_sent_to_them():
    sizes = {"b": 3, "s": 50}
    ops = captured("mixtral").graphs["infer"].ops
    flops = sum(op.repeat * work(op, sizes).flops for op in ops if op.name == "aten._grouped_mm")
    tokens = sizes["b"] * sizes["s"] * MIXTRAL["num_experts_per_tok"]
    expert = 3 * MIXTRAL["hidden_size"] * MIXTRAL["intermediate_size"]
    assert flops == 2 * tokens * expert * MIXTRAL["num_hidden_layers"]


def test_an_lstm_is_one_operator_for_each_layer_and_direction():
    with fake_tensors():
        net = torch.nn.LSTM(12, 20, num_layers=2, bidirectional=True, batch_first=True)
        graph = capture(plain(net, 30, 12)).graphs["train"]
    forward = [op for op in graph.ops if op.name == "rigwise.recurrent"]
    macs = sum(4 * 20 * (width + 20) for width in (12, 12, 40, 40))
    assert sum(work(op, {"b": 4}).macs for op in forward) == 4 * 30 * macs
    backward = [op for op in graph.ops if op.name.startswith("rigwise.recurrent_")]
    assert sum(work(op, {"b": 4}).macs for op in backward) == 2 * 4 * 30 * macs


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")  # deepcopy of the layer
def test_attention_modules_of_pytorch_stay_whole():
    with fake_tensors():
        layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        graphs = capture(plain(torch.nn.TransformerEncoder(layer, 6, enable_nested_tensor=False), 10, 32)).graphs
    for task, graph in graphs.items():
        assert sum(op.repeat for op in graph.ops if op.name == "rigwise.attention") == 6, task
        assert not [op for op in graph.ops if op.kind is Kind.UNKNOWN], task
        weights = [op.inputs[1].role for op in graph.phase(Phase.FORWARD) if op.kind is Kind.GEMM]
        assert set(weights) == {Role.PARAMETER}


def test_dropout_is_one_operator_that_keeps_a_mask_of_bytes():
    with fake_tensors():
        ops = capture(plain(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.3)), 8)).graphs["train"].ops
    (dropout,) = (op for op in ops if op.name == "aten.native_dropout")
    assert [(t.dtype, t.saved) for t in dropout.outputs] == [("float32", True), ("bool", True)]
    assert dropout.attrs["p"] == 0.3


def test_drop_rates_made_with_linspace_have_values():
    with fake_tensors(), BuildingModules():
        assert [x.item() for x in torch.linspace(0, 0.3, 4)] == pytest.approx([0, 0.1, 0.2, 0.3])
        assert [len(x) for x in torch.linspace(0, 1, 5).split([2, 3])] == [2, 3]


def test_a_size_that_cannot_vary_is_fixed_and_said():
    config = {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 32, "num_hidden_layers": 6,
        "num_attention_heads": 2, "intermediate_size": 64, "image_size": 48, "patch_size": 16,
    }  # fmt: skip
    with fake_tensors():
        model = capture(language(config))
    assert dict(model.graphs["train"].symbols) == {"b": 8}
    assert "image side fixed at 48" in model.card.assumed


def test_parameters_are_folded_and_complete():
    model = captured("bert")
    names = {p.name: (p.shape, p.count) for p in model.parameters}
    assert names["bert.encoder.layer.*.attention.self.query.weight"] == ((64, 64), 6)
    h, i, v, n = 64, 160, 997, 6
    embeddings = (v + 512 + 2) * h + 2 * h
    layer = 4 * (h * h + h) + 2 * (2 * h) + (h * i + i) + (i * h + h)
    head = h * h + h + 2 * h + v  # its matrix is that of the embeddings
    assert model.parameter_count == embeddings + n * layer + head


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"hidden_size": -4}, InvalidInputError, "hidden_size is -4"),
        ({"hidden_size": "96"}, InvalidInputError, "hidden_size is '96'"),
        ({"hidden_size": None}, CaptureError, "hidden_size"),
        ({"vocab_size": 10**12}, InvalidInputError, "vocab_size is 1000000000000"),
        ({"num_hidden_layers": 10**6}, InvalidInputError, "num_hidden_layers is 1000000"),
        ({"num_attention_heads": 0}, InvalidInputError, "num_attention_heads is 0"),
        ({"num_key_value_heads": 4}, CaptureError, "6 query heads do not divide over 4"),
        ({"hidden_size": 95}, CaptureError, "cannot build LlamaForCausalLM"),
        ({"model_type": "llamma"}, CaptureError, "did you mean llama"),
        ({"model_type": None}, InvalidInputError, "model_type is missing"),
        ({"architectures": ["LlamaForCausalLm"]}, CaptureError, "did you mean .*LlamaForCausalLM"),
        ({"architectures": ["nn"]}, CaptureError, "architectures names 'nn'"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused_with_file_and_key(change, error, words):
    with fake_tensors(), pytest.raises(error, match=words) as caught:
        capture(hf_config.subject(LLAMA | change, name="x", where="some/config.json"))
    assert "config.json" in str(caught.value) or "heads" in str(caught.value)


def test_the_usual_head_is_taken_where_none_is_named():
    with fake_tensors():
        heads = [
            hf_config.subject(c | {"architectures": None}, name="x", where="x").card.title for c in (LLAMA, BERT, T5)
        ]
    assert heads == ["LlamaForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration"]


def test_a_loop_over_tokens_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr("rigwise.graph.capture.from_torch.trace.MAX_OPS", 200)

    class Loop(torch.nn.Linear):
        def forward(self, x):
            while True:
                x = super().forward(x)

    with fake_tensors(), pytest.raises(CaptureError, match="unrolls a loop into more operators"):
        capture(plain(Loop(8, 8), 8))


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_missing_size_is_not_filled_with_some_models_own(key):
    config = {k: v for k, v in LLAMA.items() if k != key}
    with fake_tensors(), pytest.raises(InvalidInputError, match=f"config.json: {key} is missing"):
        language(config)


def test_keys_that_nobody_knows_are_named():
    with fake_tensors():
        plain = language(LLAMA).card.assumed
        odd = language(LLAMA | {"frobnicate": 3, "hiden_act": "relu"}).card.assumed
    assert not any("ignored" in note for note in plain)
    (note,) = set(odd) - set(plain)
    assert note == "keys that transformers does not know are ignored: frobnicate, hiden_act"


def test_fake_tensors_inside_fake_tensors_leave_no_trace():
    from torch._subclasses.fake_tensor import FakeTensor

    with fake_tensors():
        with fake_tensors():
            pass
        assert "__deepcopy__" in vars(FakeTensor)
    assert "__deepcopy__" not in vars(FakeTensor)
