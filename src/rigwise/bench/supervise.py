"""A suite in a process of its own: a hang, a crash or a lack of memory costs one benchmark and not the others."""

from __future__ import annotations

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rigwise.bench.types import Benchmark, Context, Raw
from rigwise.errors import MissingExtraError, UnsupportedError

#: A benchmark that says nothing for so long, apart from its own measuring, is ended.
_SILENT_S = 90.0

#: Told the name of each benchmark that starts, how many have ended, how many there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What the child has said so far."""

    raws: list[Raw] = field(default_factory=list)
    software: dict[str, str] = field(default_factory=dict)


def supervise(
    benchmarks: Sequence[Benchmark], context: Context, ends_s: float, found: Found, progress: Progress
) -> None:
    """Run the benchmarks in a child; after one that ended or silenced it, go on with the next in a new child."""
    left = list(benchmarks)
    while left:
        running, reason = _one_child(left, context, ends_s, found, lambda name: _tell(progress, name, benchmarks))
        if running is None:
            return
        found.raws.append(Raw(name=running, unit="", skipped=reason))
        left = left[1 + [benchmark.name for benchmark in left].index(running) :]


def _tell(progress: Progress, name: str, benchmarks: Sequence[Benchmark]) -> None:
    progress(name, [benchmark.name for benchmark in benchmarks].index(name), len(benchmarks))


def _one_child(
    left: Sequence[Benchmark], context: Context, ends_s: float, found: Found, started: Callable[[str], None]
) -> tuple[str | None, str]:
    """The benchmark that ended the child early and how; None where all of them ended."""
    threads = str(context.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "rigwise.bench.child", context.folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **dict.fromkeys(names, threads)},
        start_new_session=True,
    )
    request = {
        "context": dataclasses.asdict(context),
        "benchmarks": [[benchmark.name, benchmark.module, benchmark.figures] for benchmark in left],
        "ends_s": ends_s,
    }
    running = left[0].name
    lines, reader = _lines(process, json.dumps(request))
    try:
        while True:
            try:
                line = lines.get(timeout=_SILENT_S + 20 * context.each_s)
            except queue.Empty:
                return running, "it did not answer any more and was ended"
            if line is None:
                return running, f"its process ended by itself{_signal(process.wait())}"
            answer = json.loads(line)
            if "start" in answer:
                running = answer["start"]
                started(running)
            elif _take(answer, context, found):
                return None, ""
    finally:
        _end(process)
        reader.join()
        for pipe in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                if pipe:
                    pipe.close()


def _take(answer: Mapping[str, Any], context: Context, found: Found) -> bool:
    """Keep what a line says; whether it is the last.

    Raises:
        UnsupportedError: Nothing can run on the target.
        MissingExtraError: That needs PyTorch.
    """
    from rigwise.edge import parse

    if "figure" in answer:
        found.raws.append(parse(answer["figure"], Raw, "what the benchmark said"))
    elif "fault" in answer:
        if answer["fault"] == "no torch":
            raise MissingExtraError("PyTorch", "bench")
        raise UnsupportedError(f"{context.target}: {answer['fault']}", hint="--device cpu, or rigwise doctor")
    found.software.update(answer.get("software", {}))
    return "done" in answer


def _lines(process: subprocess.Popen[bytes], request: str) -> tuple[queue.Queue[bytes | None], threading.Thread]:
    """Lines of the child as they come, then None; and the thread that reads them."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    with suppress(BrokenPipeError):
        if process.stdin:
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()  # and not closed: the child ends when this end is gone
    return lines, reader


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the child and all that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def _signal(code: int) -> str:
    """How a process ended.

    >>> _signal(-9), _signal(3)
    (' (SIGKILL: perhaps for lack of memory)', ' (exit code 3)')
    """
    if code >= 0:
        return f" (exit code {code})"
    with suppress(ValueError):
        name = signal.Signals(-code).name
        return f" ({name}{': perhaps for lack of memory' if name == 'SIGKILL' else ''})"
    return f" (signal {-code})"
