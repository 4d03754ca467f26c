"""The bundled zoo: complete, small, counted in full, and what the script would write again."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from rigwise.graph.load import read_zoo, zoo_folder, zoo_names
from rigwise.graph.op import Kind, Phase, Role
from rigwise.graph.rwg import to_bytes

TOOLS = Path(__file__).parents[1] / "tools"

PROMISED = """
    alexnet vgg16 vgg19 googlenet resnet18 resnet34 resnet50 resnet101 resnet152 resnet200 vit-b-16 vit-l-16 bert-base
    bert-large gpt2 gpt2-medium gpt2-large gpt2-xl opt-1.3b llama-3.1-8b llama-3.1-70b llama-3.1-405b mixtral-8x7b
    whisper-small sd-1.5-unet sgemm dgemm lennard-jones
"""

#: Parameters that the makers publish, in millions, as exact as they say it.
PUBLISHED_MILLIONS = {
    "vgg16": (138.36, 0.01), "resnet50": (25.56, 0.01), "resnet152": (60.19, 0.01), "efficientnet-b0": (5.29, 0.01),
    "mobilenet-v2": (3.50, 0.01), "densenet121": (7.98, 0.01), "inception-v3": (23.83, 0.01), "swin-t": (28.3, 0.1),
    "vit-b-16": (86.6, 0.1), "bert-base": (110, 1), "gpt2-xl": (1558, 1), "gpt3-175b": (174_600, 100),
    "llama-3.1-8b": (8_030, 1), "llama-3.1-405b": (405_853, 1), "mixtral-8x7b": (46_700, 10),
    "deepseek-v3": (671_026, 1), "qwen3-235b-a22b": (235_094, 1), "sd-1.5-unet": (859.5, 0.1),
}  # fmt: skip

MODELS = {name: read_zoo(name) for name in zoo_names()}


def test_the_promised_models_are_there():
    assert set(PROMISED.split()) <= set(MODELS)
    assert len(MODELS) >= 60


def test_the_zoo_is_small():
    files = [f for f in zoo_folder().iterdir() if f.name.endswith(".rwg")]
    assert sum(len(f.read_bytes()) for f in files) < 3e6


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_complete(name):
    model = MODELS[name]
    assert model.name == name
    assert model.card.title
    assert model.card.source
    unknown = {op.name for graph in model.graphs.values() for op in graph.ops if op.kind is Kind.UNKNOWN}
    assert not unknown
    assert set(model.graphs) >= ({"infer", "train", "prefill", "decode"} if model.card.causal else {"infer"})
    if "train" in model.graphs:
        assert {op.phase for op in model.graphs["train"].ops} == {Phase.FORWARD, Phase.BACKWARD}


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if "train" in model.graphs])
def test_gradients_cover_the_trained_parameters(name):
    model = MODELS[name]
    graph = model.graphs["train"]
    made = sum(op.repeat * t.elements(graph.symbols) for op in graph.ops for t in op.outputs if t.role is Role.GRADIENT)
    trained = sum(p.elements for p in model.parameters if p.trainable)
    assert made == trained


@pytest.mark.parametrize("name", PUBLISHED_MILLIONS)
def test_parameters_are_as_published(name):
    millions, tolerance = PUBLISHED_MILLIONS[name]
    assert MODELS[name].parameter_count / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize("name", ["alexnet", "gpt2", "dlrm", "lennard-jones"])
def test_the_script_writes_the_same_file_again(name, monkeypatch):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    for package, captured in MODELS[name].captured_with.items():
        if _installed(package) != captured:
            pytest.skip(f"captured with {package} {captured}")
    monkeypatch.setattr(sys, "path", [str(TOOLS), *sys.path])
    import build_zoo

    assert to_bytes(build_zoo.build(name)) == zoo_folder().joinpath(f"{name}.rwg").read_bytes()


def _installed(package):
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return ""
