"""Which card is chosen: by prediction, by rules of thumb, by SkyPilot and by gpuhunt; and what the choice costs.

    python benchmarks/bench_choice.py [--measured DIR] [--graphs DIR] [--peers PYTHON] [--repeats 5]

First part, against measurements: every workload that was timed on several cards, in 20 markets that rent each card at
the price of an offer drawn from the catalogue. Regret is what the chosen card costs over the best card, both as
measured. The constants were fitted on these rows; docs/accuracy.md has the errors on cards that were left out.

Second part, the same offers and the same question to SkyPilot and gpuhunt, which run in an environment of their own
(--peers, or the variable RIGWISE_PEERS). Their choice and ours are priced by our estimate, so this compares what the
planners choose by, not whose estimate is right. Times are CPU seconds, the least of the repeats.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from bench_plan import CONVNET, FINE_TUNE, TODAY, forget

from rigwise.calibrate.question import question
from rigwise.calibrate.regret import choices, launch_prices, regret_of
from rigwise.calibrate.rows import Array, Rows, rows_of
from rigwise.calibrate.score import score
from rigwise.calibrate.shelf import Shelf
from rigwise.errors import RigwiseError
from rigwise.facts.catalogue import bundled_offers
from rigwise.facts.catalogue import device as device_of
from rigwise.facts.offer import Offer
from rigwise.measurement.tables import read_tables
from rigwise.search.bounds import Goal
from rigwise.search.estimates import Estimates
from rigwise.search.exhaustive import exhaustive
from rigwise.search.plan import all_quotes, catalogue_world, plan, surroundings
from rigwise.search.space import build_space
from rigwise.search.types import World
from rigwise.units import GIB
from rigwise.workload.choices import settle
from rigwise.workload.job import Job

MEASURED = Path(os.environ.get("RIGWISE_MEASURED", "../shared/data/measured"))
TABLES = {
    "timm (RTX 3090, RTX 4090)": "timm.csv",
    "NeuSight end to end": "neusight_e2e.csv",
    "cnn-benchmarks": "cnn-benchmarks.csv",
    "DeepLearningExamples": "nvidia-dle.csv",
}
#: Providers that SkyPilot and gpuhunt both read from files and that the catalogue has prices of.
CLOUDS = ("aws", "azure", "lambda", "nebius", "oci", "runpod", "verda")
#: Markets in which the cards are rented.
DRAWS = 20
#: Rows above which a share of the networks will do.
LARGE = 1_000
HERE = Path(__file__).parent


def markets(rows: Rows) -> tuple[str, list[Mapping[str, float]]]:
    """Dollars per card and hour by device: as many times as there are draws, one offer of the catalogue for each card.

    Where it rents less than two of the cards, what they cost when new stands for their rent.
    """
    offered: dict[str, list[float]] = defaultdict(list)
    for offer in bundled_offers():
        if offer.price_usd_h and offer.accel_count and len(offer.devices) == 1 and offer.device in rows.device:
            offered[offer.device].append(offer.price_usd_h / offer.accel_count)
    if len(offered) < 2:
        return "price when new", [launch_prices(rows)]
    dice = random.Random(0)
    return "rent", [{name: dice.choice(prices) for name, prices in sorted(offered.items())} for _ in range(DRAWS)]


def rules(rows: Rows) -> dict[str, Array]:
    """Times by our prediction and by rules of thumb, in any unit."""
    with np.errstate(invalid="ignore"):
        both = np.sqrt(rows.peak_flops_per_s * rows.memory_bytes_per_s)
    batch = np.array([float(one.question.case.batch) for one in rows.scores])
    return {
        "rigwise": rows.predicted_s,
        "sqrt(peak x bandwidth)": batch / both,
        "peak": batch / rows.peak_flops_per_s,
        "bandwidth": batch / rows.memory_bytes_per_s,
        "price per hour alone": batch,
    }


def measured_part(folder: Path, graphs: Path | None, share_frac: float) -> None:
    """The table of regrets."""
    shelf = Shelf(graphs)
    print(f"{'':<26} {'cards':>5} {'by':<15} {'rule':<23} {'choices':>7} {'mean':>7} {'p90':>7} {'wrong':>6}")
    every: dict[str, list[float]] = defaultdict(list)
    for name, file in TABLES.items():
        rows = scored(folder / file, shelf, share_frac)
        if rows is None:
            print(f"{name:<26} nothing that can be asked about")
            continue
        kind, drawn = markets(rows)
        groups = choices(rows, drawn[0])
        cards = len({str(rows.device[row]) for group in groups for row in group})
        for rule, predicted in rules(rows).items():
            lost = [loss for prices in drawn for loss in losses(predicted, rows, groups, prices)]
            if lost:
                every[rule] += lost
                print(f"{name:<26} {cards:>5} {kind:<15} {rule:<23} {figures(lost)}")
    for rule, lost in every.items():
        print(f"{'all':<26} {'':>5} {'':<15} {rule:<23} {figures(lost)}")


def losses(predicted: Array, rows: Rows, groups: list[list[int]], prices: Mapping[str, float]) -> Iterator[float]:
    """What the chosen card costs over the best, less 1, for each workload."""
    for group in groups:
        found = regret_of(predicted, rows, [group], prices)
        if found:
            yield found.mean_frac


def figures(lost: Sequence[float]) -> str:
    """How many choices, their mean and 90th percentile regret, and the share of wrong ones."""
    wrong = sum(loss > 0 for loss in lost) / len(lost)
    return f"{len(lost):>7} {statistics.mean(lost):>7.1%} {np.quantile(lost, 0.9):>7.1%} {wrong:>6.0%}"


def scored(table: Path, shelf: Shelf, share_frac: float) -> Rows | None:
    """The rows of a table that can be asked about; of a large one a share of its networks, with all their rows."""
    measurements, _ = read_tables([table])
    asked = []
    for one in measurements:
        if len(measurements) > LARGE and crc32(one.model.encode()) / 2**32 >= share_frac:
            continue
        try:
            asked.append(question(one, shelf.names))
        except RigwiseError:
            continue
    found, _ = score(asked, shelf, lambda done, total: None)
    return rows_of(found) if found else None


def same_offers() -> tuple[Offer, ...]:
    """What all three can read alike: whole instances of one certain device, priced on demand."""
    return tuple(
        replace(offer, spot_price_usd_h=None)
        for offer in bundled_offers()
        if offer.provider in CLOUDS and offer.price_usd_h and len(offer.devices) == 1
        if offer.accel_count and offer.accel_count % 1 == 0 and not device_of(offer.device).missing()
    )


Place = tuple[str, str, str]


def costs(job: Job, world: World) -> tuple[dict[Place, float], dict[str, float]]:
    """What the job costs on each offer at our estimate, and the seconds it takes by "device x count"."""
    space = build_space(settle(job, world.model), all_quotes(job, world).quotes, surroundings(job, world))
    cost: dict[Place, float] = {}
    seconds: dict[str, float] = {}
    for value, leaf in exhaustive(space, Estimates(space, world.physics), Goal.of(job)):
        offer, site = space.quotes[leaf.quote].offer, space.sites[leaf.site]
        cost.setdefault((offer.provider, offer.instance, offer.region), value)
        if site.machine.nodes == 1:
            pair = f"{offer.device} x {int(offer.accel_count or 0)}"
            seconds[pair] = min(seconds.get(pair, np.inf), leaf.time_s)
    return cost, seconds


def query_of(offers: Sequence[Offer], seconds: Mapping[str, float], least_gib: float, repeats: int) -> dict[str, Any]:
    """What the peers are asked, as data."""
    rows = [
        {
            "cloud": o.provider, "instance": o.instance, "region": o.region, "device": o.device,
            "count": int(o.accel_count or 0), "usd_per_h": o.price_usd_h, "vcpus": o.vcpus,
            "memory_gib": o.memory_bytes and o.memory_bytes / GIB, "vendor": device_of(o.device).vendor.lower(),
            "device_memory_gib": (device_of(o.device).memory_bytes or 0.0) / GIB,
        }
        for o in offers
    ]  # fmt: skip
    return {"offers": rows, "seconds": dict(seconds), "least_memory_gib": least_gib, "repeats": repeats}


def ask(python: str, script: str, query: dict[str, Any]) -> dict[str, Any] | str:
    """The answer of a peer, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "query.json"
        path.write_text(json.dumps(query), encoding="utf-8")
        command = [python, str(HERE / "peers" / script), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no answer"])[-1][:100]
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def peers_part(python: str, repeats: int) -> None:
    """Each question, to each planner."""
    whole = same_offers()
    large = tuple(o for o in whole if o.provider in ("aws", "azure", "oci"))
    loose, tight = replace(CONVNET, deadline_s=None), replace(CONVNET, deadline_s=6 * 3600.0)
    tune = replace(FINE_TUNE, deadline_s=None, budget_usd=None)
    words = "ResNet-50, 128 M samples"
    for name, job, offers in (
        (words, loose, whole),
        (words, loose, large),
        (f"{words} within 6 h", tight, large),
        ("Llama-3.1-8B LoRA, 20 M tokens", tune, whole),
        ("Llama-3.1-8B LoRA, 20 M tokens", tune, large),
    ):
        one_question(name, replace(job, max_price_age_s=20 * 365 * 86400.0), offers, (python, repeats))


def one_question(name: str, job: Job, offers: tuple[Offer, ...], how: tuple[str, int]) -> None:
    """A question, to each planner."""
    python, repeats = how
    world = replace(catalogue_world(job.model, TODAY), offers=offers, subscriptions=())
    allowed, _ = costs(job, world)
    anywhere, seconds = costs(replace(job, deadline_s=None), world)
    table = Table(allowed=allowed, anywhere=anywhere, best=min(allowed.values()))
    took = []
    for _ in range(repeats):
        forget()
        started = time.process_time()
        mine = plan(job, world).plans[0]
        took.append(time.process_time() - started)
    print(f"\n{name}: {len(offers)} offers of {len({o.provider for o in offers})} providers, the cheapest way")
    print(f"  {'':<34} {'CPU s':>7} {'import':>7} {'job':>12} {'over':>6}  choice")
    table.show("rigwise, proven", min(took), 0.0, (mine.provider, mine.instance, mine.region))
    able = [o for o in offers if f"{o.device} x {int(o.accel_count or 0)}" in seconds]
    usual, told = (query_of(able, known, 0.0, repeats) for known in ({}, seconds))
    table.reply("SkyPilot, where it fits", ask(python, "skypilot_choice.py", usual))
    table.reply("SkyPilot, told our times", ask(python, "skypilot_choice.py", told))
    table.reply("gpuhunt, any", ask(python, "gpuhunt_choice.py", query_of(offers, {}, 0.0, repeats)))
    table.reply("gpuhunt, 24 GiB", ask(python, "gpuhunt_choice.py", query_of(offers, {}, 22.0, repeats)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What the job costs by place: where it keeps the deadline, anywhere, and at best."""

    allowed: Mapping[Place, float]
    anywhere: Mapping[Place, float]
    best: float

    def reply(self, name: str, answer: dict[str, Any] | str) -> None:
        """One line of a peer."""
        if isinstance(answer, str):
            print(f"  {name:<34} {answer}")
            return
        place = (answer["cloud"], answer["instance"], "" if answer["region"] == "any" else answer["region"])
        self.show(f"{name} ({answer['version']})", min(answer["answer_s"]), answer["import_s"], place)

    def show(self, name: str, took_s: float, import_s: float, place: Place) -> None:
        """One line."""
        usd = self.allowed.get(place)
        if usd is None:
            figures = f"{'too late' if place in self.anywhere else 'does not fit':>12} {'':>6}"
        else:
            figures = f"{f'${usd:,.2f}':>12} {usd / self.best - 1:>6.0%}"
        print(f"  {name:<34} {took_s:>7.2f} {import_s:>7.2f} {figures}  {' '.join(place)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", type=Path, default=MEASURED)
    parser.add_argument("--graphs", type=Path, default=None, help="captured networks of timm")
    parser.add_argument("--share", type=float, default=0.1, help="of the networks of a large table")
    parser.add_argument("--peers", default=os.environ.get("RIGWISE_PEERS", ""), help="Python with skypilot, gpuhunt")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    if options.measured.is_dir():
        measured_part(options.measured, options.graphs, options.share)
    else:
        print(f"no measured tables at {options.measured}: skipped")
    if options.peers and Path(options.peers).exists():
        peers_part(options.peers, options.repeats)
    else:
        print("no environment with skypilot and gpuhunt (--peers PYTHON): skipped")


if __name__ == "__main__":
    main()
