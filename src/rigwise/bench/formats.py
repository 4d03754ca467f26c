"""Number formats: range and step, what a real layer loses in each, next to the speed it gains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench.framework import dtype_of, formats, normal, precision, torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure, quantile
from rigwise.bench.types import ERROR, Context, Parameter, Raw

#: A linear layer as BERT-base and GPT-2 have it, over so many tokens; a CPU without fp16 needs a second for its few.
WIDTH, WIDER = 768, 3072
TOKENS, TOKENS_OF_GPU = 32, 4096


def run(context: Context) -> Iterator[Raw]:
    """The relative error of a linear layer in each format, and its speed over fp32."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="formats", unit=ERROR, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    exact = reference(torch, context)
    wait = waiting(torch, context.target)
    base_s: float | None = None
    for number_format in ("fp32", *(name for name in formats(torch, context.target) if name != "fp32")):
        name = f"formats.{number_format}"
        try:
            with precision(torch, number_format):
                call = layer(torch, context, number_format)
                error = relative_error(call().double().cpu(), exact)
                timing = measure(call, context.each_s / 2, wait)
        except (RuntimeError, TypeError) as fault:
            yield Raw(name=name, unit=ERROR, skipped=why_not(fault))
            continue
        middle_s = quantile(timing.samples_s, 0.5)
        base_s = base_s or middle_s
        if is_wanted(context, name):
            speed: dict[str, Parameter] = {"speed_over_fp32": round(base_s / middle_s, 3)}
            sizes = f"{len(exact)} x {WIDTH} x {WIDER}"
            shown = {**extent(torch, number_format), **speed, "layer": sizes, "threads": context.threads}
            yield Raw(name=name, unit=ERROR, value=error, parameters=shown, note="error of a linear layer")


def operands(torch: Any, context: Context) -> tuple[Any, Any]:
    """Tokens and weights in double precision, of the size that layers hold: 1 and 1 over the root of the width."""
    count = TOKENS if context.target == "cpu" else TOKENS_OF_GPU
    tokens = normal(torch, context, "fp32", count, WIDTH).double().cpu()
    generator = torch.Generator().manual_seed(context.seed + 1)
    weights = torch.randn(WIDTH, WIDER, generator=generator, dtype=torch.float64) / WIDTH**0.5
    return tokens, weights


def reference(torch: Any, context: Context) -> Any:
    """The layer's result in double precision, on the CPU."""
    tokens, weights = operands(torch, context)
    return tokens @ weights


def layer(torch: Any, context: Context, number_format: str) -> Callable[[], Any]:
    """A call that computes the layer in the format; int8 scales each operand by its largest value."""
    tokens, weights = operands(torch, context)
    if number_format == "int8":
        scales = [one.abs().max().item() / 127 for one in (tokens, weights)]
        a, b = (
            (one / scale).round().to(torch.int8).to(context.target)
            for one, scale in zip((tokens, weights), scales, strict=True)
        )
        return lambda: torch._int_mm(a, b) * (scales[0] * scales[1])
    dtype = dtype_of(torch, number_format)
    a, b = (one.to(dtype).to(context.target) for one in (tokens, weights))
    return lambda: torch.mm(a, b)


def relative_error(found: Any, exact: Any) -> float:
    """Root mean square of the difference over that of the exact result."""
    return float((found - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt())


def extent(torch: Any, number_format: str) -> dict[str, Parameter]:
    """Largest number, smallest normal one, and the step at 1, as the type states them."""
    if number_format == "int8":
        return {"largest": 127, "smallest": 1, "step": 1}
    found = torch.finfo(dtype_of(torch, number_format))
    step = 2.0**-10 if number_format == "tf32" else found.eps  # tf32 keeps ten bits behind the point
    return {"largest": found.max, "smallest": found.tiny, "step": step}
