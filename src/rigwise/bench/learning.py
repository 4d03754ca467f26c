"""Learning without networks: k-means and a random forest, with scikit-learn, and cuML on a GPU of NVIDIA.

The limit of k-means is the arithmetic of all distances, ``2 x dimensions x clusters`` FLOP for a point in each round.

Source: Lloyd, "Least Squares Quantization in PCM", 1982; Breiman, "Random Forests", 2001.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rigwise.bench.framework import torch_or_none, waiting
from rigwise.bench.libraries import compared, needed, rapids
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import ITEMS, Context, Parameter, Raw

POINTS, DIMENSIONS, CLUSTERS, ROUNDS = 50_000, 32, 32, 10
POINTS_OF_GPU = 1_000_000
TREES, DEPTH = 8, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """Points around random centres, which of them each is near, and where k-means begins."""

    points: Any
    centres: Any
    labels: Any


def run(context: Context) -> Iterator[Raw]:
    """Points a second in each round of k-means; rows a second in each tree of a forest."""
    count = POINTS if context.target == "cpu" else POINTS_OF_GPU
    data = points_of(context, int(min(count, context.memory_bytes / 4 / DIMENSIONS / 20)))
    for work in (k_means, forest):
        name = "k-means" if work is k_means else "forest"
        names = [library for library in ("sklearn", "cuml") if is_wanted(context, f"learning.{name}.{library}")]
        yield from compared(
            {f"learning.{name}.{one}": lambda w=work, o=one: w(context, data, o) for one in names},  # type: ignore[misc]
            ITEMS,
        )


def points_of(context: Context, count: int) -> Points:
    """Clouds of points of which some overlap, the same for one seed."""
    import numpy as np

    random = np.random.default_rng(context.seed)
    centres = 2.0 * random.standard_normal((CLUSTERS, DIMENSIONS)).astype(np.float32)
    labels = random.integers(0, CLUSTERS, count)
    points = centres[labels] + random.standard_normal((count, DIMENSIONS)).astype(np.float32)
    return Points(points=points, centres=points[:CLUSTERS].copy(), labels=(labels % 2).astype(np.int32))


def _library(context: Context, name: str, part: str) -> Any:
    return rapids(context, f"cuml.{part}") if name == "cuml" else needed(f"sklearn.{part}", "scikit-learn")


def k_means(context: Context, data: Points, library: str) -> Raw:
    """Ten rounds of Lloyd's algorithm from the same centres.

    Raises:
        ImportError: The library is not here.
    """
    kind = _library(context, library, "cluster").KMeans
    given = {"n_clusters": CLUSTERS, "init": data.centres, "n_init": 1, "max_iter": ROUNDS, "tol": 0.0}
    points = _there(library, data.points)
    rounds = int(kind(**given).fit(points).n_iter_)
    timing = measure(lambda: kind(**given).fit(points), context.each_s, _waiting(context, library))
    shown: dict[str, Parameter] = {"dimensions": DIMENSIONS, "clusters": CLUSTERS, "rounds": rounds}
    shown |= {"points": len(data.points), "flops_per_item": 2 * DIMENSIONS * CLUSTERS}
    here = library == "cuml" or context.target == "cpu"
    return _raw(context, ("k-means", library), len(data.points) * rounds, timing, shown, limit="fp32" if here else "")


def forest(context: Context, data: Points, library: str) -> Raw:
    """A forest of classifiers, all of the same depth at most.

    Raises:
        ImportError: The library is not here.
    """
    kind = _library(context, library, "ensemble").RandomForestClassifier
    given: dict[str, Any] = {"n_estimators": TREES, "max_depth": DEPTH, "random_state": context.seed}
    given |= {} if library == "cuml" else {"n_jobs": context.threads}
    some = data.points[: len(data.points) // 5], data.labels[: len(data.points) // 5]
    points, labels = (_there(library, one) for one in some)
    timing = measure(lambda: kind(**given).fit(points, labels), context.each_s, _waiting(context, library))
    shown: dict[str, Parameter] = {"trees": TREES, "depth": DEPTH, "rows": len(some[0]), "dimensions": DIMENSIONS}
    return _raw(context, ("forest", library), len(some[0]) * TREES, timing, shown)


def _there(library: str, array: Any) -> Any:
    """The array where the library computes."""
    return needed("cupy").asarray(array) if library == "cuml" else array


def _waiting(context: Context, library: str) -> Any:
    return waiting(torch_or_none(), context.target) if library == "cuml" else lambda: None


def _raw(
    context: Context, called: tuple[str, str], amount: int, timing: Any, shown: Mapping[str, Parameter], limit: str = ""
) -> Raw:
    work, library = called
    return Raw(
        name=f"learning.{work}.{library}",
        unit=ITEMS,
        amount=float(amount),
        timing=timing,
        parameters={"beside": f"learning.{work}.sklearn", **shown, "threads": context.threads},
        limit=limit,
        note="points in each round" if work == "k-means" else "rows in each tree",
    )
