"""Some steps of a training process, recorded by PyTorch's profiler into the folder of the run.

``rigwise run --trace N`` asks for it; ``rigwise trace`` reads what comes of it. Only the first rank records, once it
has warmed up, and each attempt once. The process must have imported PyTorch by then; nothing is imported for it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

#: Tells a process how many steps to record.
TRACE = "RIGWISE_TRACE"
#: Steps before the first that is recorded, the profiler's own one included: allocation, autotuning, compilation.
WARM_UP = 5
MOST_STEPS = 1000


def trace_name(attempt: int) -> str:
    """The file of an attempt's trace."""
    return f"trace-{attempt}.json.gz"


def traces(folder: Path) -> list[Path]:
    """The traces in the folder of a run, in the order of the attempts."""
    found = (path for path in folder.glob("trace-*.json.gz") if path.name[6:-8].isdecimal())
    return sorted(found, key=lambda path: int(path.name[6:-8]))


def tracer_of(folder: Path | None, attempt: int, rank: int) -> Tracer | None:
    """The tracer of a process; None where nobody asked for one, or another rank records."""
    text = os.environ.get(TRACE, "")
    steps = int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(MOST_STEPS)) else 0
    return Tracer(folder / trace_name(attempt), min(steps, MOST_STEPS)) if folder and steps and rank == 0 else None


class Tracer:
    """Records a few steps once.

    Attributes:
        fault: Why nothing was recorded; empty while all is well.
    """

    def __init__(self, path: Path, steps: int) -> None:
        """Prepare.

        Args:
            path: The file to write.
            steps: How many to record.
        """
        self.fault = ""
        self._path = path
        self._steps = steps
        self._seen = 0
        self._profiler: Any = None
        self._is_over = False

    def step(self) -> None:
        """A step has ended."""
        self._seen += 1
        if self._is_over:
            return
        try:
            if self._profiler is not None:
                self._profiler.step()
            elif self._seen >= WARM_UP - 1:
                self._begin()
        except Exception as error:  # a profiler that fails must not end a training run
            self._give_up(error)

    def close(self) -> None:
        """The process ends: what was recorded of fewer steps is written."""
        if self._profiler is not None and not self._is_over:
            try:
                self._profiler.stop()
            except Exception as error:
                self._give_up(error)
        elif self._profiler is None and not self.fault:
            self.fault = f"no step was recorded: the run had {self._seen}, and {WARM_UP} warm up first"
        self._is_over = True

    def _begin(self) -> None:
        torch = sys.modules.get("torch")
        if torch is None:
            self.fault = "no step was recorded: the process has not imported torch"
            self._is_over = True
            return
        from importlib import import_module

        profiler = import_module("torch.profiler")
        activities = [profiler.ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        plan = profiler.schedule(wait=0, warmup=1, active=self._steps, repeat=1)
        self._profiler = profiler.profile(
            activities=activities, schedule=plan, record_shapes=True, on_trace_ready=self._write
        )
        self._profiler.start()

    def _write(self, profiler: Any) -> None:
        """Into a neighbour first, so that a torn file never has the name."""
        self._is_over = True
        part = self._path.with_name(f".{self._path.name}")
        try:
            profiler.export_chrome_trace(str(part))
            os.replace(part, self._path)
        except (OSError, RuntimeError) as error:
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        self._is_over = True
        self.fault = f"steps were not recorded: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
