"""At which sizes each family is captured, and which of its choices are offered.

Sizes of one family are chosen apart from each other, so that no product of some is a product of others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Keys that published configurations carry, and that some family's code may never read.
_CANDIDATES = """
    attention_bias mlp_bias attn_implementation bias qkv_bias rope_ratio max_window_layers hidden_activation
    ep_size moe_layer_freq scoring_func aux_loss_alpha seq_aux topk_method num_nextn_predict_layers pretraining_tp
    rotary_emb_base n_ctx n_embed n_head_kv apply_residual_connection_post_layernorm position_embedding_type
    directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
    gradient_checkpointing output_past activation_dropout dropout layer_norm_elementwise_affine enable_bias
    embd_pdrop resid_pdrop attn_pdrop resid_dropout attention_dropout hidden_dropout classifier_dropout
    classifier_dropout_prob sliding_window_size router_jitter_noise input_jitter_noise max_source_length
    max_sequence_length max_seq_len seq_length original_max_position_embeddings rope_interleaved use_mrope
    use_qk_norm use_parallel_attn use_cache_kwargs cache_implementation final_logit_softcapping
    attn_logit_softcapping query_pre_attn_scalar is_llama_config unsloth_fixed unsloth_version
    _flash_attn_2_enabled use_flash_attn flash_attn fused_dense fused_rotary flash_rotary parallel_block
    alibi_bias_max multi_query_group_num interpolate_factor rope_scaling_type mamba_ssm_dtype
"""
CANDIDATES = tuple(_CANDIDATES.split())


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One family.

    Attributes:
        sizes: Configurations that differ in sizes only.
        variants: What is put on top of each, one template for every entry; a tuple has a value for each.
    """

    sizes: Sequence[Mapping[str, Any]]
    variants: Sequence[Mapping[str, Any]]


_GROUPED = """
    hidden_size intermediate_size vocab_size num_hidden_layers num_attention_heads num_key_value_heads head_dim
    max_position_embeddings
"""


def _decoders(kind: str, **more: Sequence[Any]) -> list[dict]:
    """Six decoders in the naming of Llama; ``more`` gives six values for each further key."""
    rows = zip(
        (96, 420, 304, 264, 340, 136),  # hidden
        (127, 211, 331, 173, 269, 59),  # intermediate
        (997, 1511, 613, 1201, 809, 1409),  # vocabulary
        (6, 5, 9, 8, 7, 11),  # layers
        (6, 10, 8, 12, 10, 4),  # heads
        (3, 5, 2, 6, 2, 4),  # heads of keys and values
        (16, 14, 38, 22, 34, 26),  # depth of a head
        (500, 1380, 711, 2419, 603, 1277),  # positions
        strict=True,
    )
    keys = _GROUPED.split()
    return [
        {"model_type": kind, **dict(zip(keys, row, strict=True)), **{k: v[i] for k, v in more.items()}}
        for i, row in enumerate(rows)
    ]


_DROPS = (0.0, 0.1, 0.25, 0.05, 0.15, 0.2)
_WINDOWS = (49, 81, 36, 77, 65, 102)
_TIED = {"tie_word_embeddings": True}
_ONE_GROUP = {"num_key_value_heads": 1}
_CHOSEN = (2, 3, 4, 2, 6, 5)
_WIDTHS = (29, 53, 37, 71, 47, 23)
_COUNTS = (8, 15, 9, 12, 21, 10)


def _joined(kind: str) -> list[dict]:
    """Decoders of the Phi family, whose heads have no depth of their own."""
    found = _decoders(kind, attention_dropout=_DROPS, resid_pdrop=(0.0,) * 6, embd_pdrop=(0.0,) * 6)
    hidden = (96, 420, 304, 264, 340, 136)
    heads = (3, 15, 4, 6, 17, 2)
    groups = (3, 5, 2, 2, 17, 2)
    for config, h, n, k in zip(found, hidden, heads, groups, strict=True):
        del config["head_dim"]
        config.update(hidden_size=h, num_attention_heads=n, num_key_value_heads=k, pad_token_id=0)
    return found


def _stacks(kind: str, names: str, **more: Any) -> list[dict]:
    """Six transformers without groups of heads; ``names`` are the keys of their sizes, ``-`` for one they lack.

    Values of ``more`` are six, or one for all.
    """
    rows = zip(
        (96, 420, 304, 264, 340, 136),  # hidden
        (6, 10, 8, 12, 17, 4),  # heads
        (127, 211, 331, 173, 269, 59),  # intermediate
        (6, 5, 9, 8, 7, 11),  # layers
        (997, 1511, 613, 1201, 809, 1409),  # vocabulary
        (500, 1380, 711, 2419, 603, 1277),  # positions
        strict=True,
    )
    found = []
    for i, row in enumerate(rows):
        sizes = {name: size for name, size in zip(names.split(), row, strict=True) if name != "-"}
        further = {key: value[i] if isinstance(value, tuple) else value for key, value in more.items()}
        found.append({"model_type": kind, **sizes, **further})
    return found


