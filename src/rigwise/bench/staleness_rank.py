"""One of the processes that train together; the first prints what it learned by when.

Each keeps its own weights. A step applies the process's own gradient at once and sends it to the other without
waiting; what the other sent is applied when it is there, and must be there after so many further steps. With none,
both are at the same weights after every step: synchronous training.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import deque
from datetime import timedelta
from typing import Any

from rigwise.bench.staleness import network, text

_BATCH, _RATE, _SEEN, _HELD_OUT, _LOOKS = 64, 0.5, 8, 4096, 40


class Replica:
    """Weights, and gradients that are on their way.

    Args:
        torch: The module.
        dist: Its part for processes.
        request: What all were told.
        seed: Of the weights, the same in all processes.
    """

    def __init__(self, torch: Any, dist: Any, request: dict[str, Any], seed: int) -> None:
        self.torch, self.dist, self.ranks = torch, dist, int(request["ranks"])
        self.net = network(torch, seed, seen=_SEEN)
        self.weights = list(self.net.parameters())
        self.sent: deque[tuple[Any, Any, Any]] = deque()

    def step(self, inputs: Any, wanted: Any, staleness: int) -> None:
        """One step on a batch; at most ``staleness`` gradients stay on their way."""
        loss = self.torch.nn.functional.cross_entropy(self.net(inputs), wanted)
        slopes = self.torch.autograd.grad(loss, self.weights)
        own = self.torch.cat([slope.flatten() for slope in slopes])
        self.apply(own)
        total = own.clone()
        self.sent.append((self.dist.all_reduce(total, async_op=True), own, total))
        self.receive(staleness)

    def receive(self, staleness: int) -> None:
        """Apply what the others sent, waiting only for what is older than it may be."""
        while self.sent and (len(self.sent) > staleness or self.sent[0][0].is_completed()):
            handle, own, total = self.sent.popleft()
            handle.wait()
            self.apply(total - own)

    def apply(self, slope: Any) -> None:
        """Move the weights along a gradient, as the mean over all processes moves them."""
        at = 0
        with self.torch.no_grad():
            for weight in self.weights:
                weight.sub_(slope[at : at + weight.numel()].view_as(weight), alpha=_RATE / self.ranks)
                at += weight.numel()


def main(request: dict[str, Any]) -> None:
    """Join the others, train so many times in each way, say what was learned."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    rank, ranks = int(request["rank"]), int(request["ranks"])
    dist.init_process_group(
        "gloo", init_method=f"file://{request['meeting']}", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
    )
    data = torch.frombuffer(bytearray(text()), dtype=torch.uint8).long().unfold(0, _SEEN + 1, 1)
    ways = [int(staleness) for staleness in request["staleness"]]
    courses: dict[int, list[Any]] = {staleness: [] for staleness in ways}
    train(torch, dist, request, data, (0, 0, 20))  # warms up
    for place in range(int(request["runs"])):
        for staleness in ways if place % 2 == 0 else reversed(ways):
            courses[staleness].append(train(torch, dist, request, data, (place, staleness, int(request["steps"]))))
    if rank == 0:
        print(json.dumps(courses), flush=True)
    dist.destroy_process_group()


def train(
    torch: Any, dist: Any, request: dict[str, Any], data: Any, asked: tuple[int, int, int]
) -> tuple[list[float], list[float]]:
    """One run: times and held-out losses. The losses are found after the clock has stopped."""
    place, staleness, steps = asked
    rank, one_in = int(request["rank"]), int(request["paused_one_in"])
    replica = Replica(torch, dist, request, int(request["seed"]) + place)
    learned = len(data) - _HELD_OUT
    chooser = torch.Generator().manual_seed(1000 * place + rank)
    pauses = random.Random(1000 * place + rank)
    kept: list[tuple[float, Any]] = []
    dist.barrier()
    begun_s = time.perf_counter()
    for number in range(steps):
        if one_in and pauses.randrange(one_in) == 0:
            time.sleep(float(request["pause_s"]))
        batch = data[torch.randint(learned, (_BATCH,), generator=chooser)]
        replica.step(batch[:, :-1], batch[:, -1], staleness)
        if (number + 1) % max(1, steps // _LOOKS) == 0:
            kept.append((time.perf_counter() - begun_s, [weight.detach().clone() for weight in replica.weights]))
    replica.receive(0)
    return [at_s for at_s, _ in kept], [_loss(torch, replica, weights, data[learned:]) for _, weights in kept]


def _loss(torch: Any, replica: Replica, weights: Any, held_out: Any) -> float:
    with torch.no_grad():
        for now, then in zip(replica.weights, weights, strict=True):
            now.copy_(then)
        return float(torch.nn.functional.cross_entropy(replica.net(held_out[:, :-1]), held_out[:, -1]))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
