"""From a configuration to its model, or to what no template covers."""

from __future__ import annotations

import gzip
import json
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from rigwise.graph.families import decoders, encoders
from rigwise.graph.families.checks import check_needed, check_sizes, model_type_of
from rigwise.graph.families.config import Config, Known
from rigwise.graph.families.template import instance
from rigwise.graph.graph import Model

#: What reads the configurations of a family, by ``model_type``.
FAMILIES: Mapping[str, Callable[[Config], None]] = {
    "llama": decoders.llama,
    "mistral": decoders.mistral,
    "mixtral": decoders.mixtral,
    "qwen2": decoders.qwen2,
    "qwen3": decoders.qwen2,
    "qwen3_moe": decoders.qwen3_moe,
    "gemma": decoders.gemma,
    "gemma2": decoders.gemma2,
    "phi": decoders.phi,
    "phi3": decoders.phi3,
    "gpt2": decoders.gpt2,
    "gpt_neox": decoders.gpt_neox,
    "opt": decoders.opt,
    "falcon": decoders.falcon,
    "deepseek_v2": decoders.deepseek_v2,
    "deepseek_v3": decoders.deepseek_v3,
    "bert": encoders.bert,
    "roberta": encoders.roberta,
    "vit": encoders.vit,
    "clip": encoders.clip,
    "t5": encoders.t5,
    "whisper": encoders.whisper,
}

_QUANTISED = "weights are not quantised; choose a dtype when predicting"


class NotCoveredError(Exception):
    """A configuration that no template answers; says which key and value."""


def model_of(config: Mapping[str, Any], where: str) -> Model:
    """The model that a configuration describes, from its family's template.

    Args:
        config: Content of a ``config.json``.
        where: Its path, for messages.

    Raises:
        InvalidInputError: A size is missing or impossible, or sizes contradict each other.
        NotCoveredError: The family or one of its choices has no template.
    """
    model_type = model_type_of(config, where)
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise NotCoveredError(f"model_type is {reprlib.repr(model_type)}")
    check_sizes(config, where)
    family = read_family(model_type)
    head, marks, numbers = read_config(config, known_of(family), where)
    variant = variant_name(head, marks)
    if variant not in family["variants"]:
        raise NotCoveredError(_gap(head, marks, family["variants"]))
    model = instance(family, variant, numbers, where)
    notes = (_QUANTISED,) if "quantization_config" in config else ()
    card = replace(model.card, source=Path(where).name, assumed=(*model.card.assumed, *notes))
    return replace(model, card=card)


def read_config(config: Mapping[str, Any], known: Known, where: str) -> tuple[str, dict[str, str], dict[str, Any]]:
    """Class of the model, choices that differ from the usual ones, and sizes.

    Raises:
        InvalidInputError: As ``model_of``.
    """
    check_needed(config, known.needed, where)
    reader = Config(config, known, where)
    FAMILIES[config["model_type"]](reader)
    reader.finish()
    named = config.get("architectures")
    head = named[0] if isinstance(named, list) and named and isinstance(named[0], str) else known.usual_head
    return head, reader.marks, reader.numbers


def variant_name(head: str, marks: Mapping[str, str]) -> str:
    """The name of a variant in its template file.

    >>> variant_name("LlamaForCausalLM", {"tie_word_embeddings": "true"})
    'LlamaForCausalLM tie_word_embeddings=true'
    """
    return " ".join([head, *(f"{name}={value}" for name, value in sorted(marks.items()))])


@cache
def read_family(model_type: str) -> dict[str, Any]:
    """The template file of a family."""
    packed = files("rigwise.graph.families").joinpath("templates", f"{model_type}.json.gz").read_bytes()
    return json.loads(gzip.decompress(packed))  # type: ignore[no-any-return]


def known_of(family: Mapping[str, Any]) -> Known:
    """What a template file says about the keys of its family."""
    return Known(
        defaults=family["defaults"],
        aliases=family["aliases"],
        needed=tuple((own, common) for own, common in family["needed"]),
        usual_head=family["usual_head"],
        unread=tuple(family.get("unread", ())),
    )


def _gap(head: str, marks: Mapping[str, str], variants: Iterable[str]) -> str:
    """Which choices are in no template, in words."""
    known = [variant.split(" ") for variant in variants]
    if head not in {first for first, *_ in known}:
        return f"architectures names {head[:60]!r}"
    offered = {mark for first, *rest in known if first == head for mark in rest}
    new = {name: value for name, value in marks.items() if f"{name}={value}" not in offered} or marks
    words = [f"{name[:60]} is {value[:60]}" for name, value in sorted(new.items())[:3]]
    return " and ".join(words) or f"{head} is not captured with the usual choices"
