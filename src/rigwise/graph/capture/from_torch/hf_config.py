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
from rigwise.graph.capture.from_torch import attention
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import BuildingModules, fake_tensors
from rigwise.graph.capture.from_torch.hf_inputs import with_inputs
from rigwise.graph.capture.subject import Subject
from rigwise.graph.families.checks import NEEDED, check_needed, check_sizes, model_type_of
from rigwise.graph.families.config import HARMLESS
from rigwise.graph.graph import Model

_ATTENTION = "rigwise"

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

    model_type = model_type_of(config, where)
    known = transformers.CONFIG_MAPPING
    if not isinstance(model_type, str) or model_type not in known:
        raise CaptureError(
            f"{where}: model_type is {model_type!r}, which transformers {transformers.__version__} does not know",
            hint=near_matches(str(model_type), known.keys()) or "models that bring their own code are not run",
        )
    check_sizes(config, where)
    check_needed(config, needed_sizes(known[model_type]), where)
    model_class = _model_class(config, model_type, where)
    module, settings = _build(config, known[model_type], model_class, where)
    found = with_inputs(module, settings, name=name, where=where)
    notes = []
    if "quantization_config" in config:
        notes.append("weights are not quantised; choose a dtype when predicting")
    if ignored := _unknown_keys(config, known[model_type]):
        notes.append(f"keys that transformers does not know are ignored: {', '.join(ignored)[:200]}")
    return replace(found, card=replace(found.card, assumed=(*found.card.assumed, *notes)))


def _unknown_keys(config: Mapping[str, Any], config_class: Any) -> list[str]:
    """Keys that neither the kind of model nor configurations in general have, such as a typo."""
    own = inspect.signature(config_class.__init__).parameters
    names = getattr(config_class, "attribute_map", {})
    general = HARMLESS | _NOT_SHAPE | set(dir(config_class)) | {"rope_theta", "rope_scaling"}
    return sorted(key for key in config if key not in own and key not in names and key not in general)


def needed_sizes(config_class: Any) -> list[tuple[str, str]]:
    """The main sizes that a kind of model has, by its own name for each and by the common one."""
    names = getattr(config_class, "attribute_map", {})
    known = inspect.signature(config_class.__init__).parameters
    own = [(names.get(key, key), key) for key in NEEDED]
    return [(name, key) for name, key in own if name in known and name != "num_stages"]


def _model_class(config: Mapping[str, Any], model_type: str, where: str) -> Any:
    """The class named under ``architectures``, or the usual head of the model type."""
    import transformers

    named = config.get("architectures")
    if isinstance(named, list) and named and isinstance(named[0], str):
        found = getattr(transformers, named[0], None)
        if found is None or not isinstance(found, type) or not issubclass(found, transformers.PreTrainedModel):
            raise CaptureError(
                f"{where}: architectures names {named[0]!r}, which transformers {transformers.__version__} lacks",
                hint=near_matches(named[0], dir(transformers)),
            )
        return found
    usual = usual_class(model_type)
    if usual is None:
        raise CaptureError(
            f"{where}: no model class is known for model_type {model_type!r}", hint="name one under architectures"
        )
    return usual


def usual_class(model_type: str) -> Any:
    """The class of a configuration that names none, None if that is unclear."""
    import transformers
    from transformers.models.auto import modeling_auto as auto

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
    return None


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
