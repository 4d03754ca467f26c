"""Encoders, and models of an encoder and a decoder or of two towers: which keys are sizes.

As in ``decoders.py``, what a function does not ask for may only have transformers' default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.graph.families.config import Config, Known
from rigwise.graph.families.decoders import share, text

#: Heads with one output for each label.
_CLASSIFIERS = ("ForSequenceClassification", "ForTokenClassification", "ForImageClassification")

#: With fewer positions capture cannot vary the length of text: it tries up to 347 tokens (``capture/subject.py``).
_FREE_POSITIONS = 400

#: With fewer layers capture traces all of them, and the gradient of what the encoder heard flows another way.
_EVEN_STACK = 5


def bert(c: Config, *, spare: int = 0) -> None:
    """BERT; ``spare`` rows of its positions are none."""
    _stack(c)
    c.size("vocab_size")
    c.size("type_vocab_size")
    text(c, spare=spare)
    if c.numbers["max_position_embeddings"] < _FREE_POSITIONS:
        c.mark("max_position_embeddings", c.numbers["max_position_embeddings"])
    c.dropout("hidden_dropout_prob")
    c.constant("attention_probs_dropout_prob", share(c, "attention_probs_dropout_prob"))
    c.only(position_embedding_type="absolute", gradient_checkpointing=False)
    if not labels(c):
        c.skip("classifier_dropout")
    c.skip("directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers")
    c.skip("pooler_size_per_head", "pooler_type")


def roberta(c: Config) -> None:
    """RoBERTa, whose positions begin at row 2."""
    bert(c, spare=2)


def vit(c: Config) -> None:
    """ViT."""
    _stack(c)
    patches(c)
    labels(c)
    c.dropout("hidden_dropout_prob")
    c.constant("attention_probs_dropout_prob", share(c, "attention_probs_dropout_prob"))
    c.skip("encoder_stride")
    if c.whole("pooler_output_size", int(c.numbers["hidden_size"])) != c.numbers["hidden_size"]:
        c.mark("pooler_output_size", "other")


def clip(c: Config) -> None:
    """CLIP: a tower for text and one for images, compared with each other."""
    c.size("projection_dim")
    words = tower(c, "text")
    words.size("vocab_size")
    words.size("max_position_embeddings")
    if words.value("eos_token_id") == 2:  # then the last token is sought among the largest
        words.mark("eos_token_id", 2)
    words.finish()
    pixels = tower(c, "vision")
    patches(pixels)
    pixels.finish()
    for part in (words, pixels):
        c.numbers.update(part.numbers)
        c.marks.update(part.marks)
    c.only(tie_word_embeddings=True)


def tower(c: Config, kind: str) -> Config:
    """One of the nested configurations of CLIP; its older form has the last word."""
    nested, older = c.value(f"{kind}_config"), c.value(f"{kind}_config_dict")
    given = older if older is not None else nested or {}
    if not isinstance(given, Mapping):
        raise c.fault(f"{kind}_config", given, "give a table")
    part = Config(given, Known(defaults=c.defaults[f"{kind}_config"]), c.where, f"{kind}_config.")
    _stack(part)
    part.constant("attention_dropout", share(part, "attention_dropout"))
    part.skip("projection_dim")
    part.only(dropout=0.0, tie_word_embeddings=True)
    return part


def t5(c: Config) -> None:
    """T5 in its first form, and with gates as from version 1.1."""
    c.size("d_model")
    c.size("d_kv")
    c.size("d_ff")
    c.size("num_heads")
    c.size("vocab_size")
    layers = c.layers("num_layers")
    c.put("num_decoder_layers", c.whole("num_decoder_layers", layers))
    for key in ("num_layers", "num_decoder_layers"):
        if c.numbers[key] < 4:  # the first layer has the table of relative positions, so 3 others are equal
            c.mark(key, c.numbers[key])
    c.size("relative_attention_num_buckets")
    c.dropout("dropout_rate")
    c.skip("relative_attention_max_distance", "n_positions")
    kind = str(c.peek("feed_forward_proj"))
    function = "gelu_new" if kind == "gated-gelu" else kind.rpartition("-")[2]
    c.only(tie_word_embeddings=True, dense_act_fn=function, is_gated_act=kind.startswith("gated-"))
    start, padding = c.value("decoder_start_token_id"), c.value("pad_token_id")
    for key, token in (("decoder_start_token_id", start), ("pad_token_id", padding)):
        if not isinstance(token, int) or not 0 <= token < c.numbers["vocab_size"]:
            c.mark(key, token)
    c.skip("classifier_dropout")


def whisper(c: Config) -> None:
    """Whisper: 30 seconds of sound in, text out."""
    c.size("d_model")
    for side in ("encoder", "decoder"):
        c.size(f"{side}_attention_heads")
        c.equal_parts("d_model", f"{side}_attention_heads")
        c.put(f"{side}_head_dim", c.equal_parts("d_model", f"{side}_attention_heads"))
        c.size(f"{side}_ffn_dim")
        if c.layers(f"{side}_layers") < _EVEN_STACK:
            c.mark(f"{side}_layers", c.numbers[f"{side}_layers"])
    c.size("vocab_size")
    c.size("num_mel_bins")
    c.put("frames", 2 * c.size("max_source_positions"))
    if c.size("max_target_positions") < _FREE_POSITIONS:
        c.mark("max_target_positions", c.numbers["max_target_positions"])
    c.activation("activation_function")
    c.dropout("dropout")
    c.dropout("activation_dropout")
    c.constant("attention_dropout", share(c, "attention_dropout"))
    c.skip("classifier_proj_size", "median_filter_width", "use_weighted_layer_sum", "decoder_start_token_id")
    if not c.given.get("apply_spec_augment"):
        c.skip("mask_time_prob", "mask_time_length", "mask_time_min_masks")
        c.skip("mask_feature_prob", "mask_feature_length", "mask_feature_min_masks")
    padding = c.value("pad_token_id")
    if isinstance(padding, int) and not padding < c.numbers["vocab_size"]:
        c.mark("pad_token_id", padding)


def _stack(c: Config) -> None:
    """Sizes in the naming of BERT."""
    c.size("hidden_size")
    c.size("num_attention_heads")
    c.put("head_dim", c.equal_parts("hidden_size", "num_attention_heads"))
    c.size("intermediate_size")
    c.layers("num_hidden_layers")
    c.activation("hidden_act")


def patches(c: Config) -> None:
    """An image cut into squares, and the one token that is none of them."""
    side, patch = c.value("image_size"), c.value("patch_size")
    if not isinstance(side, int) or not isinstance(patch, int):  # sides of an oblong
        c.mark("image_size", [side, patch])
        return
    c.size("num_channels")
    if c.put("grid", c.size("image_size") // c.size("patch_size")) < 1:
        raise c.fault("image_size", side, f"give at least patch_size, which is {patch}")
    c.put("image_tokens", int(c.numbers[c.prefix + "grid"]) ** 2 + 1)


def labels(c: Config) -> bool:
    """How many labels a classifier tells apart; False for a head that is none."""
    named: Any = c.given.get("architectures") or [""]
    if not isinstance(named, list) or not str(named[0]).endswith(_CLASSIFIERS):
        return False
    names, count = c.given.get("id2label"), c.given.get("num_labels")
    if names is not None and not isinstance(names, Mapping):
        raise c.fault("id2label", names, "give a table")
    c.put("labels", len(names) if names is not None else 2 if count is None else c.whole("num_labels"))
    if names is not None and count not in (None, len(names)):
        c.mark("num_labels", count)
    if c.given.get("problem_type") is not None:
        c.mark("problem_type", c.given["problem_type"])
    return True
