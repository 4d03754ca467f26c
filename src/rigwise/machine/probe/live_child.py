"""The process that asks the GPUs: a driver that hangs or crashes takes this process and not the one that shows it.

A line on stdin asks; a line of JSON on stdout answers. It ends when stdin does.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
import time
from typing import Any

from rigwise.machine.live.types import GpuReading, GpuSample
from rigwise.machine.probe.live_amd import Amd, cards
from rigwise.machine.probe.live_nvidia import Nvml
from rigwise.machine.probe.source import Root, Unreadable

#: A driver that failed is asked to start again after this time.
_AGAIN_S = 10.0


class Gpus:
    """Every GPU that can be sampled; a driver that fails is opened again later."""

    def __init__(self, root: Root, *, nvidia: bool) -> None:
        self._amd = Amd(root) if cards(root) else None
        self._nvml: Nvml | None = None
        self._has_nvidia, self._note, self._failed_s = nvidia, "", -_AGAIN_S

    def read(self) -> GpuReading:
        """All of them, now."""
        found: tuple[GpuSample, ...] = self._amd.read() if self._amd else ()
        try:
            found = (*self._nvidia(), *found)
        except Unreadable as error:
            self._nvml, self._failed_s = None, time.monotonic()
            self._note = f"NVML: {error}; see rigwise doctor"
        return GpuReading(at_s=time.monotonic(), gpus=found, note=self._note)

    def _nvidia(self) -> tuple[GpuSample, ...]:
        if self._nvml is None and self._has_nvidia and time.monotonic() - self._failed_s >= _AGAIN_S:
            self._open()
        return self._nvml.read() if self._nvml else ()

    def _open(self) -> None:
        self._note = ""
        try:
            import pynvml  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError:
            self._note, self._has_nvidia = "NVIDIA GPUs are read by: pip install 'rigwise[nvidia]'", False
            return
        self._nvml = Nvml(pynvml)


def main() -> None:
    """Answer until nobody asks any more, even while a driver does not return."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    asked = threading.Semaphore(0)
    threading.Thread(target=_hear, args=(asked,), daemon=True).start()
    gpus = Gpus(Root(), nvidia="nvidia" in sys.argv[1:])
    while asked.acquire():
        try:
            answers.write(json.dumps(dataclasses.asdict(gpus.read()), allow_nan=False) + "\n")
            answers.flush()
        except BrokenPipeError:
            os._exit(0)


def _hear(asked: threading.Semaphore) -> None:
    for _ in sys.stdin:
        asked.release()
    os._exit(0)


def reading(line: bytes) -> GpuReading:
    """An answer as it was before it was written.

    Raises:
        ValueError: It is none.
    """
    from rigwise.machine.live.types import GpuProcess, Slice

    try:
        answer: dict[str, Any] = json.loads(line)
        gpus = []
        for gpu in answer.pop("gpus"):
            reasons = gpu.pop("throttle")
            slices = tuple(Slice(**one) for one in gpu.pop("slices"))
            processes = tuple(GpuProcess(**one) for one in gpu.pop("processes"))
            throttle = None if reasons is None else tuple(reasons)
            gpus.append(GpuSample(**gpu, throttle=throttle, slices=slices, processes=processes))
        return GpuReading(**answer, gpus=tuple(gpus))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from None


if __name__ == "__main__":
    main()
