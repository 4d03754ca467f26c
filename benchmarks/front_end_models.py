"""Models that ``bench_front_ends.py`` captures in several ways: configurations, and the same in JAX."""

from __future__ import annotations

from typing import Any

TEXT = {"vocab_size": 8192, "max_position_embeddings": 1024}
WIDE = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 6, "num_attention_heads": 8}
LLAMA = {**TEXT, **WIDE, "num_key_value_heads": 2, "tie_word_embeddings": False}
ENCODER = {**TEXT, **WIDE, "intermediate_size": 1024}

#: Name -> content of a ``config.json``.
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **LLAMA},
    "mistral": {"model_type": "mistral", "architectures": ["MistralForCausalLM"], **LLAMA, "sliding_window": None},
    "mixtral": {
        "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], **LLAMA, "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "qwen2": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], **LLAMA},
    "qwen3": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], **LLAMA, "head_dim": 32},
    "gemma": {
        "model_type": "gemma", "architectures": ["GemmaForCausalLM"], **LLAMA, "head_dim": 32,
        "tie_word_embeddings": True,
    },
    "phi3": {"model_type": "phi3", "architectures": ["Phi3ForCausalLM"], **LLAMA, "pad_token_id": 0},
    "gpt2": {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 8192, "n_positions": 1024,
        "n_embd": 256, "n_layer": 6, "n_head": 8,
    },
    "gpt-neox": {"model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], **TEXT, **WIDE},
    "opt": {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], **TEXT, "hidden_size": 256, "ffn_dim": 1024,
        "num_hidden_layers": 6, "num_attention_heads": 8, "word_embed_proj_dim": 256,
    },
    "bert": {"model_type": "bert", "architectures": ["BertForMaskedLM"], **ENCODER},
    "roberta": {"model_type": "roberta", "architectures": ["RobertaForMaskedLM"], **ENCODER, "type_vocab_size": 1},
    "t5": {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 8192, "d_model": 256,
        "d_ff": 1024, "d_kv": 32, "num_layers": 4, "num_heads": 8, "decoder_start_token_id": 0, "pad_token_id": 0,
    },
    "vit": {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 256,
        "num_hidden_layers": 6, "num_attention_heads": 8, "intermediate_size": 1024, "image_size": 224,
        "patch_size": 16,
    },
    "resnet": {"model_type": "resnet", "architectures": ["ResNetForImageClassification"], "num_labels": 1000},
}  # fmt: skip


def _built(name: str) -> Any:
    """The transformers model of a configuration."""
    import transformers

    config = CONFIGS[name]
    settings = {key: value for key, value in config.items() if key not in ("model_type", "architectures")}
    made = transformers.CONFIG_MAPPING[config["model_type"]](**settings)
    return getattr(transformers, config["architectures"][0])(made)


# Factories, as a user writes them.


def llama() -> Any:
    return _built("llama")


def gpt2() -> Any:
    return _built("gpt2")


def bert() -> Any:
    return _built("bert")


def resnet() -> Any:
    import torch

    return _built("resnet"), torch.zeros(2, 3, 224, 224)


def perceptron() -> Any:
    from torch import nn, zeros

    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)), zeros(
        2, 784
    )


def perceptron_jax() -> Any:
    import jax
    from flax import linen

    net = linen.Sequential([linen.Dense(512), jax.nn.relu, linen.Dense(512), jax.nn.relu, linen.Dense(10)])
    return net, jax.ShapeDtypeStruct((2, 784), "float32")


def convolutions(image_size: int = 64) -> Any:
    from torch import nn, zeros

    layers: list[Any] = []
    for inside, outside in ((3, 32), (32, 64), (64, 128)):
        layers += [nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10)), zeros(
        2, 3, image_size, image_size
    )


def convolutions_jax(image_size: int = 64) -> Any:
    import jax
    from flax import linen

    layers: list[Any] = []
    for outside in (32, 64, 128):
        layers += [linen.Conv(outside, (3, 3), strides=2, padding=1), jax.nn.relu]
    net = linen.Sequential([*layers, lambda x: x.mean((1, 2)), linen.Dense(10)])
    return net, jax.ShapeDtypeStruct((2, image_size, image_size, 3), "float32")


def blocks(seq: int = 128) -> Any:
    import torch
    from torch import nn

    layer = nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0, batch_first=True, norm_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), torch.zeros(2, seq, 256)


def blocks_jax(seq: int = 128) -> Any:
    import jax
    from flax import linen

    class Block(linen.Module):
        @linen.compact
        def __call__(self, x: Any) -> Any:
            x = x + linen.MultiHeadDotProductAttention(num_heads=8)(linen.LayerNorm()(x))
            inner = linen.Dense(1024)(linen.LayerNorm()(x))
            return x + linen.Dense(256)(jax.nn.relu(inner))

    return linen.Sequential([Block() for _ in range(4)]), jax.ShapeDtypeStruct((2, seq, 256), "float32")


# Files, as a user's training script writes them.


def write(name: str, kind: str, path: str) -> None:
    """Write the model ``name`` as an ONNX file or as an exported program, with sizes free."""
    import torch

    module = _built(name).eval()
    pictures = "image_size" in CONFIGS[name] or name == "resnet"
    batch = torch.export.Dim("batch", min=2, max=512)
    if pictures:
        arguments: dict[str, Any] = {"pixel_values": torch.zeros(2, 3, 224, 224)}
        free: dict[str, Any] = {"pixel_values": {0: batch}}
    else:
        arguments = {"input_ids": torch.zeros(2, 24, dtype=torch.long)}
        free = {"input_ids": {0: batch, 1: torch.export.Dim("seq", min=2, max=1023)}}
        if "CausalLM" in CONFIGS[name]["architectures"][0] or name == "gpt2":
            arguments["use_cache"], free["use_cache"] = False, None
    if kind == "exported":
        torch.export.save(torch.export.export(module, (), arguments, dynamic_shapes=free, strict=False), path)
    else:
        torch.onnx.export(
            module, (), path, kwargs=arguments, dynamic_shapes=free, dynamo=True, optimize=False, external_data=False,
            verbose=False,
        )  # fmt: skip
