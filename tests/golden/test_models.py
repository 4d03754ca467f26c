"""Whole models against published figures and against formulas."""

import pytest

from rigwise.graph.count import causal_frac, work
from rigwise.graph.load import load_model
from rigwise.graph.op import Kind, Phase


def macs(name, task="infer", phase=None, **sizes):
    graph = load_model(name).graph(task)
    sizes = {**graph.symbols, **sizes}
    return sum(op.repeat * work(op, sizes).macs for op in graph.ops if phase in (None, op.phase))


#: Parameters as the makers, or the papers' reference implementations, count them.
PARAMETERS = {
    "alexnet": 61_100_840,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "mobilenet-v2": 3_504_872,
    "efficientnet-b0": 5_288_548,
    "convnext-tiny": 28_589_128,
    "vit-b-16": 86_567_656,
    "vit-l-16": 304_326_632,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "mixtral-8x7b": 46_702_792_704,
    "opt-1.3b": 1_315_758_080,
    "whisper-small": 241_734_912,
    "mamba-130m": 129_135_360,
    "mamba-2.8b": 2_768_345_600,
}

#: Multiply-adds of one image at 224 x 224 (GMACs), as the makers' model tables state them.
GMACS = {
    "alexnet": 0.71,
    "vgg16": 15.47,
    "vgg19": 19.63,
    # Szegedy et al. 2014, table 1: 1.502 G in all, of which 34 M for a first convolution of 118 M
    "googlenet": 1.502 - 0.034 + 7 * 7 * 3 * 64 * 112 * 112 / 1e9,
    "resnet18": 1.81,
    "resnet34": 3.66,
    "resnet50": 4.09,
    "resnet101": 7.80,
    "resnet152": 11.51,
    "mobilenet-v2": 0.30,
    "efficientnet-b0": 0.39,
    "convnext-tiny": 4.46,
    "vit-b-16": 17.56,
    "vit-l-16": 61.55,
}


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_are_those_published(name):
    assert load_model(name).parameter_count == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(GMACS))
def test_multiply_adds_are_those_published(name):
    assert macs(name, b=1, p=224) / 1e9 == pytest.approx(GMACS[name], rel=0.02)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b", "gpt2-xl", "opt-1.3b"])
def test_a_language_model_multiplies_every_weight_once_a_token_and_attends(name):
    """Forward: each matrix weight once a token, and two products of s x s x width a layer."""
    model = load_model(name)
    graph = model.graph("infer")
    sizes = {"b": 2, "s": 512}
    matrices = 0
    for op in graph.ops:
        if op.kind is Kind.GEMM:
            k, n = op.inputs[1].shape[-2:]
            matrices += op.repeat * k * n
    attention = next(op for op in graph.ops if op.kind is Kind.ATTENTION)
    _, heads, _, width = attention.inputs[0].shape
    expected = 2 * 512 * matrices + attention.repeat * 2 * (2 * heads * 512 * 512 * width)
    assert macs(name, **sizes) == expected
    assert matrices == pytest.approx(model.parameter_count, rel=0.1)


@pytest.mark.parametrize("name", ["gpt3-175b"])
def test_training_a_large_model_is_six_n_d(name):
    """Kaplan et al. 2020: 6 FLOP a parameter and token, attention apart."""
    model = load_model(name)
    graph = model.graph("train")
    tokens = 1 * 2048
    gemms = sum(op.repeat * work(op, {"b": 1, "s": 2048}).flops for op in graph.ops if op.kind is Kind.GEMM)
    assert gemms == pytest.approx(6 * model.parameter_count * tokens, rel=0.02)


@pytest.mark.parametrize("name", ["resnet50", "bert-base", "llama-3.1-8b"])
def test_backward_multiplies_twice_as_much_as_forward(name):
    forward = macs(name, "train", Phase.FORWARD)
    backward = macs(name, "train", Phase.BACKWARD)
    assert backward == pytest.approx(2 * forward, rel=0.06)


def test_decoding_one_token_costs_a_weight_each_and_reads_the_cache():
    model = load_model("llama-3.1-8b")
    graph = model.graph("decode")
    sizes = {"b": 1, "c": 4096}
    attention = next(op for op in graph.ops if op.kind is Kind.ATTENTION)
    layers, kv_heads, width, bytes_each = 32, 8, 128, 4
    cache = 2 * layers * kv_heads * width * (4096 + 1) * bytes_each
    assert attention.repeat == layers
    query = 32 * width * bytes_each
    assert attention.repeat * (work(attention, sizes).read_bytes - query) == cache
    assert causal_frac(attention, sizes) == 1
    assert macs("llama-3.1-8b", "decode", **sizes) == pytest.approx(7.5e9 + 2 * layers * 32 * width * 4097, rel=0.01)


def test_prefill_needs_logits_of_the_last_position_only():
    vocabulary, width = 128256, 4096
    saved = macs("llama-3.1-8b", "infer", b=1, s=1000) - macs("llama-3.1-8b", "prefill", b=1, s=1000)
    assert saved == 999 * vocabulary * width


def test_mixtral_multiplies_two_of_eight_experts():
    active = macs("mixtral-8x7b", b=1, s=1024) / 1024
    assert active == pytest.approx(12.75e9 + 2 * 32 * 4096 * 1024, rel=0.03)
