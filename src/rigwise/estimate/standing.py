"""What stays on a device from step to step: weights, gradients and optimizer state, and how they are sharded.

ZeRO 1 divides optimizer state over the data-parallel group, 2 gradients too, 3 weights too; FSDP gathers the
unit at work and the next one, and holds what stands outside the blocks whole. Plain data parallelism sends
gradients from buckets that are a second copy of them.

Source: Rajbhandari et al., "ZeRO", 2020, figure 1; Zhao et al., "PyTorch FSDP", 2023, section 3.3; Li et al.,
"PyTorch Distributed", 2020, section 4.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.estimate.sharding import kept_frac
from rigwise.graph.count import BYTES_OF_DTYPE
from rigwise.graph.passes.optimizer import STATE_ARRAYS
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import Array

_HAS_TEMPORARY = frozenset({"adam", "adamw"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What weights, gradients and optimizer state take on one device ``[machines]``."""

    work: Work
    case: Case
    data: Array

    @property
    def _trained_bytes(self) -> float:
        parallel = self.case.parallel
        storage = BYTES_OF_DTYPE[self.work.precision.storage]
        return self.work.trained_elements * storage / (parallel.tensor * parallel.pipeline)

    def _part(self, stage: int) -> Array:
        """Of what ZeRO shards, a part for each rank; else all but the experts of other ranks."""
        parallel = self.case.parallel
        whole = np.full_like(self.data, kept_frac(self.work.step_ops, parallel))
        return np.where(np.greater_equal(parallel.zero, stage), 1.0 / (self.data * parallel.context), whole)

    def weights(self) -> Array:
        """Trained weights, and frozen ones in their own format."""
        work, parallel = self.work, self.case.parallel
        frozen = work.frozen_elements * BYTES_OF_DTYPE[work.precision.weights]
        frozen += work.packed_elements * BYTES_OF_DTYPE["int4"]
        return (self._trained_bytes + frozen / (parallel.tensor * parallel.pipeline)) * self._part(3)

    def state(self) -> Array:
        """Moments that the optimizer keeps."""
        return self._trained_bytes * STATE_ARRAYS[self.case.optimizer or "none"] * self._part(1)

    def gradient_part(self) -> Array:
        """Part of a gradient that stays on a device."""
        return self._part(2)

    def gradients(self) -> Array:
        """All gradients, once the backward pass is over."""
        return self._trained_bytes * self._part(2)

    def buckets(self) -> Array:
        """The copy of the gradients that plain data parallelism sends.

        Source: PyTorch's reference of ``DistributedDataParallel``: ``gradient_as_bucket_view`` is off.
        """
        sends = (self.case.task == "train") * np.less_equal(self.case.parallel.zero, 1)
        kept = kept_frac(self.work.step_ops, self.case.parallel)
        return np.where(self.data * self.case.parallel.context > 1, self._trained_bytes * sends * kept, 0.0)

    def temporary(self, *, is_cpu: bool) -> Array:
        """Arrays that an update makes: one over all it updates, or two of the largest parameter on a CPU."""
        if self.case.optimizer not in _HAS_TEMPORARY:
            return np.zeros_like(self.data)
        if is_cpu:
            largest = max((p.elements / p.count for p in self.work.trained), default=0.0)
            return 2.0 * largest * BYTES_OF_DTYPE[self.work.precision.storage] + 0 * self.data
        return self._trained_bytes * self._part(1)

    def gathered(self) -> Array:
        """Whole weights that ZeRO 3 holds: those outside the blocks, the block at work and the next one.

        ZeRO 2 and 3 hold the whole gradient of the block at work until it is reduced.

        Source: Zhao et al., "PyTorch FSDP", 2023, sections 3.3 and 4.2.
        """
        work, parallel = self.work, self.case.parallel
        sent = BYTES_OF_DTYPE[work.precision.autocast or work.precision.storage]
        block = work.unit_elements * self._kept_of_block()
        elements = np.where(np.greater_equal(parallel.zero, 3), work.outside_elements + 2.0 * block, 0.0)
        if self.case.task == "train":
            whole = np.maximum(block, work.outside_elements)
            elements = elements + np.where(np.greater_equal(parallel.zero, 2), whole, 0.0)
        return np.where(self.data > 1, elements * sent / (parallel.tensor * parallel.pipeline), 0.0)

    def _kept_of_block(self) -> Any:
        """Share of a block that one rank gathers: experts of other ranks stay there, and all experts are in blocks."""
        work = self.work
        total = work.trained_elements + work.frozen_elements + work.packed_elements
        elsewhere = 1.0 - kept_frac(work.step_ops, self.case.parallel)
        return 1.0 - elsewhere * total / max(total - work.outside_elements, 1.0)
