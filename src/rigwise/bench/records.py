"""Samples of a data set: many small files, one packed file read in any order, and a tar archive read as a stream.

The bytes are random, of the size of a small JPEG; nothing is decoded. Cold means that the pages were dropped from the
page cache before each pass, warm that they were left there.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rigwise.bench.disk import why_not
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure, measure_prepared
from rigwise.bench.types import ITEMS, Context, Raw

COUNT, SIZE = 500, 17_000


def run(context: Context) -> Iterator[Raw]:
    """Samples a second, by container, cold and warm."""
    if reason := why_not(context):
        yield Raw(name="records", unit=ITEMS, skipped=reason)
        return
    folder = Path(context.folder) / "records"
    try:
        shelf = Shelf(folder, context.seed)
        readers: dict[str, Callable[[], int]] = {"files": shelf.files, "packed": shelf.packed, "tar": shelf.tar}
        for name, read in readers.items():
            if is_wanted(context, f"records.{name}.cold") and hasattr(os, "posix_fadvise"):
                cold = measure_prepared(shelf.forget, read, context.each_s)
                yield _raw(f"records.{name}.cold", cold)
            if is_wanted(context, f"records.{name}.warm"):
                yield _raw(f"records.{name}.warm", measure(read, context.each_s / 2))
    except OSError as error:
        yield Raw(name="records", unit=ITEMS, skipped=f"{error.strerror or error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _raw(name: str, timing: object) -> Raw:
    shown = {"samples": COUNT, "sample_bytes": SIZE, "order": "as written" if ".tar." in name else "shuffled"}
    return Raw(name=name, unit=ITEMS, amount=float(COUNT), timing=timing, parameters=shown)  # type: ignore[arg-type]


class Shelf:
    """The same samples as files, as one file, and as a tar archive.

    Args:
        folder: Where they go; made here.
        seed: Of the bytes and of the order of reading.
        count: Samples.
    """

    def __init__(self, folder: Path, seed: int, count: int = COUNT) -> None:
        chooser = random.Random(seed)
        folder.mkdir()
        samples = [chooser.randbytes(SIZE) for _ in range(count)]
        self.names = [folder / f"{place:06d}" for place in range(count)]
        self.pack, self.archive = folder / "pack", folder / "shard.tar"
        for name, sample in zip(self.names, samples, strict=True):
            name.write_bytes(sample)
        self.pack.write_bytes(b"".join(samples))
        with tarfile.open(self.archive, "w") as archive:
            for name, sample in zip(self.names, samples, strict=True):
                entry = tarfile.TarInfo(name.name)
                entry.size = len(sample)
                archive.addfile(entry, io.BytesIO(sample))
        for path in (*self.names, self.pack, self.archive):  # dirty pages cannot be dropped
            _on_descriptor(path, os.fsync)
        self.order = list(range(count))
        chooser.shuffle(self.order)

    def files(self) -> int:
        """Open and read every file, shuffled; the bytes read."""
        total = 0
        for place in self.order:
            with open(self.names[place], "rb", buffering=0) as file:
                total += len(file.read())
        return total

    def packed(self) -> int:
        """Read every sample out of the packed file, shuffled; the bytes read."""
        total = 0
        with open(self.pack, "rb", buffering=0) as file:
            for place in self.order:
                file.seek(place * SIZE)
                total += len(file.read(SIZE))
        return total

    def tar(self) -> int:
        """Read the archive from the beginning to its end; the bytes read."""
        total = 0
        with tarfile.open(self.archive, "r|") as archive:
            for entry in archive:
                file = archive.extractfile(entry)
                total += len(file.read()) if file else 0
        return total

    def forget(self) -> None:
        """Drop all of it from the page cache."""
        for path in (*self.names, self.pack, self.archive):
            _on_descriptor(path, lambda file: os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED))


def _on_descriptor(path: Path, act: Callable[[int], object]) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        act(descriptor)
    finally:
        os.close(descriptor)
