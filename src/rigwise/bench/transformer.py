"""One layer of a transformer as GPT-2 has it, forward, and forward with backward: what share of the peak it reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import dtype_of, normal, torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.networks import gpt2
from rigwise.bench.timing import measure
from rigwise.bench.types import FLOPS, Context, Raw

#: Width, heads, sequence, batch: GPT-2 on a CPU; on a GPU a layer of the width of a 7 B model.
_OF_CPU, _OF_GPU = (768, 12, 256, 1), (4096, 32, 2048, 4)


def run(context: Context) -> Iterator[Raw]:
    """FLOP a second; on a GPU in fp16 too."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="transformer", unit=FLOPS, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    sizes = dict(zip(("width", "heads", "seq", "batch"), _OF_CPU if context.target == "cpu" else _OF_GPU, strict=True))
    for number_format in ("fp32",) if context.target == "cpu" else ("fp32", "fp16"):
        for part, passes in (("forward", 1.0), ("training", 3.0)):
            name = f"transformer.{number_format}.{part}"
            if not is_wanted(context, name):
                continue
            try:
                call = layer(torch, context, number_format, sizes, with_backward=part == "training")
                timing = measure(call, context.each_s, waiting(torch, context.target))
            except RuntimeError as error:
                yield Raw(name=name, unit=FLOPS, skipped=why_not(error))
                continue
            yield Raw(
                name=name,
                unit=FLOPS,
                amount=passes * flops(**sizes),
                timing=timing,
                parameters={**sizes, "format": number_format, "threads": context.threads},
                limit=number_format,
                work={"law": "layer", **sizes, "format": number_format} if part == "forward" else {},
                note="products only; the masked half of the scores is not counted",
            )


def flops(width: int, heads: int, seq: int, batch: int) -> float:
    """Four linear layers with 12 weights for each square of the width, and two products of half the scores.

    Source: the shapes of GPT-2's layer; a multiply-add is 2.

    >>> flops(2, 1, 1, 1)
    100.0
    """
    del heads  # as many scores of as many times narrower heads
    tokens = batch * seq
    return 2.0 * 12 * width * width * tokens + 4.0 * tokens * seq * width / 2


def layer(
    torch: Any, context: Context, number_format: str, sizes: dict[str, int], *, with_backward: bool
) -> Callable[[], Any]:
    """A call of the layer over random tokens; with backward it leaves slopes of the weights and of the tokens."""
    torch.manual_seed(context.seed)
    width = sizes["width"]
    net = gpt2(torch, layers=1, width=width, heads=sizes["heads"], vocabulary=1).blocks
    net = net.to(context.target, dtype_of(torch, number_format))
    tokens = normal(torch, context, number_format, sizes["batch"], sizes["seq"], width).requires_grad_(with_backward)
    if not with_backward:

        def forward() -> Any:
            with torch.no_grad():
                return net(tokens)

        return forward
    slope = torch.ones_like(tokens)
    over = [tokens, *net.parameters()]
    return lambda: torch.autograd.grad(net(tokens), over, slope)
