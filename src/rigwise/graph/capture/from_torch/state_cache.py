"""A cache for models that carry a state from token to token, alone or beside keys and values.

The state of a recurrence and the last inputs of a convolution are as large after a million tokens as after one.
Their shapes are taken from a trial: two tokens run once, untraced.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers.cache_utils import (
    Cache,
    DynamicCache,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
    LinearAttentionLayer,
)

from rigwise.graph.capture.from_torch.kv_cache import CachedLayer
from rigwise.graph.capture.from_torch.whole import WholeOperators

_STATES = ("conv_states", "recurrent_states")
_TRIAL_BATCH = 2

#: Shape of every state of a layer: ``{"conv_states": {0: (2, 1536, 4)}}``.
LayerShapes = Mapping[str, Mapping[int, tuple[int, ...]]]


class StateLayer(LinearAttentionLayer):
    """The states of one layer, as earlier tokens left them if there are any."""

    declare: Callable[[Any], None]

    def __init__(self, shapes: LayerShapes, past: int, batch: int) -> None:
        count = max((len(found) for found in shapes.values()), default=1)
        super().__init__(number_of_states=count)
        if not past:
            return
        for name, found in shapes.items():
            for index, (_, *rest) in found.items():
                getattr(self, name)[index] = torch.empty(batch, *rest)
                getattr(self, f"is_{name}_initialized")[index] = True
                self.has_previous_state[index] = True
        self.conv_kernel_size = {index: shape[-1] for index, shape in shapes["conv_states"].items()}

    def declare_states(self) -> None:
        """Report the memory of the states that earlier tokens left."""
        for name in _STATES:
            for state in getattr(self, name).values():
                if state is not None:
                    self.declare(state)


class StateAndKeysLayer(StateLayer, CachedLayer):
    """Both in one layer."""

    is_compileable = False

    def __init__(self, shapes: LayerShapes, past: int, batch: int) -> None:
        CachedLayer.__init__(self, past)
        StateLayer.__init__(self, shapes, past, batch)

    def lazy_initialization(self, *args: Any, **kwargs: Any) -> None:
        """Memory of keys and values comes with them; that of states as they need it."""
        if kwargs:
            LinearAttentionLayer.lazy_initialization(self, **kwargs)


class StateCache(Cache):
    """A cache of ``past`` tokens whose layers are those that ``trial_layers`` found."""

    def __init__(self, layers: list[tuple[bool, LayerShapes]], past: int, batch: int) -> None:
        super().__init__(layers=[_layer(has_keys, shapes, past, batch) for has_keys, shapes in layers])

    def declare_with(self, mark: Callable[[Any], None]) -> None:
        """Have every layer report its memory to ``mark``."""
        for layer in self.layers:
            layer.declare = mark
            if isinstance(layer, StateLayer):
                layer.declare_states()


def _layer(has_keys: bool, shapes: LayerShapes, past: int, batch: int) -> Any:
    if not shapes:
        return CachedLayer(past)
    return (StateAndKeysLayer if has_keys else StateLayer)(shapes, past, batch)


def trial_layers(module: Any, config: Any, keyword: str) -> list[tuple[bool, LayerShapes]]:
    """For every layer whether it keeps keys and values, and the shapes of its states.

    Args:
        module: A causal language model on fake tensors.
        config: Its configuration.
        keyword: The argument of ``forward`` that takes the cache.
    """
    try:
        cache = DynamicCache(config=config)
    except Exception:  # kinds of layers that its own library knows no cache for keep keys and values, if anything
        return []
    if not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in cache.layers):
        return []
    ids = torch.zeros(_TRIAL_BATCH, 2, dtype=torch.long)
    module.eval()
    with torch.no_grad(), WholeOperators():
        module(input_ids=ids, use_cache=True, **{keyword: cache})
    return [(isinstance(layer, DynamicLayer), _shapes(layer)) for layer in cache.layers]


def _shapes(layer: Any) -> LayerShapes:
    if not isinstance(layer, LinearAttentionCacheLayerMixin):
        return {}
    return {name: {i: tuple(t.shape) for i, t in getattr(layer, name).items() if t is not None} for name in _STATES}
