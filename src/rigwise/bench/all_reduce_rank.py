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

    rank, ranks = int(request["rank"]), int(request["ranks"])
    dist.init_process_group(
        "gloo", init_method=f"file://{request['meeting']}", rank=rank, world_size=ranks, timeout=timedelta(seconds=60)
    )
    check = torch.full((1000,), float(rank + 1))
    dist.all_reduce(check)
    if not bool((check == ranks * (ranks + 1) / 2).all()):
        raise SystemExit("the sum is wrong")
    answer = [_times(torch, dist, size, float(request["each_s"])) for size in request["sizes"]]
    if rank == 0:
        print(json.dumps(answer), flush=True)
    dist.destroy_process_group()


def _times(torch: Any, dist: Any, size: int, each_s: float) -> list[float]:
    """Times of single calls; all processes take as many, which the first decides."""
    message = torch.zeros(size // 4)
    for _ in range(_WARM_UP):
        begun_s = time.perf_counter()
        dist.all_reduce(message)
        one_s = time.perf_counter() - begun_s
    count = torch.tensor([min(_MOST, max(_LEAST, int(each_s / one_s)))])
    dist.broadcast(count, 0)
    samples = []
    for _ in range(int(count)):
        begun_s = time.perf_counter()
        dist.all_reduce(message)
        samples.append(time.perf_counter() - begun_s)
    return samples


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
