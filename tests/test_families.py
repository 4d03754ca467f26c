"""The graph that a family's template gives is the graph that PyTorch gives, operator by operator.

The templates were captured at other sizes than those here, and apart from each other; here sizes
coincide as they do in published models.
"""

from __future__ import annotations

import logging

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from rigwise.errors import InvalidInputError
from rigwise.graph.capture.fold import fold, fold_parameters
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.hf_config import subject
from rigwise.graph.capture.from_torch.trace import trace
from rigwise.graph.capture.symbolic import difference, evaluate
from rigwise.graph.families.resolve import FAMILIES, model_of

SIZES = {"b": 3, "s": 83, "c": 59}, {"b": 2, "s": 23, "c": 131}


def decoder(kind, **more):
    """A small decoder whose heads fill its width."""
    return {
        "model_type": kind, "hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 512, **more,
    }  # fmt: skip


def plain(kind, **more):
    """A small stack without groups of heads."""
    config = decoder(kind, **more)
    del config["num_key_value_heads"]
    return {key: value for key, value in config.items() if value is not None}


GROUPED = {"num_key_value_heads": 2, "num_hidden_layers": 3}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}  # fmt: skip
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT = {
    "q_lora_rank": 48, "kv_lora_rank": 32, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
    "n_routed_experts": 16, "n_group": 4, "topk_group": 2, "moe_intermediate_size": 32, "num_experts_per_tok": 4,
    "num_key_value_heads": 4,
}  # fmt: skip
TOWER = {"hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4, "num_hidden_layers": 3}
SPEECH = {
    "model_type": "whisper", "d_model": 64, "encoder_layers": 4, "decoder_layers": 4, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 256, "decoder_ffn_dim": 256, "vocab_size": 51865,
    "max_source_positions": 100,
}  # fmt: skip
#: Too deep to be traced whole: a stack cut short wires the gradient of the encoder another way than all its layers do.
CUT_SHORT = SPEECH | {"num_mel_bins": 128, "encoder_layers": 6, "decoder_layers": 5}
T5 = {"model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 256, "num_layers": 4, "num_heads": 4, "vocab_size": 512,
      "decoder_start_token_id": 0}  # fmt: skip
CONFIGS = [
    decoder("llama", num_key_value_heads=2, rope_scaling=LLAMA3, max_position_embeddings=8192),
    decoder("llama", tie_word_embeddings=True, head_dim=32, attention_dropout=0.1, rope_theta=5e5, pretraining_tp=2),
    decoder("mistral", **GROUPED),
    decoder("mistral", sliding_window=None, head_dim=24),
    decoder("mixtral", num_local_experts=8, **GROUPED),
    decoder("mixtral", num_local_experts=4, num_experts_per_tok=3, sliding_window=None),
    decoder("qwen2", **GROUPED, sliding_window=4096, max_window_layers=3, use_sliding_window=False),
    decoder("qwen2", tie_word_embeddings=True, layer_types=["full_attention"] * 4),
    decoder("qwen3", head_dim=32, **GROUPED),
    decoder("qwen3", head_dim=16, tie_word_embeddings=True),
    decoder("qwen3_moe", num_experts=8, norm_topk_prob=True, head_dim=32, **EXPERTS, **GROUPED),
    decoder("qwen3_moe", num_experts=16, **EXPERTS),
    decoder("gemma", head_dim=16),
    decoder("gemma", num_key_value_heads=1, head_dim=32, hidden_act="gelu"),
    decoder("gemma2", head_dim=16, num_hidden_layers=6, num_key_value_heads=2),
    decoder("gemma2", head_dim=32, num_hidden_layers=8, sliding_window=64),
    decoder("phi", partial_rotary_factor=0.5),
    decoder("phi", partial_rotary_factor=0.25, resid_pdrop=0.1, num_hidden_layers=3),
    decoder("phi3", pad_token_id=0),
    decoder("phi3", pad_token_id=0, tie_word_embeddings=True, **GROUPED),
    {"model_type": "gpt2", "n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 512},
    {"model_type": "gpt2", "n_embd": 96, "n_layer": 3, "n_head": 4, "vocab_size": 300, "n_positions": 2048,
     "n_ctx": 2048, "activation_function": "gelu_new", "attn_pdrop": 0.0, "architectures": ["GPT2LMHeadModel"]},
    plain("gpt_neox"),
    plain("gpt_neox", rotary_pct=0.5, intermediate_size=192, num_hidden_layers=3, max_position_embeddings=256),
    plain("opt", intermediate_size=None, ffn_dim=256),
    plain("opt", intermediate_size=None, ffn_dim=128, num_hidden_layers=3, dropout=0.2, activation_dropout=0.0),
    plain("bert"),
    plain("bert", architectures=["BertModel"], num_hidden_layers=3, position_embedding_type="absolute"),
    plain("roberta", type_vocab_size=1, max_position_embeddings=514),
    plain("roberta", intermediate_size=192, num_hidden_layers=3),
    plain("vit", vocab_size=None, image_size=32, patch_size=8, architectures=["ViTForImageClassification"],
          id2label={"0": "cat", "1": "dog", "2": "none"}),
    plain("vit", vocab_size=None, image_size=30, patch_size=8, num_channels=1 + 1, architectures=["ViTModel"]),
    plain("falcon", intermediate_size=None, architectures=["FalconForCausalLM"]),
    plain("falcon", intermediate_size=None, num_hidden_layers=3, num_attention_heads=8, num_kv_heads=8),
    decoder("deepseek_v3", num_hidden_layers=7, **LATENT),
    decoder("deepseek_v3", num_hidden_layers=6, n_shared_experts=2, scoring_func="sigmoid", **LATENT),
    decoder("deepseek_v2", first_k_dense_replace=1, topk_method="greedy", **LATENT | {"q_lora_rank": None}),
    decoder("deepseek_v2", first_k_dense_replace=1, topk_method="group_limited_greedy", **LATENT),
    T5,
    T5 | {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "num_decoder_layers": 5, "d_ff": 160},
    SPEECH,
    CUT_SHORT,
    decoder("llama", attention_bias=True),
    decoder("llama", num_key_value_heads=1),
    decoder("llama", architectures=["LlamaModel"]),
    plain("opt", intermediate_size=None, ffn_dim=256, do_layer_norm_before=False, word_embed_proj_dim=32),
    plain("falcon", intermediate_size=None, new_decoder_architecture=True, num_kv_heads=2),
    plain("bert", architectures=["BertForSequenceClassification"], id2label={"0": "no", "1": "yes"}),
    {"model_type": "clip", "architectures": ["CLIPModel"],
     "text_config": TOWER | {"vocab_size": 300, "max_position_embeddings": 20},
     "vision_config": TOWER | {"image_size": 32, "patch_size": 8}},
    {"model_type": "clip", "projection_dim": 64, "architectures": ["CLIPModel"],
     "text_config": TOWER | {"vocab_size": 512, "num_hidden_layers": 4},
     "vision_config": TOWER | {"image_size": 48, "patch_size": 16, "hidden_size": 96}},
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_advice():
    """PyTorch's advice on the console is not what is tested."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_every_family_is_tested():
    assert {config["model_type"] for config in CONFIGS} == set(FAMILIES)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c["model_type"])
def test_a_template_gives_what_a_trace_gives(config):
    model = model_of(config, "config.json")
    at = SIZES[CONFIGS.index(config) % 2]
    with fake_tensors():
        fresh = subject(config, name="model", where="config.json")
        assert set(model.graphs) == set(fresh.symbols)
        for task, graph in model.graphs.items():
            reference = fresh.symbols[task]
            assert dict(graph.symbols) == {symbol: reference[symbol] for symbol in graph.symbols}
            sizes = {symbol: at[symbol] for symbol in graph.symbols}
            predicted, there = evaluate(graph, sizes), fold(trace(fresh, task, {**reference, **sizes}))
            assert difference(predicted, there) == ""
            if config is not CUT_SHORT:
                assert predicted.ops == there.ops  # producers too
        parameters = [(name, tuple(p.shape), p.requires_grad) for name, p in fresh.module.named_parameters()]
        assert model.parameters == fold_parameters(parameters)
        assert model.buffer_bytes == sum(b.numel() * b.element_size() for b in fresh.module.buffers())


@pytest.mark.parametrize("config", [CONFIGS[0], CUT_SHORT], ids=lambda c: c["model_type"])
def test_a_template_gives_the_model_that_capture_gives(config):
    with fake_tensors():
        assert model_of(config, "config.json") == capture(subject(config, name="model", where="config.json"))


IMPOSSIBLE = [
    ({"hidden_size": 64.5}, "hidden_size is 64.5"),
    ({"hidden_size": -64}, "hidden_size is -64"),
    ({"num_hidden_layers": 2000}, "num_hidden_layers is 2000"),
    ({"vocab_size": "512"}, "vocab_size is '512'"),
]


@pytest.mark.parametrize(("change", "expected"), IMPOSSIBLE)
def test_an_impossible_size_is_the_same_line_with_and_without_capture(change, expected):
    config = CONFIGS[0] | change
    lines = []
    for read in (lambda: model_of(config, "my.json"), lambda: subject(config, name="model", where="my.json")):
        with pytest.raises(InvalidInputError) as caught, fake_tensors():
            read()
        lines.append(str(caught.value))
    assert expected in lines[0]
    assert lines[0] == lines[1]
