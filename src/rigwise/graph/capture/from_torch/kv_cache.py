"""A cache of keys and values that knows how long it is and nothing else.

One more token costs writing its keys and values, not a copy of the cache: serving runtimes keep the
cache in pages or allocate it whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers.cache_utils import Cache, CacheLayerMixin


class CachedLayer(CacheLayerMixin):
    """Keys and values of one layer, ``past`` tokens of them earlier ones."""

    is_sliding = False

    declare: Callable[[Any], None]

    def __init__(self, past: int) -> None:
        super().__init__()
        self.past = past
        self.is_initialized = True

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Nothing to do: memory is declared when the first keys come."""

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[Any, Any]:
        """Append the new tokens; earlier ones are read from the cache, a prefill has none."""
        keys, values = self._append(key_states), self._append(value_states)
        return (keys, values) if self.past else (key_states, value_states)

    def _append(self, new: Any) -> Any:
        batch, heads, tokens, depth = new.shape
        cache = new.new_empty(batch, heads, self.past + tokens, depth)
        self.declare(cache)
        cache.narrow(2, self.past, tokens).copy_(new)
        return cache

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Keys that a mask would cover, and where they begin."""
        return self.past + int(query_length), 0

    def get_seq_length(self) -> int:
        """Tokens that were there before this pass."""
        return self.past

    def get_max_length(self) -> int:
        """No limit."""
        return -1


class KeyValueCache(Cache):
    """A cache of ``past`` tokens for every layer."""

    def __init__(self, layers: int, past: int) -> None:
        super().__init__(layers=[CachedLayer(past) for _ in range(layers)])

    def declare_with(self, mark: Callable[[Any], None]) -> None:
        """Have every layer report the memory of its keys and values to ``mark``."""
        for layer in self.layers:
            layer.declare = mark
