"""A Hugging Face ``config.json`` becomes a module without weights, its inputs and its symbols.

Nothing is downloaded and no code from a model repository runs: the architecture must be one that the
installed transformers knows. Sizes are checked before anything is built.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from rigwise.errors import CaptureError, InvalidInputError, near_matches
from rigwise.graph.capture import attention
from rigwise.graph.capture.fake import BuildingModules
from rigwise.graph.capture.hf_inputs import with_inputs
from rigwise.graph.capture.subject import Subject

_ATTENTION = "rigwise"

#: Largest value of a size in a configuration; the largest published vocabulary is below a million.
_MAX_SIZE = 2**24

#: Sizes that a transformer cannot be built without, by the name transformers gives them inside.
_NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


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
    known = transformers.CONFIG_MAPPING
    if not isinstance(model_type, str) or model_type not in known:
        raise CaptureError(
            f"{where}: model_type is {model_type!r}, which transformers {transformers.__version__} does not know",
            hint=near_matches(str(model_type), known.keys()) or "models that bring their own code are not run",
        )
    _check_sizes(config, known[model_type], where)
    model_class = _model_class(config, model_type, where)
    module, settings = _build(config, known[model_type], model_class, where)
    return with_inputs(module, settings, name=name, where=where)


def _check_sizes(config: Mapping[str, Any], config_class: Any, where: str) -> None:
    for key, value in config.items():
        if isinstance(value, Mapping):
            _check_sizes(value, None, f"{where}: {key}")
        if not _is_size(key) or value is None or isinstance(value, bool | list | str | Mapping):
            continue
        if not isinstance(value, int) or not 0 < value <= _MAX_SIZE:
            zero_is_fine = value == 0 and not key.startswith(("hidden_size", "vocab_size", "num_hidden_layers"))
            if not zero_is_fine:
                raise InvalidInputError(
                    f"{where}: {key} is {value!r}", hint=f"it must be a whole number from 1 to {_MAX_SIZE:,}"
                )
    if config_class is None:
        return
    names = getattr(config_class, "attribute_map", {})
    defaults = inspect.signature(config_class.__init__).parameters
    for key in _NEEDED:
        own = names.get(key, key)
        if own in defaults and own != "num_stages" and own not in config and key not in config:
            raise InvalidInputError(f"{where}: {own} is missing")


def _is_size(key: str) -> bool:
    return key.endswith(("_size", "_dim", "_layers", "_heads", "_dims", "_positions", "_embeddings")) or key in (
        "n_embd n_layer n_head n_inner d_model d_ff d_kv head_dim num_experts num_local_experts image_size"
    )


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
        auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if model_type not in _ENCODERS else {},
        auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        auto.MODEL_MAPPING_NAMES,
    ):
        entry = table.get(model_type)
        if isinstance(entry, str) and hasattr(transformers, entry):
            return getattr(transformers, entry)
    raise CaptureError(
        f"{where}: no model class is known for model_type {model_type!r}", hint="name one under architectures"
    )


#: Encoders that also have a causal head, which is not their usual one.
_ENCODERS = frozenset(
    [
        "bert",
        "roberta",
        "xlm-roberta",
        "electra",
        "camembert",
        "data2vec-text",
        "ernie",
        "rembert",
        "roformer",
        "big_bird",
    ]
)


def _build(config: Mapping[str, Any], config_class: Any, model_class: Any, where: str) -> tuple[Any, Any]:
    settings = dict(config)
    for key in ("architectures", "auto_map", "quantization_config", "torch_dtype", "dtype", "_attn_implementation"):
        settings.pop(key, None)
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
