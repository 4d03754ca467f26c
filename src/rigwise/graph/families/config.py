"""A configuration while it is read: what is a size becomes a number, every other choice a mark.

The numbers go into the formulas of a template, the marks choose the template. Whatever nobody asked
for is compared with transformers' default, and becomes a mark if it differs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rigwise.errors import InvalidInputError

#: Keys that no shape depends on: names, tokens, scales, how a model is initialised, run or generates.
_HARMLESS_NAMES = """
    architectures model_type _name_or_path name_or_path transformers_version torch_dtype dtype auto_map
    quantization_config _attn_implementation attn_implementation _attn_implementation_internal
    _attn_implementation_autoset torchscript use_bfloat16 output_attentions output_hidden_states return_dict
    use_return_dict gradient_checkpointing use_cache pretraining_tp model_max_length tokenizer_class prefix
    bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id unk_token_id image_token_id
    initializer_range initializer_factor init_std embedding_initializer_range rms_norm_eps layer_norm_eps
    layer_norm_epsilon norm_eps rope_theta rotary_emb_base logit_scale_init_value routed_scaling_factor
    router_aux_loss_coef aux_loss_alpha seq_aux task_specific_params finetuning_task problem_type
    id2label label2id num_labels
    max_length min_length max_new_tokens do_sample early_stopping num_beams num_beam_groups diversity_penalty
    temperature top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
    encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate
    forced_bos_token_id forced_eos_token_id forced_decoder_ids remove_invalid_values
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens tf_legacy_loss
"""
HARMLESS = frozenset(_HARMLESS_NAMES.split())

#: Keys that transformers once wrote into every configuration, and what they said if nobody had changed them.
_OLD_DEFAULTS: Mapping[str, Any] = {
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "tie_encoder_decoder": False,
    "chunk_size_feed_forward": 0,
    "decoder_start_token_id": None,
    "output_past": True,
    "pruned_heads": {},
}
_NONE = object()

#: Names of activation functions that PyTorch computes by one and the same operator.
_SAME_OPERATOR = {"gelu_pytorch_tanh": "gelu", "swish": "silu"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What transformers says of a family of models.

    Attributes:
        defaults: Value of every key that a configuration may leave out.
        aliases: Other names of keys, and the key each stands for.
        needed: Main sizes, by the family's name and by the common one.
        usual_head: Class of a configuration that names none.
        unread: Keys that published configurations have and transformers' code never reads.
    """

    defaults: Mapping[str, Any]
    aliases: Mapping[str, str] = field(default_factory=dict)
    needed: tuple[tuple[str, str], ...] = ()
    usual_head: str = ""
    unread: tuple[str, ...] = ()


