"""Which build of a framework runs where: CUDA releases and their drivers, builds and the architectures inside.

The files are ``data/software/*.csv``, one row with its source for each release or build. They hold Linux on x86-64.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from rigwise.edge import read_text
from rigwise.errors import InvalidInputError

FOLDER = Path(__file__).parent / "data" / "software"
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaRelease:
    """One release of the CUDA toolkit.

    Attributes:
        cuda, release: ``12.4`` and its update.
        driver: The Linux driver that it was released with; empty where unknown.
        floor: The oldest Linux driver that loads anything built with this major version; empty where there is none.
        capabilities: Compute capabilities that its compiler can build for.
        source: Where the row was read.
    """

    cuda: str
    release: str
    driver: str
    floor: str
    capabilities: tuple[str, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """One build of a framework for CUDA.

    Attributes:
        framework, version: ``torch`` and its version without the local tag.
        tag: ``cu126``, as its index calls it; empty where the package's extra decides.
        cuda: CUDA version, ``12.6``; of JAX the major version only.
        is_default: Whether the default index serves it.
        date: When it was published; empty where unknown.
        pythons: Interpreters with a wheel; empty where unknown.
        archs: Architectures compiled in, ``sm_80`` or ``compute_90`` for PTX; empty where unknown.
        confidence: How the architectures are known: measured, documented, build_script ...; empty where they are not.
        capability_least: Oldest compute capability, where the maker states that instead of a list.
        floor: Oldest Linux driver, where the maker states one.
        cudnn: Version, or range, of cuDNN.
        spec: What to ask an installer for.
        source, note: Where the row was read, and what to know about it.
    """

    framework: str
    version: str
    tag: str
    cuda: str
    is_default: bool = False
    date: str = ""
    pythons: tuple[str, ...] = ()
    archs: tuple[str, ...] = ()
    confidence: str = ""
    capability_least: str = ""
    floor: str = ""
    cudnn: str = ""
    spec: str = ""
    source: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One published container image: what is inside, and the driver that it was released with."""

    image: str
    release: str
    cuda: str
    framework: str
    framework_version: str
    driver: str
    python: str
    source: str


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version, for comparing; of a local tag or a suffix nothing counts.

    >>> version("580.65.06") > version("580") and version("2.10.0+cu128") > version("2.9.1")
    True
    """
    plain = re.match(r"\d+(?:\.\d+)*", text.strip().lstrip("v"))
    return tuple(int(part[:9]) for part in plain.group().split(".")) if plain else ()


def runs_on(archs: Iterable[str], capability: str) -> bool:
    """Whether code for these architectures runs on a device of this compute capability.

    Machine code runs on the same major version with the same or a higher minor one; ``a`` only on its own, ``f`` on
    its family. PTX (``compute_80``, ``sm_80+PTX``) is compiled by the driver for anything newer.
    Source: CUDA C++ Programming Guide, "Binary Compatibility" and "PTX Compatibility".

    >>> runs_on(["sm_75", "sm_80"], "8.9"), runs_on(["sm_75", "sm_80"], "7.0"), runs_on(["sm_90a"], "10.0")
    (True, False, False)
    >>> runs_on(["sm_80", "compute_90"], "12.0")
    True
    """
    major, minor, *_ = (*version(capability), 0, 0)
    return any(_one_runs(arch, major, minor) for arch in archs)


def _one_runs(arch: str, major: int, minor: int) -> bool:
    match = re.fullmatch(r"(sm|compute)_(\d{1,2})(\d)([af]?)(\+PTX)?", arch)
    if match is None:
        return False
    of, built = (int(match[2]), int(match[3])), (major, minor)
    if match[4] == "a":
        return of == built
    of_any_newer = (match[1] == "compute" or match[5] is not None) and match[4] == ""
    return of <= built and (of_any_newer or of[0] == major)


def driver_floor(cuda: str) -> str:
    """The oldest Linux driver that loads programs built with this CUDA version; empty where none is known.

    It is the floor of the major version: minor versions are compatible with each other.
    Source: CUDA release notes, "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility".

    >>> driver_floor("12.4"), driver_floor("13.2")
    ('525.60.13', '580')
    """
    exact = next((row.floor for row in cuda_releases() if row.cuda == cuda and row.floor), "")
    return exact or next((row.floor for row in cuda_releases() if version(row.cuda)[:1] == version(cuda)[:1]), "")


def paired_driver(cuda: str) -> str:
    """The driver that a CUDA version was released with first, which PTX of it needs; empty where unknown."""
    drivers = [row.driver for row in cuda_releases() if version(row.cuda) == version(cuda)[:2] and row.driver]
    return min(drivers, key=version, default="")


def newest_cuda(driver: str) -> str:
    """The newest CUDA that a driver was released with, as ``nvidia-smi`` prints it; empty if it is older than all.

    >>> newest_cuda("550.54.15")
    '12.4'
    """
    fitting = [row.cuda for row in cuda_releases() if row.driver and version(row.driver) <= version(driver)]
    return max(fitting, key=version, default="")


def first_driver(capability: str) -> str:
    """The driver of the first CUDA that compiles for a compute capability; empty where none is known.

    Older drivers do not know such a device, whatever they load. Source: data/software/cuda.csv.

    >>> first_driver("10.0"), first_driver("9.0")
    ('570.26', '520.61.05')
    """
    drivers = [row.driver for row in cuda_releases() if capability in row.capabilities and row.driver]
    return min(drivers, key=version, default="")


def cuda_for(capability: str, most: int) -> str:
    """The newest CUDA, up to a major version, that compiles for a compute capability; empty where there is none.

    >>> cuda_for("3.7", 12), cuda_for("7.0", 13)
    ('11.8', '12.9')
    """
    fitting = (row.cuda for row in cuda_releases() if capability in row.capabilities and version(row.cuda)[0] <= most)
    return max(fitting, key=version, default="")


@cache
def cuda_releases() -> tuple[CudaRelease, ...]:
    """Every CUDA release, newest first."""
    return read_rows(
        "cuda.csv",
        lambda row: CudaRelease(
            cuda=row["cuda"], release=row["release"], driver=row["driver_linux"], floor=row["floor_linux"],
            capabilities=_list(row["capabilities"]), source=row["source"],
        ),
    )  # fmt: skip


@cache
def builds(framework: str) -> tuple[Build, ...]:
    """Every build of ``torch``, ``jax`` or ``tensorflow`` that is known, newest first."""
    readers = {"torch": _torch, "jax": _jax, "tensorflow": _tensorflow}
    found = read_rows(f"{framework}.csv", readers[framework])
    return tuple(sorted(found, key=lambda build: (version(build.version), version(build.cuda)), reverse=True))


@cache
def containers() -> tuple[Container, ...]:
    """Every container image that is known."""
    return read_rows(
        "containers.csv",
        lambda row: Container(
            image=row["image"], release=row["release"], cuda=row["cuda"], framework=row["framework"],
            framework_version=row["framework_version"], driver=row["driver"], python=row["python"],
            source=row["source"],
        ),
    )  # fmt: skip


def _torch(row: Mapping[str, str]) -> Build:
    return Build(
        framework="torch", version=row["torch"], tag=row["build"], cuda=row["cuda"],
        is_default=row["is_default"] == "yes", date=row["date"],
        pythons=_list(row["pythons"]), archs=_list(row["archs"]), confidence=row["confidence"],
        cudnn=row["cudnn"], spec=f"torch=={row['torch']}", source=row["source"], note=row["note"],
    )  # fmt: skip


def _jax(row: Mapping[str, str]) -> Build:
    return Build(
        framework="jax", version=row["jax"], tag=f"cuda{row['cuda_major']}", cuda=row["cuda_major"], is_default=True,
        date=row["date"], pythons=_list(row["pythons"]), capability_least=row["capability_least"],
        floor=row["driver_floor"], cudnn=row["cudnn_range"], spec=row["spec"], source=row["source"], note=row["note"],
    )  # fmt: skip


def _tensorflow(row: Mapping[str, str]) -> Build:
    return Build(
        framework="tensorflow", version=row["tensorflow"], tag="and-cuda", cuda=row["cuda"], is_default=True,
        date=row["date"], pythons=_list(row["pythons"]) or _span(row["pythons_tested"]), cudnn=row["cudnn"],
        spec=row["spec"], source=row["source"],
        note="" if row["pins"].startswith("exact") else "its CUDA libraries are not pinned: lock the environment",
    )  # fmt: skip


def _span(text: str) -> tuple[str, ...]:
    """``2.7, 3.9-3.11`` as each version between."""
    found: list[str] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, _, last = part.partition("-")
        major, least = version(first)
        found += [f"{major}.{minor}" for minor in range(least, version(last or first)[1] + 1)]
    return tuple(found)


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(";") if part.strip())


def read_rows(name: str, convert: Callable[[Mapping[str, str]], T]) -> tuple[T, ...]:
    """Every row of one of the files, converted.

    Raises:
        InvalidInputError: A row lacks a column.
    """
    reader = csv.DictReader(io.StringIO(read_text(FOLDER / name)), strict=True)
    found = []
    for line, row in enumerate(reader, start=2):
        try:
            found.append(convert({key: value.strip() for key, value in row.items()}))
        except (KeyError, AttributeError) as error:
            raise InvalidInputError(f"{name}: line {line} has not the columns of the first line ({error})") from None
    return tuple(found)
