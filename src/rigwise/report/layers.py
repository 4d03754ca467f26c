"""Where to draw the boxes of a small graph: layers from left to right, few crossings.

Source: Sugiyama, Tagawa & Toda, "Methods for Visual Understanding of Hierarchical System
Structures", IEEE Trans. SMC 11(2), 1981: layers by longest path, order by barycentres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

#: A box by name, or a bend of an edge: the edge's ends and the layer.
Spot = str | tuple[str, str, int]

_SWEEPS = 6


def layered(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[Spot, tuple[int, float]]:
    """Layer and row of every box, and of a bend wherever an edge crosses a layer; rows are around 0.

    Args:
        names: The boxes in topological order.
        edges: Pairs of boxes, each once.

    >>> layered(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    {'a': (0, 0.0), 'b': (1, -0.5), ('a', 'c', 1): (1, 0.5), 'c': (2, 0.0)}
    """
    depth: dict[str, int] = {}
    for name in names:
        depth[name] = max((depth[a] + 1 for a, b in edges if b == name), default=0)
    rows: list[list[Spot]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for name in names:
        rows[depth[name]].append(name)
    before: dict[Spot, list[Spot]] = {}
    after: dict[Spot, list[Spot]] = {}
    for a, b in edges:
        bends = [(a, b, layer) for layer in range(depth[a] + 1, depth[b])]
        for bend in bends:
            rows[bend[2]].append(bend)
        chain: list[Spot] = [a, *bends, b]
        for left, right in pairwise(chain):
            before.setdefault(right, []).append(left)
            after.setdefault(left, []).append(right)
    for sweep in range(_SWEEPS):
        order = range(1, len(rows)) if sweep % 2 == 0 else range(len(rows) - 2, -1, -1)
        for layer in order:
            _arrange(rows[layer], before if sweep % 2 == 0 else after, rows)
    return {spot: (layer, i - (len(row) - 1) / 2) for layer, row in enumerate(rows) for i, spot in enumerate(row)}


def _arrange(row: list[Spot], near: Mapping[Spot, list[Spot]], rows: Sequence[list[Spot]]) -> None:
    """Order a layer by the mean place of what each spot is joined to."""
    at = {spot: i / max(1, len(other)) for other in rows for i, spot in enumerate(other)}
    middle = {s: sum(at[n] for n in near[s]) / len(near[s]) if near.get(s) else at[s] for s in row}
    row.sort(key=lambda spot: middle[spot])
