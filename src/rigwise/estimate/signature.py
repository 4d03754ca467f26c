"""How a workload spends its work: a name-free descriptor, by which measured workloads are compared.

Workloads that spend their work alike err alike: what a network of a family shows to be wrong in the laws holds for
its relatives, and for itself on another device.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rigwise.graph.op import Kind
from rigwise.workload.table import KINDS, OpTable

#: FLOPs that count as much as a byte, near the ridge point of current devices.
_FLOP_PER_BYTE = 150.0
_INTENSITY_WEIGHT, _SIZE_WEIGHT = 0.2, 0.1

#: Kinds, with convolutions by their groups (one, several, or thin ones that stream) and windows.
CLASSES = (
    *(str(kind) for kind in KINDS),
    *(f"conv_{groups}_{window}" for groups in ("dense", "grouped", "thin") for window in ("1", "3", "wide")),
    "intensity",
    "size",
)


def signature(table: OpTable, size: int = 0) -> dict[str, float]:
    """Root shares of work by class of operator, arithmetic intensity and size of a kernel, at one of the table's sizes.

    Distances between such descriptors are Hellinger distances of the shares. They depend on no device.

    Source: the ridge point weighs arithmetic against traffic; weights were chosen on timm tables.
    """
    moved = (table.read_bytes + table.write_bytes)[:, size] * table.repeat
    flops = table.flops[:, size] * table.repeat
    work = flops / _FLOP_PER_BYTE + moved
    shares = np.bincount(_classes(table), work, minlength=len(CLASSES)) / max(work.sum(), 1.0)
    found = {name: float(np.sqrt(share)) for name, share in zip(CLASSES, shares, strict=True) if share > 1e-4}
    launches = max(float((table.repeat * table.launches).sum()), 1.0)
    found["intensity"] = _INTENSITY_WEIGHT * float(np.log(max(flops.sum(), 1.0) / max(moved.sum(), 1.0)))
    found["size"] = _SIZE_WEIGHT * float(np.log(max(work.sum() / launches, 1.0)))
    return {name: round(value, 3) for name, value in found.items()}


def _classes(table: OpTable) -> NDArray[np.int64]:
    """Index into ``CLASSES`` of each operator."""
    groups, channels = table.batch[:, 0], np.minimum(table.n[:, 0], table.k[:, 0])
    kind_of_groups = np.where(groups <= 1, 0, np.where(channels < 16, 2, 1))
    kind_of_window = np.where(table.window <= 1, 0, np.where(table.window <= 9, 1, 2))
    conv = len(KINDS) + 3 * kind_of_groups + kind_of_window
    return np.asarray(np.where(table.kind == KINDS.index(Kind.CONV), conv, table.kind), dtype=np.int64)


def as_vector(of: dict[str, float]) -> NDArray[np.float64]:
    """A descriptor as numbers in the order of ``CLASSES``."""
    return np.array([of.get(name, 0.0) for name in CLASSES])
