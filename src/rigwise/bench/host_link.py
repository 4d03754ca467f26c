"""Between the host's memory and a GPU's, each way, from pinned and from pageable memory."""

from __future__ import annotations

from collections.abc import Iterator

from rigwise.bench.framework import torch_or_none, waiting, why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import BYTES, Context, Raw
from rigwise.units import MIB

_BYTES = 256 * MIB


def run(context: Context) -> Iterator[Raw]:
    """Four figures: two ways, two kinds of memory."""
    torch = torch_or_none()
    if context.target == "cpu" or torch is None:
        reason = "the CPU computes in the host's own memory" if torch else "pip install 'rigwise[bench]' for PyTorch"
        yield Raw(name="host-link", unit=BYTES, skipped=reason)
        return
    size = int(min(_BYTES, context.memory_bytes / 16))
    wait = waiting(torch, context.target)
    for memory in ("pinned", "pageable"):
        for way in ("to", "from"):
            name = f"host-link.{way}.{memory}"
            if not is_wanted(context, name):
                continue
            try:
                host = torch.ones(size, dtype=torch.uint8, pin_memory=memory == "pinned")
                there = torch.ones(size, dtype=torch.uint8, device=context.target)
            except RuntimeError as error:
                yield Raw(name=name, unit=BYTES, skipped=why_not(error))
                continue
            target, source = (there, host) if way == "to" else (host, there)
            timing = measure(lambda t=target, s=source: t.copy_(s, non_blocking=True), context.each_s, wait)  # type: ignore[misc]
            shown = {"message_bytes": size, "memory": memory}
            yield Raw(name=name, unit=BYTES, amount=float(size), timing=timing, parameters=shown, limit="host link")
