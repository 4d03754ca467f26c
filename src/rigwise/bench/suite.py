"""Which benchmarks there are, and running them in a process of their own under a time limit."""

from __future__ import annotations

import math
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rigwise.bench.limits import judged
from rigwise.bench.supervise import Found, Progress, supervise
from rigwise.bench.timing import METHOD
from rigwise.bench.types import Benchmark, Context, Figure, Raw
from rigwise.errors import (
    InvalidInputError,
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


def _benchmark(name: str, group: str, figures: int, answers: str, *, quick: bool = True) -> Benchmark:
    return Benchmark(name=name, group=group, figures=figures, answers=answers, quick=quick)


#: In the order in which they run: what is quick and most asked first.
BENCHMARKS = (
    _benchmark("matmul", "compute", 6, "matrix products by number format"),
    _benchmark("stream", "memory", 4, "memory bandwidth: copy and triad"),
    _benchmark("disk", "storage", 5, "reads and writes past the page cache and through it"),
    _benchmark("launch", "compute", 1, "what an operator costs that does nothing"),
    _benchmark("convolution", "compute", 2, "a convolution of ResNet-50 in NCHW and NHWC"),
    _benchmark("attention", "compute", 2, "causal attention, forward and training"),
    _benchmark("transformer", "compute", 2, "one layer of a transformer, forward and training"),
    _benchmark("optimizer", "compute", 2, "the optimizer's own step"),
    _benchmark("formats", "compute", 4, "what a layer loses in each number format"),
    _benchmark("molecular", "compute", 1, "a Lennard-Jones step over all pairs"),
    _benchmark("cache", "memory", 2, "the same copy by size: each cache level"),
    _benchmark("host-link", "memory", 1, "between host and GPU, pinned and pageable"),
    _benchmark("peer", "memory", 1, "between the GPUs of this computer"),
    _benchmark("records", "storage", 6, "small files, a packed file, a tar archive"),
    _benchmark("loader", "storage", 5, "decoding, and PyTorch's loader by workers"),
    _benchmark("all-reduce", "network", 8, "all-reduce between two processes of this computer"),
    _benchmark("networks", "compute", 12, "AlexNet, GoogLeNet, VGG, ResNet, GPT-2"),
    _benchmark("energy", "power", 3, "joules of a product and of a training step"),
    _benchmark("shards", "storage", 12, "JPEGs as files, WebDataset, Parquet", quick=False),
    _benchmark("staleness", "network", 12, "synchronous and stale training: time to loss", quick=False),
    _benchmark("runtimes", "inference", 14, "PyTorch, ONNX Runtime, OpenVINO, TensorRT", quick=False),
    _benchmark("tables", "data", 6, "group-by and join: pandas, Polars, cuDF", quick=False),
    _benchmark("learning", "data", 4, "k-means and forests: scikit-learn, cuML", quick=False),
    _benchmark("graphs", "data", 6, "PageRank, and the quickest way by road", quick=False),
)
#: PyTorch's name for the GPUs of each vendor.
_BACKENDS = {"nvidia": "cuda", "amd": "cuda", "intel": "xpu", "apple": "mps"}
#: Time for one figure, and for the whole suite when it must be quick.
EACH_S, QUICK_EACH_S, QUICK_S = 3.0, 0.4, 42.0
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


def chosen(names: Sequence[str]) -> tuple[Benchmark, ...]:
    """The benchmarks that names of benchmarks, groups or figures mean, in the order of the suite.

    Raises:
        UnknownNameError: A name means none of them.

    >>> [benchmark.name for benchmark in chosen(["memory", "matmul.fp32"])]
    ['matmul', 'stream', 'cache', 'host-link', 'peer']
    """
    known = {benchmark.name for benchmark in BENCHMARKS}
    groups = {benchmark.group for benchmark in BENCHMARKS}
    first = {name.partition(".")[0] for name in names}
    for name in sorted(first - known - groups):
        hint = near_matches(name, [*known, *groups]) or f"one of: {', '.join(sorted(known | groups))}"
        raise UnknownNameError(f"there is no benchmark {name[:60]!r}", hint=hint)
    return tuple(b for b in BENCHMARKS if not first or b.name in first or b.group in first)


def _for_time(benchmarks: tuple[Benchmark, ...], request: Request) -> tuple[tuple[Benchmark, ...], list[Raw]]:
    """What is run, and what a quick suite leaves out because it was not asked for by name."""
    if not request.quick or request.names:
        return benchmarks, []
    left_out = [benchmark.name for benchmark in benchmarks if not benchmark.quick]
    reason = "too long to prepare for --quick; name them to have them"
    return tuple(b for b in benchmarks if b.quick), [Raw(name=name, unit="", skipped=reason) for name in left_out]


def run_suite(
    request: Request,
    progress: Progress = lambda name, done, total: None,
    partly: Callable[[Report], None] = lambda report: None,
) -> Report:
    """Measure this machine.

    Args:
        request: What to measure.
        progress: Told the name of each benchmark that starts, how many have ended, how many there are.
        partly: Given what was measured until then whenever a benchmark starts.

    Raises:
        UnknownNameError: There is no such benchmark.
        InvalidInputError: The machine has no such part, or a number is out of range.
        UnsupportedError: PyTorch cannot use the GPU.
        MissingExtraError: A GPU is to be measured and PyTorch is not installed.
    """
    benchmarks, left_out = _for_time(chosen(request.names), request)
    started_s = time.monotonic()
    started = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    snapshot = inspect()
    target, part = target_of(snapshot, request.part)
    try:
        device, unknown = device_of(snapshot, part), ""
    except MissingFactError as error:
        device, unknown = None, str(error)
    name = device.name if device else str(snapshot.value("cpu.name") or "unknown")
    with _folder(request.folder) as folder:
        context = context_of(request, snapshot, (target, part), folder)
        found = Found()
        interrupted = False

        def report() -> Report:
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

        def told(benchmark: str, done: int, total: int) -> None:
            partly(report())
            progress(benchmark, done, total)

        try:
            supervise(benchmarks, context, _ends_s(request, started_s), found, told)
        except KeyboardInterrupt:
            interrupted = True
            if not found.raws:
                raise
    found.raws.extend([*_missed(context, found.raws, interrupted=interrupted), *left_out])
    return report()


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
        shown = f"{count} GPU{'s' if count != 1 else ''}, not one with number {place}" if count else "no GPU"
        raise InvalidInputError(f"this machine shows {shown}", hint="--device cpu")
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
        wanted=_wanted(request.names),
    )


