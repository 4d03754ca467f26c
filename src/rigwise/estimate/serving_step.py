"""One kind of step of a replica, lowered for every recorded number of sequences.

Source: the operators are ``workload.lower``'s, the floor is ``estimate.bound``'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rigwise.errors import UnsupportedError
from rigwise.estimate.bound import LeastWork, cache_bytes, ceiling_flops_per_s, floor_s, least_work
from rigwise.estimate.calibration import load_calibration
from rigwise.estimate.memory import WorkingSet, peak_memory, working_sets
from rigwise.estimate.predict import lowering_of
from rigwise.estimate.serving import DEFAULT_RUNTIME
from rigwise.estimate.sharding import check_supported, shard
from rigwise.graph.graph import Model
from rigwise.machine.machine import Machine
from rigwise.workload.case import Case, Parallel
from rigwise.workload.lower import Work, lower_model
from rigwise.workload.resolve import Resolved, resolve
from rigwise.workload.serving_load import Serving
from rigwise.workload.table import FORMATS, Array, OpTable, tabulate

#: Numbers of sequences for which a server records its launches; no server takes more at one time.
RECORDED = (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """One way to serve: which model in which format on how many devices together.

    Attributes:
        model: The captured model.
        load: Lengths of prompt and output; its rate does not matter here.
        dtype: As in ``Case``.
        tensor: Devices of a replica.
    """

    model: Model
    load: Serving
    dtype: str
    tensor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One kind of step of a replica, lowered.

    Attributes:
        resolved: Its case, with a batch of one.
        work: Its operators.
        batches: Numbers of sequences that are asked about ``[sizes]``.
        whole, table: Operators of the replica, and of one of its devices; columns over ``batches``.
        held: What they hold ``[sizes]``.
        formats: Number formats that they compute in.
        one, other: The least work for one sequence and for two.
        weight_bytes: Weights of one device.
    """

    resolved: Resolved
    work: Work
    batches: Array
    whole: OpTable
    table: OpTable
    held: tuple[WorkingSet, ...]
    formats: frozenset[str]
    one: LeastWork
    other: LeastWork
    weight_bytes: float

    def least(self, batches: Any) -> LeastWork:
        """What a step of that many sequences cannot do without: every part grows by as much with each."""
        first, second = self.one, self.other
        grow = batches - 1.0
        flops = {
            name: value + grow * (second.flops_by_format[name] - value) for name, value in first.flops_by_format.items()
        }
        traffic = first.compulsory_bytes + grow * (second.compulsory_bytes - first.compulsory_bytes)
        return LeastWork(flops_by_format=flops, compulsory_bytes=traffic)

    def floor_s(self, machine: Machine, batches: Any) -> Any:
        """Floor of a step ``[sizes]``.

        Source: ``estimate.bound``.
        """
        least, device, tensor = self.least(batches), machine.device, self.resolved.case.parallel.tensor
        ceilings = {name: ceiling_flops_per_s(device, name) for name in least.flops_by_format}
        return floor_s(least, ceilings, (cache_bytes(device), device.memory_bytes_per_s or np.inf), tensor)


def case_of(replica: Replica, task: str, batch: int = 1) -> Case:
    """The case of a replica's step, without a device: ``predict`` answers the same."""
    load, symbols = replica.load, replica.model.graph(task).symbols
    return Case(
        model=replica.model.name,
        device="",
        count=replica.tensor,
        task=task,
        batch=batch,
        seq=load.prompt_tokens if task == "prefill" and "s" in symbols else None,
        context=load.mean_context if task == "decode" and "c" in symbols else None,
        dtype=replica.dtype,
        mode="compiled",
        parallel=Parallel(tensor=replica.tensor),
        runtime=DEFAULT_RUNTIME,
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Carries a model, which has no hash, into the cache: a model is known by identity."""

    replica: Replica
    task: str
    best_format: str

    def _key(self) -> tuple[object, ...]:
        replica, load = self.replica, self.replica.load
        lengths = (load.prompt_tokens, load.output_tokens)
        return (id(replica.model), lengths, replica.dtype, replica.tensor, self.task, self.best_format)

    def __hash__(self) -> int:
        return hash(self._key())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self._key() == other._key()


def lowered(replica: Replica, task: str, best_format: str) -> Step:
    """A replica's step; equal questions are answered from a cache.

    Args:
        replica: What is served.
        task: ``decode``, of every recorded number of sequences, or ``prefill``, of one prompt.
        best_format: What int8 and int4 weights are multiplied in.

    Raises:
        UnsupportedError: The model takes one sequence only, or tensor parallelism is not modelled for it.
    """
    return _lower(_Question(replica, task, best_format))


@lru_cache(maxsize=128)
def _lower(question: _Question) -> Step:
    replica, task, best_format = question.replica, question.task, question.best_format
    resolved = resolve(case_of(replica, task), replica.model)
    if "b" not in resolved.sizes:
        raise UnsupportedError(f"{replica.model.name} has one batch only, so it cannot serve several requests")
    work = lower_model(replica.model, lowering_of(resolved.case, best_format))
    batches = np.array(RECORDED if task == "decode" else (1,), dtype=np.float64)
    whole = tabulate(work.step_ops, {**resolved.sizes, "b": batches})
    check_supported(resolved.case, whole)
    longest = {**resolved.sizes, "c": replica.load.longest_context} if "c" in resolved.sizes else resolved.sizes
    one, other = (tabulate(work.step_ops, {**resolved.sizes, "b": b}) for b in (1, 2))
    held = tuple(working_sets(work.step_ops, {**longest, "b": batches}, resolved.case))
    standing = peak_memory(work, held[0], resolved.case, np.ones(1), load_calibration().memory_terms)
    return Step(
        resolved=resolved,
        work=work,
        batches=batches,
        whole=whole,
        table=shard(whole, resolved.case.parallel),
        held=held,
        formats=frozenset(FORMATS[f] for f in set(whole.number_format[whole.flops[:, 0] > 0].tolist())),
        one=least_work(one, work, 1, 1, "none"),
        other=least_work(other, work, 1, 1, "none"),
        weight_bytes=float(standing.terms["weights"][0]),
    )
