"""The disk below the page cache: sequential and random reads, one at a time and many at once, and through the cache.

Direct I/O (O_DIRECT) goes past the page cache; where a file system refuses it, pages are dropped from the cache
before they are read, and the figure says so. The file is random, so that no layer can compress it. fio reads where it
is installed; what reads otherwise counts every read over the whole time, as fio does.

Source: open(2) for what O_DIRECT asks of addresses and sizes; posix_fadvise(2).
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rigwise.bench import fio
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import quantile
from rigwise.bench.types import BYTES, ITEMS, Context, Raw, Timing
from rigwise.units import GB, MIB, format_bytes

SMALL, LARGE = 4096, 1 << 20
#: Reads at once, one thread each: Python gives the interpreter away while it waits for a read.
DEEP = 16
#: What is left free on the disk whatever happens.
_LEFT_BYTES = 1 * GB
_READS_OF_SAMPLE = 16
_FIO_LEAST_S = 0.3
_MEMORY_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs", "rootfs"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The file of the test.

    Attributes:
        path: Where it is.
        size_bytes: How much of it was written.
        direct: Whether the file system lets reads go past the page cache.
    """

    path: Path
    size_bytes: int
    direct: bool


def run(context: Context) -> Iterator[Raw]:
    """Write, then read the same file in four ways."""
    if reason := why_not(context):
        yield Raw(name="disk", unit=BYTES, skipped=reason)
        return
    path = Path(context.folder) / "disk"
    try:
        written, opened = _write(path, context)
        if is_wanted(context, "disk.write"):
            yield written
        for name, size, depth in (("random", SMALL, 1), ("random-deep", SMALL, DEEP), ("sequential", LARGE, 1)):
            if is_wanted(context, f"disk.{name}"):
                yield _read(opened, context, (f"disk.{name}", size, depth))
        if is_wanted(context, "disk.cached"):
            yield _cached(opened, context)
    except OSError as error:
        yield Raw(name="disk", unit=BYTES, skipped=f"{error.strerror or error}")
    finally:
        path.unlink(missing_ok=True)


def why_not(context: Context) -> str:
    """Why the disk cannot be tested here; empty where it can."""
    if not context.folder:
        return "no folder can be written"
    if not hasattr(os, "preadv"):
        return "this system has no positioned reads"
    kind = file_system(context.folder)
    if kind in _MEMORY_SYSTEMS:
        return f"the folder is on {kind}, which is memory; --folder names one on a disk"
    free = shutil.disk_usage(context.folder).free
    if free < context.disk_bytes + _LEFT_BYTES:
        return f"{format_bytes(free)} are free, {format_bytes(context.disk_bytes + _LEFT_BYTES)} are needed"
    return ""


def file_system(folder: str) -> str:
    """The kind of file system that a folder is on; empty where it cannot be told."""
    import psutil

    place = os.path.realpath(folder)
    try:
        mounts = psutil.disk_partitions(all=True)
    except (OSError, RuntimeError):
        return ""
    held = [m for m in mounts if place == m.mountpoint or place.startswith(m.mountpoint.rstrip("/") + "/")]
    return str(max(held, key=lambda m: len(m.mountpoint)).fstype) if held else ""


def _open(path: Path, flags: int, *, direct: bool) -> tuple[int, bool]:
    """A descriptor, past the page cache where the file system allows it."""
    if direct and hasattr(os, "O_DIRECT"):
        with contextlib.suppress(OSError):
            return os.open(path, flags | os.O_DIRECT, 0o600), True
    return os.open(path, flags, 0o600), False


def _write(path: Path, context: Context) -> tuple[Raw, Opened]:
    """Random data in order; ends early on a slow disk."""
    page = mmap.mmap(-1, LARGE)  # starts at a page, as direct I/O asks
    page.write(random.Random(context.seed).randbytes(LARGE))
    descriptor, direct = _open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, direct=True)
    samples: list[float] = []
    started_s, done = time.perf_counter(), 0
    try:
        while done < context.disk_bytes and (done < 16 * MIB or time.perf_counter() - started_s < 4 * context.each_s):
            begun_s = time.perf_counter()
            for _ in range(8):
                done += os.pwritev(descriptor, [page], done)
            samples.append(time.perf_counter() - begun_s)
        begun_s = time.perf_counter()
        os.fsync(descriptor)
        samples[-1] += time.perf_counter() - begun_s
    finally:
        os.close(descriptor)
        page.close()
    whole = sum(samples) / len(samples)  # the median would forget the wait at the end
    raw = Raw(
        name="disk.write",
        unit=BYTES,
        amount=8.0 * LARGE,
        timing=Timing(samples_s=tuple(samples), wall_s=sum(samples)),
        value=8.0 * LARGE / whole,
        parameters={"request_bytes": LARGE, "file_bytes": done, "direct": direct},
        note="until it is on the disk",
    )
    return raw, Opened(path=path, size_bytes=done, direct=direct)