_COMMON = "hidden_size num_attention_heads intermediate_size num_hidden_layers vocab_size max_position_embeddings"
_PIXELS = "hidden_size num_attention_heads intermediate_size num_hidden_layers - -"
_ALWAYS = (0.3, 0.1, 0.25, 0.05, 0.15, 0.2)
_SOME = (0.12, 0.31, 0.07, 0.22, 0.41, 0.17)


def _encoders(kind: str) -> list[dict]:
    return _stacks(
        kind,
        _COMMON,
        type_vocab_size=(2, 3, 5, 4, 7, 6),
        hidden_dropout_prob=_ALWAYS,
        attention_probs_dropout_prob=_DROPS,
    )


def _head(name: str) -> dict:
    return {"architectures": [name]}


def _towers() -> list[dict]:
    """Six pairs of a tower for text and one for images."""
    text = _stacks("clip_text_model", _COMMON.replace("max_position_embeddings", "-"), attention_dropout=_DROPS,
                   max_position_embeddings=(31, 23, 41, 29, 37, 47))  # fmt: skip
    images = _stacks("clip_vision_model", _PIXELS, attention_dropout=_SOME, image_size=(64, 70, 48, 91, 55, 72),
                     patch_size=(16, 14, 12, 13, 11, 8), num_channels=(3, 4, 2, 5, 6, 7))  # fmt: skip
    apart = ((72, 9, 113, 7), (130, 13, 307, 8), (368, 4, 149, 6), (180, 15, 223, 10), (238, 7, 61, 9),
             (188, 2, 191, 5))  # fmt: skip
    widths = (67, 103, 139, 83, 157, 109)
    found = []
    for words, pixels, row, width in zip(text, images, apart, widths, strict=True):
        keys = ("hidden_size", "num_attention_heads", "intermediate_size", "num_hidden_layers")
        words.update(dict(zip(keys, row, strict=True)))
        for part in (words, pixels):
            part["projection_dim"] = width
            del part["model_type"]
        found.append(
            {
                "model_type": "clip",
                "text_config": words,
                "vision_config": pixels,
                "projection_dim": width,
                **_head("CLIPModel"),
            }
        )
    return found


def _latent(kind: str, **more: Any) -> list[dict]:
    """Six decoders of DeepSeek's form."""
    return _stacks(
        kind,
        _COMMON,
        num_hidden_layers=(10, 9, 13, 8, 7, 11),
        num_key_value_heads=None,
        attention_dropout=_DROPS,
        q_lora_rank=(44, 62, 86, 74, 58, 38),
        kv_lora_rank=(32, 52, 38, 94, 58, 88),
        qk_nope_head_dim=(20, 28, 52, 32, 46, 18),
        qk_rope_head_dim=(14, 22, 10, 26, 34, 12),
        v_head_dim=(21, 35, 24, 49, 27, 40),
        n_routed_experts=(12, 15, 20, 24, 21, 28),
        num_experts_per_tok=_CHOSEN,
        moe_intermediate_size=_WIDTHS,
        n_shared_experts=(1, 2, 3, 2, 1, 3),
        n_group=(4, 5, 4, 6, 7, 4),
        topk_group=(2, 3, 3, 2, 4, 2),
        **more,
    )


