"""The input pipeline of training on images as a graph of stages, with the rate of each and the one that holds it up.

Stages work at the same time, each on other images, so the slowest is the bottleneck. The disk has two forms: files
read in any order, and shards in sequence. The time to read a whole data set once follows from the disk's own figures,
as course notes of 2017 worked it out for ImageNet.

Source: Little's law for rates in series; the sizes as stated beside each constant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rigwise.bench.types import Figure
from rigwise.units import GB

#: ImageNet as the course notes count it: 2**40 bytes in pages of 4 KiB (which gives their 677 hours at 110 reads a
#: second; their 6.7 hours on the SSD are a hundredth of it, where its 10,000 reads a second give 7.5), and about 250 GB
#: as packed JPEGs. Source: course notes on input pipelines, 2017.
UNPACKED_BYTES, PACKED_BYTES, PAGE_BYTES = 2.0**40, 250 * GB, 4096
#: Reads a second and bytes a second of the disks of those notes.
HARD_DISK, SATA_SSD = (110.0, 170e6), (10_000.0, 550e6)
#: Bytes of an image as it crosses to a GPU: three colours of 224 x 224, one byte each.
CROSSING_BYTES = 3 * 224 * 224


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage that was measured.

    Attributes:
        name: What it does.
        per_s: Images a second.
        figure: Where that is from.
    """

    name: str
    per_s: float
    figure: str


def stages(figures: Sequence[Figure], threads: int) -> tuple[Stage, ...]:
    """Disk, CPU decode, PCIe, GPU, in the order that images pass them; those that were not measured are left out.

    Decoding is the quickest loader, or where none was measured as many threads of it as decode one image each. Where no
    GPU trains, the link is left out: images stay in the host's memory.
    """
    found = {figure.raw.name: figure.value for figure in figures if figure.value}

    def stage(name: str, figure: str, times: float = 1.0) -> list[Stage]:
        return [Stage(name=name, per_s=times * found[figure], figure=figure)] if found.get(figure) else []

    link = stage("PCIe", "host-link.to.pinned", 1.0 / CROSSING_BYTES)
    loaders = [name for name in found if name.startswith("loader.workers") or name == "loader.no-workers"]
    best = max(loaders, key=lambda name: found[name] or 0.0, default="")
    decoded = stage("CPU decode", best) or stage("CPU decode", "loader.decode", float(threads))
    nets = [f"networks.{model}.training" for model in ("resnet50", "resnet18", "alexnet")]
    trained = next((name for name in nets if name in found), "")
    return (
        *stage("disk", "records.files.cold"),
        *decoded,
        *link,
        *stage("GPU" if link else "training", trained),
    )


def bottleneck(of: Sequence[Stage]) -> Stage | None:
    """The slowest; None where fewer than two stages were measured.

    >>> slow, quick = Stage(name="disk", per_s=5.0, figure=""), Stage(name="GPU", per_s=9.0, figure="")
    >>> bottleneck([quick, slow]).name
    'disk'
    """
    return min(of, key=lambda stage: stage.per_s) if len(of) > 1 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """ImageNet read once.

    Attributes:
        disk: Whose figures these are.
        by_seek_s: By random reads of a page.
        packed_s: Packed, in sequence.
    """

    disk: str
    by_seek_s: float
    packed_s: float


def reading(disk: str, reads_per_s: float, bytes_per_s: float) -> Reading:
    """Time to read ImageNet once in both forms.

    Source: the definition of a rate; see the module for the sizes.

    >>> round(reading("a hard disk", *HARD_DISK).by_seek_s / 3600)
    678
    """
    by_seek_s = UNPACKED_BYTES / PAGE_BYTES / reads_per_s
    return Reading(disk=disk, by_seek_s=by_seek_s, packed_s=PACKED_BYTES / bytes_per_s)


def readings(figures: Sequence[Figure]) -> tuple[Reading, ...]:
    """For the disk here, and for those of the notes; empty where this disk was not measured."""
    found = {figure.raw.name: figure.value for figure in figures if figure.value}
    reads_per_s, bytes_per_s = found.get("disk.random"), found.get("disk.sequential")
    if not reads_per_s or not bytes_per_s:
        return ()
    here = reading("here", reads_per_s, bytes_per_s)
    return here, reading("hard disk", *HARD_DISK), reading("SATA SSD", *SATA_SSD)
