"""Small JPEGs as single files and packed into shards: tar shards read by WebDataset, Parquet read by PyArrow.

Each way is read cold (the pages dropped from the page cache before each pass), and read and decoded warm. Files are
read in any order; shards in the order they were written, as their libraries do, which shuffle through a buffer.
Against a disk that seeks, packing pays; against decoding, it may be lost in the noise: both figures say which.
"""

from __future__ import annotations

import io
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rigwise.bench.disk import why_not
from rigwise.bench.libraries import compared, needed
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure, measure_prepared
from rigwise.bench.types import ITEMS, Context, Parameter, Raw

#: Pictures, and shards that they are packed into. Their sides are those of a small picture of the web.
COUNT, SHARDS, WIDTH, HEIGHT = 400, 4, 240, 180
_DISTINCT = 40

Reader = Callable[[], Iterator[bytes]]


def run(context: Context) -> Iterator[Raw]:
    """Pictures a second, by container: read cold, and decoded."""
    if reason := why_not(context):
        yield Raw(name="shards", unit=ITEMS, skipped=reason)
        return
    folder = Path(context.folder) / "shards"
    folder.mkdir()
    try:
        pictures = [(f"{place:06d}", data) for place, data in enumerate(encoded(context.seed, COUNT))]
        for name, write in (("files", files), ("webdataset", webdataset), ("parquet", parquet)):
            able = ("cold", "decoded") if hasattr(os, "posix_fadvise") else ("decoded",)
            parts = [part for part in able if is_wanted(context, f"shards.{name}.{part}")]
            if parts:
                (folder / name).mkdir()
                yield from _of_container(context, name, parts, lambda w=write, n=name: w(folder / n, pictures))  # type: ignore[misc]
                shutil.rmtree(folder / name)
    except ImportError:
        yield Raw(name="shards", unit=ITEMS, skipped="pip install pillow, which makes and decodes the pictures")
    except OSError as error:
        yield Raw(name="shards", unit=ITEMS, skipped=f"{error.strerror or error}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _of_container(context: Context, name: str, parts: list[str], write: Callable[[], Reader]) -> Iterator[Raw]:
    """Its figures; a missing library is a line."""
    made: list[Reader] = []

    def figure(part: str) -> Raw:
        made.extend([] if made else [write()])
        read = made[0]
        if part == "cold":
            folder = Path(context.folder) / "shards" / name
            timing = measure_prepared(lambda: _forget(folder), lambda: _passed(read()), context.each_s)
        else:
            timing = measure(lambda: _decoded(read()), context.each_s)
        shown: dict[str, Parameter] = {"beside": f"shards.files.{part}", "pictures": COUNT}
        shown |= {"shards": 0 if name == "files" else SHARDS}
        shown |= {"order": "shuffled" if name == "files" else "as written", "threads": 1}
        return Raw(name=f"shards.{name}.{part}", unit=ITEMS, amount=float(COUNT), timing=timing, parameters=shown)

    for part in parts:
        yield from compared({f"shards.{name}.{part}": lambda p=part: figure(p)}, ITEMS)  # type: ignore[misc]


def encoded(seed: int, count: int) -> list[bytes]:
    """JPEGs of smooth shapes with noise; few different ones, as their sizes are all that differs.

    Raises:
        ImportError: Pillow is missing.
    """
    import numpy as np
    from PIL import Image

    chooser = np.random.default_rng(seed)
    across, down = np.linspace(0, 9, WIDTH), np.linspace(0, 7, HEIGHT)
    found = []
    for _ in range(_DISTINCT):
        shape = np.sin(across[None, :, None] + chooser.uniform(0, 6, 3)) * np.cos(down[:, None, None])
        noisy = 127 + 90 * shape + chooser.normal(0, chooser.uniform(4, 12), (HEIGHT, WIDTH, 3))
        held = io.BytesIO()
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(held, "JPEG", quality=85)
        found.append(held.getvalue())
    return [found[place % _DISTINCT] for place in range(count)]


def files(folder: Path, pictures: list[tuple[str, bytes]]) -> Reader:
    """One file each; read in another order in each pass."""
    paths = []
    for name, data in pictures:
        paths.append(folder / f"{name}.jpg")
        paths[-1].write_bytes(data)
    _keep(paths)
    chooser = random.Random(len(pictures))

    def read() -> Iterator[bytes]:
        chooser.shuffle(paths)
        return (path.read_bytes() for path in paths)

    return read


def webdataset(folder: Path, pictures: list[tuple[str, bytes]]) -> Reader:
    """Tar shards, read by WebDataset.

    Raises:
        ImportError: It is not installed.
    """
    library = needed("webdataset")
    paths = []
    for place, some in enumerate(_cut(pictures)):
        paths.append(folder / f"{place:03d}.tar")
        with tarfile.open(paths[-1], "w") as archive:
            for name, data in some:
                entry = tarfile.TarInfo(f"{name}.jpg")
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
    _keep(paths)
    names = [str(path) for path in paths]

    def read() -> Iterator[bytes]:
        samples: Any = library.WebDataset(names, shardshuffle=False, empty_check=False)
        return (sample["jpg"] for sample in samples)

    return read


def parquet(folder: Path, pictures: list[tuple[str, bytes]]) -> Reader:
    """Parquet with a column of bytes, not compressed again, read in batches by PyArrow.

    Raises:
        ImportError: It is not installed.
    """
    arrow, library = needed("pyarrow"), needed("pyarrow.parquet")
    paths = []
    for place, some in enumerate(_cut(pictures)):
        paths.append(folder / f"{place:03d}.parquet")
        table = arrow.table({"name": [name for name, _ in some], "jpg": [data for _, data in some]})
        library.write_table(table, paths[-1], compression="none", row_group_size=50, use_dictionary=False)
    _keep(paths)

    def read() -> Iterator[bytes]:
        for path in paths:
            for batch in library.ParquetFile(path).iter_batches(50, columns=["jpg"]):
                yield from batch.column(0).to_pylist()

    return read


def _cut(pictures: list[tuple[str, bytes]]) -> list[list[tuple[str, bytes]]]:
    each = -(-len(pictures) // SHARDS)
    return [pictures[at : at + each] for at in range(0, len(pictures), each)]


def _keep(paths: list[Path]) -> None:
    """Onto the disk: dirty pages cannot be dropped from the cache."""
    for path in paths:
        with open(path, "rb") as file:
            os.fsync(file.fileno())


def _forget(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _passed(read: Iterator[bytes]) -> int:
    """Bytes of all pictures.

    Raises:
        ValueError: Some are missing.
    """
    sizes = [len(data) for data in read]
    if len(sizes) != COUNT:
        raise ValueError(f"{len(sizes)} of {COUNT} pictures came")
    return sum(sizes)


def _decoded(read: Iterator[bytes]) -> int:
    """All pictures decoded; how many there were."""
    import numpy as np
    from PIL import Image

    count = 0
    for data in read:
        with Image.open(io.BytesIO(data)) as picture:
            count += np.asarray(picture.convert("RGB")).shape[2] == 3
    return count
