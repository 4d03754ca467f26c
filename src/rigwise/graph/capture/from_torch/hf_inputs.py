"""What a transformers model is fed, by what it takes: text, images, both, or speech.

Values do not matter, only shapes: token 0 everywhere, no padding. Text lengths are the symbol ``s``,
an image side the symbol ``p`` where the model accepts other sides than its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rigwise.errors import CaptureError, InvalidInputError
from rigwise.graph.capture.faults import as_capture_error
from rigwise.graph.capture.from_torch.loss import own_loss
from rigwise.graph.capture.subject import REFERENCE_BATCH, REFERENCE_TOKENS, Subject
from rigwise.graph.graph import Card

#: Model types whose positions are a table of weights, and how many rows of it are not positions.
_FROM_0 = "gpt2 opt bert distilbert electra gpt_neo gpt_bigcode biogpt albert bart mbart"
_FROM_2 = "roberta xlm-roberta camembert"
_LEARNED_POSITIONS = dict.fromkeys(_FROM_0.split(), 0) | dict.fromkeys(_FROM_2.split(), 2)

_CAUSAL = ("ForCausalLM", "LMHeadModel")
_ONE_LABEL = ("ForSequenceClassification", "ForImageClassification", "ForAudioClassification")

Inputs = Callable[[str, Mapping[str, int]], dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taker:
    """A built model and what its ``forward`` takes."""

    module: Any
    config: Any
    name: str
    where: str

    @property
    def takes(self) -> frozenset[str]:
        return frozenset(inspect.signature(self.module.forward).parameters)

    @property
    def head(self) -> str:
        return type(self.module).__name__

    def setting(self, key: str) -> int:
        """A size of the configuration that the inputs need."""
        value = getattr(self.config, key, None)
        if isinstance(value, list | tuple) and len(set(value)) == 1:
            value = value[0]
        if not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"{self.where}: {key} is {value!r}", hint="it must be a whole number above 0")
        return value

    def labels(self, task: str, ids: Any) -> dict[str, Any]:
        """Labels for a head that computes its own loss."""
        if task != "train" or "labels" not in self.takes:
            return {}
        shape = ids.shape[:1] if self.head.endswith(_ONE_LABEL) else ids.shape
        return {"labels": torch.zeros(shape, dtype=torch.long)}

    def subject(self, inputs: Inputs, symbols: Mapping[str, Mapping[str, int]], *assumed: str) -> Subject:
        """The finished subject."""
        causal = self.head.endswith(_CAUSAL)
        card = Card(
            title=self.head,
            family=self.config.model_type,
            source=Path(self.where).name,
            reference_batch=REFERENCE_BATCH,
            causal=causal,
            assumed=assumed,
        )
        return Subject(name=self.name, module=self.module, inputs=inputs, loss=own_loss, symbols=symbols, card=card)


def with_inputs(module: Any, config: Any, *, name: str, where: str) -> Subject:
    """The subject of a built transformers model.

    Raises:
        CaptureError: It takes something else than text, images or speech.
    """
    taker = _Taker(module=module, config=config, name=name, where=where)
    takes = taker.takes
    if {"input_ids", "pixel_values", "return_loss"} <= takes and hasattr(config, "vision_config"):
        return _image_and_text(taker)
    if "input_features" in takes and getattr(config, "is_encoder_decoder", False):
        return _speech(taker)
    if "pixel_values" in takes and "input_ids" not in takes:
        return _image(taker)
    if "input_ids" in takes and getattr(config, "is_encoder_decoder", False):
        return _text_to_text(taker)
    if "input_ids" in takes:
        return _text(taker)
    raise CaptureError(
        f"{where}: what {taker.head} takes ({', '.join(sorted(takes)[:4])}, ...) is not known here",
        hint="give it as package.module:factory with example inputs",
    )


def _text(taker: _Taker) -> Subject:
    takes, config = taker.takes, taker.config
    tokens = min(REFERENCE_TOKENS, _positions(config) or REFERENCE_TOKENS)
    keyword = next((name for name in ("past_key_values", "cache_params") if name in takes), "")
    cached = bool(keyword) and taker.head.endswith(_CAUSAL)
    make_cache = _cache_maker(taker, keyword) if cached else None

    def inputs(task: str, sizes: Mapping[str, int]) -> dict[str, Any]:
        ids = torch.zeros(sizes["b"], sizes.get("s", 1), dtype=torch.long)
        arguments = {"input_ids": ids, **taker.labels(task, ids)}
        if "use_cache" in takes:
            arguments["use_cache"] = task in ("prefill", "decode")
        if make_cache and task in ("prefill", "decode"):
            arguments[keyword] = make_cache(sizes.get("c", 0), sizes["b"])
        if task == "prefill" and "logits_to_keep" in takes:
            arguments["logits_to_keep"] = 1
        return arguments

    symbols = {task: {"b": REFERENCE_BATCH, "s": tokens} for task in ("train", "infer")}
    if cached:
        symbols["prefill"] = {"b": REFERENCE_BATCH, "s": tokens}
        symbols["decode"] = {"b": REFERENCE_BATCH, "c": tokens - (config.model_type in _LEARNED_POSITIONS)}
    text_only = ("text alone: its images are not run",) if "pixel_values" in takes else ()
    return taker.subject(inputs, symbols, *_limit_note(config), *text_only)


def _cache_maker(taker: _Taker, keyword: str) -> Callable[[int, int], Any]:
    """From the tokens that are in it and the batch to a cache of the kind that the model keeps."""
    from rigwise.graph.capture.from_torch.kv_cache import KeyValueCache

    if not hasattr(taker.config, "layer_types"):
        return lambda past, _batch: KeyValueCache(taker.config.num_hidden_layers, past)
    from rigwise.graph.capture.from_torch.state_cache import StateCache, trial_layers

    try:
        layers = trial_layers(taker.module, taker.config, keyword)
    except Exception as error:
        return _refusal(as_capture_error(error, f"{taker.head} with a cache"))
    if not layers:
        return lambda past, _batch: KeyValueCache(taker.config.num_hidden_layers, past)
    return lambda past, batch: StateCache(layers, past, batch)


def _refusal(fault: Exception) -> Callable[[int, int], Any]:
    """A maker of no cache: the tasks that need one are left out, with the reason."""

    def refuse(_past: int, _batch: int) -> Any:
        raise fault

    return refuse


def _text_to_text(taker: _Taker) -> Subject:
    def inputs(task: str, sizes: Mapping[str, int]) -> dict[str, Any]:
        ids = torch.zeros(sizes["b"], sizes["s"], dtype=torch.long)
        arguments = {"input_ids": ids, "use_cache": False, **taker.labels(task, ids)}
        return arguments if "labels" in arguments else arguments | {"decoder_input_ids": ids}

    tokens = min(512, _positions(taker.config) or 512)
    symbols = {task: {"b": REFERENCE_BATCH, "s": tokens} for task in ("train", "infer")}
    return taker.subject(inputs, symbols, "encoder and decoder both run s tokens", *_limit_note(taker.config))


def _image(taker: _Taker) -> Subject:
    config = taker.config
    channels = int(getattr(config, "num_channels", 3))
    side = taker.setting("image_size") if getattr(config, "image_size", None) is not None else 224

    def inputs(task: str, sizes: Mapping[str, int]) -> dict[str, Any]:
        pixels = torch.empty(sizes["b"], channels, sizes["p"], sizes["p"])
        return {"pixel_values": pixels, **taker.labels(task, pixels)}

    return taker.subject(inputs, {task: {"b": REFERENCE_BATCH, "p": side} for task in ("train", "infer")})


def _image_and_text(taker: _Taker) -> Subject:
    vision, text = taker.config.vision_config, taker.config.text_config
    side, tokens = int(vision.image_size), int(text.max_position_embeddings)

    def inputs(task: str, sizes: Mapping[str, int]) -> dict[str, Any]:
        arguments = {
            "input_ids": torch.zeros(sizes["b"], tokens, dtype=torch.long),
            "pixel_values": torch.empty(sizes["b"], vision.num_channels, sizes["p"], sizes["p"]),
        }
        if task == "train" and "return_loss" in taker.takes:
            arguments["return_loss"] = True
        return arguments

    symbols = {task: {"b": REFERENCE_BATCH, "p": side} for task in ("train", "infer")}
    return taker.subject(inputs, symbols, f"one text of {tokens} tokens for every image")


def _speech(taker: _Taker) -> Subject:
    frames = 2 * taker.setting("max_source_positions")
    bins, limit = taker.setting("num_mel_bins"), taker.setting("max_target_positions")

    def inputs(task: str, sizes: Mapping[str, int]) -> dict[str, Any]:
        ids = torch.zeros(sizes["b"], sizes["s"], dtype=torch.long)
        features = torch.empty(sizes["b"], bins, frames)
        arguments = {"input_features": features, "use_cache": False, **taker.labels(task, ids)}
        return arguments if "labels" in arguments else arguments | {"decoder_input_ids": ids}

    symbols = {task: {"b": REFERENCE_BATCH, "s": min(128, limit)} for task in ("train", "infer")}
    return taker.subject(inputs, symbols, f"the encoder hears {frames} frames, the decoder writes s tokens")


def _positions(config: Any) -> int | None:
    """How many tokens a model says it takes, None if it does not say."""
    rows = getattr(config, "max_position_embeddings", None)
    return rows - _LEARNED_POSITIONS.get(config.model_type, 0) if isinstance(rows, int) and rows > 2 else None


def _limit_note(config: Any) -> tuple[str, ...]:
    """What a reader should know of a model whose positions end."""
    if config.model_type not in _LEARNED_POSITIONS:
        return ()
    return (f"at most {_positions(config)} tokens, as positions are learned",)
