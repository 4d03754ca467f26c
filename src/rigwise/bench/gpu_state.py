"""What the GPU did while a figure was taken: its clock, its power, and why it held its clock back."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Self

from rigwise.machine.live.types import GpuSample
from rigwise.machine.probe.live_gpus import GpuFeed

#: Drivers state a new power every 20 to 100 ms.
_EVERY_S = 0.2


class GpuState:
    """Samples of one GPU by a thread, from entering on.

    Args:
        bus: Its address on PCI; empty where the framework does not state it, and then a single GPU is meant.
        feed: What asks the drivers.
        every_s: Time between two samples.
    """

    def __init__(self, bus: str, feed: GpuFeed | None = None, *, every_s: float = _EVERY_S) -> None:
        self._bus, self._feed, self._every_s = bus, feed or GpuFeed(), every_s
        self._taken: list[GpuSample] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gpu state", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._feed.close()

    def since(self) -> dict[str, Any]:
        """Fields of a figure's state, from the samples since this was last asked; empty where there was none."""
        taken, self._taken = self._taken, []
        return fields(taken)

    def _run(self) -> None:
        while not self._stop.is_set():
            found = sample_of(self._feed.read().gpus, self._bus)
            if found is not None:
                self._taken.append(found)
            self._stop.wait(self._every_s)


def gpu_state(torch: Any, target: str) -> AbstractContextManager[GpuState | None]:
    """Samples of the target, where it is a GPU whose driver can be asked."""
    return GpuState(bus_of(torch, target)) if target.startswith("cuda") else nullcontext()


def fields(taken: Sequence[GpuSample]) -> dict[str, Any]:
    """Clock and power of the last sample, and every reason that any of them states.

    >>> samples = [GpuSample(index=0, power_w=700.0, throttle=("sw_power_cap",)), GpuSample(index=0, power_w=690.0)]
    >>> fields(samples)
    {'gpu_hz': None, 'gpu_w': 690.0, 'throttled': ('sw_power_cap',)}
    """
    if not taken:
        return {}
    reasons = dict.fromkeys(reason for sample in taken for reason in sample.throttle or ())
    return {"gpu_hz": taken[-1].clock_hz, "gpu_w": taken[-1].power_w, "throttled": tuple(reasons)}


def sample_of(gpus: Sequence[GpuSample], bus: str) -> GpuSample | None:
    """The GPU at an address: drivers and frameworks count them differently."""
    if not bus:
        return gpus[0] if len(gpus) == 1 else None
    return next((gpu for gpu in gpus if gpu.bus == bus), None)


def bus_of(torch: Any, target: str) -> str:
    """A GPU's address on PCI, as PyTorch states it; empty where it does not."""
    kind, _, index = target.partition(":")
    if kind != "cuda":
        return ""
    try:
        stated = torch.cuda.get_device_properties(int(index or 0))
        numbers = (stated.pci_domain_id, stated.pci_bus_id, stated.pci_device_id)
    except (RuntimeError, AttributeError, AssertionError, ValueError):
        return ""
    return "{:04x}:{:02x}:{:02x}.0".format(*numbers)
