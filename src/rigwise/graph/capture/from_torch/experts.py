"""The grouped matrix product of mixture-of-experts layers, in any precision.

PyTorch's own meta kernel of ``_grouped_mm`` only takes bfloat16, while graphs are captured in float32.
Which expert gets how many rows is not known without data; shapes do not depend on it.
"""

from __future__ import annotations

from typing import Any

import torch

_LIBRARY = torch.library.Library("rigwise", "FRAGMENT")
_LIBRARY.define("grouped_mm(Tensor a, Tensor b, Tensor offs) -> Tensor")


@torch.library.register_fake("rigwise::grouped_mm", lib=_LIBRARY)
def _grouped_mm(a: Any, b: Any, offs: Any) -> Any:
    if a.dim() == 2 and b.dim() == 2:  # the gradient of the weights: one product for each group
        return a.new_empty(offs.shape[0], a.shape[0], b.shape[1])
    return a.new_empty(*a.shape[:-1], b.shape[-1])


class _GroupedProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Any, b: Any, offs: Any) -> Any:
        ctx.save_for_backward(a, b, offs)
        return torch.ops.rigwise.grouped_mm(a, b, offs)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        a, b, offs = ctx.saved_tensors
        product = torch.ops.rigwise.grouped_mm
        a_grad = product(grads[0], b.transpose(-2, -1), offs) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return a_grad, None, None
        if b.stride(-2) == 1:  # b is a transposed parameter: its gradient in the parameter's own layout
            return a_grad, product(grads[0].transpose(-2, -1), a, offs).transpose(-2, -1), None
        return a_grad, product(a.transpose(-2, -1), grads[0], offs), None


def grouped_mm(a: Any, b: Any, *, offs: Any = None, bias: Any = None, **_: Any) -> Any:
    """What ``torch.nn.functional.grouped_mm`` computes; without ``offs`` it is a batched product."""
    out = torch.bmm(a, b) if offs is None else _GroupedProduct.apply(a, b, offs)
    return out if bias is None else out + bias
