"""Attention as one operator.

PyTorch picks an attention kernel by device: on a CPU it would decompose into matrix products and a
softmax that no accelerator runs. Here every call becomes one ``rigwise.attention`` (and one
``rigwise.attention_backward``), so that the estimate may choose the kernel.
"""

from __future__ import annotations

from typing import Any

import torch

from rigwise.errors import CaptureError

_LIBRARY = torch.library.Library("rigwise", "FRAGMENT")
_LIBRARY.define(
    "attention(Tensor q, Tensor k, Tensor v, Tensor? mask, bool causal, float dropout, int window) -> (Tensor, Tensor)"
)
_LIBRARY.define(
    "attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor o, Tensor lse, Tensor? mask,"
    " bool causal, float dropout, int window, bool mask_grad) -> Tensor[]"
)


@torch.library.register_fake("rigwise::attention", lib=_LIBRARY)
def _attention_shapes(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, rows, _d = q.shape
    # Fused kernels write [batch, rows, heads, depth], so that joining the heads afterwards is a view.
    out = q.new_empty(batch, rows, heads, v.shape[-1]).transpose(1, 2)
    return out, q.new_empty(batch, heads, rows, dtype=torch.float32)


@torch.library.register_fake("rigwise::attention_backward", lib=_LIBRARY)
def _attention_backward_shapes(_grad: torch.Tensor, q: Any, k: Any, v: Any, *rest: Any) -> list[torch.Tensor]:
    mask, mask_grad = rest[2], rest[-1]
    grads = [torch.empty_like(t) for t in (q, k, v)]
    return [*grads, torch.empty_like(mask)] if mask_grad else grads


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Any, k: Any, v: Any, mask: Any, *flags: Any) -> Any:
        out, lse = torch.ops.rigwise.attention(q, k, v, mask, *flags)
        ctx.save_for_backward(q, k, v, out, lse, mask)
        ctx.flags = flags
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        *saved, mask = ctx.saved_tensors
        mask_grad = mask is not None and ctx.needs_input_grad[3]
        out = torch.ops.rigwise.attention_backward(grads[0], *saved, mask, *ctx.flags, mask_grad)
        return (*out[:3], out[3] if mask_grad else None, *(None for _ in ctx.flags))


def attend(q: Any, k: Any, v: Any, mask: Any = None, *, causal: bool, dropout: float = 0.0, window: int = 0) -> Any:
    """One attention operator; leading axes beyond batch are joined to it."""
    lead = q.shape[:-3]
    if q.dim() == 3:
        q, k, v = (t.unsqueeze(1) for t in (q, k, v))
    elif q.dim() > 4:
        q, k, v = (t.reshape(-1, *t.shape[-3:]) for t in (q, k, v))
        mask = None if mask is None else mask.reshape(-1, *mask.shape[-3:]) if mask.dim() > 3 else mask
    if q.shape[1] % k.shape[1]:
        raise CaptureError(f"{q.shape[1]} query heads do not divide over {k.shape[1]} key and value heads")
    out = _Attention.apply(q, k, v, mask, causal, float(dropout), int(window))
    if len(lead) > 1:
        return out.reshape(*lead, *out.shape[-3:])
    return out if lead else out.squeeze(1)


def scaled_dot_product(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> Any:
    """What ``torch.nn.functional.scaled_dot_product_attention`` computes."""
    return attend(query, key, value, attn_mask, causal=bool(is_causal), dropout=dropout_p)


def interface(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any) -> tuple[Any, None]:
    """The function that transformers calls for attention: keys and values keep their own heads."""
    causal = options.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)
    bias = options.get("position_bias")
    mask = attention_mask if bias is None else bias if attention_mask is None else bias + attention_mask
    out = attend(
        query,
        key,
        value,
        mask,
        causal=bool(causal) and query.shape[2] > 1 and attention_mask is None,
        dropout=float(options.get("dropout") or 0.0) if module.training else 0.0,
        window=int(options.get("sliding_window") or 0),
    )
    return out.transpose(1, 2).contiguous(), None
