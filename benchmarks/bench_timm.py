"""Networks of timm in inference, captured one after another in one process, against timm's own figures.

CPU seconds are those of building and capturing one network, without imports. Multiply-adds are compared
with the ``gmacs`` of timm's benchmark tables, read from ``RIGWISE_MEASURED/timm.csv`` and joined on name,
input shape and number of parameters, since a name alone is no architecture.
"""

from __future__ import annotations

import argparse
import csv
import gc
import logging
import math
import os
import re
import resource
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rigwise.errors import RigwiseError
from rigwise.graph.capture.from_torch.assemble import capture
from rigwise.graph.capture.from_torch.fake import fake_tensors
from rigwise.graph.capture.from_torch.timm_model import import_timm, subject
from rigwise.graph.count import work
from rigwise.graph.graph import Model

_FIGURES = re.compile(r"params_M=([\d.]+); gmacs=([\d.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One network: what capturing it took, and what it says."""

    name: str
    cpu_s: float
    family: str = ""
    shape: str = ""
    operators: int = 0
    unknown: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    macs: float = 0.0
    parameters: int = 0
    fault: str = ""


def captured(name: str) -> Row:
    """Build and capture one network; a refusal is a row with its reason."""
    start = time.process_time()
    try:
        with fake_tensors():
            taken = subject(name, ("infer",))
            model = capture(taken)
    except RigwiseError as error:
        return Row(name=name, cpu_s=time.process_time() - start, fault=str(error))
    cpu_s = time.process_time() - start
    graph = model.graphs["infer"]
    return Row(
        name=name,
        cpu_s=cpu_s,
        family=model.card.family,
        shape="x".join(str(side) for side in taken.module.pretrained_cfg["input_size"]),
        operators=sum(op.repeat for op in graph.ops),
        unknown=tuple(sorted({op.name for op in graph.ops if op.kind.value == "unknown"})),
        assumed=model.card.assumed,
        macs=macs(model),
        parameters=sum(math.prod(p.shape) * p.count for p in model.parameters),
    )


def macs(model: Model) -> float:
    """Multiply-adds for one image."""
    graph = model.graphs["infer"]
    sizes = {**graph.symbols, "b": 1}
    return float(sum(work(op, sizes).macs * op.repeat for op in graph.ops))


def published() -> Iterator[tuple[str, str, float, float]]:
    """Name, input shape, parameters and multiply-adds of every row that timm published, newest last."""
    path = Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured")) / "timm.csv"
    if not path.is_file():
        print(f"no {path}: multiply-adds are not compared (set RIGWISE_MEASURED)")
        return
    with path.open(newline="", encoding="utf-8") as stream:
        for row in sorted(csv.DictReader(stream), key=lambda row: row["framework"]):
            if found := _FIGURES.search(row["notes"]):
                yield row["model"], row["input_shape_or_seq"], float(found[1]) * 1e6, float(found[2]) * 1e9


def compared(rows: Sequence[Row]) -> list[tuple[float, Row, float]]:
    """For every row that timm published too: our multiply-adds over theirs, the row, theirs."""
    theirs: dict[tuple[str, str], tuple[float, float]] = {}
    for name, shape, parameters, count in published():
        theirs[name, shape] = parameters, count
    found = []
    for row in rows:
        parameters, count = theirs.get((row.name, row.shape), (0.0, 0.0))
        if count >= 5e7 and abs(row.parameters - parameters) <= 0.01 * parameters + 1e4:  # two digits or more
            found.append((row.macs / count, row, count))
    return found


def print_families(rows: Sequence[Row]) -> None:
    families: Mapping[str, list[Row]] = defaultdict(list)
    for row in rows:
        families[row.family].append(row)  # type: ignore[index]
    print(f"\n{'family':<26} {'nets':>5} {'median':>7} {'max s':>7} {'operators':>15} {'GMAC':>15}")
    for family, members in sorted(families.items()):
        seconds = [row.cpu_s for row in members]
        counts, work_done = [row.operators for row in members], [row.macs / 1e9 for row in members]
        print(
            f"{family:<26} {len(members):5} {median(seconds):7.2f} {max(seconds):7.2f} "
            f"{min(counts):6} - {max(counts):6} {min(work_done):6.2f} - {max(work_done):6.1f}"
        )


def print_agreement(rows: Sequence[Row]) -> None:
    found = compared(rows)
    if not found:
        return
    off = sorted(abs(ratio - 1) for ratio, _, _ in found)
    shares = ", ".join(
        f"{sum(x <= limit for x in off) / len(off):.1%} within {limit:.0%}" for limit in (0.01, 0.02, 0.05)
    )
    print(f"\nmultiply-adds of {len(found)} networks against timm's: median {median(off):.2%} apart; {shares}")
    for ratio, row, count in sorted(found, key=lambda entry: -abs(math.log(entry[0]))):
        if abs(ratio - 1) > 0.05:
            here, theirs = row.macs / 1e9, count / 1e9
            print(f"  {row.name:<44} {row.shape:<12} {here:8.2f} here, {theirs:8.2f} theirs ({ratio - 1:+.1%})")


def spread(names: Sequence[str], count: int) -> list[str]:
    """``count`` of the names, evenly over the alphabet, in rounds, so that a run cut short is spread too."""
    count = min(count, len(names))
    chosen = [names[i * len(names) // count] for i in range(count)]
    return [name for start in range(16) for name in chosen[start::16]]


def main(arguments: Any) -> None:
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)  # it reports sizes that do not fit
    try:
        names = arguments.names or spread(import_timm().list_models(), arguments.count)
    except RigwiseError as error:
        print(f"no networks to capture: {error}")
        return
    rows = []
    for number, name in enumerate(names, 1):
        try:
            row = captured(name)
        except KeyboardInterrupt:
            break
        rows.append(row)
        gc.collect()
        if arguments.verbose:
            print(
                f"{number:4} {name:<44} {row.cpu_s:6.2f} s {row.operators:6} {row.fault or row.unknown or ''}",
                flush=True,
            )
    good = [row for row in rows if not row.fault]
    print_families(good)
    print_agreement(good)
    for row in rows:
        if row.fault or row.unknown:
            print(f"  {row.name}: {row.fault or 'no cost law for ' + ', '.join(row.unknown)}")
    seconds = sorted(row.cpu_s for row in rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    fixed = sum(any("fixed" in note for note in row.assumed) for row in good)
    print(f"\n{len(rows)} networks, {len(rows) - len(good)} not captured, {fixed} with their image side fixed")
    print(
        f"CPU seconds each: median {median(seconds):.2f}, p90 {seconds[len(seconds) * 9 // 10]:.2f}, "
        f"max {seconds[-1]:.2f}; peak {peak / 2**30:.2f} GiB resident"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="these networks only")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--verbose", action="store_true", help="a line for every network")
    main(parser.parse_args())
