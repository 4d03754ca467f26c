"""One of the processes that all-reduce between them; the first prints the times."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta
from typing import Any

#: Calls that warm up, and fewest and most that are timed.
_WARM_UP, _LEAST, _MOST = 3, 5, 500


def main(request: dict[str, Any]) -> None:
    """Join the others, check the sum once, time every size."""
    import torch
    import torch.distributed as dist

    rank, ranks, library = int(request["rank"]), int(request["ranks"]), str(request["library"])
    place = torch.device("cuda", rank) if library == "nccl" else torch.device("cpu")
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group(
        library, init_method=f"file://{request['meeting']}", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
    )
    check = torch.full((1000,), float(rank + 1), device=place)
    dist.all_reduce(check)
    if not bool((check == ranks * (ranks + 1) / 2).all()):
        raise SystemExit("the sum is wrong")
    answer = [_times(torch, dist, place, size, float(request["each_s"])) for size in request["sizes"]]
    if rank == 0:
        print(json.dumps(answer), flush=True)
    dist.destroy_process_group()


def _times(torch: Any, dist: Any, place: Any, size: int, each_s: float) -> list[float]:
    """Times of single calls until the message is there; all processes take as many, which the first decides."""
    message = torch.randn(size // 4, device=place)

    def one() -> float:
        begun_s = time.perf_counter()
        dist.all_reduce(message)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return time.perf_counter() - begun_s

    for _ in range(_WARM_UP):
        warm_s = one()
        message.div_(dist.get_world_size())
    count = torch.tensor([min(_MOST, max(_LEAST, int(each_s / warm_s)))], device=place)
    dist.broadcast(count, 0)
    samples = []
    for _ in range(int(count)):
        samples.append(one())
        message.div_(dist.get_world_size())  # or the sums would grow without end
    return samples


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
