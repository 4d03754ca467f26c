"""All-reduce between processes of this computer, by size; and latency and bandwidth fitted to it.

Over gloo two processes measure the CPU and its memory, not a network. Over NCCL there is one process for each GPU, and
its ring and its double binary tree are asked for by name beside its own choice; that part has never run on a GPU.
Bus bandwidth counts what a ring sends over each link: ``2 (n - 1) / n`` of the message. gloo has no tree: what ring and
double binary tree would take between more such processes follows from the fitted latency and bandwidth.

Source: NVIDIA, "nccl-tests, PERFORMANCE.md", for bus bandwidth; NVIDIA, "NCCL Environment Variables", NCCL_ALGO; Thakur
et al., "Optimization of Collective Communication Operations in MPICH", 2005, for a time of ``2 (n - 1) (latency + bytes
/ n / bandwidth)``.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rigwise.bench import ranks
from rigwise.bench.framework import torch_or_none
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import quantile
from rigwise.bench.types import BYTES, TIME, Context, Parameter, Raw, Timing
from rigwise.units import KIB, MIB

RANKS, MOST_RANKS = 2, 8
SIZES = {"4k": 4 * KIB, "1m": MIB, "16m": 16 * MIB}
SIZES_OF_GPU = {"4k": 4 * KIB, "1m": MIB, "256m": 256 * MIB}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Processes that add up between them.

    Attributes:
        name: What their figures begin with.
        ranks: Processes.
        library: gloo or nccl.
        sizes_bytes: Messages by name.
        environment: What makes the library take one algorithm.
    """

    name: str = "all-reduce"
    ranks: int = RANKS
    library: str = "gloo"
    sizes_bytes: Mapping[str, float]
    environment: Mapping[str, str]


def groups(gpus: int) -> list[Group]:
    """Two processes over gloo; and where there are several GPUs, NCCL with each algorithm.

    >>> [group.name for group in groups(4)]
    ['all-reduce', 'all-reduce.nccl', 'all-reduce.ring', 'all-reduce.tree']
    """
    found = [Group(sizes_bytes=SIZES, environment={})]
    for word, chosen in (("nccl", {}), ("ring", {"NCCL_ALGO": "Ring"}), ("tree", {"NCCL_ALGO": "Tree"})):
        if gpus >= RANKS:
            count = min(gpus, MOST_RANKS)
            name = f"all-reduce.{word}"
            found.append(Group(name=name, ranks=count, library="nccl", sizes_bytes=SIZES_OF_GPU, environment=chosen))
    return found


def run(context: Context) -> Iterator[Raw]:
    """For each group of processes one figure for each size, latency, bandwidth."""
    torch = torch_or_none()
    if torch is None:
        yield Raw(name="all-reduce", unit=BYTES, skipped="pip install 'rigwise[bench]' for PyTorch")
        return
    if not context.folder:
        yield Raw(name="all-reduce", unit=BYTES, skipped="no folder can be written for the processes to meet in")
        return
    gpus = torch.cuda.device_count() if context.target.startswith("cuda") else 0
    for group in groups(gpus):
        names = [f"{group.name}.{word}" for word in (*group.sizes_bytes, "latency", "bandwidth")]
        if any(is_wanted(context, name) for name in names):
            yield from _of_group(context, group)
    if gpus < RANKS:
        yield Raw(name="all-reduce.nccl", unit=BYTES, skipped="not here: needs several GPUs")


def _of_group(context: Context, group: Group) -> Iterator[Raw]:
    try:
        times = measured(context, [int(size) for size in group.sizes_bytes.values()], group)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        reason = f"the processes did not answer: {type(error).__name__}"
        yield Raw(name=group.name, unit=BYTES, skipped=reason)
        return
    shown: dict[str, Parameter] = {"ranks": group.ranks, "library": group.library, **group.environment}
    middles: list[tuple[float, float]] = []
    for (word, size), samples in zip(group.sizes_bytes.items(), times, strict=True):
        middles.append((size, quantile(samples, 0.5)))
        if is_wanted(context, f"{group.name}.{word}"):
            yield Raw(
                name=f"{group.name}.{word}",
                unit=BYTES,
                amount=2 * (group.ranks - 1) / group.ranks * size,
                timing=Timing(samples_s=tuple(samples), wall_s=sum(samples)),
                parameters={"message_bytes": int(size), **shown},
                limit="peer link" if group.library == "nccl" else "",
                note="bus bandwidth",
            )
    latency_s, bytes_per_s = fitted(middles, group.ranks)
    if is_wanted(context, f"{group.name}.latency"):
        yield Raw(name=f"{group.name}.latency", unit=TIME, value=latency_s, parameters=shown, note="fitted, of one hop")
    if is_wanted(context, f"{group.name}.bandwidth"):
        yield Raw(name=f"{group.name}.bandwidth", unit=BYTES, value=bytes_per_s, parameters=shown, note="fitted")


def fitted(times: Sequence[tuple[float, float]], ranks: int) -> tuple[float, float]:
    """Latency of a hop and bandwidth of a link, from message sizes and times, by least squares of relative errors.

    Source: see the module.

    >>> latency, bandwidth = fitted([(1e3, 2 * (1e-5 + 500 / 1e9)), (1e6, 2 * (1e-5 + 5e5 / 1e9))], 2)
    >>> round(latency * 1e6, 3), round(bandwidth / 1e9, 3)
    (10.0, 1.0)
    """
    import numpy as np

    hops = 2.0 * (ranks - 1)
    rows = np.array([[hops / t, hops * size / ranks / t] for size, t in times])
    found, *_ = np.linalg.lstsq(rows, np.ones(len(rows)), rcond=None)
    latency, per_byte = float(found[0]), float(found[1])
    return max(latency, 0.0), 1.0 / per_byte if per_byte > 0 else float("inf")


def ring_and_tree(latency_s: float, bytes_per_s: float, message_bytes: float, count: int) -> tuple[float, float]:
    """What a ring and a double binary tree take between so many processes over such links.

    Source: as the estimate of collectives states its formulas.

    >>> [round(1e6 * time_s) for time_s in ring_and_tree(1e-5, 1e9, 4096, 64)]
    [1268, 128]
    """
    from rigwise.estimate.collective import ring_all_reduce_s, tree_all_reduce_s

    laws = (ring_all_reduce_s, tree_all_reduce_s)
    ring_s, tree_s = (float(law(message_bytes, count, bytes_per_s, latency_s)) for law in laws)
    return ring_s, tree_s


def measured(context: Context, sizes: Sequence[int], group: Group | None = None) -> list[list[float]]:
    """Times of every size, as the first process saw them; each begins and ends with the others.

    Raises:
        subprocess.SubprocessError: A process failed, or took too long.
        ValueError: What it wrote is not what was asked for.
    """
    group = group or groups(0)[0]
    request = {"sizes": list(sizes), "each_s": context.each_s, "library": group.library}
    request |= {"environment": dict(group.environment)}
    limit_s = 60 + 6 * context.each_s * len(sizes)
    found = ranks.answer("rigwise.bench.all_reduce_rank", request, group.ranks, limit_s, context.folder)
    if not isinstance(found, list) or len(found) != len(sizes):
        raise ValueError("no times")
    return [[float(one) for one in samples] for samples in found]
