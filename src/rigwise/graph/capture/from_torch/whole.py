"""Calls that a graph keeps whole, where PyTorch would run something else on a CPU than on an accelerator.

Attention, recurrent layers, scans and the products of experts would be taken apart or refused; dropout would
draw a mask of floating-point numbers in three operators instead of one fused one with a mask of bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from rigwise.graph.capture.from_torch import attention, experts, recurrent, scan

_SDPA, _DROPOUT = functional.scaled_dot_product_attention, functional.dropout


class WholeOperators(TorchFunctionMode):
    """Inside this context such calls are one operator each."""

    def __enter__(self) -> Any:
        # Python functions such as F.multi_head_attention_forward run below the mode, so names are swapped too.
        functional.scaled_dot_product_attention = attention.scaled_dot_product  # type: ignore[assignment]
        functional.dropout = _dropout
        self._scans = scan.whole_scans()
        self._scans.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        functional.scaled_dot_product_attention, functional.dropout = _SDPA, _DROPOUT
        self._scans.__exit__(None, None, None)
        super().__exit__(*exception)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call the whole operator that stands for ``func``, or ``func`` itself."""
        return _replacement(func, args)(*args, **(kwargs or {}))


def _replacement(func: Any, args: Any) -> Callable[..., Any]:
    if func is _SDPA:
        return attention.scaled_dot_product
    if func in (_DROPOUT, torch.dropout):
        return _dropout
    name = getattr(func, "__name__", "")
    if name in ("grouped_mm", "_grouped_mm"):
        return experts.grouped_mm
    if name in recurrent.GATES and len(args) == recurrent.UNPACKED_ARGUMENTS:
        return lambda *a: recurrent.run(recurrent.GATES[name], *a)
    return func  # type: ignore[no-any-return]


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False, **old: Any) -> Any:
    """What ``torch.nn.functional.dropout`` computes; ``torch.dropout`` calls its third argument ``train``."""
    if not old.get("train", training) or not p:
        return input
    dropped = torch.native_dropout(input, p, True)[0]
    return input.copy_(dropped) if inplace else dropped
