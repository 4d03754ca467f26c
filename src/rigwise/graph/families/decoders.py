"""Decoders: which keys of a configuration are sizes, and what follows from them.

Each function reads one configuration of its family. What it does not ask for may only have
transformers' default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rigwise.graph.families.config import Config

#: Tokens at which a graph is referred to where the model takes as many; as ``capture/subject.py`` has it.
REFERENCE_TOKENS = 1024

#: Ways to scale rotary positions that only change a table made beforehand, and the numbers each needs.
_SCALINGS = {
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
    "yarn": ("factor",),
}
_YARN_MAY_HAVE = (
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
)


def llama(c: Config) -> None:
    """Llama 1 to 3."""
    decoder(c)
    c.equal_parts("hidden_size", "num_attention_heads")


def mistral(c: Config) -> None:
    """Mistral, with and without a sliding window."""
    decoder(c)
    c.window()


def mixtral(c: Config) -> None:
    """Mixtral: every layer routes each token to some of its experts."""
    mistral(c)
    experts(c, "num_local_experts")


def qwen2(c: Config) -> None:
    """Qwen 2, 2.5 and 3: the window is declared, but off."""
    decoder(c)
    if not c.given.get("use_sliding_window"):
        c.skip("sliding_window", "max_window_layers")
        c.only(layer_types=["full_attention"] * int(c.numbers["num_hidden_layers"]))


def qwen3_moe(c: Config) -> None:
    """Qwen 3 with experts in every layer."""
    qwen2(c)
    experts(c, "num_local_experts")
    c.size("moe_intermediate_size")


def gemma(c: Config) -> None:
    """Gemma 1."""
    c.only(hidden_activation=None)
    c.only(hidden_activation="gelu_pytorch_tanh")
    decoder(c)


def gemma2(c: Config) -> None:
    """Gemma 2: layers with a window and without take turns."""
    decoder(c)
    c.window()
    c.skip("query_pre_attn_scalar", "attn_logit_softcapping")
    layers = int(c.numbers["num_hidden_layers"])
    kinds = ("sliding_attention", "full_attention")
    c.only(layer_types=[kinds[i % 2] for i in range(layers)], cache_implementation="hybrid")
    if layers % 2 or layers < 6:
        c.mark("num_hidden_layers", layers)
    c.put("layer_pairs", layers // 2)


def phi(c: Config) -> None:
    """Phi 1, 1.5 and 2: attention and the products side by side."""
    decoder(c, partial="partial_rotary_factor")
    c.dropout("resid_pdrop")
    c.dropout("embd_pdrop")


def phi3(c: Config) -> None:
    """Phi 3, 3.5 and 4: projections of one input joined."""
    phi(c)
    c.window()


def gpt2(c: Config) -> None:
    """GPT-2, and GPT-3 in its shape."""
    hidden = c.size("n_embd")
    c.size("n_head")
    c.put("head_dim", c.equal_parts("n_embd", "n_head"))
    c.size("vocab_size")
    c.layers("n_layer")
    c.put("inner_size", c.whole("n_inner", 4 * hidden))
    text(c, "n_positions")
    c.activation("activation_function")
    c.dropout("resid_pdrop")
    c.dropout("embd_pdrop")
    c.constant("attn_pdrop", share(c, "attn_pdrop"))
    c.skip("n_ctx", "summary_type", "summary_use_proj", "summary_activation")
    c.skip("summary_proj_to_labels", "summary_first_dropout")
    c.only(output_past=True)


def gpt_neox(c: Config) -> None:
    """GPT-NeoX and Pythia: attention and the products side by side."""
    c.size("hidden_size")
    c.size("num_attention_heads")
    depth = c.put("head_dim", c.equal_parts("hidden_size", "num_attention_heads"))
    c.size("intermediate_size")
    c.size("vocab_size")
    c.layers("num_hidden_layers")
    c.activation("hidden_act")
    rotary(c, depth, partial="rotary_pct")
    text(c)
    c.dropout("hidden_dropout")
    c.constant("attention_dropout", share(c, "attention_dropout"))
    c.skip("classifier_dropout")


def opt(c: Config) -> None:
    """OPT; the one of 350 million parameters has narrower words and norms behind its blocks."""
    hidden = c.size("hidden_size")
    c.size("num_attention_heads")
    c.put("head_dim", c.equal_parts("hidden_size", "num_attention_heads"))
    c.size("ffn_dim")
    c.size("vocab_size")
    c.layers("num_hidden_layers")
    if c.whole("word_embed_proj_dim", hidden) != hidden:
        c.size("word_embed_proj_dim")
        c.mark("word_embed_proj_dim", "other")
    text(c)
    c.activation("activation_function")
    c.dropout("dropout")
    c.constant("attention_dropout", share(c, "attention_dropout"))
    c.only(activation_dropout=0.0)


def falcon(c: Config) -> None:
    """Falcon 7B, whose heads share one of keys and values, and 40B, where groups do."""
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    depth = c.put("head_dim", c.equal_parts("hidden_size", "num_attention_heads"))
    c.put("ffn_hidden_size", c.whole("ffn_hidden_size", 4 * hidden))
    c.size("vocab_size")
    c.layers("num_hidden_layers")
    c.activation("activation")
    if c.given.get("new_decoder_architecture") or c.given.get("multi_query") is False:
        if c.size("num_kv_heads", heads) == heads:
            c.mark("num_kv_heads", "all")
        c.constant("heads_of_a_group", c.equal_parts("num_attention_heads", "num_kv_heads"))
    c.skip("num_kv_heads")
    rotary(c, depth)
    text(c)
    c.dropout("hidden_dropout")
    c.constant("attention_dropout", share(c, "attention_dropout"))
    c.only(apply_residual_connection_post_layernorm=False)


def deepseek(c: Config) -> None:
    """DeepSeek V2 and V3: keys and values pass through a narrow middle; some layers route to experts."""
    c.size("hidden_size")
    heads = c.size("num_attention_heads")
    if c.whole("num_key_value_heads", heads) != heads:
        c.mark("num_key_value_heads", "fewer")
    c.size("intermediate_size")
    c.size("vocab_size")
    c.size("kv_lora_rank")
    if c.given.get("q_lora_rank", c.defaults.get("q_lora_rank")) is not None:
        c.size("q_lora_rank")
    c.size("qk_nope_head_dim")
    c.size("v_head_dim")
    rotary(c, c.size("qk_rope_head_dim"))
    experts(c, "n_routed_experts")
    width = c.size("moe_intermediate_size")
    c.put("shared_size", width * c.whole("n_shared_experts"))
    _layers_of_experts(c)
    text(c)
    c.activation("hidden_act")
    c.constant("attention_dropout", share(c, "attention_dropout"))
    c.skip("head_dim", "num_nextn_predict_layers")
    c.only(moe_layer_freq=1, ep_size=1)


def deepseek_v2(c: Config) -> None:
    """DeepSeek V2: experts are chosen among all, or among those of the best groups."""
    deepseek(c)
    if c.numbers["kv_lora_rank"] % 2:  # pairs of what lies behind it are read as complex numbers
        c.mark("kv_lora_rank", "odd")
    c.only(scoring_func="softmax")
    if c.peek("topk_method") == "greedy":
        c.skip("n_group", "topk_group")
    else:
        _groups_of_experts(c)


def deepseek_v3(c: Config) -> None:
    """DeepSeek V3 and R1."""
    deepseek(c)
    c.only(scoring_func="sigmoid", topk_method="noaux_tc")
    _groups_of_experts(c)


def _layers_of_experts(c: Config) -> None:
    """The first layers are without experts; how many is a case of its own."""
    layers, dense = c.layers("num_hidden_layers"), c.whole("first_k_dense_replace", least=0)
    if dense != c.defaults.get("first_k_dense_replace"):
        c.mark("first_k_dense_replace", dense)
    if layers - dense < 3:
        c.mark("num_hidden_layers", layers)


def _groups_of_experts(c: Config) -> None:
    groups, chosen = c.size("n_group"), c.size("topk_group")
    c.put("group_size", c.equal_parts("n_routed_experts", "n_group"))
    if chosen > groups:
        raise c.fault("topk_group", chosen, f"there are {groups} groups")


def experts(c: Config, key: str) -> None:
    """Experts, and how many of them each token goes to.

    Raises:
        InvalidInputError: More than there are.
    """
    count, chosen = c.size(key), c.size("num_experts_per_tok")
    if chosen > count:
        raise c.fault("num_experts_per_tok", chosen, f"there are {count} experts")


def decoder(c: Config, *, partial: str = "") -> None:
    """Sizes in the naming of Llama, which most later decoders share.

    Args:
        c: The configuration.
        partial: Key of the share of each head that rotary positions turn, where it is not all.
    """
    hidden, heads = c.size("hidden_size"), c.size("num_attention_heads")
    c.size("intermediate_size")
    c.size("vocab_size")
    c.layers("num_hidden_layers")
    c.activation("hidden_activation" if "hidden_activation" in c.defaults else "hidden_act")
    groups(c, heads)
    if c.value("head_dim") is None:
        c.equal_parts("hidden_size", "num_attention_heads", but=", or give head_dim")
    depth = c.size("head_dim", hidden // heads)
    rotary(c, depth, partial=partial)
    text(c)
    c.constant("attention_dropout", share(c, "attention_dropout"))


def groups(c: Config, heads: int) -> None:
    """Heads of queries, which share heads of keys and values.

    Raises:
        InvalidInputError: They do not divide evenly.
    """
    c.size("num_key_value_heads", heads)
    c.equal_parts("num_attention_heads", "num_key_value_heads")


def text(c: Config, key: str = "max_position_embeddings", *, spare: int = 0) -> None:
    """The length of text at which a graph is referred to.

    Args:
        c: The configuration.
        key: How many positions there are; learned ones are rows of a table.
        spare: Rows of that table that are no positions.
    """
    rows = c.whole(key)
    positions = rows - spare if rows > 2 else REFERENCE_TOKENS
    c.constant(key, rows)
    c.constant("positions", positions)
    c.constant("tokens", min(REFERENCE_TOKENS, positions))
    if positions < 8:
        c.mark(key, rows)
    padding = c.value("pad_token_id")
    if isinstance(padding, int) and not padding < c.numbers[c.prefix + "vocab_size"]:
        c.mark("pad_token_id", padding)


def share(c: Config, key: str) -> float:
    """A probability that one operator takes as an argument.

    Raises:
        InvalidInputError: It is no number from 0 to below 1.
    """
    value = c.value(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise c.fault(key, value, "give a number from 0 to below 1")
    return float(value)


def rotary(c: Config, depth: int, *, partial: str = "") -> None:
    """Rotary positions: how many pairs of a head they turn.

    Raises:
        InvalidInputError: What is turned is no number of pairs.
    """
    given = c.given.get("rope_parameters") or c.given.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise c.fault("rope_scaling", given, "give a table, or leave it out")
    if c.given.get("rope_parameters") and c.given.get("rope_scaling"):
        c.mark("rope_scaling", c.given["rope_scaling"])
    c.skip("rope_parameters", "rope_scaling", "rope_theta", "original_max_position_embeddings")
    turned = depth
    if partial:
        usual = c.defaults.get("partial_rotary_factor")
        part = given.get("partial_rotary_factor", c.given.get(partial, usual))
        c.skip(partial)
        if isinstance(part, bool) or not isinstance(part, int | float) or not 0 < part <= 1:
            raise c.fault(partial, part, "give a number above 0, to 1")
        turned = int(depth * part)
    if turned % 2 or not turned:
        raise c.fault("head_dim", depth, f"rotary positions turn pairs, and these are {turned}")
    c.put("rotary_pairs", turned // 2)
    if partial:
        c.put("rotary_rest", depth - turned)
    if not _is_table_only(given, partial=bool(partial)):
        c.mark("rope_scaling", dict(given))


def _is_table_only(given: Mapping[str, Any], *, partial: bool) -> bool:
    """Whether rotary positions are looked up in a table whatever the length of the text."""
    kind = given.get("rope_type", given.get("type", "default"))
    if not isinstance(kind, str) or kind not in _SCALINGS:
        return False
    allowed = {"rope_type", "type", "rope_theta", *_SCALINGS[kind], *(_YARN_MAY_HAVE if kind == "yarn" else ())}
    allowed |= {"partial_rotary_factor"} if partial else set()
    numbers = [given.get(key) for key in _SCALINGS[kind]]
    return allowed >= set(given) and all(
        isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in numbers
    )
