"""Whether a step fits a device, how sure that is, and the largest micro-batch that does.

The spread is that of ln(peak): what the fits and misses of timm's batch column leave open, wider where the
device's usable memory is taken from its label.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Calibration, Constants
from rigwise.estimate.interval import fit_probability, quantiles
from rigwise.estimate.memory import Memory, WorkingSet, capacity_bytes, peak_memory, working_sets
from rigwise.facts.device import Device
from rigwise.graph.op import SameOps
from rigwise.workload.case import Case
from rigwise.workload.lower import Work

#: Micro-batches that are looked at first: two to each power of two.
_LADDER: tuple[int, ...] = tuple(sorted({n for e in range(18) for n in (2**e, 3 * 2**e)}))


_INDEX_LIMIT = 2.0**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whose memory: the work of one replica at given sizes, on a device.

    Attributes:
        work: Lowered operators and parameters.
        sizes: Symbol sizes of one micro-batch.
        case: Resolved.
        device: The device.
    """

    work: Work
    sizes: Mapping[str, int]
    case: Case
    device: Device


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceMemory:
    """The answer.

    Attributes:
        peak_bytes: By quantile, as the driver reports it.
        allocated_bytes: The tensors alone.
        terms_bytes: What stands at the fullest moment, by name.
        capacity_bytes: What a program can have.
        fits: Whether the median does, and PyTorch can index every tensor.
        fit_probability: Chance that the true peak does.
        largest_micro_batch: Without accumulation; 0 if not even one sample fits, None without a batch.
    """

    peak_bytes: Mapping[str, float]
    allocated_bytes: float
    terms_bytes: Mapping[str, float]
    capacity_bytes: float
    fits: bool
    fit_probability: float
    largest_micro_batch: int | None


def device_memory(question: Question, calibration: Calibration) -> DeviceMemory:
    """Peak memory of a question's step, beside what its device has.

    Source: ``estimate.memory``.
    """
    constants, case = calibration.memory_terms, question.case
    (held,) = working_sets(question.work.step_ops, question.sizes, case)
    memory = _peak(question, held, case, constants)
    peak, capacity = float(memory.peak_bytes[0]), capacity_bytes(question.device, constants)
    spread = math.hypot(memory_spread(case, calibration), label_spread(question.device, calibration))
    chance = float(fit_probability(peak, capacity, spread))
    countable = bool(can_index(held, case, constants))
    return DeviceMemory(
        peak_bytes={name: float(value) for name, value in quantiles(peak, spread).items()},
        allocated_bytes=float(memory.allocated_bytes[0]),
        terms_bytes={name: float(value[0]) for name, value in memory.terms.items()},
        capacity_bytes=capacity,
        fits=peak <= capacity and countable,
        fit_probability=chance if countable else chance * constants.index_fit_frac,
        largest_micro_batch=largest_micro_batch(question, capacity, constants),
    )


def memory_spread(case: Case, calibration: Calibration) -> float:
    """Standard deviation of ln(peak memory), on a device whose usable memory is known.

    Source: the ``[memory_terms]`` table.
    """
    constants = calibration.memory_terms
    return float(constants.training_spread if case.task == "train" else constants.inference_spread)


def label_spread(device: Device, calibration: Calibration) -> float:
    """The part of the spread that comes from knowing the device's memory from its label alone.

    Source: the ``[memory_terms]`` table.
    """
    known = device.usable_bytes is not None or device.id in calibration.devices
    return 0.0 if known else float(calibration.memory_terms.label_spread)


def can_index(held: WorkingSet, case: Case, constants: Constants) -> Any:
    """Whether PyTorch can count the elements of every tensor, one answer or one for each machine.

    Before 1.13 several kernels had 32-bit indices, and the depthwise convolution on NCHW data has them still.

    Source: timm's batch column. Of 111 runs of 1.11 and 1.12 that had the memory for a tensor of 2**31 elements, 91
    failed, and 55 of 64 later ones with such a depthwise convolution on NCHW data; 3 of 44 on NHWC data did.
    """
    if case.runtime != "torch" or case.mode != "eager":
        return True
    version = [int(part) for part in (case.software.torch or "").split(".")[:2] if part.isdigit()]
    if [1] <= version < constants.old_index_before:
        return held.largest_elements < _INDEX_LIMIT
    return True if case.layout != "nchw" else held.depthwise_elements < _INDEX_LIMIT


def largest_micro_batch(question: Question, capacity: float, constants: Constants) -> int | None:
    """The most samples in one forward pass whose median peak is within the capacity, without accumulation.

    The peak is the largest of sums that grow with the batch, so between two batches of which one fits it lies
    under the straight line between theirs: the line's answer is never too large, and rarely too small by more
    than one in a hundred.

    >>> _LADDER[:6]
    (1, 2, 3, 4, 6, 8)
    """
    if "b" not in question.sizes:
        return None
    case = question.case
    others = tuple((k, v) for k, v in sorted(question.sizes.items()) if k != "b")
    alike = replace(case, device="", batch=1, host=None, parallel=replace(case.parallel, data=1, micro_batch=1, zero=0))
    sets = _sets(SameOps(question.work.step_ops), others, alike)
    asked = replace(alike, parallel=replace(case.parallel, micro_batch=1))
    known = _known_peaks(_HeldWork(question.work, constants), others, asked, is_cpu=question.device.kind == "cpu")

    def peak(index: int) -> float:
        if index not in known:
            batch = _LADDER[index]
            parallel = replace(case.parallel, micro_batch=batch)
            at = replace(case, batch=batch * (case.parallel.data or 1), parallel=parallel)
            able = can_index(sets[index], case, constants)
            known[index] = float(_peak(question, sets[index], at, constants).peak_bytes[0]) if able else math.inf
        return known[index]

    index = bisect_right(range(len(_LADDER)), capacity, key=peak) - 1
    if index < 0:
        return 0
    low = _LADDER[index]
    if index == len(_LADDER) - 1:
        return low
    low_bytes, high_bytes = peak(index), peak(index + 1)
    return low + int((capacity - low_bytes) / (high_bytes - low_bytes) * (_LADDER[index + 1] - low) + 1e-9)


@dataclass(frozen=True, slots=True, eq=False)
class _HeldWork:
    """Work and constants as a cache key: known by identity."""

    work: Work
    constants: Constants

    def __hash__(self) -> int:
        return hash((id(self.work), id(self.constants)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _HeldWork) and self.work is other.work and self.constants is other.constants


@lru_cache(maxsize=256)
def _known_peaks(
    holder: _HeldWork, others: tuple[tuple[str, int], ...], case: Case, *, is_cpu: bool
) -> dict[int, float]:
    """Peaks by rung of the ladder, as they become known."""
    del holder, others, case, is_cpu
    return {}


@lru_cache(maxsize=256)
def _sets(holder: SameOps, others: tuple[tuple[str, int], ...], case: Case) -> list[WorkingSet]:
    """What the operators hold at every micro-batch of the ladder."""
    columns = {name: np.full(len(_LADDER), float(value)) for name, value in others}
    return working_sets(holder.ops, {**columns, "b": np.array(_LADDER, dtype=np.float64)}, case)


def _peak(question: Question, held: WorkingSet, case: Case, constants: Constants) -> Memory:
    data = np.array([float(case.parallel.data or 1)])
    return peak_memory(question.work, held, case, data, constants, is_cpu=question.device.kind == "cpu")
