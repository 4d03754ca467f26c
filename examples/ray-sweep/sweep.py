"""The same training at three learning rates, each on all cores: Ray's tasks where Ray is installed, else a loop."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import Any

import torch
from convnet import CLASSES, SIDE, net
from torch import nn

from rigwise import monitor

RATES = (0.001, 0.01, 0.1)


def spots(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with a bright spot; its place is the class."""
    chance = torch.Generator().manual_seed(seed)
    labels, pictures = torch.randint(CLASSES, (count,), generator=chance), torch.randn(count, 1, SIDE, SIDE)
    for picture, label in zip(pictures, labels.tolist(), strict=True):
        row, column = 6 * (label // 5) + 6, 6 * (label % 5)
        picture[0, row : row + 4, column : column + 4] += 1.0
    return pictures, labels


def trial(rate: float, steps: int, batch: int, threads: int) -> tuple[float, float, float]:
    """Train once: the rate, the last loss, the part of new pictures that is right."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    module, _ = net()
    optimizer = torch.optim.SGD(module.parameters(), lr=rate, momentum=0.9)
    pool = [spots(batch, seed) for seed in range(8)]
    loss = torch.zeros(())
    with monitor(samples=batch) as m:
        for number in range(steps):
            pictures, labels = pool[number % 8]
            optimizer.zero_grad(set_to_none=True)
            loss = nn.functional.cross_entropy(module(pictures), labels)
            loss.backward()
            optimizer.step()
            m.step()
            if m.stopping:
                break
    with torch.inference_mode():
        pictures, labels = spots(200, 99)
        return rate, float(loss), float((module(pictures).argmax(1) == labels).float().mean())


def started_ray(threads: int) -> Any:
    """The module ``ray`` with a cluster on this computer, or None with a line that says why."""
    if not find_spec("ray") or os.environ.get("SWEEP_ON") == "loop":
        print("Ray is not installed, or not asked for: one after the other in this process")
        return None
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    try:
        ray.init(num_cpus=threads, include_dashboard=False, log_to_driver=False, logging_level="error")
    except Exception as error:  # Ray raises no narrower one when its processes take too long to start
        print(f"Ray does not start ({str(error).partition('.')[0]}): one after the other in this process")
        return None
    return ray


def on_ray(ray: Any, steps: int, batch: int, threads: int) -> Iterator[tuple[float, float, float]]:
    """A task for each rate, in a process of its own that has all cores."""
    try:
        task = ray.remote(num_cpus=threads, max_calls=1)(trial)
        waiting = [task.remote(rate, steps, batch, threads) for rate in RATES]
        for one in waiting:
            yield ray.get(one)
    finally:
        ray.shutdown()


def main() -> None:
    """Try all rates, and say which did best."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    found: Iterable[tuple[float, float, float]]
    if ray := started_ray(threads):
        found = on_ray(ray, options.steps, options.batch, threads)
    else:
        found = (trial(rate, options.steps, options.batch, threads) for rate in RATES)
    right = {}
    for rate, loss, right[rate] in found:
        print(f"learning rate {rate:g}: loss {loss:.3f}, {right[rate]:.0%} of new pictures are right", flush=True)
    print(f"best: {max(right, key=lambda rate: right[rate]):g}")


if __name__ == "__main__":
    main()
