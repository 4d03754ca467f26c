"""Configurations of published models, answered without PyTorch.

The shapes are those of the named checkpoints; the numbers of parameters are those that their makers
or their weight files give.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rigwise.errors import InvalidInputError, RigwiseError, UnsupportedError
from rigwise.graph.families.resolve import FAMILIES, NotCoveredError, model_of, read_family
from rigwise.graph.load import load_model, read_zoo

TOOLS = Path(__file__).parents[1] / "tools"

LLAMA_2 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "hidden_size": 4096,
    "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 32, "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": None, "vocab_size": 32000,
    "tie_word_embeddings": False, "torch_dtype": "float16", "transformers_version": "4.31.0.dev0", "use_cache": True,
    "bos_token_id": 1, "eos_token_id": 2, "initializer_range": 0.02,
}  # fmt: skip
MISTRAL = LLAMA_2 | {
    "architectures": ["MistralForCausalLM"], "model_type": "mistral", "intermediate_size": 14336,
    "num_key_value_heads": 8, "max_position_embeddings": 32768, "sliding_window": 4096, "rope_theta": 10000.0,
}  # fmt: skip
QWEN_2 = LLAMA_2 | {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936,
    "tie_word_embeddings": True, "sliding_window": 32768, "max_window_layers": 24, "use_sliding_window": False,
    "rope_theta": 1000000.0, "attention_dropout": 0.0,
}  # fmt: skip
BERT = {
    "architectures": ["BertForMaskedLM"], "model_type": "bert", "attention_probs_dropout_prob": 0.1,
    "gradient_checkpointing": False, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
    "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
}  # fmt: skip
GPT_2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
    "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True, "vocab_size": 50257,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
T5 = {
    "architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64, "d_model": 512, "num_heads": 8,
    "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1, "initializer_factor": 1.0,
    "is_encoder_decoder": True, "layer_norm_epsilon": 1e-06, "model_type": "t5", "n_positions": 512,
    "num_layers": 6, "output_past": True, "pad_token_id": 0, "relative_attention_num_buckets": 32,
    "vocab_size": 32128,
}  # fmt: skip
VIT = {
    "architectures": ["ViTForImageClassification"], "attention_probs_dropout_prob": 0.0, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.0, "hidden_size": 768, "image_size": 224, "initializer_range": 0.02,
    "intermediate_size": 3072, "layer_norm_eps": 1e-12, "model_type": "vit", "num_attention_heads": 12,
    "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16, "qkv_bias": True,
    "id2label": {str(i): f"LABEL_{i}" for i in range(1000)}, "label2id": {f"LABEL_{i}": i for i in range(1000)},
}  # fmt: skip
WHISPER = {
    "activation_dropout": 0.0, "activation_function": "gelu", "architectures": ["WhisperForConditionalGeneration"],
    "attention_dropout": 0.0, "begin_suppress_tokens": [220, 50257], "bos_token_id": 50257, "d_model": 384,
    "decoder_attention_heads": 6, "decoder_ffn_dim": 1536, "decoder_layerdrop": 0.0, "decoder_layers": 4,
    "decoder_start_token_id": 50258, "dropout": 0.0, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536,
    "encoder_layerdrop": 0.0, "encoder_layers": 4, "eos_token_id": 50257, "forced_decoder_ids": [[1, 50259]],
    "init_std": 0.02, "is_encoder_decoder": True, "max_length": 448, "max_source_positions": 1500,
    "max_target_positions": 448, "model_type": "whisper", "num_hidden_layers": 4, "num_mel_bins": 80,
    "pad_token_id": 50257, "scale_embedding": False, "suppress_tokens": [1, 2, 7], "use_cache": True,
    "vocab_size": 51865,
}  # fmt: skip
FALCON = {
    "alibi": False, "apply_residual_connection_post_layernorm": False, "architectures": ["FalconForCausalLM"],
    "attention_dropout": 0.0, "bias": False, "bos_token_id": 11, "eos_token_id": 11, "hidden_dropout": 0.0,
    "hidden_size": 4544, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "model_type": "falcon",
    "multi_query": True, "new_decoder_architecture": False, "num_attention_heads": 71, "num_hidden_layers": 32,
    "num_kv_heads": 71, "parallel_attn": True, "vocab_size": 65024, "auto_map": {"AutoConfig": "configuration.X"},
}  # fmt: skip
CLIP = {
    "architectures": ["CLIPModel"], "model_type": "clip", "initializer_factor": 1.0, "logit_scale_init_value": 2.6592,
    "projection_dim": 512, "text_config_dict": None, "vision_config_dict": None,
    "text_config": {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8, "num_hidden_layers": 12,
                    "vocab_size": 49408, "max_position_embeddings": 77, "bos_token_id": 0, "eos_token_id": 2,
                    "add_cross_attention": False, "dropout": 0.0, "is_decoder": False, "top_k": 50,
                    "model_type": "clip_text_model"},
    "vision_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                      "num_hidden_layers": 12, "image_size": 224, "patch_size": 32, "model_type": "clip_vision_model"},
}  # fmt: skip
OPT = {
    "_remove_final_layer_norm": False, "activation_dropout": 0.0, "activation_function": "relu",
    "architectures": ["OPTForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 2, "do_layer_norm_before": True,
    "dropout": 0.1, "eos_token_id": 2, "ffn_dim": 3072, "hidden_size": 768, "init_std": 0.02, "layerdrop": 0.0,
    "max_position_embeddings": 2048, "model_type": "opt", "num_attention_heads": 12, "num_hidden_layers": 12,
    "pad_token_id": 1, "prefix": "</s>", "vocab_size": 50272, "word_embed_proj_dim": 768,
}  # fmt: skip
OPT_350M = OPT | {"do_layer_norm_before": False, "hidden_size": 1024, "ffn_dim": 4096, "num_hidden_layers": 24,
                  "num_attention_heads": 16, "word_embed_proj_dim": 512}  # fmt: skip
PYTHIA = {
    "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
    "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 16, "num_hidden_layers": 24,
    "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True,
    "vocab_size": 50304,
}  # fmt: skip
PHI_2 = {
    "architectures": ["PhiForCausalLM"], "attention_dropout": 0.0, "embd_pdrop": 0.0, "hidden_act": "gelu_new",
    "hidden_size": 2560, "intermediate_size": 10240, "max_position_embeddings": 2048, "model_type": "phi",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "partial_rotary_factor": 0.4,
    "qk_layernorm": False, "resid_pdrop": 0.1, "rope_scaling": None, "rope_theta": 10000.0, "vocab_size": 51200,
}  # fmt: skip
PHI_3 = {
    "architectures": ["Phi3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "embd_pdrop": 0.0,
    "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192, "max_position_embeddings": 4096,
    "model_type": "phi3", "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
    "original_max_position_embeddings": 4096, "pad_token_id": 32000, "resid_pdrop": 0.0, "rope_scaling": None,
    "sliding_window": 2047, "vocab_size": 32064,
}  # fmt: skip

#: Configuration and parameters; see the docstring.
PUBLISHED = {
    "Llama 2 7B": (LLAMA_2, 6_738_415_616),
    "Mistral 7B v0.1": (MISTRAL, 7_241_732_096),
    "Mistral 7B v0.3": (MISTRAL | {"sliding_window": None, "vocab_size": 32768}, 7_248_023_552),
    "Qwen2 0.5B": (QWEN_2, 494_032_768),
    "BERT base": (BERT, 109_514_298),
    "GPT-2": (GPT_2, 124_439_808),
    "T5 small": (T5, 60_506_624),
    "ViT-B/16": (VIT, 86_567_656),
    "Whisper tiny": (WHISPER, 37_760_640),
    "Falcon 7B": (FALCON, 6_921_720_704),
    "CLIP ViT-B/32": (CLIP, 151_277_313),
    "OPT 125M": (OPT, 125_239_296),
    "OPT 350M": (OPT_350M, 331_196_416),
    "Pythia 1.4B": (PYTHIA, 1_414_647_808),
    "Phi-2": (PHI_2, 2_779_683_840),
    "Phi-3 mini 4k": (PHI_3, 3_821_079_552),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_has_its_published_parameters(name):
    config, parameters = PUBLISHED[name]
    assert model_of(config, "config.json").parameter_count == parameters


def zoo_shapes():
    """Configurations that the zoo was captured from, by their name there."""
    sys.path.insert(0, str(TOOLS))
    try:
        from zoo.language import SHAPES
    finally:
        sys.path.remove(str(TOOLS))
    return {name: shape.config for name, shape in SHAPES.items() if shape.config["model_type"] in FAMILIES}


@pytest.mark.parametrize("name", zoo_shapes())
def test_a_template_gives_the_graphs_of_the_zoo(name):
    zoo, model = read_zoo(name), model_of(zoo_shapes()[name], name)
    if zoo.captured_with != model.captured_with:
        pytest.skip(f"captured with {zoo.captured_with} and {model.captured_with}")
    assert model.graphs == zoo.graphs
    assert model.parameters == zoo.parameters
    assert model.buffer_bytes == zoo.buffer_bytes


# What is not covered, and what cannot be

NOT_COVERED = [
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, "rope_scaling is"),
    ({"rope_scaling": {"type": "linear", "factor": "2"}}, "rope_scaling is"),
    ({"hidden_act": "relu"}, 'hidden_act is "relu"'),
    ({"num_mystery_layers": 3}, "num_mystery_layers is 3"),
    ({"architectures": ["LlamaForTokenClassification"]}, "architectures names 'LlamaForTokenClassification'"),
    ({"model_type": "mamba"}, "model_type is 'mamba'"),
    ({"pad_token_id": 32000}, "pad_token_id is 32000"),
    ({"num_experts": 1, "x" * 500: "y" * 500}, "is"),
]


@pytest.mark.parametrize(("change", "expected"), NOT_COVERED)
def test_a_choice_without_a_template_is_named(change, expected):
    with pytest.raises(NotCoveredError) as caught:
        model_of(LLAMA_2 | change, "config.json")
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 400


IMPOSSIBLE = [
    ({"model_type": None}, "model_type is missing"),
    ({"hidden_size": 4097}, "hidden_size is 4097; give a multiple of num_attention_heads, which is 32"),
    ({"num_key_value_heads": 5}, "num_attention_heads is 32; give a multiple of num_key_value_heads, which is 5"),
    ({"hidden_size": 2**24, "intermediate_size": 2**24, "num_hidden_layers": 1024}, "elements"),
    ({"hidden_size": "large"}, "hidden_size is 'large'"),
    ({"hidden_size": True}, "hidden_size is True"),
    ({"attention_dropout": 2}, "attention_dropout is 2"),
    ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'; give a number"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'; give true or false"),
    ({"rope_scaling": 2}, "rope_scaling is 2"),
    ({"head_dim": 15}, "head_dim is 15"),
    (PUBLISHED["ViT-B/16"][0] | {"patch_size": 500}, "image_size is 224; give at least patch_size"),
    (CLIP | {"text_config": 3}, "text_config is 3"),
    (MISTRAL | {"model_type": "mixtral", "architectures": None, "num_experts_per_tok": 9}, "there are 8 experts"),
]


@pytest.mark.parametrize(("change", "expected"), IMPOSSIBLE)
def test_an_impossible_configuration_is_one_line_with_the_key(change, expected):
    with pytest.raises(InvalidInputError) as caught:
        model_of(LLAMA_2 | change, "my/config.json")
    assert str(caught.value).startswith("my/config.json: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"])
def test_a_missing_size_is_one_line_with_the_key(key):
    config = {name: value for name, value in LLAMA_2.items() if name != key}
    with pytest.raises(InvalidInputError, match=f"{key} is missing"):
        model_of(config, "config.json")


@pytest.mark.parametrize("model_type", ["../zoo/gpt2", "", "LLAMA", ["llama"], {"a": 1}, 7])
def test_a_model_type_is_never_a_path(model_type):
    with pytest.raises((NotCoveredError, RigwiseError)):
        model_of(LLAMA_2 | {"model_type": model_type}, "config.json")


def test_templates_are_small_and_say_what_made_them():
    sizes = [len(json.dumps(read_family(name))) for name in FAMILIES]
    assert len(sizes) >= 20
    assert sum(sizes) < 2e6
    for name in FAMILIES:
        assert set(read_family(name)["captured_with"]) == {"torch", "transformers"}


BLOCKED = """
import sys
sys.modules["torch"] = sys.modules["transformers"] = None
from rigwise.cli.main import main
main(sys.argv[1:])
"""


def without_torch(*arguments, folder):
    return subprocess.run(
        [sys.executable, "-c", BLOCKED, *arguments], capture_output=True, text=True, check=False, cwd=folder
    )


def test_a_prediction_needs_no_pytorch(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2))
    run = without_torch("predict", "config.json", "--device", "rtx-4090", "--task", "decode", "--json", folder=tmp_path)
    assert run.stderr == ""
    zoo = without_torch("predict", "llama-2-7b", "--device", "rtx-4090", "--task", "decode", "--json", folder=tmp_path)
    mine, theirs = json.loads(run.stdout), json.loads(zoo.stdout)
    assert mine["step_time_s"] == theirs["step_time_s"]
    assert mine["flops"] == theirs["flops"] > 0


def test_what_needs_pytorch_says_so_in_one_line(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_2 | {"hidden_act": "relu"}))
    run = without_torch("predict", "config.json", "--device", "rtx-4090", folder=tmp_path)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr.count("\n") == 1
    assert 'hidden_act is "relu"' in run.stderr
    assert "pip install 'rigwise[torch]'" in run.stderr


def test_a_folder_names_the_model(tmp_path):
    folder = tmp_path / "my-llama"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA_2 | {"quantization_config": {"bits": 4}}))
    model = load_model(str(folder))
    assert (model.name, model.card.title) == ("my-llama", "my-llama")
    assert model.card.assumed == ("weights are not quantised; choose a dtype when predicting",)


def test_a_gap_without_pytorch_is_an_error_of_the_tree(tmp_path, monkeypatch):
    for package in ("torch", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"model_type": "mamba"}))
    with pytest.raises(UnsupportedError, match=r"model_type is 'mamba'.*rigwise\[torch\]"):
        load_model(str(path))
