"""How long planning takes: A* against exhaustive search, and as the catalogue grows.

Prints minimum, median and maximum over repeats, and the ratio of the medians. Both searches
use the same estimator, with the model and the catalogue loaded and nothing estimated yet.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date

from rigwise.estimate import fleet
from rigwise.facts.offer import Offer
from rigwise.search.bounds import Goal, least
from rigwise.search.estimates import Estimates
from rigwise.search.exhaustive import exhaustive
from rigwise.search.plan import all_quotes, catalogue_world, plan, surroundings
from rigwise.search.space import build_space
from rigwise.search.types import World
from rigwise.workload.choices import settle
from rigwise.workload.job import Job

TODAY = date(2026, 9, 1)
CONVNET = Job(model="resnet50", amount=128e6, unit="samples", deadline_s=12 * 3600)
FINE_TUNE = Job(
    model="llama-3.1-8b",
    method="lora",
    amount=20e6,
    unit="tokens",
    batch=64,
    seq=2048,
    deadline_s=24 * 3600,
    budget_usd=100,
)
NARROW = replace(CONVNET, devices=("t4", "a10", "l4"), deadline_s=None)
SIZES = (1_000, 10_000, 125_000)


def spread(action: Callable[[], object], repeats: int) -> list[float]:
    times = []
    for _ in range(repeats):
        forget()
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return times


def forget() -> None:
    """Drop what the estimator keeps between calls."""
    for name in dir(fleet):
        getattr(getattr(fleet, name), "cache_clear", lambda: None)()


def show(name: str, times: Sequence[float], against: Sequence[float] | None = None) -> None:
    ratio = f"{statistics.median(times) / statistics.median(against):7.2f} x" if against else ""
    print(f"{name:<44} {min(times):7.3f} {statistics.median(times):7.3f} {max(times):7.3f} s {ratio}")


def look_at_everything(job: Job, world: World) -> float:
    """What ``plan`` does up to the best value, without bounds."""
    space = build_space(settle(job, world.model), all_quotes(job, world).quotes, surroundings(job, world))
    least(space, world.physics)
    return exhaustive(space, Estimates(space, world.physics), Goal.of(job))[0][0]


def grown(offers: Sequence[Offer], number: int) -> Iterator[Offer]:
    """A catalogue of this size: the rows of the real one in more regions, each at a price of its own."""
    dice = random.Random(number)
    for row in range(number):
        offer = offers[row % len(offers)]
        factor = dice.uniform(0.8, 2.0)
        yield replace(
            offer,
            provider=f"{offer.provider}-{row // len(offers) % 20}",
            region=f"region-{row // len(offers) // 20}",
            price_usd_h=offer.price_usd_h and offer.price_usd_h * factor,
            spot_price_usd_h=offer.spot_price_usd_h and offer.spot_price_usd_h * factor,
        )


def main(repeats: int) -> None:
    print(f"{'':<44} {'min':>7} {'median':>7} {'max':>7}")
    for name, job in (("ResNet-50", CONVNET), ("Llama-3.1-8B LoRA", FINE_TUNE), ("ResNet-50, 3 devices", NARROW)):
        world = catalogue_world(job.model, TODAY)
        result = plan(job, world)
        best = look_at_everything(job, world)
        if abs(result.certificate.best / best - 1) > 1e-9:
            sys.exit(f"A* found {result.certificate.best}, exhaustive search {best}")
        whole = spread(lambda job=job, world=world: plan(job, world), repeats)
        every = spread(lambda job=job, world=world: look_at_everything(job, world), repeats)
        certificate = result.certificate
        print(f"{name}: {certificate.estimated:,} of {certificate.candidates:,} candidates estimated")
        show("  plan: A*, fastest, frontier, certificate", whole)
        show("  exhaustive search alone", every, whole)
    world = catalogue_world(CONVNET.model, TODAY)
    for size in SIZES:
        more = replace(world, offers=tuple(grown(world.offers, size)))
        show(f"{size:,} offers", spread(lambda more=more: plan(CONVNET, more), repeats))
    print(f"peak resident memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    main(parser.parse_args().repeats)