class Config:
    """One configuration, or a nested one with ``prefix`` before its keys.

    Attributes:
        numbers: Sizes found so far, by the names that formulas use.
        marks: Other choices found so far, in words.
    """

    def __init__(self, given: Mapping[str, Any], known: Known, where: str, prefix: str = "") -> None:
        self.where, self.prefix = where, prefix
        self.defaults = {known.aliases.get(key, key): value for key, value in known.defaults.items()}
        self.given = {known.aliases.get(key, key): value for key, value in given.items()}
        self.numbers: dict[str, int | float] = {}
        self.marks: dict[str, str] = {}
        self._read = set(known.unread)
        for key, value in given.items():
            if self.given[known.aliases.get(key, key)] != value:
                raise self.fault(key, value, f"leave out one of {key} and {known.aliases.get(key, key)}")

    def fault(self, key: str, value: Any, hint: str) -> InvalidInputError:
        """The error to raise for the value of one key."""
        return InvalidInputError(f"{self.where}: {self.prefix}{key} is {value!r}", hint=hint)

    def value(self, key: str, otherwise: Any = None) -> Any:
        """What a key says, or its default where it is missing; ``otherwise`` where that is null."""
        self._read.add(key)
        value = self.given.get(key, self.defaults.get(key))
        return otherwise if value is None else value

    def peek(self, key: str) -> Any:
        """What a key says, or its default; it still becomes a mark where that is another."""
        return self.given.get(key, self.defaults.get(key))

    def whole(self, key: str, otherwise: int | None = None, *, least: int = 1) -> int:
        """A whole number that no formula needs by itself.

        Raises:
            InvalidInputError: It is none, or less than ``least``.
        """
        value = self.value(key, otherwise)
        if type(value) is not int or value < least:
            raise self.fault(key, value, f"give a whole number from {least}")
        return value

    def size(self, key: str, otherwise: int | None = None) -> int:
        """A size for the formulas, under its own key; same errors as ``whole``."""
        return self.put(key, self.whole(key, otherwise))

    def put(self, name: str, value: int) -> int:
        """A number that follows from others, for the formulas. One layer, head or label is a case of its own."""
        self.numbers[self.prefix + name] = value
        if value <= 1:
            self.mark(name, value)
        return value

    def constant(self, name: str, value: float) -> None:
        """A number that never changes which operators run."""
        self.numbers[self.prefix + name] = value

    def dropout(self, key: str) -> None:
        """A probability to drop: none at all is a case of its own.

        Raises:
            InvalidInputError: It is no number from 0 to below 1.
        """
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise self.fault(key, value, "give a number from 0 to below 1")
        self.numbers[self.prefix + key] = float(value)
        if bool(value) != bool(self.defaults.get(key)):
            self.mark(key, "none" if not value else "some")

    def layers(self, key: str) -> int:
        """A number of equal layers. The first reads what no other does, so that fewer than 3 are a case of their own.

        Raises:
            InvalidInputError: As ``whole``.
        """
        count = self.size(key)
        if count < 3:
            self.mark(key, count)
        return count

    def activation(self, key: str) -> None:
        """The name of an activation function; those of one operator are the same."""
        name, usual = self.value(key), self.defaults.get(key)
        if _SAME_OPERATOR.get(str(name), name) != _SAME_OPERATOR.get(str(usual), usual):
            self.mark(key, _SAME_OPERATOR.get(str(name), name))

    def window(self, key: str = "sliding_window") -> None:
        """How far back attention looks, which is an argument of its operator; null is no limit."""
        self._read.add(key)
        if self.given.get(key, self.defaults.get(key)) is not None:
            self.constant(key, self.whole(key))
        if (key in self.numbers) != (self.defaults.get(key) is not None):
            self.mark(key, "some" if key in self.numbers else None)

    def only(self, **usual: Any) -> None:
        """Keys of other versions of a family, with the value that means what transformers does anyhow."""
        for key, value in usual.items():
            if key in self.given and _equal(self.given[key], value):
                self._read.add(key)

    def mark(self, name: str, value: Any) -> None:
        """A choice that a template must have been captured with."""
        self.marks[self.prefix + name] = json.dumps(value, sort_keys=True, separators=(",", ":"))

    def skip(self, *keys: str) -> None:
        """Keys that change nothing here."""
        self._read.update(keys)

    def equal_parts(self, whole: str, parts: str, *, but: str = "") -> int:
        """A number that must be a multiple of another: how often.

        Raises:
            InvalidInputError: It is no multiple.
        """
        first, second = self.numbers[self.prefix + whole], self.numbers[self.prefix + parts]
        if first % second:
            raise self.fault(whole, first, f"give a multiple of {parts}, which is {second}{but}")
        return int(first // second)

    def finish(self) -> None:
        """Mark whatever was given, was not asked for and is not the default.

        Raises:
            InvalidInputError: A key has a value of another type than its default.
        """
        for key, value in self.given.items():
            if key in self._read:
                continue
            default = self.defaults.get(key)
            if isinstance(default, bool | float) and not _same_type(value, default):
                raise self.fault(key, value, "give true or false" if isinstance(default, bool) else "give a number")
            usual = default if key in self.defaults else _OLD_DEFAULTS.get(key, _NONE)
            if key not in HARMLESS and not _equal(value, usual):
                self.mark(key, value)


def _same_type(value: Any, default: Any) -> bool:
    if value is None or isinstance(default, bool) or isinstance(value, bool):
        return value is None or isinstance(value, bool) == isinstance(default, bool)
    return isinstance(value, int | float)


def _equal(value: Any, default: Any) -> bool:
    """Equal and of the same type: 1 is not true."""
    return bool(value == default) and isinstance(value, bool) == isinstance(default, bool)
