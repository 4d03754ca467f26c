"""How long catalogues of many offers take to import, to store, to load and to check, and the memory they take.

Prints processor seconds, minimum, median and maximum over repeats; loading is measured in a process
of its own, as a command starts, with the memory it takes beyond the bundled catalogue.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

from synthetic_offers import synthetic_offers

from rigwise.edge import TEXT_LIMIT_BYTES
from rigwise.facts import offer_store
from rigwise.facts.catalogue import devices
from rigwise.facts.imports import skypilot, take
from rigwise.facts.imports.reading import Reading
from rigwise.facts.lint import Known, lint
from rigwise.facts.offer import Offer
from rigwise.units import GIB, MIB

SIZES = (1_000, 10_000, 125_000, 1_000_000)
TODAY = date(2026, 11, 21)
LOAD = """
import psutil, time
from rigwise.facts.catalogue import bundled_offers, offers
bundled_offers()
before = psutil.Process().memory_info().rss
start = time.process_time()
rows = offers()
print(time.process_time() - start, (psutil.Process().memory_info().rss - before) / 2**20, len(rows))
"""


def times_of(action: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return times


def show(name: str, times: Sequence[float], more: str = "") -> None:
    print(f"{name:<34} {min(times):7.3f} {statistics.median(times):7.3f} {max(times):7.3f} s  {more}")


def write_as_skypilot(path: Path, offers: Sequence[Offer]) -> None:
    """The same offers as SkyPilot would list them, among twice as many rows without an accelerator."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*skypilot.REQUIRED, "SpotPrice", "AvailabilityZone", "vCPUs", "MemoryGiB", "GpuInfo"])
        for o in offers:
            mib = (o.accel_memory_bytes or 0) / MIB
            gpu = (
                f"{{'Gpus': [{{'Name': '{o.accelerator}', 'MemoryInfo': {{'SizeInMiB': {mib:.0f}}}}}]}}" if mib else ""
            )
            prices = ["" if price is None else price for price in (o.price_usd_h, o.spot_price_usd_h)]
            ram = o.memory_bytes and o.memory_bytes / GIB
            row = [o.instance, o.accelerator, o.accel_count, prices[0], o.region, prices[1], o.zone, o.vcpus, ram, gpu]
            writer.writerow(["" if cell is None else cell for cell in row])
            for size in (2, 4):
                writer.writerow([f"cpu.{size}", "", "", 0.05 * size, o.region, 0.02 * size, o.zone, size, 4 * size, ""])


def one_size(rows: int, repeats: int, folder: Path) -> None:
    offers = synthetic_offers(rows, seed=1)
    day = take.Day(as_of=TODAY.isoformat(), by=take.GIVEN)
    table = folder / "aws" / "vms.csv"
    table.parent.mkdir(parents=True, exist_ok=True)
    write_as_skypilot(table, offers)
    print(f"{rows:,} offers in a table of {3 * rows:,} rows, {table.stat().st_size / 1e6:.1f} MB")
    few = repeats if rows <= 125_000 else 1
    if table.stat().st_size <= TEXT_LIMIT_BYTES:
        show("  read and clean", times_of(lambda: take.take(skypilot.read(table, "aws", day.as_of), day, TODAY), few))
    plain = {"name": "csv.synthetic", "kind": "csv", "origin": "-", "content": b"", "read": rows}
    about, kept = take.take(Reading(**plain, offers=tuple(offers), excluded=Counter()), day, TODAY)
    path = offer_store.write_import(about, kept)
    show("  write", times_of(lambda: offer_store.write_import(about, kept), few), f"{path.stat().st_size / 1e6:.1f} MB")
    known = Known(devices={d.id: d for d in devices()}, today=TODAY)
    show("  lint", times_of(lambda: lint(kept, known), few), f"{len(lint(kept, known)):,} faults")
    loads = [
        [float(word) for word in subprocess.check_output([sys.executable, "-c", LOAD], text=True).split()]
        for _ in range(repeats)
    ]
    show("  load in a new process", [load[0] for load in loads], f"{max(load[1] for load in loads):.0f} MiB more")


def main(repeats: int, sizes: Sequence[int]) -> None:
    print(f"{'processor seconds':<34} {'min':>7} {'median':>7} {'max':>7}")
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            os.environ[offer_store.VARIABLE] = folder
            one_size(rows, repeats, Path(folder) / "catalogue")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    arguments = parser.parse_args()
    main(arguments.repeats, arguments.sizes)
