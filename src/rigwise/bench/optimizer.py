"""The optimizer's own step: it multiplies next to nothing, so it runs at the speed of memory."""

from __future__ import annotations

from collections.abc import Iterator

from rigwise.bench.framework import normal, torch_or_none, waiting
from rigwise.bench.matmul import is_wanted
from rigwise.bench.stream import CACHES
from rigwise.bench.timing import measure
from rigwise.bench.types import BYTES, Context, Raw

#: Arrays of four bytes that a step reads and writes. SGD with momentum: weights, gradients, momentum read; weights
#: and momentum written. AdamW: one more of each. Source: the update rules, Loshchilov & Hutter, 2019, algorithms 1, 2.
ARRAYS = {"sgd": 5, "adamw": 7}
_TENSORS = 4
_LEAST_ELEMENTS = 2**20
_BYTES_PER_ELEMENT = 16  # weight, gradient and two states of AdamW


def run(context: Context) -> Iterator[Raw]:
    """SGD with momentum, and AdamW, over weights that no cache holds."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="optimizer", unit=BYTES, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    uncached = CACHES * context.cache_bytes / _BYTES_PER_ELEMENT
    fits = context.memory_bytes / 8 / _BYTES_PER_ELEMENT
    count = int(max(_LEAST_ELEMENTS, min(uncached, fits))) // _TENSORS
    for kind, arrays in ARRAYS.items():
        name = f"optimizer.{kind}"
        if not is_wanted(context, name):
            continue
        weights = [torch.nn.Parameter(normal(torch, context, "fp32", count)) for _ in range(_TENSORS)]
        for weight in weights:
            weight.grad = torch.full_like(weight, 1e-3)
        if kind == "sgd":
            step = torch.optim.SGD(weights, lr=1e-4, momentum=0.9).step
        else:
            step = torch.optim.AdamW(weights, lr=1e-4).step
        yield Raw(
            name=name,
            unit=BYTES,
            amount=4.0 * arrays * count * _TENSORS,
            timing=measure(step, context.each_s, waiting(torch, context.target)),
            parameters={"elements": count * _TENSORS, "tensors": _TENSORS, "threads": context.threads},
            limit="memory",
            note="counts each array once, as one pass over all of them would",
        )