def _read(opened: Opened, context: Context, asked: tuple[str, int, int]) -> Raw:
    """Reads of one size at so many places at once, in random order or one after the other."""
    name, size, depth = asked
    if by_fio := _by_fio(opened, context, asked):
        return by_fio
    latencies: list[list[float]] = [[] for _ in range(depth)]
    faults: list[OSError] = []
    started_s = time.perf_counter()
    ends_s = started_s + context.each_s

    def reader(place: int) -> None:
        try:
            _reads(opened, size, ends_s, latencies[place], random.Random(context.seed + place))
        except OSError as error:
            faults.append(error)

    others = [threading.Thread(target=reader, args=(place,), daemon=True) for place in range(1, depth)]
    for thread in others:
        thread.start()
    reader(0)
    for thread in others:
        thread.join()
    if faults:
        raise faults[0]
    wall_s = time.perf_counter() - started_s
    every = [one for found in latencies for one in found]
    samples = [
        sum(found[at : at + _READS_OF_SAMPLE]) / len(found[at : at + _READS_OF_SAMPLE]) / depth
        for found in latencies
        for at in range(0, len(found), _READS_OF_SAMPLE)
    ]
    is_random = size == SMALL
    return Raw(
        name=name,
        unit=ITEMS if is_random else BYTES,
        amount=1.0 if is_random else float(size),
        timing=Timing(samples_s=tuple(samples[:4000]), calls=_READS_OF_SAMPLE, wall_s=wall_s),
        value=len(every) / wall_s * (1.0 if is_random else size),
        parameters={
            "request_bytes": size,
            "depth": depth,
            "direct": opened.direct,
            "p99_us": round(1e6 * quantile(every, 0.99), 1),
        },
        note="" if opened.direct else "the file system refuses direct I/O: pages were dropped from the cache instead",
    )


def _by_fio(opened: Opened, context: Context, asked: tuple[str, int, int]) -> Raw | None:
    """The same by fio, where it is installed and there is time for its least run of a second."""
    name, size, depth = asked
    program = fio.installed()
    if not program or context.each_s < _FIO_LEAST_S:
        return None
    found = fio.reads(program, opened.path, size, depth, each_s=context.each_s, direct=opened.direct)
    if found is None:
        return None
    reads_per_s, bytes_per_s, said = found
    is_random = size == SMALL
    return Raw(
        name=name,
        unit=ITEMS if is_random else BYTES,
        value=reads_per_s if is_random else bytes_per_s,
        parameters={"request_bytes": size, "depth": depth, "direct": opened.direct, **said},
    )


def _reads(opened: Opened, size: int, ends_s: float, latencies: list[float], chooser: random.Random) -> None:
    """Read until the time is over; the time of each read is put into ``latencies``."""
    descriptor, _ = _open(opened.path, os.O_RDONLY, direct=opened.direct)
    page = mmap.mmap(-1, size)
    pieces, at = opened.size_bytes // size, 0
    try:
        while True:
            at = chooser.randrange(pieces) if size == SMALL else (at + 1) % pieces
            if not opened.direct and hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, at * size, size, os.POSIX_FADV_DONTNEED)
            begun_s = time.perf_counter()
            os.preadv(descriptor, [page], at * size)
            now_s = time.perf_counter()
            latencies.append(now_s - begun_s)
            if now_s > ends_s:
                return
    finally:
        os.close(descriptor)
        page.close()


def _cached(opened: Opened, context: Context) -> Raw:
    """The file through the page cache, after it was read once."""
    from rigwise.bench.timing import measure

    size = min(opened.size_bytes, 64 * int(MIB))
    with open(opened.path, "rb", buffering=0) as file:
        page = bytearray(LARGE)

        def whole() -> None:
            file.seek(0)
            for _ in range(size // LARGE):
                file.readinto(page)

        whole()
        timing = measure(whole, context.each_s / 2)
    shown = {"request_bytes": LARGE, "file_bytes": size}
    return Raw(
        name="disk.cached", unit=BYTES, amount=float(size), timing=timing, parameters=shown, note="out of memory"
    )
