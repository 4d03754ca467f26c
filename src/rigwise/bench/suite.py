"""Which benchmarks there are, and running them in a process of their own under a time limit."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rigwise.bench.limits import judged
from rigwise.bench.timing import METHOD
from rigwise.bench.types import Context, Figure, Raw
from rigwise.errors import (
    InvalidInputError,
    MissingExtraError,
    MissingFactError,
    UnknownNameError,
    UnsupportedError,
    near_matches,
)
from rigwise.facts.device import Device
from rigwise.machine.inspect import inspect
from rigwise.machine.match import number, value
from rigwise.machine.peaks import cores_here
from rigwise.machine.snapshot import Snapshot
from rigwise.machine.this import device_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One file of this package.

    Attributes:
        name: First word of its figures.
        group: What part of the machine it is about.
        answers: What it measures, for people.
    """

    name: str
    group: str
    answers: str

    @property
    def module(self) -> str:
        """Where its ``run`` is."""
        return f"rigwise.bench.{self.name.replace('-', '_')}"


def _benchmark(name: str, group: str, answers: str) -> Benchmark:
    return Benchmark(name=name, group=group, answers=answers)


#: In the order in which they run: what is quick and most asked first.
BENCHMARKS = (
    _benchmark("matmul", "compute", "matrix products by number format"),
    _benchmark("stream", "memory", "memory bandwidth: copy and triad"),
    _benchmark("disk", "storage", "reads and writes past the page cache and through it"),
    _benchmark("launch", "compute", "what an operator costs that does nothing"),
    _benchmark("convolution", "compute", "a convolution of ResNet-50 in NCHW and NHWC"),
    _benchmark("attention", "compute", "causal attention, forward and training"),
    _benchmark("optimizer", "compute", "the optimizer's own step"),
    _benchmark("formats", "compute", "what a layer loses in each number format"),
    _benchmark("molecular", "compute", "a Lennard-Jones step over all pairs"),
    _benchmark("cache", "memory", "the same copy by size: each cache level"),
    _benchmark("host-link", "memory", "between host and GPU, pinned and pageable"),
    _benchmark("records", "storage", "small files, a packed file, a tar archive"),
    _benchmark("loader", "storage", "decoding, and PyTorch's loader by workers"),
    _benchmark("all-reduce", "network", "all-reduce between two processes of this computer"),
)
#: PyTorch's name for the GPUs of each vendor.
_BACKENDS = {"nvidia": "cuda", "amd": "cuda", "intel": "xpu", "apple": "mps"}
#: Time for one figure, and for the whole suite when it must be quick.
EACH_S, QUICK_EACH_S, QUICK_S = 3.0, 0.4, 42.0
#: A benchmark that says nothing for so long, apart from its own measuring, is ended.
_SILENT_S = 90.0
#: Share of the memory that is available that a benchmark may count on.
_MEMORY_FRAC = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for.

    Attributes:
        names: Benchmarks, groups or figures; empty for all.
        part: ``cpu`` or ``gpu1``; empty for the first GPU, or the CPU where there is none.
        quick: Whether the whole is to end within a minute.
        each_s: Time for one figure; None for the suite's own.
        threads: On the CPU; None for all cores that may be used.
        folder: Where the disk is tested.
    """

    names: tuple[str, ...] = ()
    part: str = ""
    quick: bool = False
    each_s: float | None = None
    threads: int | None = None
    folder: str = "."


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All figures of one run.

    Attributes:
        started: Date and time, UTC, ISO 8601.
        method: Version of the measuring method.
        device: What was measured; None where the machine does not tell enough of itself, and ``unknown`` says why.
        name: Of the device, for people.
        threads: On the CPU.
        software: Versions.
        figures: In the order they were taken.
        wall_s: The whole run.
        interrupted: Whether Ctrl-C ended it early.
    """

    started: str
    name: str
    threads: int
    method: int = METHOD
    device: Device | None = None
    unknown: str = ""
    software: Mapping[str, str] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    wall_s: float = 0.0
    interrupted: bool = False


Progress = Callable[[str, int, int], None]


def chosen(names: Sequence[str]) -> tuple[Benchmark, ...]:
    """The benchmarks that names of benchmarks, groups or figures mean, in the order of the suite.

    Raises:
        UnknownNameError: A name means none of them.

    >>> [benchmark.name for benchmark in chosen(["memory", "matmul.fp32"])]
    ['matmul', 'stream', 'cache', 'host-link']
    """
    known = {benchmark.name for benchmark in BENCHMARKS}
    groups = {benchmark.group for benchmark in BENCHMARKS}
    first = {name.partition(".")[0] for name in names}
    for name in sorted(first - known - groups):
        hint = near_matches(name, [*known, *groups]) or f"one of: {', '.join(sorted(known | groups))}"
        raise UnknownNameError(f"there is no benchmark {name[:60]!r}", hint=hint)
    return tuple(b for b in BENCHMARKS if not first or b.name in first or b.group in first)


