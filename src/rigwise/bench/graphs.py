"""Graphs: PageRank with NetworkX, SciPy, and cuGraph on a GPU of NVIDIA; the quickest way by road with A* and without.

PageRank reads every link once in each round, 12 bytes of it, which is the limit that is stated. The way by road is
found by this package's own A*, by NetworkX's, by SciPy's Dijkstra, which looks at every crossing, and by cuGraph's
shortest paths; each must find the same time.

Source: Brin & Page, "The Anatomy of a Large-Scale Hypertextual Web Search Engine", 1998; for A* see ``roads.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rigwise.bench import roads
from rigwise.bench.framework import torch_or_none, waiting
from rigwise.bench.libraries import Maker, compared, needed, rapids
from rigwise.bench.matmul import is_wanted
from rigwise.bench.timing import measure
from rigwise.bench.types import ITEMS, TIME, Context, Parameter, Raw

PAGES, LINKS = 20_000, 200_000
PAGES_OF_GPU, LINKS_OF_GPU = 1_000_000, 20_000_000
DAMPING, ROUNDS = 0.85, 20
#: The page at the other end and the weight: an index of four bytes, a number of eight.
_LINK_BYTES = 12
#: Crossings along the edge of the city.
SIDE = 128
#: Two ways of adding the same times differ by so much at most; cuGraph adds in single precision or in double.
_SAME_FRAC = 1e-5


def run(context: Context) -> Iterator[Raw]:
    """Links a second and round; seconds for one way, with the crossings that were looked at."""
    pages, links = (PAGES, LINKS) if context.target == "cpu" else (PAGES_OF_GPU, LINKS_OF_GPU)
    links = int(min(links, context.memory_bytes / _LINK_BYTES / 100))
    rankers = {"networkx": networkx_rank, "scipy": scipy_rank, "cugraph": cugraph_rank}
    names = [name for name in rankers if is_wanted(context, f"graphs.pagerank.{name}")]
    if names:
        ends = links_of(context, pages, links)
        yield from compared({f"graphs.pagerank.{n}": _rank(context, n, pages, ends, rankers[n]) for n in names}, ITEMS)
    finders = {"rigwise": _by_rigwise, "networkx": _by_networkx, "scipy": _by_scipy, "cugraph": _by_cugraph}
    names = [name for name in finders if is_wanted(context, f"graphs.route.{name}")]
    if names:
        city = roads.roads(SIDE, context.seed)
        yield from compared({f"graphs.route.{n}": _way(context, n, city, finders[n]) for n in names}, TIME)


def links_of(context: Context, pages: int, links: int) -> tuple[Any, Any]:
    """Random links, of which popular pages get more, each pair once, none to itself; the same for one seed."""
    import numpy as np

    random = np.random.default_rng(context.seed)
    begins = random.integers(0, pages, links)
    ends = (pages * random.random(links) ** 3).astype(np.int64)
    numbers = np.unique(begins[begins != ends] * pages + ends[begins != ends])
    return numbers // pages, numbers % pages


def rank(pages: int, begins: Any, ends: Any) -> Callable[[], Any]:
    """PageRank by twenty products of a sparse matrix of SciPy; pages without links spread theirs over all.

    Source: Brin & Page; see the module.
    """
    import numpy as np

    sparse = needed("scipy.sparse", "scipy")
    out = np.bincount(begins, minlength=pages).astype(float)
    shares = np.divide(1.0, out, out=np.zeros(pages), where=out > 0)
    matrix = sparse.csr_array((shares[begins], (ends.astype(np.int32), begins.astype(np.int32))), shape=(pages, pages))
    ends_here = out == 0

    def call() -> Any:
        ranks = np.full(pages, 1.0 / pages)
        for _ in range(ROUNDS):
            spread = (1 - DAMPING + DAMPING * ranks[ends_here].sum()) / pages
            ranks = DAMPING * (matrix @ ranks) + spread
        return ranks

    return call


def scipy_rank(context: Context, pages: int, begins: Any, ends: Any) -> tuple[Callable[[], Any], int]:
    """The products alone, and their rounds."""
    del context
    return rank(pages, begins, ends), ROUNDS


def networkx_rank(context: Context, pages: int, begins: Any, ends: Any) -> tuple[Callable[[], Any], int]:
    """NetworkX, which builds the matrix anew each time; its rounds are as many as it takes to settle.

    Raises:
        ImportError: It is not installed.
    """
    del context
    networkx = needed("networkx")
    needed("scipy")
    graph = networkx.DiGraph()
    graph.add_nodes_from(range(pages))
    graph.add_edges_from(zip(begins.tolist(), ends.tolist(), strict=True))
    return lambda: list(networkx.pagerank(graph, alpha=DAMPING).values()), 1


def cugraph_rank(context: Context, pages: int, begins: Any, ends: Any) -> tuple[Callable[[], Any], int]:
    """cuGraph, twenty rounds at most.

    Raises:
        ImportError: There is no GPU of NVIDIA, or no RAPIDS.
    """
    cugraph, cudf = rapids(context, "cugraph"), rapids(context, "cudf")
    graph = cugraph.Graph(directed=True)
    table = cudf.DataFrame({"source": begins, "destination": ends})
    graph.from_cudf_edgelist(table, source="source", destination="destination", store_transposed=True)

    def call() -> Any:
        found = cugraph.pagerank(graph, alpha=DAMPING, max_iter=ROUNDS, tol=1e-12, fail_on_nonconvergence=False)
        return found[0]["pagerank"].to_numpy() if isinstance(found, tuple) else found["pagerank"].to_numpy()

    return call, ROUNDS


def _rank(context: Context, name: str, pages: int, ends: tuple[Any, Any], make: Callable[..., Any]) -> Maker:
    def raw() -> Raw:
        call, rounds = make(context, pages, *ends)
        total = float(sum(call()))
        if abs(total - 1.0) > 1e-2:
            raise ValueError(f"the ranks add up to {total:g}, not to 1")
        shown: dict[str, Parameter] = {"beside": "graphs.pagerank.networkx", "pages": pages, "links": len(ends[0])}
        on_target = name == "cugraph" or context.target == "cpu"
        return Raw(
            name=f"graphs.pagerank.{name}",
            unit=ITEMS,
            amount=float(len(ends[0])),
            timing=measure(call, context.each_s, _waiting(context, name)),
            parameters={**shown, "rounds": rounds, "bytes_per_item": _LINK_BYTES * rounds, "threads": 1},
            limit="memory" if on_target else "",
            note="links of one whole ranking" + (", until it settles" if name == "networkx" else ""),
        )

    return raw


def _waiting(context: Context, name: str) -> Callable[[], object]:
    return waiting(torch_or_none(), context.target) if name == "cugraph" else lambda: None


def _way(context: Context, name: str, city: roads.Roads, make: Callable[..., Any]) -> Maker:
    def raw() -> Raw:
        start, goal = (city.side // 3 + 3, city.side // 4 + 3), (2 * city.side // 3, 3 * city.side // 4 - 3)
        call, looked_at = make(context, city, start, goal)
        found, right = call(), roads.quickest(city, start, goal)[0]
        if abs(found - right) > _SAME_FRAC * right:
            raise ValueError(f"{found:g} s by road where A* finds {right:g} s")
        return Raw(
            name=f"graphs.route.{name}",
            unit=TIME,
            timing=measure(call, context.each_s, _waiting(context, name)),
            parameters={"beside": "graphs.route.networkx", "crossings": city.side**2, "looked_at": looked_at},
            note=f"{looked_at} of {city.side**2} crossings looked at",
        )

    return raw


def _by_rigwise(context: Context, city: roads.Roads, start: Any, goal: Any) -> tuple[Callable[[], float], int]:
    del context
    return lambda: roads.quickest(city, start, goal)[0], roads.quickest(city, start, goal)[1]


def _by_networkx(context: Context, city: roads.Roads, start: Any, goal: Any) -> tuple[Callable[[], float], int]:
    del context
    return roads.by_networkx(needed("networkx"), city, start, goal)


def _by_scipy(context: Context, city: roads.Roads, start: Any, goal: Any) -> tuple[Callable[[], float], int]:
    del context
    csgraph, sparse = needed("scipy.sparse.csgraph", "scipy"), needed("scipy.sparse", "scipy")
    return roads.by_scipy(csgraph, sparse, city, start, goal), city.side**2


def _by_cugraph(context: Context, city: roads.Roads, start: Any, goal: Any) -> tuple[Callable[[], float], int]:
    cugraph, cudf = rapids(context, "cugraph"), rapids(context, "cudf")
    begins, ends, times = city.edges()
    graph = cugraph.Graph()
    table = cudf.DataFrame({"source": begins, "destination": ends, "seconds": times})
    graph.from_cudf_edgelist(table, source="source", destination="destination", edge_attr="seconds")
    first, last = (at[0] * city.side + at[1] for at in (start, goal))

    def call() -> float:
        found = cugraph.sssp(graph, first)
        return float(found[found["vertex"] == last]["distance"].iloc[0])

    return call, city.side**2
