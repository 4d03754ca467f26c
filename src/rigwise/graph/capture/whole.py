"""Calls that a graph keeps whole, whatever PyTorch would make of them on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from rigwise.graph.capture import attention, experts, recurrent

_SDPA = torch.nn.functional.scaled_dot_product_attention


class WholeOperators(TorchFunctionMode):
    """Inside this context attention, recurrent layers and expert products are one operator each."""

    def __enter__(self) -> Any:
        # Python functions such as F.multi_head_attention_forward run below the mode, so the name is swapped too.
        torch.nn.functional.scaled_dot_product_attention = attention.scaled_dot_product
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        torch.nn.functional.scaled_dot_product_attention = _SDPA
        super().__exit__(*exception)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the whole operator that stands for ``func``, or ``func`` itself."""
        return _replacement(func, args)(*args, **(kwargs or {}))


def _replacement(func: Any, args: Any) -> Callable[..., Any]:
    if func is _SDPA:
        return attention.scaled_dot_product
    name = getattr(func, "__name__", "")
    if name in ("grouped_mm", "_grouped_mm"):
        return experts.grouped_mm
    if name in recurrent.GATES and len(args) == recurrent.UNPACKED_ARGUMENTS:
        return lambda *a: recurrent.run(recurrent.GATES[name], *a)
    return func  # type: ignore[no-any-return]