def run_suite(request: Request, progress: Progress = lambda name, done, total: None) -> Report:
    """Measure this machine.

    Args:
        request: What to measure.
        progress: Told the name of each benchmark that starts, how many have ended, how many there are.

    Raises:
        UnknownNameError: There is no such benchmark.
        InvalidInputError: The machine has no such part, or a number is out of range.
        UnsupportedError: PyTorch cannot use the GPU.
        MissingExtraError: A GPU is to be measured and PyTorch is not installed.
    """
    benchmarks = chosen(request.names)
    started_s = time.monotonic()
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    snapshot = inspect()
    target, part = target_of(snapshot, request.part)
    try:
        device, unknown = device_of(snapshot, part), ""
    except MissingFactError as error:
        device, unknown = None, str(error)
    with _folder(request.folder) as folder:
        context = context_of(request, snapshot, (target, part), folder)
        found = _Found()
        interrupted = False
        try:
            _supervise(benchmarks, context, _ends_s(request, started_s), found, progress)
        except KeyboardInterrupt:
            interrupted = True
            if not found.raws:
                raise
    name = device.name if device else str(snapshot.value("cpu.name") or "unknown")
    return Report(
        started=started,
        name=name,
        threads=context.threads,
        device=device,
        unknown=unknown,
        software=found.software,
        figures=tuple(judged(raw, device, context.threads) for raw in found.raws),
        wall_s=time.monotonic() - started_s,
        interrupted=interrupted,
    )


def target_of(snapshot: Snapshot, part: str) -> tuple[str, str]:
    """PyTorch's name of the target, and the part of the snapshot that it is.

    Raises:
        InvalidInputError: There is no such GPU.
        UnsupportedError: PyTorch has no name for GPUs of its maker.
    """
    if part == "cpu" or not (part or snapshot.gpus):
        return "cpu", "cpu"
    place = int(part.removeprefix("gpu") or 0)
    if place >= len(snapshot.gpus):
        count = len(snapshot.gpus)
        shown = f"{count} GPU{'s' if count != 1 else ''}" if count else "no GPU"
        raise InvalidInputError(f"this machine shows {shown}, not one with number {place}", hint="--device cpu")
    vendor = str(value(snapshot.gpus[place], "vendor") or "").lower()
    backend = next((word for maker, word in _BACKENDS.items() if maker in vendor), "")
    if not backend:
        raise UnsupportedError(f"PyTorch has no name for GPUs of {vendor or 'an unknown maker'}", hint="--device cpu")
    return (backend if backend == "mps" else f"{backend}:{place}"), f"gpu{place}"


def context_of(request: Request, snapshot: Snapshot, target: tuple[str, str], folder: str) -> Context:
    """How the suite measures here.

    Raises:
        InvalidInputError: A number is out of range.
    """
    cores = cores_here(snapshot) or os.cpu_count() or 1
    each_s = request.each_s if request.each_s is not None else QUICK_EACH_S if request.quick else EACH_S
    if not (math.isfinite(each_s) and 1e-3 <= each_s <= 3600):
        raise InvalidInputError(f"{each_s:g} s for one figure", hint="between 1 ms and 1 h")
    threads = request.threads or cores
    if not 1 <= threads <= 4096:
        raise InvalidInputError(f"{threads} threads", hint=f"this process may use {cores}")
    name, part = target
    gpu = snapshot.gpus[int(part.removeprefix("gpu"))] if part != "cpu" else {}
    available = number(snapshot.memory, "available_bytes") or 2e9
    limited = number(snapshot.limits, "cgroup_memory_bytes") or available
    memory = number(gpu, "memory_bytes") or min(available, limited)
    cache = number(gpu, "l2_bytes") if gpu else number(snapshot.cpu, "l3_bytes") or number(snapshot.cpu, "l2_bytes")
    return Context(
        target=name,
        threads=threads,
        each_s=each_s,
        folder=folder,
        memory_bytes=_MEMORY_FRAC * memory,
        cache_bytes=cache or 32e6,
        disk_bytes=(256 if request.quick or each_s < 1 else 2048) * 2**20,
        wanted=tuple(name for name in request.names if "." in name),
    )


def _ends_s(request: Request, started_s: float) -> float:
    """When no further benchmark starts, on the clock that all processes of a computer share."""
    return started_s + (QUICK_S if request.quick else 24 * 3600.0)


@contextmanager
def _folder(parent: str) -> Iterator[str]:
    """A new folder that is removed whatever happens; empty where none can be written."""
    if not Path(parent).is_dir():
        raise InvalidInputError(f"there is no folder {parent}")
    try:
        made = tempfile.TemporaryDirectory(prefix="rigwise-bench-", dir=parent, ignore_cleanup_errors=True)
    except OSError:
        yield ""
        return
    with made as folder:
        yield os.path.abspath(folder)


@dataclass(frozen=True, slots=True)
class _Found:
    """What the child has said so far."""

    raws: list[Raw] = field(default_factory=list)
    software: dict[str, str] = field(default_factory=dict)


def _supervise(
    benchmarks: Sequence[Benchmark], context: Context, ends_s: float, found: _Found, progress: Progress
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
    left: Sequence[Benchmark], context: Context, ends_s: float, found: _Found, started: Callable[[str], None]
) -> tuple[str | None, str]:
    """The benchmark that ended the child early and how; None where all of them ended."""
    threads = str(context.threads)
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    process = subprocess.Popen(
        [sys.executable, "-m", "rigwise.bench.child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **dict.fromkeys(names, threads)},
        start_new_session=True,
    )
    request = {
        "context": dataclasses.asdict(context),
        "benchmarks": [[benchmark.name, benchmark.module] for benchmark in left],
        "ends_s": ends_s,
    }
    running = left[0].name
    try:
        lines = _lines(process, json.dumps(request))
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


def _take(answer: Mapping[str, Any], context: Context, found: _Found) -> bool:
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
    elif "done" in answer:
        found.software.update(answer["software"])
        return True
    return False


def _lines(process: subprocess.Popen[bytes], request: str) -> queue.Queue[bytes | None]:
    """Lines of the child as they come, then None."""
    lines: queue.Queue[bytes | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    with suppress(BrokenPipeError):
        if process.stdin:
            process.stdin.write(request.encode() + b"\n")
            process.stdin.close()
    return lines


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
