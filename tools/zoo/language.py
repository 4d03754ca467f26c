"""Shapes of transformers whose architecture the transformers library has: language, speech, vision.

Each entry is the part of a ``config.json`` that decides shapes. Weights are never needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """One entry.

    Attributes:
        title: The model as its makers call it.
        source: The repository whose ``config.json`` or the paper whose table has these numbers.
        config: The configuration.
        family: For filters.
        reference_batch: Batch that ``plan`` assumes where a job gives none.
        assumed: What a reader should know besides.
    """

    title: str
    source: str
    config: Mapping[str, Any]
    family: str
    reference_batch: int = 8
    assumed: tuple[str, ...] = field(default=())


def _decoder(kind: str, head: str, width: int, inner: int, layers: int, heads: tuple[int, int], **more: Any) -> dict:
    """A decoder in the naming of Llama, which most later ones share; ``heads`` are query and key-value heads."""
    return {
        "model_type": kind,
        "architectures": [f"{head}ForCausalLM"],
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        **more,
    }


def _llama(width: int, inner: int, layers: int, heads: tuple[int, int], **more: Any) -> dict:
    return _decoder("llama", "Llama", width, inner, layers, heads, **more)


def _gpt2(width: int, layers: int, heads: int, positions: int = 1024) -> dict:
    return {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257, "n_embd": width,
        "n_layer": layers, "n_head": heads, "n_positions": positions,
    }  # fmt: skip


#: Width, layers and heads.
_MPT = {
    "125m": (768, 12, 12), "350m": (1024, 24, 16), "760m": (1536, 24, 12), "1b": (2048, 24, 16), "3b": (2560, 32, 20),
    "7b": (4096, 32, 32), "13b": (5120, 40, 40), "30b": (7168, 48, 56), "70b": (8192, 80, 64),
}  # fmt: skip


def _mpt(width: int, layers: int, heads: int) -> dict:
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0)
    plain = _gpt2(width, layers, heads, 65536)
    return {**plain, "vocab_size": 50368, "activation_function": "gelu", **dropouts}


def _opt(width: int, layers: int, heads: int) -> dict:
    return {
        "model_type": "opt", "architectures": ["OPTForCausalLM"], "vocab_size": 50272, "hidden_size": width,
        "word_embed_proj_dim": width, "ffn_dim": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "max_position_embeddings": 2048,
    }  # fmt: skip


def _neox(width: int, layers: int, heads: int, vocabulary: int, **more: Any) -> dict:
    return {
        "model_type": "gpt_neox", "architectures": ["GPTNeoXForCausalLM"], "vocab_size": vocabulary,
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, **more,
    }  # fmt: skip


def _mamba(width: int, layers: int) -> dict:
    return {
        "model_type": "mamba", "architectures": ["MambaForCausalLM"], "vocab_size": 50280, "hidden_size": width,
        "num_hidden_layers": layers, "state_size": 16, "conv_kernel": 4, "expand": 2, "time_step_rank": width // 16,
    }  # fmt: skip


def _bert(kind: str, head: str, width: int, layers: int, vocabulary: int, positions: int) -> dict:
    return {
        "model_type": kind, "architectures": [f"{head}ForMaskedLM"], "vocab_size": vocabulary, "hidden_size": width,
        "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": width // 64,
        "max_position_embeddings": positions,
    }  # fmt: skip


def _t5(width: int, inner: int, layers: int, heads: int) -> dict:
    return {
        "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 32128, "d_model": width,
        "d_ff": inner, "d_kv": 64, "num_layers": layers, "num_heads": heads, "decoder_start_token_id": 0,
        "pad_token_id": 0,
    }  # fmt: skip


def _whisper(width: int, layers: tuple[int, int], bins: int = 80, vocabulary: int = 51865) -> dict:
    return {
        "model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"], "vocab_size": vocabulary,
        "num_mel_bins": bins, "d_model": width, "encoder_layers": layers[0], "decoder_layers": layers[1],
        "encoder_attention_heads": width // 64, "decoder_attention_heads": width // 64,
        "encoder_ffn_dim": 4 * width, "decoder_ffn_dim": 4 * width,
    }  # fmt: skip


def _vit(width: int, layers: int, heads: int) -> dict:
    return {
        "model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": width,
        "intermediate_size": 4 * width, "num_hidden_layers": layers, "num_attention_heads": heads, "image_size": 224,
        "patch_size": 16, "num_labels": 1000,
    }  # fmt: skip


def _clip(text: tuple[int, int], vision: tuple[int, int], patch: int, joint: int) -> dict:
    def tower(width: int, layers: int) -> dict:
        return {
            "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
        }  # fmt: skip

    return {
        "model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": joint,
        "text_config": {**tower(*text), "vocab_size": 49408, "max_position_embeddings": 77, "projection_dim": joint},
        "vision_config": {**tower(*vision), "image_size": 224, "patch_size": patch, "projection_dim": joint},
    }  # fmt: skip


def _convnext(depths: list[int], widths: list[int]) -> dict:
    return {
        "model_type": "convnext", "architectures": ["ConvNextForImageClassification"], "depths": depths,
        "hidden_sizes": widths, "num_stages": 4, "image_size": 224, "num_labels": 1000,
    }  # fmt: skip


_GPT2, _OPT, _BERT = (
    "Radford et al. 2019, Language Models are Unsupervised Multitask Learners, table 2",
    "arXiv:2205.01068, table 1",
    "arXiv:1810.04805, section 3",
)
_ROBERTA = "arXiv:1907.11692, section 3"
_L2, _L3 = "arXiv:2307.09288, table 1", "arXiv:2407.21783, table 3"
_LLAMA3 = {"vocab_size": 128256, "rope_theta": 500000.0, "max_position_embeddings": 131072}
_QWEN2 = {"vocab_size": 152064, "rope_theta": 1e6, "max_position_embeddings": 32768}
_QWEN3 = {"vocab_size": 151936, "head_dim": 128, "rope_theta": 1e6, "max_position_embeddings": 40960}
_QWEN3_MOE = _QWEN3 | {"num_experts": 128, "num_experts_per_tok": 8, "norm_topk_prob": True}
_GEMMA = {"vocab_size": 256000, "head_dim": 256, "max_position_embeddings": 8192}
_MIXTRAL = {"vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2, "rope_theta": 1e6}
_DEEPSEEK = {
    "vocab_size": 129280, "moe_intermediate_size": 2048, "q_lora_rank": 1536, "kv_lora_rank": 512,
    "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "n_routed_experts": 256,
    "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4, "n_shared_experts": 1, "first_k_dense_replace": 3,
}  # fmt: skip
_NO_LATENT = "the cache holds keys and values of all heads, not their latent form"


_FAMILIES = {
    "qwen2": "qwen", "qwen3": "qwen", "qwen3_moe": "qwen", "gemma2": "gemma", "gpt_neox": "neox",
    "deepseek_v3": "deepseek",
}  # fmt: skip


def _entry(title: str, source: str, config: dict, batch: int = 8, assumed: tuple[str, ...] = ()) -> Shape:
    family = _FAMILIES.get(config["model_type"], config["model_type"])
    return Shape(
        title=title, source=source, config=config, family=family, reference_batch=batch, assumed=tuple(assumed)
    )


SHAPES: Mapping[str, Shape] = {
    "gpt2": _entry("GPT-2 small", _GPT2, _gpt2(768, 12, 12)),
    "gpt2-medium": _entry("GPT-2 medium", _GPT2, _gpt2(1024, 24, 16)),
    "gpt2-large": _entry("GPT-2 large", _GPT2, _gpt2(1280, 36, 20)),
    "gpt2-xl": _entry("GPT-2 XL", _GPT2, _gpt2(1600, 48, 25)),
    "gpt3-175b": _entry(
        "GPT-3 175B",
        "arXiv:2005.14165, table 2.1",
        _gpt2(12288, 96, 96, 2048),
        assumed=("all layers attend densely; the paper alternates with locally banded ones",),
    ),
    **{
        f"mpt-{size}": _entry(
            f"MPT {size} of llm-foundry's benchmarks",
            "llm-foundry, scripts/train/benchmarking: parameter counts are those of GPT-2 with learned positions",
            _mpt(*shape),
            assumed=("learned positions for up to 65,536 tokens",),
        )
        for size, shape in _MPT.items()
    },
    "opt-125m": _entry("OPT 125M", _OPT, _opt(768, 12, 12)),
    "opt-1.3b": _entry("OPT 1.3B", _OPT, _opt(2048, 24, 32)),
    "opt-6.7b": _entry("OPT 6.7B", _OPT, _opt(4096, 32, 32)),
    "opt-13b": _entry("OPT 13B", _OPT, _opt(5120, 40, 40)),
    "opt-30b": _entry("OPT 30B", _OPT, _opt(7168, 48, 56)),
    "opt-66b": _entry("OPT 66B", _OPT, _opt(9216, 64, 72)),
    "llama-2-7b": _entry("Llama 2 7B", _L2, _llama(4096, 11008, 32, (32, 32), vocab_size=32000)),
    "llama-2-13b": _entry("Llama 2 13B", _L2, _llama(5120, 13824, 40, (40, 40), vocab_size=32000)),
    "llama-2-70b": _entry("Llama 2 70B", _L2, _llama(8192, 28672, 80, (64, 8), vocab_size=32000)),
    "llama-3.1-8b": _entry("Llama 3.1 8B", _L3, _llama(4096, 14336, 32, (32, 8), **_LLAMA3)),
    "llama-3.1-70b": _entry("Llama 3.1 70B", _L3, _llama(8192, 28672, 80, (64, 8), **_LLAMA3)),
    "llama-3.1-405b": _entry("Llama 3.1 405B", _L3, _llama(16384, 53248, 126, (128, 8), **_LLAMA3)),
    "llama-3.2-1b": _entry(
        "Llama 3.2 1B",
        "config.json of meta-llama/Llama-3.2-1B",
        _llama(2048, 8192, 16, (32, 8), head_dim=64, tie_word_embeddings=True, **_LLAMA3),
    ),
    "llama-3.2-3b": _entry(
        "Llama 3.2 3B",
        "config.json of meta-llama/Llama-3.2-3B",
        _llama(3072, 8192, 28, (24, 8), head_dim=128, tie_word_embeddings=True, **_LLAMA3),
    ),
    "mistral-7b": _entry(
        "Mistral 7B v0.1",
        "arXiv:2310.06825, table 1",
        _decoder("mistral", "Mistral", 4096, 14336, 32, (32, 8), vocab_size=32000, sliding_window=4096),
    ),
    "mixtral-8x7b": _entry(
        "Mixtral 8x7B",
        "arXiv:2401.04088, table 1",
        _decoder("mixtral", "Mixtral", 4096, 14336, 32, (32, 8), **_MIXTRAL),
    ),
    "mixtral-8x22b": _entry(
        "Mixtral 8x22B",
        "config.json of mistralai/Mixtral-8x22B-v0.1",
        _decoder("mixtral", "Mixtral", 6144, 16384, 56, (48, 8), **_MIXTRAL),
    ),
    "qwen2.5-0.5b": _entry(
        "Qwen2.5 0.5B",
        "arXiv:2412.15115, table 1",
        _decoder(
            "qwen2", "Qwen2", 896, 4864, 24, (14, 2), **_QWEN2 | {"vocab_size": 151936, "tie_word_embeddings": True}
        ),
    ),
    "qwen2.5-7b": _entry(
        "Qwen2.5 7B", "arXiv:2412.15115, table 1", _decoder("qwen2", "Qwen2", 3584, 18944, 28, (28, 4), **_QWEN2)
    ),
    "qwen2.5-32b": _entry(
        "Qwen2.5 32B", "arXiv:2412.15115, table 1", _decoder("qwen2", "Qwen2", 5120, 27648, 64, (40, 8), **_QWEN2)
    ),
    "qwen2.5-72b": _entry(
        "Qwen2.5 72B", "arXiv:2412.15115, table 1", _decoder("qwen2", "Qwen2", 8192, 29568, 80, (64, 8), **_QWEN2)
    ),
    "qwen3-8b": _entry(
        "Qwen3 8B", "arXiv:2505.09388, table 1", _decoder("qwen3", "Qwen3", 4096, 12288, 36, (32, 8), **_QWEN3)
    ),
    "qwen3-32b": _entry(
        "Qwen3 32B", "arXiv:2505.09388, table 1", _decoder("qwen3", "Qwen3", 5120, 25600, 64, (64, 8), **_QWEN3)
    ),
    "qwen3-30b-a3b": _entry(
        "Qwen3 30B-A3B",
        "arXiv:2505.09388, table 2",
        _decoder("qwen3_moe", "Qwen3Moe", 2048, 6144, 48, (32, 4), moe_intermediate_size=768, **_QWEN3_MOE),
    ),
    "qwen3-235b-a22b": _entry(
        "Qwen3 235B-A22B",
        "arXiv:2505.09388, table 2",
        _decoder("qwen3_moe", "Qwen3Moe", 4096, 12288, 94, (64, 4), moe_intermediate_size=1536, **_QWEN3_MOE),
    ),
    "gemma-2b": _entry(
        "Gemma 2B", "arXiv:2403.08295, table 1", _decoder("gemma", "Gemma", 2048, 16384, 18, (8, 1), **_GEMMA)
    ),
    "gemma-7b": _entry(
        "Gemma 7B", "arXiv:2403.08295, table 1", _decoder("gemma", "Gemma", 3072, 24576, 28, (16, 16), **_GEMMA)
    ),
    "gemma-2-9b": _entry(
        "Gemma 2 9B",
        "arXiv:2408.00118, table 1",
        _decoder("gemma2", "Gemma2", 3584, 14336, 42, (16, 8), sliding_window=4096, **_GEMMA),
        assumed=("soft caps on attention scores are left out",),
    ),
    "deepseek-v3": _entry(
        "DeepSeek-V3",
        "arXiv:2412.19437, section 4.2",
        _decoder("deepseek_v3", "DeepseekV3", 7168, 18432, 61, (128, 128), **_DEEPSEEK),
        assumed=(_NO_LATENT,),
    ),
    "phi-3-mini": _entry(
        "Phi-3 mini",
        "arXiv:2404.14219, section 2",
        _decoder("phi3", "Phi3", 3072, 8192, 32, (32, 32), vocab_size=32064),
    ),
    "phi-4": _entry(
        "Phi-4",
        "config.json of microsoft/phi-4",
        _decoder("phi3", "Phi3", 5120, 17920, 40, (40, 10), vocab_size=100352, max_position_embeddings=16384),
    ),
    "falcon-7b": _entry(
        "Falcon 7B",
        "arXiv:2311.16867, table 1",
        {
            "model_type": "falcon", "architectures": ["FalconForCausalLM"], "vocab_size": 65024, "hidden_size": 4544,
            "num_hidden_layers": 32, "num_attention_heads": 71, "multi_query": True, "parallel_attn": True,
            "new_decoder_architecture": False, "alibi": False, "bias": False,
        },
    ),
    "gpt-neox-20b": _entry("GPT-NeoX 20B", "arXiv:2204.06745, table 1", _neox(6144, 44, 64, 50432)),
    "pythia-1.4b": _entry("Pythia 1.4B", "arXiv:2304.01373, table 1", _neox(2048, 24, 16, 50304)),
    "pythia-6.9b": _entry("Pythia 6.9B", "arXiv:2304.01373, table 1", _neox(4096, 32, 32, 50432)),
    "mamba-130m": _entry("Mamba 130M", "config.json of state-spaces/mamba-130m-hf", _mamba(768, 24)),
    "mamba-2.8b": _entry("Mamba 2.8B", "config.json of state-spaces/mamba-2.8b-hf", _mamba(2560, 64)),
    "bert-base": _entry("BERT base, uncased", _BERT, _bert("bert", "Bert", 768, 12, 30522, 512), 32),
    "bert-large": _entry("BERT large, uncased", _BERT, _bert("bert", "Bert", 1024, 24, 30522, 512), 32),
    "roberta-base": _entry("RoBERTa base", _ROBERTA, _bert("roberta", "Roberta", 768, 12, 50265, 514), 32),
    "roberta-large": _entry("RoBERTa large", _ROBERTA, _bert("roberta", "Roberta", 1024, 24, 50265, 514), 32),
    "distilbert": _entry(
        "DistilBERT base, uncased",
        "arXiv:1910.01108, section 3",
        {
            "model_type": "distilbert", "architectures": ["DistilBertForMaskedLM"], "vocab_size": 30522, "dim": 768,
            "hidden_dim": 3072, "n_layers": 6, "n_heads": 12, "max_position_embeddings": 512,
        },
        32,
    ),
    "t5-small": _entry("T5 small", "arXiv:1910.10683, section 3.7", _t5(512, 2048, 6, 8), 32),
    "t5-base": _entry("T5 base", "arXiv:1910.10683, section 3.7", _t5(768, 3072, 12, 12), 16),
    "t5-large": _entry("T5 large", "arXiv:1910.10683, section 3.7", _t5(1024, 4096, 24, 16)),
    "whisper-tiny": _entry("Whisper tiny", "arXiv:2212.04356, table 1", _whisper(384, (4, 4)), 16),
    "whisper-base": _entry("Whisper base", "arXiv:2212.04356, table 1", _whisper(512, (6, 6)), 16),
    "whisper-small": _entry("Whisper small", "arXiv:2212.04356, table 1", _whisper(768, (12, 12)), 16),
    "whisper-medium": _entry("Whisper medium", "arXiv:2212.04356, table 1", _whisper(1024, (24, 24))),
    "whisper-large-v3": _entry(
        "Whisper large v3", "config.json of openai/whisper-large-v3", _whisper(1280, (32, 32), 128, 51866)
    ),
    "vit-b-16": _entry("ViT-B/16", "arXiv:2010.11929, table 1", _vit(768, 12, 12), 64),
    "vit-l-16": _entry("ViT-L/16", "arXiv:2010.11929, table 1", _vit(1024, 24, 16), 32),
    "vit-h-16": _entry("ViT-H/16", "arXiv:2010.11929, table 1", _vit(1280, 32, 16), 16),
    "clip-vit-b-32": _entry("CLIP ViT-B/32", "arXiv:2103.00020, table 20", _clip((512, 12), (768, 12), 32, 512), 64),
    "clip-vit-l-14": _entry("CLIP ViT-L/14", "arXiv:2103.00020, table 20", _clip((768, 12), (1024, 24), 14, 768), 32),
    "convnext-tiny": _entry(
        "ConvNeXt-T", "arXiv:2201.03545, section 3", _convnext([3, 3, 9, 3], [96, 192, 384, 768]), 64
    ),
    "convnext-base": _entry(
        "ConvNeXt-B", "arXiv:2201.03545, section 3", _convnext([3, 3, 27, 3], [128, 256, 512, 1024]), 64
    ),
    "swin-t": _entry(
        "Swin-T",
        "arXiv:2103.14030, section 3.3",
        {
            "model_type": "swin", "architectures": ["SwinForImageClassification"], "embed_dim": 96,
            "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7, "image_size": 224,
            "num_labels": 1000,
        },
        64,
    ),
}  # fmt: skip
