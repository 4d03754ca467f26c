"""How many questions ``rigwise serve`` answers, how soon, and what it holds after ten thousand of them.

    python benchmarks/bench_serve.py [--each 200] [--requests 10000] [--workers 2]

First part: the first plan of a server that has just started, one that was never asked and one that was asked before:
wall and CPU time of all its processes, and the time of the same plan in this process without a server. Second part:
plans and comparisons by 1, 10 and 50 users, each of whom asks again as soon as the answer is there; questions that
repeat (ten of them) and questions that nobody asked before, apart; and comparisons while 50 others plan. Third part:
resident memory of all processes before and after many requests, one in fifty of them a plan and one in ten a repeated
question.

The client runs on the same processors as the server, so its time counts against the rates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import psutil

USERS = (1, 10, 50)
MODELS = ("resnet50", "gpt2", "bert-base", "vit-b-16", "llama-3.1-8b")
DEVICES = "t4,l4,a10,rtx-4090,a100-sxm4-80gb,h100-sxm5-80gb"


def plan(number: int) -> str:
    return f"/api/v1/plan?model=resnet50&deadline=12h&samples={128_000_000 + number}"


def compare(number: int) -> str:
    return f"/api/v1/compare?model={MODELS[number % 5]}&device={DEVICES}&batch={1 + number // 5}"


@dataclass
class Outcome:
    """What became of a run."""

    took_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall_s: float = 0.0


@dataclass
class Server:
    """A server under test."""

    port: int
    process: psutil.Process

    def all(self) -> list[psutil.Process]:
        """Its processes."""
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """CPU time of its processes so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self.all())

    def resident_mb(self) -> list[int]:
        """Memory of its processes, the server first; pages that they share count in each."""
        return [round(one.memory_info().rss / 1e6) for one in self.all()]


@contextmanager
def server(workers: int) -> Iterator[Server]:
    started = time.perf_counter()
    words = [sys.executable, "-m", "rigwise", "serve", "--port", "0", "--quiet", "--workers", str(workers)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        port = int(re.search(r":(\d+)/", process.stdout.readline())[1])  # type: ignore[index]
        print(f"ready after {time.perf_counter() - started:.2f} s")
        try:
            yield Server(port, psutil.Process(process.pid))
        finally:
            process.terminate()


async def ask(port: int, addresses: Iterator[str], outcome: Outcome) -> None:
    """One user: a connection, and question after question."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for address in addresses:
        begin = time.perf_counter()
        writer.write(f"GET {address} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head)[1]))  # type: ignore[index]
        outcome.took_s.append(time.perf_counter() - begin)
        outcome.statuses[int(head.split()[1])] += 1
    writer.close()
    await writer.wait_closed()


def run(port: int, users: int, addresses: list[str]) -> Outcome:
    outcome, shared = Outcome(), iter(addresses)

    async def all_users() -> None:
        await asyncio.gather(*(ask(port, shared, outcome) for _ in range(users)))

    begin = time.perf_counter()
    asyncio.run(all_users())
    outcome.wall_s = time.perf_counter() - begin
    return outcome


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[math.ceil(share * len(values)) - 1]


def in_process() -> None:
    """The same plan without a server."""
    from datetime import date

    from rigwise.execute.plans import plan_document
    from rigwise.search.plan import catalogue_world
    from rigwise.web.questions import asked_by, job

    for name in ("first", "repeated"):
        begin, cpu = time.perf_counter(), time.process_time()
        asked = job(asked_by("plan", plan(-1).partition("?")[2]))
        json.dumps(plan_document(asked, lambda model: catalogue_world(model, date.today())), default=str)
        wall, used = time.perf_counter() - begin, time.process_time() - cpu
        print(f"  without a server, {name:<20} {wall * 1e3:8.1f} ms wall {used * 1e3:8.1f} ms CPU")


def first_and_repeated(one: Server) -> None:
    print("\na plan over the catalogue")
    for name, address in (("first of the server", plan(-1)), ("never asked", plan(-2)), ("asked before", plan(-1))):
        cpu = one.cpu_s()
        took_s = run(one.port, 1, [address]).took_s[0]
        print(f"  {name:<38} {took_s * 1e3:8.1f} ms wall {(one.cpu_s() - cpu) * 1e3:8.1f} ms CPU")
    in_process()


def rates(one: Server, each: int) -> None:
    print("\nquestions        users      n     per s    p50 ms    p99 ms   CPU ms each   statuses")
    fresh = count()
    for name, address in (("plan", plan), ("compare", compare)):
        for users in USERS:
            for is_new in (False, True):
                number = max(each // 4, 2 * users) if is_new and name == "plan" else each
                addresses = [address(next(fresh)) for _ in range(number)]
                if not is_new:  # each was asked once
                    addresses = [address(900_000 + i % 10) for i in range(number)]
                    run(one.port, 1, addresses[:10])
                cpu = one.cpu_s()
                found = run(one.port, users, addresses)
                cpu_ms = (one.cpu_s() - cpu) / number * 1e3
                kind = f"{name} {'new' if is_new else 'repeated'}"
                figures = [percentile(found.took_s, share) * 1e3 for share in (0.5, 0.99)]
                print(
                    f"{kind:<16} {users:5} {number:6} {number / found.wall_s:9.1f} {figures[0]:9.1f} {figures[1]:9.1f}"
                    f" {cpu_ms:13.1f}   {dict(found.statuses)}"
                )


def beside_plans(one: Server, each: int) -> None:
    """Comparisons that nobody asked before, by one user, while 50 ask for plans."""
    outcomes = Outcome(), Outcome()

    async def both() -> None:
        short = ask(one.port, iter([compare(4_000_000 + number) for number in range(each // 10)]), outcomes[0])
        long = [ask(one.port, (plan(4_000_000 + 50 * user + i) for i in range(2)), outcomes[1]) for user in range(50)]
        await asyncio.gather(short, *long)

    asyncio.run(both())
    took_s = outcomes[0].took_s
    print(f"compare new beside 50 users who plan: p50 {percentile(took_s, 0.5) * 1e3:.0f} ms, worst", end=" ")
    print(f"{max(took_s) * 1e3:.0f} ms of {len(took_s)}; the plans: {dict(outcomes[1].statuses)}")


def memory(one: Server, requests: int, started: list[int]) -> None:
    def address(number: int) -> str:
        if number % 50 == 0:
            return plan(10_000 + number)
        return compare(10) if number % 10 == 0 else compare(5_000 + number)

    before = one.resident_mb()
    found = run(one.port, 10, [address(number) for number in range(requests)])
    after = one.resident_mb()
    print(f"\nMB of the server and of each other process: {started} at the start, {before} before, {after} after")
    print(f"{requests:,} requests in {found.wall_s:.0f} s, {dict(found.statuses)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=200, help="questions of a row")
    parser.add_argument("--requests", type=int, default=10_000, help="questions between the looks at memory")
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?"
    print(f"load of the machine before: {load}")
    with server(chosen.workers) as one:
        started = one.resident_mb()
        first_and_repeated(one)
        rates(one, chosen.each)
        beside_plans(one, chosen.each)
        memory(one, chosen.requests, started)


if __name__ == "__main__":
    main()
