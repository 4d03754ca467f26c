"""A Keras model on PyTorch, as the plain PyTorch module that tracing expects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from rigwise.graph.capture.from_jax.names import numbered


class KerasModule(torch.nn.Module):
    """Calls the model with ``training`` as PyTorch has it, and names weights and layers by their Keras paths.

    The model's variables get fake tensors in place of their values.
    """

    def __init__(self, model: Any, variables: list[tuple[str, Any, bool]]) -> None:
        super().__init__()
        self._held = [model]  # in a list: a model that is a submodule would be counted twice
        self._weights: list[tuple[str, torch.nn.Parameter]] = []
        self._state: list[tuple[str, torch.Tensor]] = []
        for path, variable, is_weight in variables:
            value = torch.empty(tuple(variable.shape), dtype=variable._value.dtype)
            if is_weight:
                weight = torch.nn.Parameter(value, requires_grad=bool(variable.trainable))
                self._weights.append((path, weight))
                variable._value = weight
            else:
                self._state.append((path, value))
                variable._value = value
        self._layers = [(_path(model, layer), _Layer(layer)) for layer in model._flatten_layers(include_self=False)]

    def forward(self, *arguments: Any) -> Any:
        """What the model returns."""
        return self._held[0](*arguments, training=self.training)

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Weights by their path in the model."""
        yield from self._weights

    def named_buffers(self, *_: Any, **__: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Running statistics and the state of random numbers."""
        yield from self._state

    def buffers(self, recurse: bool = True) -> Iterator[torch.Tensor]:
        """The same without names."""
        del recurse
        yield from (value for _, value in self._state)

    def named_modules(self, *_: Any, **__: Any) -> Iterator[tuple[str, torch.nn.Module]]:
        """The model and its layers."""
        yield "", self
        yield from self._layers


class _Layer(torch.nn.Module):
    """Stands in for a layer's ``call``, so that PyTorch notes when it begins and ends."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self._call = layer.call
        layer.__dict__["call"] = self

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """What the layer computes."""
        return self._call(*arguments, **keywords)


def _path(model: Any, layer: Any) -> str:
    """A layer's path in the model, numbers standing alone: ``dense.2``."""
    return numbered(str(layer.path or layer.name).removeprefix(f"{model.name}/").replace("/", "."))
