"""What no configuration may say: sizes that are missing, negative, no whole numbers or beyond reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rigwise.errors import InvalidInputError

#: Sizes that every transformer has, by the name transformers gives them inside.
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

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


def model_type_of(config: Mapping[str, Any], where: str) -> Any:
    """What kind of model a configuration says it is of.

    Raises:
        InvalidInputError: It does not say.
    """
    if config.get("model_type") is None:
        raise InvalidInputError(f"{where}: model_type is missing", hint="is it of a transformers model?")
    return config["model_type"]


def check_sizes(config: Mapping[str, Any], where: str) -> None:
    """Refuse sizes that are negative, no whole numbers or beyond reason; nested configurations too.

    Raises:
        InvalidInputError: Names the file, the key and what it may be.
    """
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_sizes(value, f"{where}: {key}")
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


def check_needed(config: Mapping[str, Any], needed: Iterable[tuple[str, str]], where: str) -> None:
    """Refuse a configuration without its main sizes, which transformers would fill with some model's own.

    Args:
        config: The configuration.
        needed: Each size by the family's own name and by the common one; either will do.
        where: File name, for the message.

    Raises:
        InvalidInputError: Names the first one that is missing.
    """
    for own, common in needed:
        if own not in config and common not in config:
            raise InvalidInputError(f"{where}: {own} is missing", hint="a model cannot be built without it")
