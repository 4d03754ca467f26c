"""The operator table: a lowered graph at given sizes, as NumPy columns.

One row for each operator, one column of sizes for each batch that is asked about. Everything
in ``estimate`` is arithmetic between these columns and those of the devices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigwise.facts.device import RATES_OF_FORMAT
from rigwise.graph.count import attention_shape, causal_frac, gemm_shape, tensor_bytes, work
from rigwise.graph.dim import Sizes
from rigwise.graph.op import Kind, Op, Phase, Role

Array = NDArray[np.float64]

FORMATS = tuple(RATES_OF_FORMAT)
PHASES = tuple(Phase)
KINDS = tuple(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTable:
    """Columns over operators; those that depend on sizes have the shape ``[operators, sizes]``.

    Attributes:
        ops: The operators themselves, for names and attributes.
        kind, phase, number_format: Index into ``KINDS``, ``PHASES`` and ``FORMATS`` ``[operators]``.
        repeat, launches: How often each runs in a step; kernels of one run ``[operators]``.
        macs: Multiply-adds of one run, by the convention of published figures.
        flops: What a kernel must really compute: causal attention without its masked half.
        read_bytes, write_bytes: Traffic of one run.
        weight_bytes: Part of the reads that is parameters.
        batch, m, n, k: Matrix products of one run, 1 where there are none.
    """

    ops: tuple[Op, ...]
    kind: NDArray[np.int64]
    phase: NDArray[np.int64]
    number_format: NDArray[np.int64]
    repeat: Array
    launches: Array
    macs: Array
    flops: Array
    read_bytes: Array
    write_bytes: Array
    weight_bytes: Array
    batch: Array
    m: Array
    n: Array
    k: Array

    def of_kind(self, *kinds: Kind) -> NDArray[np.bool_]:
        """Which rows are of these kinds ``[operators]``."""
        return np.isin(self.kind, [KINDS.index(k) for k in kinds])

    def of_phase(self, phase: Phase) -> NDArray[np.bool_]:
        """Which rows belong to a phase ``[operators]``."""
        return np.asarray(self.phase == PHASES.index(phase))

    def take(self, rows: NDArray[np.bool_]) -> OpTable:
        """The table of some of the operators."""
        arrays = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "ops"}
        return OpTable(ops=tuple(op for op, taken in zip(self.ops, rows, strict=True) if taken), **arrays)

    def total(self, column: Array, rows: NDArray[np.bool_] | slice = slice(None)) -> Array:
        """Sum of a column over all runs of the given rows ``[sizes]``."""
        return np.asarray((column[rows] * self.repeat[rows, None]).sum(axis=0))


def tabulate(ops: Sequence[Op], sizes: Mapping[str, Any]) -> OpTable:
    """Fill the table for symbol sizes that are numbers or equally long arrays."""
    length = max((len(np.atleast_1d(v)) for v in sizes.values()), default=1)
    as_float = Sizes({name: np.asarray(value, dtype=np.float64) for name, value in sizes.items()})
    columns = {name: np.ones((len(ops), length)) for name in ("batch", "m", "n", "k")}
    costs = {name: np.zeros((len(ops), length)) for name in ("macs", "flops", "read", "write", "weight")}
    for row, op in enumerate(ops):
        cost = work(op, as_float)
        costs["macs"][row], costs["read"][row], costs["write"][row] = cost.macs, cost.read_bytes, cost.write_bytes
        costs["flops"][row] = cost.flops * causal_frac(op, as_float) if op.kind is Kind.ATTENTION else cost.flops
        costs["weight"][row] = sum(tensor_bytes(t, as_float) for t in op.inputs if t.role is Role.PARAMETER)
        for name, value in _products(op, as_float).items():
            columns[name][row] = value
    return OpTable(
        ops=tuple(ops),
        kind=np.array([KINDS.index(op.kind) for op in ops], dtype=np.int64),
        phase=np.array([PHASES.index(op.phase) for op in ops], dtype=np.int64),
        number_format=np.array([FORMATS.index(str(op.attrs.get("format", "fp32"))) for op in ops], dtype=np.int64),
        repeat=np.array([float(op.repeat) for op in ops]),
        launches=np.array([_launches(op) for op in ops]),
        macs=costs["macs"],
        flops=costs["flops"],
        read_bytes=costs["read"],
        write_bytes=costs["write"],
        weight_bytes=np.minimum(costs["weight"], costs["read"]),
        **columns,
    )


def _products(op: Op, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Matrix products of one run; attention has one row block for each head and query."""
    if op.kind is Kind.ATTENTION:
        batch_heads, s, t, d, _ = attention_shape(op, sizes)
        return {"batch": batch_heads, "m": s, "n": t, "k": d}
    shape = gemm_shape(op, sizes)
    return {} if shape is None else {"batch": shape.batch, "m": shape.m, "n": shape.n, "k": shape.k}


def _launches(op: Op) -> float:
    """Kernels that one run starts; allocations start none."""
    if "launches" in op.attrs:
        return float(op.attrs["launches"])  # type: ignore[arg-type]
    return 0.0 if op.name.startswith(("aten.empty", "aten.new_empty")) else 1.0
