"""Train ResNet-18 on stripes of ten directions, data-parallel where there are several ranks."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from resnet import CLASSES, SIDE, ResNet18
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rigwise import monitor

SAVED = Path("saved.pt")


def images(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy stripes, and which of the directions they have."""
    chance = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (count,), generator=chance)
    angle = labels * math.pi / CLASSES
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = x * angle.cos()[:, None, None] + y * angle.sin()[:, None, None]
    phase = 2 * math.pi * torch.rand(count, 1, 1, generator=chance)
    stripes = torch.sin(along * 0.5 + phase)[:, None].expand(-1, 3, -1, -1)
    return stripes + 0.5 * torch.randn(count, 3, SIDE, SIDE, generator=chance), labels


def batches(first: int, last: int, size: int, rank: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Batches of one rank, the same after a restart; eight different ones over and over."""
    pool = [images(size, 100 * rank + index) for index in range(8)]
    return (pool[step % 8] for step in range(first, last))


def main() -> None:
    """Train, save when it is due, test."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16, help="of all ranks together")
    options = parser.parse_args()
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    rank, ranks = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    torch.manual_seed(0)
    net: nn.Module = ResNet18()
    if dist.is_initialized():
        net = DistributedDataParallel(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    first = 0
    if SAVED.exists():
        saved = torch.load(SAVED, weights_only=True)
        first = saved["step"]
        net.load_state_dict(saved["net"])
        optimizer.load_state_dict(saved["optimizer"])

    size, done = options.batch // ranks, first
    with monitor(samples=size, first_step=first) as m:
        for inputs, labels in m.batches(batches(first, options.steps, size, rank)):
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(net(inputs), labels).backward()
            optimizer.step()
            done += 1
            m.step()
            if m.checkpoint_due():
                with m.checkpoint():
                    save(rank, {"step": done, "net": net.state_dict(), "optimizer": optimizer.state_dict()})
            if m.stopping:
                break
    if rank == 0:
        print(f"step {done}: {accuracy(net):.0%} of new images are right")
    if dist.is_initialized():
        dist.destroy_process_group()


def save(rank: int, state: dict[str, object]) -> None:
    """Written whole or not at all, by the first rank."""
    if rank == 0:
        torch.save(state, SAVED.with_suffix(".new"))
        SAVED.with_suffix(".new").replace(SAVED)


def accuracy(net: nn.Module) -> float:
    """On images that no rank has trained on."""
    inputs, labels = images(100, 99_999)
    inner = net.module if isinstance(net, DistributedDataParallel) else net
    inner.eval()
    with torch.inference_mode():
        return float((inner(inputs).argmax(1) == labels).float().mean())


if __name__ == "__main__":
    main()
