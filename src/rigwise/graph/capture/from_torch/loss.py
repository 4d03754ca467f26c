"""A scalar to start the backward pass from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from rigwise.errors import CaptureError


def own_loss(output: Any, arguments: Any = None) -> Any:
    """The loss the model returned, or else the mean square of all it returned.

    The second costs one pass over the outputs and its gradient one more, like most losses.

    Raises:
        CaptureError: The model returned no floating-point tensor.
    """
    del arguments
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is not None:
        return loss
    terms = [t.pow(2).mean() for t in tensors_of(output) if t.is_floating_point() and t.requires_grad]
    if not terms:
        raise CaptureError("the model returns no tensor that a loss could be made of")
    return sum(terms[1:], start=terms[0])


def tensors_of(tree: Any) -> list[Any]:
    """All tensors in nested lists, tuples and mappings, in order."""
    if isinstance(tree, torch.Tensor):
        return [tree]
    if isinstance(tree, Mapping):
        tree = list(tree.values())
    return [t for branch in tree for t in tensors_of(branch)] if isinstance(tree, list | tuple) else []
