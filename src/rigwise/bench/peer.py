"""Between the GPUs of this computer: one way, and both ways at once, as PyTorch copies from one to another.

This has never run on a computer with GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rigwise.bench.framework import torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import BYTES, Context, Raw
from rigwise.units import MIB

_BYTES = 256 * MIB


def run(context: Context) -> Iterator[Raw]:
    """From the target to each other GPU, and both ways at once."""
    torch = torch_or_none()
    if reason := why_none(torch, context):
        yield Raw(name="peer", unit=BYTES, skipped=reason)
        return
    here = int(context.target.partition(":")[2] or 0)
    for there in (place for place in range(torch.cuda.device_count()) if place != here):
        for way in ("one-way", "both-ways"):
            name = f"peer.gpu{there}.{way}"
            if not is_wanted(context, name):
                continue
            try:
                yield _one(torch, context, (name, here, there))
            except RuntimeError as error:
                yield Raw(name=name, unit=BYTES, skipped=why_not(error))


def why_none(torch: Any, context: Context) -> str:
    """Why there is nothing to copy between; empty where there is."""
    if torch is None:
        return "pip install 'rigwise[bench]' for PyTorch"
    if not context.target.startswith("cuda"):
        return "not here: needs several GPUs"
    return "not here: needs several GPUs" if torch.cuda.device_count() < 2 else ""


def _one(torch: Any, context: Context, asked: tuple[str, int, int]) -> Raw:
    """All bytes that arrive anywhere in a second."""
    name, here, there = asked
    size = int(min(_BYTES, context.memory_bytes / 16))
    devices = [f"cuda:{here}", f"cuda:{there}"]
    sources = [torch.randint(0, 256, (size,), dtype=torch.uint8, device=device) for device in devices]
    targets = [torch.zeros(size, dtype=torch.uint8, device=device) for device in reversed(devices)]
    ways = 2 if name.endswith("both-ways") else 1

    def copies() -> None:
        for source, target in list(zip(sources, targets, strict=True))[:ways]:
            target.copy_(source, non_blocking=True)

    waits = [waiting(torch, device) for device in devices]
    timing = measure(copies, context.each_s, lambda: [wait() for wait in waits])
    direct = bool(torch.cuda.can_device_access_peer(here, there))
    return Raw(
        name=name,
        unit=BYTES,
        amount=float(ways * size),
        timing=timing,
        parameters={"message_bytes": size, "direct": direct, "ways": ways},
        limit="" if ways > 1 else "peer link" if direct else "host link",
        note="" if direct else "by way of the host's memory",
    )