SPECS: Mapping[str, Spec] = {
    "llama": Spec(
        sizes=_decoders("llama", attention_dropout=_DROPS),
        variants=[
            {},
            _TIED,
            _ONE_GROUP,
            {"attention_bias": True},
            {"architectures": ["LlamaModel"]},
        ],
    ),
    "mistral": Spec(
        sizes=_decoders("mistral", attention_dropout=_DROPS, sliding_window=_WINDOWS),
        variants=[{}, {"sliding_window": None}, _TIED, {"sliding_window": None} | _TIED],
    ),
    "mixtral": Spec(
        sizes=_decoders("mixtral", attention_dropout=_DROPS, num_local_experts=_COUNTS, num_experts_per_tok=_CHOSEN),
        variants=[{}],
    ),
    "qwen2": Spec(sizes=_decoders("qwen2", attention_dropout=_DROPS), variants=[{}, _TIED]),
    "qwen3": Spec(sizes=_decoders("qwen3", attention_dropout=_DROPS), variants=[{}, _TIED]),
    "qwen3_moe": Spec(
        sizes=_decoders(
            "qwen3_moe",
            attention_dropout=_DROPS,
            num_experts=_COUNTS,
            num_experts_per_tok=_CHOSEN,
            moe_intermediate_size=_WIDTHS,
        ),
        variants=[{"norm_topk_prob": True}, {}],
    ),
    "gemma": Spec(sizes=_decoders("gemma", attention_dropout=_DROPS), variants=[{}, _ONE_GROUP]),
    "gemma2": Spec(
        sizes=[
            {**config, "num_hidden_layers": 2 * config["num_hidden_layers"]}
            for config in _decoders("gemma2", attention_dropout=_DROPS, sliding_window=_WINDOWS)
        ],
        variants=[{}],
    ),
    "phi": Spec(
        sizes=[
            {**config, "partial_rotary_factor": part}
            for config, part in zip(_joined("phi"), (0.25, 0.5, 0.4, 0.5, 0.4, 0.3), strict=True)
        ],
        variants=[{}, {"resid_pdrop": _ALWAYS}],
    ),
    "phi3": Spec(
        sizes=_joined("phi3"),
        variants=[{}, {"sliding_window": _WINDOWS}, _TIED],
    ),
    "gpt2": Spec(
        sizes=_stacks(
            "gpt2",
            "n_embd n_head n_inner n_layer vocab_size n_positions",
            resid_pdrop=_ALWAYS,
            embd_pdrop=_SOME,
            attn_pdrop=_DROPS,
        ),
        variants=[
            {},
            {"resid_pdrop": 0.0, "embd_pdrop": 0.0},
            {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "activation_function": "gelu"},
        ],
    ),
    "gpt_neox": Spec(
        sizes=_stacks("gpt_neox", _COMMON, attention_dropout=_DROPS, rotary_pct=(0.25, 0.2, 0.38, 0.4, 0.3, 0.25)),
        variants=[{}],
    ),
    "opt": Spec(
        sizes=_stacks(
            "opt", _COMMON.replace("intermediate_size", "ffn_dim"), dropout=_ALWAYS, attention_dropout=_DROPS
        ),
        variants=[{}, {"do_layer_norm_before": False, "word_embed_proj_dim": (53, 121, 87, 151, 203, 71)}],
    ),
    "falcon": Spec(
        sizes=_stacks("falcon", _COMMON.replace("intermediate_size", "ffn_hidden_size"), attention_dropout=_DROPS),
        variants=[
            {},
            {
                "new_decoder_architecture": True,
                "num_attention_heads": (6, 10, 8, 12, 10, 4),
                "num_kv_heads": (3, 5, 2, 6, 2, 2),
            },
        ],
    ),
    "deepseek_v2": Spec(
        sizes=_latent("deepseek_v2", first_k_dense_replace=1),
        variants=[{"q_lora_rank": None}, {"topk_method": "group_limited_greedy"}],
    ),
    "deepseek_v3": Spec(sizes=_latent("deepseek_v3"), variants=[{}]),
    "bert": Spec(
        sizes=_encoders("bert"),
        variants=[
            {},
            _head("BertModel"),
            _head("BertForSequenceClassification") | {"num_labels": (10, 17, 33, 24, 51, 39)},
        ],
    ),
    "roberta": Spec(
        sizes=_encoders("roberta"),
        variants=[{"type_vocab_size": 1}, {}, {"type_vocab_size": 1} | _head("RobertaModel")],
    ),
    "vit": Spec(
        sizes=_stacks(
            "vit",
            _PIXELS,
            image_size=(64, 70, 48, 91, 55, 72),
            patch_size=(16, 14, 12, 13, 11, 8),
            num_channels=(3, 4, 2, 5, 6, 7),
            num_labels=(10, 17, 33, 24, 51, 39),
            attention_probs_dropout_prob=_DROPS,
        ),
        variants=[_head("ViTForImageClassification"), _head("ViTModel")],
    ),
    "clip": Spec(sizes=_towers(), variants=[{}, {"text_config": {"eos_token_id": 2}}]),
    "t5": Spec(
        sizes=_stacks(
            "t5",
            "d_model num_heads d_ff num_layers vocab_size -",
            d_kv=(16, 14, 38, 22, 34, 26),
            num_decoder_layers=(7, 11, 5, 6, 9, 8),
            relative_attention_num_buckets=(32, 28, 36, 24, 30, 26),
            dropout_rate=_ALWAYS,
            decoder_start_token_id=0,
        ),
        variants=[{}, {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}],
    ),
    "whisper": Spec(
        sizes=_stacks(
            "whisper",
            "d_model encoder_attention_heads encoder_ffn_dim encoder_layers vocab_size -",
            decoder_attention_heads=(12, 14, 4, 6, 10, 17),
            decoder_ffn_dim=(113, 307, 149, 223, 61, 191),
            decoder_layers=(7, 11, 5, 6, 9, 8),
            num_mel_bins=(80, 64, 72, 48, 56, 88),
            max_source_positions=(150, 110, 90, 170, 130, 70),
            max_target_positions=(461, 483, 445, 499, 471, 453),
            pad_token_id=5,
            decoder_start_token_id=3,
            eos_token_id=5,
            bos_token_id=5,
            attention_dropout=_DROPS,
        ),
        variants=[{}, {"encoder_layers": 4, "decoder_layers": 4}],
    ),
}