def _wanted(names: Sequence[str]) -> tuple[str, ...]:
    """Figures and benchmarks that count where single figures were asked for; empty where none was."""
    if not any("." in name for name in names):
        return ()
    of_group = [benchmark.name for benchmark in BENCHMARKS if benchmark.group in names]
    return (*names, *of_group)


def _missed(context: Context, raws: Sequence[Raw], *, interrupted: bool) -> list[Raw]:
    """Figures that were asked for and that their benchmark does not have."""
    had = [raw.name for raw in raws]

    def has(name: str) -> bool:
        return any(one == name or one.startswith(f"{name}.") or name.startswith(f"{one}.") for one in had)

    missed = [name for name in context.wanted if "." in name and not has(name)]
    why = "there is no such figure here; rigwise bench {} has all that there are"
    return [] if interrupted else [Raw(name=n, unit="", skipped=why.format(n.partition(".")[0])) for n in missed]


def _ends_s(request: Request, started_s: float) -> float:
    """When no further benchmark starts, on the clock that all processes of a computer share."""
    return started_s + (QUICK_S if request.quick else 24 * 3600.0)


@contextmanager
def _folder(parent: str) -> Iterator[str]:
    """The name of a new folder; the process that measures makes it, so that one of the two is there to remove it."""
    try:
        place = Path(parent).resolve(strict=True)
    except OSError:
        raise InvalidInputError(f"there is no folder {parent}") from None
    if not place.is_dir():
        raise InvalidInputError(f"{parent} is no folder")
    folder = place / f"rigwise-bench-{secrets.token_hex(4)}"
    try:
        yield str(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
