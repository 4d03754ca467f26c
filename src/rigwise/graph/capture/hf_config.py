"""A Hugging Face ``config.json`` becomes a module without weights, its inputs and its symbols.

Nothing is downloaded and no code from a model repository runs: the architecture must be one that the
installed transformers knows. Sizes are checked before anything is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from rigwise.errors import CaptureError, InvalidInputError, near_matches
from rigwise.graph.capture import attention
from rigwise.graph.capture.assemble import capture
from rigwise.graph.capture.fake import BuildingModules, fake_tensors
from rigwise.graph.capture.hf_inputs import with_inputs
from rigwise.graph.capture.subject import Subject
from rigwise.graph.graph import Model

_ATTENTION = "rigwise"

#: Sizes that every transformer has, by the name transformers gives them inside.
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

#: Sizes that may not be 0, under all their names.
_POSITIVE_NAMES = """
    hidden_size d_model n_embd dim vocab_size num_hidden_layers num_layers n_layer n_layers num_attention_heads
    num_heads n_head n_heads num_key_value_heads intermediate_size d_ff d_kv head_dim image_size patch_size
    hidden_sizes depths
"""
_POSITIVE = frozenset(_POSITIVE_NAMES.split())
_SIZE_ENDINGS = ("_size", "_sizes", "_dim", "_dims", "_layers", "_heads", "_positions", "_embeddings", "_experts")

#: Above every published model: a vocabulary of 16 million, a thousand layers.
_MAX_SIZE, _MAX_LAYERS = 2**24, 1024

#: Keys that are about running a model, not about its shape.
_NOT_SHAPE_NAMES = """
    architectures auto_map quantization_config torch_dtype dtype _attn_implementation attn_implementation
    torchscript output_attentions output_hidden_states return_dict use_return_dict gradient_checkpointing
"""
_NOT_SHAPE = frozenset(_NOT_SHAPE_NAMES.split())


def model(request: Mapping[str, Any]) -> Model:
    """The model of a request: ``config``, ``name`` and ``where``."""
    with fake_tensors():
        return capture(subject(request["config"], name=request["name"], where=request["where"]))


def subject(config: Mapping[str, Any], *, name: str, where: str) -> Subject:
    """The subject that a configuration describes; call it inside ``fake_tensors()``.

    Args:
        config: Content of the file.
        name: Name of the captured model.
        where: File name, for messages.

    Raises:
        InvalidInputError: A size is missing, negative or absurd.
        CaptureError: transformers does not know the architecture, or cannot build it.
    """
    import transformers

    model_type = config.get("model_type")
    if model_type is None:
        raise InvalidInputError(f"{where}: model_type is missing", hint="is it of a transformers model?")
    known = transformers.CONFIG_MAPPING
    if not isinstance(model_type, str) or model_type not in known:
        raise CaptureError(
            f"{where}: model_type is {model_type!r}, which transformers {transformers.__version__} does not know",
            hint=near_matches(str(model_type), known.keys()) or "models that bring their own code are not run",
        )
    _check_sizes(config, where)
    _check_needed(config, known[model_type], where)
    model_class = _model_class(config, model_type, where)
    module, settings = _build(config, known[model_type], model_class, where)
    found = with_inputs(module, settings, name=name, where=where)
    if "quantization_config" not in config:
        return found
    note = "weights are not quantised; choose a dtype when predicting"
    return replace(found, card=replace(found.card, assumed=(*found.card.assumed, note)))


def _check_sizes(config: Mapping[str, Any], where: str) -> None:
    """Refuse sizes that are negative, no whole numbers or beyond reason; nested configurations too."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            _check_sizes(value, f"{where}: {key}")
        elif key in _POSITIVE or key.endswith(_SIZE_ENDINGS):
            for size in value if isinstance(value, list) else [value]:
                _check_size(key, size, where)


def _check_size(key: str, size: Any, where: str) -> None:
    if size is None or isinstance(size, bool) or (key not in _POSITIVE and not isinstance(size, int | float)):
        return  # not a size after all, such as a list of kinds of layers
    least = 1 if key in _POSITIVE else -1  # which some keys have for "no limit"
    most = _MAX_LAYERS if key in ("depths", "n_layer") or key.endswith("layers") else _MAX_SIZE
    if not isinstance(size, int) or not least <= size <= most:
        raise InvalidInputError(
            f"{where}: {key} is {size!r}", hint=f"give a whole number from {max(0, least)} to {most:,}"
        )


def _check_needed(config: Mapping[str, Any], config_class: Any, where: str) -> None:
    """Refuse a configuration without its main sizes, which transformers would fill with some model's own."""
    names = getattr(config_class, "attribute_map", {})
    known = inspect.signature(config_class.__init__).parameters
    for key in _NEEDED:
        own = names.get(key, key)
        if own in known and own != "num_stages" and own not in config and key not in config:
            raise InvalidInputError(f"{where}: {own} is missing", hint="a model cannot be built without it")


def _model_class(config: Mapping[str, Any], model_type: str, where: str) -> Any:
    """The class named under ``architectures``, or the usual head of the model type."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        found = getattr(transformers, named[0], None)
        if found is None or not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
            raise CaptureError(
                f"{where}: architectures names {named[0]!r}, which transformers {transformers.__version__} lacks",
                hint=near_matches(named[0], dir(transformers)),
            )
        return found
    for table in (
        auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if model_type not in _ENCODERS else {},
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_MAPPING_NAMES,
    ):
        entry = table.get(model_type)
        usual = entry[0] if isinstance(entry, tuple | list) else entry
        if isinstance(usual, str) and hasattr(transformers, usual):
            return getattr(transformers, usual)
    raise CaptureError(
        f"{where}: no model class is known for model_type {model_type!r}", hint="name one under architectures"
    )


#: Encoders that also have a causal head, which is not their usual one.
_ENCODERS_NAMES = """
    bert roberta xlm-roberta electra camembert data2vec-text ernie rembert roformer big_bird
"""
_ENCODERS = frozenset(_ENCODERS_NAMES.split())


def _build(config: Mapping[str, Any], config_class: Any, model_class: Any, where: str) -> tuple[Any, Any]:
    settings = {key: value for key, value in config.items() if key not in _NOT_SHAPE}
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        built = config_class.from_dict(settings)
        use_whole_attention(model_class, built)
        with BuildingModules():
            module = model_class(built)
    except (InvalidInputError, CaptureError):
        raise
    except Exception as error:
        raise CaptureError(f"{where}: transformers cannot build {model_class.__name__}: {_line(error)}") from error
    finally:
        torch.set_default_dtype(before)
    return module, built


def use_whole_attention(model_class: Any, config: Any) -> None:
    """Have a model call ``attention.interface``, if its class looks attention functions up.

    Older classes call PyTorch's function themselves. They get no mask either, so that they say "causal"
    instead of passing a matrix, as they do when nothing is traced and nothing is padded.
    """
    import transformers

    transformers.AttentionInterface.register(_ATTENTION, attention.interface)
    transformers.AttentionMaskInterface.register("sdpa", lambda *_, **__: None)
    if hasattr(inspect.getmodule(model_class), "ALL_ATTENTION_FUNCTIONS"):
        config._attn_implementation = _ATTENTION


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
