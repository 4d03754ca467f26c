"""What figures say together: libraries side by side, collectives of more processes, the input pipeline."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from rigwise.bench.all_reduce import ring_and_tree
from rigwise.bench.pipeline import bottleneck, readings, stages
from rigwise.bench.types import BYTES, FLOPS, ITEMS, TIME, Figure
from rigwise.units import KIB, MIB, format_count, format_seconds

WIDTH = 79
#: The two differ in how much is read, too, as the notes that `pipeline` names count it.
_READ_ONCE = "ImageNet once: 1.1 TB in random pages of 4 KiB / 250 GB packed, in sequence"
#: Processes and messages that ring and tree are worked out for.
_RANKS, _MESSAGES = (8, 64, 512), (4 * KIB, 16 * MIB)


def amount(value: float, unit: str) -> str:
    """A figure with its unit."""
    if unit == TIME:
        return format_seconds(value)
    return format_count(value, {FLOPS: "FLOP/s", BYTES: "B/s", ITEMS: "/s"}.get(unit, unit))


def item(words: str) -> list[str]:
    """Words as one item of a list."""
    return textwrap.wrap(words, WIDTH, initial_indent="  - ", subsequent_indent="    ")


def side_by_side(figures: Sequence[Figure]) -> Iterator[str]:
    """Libraries that did the same, each as a multiple of the one that others are compared with."""
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.value and "beside" in figure.raw.parameters:
            groups.setdefault(str(figure.raw.parameters["beside"]), []).append(figure)
    groups = {base: found for base, found in groups.items() if len(found) > 1}
    if groups:
        yield from ("", "side by side (times as fast)")
    for base, found in groups.items():
        first = next((figure for figure in found if figure.raw.name == base), found[0])
        others = [figure for figure in found if figure is not first]
        shared, own = _named(first.raw.name, others[0].raw.name)
        words = [f"{own} {amount(first.value or 0.0, first.raw.unit)}{_details(first)}"]
        for other in others:
            words.append(f"{_named(other.raw.name, first.raw.name)[1]} {_times(other, first):.2f} x{_details(other)}")
        yield from item(f"{shared}: {', '.join(words)}")


def _named(name: str, other: str) -> tuple[str, str]:
    """What two names share, and what is the first one's own.

    >>> _named("tables.join.polars", "tables.join.pandas"), _named("runtimes.onnx.latency", "runtimes.eager.latency")
    (('tables join', 'polars'), ('runtimes latency', 'onnx'))
    """
    pairs = list(zip(name.split("."), other.split("."), strict=False))
    shared = [one for one, two in pairs if one == two]
    return " ".join(shared), ".".join(one for one, two in pairs if one != two)


def _times(figure: Figure, base: Figure) -> float:
    """How many times as fast; of times the inverse."""
    mine, others = figure.value or 0.0, base.value or 1.0
    return others / mine if figure.raw.unit == TIME else mine / others


def _details(figure: Figure) -> str:
    """What is to be known beside the speed: the error, the crossings looked at, the steps."""
    given, found = figure.raw.parameters, []
    if float(given.get("error", 0.0)) > 0:
        found.append(f"error {float(given['error']):.0e}")
    if "looked_at" in given:
        found.append(f"looks at {given['looked_at']}")
    if "steps_per_s" in given:
        found.append(f"{float(given['steps_per_s']):.0f} steps/s")
    return f" ({', '.join(found)})" if found else ""


def collective_rows(figures: Sequence[Figure]) -> list[dict[str, float]]:
    """All-reduce between more processes over links as they were fitted here, by ring and by double binary tree."""
    found = {figure.raw.name: figure.value for figure in figures if figure.value}
    name = "all-reduce.nccl" if "all-reduce.nccl.latency" in found else "all-reduce"
    latency_s, bytes_per_s = found.get(f"{name}.latency"), found.get(f"{name}.bandwidth")
    if not latency_s or not bytes_per_s:
        return []
    rows = []
    for ranks in _RANKS:
        for message in _MESSAGES:
            ring_s, tree_s = ring_and_tree(latency_s, bytes_per_s, float(message), ranks)
            rows.append({"ranks": ranks, "message_bytes": float(message), "ring_s": ring_s, "tree_s": tree_s})
    return rows


def collectives(figures: Sequence[Figure]) -> Iterator[str]:
    """The same as lines, one for each number of processes."""
    rows = collective_rows(figures)
    if rows:
        yield from ("", "all-reduce over more such links, worked out: ring / double binary tree")
    for ranks in _RANKS if rows else ():
        words = [
            f"{_size(row['message_bytes'])} {format_seconds(row['ring_s'])} / {format_seconds(row['tree_s'])}"
            for row in rows
            if row["ranks"] == ranks
        ]
        yield f"  {ranks:>4} processes   {',   '.join(words)}"


def _size(message_bytes: float) -> str:
    return f"{message_bytes / MIB:.0f} MiB" if message_bytes >= MIB else f"{message_bytes / KIB:.0f} KiB"


def pipeline_lines(figures: Sequence[Figure], threads: int) -> Iterator[str]:
    """The stages of training on images as a graph, the slowest marked; and reading ImageNet once."""
    of, slowest = stages(figures, threads), bottleneck(stages(figures, threads))
    if slowest:
        yield from ("", "input pipeline, images a second")
        yield from item(" -> ".join(f"{stage.name} {format_count(stage.per_s)}" for stage in of))
        yield from item(f"{slowest.name} holds up the others ({slowest.figure})")
    for place, one in enumerate(readings(figures)):
        yield from ("", _READ_ONCE) if not place else ()
        yield f"  {one.disk:<12}{_hours(one.by_seek_s):>9} /{_hours(one.packed_s):>9}"


def _hours(time_s: float) -> str:
    return f"{time_s / 3600:.3g} h"


def pipeline_document(figures: Sequence[Figure], threads: int) -> dict[str, Any]:
    """The same for JSON."""
    of = stages(figures, threads)
    slowest = bottleneck(of)
    return {
        "pipeline": {stage.name: stage.per_s for stage in of},
        "bottleneck": slowest.name if slowest else None,
        "imagenet": [
            {"disk": one.disk, "by_seek_s": one.by_seek_s, "packed_s": one.packed_s} for one in readings(figures)
        ],
    }
