"""What the coordinator of ``rigwise bench --fleet`` costs, and how often it calls a good node odd.

Replays the lines of one real node of this machine, with other names and noisy values, as many nodes would say them,
through the real collection, store and comparison:

    python benchmarks/bench_fleet.py [--nodes 1000] [--figures 45]
    python benchmarks/bench_fleet.py --alarms

It prints a table; it uses one core, and no network.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from rigwise.bench.fleet import collect, confirmed, evidence_of, ledgers_of
from rigwise.bench.node import PROTOCOL, without_home
from rigwise.bench.node_ledger import Limits, NodeResult
from rigwise.execute.nodes import Said
from rigwise.machine.inspect import inspect
from rigwise.machine.snapshot import snapshot_text
from rigwise.measurement.records import Record
from rigwise.measurement.store import open_store

FIGURES, FIGURES_OF_ONE_BENCHMARK = 45, 3
LOSSES = (0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.3)


class Replayed:
    """Nodes that say what was prepared, a batch at a time."""

    refused: Mapping[str, str] = {}

    def __init__(self, lines: Mapping[str, list[bytes]]) -> None:
        self.names = tuple(lines)
        self._batches = self._all(lines)

    @staticmethod
    def _all(lines: Mapping[str, list[bytes]]) -> Iterator[list[Said]]:
        longest = max(len(one) for one in lines.values())
        for place in range(longest):
            yield [Said(node=name, line=of[place]) for name, of in lines.items() if place < len(of)]

    def poll(self, wait_s: float) -> list[Said]:
        """The next lines."""
        return next(self._batches, [])

    def waiting(self, node: str) -> str:
        """Nothing is known."""
        return ""

    def end(self, node: str) -> None:
        """There is nothing to end."""


def said_by(name: int, snapshot: str, figures: int) -> list[bytes]:
    """The lines of one node."""
    noise = random.Random(name)
    lines: list[dict[str, object]] = [{"hello": PROTOCOL, "rigwise": "0.1.0", "snapshot": snapshot}]
    for place in range(figures):
        if place % FIGURES_OF_ONE_BENCHMARK == 0:
            lines.append({"start": f"benchmark-{place}", "ended": place, "of": figures})
        value = 1e9 * noise.lognormvariate(0, 0.01)
        tags = {"method": 1, "device": "amd-epyc", "threads": 64, "m": 4096, "n": 4096, "k": 4096, "status": "ok"}
        record = {"kind": "bench", "name": f"benchmark.figure-{place}", "value": value, "unit": "FLOP/s"}
        record |= {"p10": value * 0.98, "p90": value * 1.02, "n": 40, "when": "2026-11-21T19:00:00Z", "tags": tags}
        lines.append({"record": record})
    lines.append({"done": True, "software": {"python": "3.11.2", "numpy": "2.4.6", "torch": "2.13.0"}})
    return [json.dumps(line).encode() for line in lines]


def replay(nodes: int, figures: int) -> None:
    """Collect, keep and compare what so many nodes say."""
    snapshot = without_home(snapshot_text(inspect()))
    lines = {
        f"node-{name:04}": said_by(name, snapshot.replace('"taken"', f'"node": {name}, "taken"', 1), figures)
        for name in range(nodes)
    }
    messages = sum(len(one) for one in lines.values())
    size = sum(len(line) for one in lines.values() for line in one)
    record = sum(len(line) for line in lines["node-0000"] if line.startswith(b'{"record"')) / figures
    print(f"{nodes} nodes x {figures} figures: {messages} messages, {size / 1e6:.1f} MB")
    machine = len(lines["node-0000"][0])
    print(
        f"a node: {messages / nodes:.0f} messages, {size / nodes:.0f} B: machine {machine} B, a record {record:.0f} B"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite"
        replayed = Replayed(lines)
        with open_store(f"sqlite:///{path}") as store:
            for keep, words in ((lambda records: None, "without the store"), (store.add, "with the store")):
                ledgers = ledgers_of(replayed, "run")
                started_s, cpu_s = time.perf_counter(), time.process_time()
                collect(Replayed(lines), ledgers, Limits(), keep, lambda ended, of, said: None)
                took_s, used_s = time.perf_counter() - started_s, time.process_time() - cpu_s
                per = 1000 * used_s / (nodes * figures)
                print(f"collected {words}: {took_s:.1f} s, CPU {used_s:.1f} s, {per:.2f} s of CPU for 1,000 records")
            rows = store.count()
        bytes_on_disk = sum(one.stat().st_size for one in Path(folder).iterdir())
        each = bytes_on_disk / rows
        print(f"store: {rows} rows, {bytes_on_disk / 1e6:.1f} MB, {each:.0f} B for a row with its share of the machine")
    results = tuple(ledger.result() for ledger in ledgers.values())
    started_s = time.process_time()
    found = evidence_of(results)
    print(f"compared in {time.process_time() - started_s:.1f} s of CPU; {len(found)} odd")


def alarms(fleets: int) -> None:
    """Share of fleets of good nodes in which one is called odd, at first and after measuring again."""
    print(f"{'nodes':>6} {'noise':>6} {'tails':>7} {'fleets':>7} {'at first':>9} {'confirmed':>10}")
    random_ = np.random.default_rng(0)
    for nodes in (4, 8, 16, 64, 256):
        for noise in (0.01, 0.03):
            for tails in ("normal", "t4"):
                runs = max(20, min(fleets, fleets * 16 // nodes))
                first = sure = 0
                for _ in range(runs):
                    of = noise * np.exp(random_.normal(0, 0.7, size=FIGURES))
                    fleet = drawn(random_, nodes, of, tails)
                    evidence = evidence_of(fleet)
                    if evidence:
                        first += 1
                        again = [node for node in drawn(random_, nodes, of, tails) if node.name in evidence]
                        sure += bool(confirmed(fleet, again, evidence)[0])
                print(
                    f"{nodes:>6} {noise:>6.0%} {tails:>7} {runs:>7} {first / runs:>9.3f} {sure / runs:>10.3f}",
                    flush=True,
                )


def drawn(random_: np.random.Generator, nodes: int, noise: np.ndarray, tails: str) -> tuple[NodeResult, ...]:
    """Good nodes: figures with noise and nothing else."""
    size = (nodes, len(noise))
    steps = random_.normal(size=size) if tails == "normal" else random_.standard_t(4, size=size) / 2**0.5
    values = np.exp(steps * noise)
    plain = Record(kind="bench", name="x", value=1.0, unit="B/s", machine_id="m", when="2026-11-21")
    return tuple(
        NodeResult(
            name=f"n{place}",
            state="ok",
            snapshot='{"cpu": {"name": {"value": "x"}}}',
            records=tuple(dataclasses.replace(plain, name=f"f{k}", value=float(v)) for k, v in enumerate(row)),
        )
        for place, row in enumerate(values)
    )


def finds(fleets: int) -> None:
    """Share of fleets in which the one slow node is found and confirmed."""
    print(f"{'nodes':>6} {'noise':>6} {'slow in':>12} " + " ".join(f"{loss:>6.0%}" for loss in LOSSES))
    random_ = np.random.default_rng(1)
    for nodes in (8, 64):
        for noise in (0.01, 0.03):
            for figures, words in ((1, "one figure"), (FIGURES, "all figures")):
                shares = []
                for loss in LOSSES:
                    found = 0
                    for _ in range(fleets):
                        of = np.full(FIGURES, noise)
                        first = slowed(drawn(random_, nodes, of, "normal"), figures, loss)
                        evidence = evidence_of(first)
                        again = slowed(drawn(random_, nodes, of, "normal"), figures, loss)
                        found += "n0" in confirmed(first, again[:1], evidence)[0]
                    shares.append(found / fleets)
                print(f"{nodes:>6} {noise:>6.0%} {words:>12} " + " ".join(f"{one:>6.2f}" for one in shares), flush=True)


def slowed(fleet: tuple[NodeResult, ...], figures: int, loss: float) -> tuple[NodeResult, ...]:
    """The first node is slower in so many of its figures."""
    records = tuple(
        dataclasses.replace(one, value=one.value * (1 - loss)) if place < figures else one
        for place, one in enumerate(fleet[0].records)
    )
    return (dataclasses.replace(fleet[0], records=records), *fleet[1:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--figures", type=int, default=FIGURES)
    parser.add_argument("--alarms", action="store_true")
    parser.add_argument("--fleets", type=int, default=400)
    asked = parser.parse_args()
    if asked.alarms:
        alarms(asked.fleets)
        finds(asked.fleets // 4)
    else:
        replay(asked.nodes, asked.figures)
