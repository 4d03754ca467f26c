"""Causal attention as the framework fuses it, forward; and forward with backward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import dtype_of, torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import FLOPS, Context, Raw

#: Heads of GPT-2. Source: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, table 2.
HEADS, HEAD = 12, 64


def run(context: Context) -> Iterator[Raw]:
    """One figure forward, one with the backward pass."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="attention", unit=FLOPS, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    on_cpu = context.target == "cpu"
    batch, tokens, number_format = (1, 512, "fp32") if on_cpu else (16, 2048, "fp16")
    wait = waiting(torch, context.target)
    for part, passes in (("forward", 1.0), ("training", 3.5)):  # backward takes five products where forward takes two
        name = f"attention.{part}"
        if not is_wanted(context, name):
            continue
        sizes = {"batch": batch, "heads": HEADS, "seq": tokens, "head": HEAD}
        try:
            call = attention(torch, context, number_format, sizes, with_backward=part == "training")
            timing = measure(call, context.each_s, wait)
        except RuntimeError as error:
            yield Raw(name=name, unit=FLOPS, skipped=why_not(error))
            continue
        yield Raw(
            name=name,
            unit=FLOPS,
            amount=passes * flops(**sizes),
            timing=timing,
            parameters={**sizes, "format": number_format, "causal": True, "threads": context.threads},
            limit=number_format,
            work={"law": "attention", **sizes, "format": number_format} if part == "forward" else {},
            note="the masked half is not counted",
        )


def flops(batch: int, heads: int, seq: int, head: int) -> float:
    """Two products of scores that a causal mask leaves, 2 FLOP each.

    Source: Dao, "FlashAttention-2", 2023, section 4.1.

    >>> flops(1, 1, 2, 1)
    8.0
    """
    return 4.0 * batch * heads * seq * seq * head / 2


def attention(
    torch: Any, context: Context, number_format: str, sizes: dict[str, int], *, with_backward: bool
) -> Callable[[], Any]:
    """A call of the framework's own attention over random queries, keys and values."""
    generator = torch.Generator().manual_seed(context.seed)
    shape = (3, sizes["batch"], sizes["heads"], sizes["seq"], sizes["head"])
    values = torch.randn(shape, generator=generator).to(context.target, dtype=dtype_of(torch, number_format))
    query, key, value = (one.requires_grad_(with_backward) for one in values.unbind())
    attend = torch.nn.functional.scaled_dot_product_attention
    if not with_backward:
        return lambda: attend(query, key, value, is_causal=True)
    slope = torch.ones_like(query)

    def both() -> None:
        out = attend(query, key, value, is_causal=True)
        torch.autograd.grad(out, (query, key, value), slope)

    return both
