"""How a plain module of the zoo becomes a subject for capture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from rigwise.graph.capture.subject import REFERENCE_BATCH, Subject
from rigwise.graph.graph import Card


def cross_entropy(output: torch.Tensor, _arguments: Any) -> torch.Tensor:
    """The classification loss against any labels."""
    return functional.cross_entropy(output, torch.zeros(output.shape[0], dtype=torch.long))


def image_classifier(name: str, module: nn.Module, card: Card, *, side: int = 224) -> Subject:
    """A network from images of three channels to class scores."""

    def inputs(_task: str, sizes: Mapping[str, int]) -> tuple[torch.Tensor]:
        return (torch.empty(sizes["b"], 3, sizes["p"], sizes["p"]),)

    symbols = {task: {"b": REFERENCE_BATCH, "p": side} for task in ("train", "infer")}
    return Subject(name=name, module=module, inputs=inputs, loss=cross_entropy, symbols=symbols, card=card)
