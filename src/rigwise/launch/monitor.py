"""``from rigwise import monitor``: what a training loop does, measured from inside, for next to nothing.

    with monitor(samples=32) as m:
        for batch in m.batches(loader):
            train(batch)
            m.step()
            if m.checkpoint_due():
                with m.checkpoint():
                    save()
            if m.stopping:
                break

Under ``rigwise run`` the figures go to the folder of the run; anywhere else a summary is printed at the end.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from rigwise.errors import InvalidInputError
from rigwise.launch import hooks
from rigwise.launch.agreement import Agreement
from rigwise.launch.steps import ATTEMPT, CHECKPOINT, FOLDER, Session, StepFile, file_name, session
from rigwise.launch.tracing import Tracer, tracer_of

T = TypeVar("T")

#: Lines are written at least so far apart, later a hundredth of the time so far, at most the last figure.
_LEAST_S, _MOST_S, _SHARE = 1.0, 10.0, 0.01
#: The peak of memory is looked up so far apart: it only grows.
_LOOK_S = 5.0
#: After so many times of single steps only every second one is written, and so on.
_SAMPLES = 4096
#: More times than this do not stand in one line.
_IN_A_LINE = 1024
#: Work between two checkpoints where nobody says.
USUAL_CHECKPOINT_S = 600.0


class Monitor:
    """Measures the steps of one training process; a context manager.

    A step is the time from the end of the one before to its own end, without pauses and checkpoints. Nothing waits
    for a GPU: where work is queued on one, single steps are uneven, and their median over many is right.
    """

    def __init__(self, *, samples: int = 0, first_step: int = 0, checkpoint_every_s: float | None = None) -> None:
        """Prepare; nothing is measured before ``with``.

        Args:
            samples: That this process consumes in a step; 0 if it does not say.
            first_step: Steps that were done before, where a checkpoint was loaded.
            checkpoint_every_s: Work between two checkpoints; None takes the plan's, else ten minutes.

        Raises:
            InvalidInputError: A number is negative, or the interval is none.
        """
        if samples < 0 or first_step < 0:
            raise InvalidInputError(f"monitor(samples={samples}, first_step={first_step})", hint="use 0 or more")
        self.attempt = _whole(os.environ.get(ATTEMPT), 1)
        self.rank = _whole(os.environ.get("RANK", os.environ.get("SLURM_PROCID")), 0)
        self._every_s = _interval_s(checkpoint_every_s)
        self._usual_samples = samples
        self._first_step = first_step
        self._steps = 0
        self._work_s = self._wait_s = self._samples = 0.0
        self._times_s: list[float] = []
        self._every = 1
        self._written = 0
        self._first_at: float | None = None
        self._began_s = self._last_s = self._saved_s = self._flushed_s = 0.0
        self._paused_s = self._cpu_before_s = 0.0
        self._stop = self._asked = self._due_answered = False
        self._agreement = Agreement()
        self._is_shared: bool | None = None
        self._memory_bytes, self._looked_s = 0.0, -math.inf
        self._file = StepFile(None)
        self._before: Any = None
        self._facts_written = False
        self._tracer: Tracer | None = None

    # What a loop calls

    def batches(self, loader: Iterable[T]) -> Iterator[T]:
        """The batches of a loader; the time it takes to hand each over counts as waiting for input."""
        began_s = time.perf_counter()
        for batch in loader:
            self._wait_s += time.perf_counter() - began_s
            yield batch
            began_s = time.perf_counter()

    def step(self, samples: int | None = None) -> None:
        """A step has ended.

        Args:
            samples: That it consumed, where that differs from step to step.
        """
        now_s = time.perf_counter()
        took_s = now_s - self._last_s - self._paused_s
        self._last_s, self._paused_s = now_s, 0.0
        self._steps += 1
        self._work_s += took_s
        self._samples += self._usual_samples if samples is None else samples
        if self._steps % self._every == 0:
            self._times_s.append(took_s)
            if len(self._times_s) >= _IN_A_LINE:
                self._thin()
        if self._first_at is None:
            self._first_at = time.time()
        since_s = now_s - self._flushed_s
        if since_s > _LEAST_S and since_s > min(_MOST_S, _SHARE * (now_s - self._began_s)):
            self._flush(now_s)
        if self._tracer is not None:
            with self.pause():
                self._tracer.step()

    def waited(self, time_s: float) -> None:
        """Count time as waiting for input, where ``batches`` does not see it."""
        self._wait_s += time_s

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens inside (validation, say) belongs to no step."""
        began_s = time.perf_counter()
        try:
            yield
        finally:
            self.skip(time.perf_counter() - began_s)

    def skip(self, time_s: float) -> None:
        """Time that belongs to no step, where ``pause`` cannot stand around it."""
        self._paused_s += time_s

    def checkpoint_due(self) -> bool:
        """Whether to save now: the interval has passed, or the process has been told to end.

        With ``torch.distributed`` all ranks get the same answer, so all must ask after every step. It costs a small
        all-reduce, once in as many steps as make a second or a hundredth of the interval.
        """
        self._asked = True
        now_s = time.perf_counter()
        due, stop = now_s - self._saved_s >= self._every_s, self._stop
        if self._is_shared is None:
            self._is_shared = self._agreement.is_shared()
        if self._is_shared:
            step_s = self._work_s / self._steps if self._steps else 0.0
            answer = self._agreement.on(now_s - self._saved_s, self._every_s, step_s, stop=stop)
            due, stop = answer.due, answer.stop
        if stop and not self._due_answered:
            self._due_answered = due = True
        if due:
            self._saved_s = now_s
        return due

    @contextmanager
    def checkpoint(self) -> Iterator[None]:
        """Save inside: it belongs to no step, and after it no work up to the last step can be lost."""
        began_s = time.perf_counter()
        with self.pause():
            yield
        self.saved(time.perf_counter() - began_s)

    def saved(self, took_s: float = 0.0) -> None:
        """A checkpoint is whole, which holds everything up to the last step."""
        now_s = time.perf_counter()
        self._saved_s = now_s
        self._flush(now_s)
        line = {"is": "save", "step": self._first_step + self._steps, "at": time.time(), "took": round(took_s, 6)}
        self._file.write(line, lasting=True)

    @property
    def stopping(self) -> bool:
        """Whether to leave the loop: the machine is being taken away, or somebody wants an end.

        With ``torch.distributed`` it is what all ranks agreed on when ``checkpoint_due`` was last asked.
        """
        self._asked = True
        return self._agreement.stop if self._is_shared else self._stop

    @property
    def interval_s(self) -> float:
        """Work between two checkpoints."""
        return self._every_s

    @property
    def summary(self) -> Session:
        """What was measured so far, outside ``rigwise run``."""
        return session(self._file.lines, rank=self.rank, attempt=self.attempt, pid=os.getpid())

    # Entering and leaving

    def __enter__(self) -> Self:
        folder = os.environ.get(FOLDER)
        path = Path(folder) / file_name(self.attempt, self.rank, os.getpid()) if folder else None
        self._file = StepFile(path)
        self._tracer = tracer_of(path.parent if path else None, self.attempt, self.rank)
        self._file.write({"is": "begin", "at": time.time(), "step": self._first_step}, lasting=True)
        if threading.current_thread() is threading.main_thread():
            self._before = signal.getsignal(signal.SIGTERM)
            signal.signal(signal.SIGTERM, self._told_to_end)
        self._cpu_before_s = _cpu_s()
        self._began_s = self._last_s = self._saved_s = self._flushed_s = time.perf_counter()
        self._paused_s = 0.0  # a trainer validates once before its first step
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._flush(time.perf_counter(), last=True)
        how = "ok" if error is None else type(error).__name__
        self._file.write({"is": "end", "at": time.time(), "how": "stopped" if self._stop else how}, lasting=True)
        self._file.close()
        if self._tracer is not None:
            self._tracer.close()
            if self._tracer.fault:
                print(f"rigwise: {self._tracer.fault}", file=sys.stderr)
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
            self._before = None
        if self._file.fault:
            print(f"rigwise: figures of this run are not whole: {self._file.fault}", file=sys.stderr)
        if not os.environ.get(FOLDER):
            from rigwise.launch.measured import summary_line

            print(summary_line(self.summary), file=sys.stderr)

    def _told_to_end(self, number: int, frame: FrameType | None) -> None:
        """SIGTERM: remember it for the loop. A loop that never asks, or a second signal, gets what it had before."""
        if (self._stop or not self._asked) and self._before is not None:
            before, self._before = self._before, None
            signal.signal(number, before)
            if callable(before):
                before(number, frame)
            else:
                os.kill(os.getpid(), number)
        self._stop = True

    # Writing

    def _flush(self, now_s: float, *, last: bool = False) -> None:
        if not (self._times_s or last) and self._flushed_s > self._last_s:
            return
        self._flushed_s = now_s
        if not self._facts_written and self._steps:
            self._facts_written = True
            self._file.write({"is": "facts", "facts": hooks.facts()})
        if now_s - self._looked_s > _LOOK_S or last:
            self._memory_bytes, self._looked_s = hooks.memory_bytes(), now_s
        line: dict[str, Any] = {
            "is": "steps",
            "at": round(time.time(), 3),
            "n": self._steps,
            "every": self._every,
            "s": [round(one, 7) for one in self._times_s],
            "work": round(self._work_s, 6),
            "wait": round(self._wait_s, 6),
            "samples": self._samples,
            "memory": self._memory_bytes,
            "gpu": hooks.gpu_bytes(),
            "cpu": round(_cpu_s() - self._cpu_before_s, 3),
        }
        if self._first_at is not None:
            line["first"] = self._first_at
        self._file.write(line)
        self._written += len(self._times_s)
        self._times_s = []
        if self._written >= _SAMPLES:
            self._written, self._every = 0, self._every * 2

    def _thin(self) -> None:
        """Keep every second time; each then stands for twice as many steps."""
        self._times_s, self._every = self._times_s[1::2], self._every * 2

    # For loops that are somebody else's

    @staticmethod
    def optimizer(optimizer: Any, **options: Any) -> Any:
        """Each step of a PyTorch optimizer is a step; ends with the process, or by ``close``."""
        return hooks.on_optimizer(Monitor(**options), optimizer)

    @staticmethod
    def lightning(checkpoint: str = "", **options: Any) -> Any:
        """A callback for ``lightning.Trainer``; saves to the file ``checkpoint`` if one is named."""
        return hooks.lightning(Monitor(**options), checkpoint)

    @staticmethod
    def transformers(**options: Any) -> Any:
        """A callback for ``transformers.Trainer``, which saves in its own way when a checkpoint is due."""
        return hooks.transformers(Monitor(**options))

    @staticmethod
    def keras(checkpoint: str = "", **options: Any) -> Any:
        """A callback for ``model.fit`` of Keras 3; saves the model to the file ``checkpoint`` if one is named."""
        return hooks.keras(Monitor(**options), checkpoint)


#: As a loop spells it: ``with monitor() as m``.
monitor = Monitor


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def _whole(text: str | None, other: int) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() else other


def _interval_s(given: float | None) -> float:
    text = os.environ.get(CHECKPOINT, "")
    if given is None:
        try:
            given = float(text) if text else USUAL_CHECKPOINT_S
        except ValueError:
            raise InvalidInputError(f"{CHECKPOINT} is {text[:40]!r}", hint="give seconds") from None
    if not (given > 0 and math.isfinite(given)):
        raise InvalidInputError(f"an interval of {given} s between checkpoints", hint="give a time above 0")
    return float(given)
