"""Power and throttling while a run is followed, where this machine lets them be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

#: Often enough for counters that begin again; the highest power of shorter peaks is missed.
_EVERY_S = 1.0


@contextmanager
def sampling(on: str) -> Iterator[dict[str, Any]]:
    """A dictionary that is filled when the run has ended: ``energy_j``, ``mean_w``, ``parts``, ``throttled``.

    It is the energy of the parts that can be read, whoever used them, from the start of the command to its end.

    Args:
        on: The place; nothing is known of other machines.
    """
    found: dict[str, Any] = {}
    if on not in ("local", "torchrun"):
        yield found
        return
    from rigwise.machine.probe.live import Sampler

    with Sampler(_EVERY_S) as sampler:
        yield found
    summary = sampler.summary()
    known = [part for part in summary.parts if part.energy_j is not None]
    if known:
        energy_j = sum(part.energy_j or 0.0 for part in known)
        found |= {"energy_j": energy_j, "parts": [part.part for part in known]}
        found |= {"mean_w": energy_j / summary.wall_s} if summary.wall_s > 0 else {}
    reasons = [reason for part in summary.parts for reason in part.throttle]
    if reasons:
        found["throttled"] = list(dict.fromkeys(reasons))
