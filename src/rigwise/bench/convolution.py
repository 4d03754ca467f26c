"""One convolution of ResNet-50 in both memory layouts: images as planes (NCHW) or as pixels (NHWC)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import normal, torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import FLOPS, Context, Raw

#: The 3x3 convolution of the second stage. Source: He et al., "Deep Residual Learning", 2016, table 1.
CHANNELS, PIXELS, KERNEL = 128, 28, 3
_BATCH = {"cpu": 8}
_BATCH_OF_GPU = 128


def run(context: Context) -> Iterator[Raw]:
    """Forward, in fp32 and, on a GPU, in fp16; the layouts one after the other."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="convolution", unit=FLOPS, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    wait = waiting(torch, context.target)
    batch = _BATCH.get(context.target, _BATCH_OF_GPU)
    amount = 2.0 * batch * CHANNELS * CHANNELS * PIXELS**2 * KERNEL**2
    for number_format in ("fp32",) if context.target == "cpu" else ("fp32", "fp16"):
        for layout in ("nchw", "nhwc"):
            name = f"convolution.{number_format}.{layout}"
            if not is_wanted(context, name):
                continue
            sizes = {"n": batch, "c": CHANNELS, "h": PIXELS, "w": PIXELS, "k": CHANNELS, "r": KERNEL}
            try:
                with torch.no_grad():
                    timing = measure(convolution(torch, context, number_format, layout, batch), context.each_s, wait)
            except RuntimeError as error:
                yield Raw(name=name, unit=FLOPS, skipped=why_not(error))
                continue
            yield Raw(
                name=name,
                unit=FLOPS,
                amount=amount,
                timing=timing,
                parameters={**sizes, "format": number_format, "layout": layout, "threads": context.threads},
                limit=number_format,
                work={"law": "conv", **sizes, "format": number_format, "layout": layout},
                note="counted without Winograd's savings, which may carry it above the peak",
            )


def convolution(torch: Any, context: Context, number_format: str, layout: str, batch: int) -> Callable[[], Any]:
    """A call that convolves a batch of random images, laid out before."""
    order = torch.channels_last if layout == "nhwc" else torch.contiguous_format
    images = normal(torch, context, number_format, batch, CHANNELS, PIXELS, PIXELS)
    weights = normal(torch, context, number_format, CHANNELS, CHANNELS, KERNEL, KERNEL)
    images, weights = images.to(memory_format=order), weights.to(memory_format=order)
    return lambda: torch.nn.functional.conv2d(images, weights, padding=KERNEL // 2)
