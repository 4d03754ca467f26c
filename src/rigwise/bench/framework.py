"""PyTorch as benchmarks use it: where it computes, waiting for it, random data, what it cannot do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rigwise.bench.types import Context

#: Number formats -> how PyTorch names the type of the operands.
DTYPES = {
    "fp64": "float64",
    "fp32": "float32",
    "tf32": "float32",
    "bf16": "bfloat16",
    "fp16": "float16",
    "int8": "int8",
}
BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "bf16": 2, "fp16": 2, "int8": 1}


def torch_or_none() -> Any:
    """The module, or None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    return torch


def dtype_of(torch: Any, number_format: str) -> Any:
    """PyTorch's type of the operands."""
    return getattr(torch, DTYPES[number_format])


def waiting(torch: Any, target: str) -> Callable[[], object]:
    """Returns when everything queued on the target is done."""
    kind = target.partition(":")[0]
    if kind == "cpu":
        return lambda: None
    wait: Callable[[], object] = getattr(torch, kind).synchronize
    return wait


def normal(torch: Any, context: Context, number_format: str, *shape: int) -> Any:
    """Random normal numbers (whole ones from -5 to 5 for int8), the same for one seed on every machine.

    Zeros would draw less power, and memory that nobody wrote may hold denormal numbers, which are slow.
    """
    generator = torch.Generator().manual_seed(context.seed)
    if number_format == "int8":
        values = torch.randint(-5, 6, shape, generator=generator, dtype=torch.int8)
    else:
        values = torch.randn(shape, generator=generator, dtype=torch.float32)
    return values.to(context.target, dtype=dtype_of(torch, number_format))


def formats(torch: Any, target: str) -> tuple[str, ...]:
    """Number formats that a product can be asked in on the target, widest first."""
    kind = target.partition(":")[0]
    if kind == "cuda":
        index = int(target.partition(":")[2] or 0)
        ampere = torch.cuda.get_device_capability(index)[0] >= 8 and not getattr(torch.version, "hip", None)
        return ("fp64", "fp32", *(("tf32", "bf16") if ampere else ()), "fp16", "int8")
    return ("fp32", "bf16", "fp16") if kind in ("mps", "xpu") else ("fp64", "fp32", "bf16", "fp16", "int8")


@contextmanager
def precision(torch: Any, number_format: str) -> Iterator[None]:
    """fp32 products stay fp32 but where tf32 is asked for."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if number_format == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def threads(torch: Any, count: int) -> Iterator[None]:
    """So many threads of arithmetic inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def why_not(error: BaseException) -> str:
    """An error of the framework in one short line."""
    first = " ".join(str(error).split()) or type(error).__name__
    return first if len(first) <= 120 else first[:117] + "..."
