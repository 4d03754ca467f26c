"""The operators of one member of a tensor-parallel group.

The first product of a pair divides its columns and the second its rows, so that what runs
between them needs no exchange: queries, keys, values and the way up are divided by columns, the
projections back to the width of the model by rows, the head by columns. Attention and what
stands beside these products divide too; norms and residual sums between the blocks are whole
on every member, unless the sequence is divided there.

Source: Shoeybi et al., "Megatron-LM", 2019, section 3; Korthikanti et al., 2022, section 4.2.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.graph.count import gemm_shape
from rigwise.graph.dim import Sizes
from rigwise.graph.op import Kind, Phase, SameOps
from rigwise.workload.case import Parallel
from rigwise.workload.table import OpTable

#: Sizes that no width of a model is a product of: a side is told by what it is, not by how long it happens to be.
_UNLIKE = {"b": 1_000_003.0, "s": 1_000_033.0, "c": 1_000_037.0, "p": 1_000_039.0}
_BETWEEN = (Kind.ATTENTION, Kind.SOFTMAX, Kind.ELEMENTWISE, Kind.COPY)
_WITH_SEQUENCE = (*_BETWEEN, Kind.NORM, Kind.REDUCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Product:
    """A product with weights ``[k, n]``, and whether its inner dimension is the divided one."""

    n: int
    k: int
    by_rows: bool


def tensor_shard(table: OpTable, parallel: Parallel) -> OpTable:
    """The table of one member.

    Source: see the module.
    """
    products, of_gemms = _roles(_Same(table))
    part = np.where(_divided(table, parallel, products), 1.0 / parallel.tensor, 1.0)[:, None]
    sides = {name: getattr(table, name).copy() for name in ("batch", "m", "n", "k")}
    for row, side in of_gemms:
        sides[side][row] = np.maximum(sides[side][row] / parallel.tensor, 1.0)
    gemms = table.of_kind(Kind.GEMM)[:, None]
    between = ~gemms & (part < 1.0)
    operands = (sides["m"] + sides["n"]) * sides["k"] * sides["batch"]
    whole = (table.m + table.n) * table.k * table.batch
    results = sides["m"] * sides["n"] * sides["batch"] / (table.m * table.n * table.batch)
    read_bytes = table.read_bytes * np.where(gemms, operands / whole, part)
    return replace(
        table,
        macs=table.macs * part,
        flops=table.flops * part,
        read_bytes=read_bytes,
        near_bytes=np.minimum(table.near_bytes, read_bytes),
        write_bytes=table.write_bytes * np.where(gemms, results, part),
        weight_bytes=table.weight_bytes * part,
        batch=np.where(between, table.batch * part, sides["batch"]),
        m=sides["m"],
        n=sides["n"],
        k=sides["k"],
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Same:
    """A table as a cache key: known by identity."""

    table: OpTable

    def __hash__(self) -> int:
        return id(self.table)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.table is other.table


@lru_cache(maxsize=32)
def _roles(held: _Same) -> tuple[dict[str, list[_Product]], tuple[tuple[int, str], ...]]:
    """Products with weights, and the row and divided side of every product: whoever divides a table, by how many."""
    table, products = held.table, _products(held.table)
    rows = np.flatnonzero(table.of_kind(Kind.GEMM)).tolist()
    return products, tuple((row, _divided_side(table, row, products)) for row in rows)


def _divided(table: OpTable, parallel: Parallel, products: Mapping[str, list[_Product]]) -> NDArray[np.bool_]:
    """Rows whose work is shared out: every product, and what stands beside them in a block."""
    gemms = table.of_kind(Kind.GEMM)
    stacked = table.of_kind(*(_WITH_SEQUENCE if parallel.sequence else _BETWEEN)) & (table.repeat > 1)
    if not parallel.sequence:
        parents = {module.rpartition(".")[0] for module in products}
        beside = {module: not parents.isdisjoint(_with_parents(module)) for module in {op.module for op in table.ops}}
        stacked &= np.array([beside[op.module] for op in table.ops], dtype=bool) | table.of_kind(Kind.ATTENTION)
    return np.asarray(gemms | stacked)


def _with_parents(module: str) -> Iterator[str]:
    """A module and those that it is part of."""
    yield module
    while module := module.rpartition(".")[0]:
        yield module


def _products(table: OpTable) -> dict[str, list[_Product]]:
    """Products with weights of the forward pass by module."""
    found: dict[str, list[_Product]] = {}
    behind_attention, first_behind = False, False
    attention = table.of_kind(Kind.ATTENTION)
    weighted = table.of_kind(Kind.GEMM) & (table.weight_bytes[:, 0] > 0)
    for row in np.flatnonzero((attention | weighted) & table.of_phase(Phase.FORWARD)):
        if attention[row]:
            behind_attention = first_behind = True
            continue
        n, k = int(table.n[row, 0]), int(table.k[row, 0])
        by_rows = bool(table.repeat[row] > 1 and (first_behind or (behind_attention and k > n)))
        found.setdefault(table.ops[row].module, []).append(_Product(n=n, k=k, by_rows=by_rows))
        first_behind = False
        behind_attention = behind_attention and table.repeat[row] > 1
    return found


@lru_cache(maxsize=256)
def _shapes(held: SameOps) -> list[tuple[Any, ...]]:
    """Sides of each product, of sizes that are like nothing else; 1 where there is none."""
    shapes = (gemm_shape(op, Sizes(_UNLIKE)) if op.kind is Kind.GEMM else None for op in held.ops)
    return [(shape.batch, shape.m, shape.n, shape.k) if shape else (1.0, 1.0, 1.0, 1.0) for shape in shapes]


def _divided_side(table: OpTable, row: int, products: Mapping[str, list[_Product]]) -> str:
    """Which side of a product a member has a part of: a batch of heads, or a side of the weights."""
    op, (batch, m, n, k) = table.ops[row], _shapes(SameOps(table.ops))[row]
    of_module = products.get(op.module, [])
    own = next((p for p in of_module if {p.n, p.k} <= {m, n, k}), None)
    if own is None:
        return "batch" if batch > 1 else "n"
    if op.phase is Phase.FORWARD or op.attrs.get("recomputed"):
        return "k" if own.by_rows else "n"
    if table.weight_bytes[row, 0] > 0:  # gradient of the input
        return "n" if own.by_rows else "k"
    return "n" if n == (own.k if own.by_rows else own.n) else "m"
