"""Peak memory of one device, term by term, as its driver would report it.

The step is walked operator by operator (``graph.liveness``): at each, what stands beside weights, optimizer
state, buffers and the batch are the results still to be read, those kept for the backward pass, autocast's
copies of weights, and the gradients made so far. The optimizer's update is one more moment: nothing but
gradients and its temporaries. The fullest moment is reported, with its terms.

The caching allocator keeps more than that: the next result seldom has the size of the last one freed. By how
much is one fitted share of what comes and goes for training, one for inference; ``estimate.replay`` shows where
it comes from. Convolutions in 16 bits on NCHW data run on copies in the other layout.

Source: ``graph.liveness``, ``estimate.standing``, ``estimate.replay``; Korthikanti et al. 2022, section 4.2, for
tensor and pipeline parallelism.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from rigwise.estimate.calibration import Constants
from rigwise.estimate.standing import Standing
from rigwise.facts.device import Device
from rigwise.graph.count import tensor_bytes
from rigwise.graph.dim import Sizes
from rigwise.graph.liveness import Held, Lifetimes, alive_bytes, lifetimes
from rigwise.graph.op import Kind, Op, Role, SameOps, Tensor
from rigwise.workload.case import Case
from rigwise.workload.lower import Work
from rigwise.workload.table import Array

_PAGED = frozenset({"vllm", "tensorrt-llm"})

#: Terms that are told where they are nothing too: gradients are not made yet when activations are at their fullest.
_ALWAYS_SHOWN = frozenset({"weights", "gradients"})

#: Tokens of one page of a paged cache. Source: Kwon et al., "PagedAttention", 2023, section 7.2.
PAGE_TOKENS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Peak memory of the fullest device.

    Attributes:
        peak_bytes: As the driver reports it ``[machines]``.
        allocated_bytes: The tensors alone: no context, no workspace, no rounding ``[machines]``.
        terms: What stands at the fullest moment, by name ``[machines]`` each; they add up to the peak.
    """

    peak_bytes: Array
    allocated_bytes: Array
    terms: dict[str, Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkingSet:
    """What the operators of one micro-batch hold on one device, at one size, or at one for each machine.

    Attributes:
        moments: Bytes by ``Held`` at the operators that can be the fullest, however gradients are sharded
            ``[moments, len(Held)]``, or ``[machines, moments, len(Held)]``; those of one unsharded replica.
        accumulating: The fullest moment while gradients of an earlier micro-batch stand: the gradient of
            one parameter in the place of all ``[len(Held)]``, or ``[machines, len(Held)]``.
        input_bytes: The batch.
        cache_bytes: Keys, values and states kept for later tokens.
        largest_elements, depthwise_elements: Of the largest result, and the largest of a depthwise convolution.
        convolves: Whether there are more convolutions than matrix products.
    """

    moments: Array
    accumulating: Array
    input_bytes: Any
    cache_bytes: Any
    largest_elements: Any
    depthwise_elements: Any
    convolves: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """What of a list of operators does not depend on sizes."""

    lives: Lifetimes
    inputs: tuple[Tensor, ...]
    depthwise: tuple[Tensor, ...]
    convolves: bool


@lru_cache(maxsize=256)
def _prepared(holder: SameOps, frames: bool) -> _Prepared:
    kinds = [op.kind for op in holder.ops]
    inputs = {t: None for op in holder.ops for t in op.inputs if t.role is Role.INPUT and t.producer is None}
    return _Prepared(
        lives=lifetimes(holder.ops, frames=frames),
        inputs=tuple(inputs),
        depthwise=tuple({t: None for op in holder.ops if _is_depthwise(op) for t in (op.inputs[0], op.outputs[0])}),
        convolves=kinds.count(Kind.CONV) > kinds.count(Kind.GEMM),
    )


def _is_depthwise(op: Op) -> bool:
    groups = op.attrs.get("groups", 1)
    return op.name == "aten.convolution" and groups != 1 and op.inputs[0].shape[1] == groups


def alive_over_step(ops: tuple[Op, ...], sizes: Mapping[str, Any], case: Case) -> tuple[Lifetimes, Array, Array]:
    """Lifetimes, bytes of each result ``[results, sizes]`` and bytes alive, as ``alive_bytes`` gives them.

    Source: ``graph.liveness``.
    """
    lives, held, alive = _alive_unpiped(ops, sizes, case)
    alive[:, Held.SAVED] *= in_flight(case)
    return lives, held, alive


def _alive_unpiped(ops: tuple[Op, ...], sizes: Mapping[str, Any], case: Case) -> tuple[Lifetimes, Array, Array]:
    lives = _prepared(SameOps(ops), case.mode == "eager").lives
    held = lives.result_bytes(sizes) * _sharded(lives, ops, case)
    return lives, held, alive_bytes(lives, held)


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What the operators of one micro-batch hold over a step, whatever the pipeline.

    Attributes:
        alive: Bytes by ``Held`` ``[len(Held), moments, sizes]``.
        own: Gradient of the parameter at work ``[moments, sizes]``.
        input_bytes, cache_bytes, largest_elements, depthwise_elements: As in ``WorkingSet`` ``[sizes]``.
        convolves: As there.
    """

    alive: Array
    own: Array
    input_bytes: Array
    cache_bytes: Array
    largest_elements: Array
    depthwise_elements: Array
    convolves: bool

    def at(self, size: int, flying: float) -> WorkingSet:
        """The moments of one size that can be the fullest: no other has more of both gradients and the rest.

        Args:
            size: Which.
            flying: Micro-batches in flight, see ``in_flight``.
        """
        alive, own = self.alive[:, :, size].copy(), self.own[:, size]
        if not alive.shape[1]:
            alive, own = np.zeros((len(Held), 1)), np.zeros(1)
        alive[Held.SAVED] *= flying
        rest = alive[: Held.GRADIENT].sum(axis=0)
        order = np.lexsort((-rest, -alive[Held.GRADIENT]))
        ahead = np.maximum.accumulate(rest[order])
        kept = order[np.r_[True, ahead[1:] > ahead[:-1]]]
        fullest = int(np.argmax(rest + own))
        accumulating = alive[:, fullest].copy()
        accumulating[Held.GRADIENT] = own[fullest]
        return WorkingSet(
            moments=alive[:, kept].T.copy(),
            accumulating=accumulating,
            input_bytes=float(self.input_bytes[size]),
            cache_bytes=float(self.cache_bytes[size]),
            largest_elements=float(self.largest_elements[size]),
            depthwise_elements=float(self.depthwise_elements[size]),
            convolves=self.convolves,
        )


def course_of(ops: tuple[Op, ...], sizes: Mapping[str, Any], case: Case) -> Course:
    """What operators hold at sizes that are numbers or equally long arrays.

    Source: ``graph.liveness``.
    """
    at = sizes if isinstance(sizes, Sizes) else Sizes({n: np.asarray(v, dtype=np.float64) for n, v in sizes.items()})
    prepared = _prepared(SameOps(ops), case.mode == "eager")
    lives, held, alive = _alive_unpiped(ops, at, case)
    largest = (held / lives.element_bytes[:, None]).max(axis=0, initial=0.0)
    depthwise = np.zeros_like(largest)
    for tensor in prepared.depthwise:
        depthwise = np.maximum(depthwise, tensor.elements(at))
    own = np.zeros(alive.shape[2:])
    gradients = lives.lives["held"] == Held.GRADIENT
    np.add.at(own, lives.lives["maker"][gradients], held[gradients])
    return Course(
        alive=alive.transpose(1, 0, 2, 3).reshape(len(Held), 2 * alive.shape[2], -1),
        own=np.concatenate([own, own]),
        input_bytes=_columns(_inputs_bytes(prepared.inputs, at), alive),
        cache_bytes=_columns(_cache_bytes(ops, at, case), alive),
        largest_elements=largest,
        depthwise_elements=depthwise,
        convolves=prepared.convolves,
    )


def working_sets(ops: tuple[Op, ...], sizes: Mapping[str, Any], case: Case) -> list[WorkingSet]:
    """The same size by size, for the pipeline of the case."""
    course = course_of(ops, sizes, case)
    return [course.at(size, float(in_flight(case))) for size in range(course.alive.shape[2])]


def _columns(value: Any, alive: Array) -> Array:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), alive.shape[3:])


def _sharded(lives: Lifetimes, ops: Sequence[Op], case: Case) -> Array:
    """Part of each result that one member of a tensor- and context-parallel group holds ``[results, 1]``.

    What enters and leaves a layer is whole in every member, unless the sequence is sharded.

    Source: Korthikanti et al. 2022, section 4.2.
    """
    tensor, tokens_frac = case.parallel.tensor, 1.0 / case.parallel.context
    if tensor == 1:
        return np.full((len(lives.tensors), 1), tokens_frac)
    if case.parallel.sequence:
        return np.full((len(lives.tensors), 1), tokens_frac / tensor)
    makers = [ops[index] for index in lives.lives["maker"]]
    whole = (Kind.NORM, Kind.REDUCE, Kind.ELEMENTWISE)
    stream = {t.shape[-1] for op in makers if op.kind is Kind.NORM and op.repeat > 1 for t in op.outputs[:1] if t.shape}
    part = [
        1.0 if op.kind in whole and t.shape and t.shape[-1] in stream else 1.0 / tensor
        for op, t in zip(makers, lives.tensors, strict=True)
    ]
    return np.array(part)[:, None] * tokens_frac


def in_flight(case: Case) -> Any:
    """Micro-batches whose activations the first pipeline stage holds, of those one device alone would.

    A stage has one of ``p`` parts of the layers and up to ``p`` micro-batches of them; interleaving adds
    ``(p - 1) / (p v)``.

    Source: Korthikanti et al. 2022, section 4.2.3.
    """
    parallel, pipeline = case.parallel, case.parallel.pipeline
    data, micro_batch = (1 if size is None else size for size in (parallel.data, parallel.micro_batch))
    micro_steps = case.batch / (data * micro_batch)
    virtual = parallel.virtual if parallel.schedule == "interleaved" else 1
    extra = np.where(virtual == 1, 0.0, (pipeline - 1) / (pipeline * virtual))
    return np.minimum(pipeline, micro_steps) / pipeline * (1.0 + extra)


def _inputs_bytes(inputs: Sequence[Tensor], sizes: Mapping[str, Any]) -> Any:
    """The batch as it came: each input once, in the widest format that is read."""
    widest: dict[Any, Any] = {}
    for t in inputs:
        key = (float(np.max(t.elements(sizes))), t.is_floating)
        widest[key] = np.maximum(widest.get(key, 0.0), tensor_bytes(t, sizes))
    return sum(widest.values(), 0.0)


def _cache_bytes(ops: Sequence[Op], sizes: Mapping[str, Any], case: Case) -> Any:
    """Keys and values, or states, of all layers; in whole pages where the runtime pages them."""
    if case.task not in ("prefill", "decode"):
        return 0.0
    at = dict(sizes)
    if case.runtime in _PAGED and case.task == "decode" and "c" in at:  # with the new token
        at["c"] = np.ceil((at["c"] + 1) / PAGE_TOKENS) * PAGE_TOKENS - 1
    elif case.runtime in _PAGED and "s" in at:
        at["s"] = np.ceil(at["s"] / PAGE_TOKENS) * PAGE_TOKENS
    total: Any = 0.0
    for op in ops:
        if case.task == "prefill" and op.kind is Kind.ATTENTION:
            total = total + op.repeat * sum(tensor_bytes(t, at) for t in op.inputs[1:3])
        elif case.task == "decode":
            total = total + op.repeat * sum((tensor_bytes(t, at) for t in op.inputs if t.role is Role.CACHE), 0.0)
    return total / (case.parallel.tensor * case.parallel.pipeline)


def peak_memory(
    work: Work, held: WorkingSet, case: Case, data: Array, constants: Constants, *, is_cpu: bool = False
) -> Memory:
    """Peak memory of one device under the case's strategy.

    Args:
        work: Lowered operators and parameters.
        held: What one micro-batch holds.
        case: Resolved case: optimizer, parallelism, task.
        data: Data-parallel replicas, over which ZeRO shards ``[machines]``.
        constants: The ``[memory_terms]`` table.
        is_cpu: No driver context, no caching allocator, and an update that goes parameter by parameter.

    Source: see the module.
    """
    data = np.asarray(data, dtype=np.float64) + np.zeros(1)
    sharded = Standing(work=work, case=case, data=data)
    standing = {"weights": sharded.weights(), "optimizer": sharded.state(), "buffers": work.buffer_bytes + 0 * data}
    standing |= {"batch": held.input_bytes + 0 * data, "kv_cache": held.cache_bytes + 0 * data}
    standing["gradient_buckets"] = sharded.buckets()
    moments = [_in_step(held, sharded)]
    if case.task == "train":
        moments.append({"gradients": sharded.gradients(), "update_temporary": sharded.temporary(is_cpu=is_cpu)})
    totals = np.stack([sum(terms.values(), np.zeros_like(data)) for terms in moments])
    fullest = totals.argmax(axis=0)
    terms = dict(standing)
    for index, moment in enumerate(moments):
        for name, value in moment.items():
            terms[name] = terms.get(name, 0.0) + np.where(fullest == index, value, 0.0)
    allocated = sum(standing.values(), np.zeros_like(data)) + totals.max(axis=0)
    if not is_cpu:
        several = data * case.parallel.tensor * case.parallel.pipeline > 1
        terms["workspace"] = 0 * data + (
            constants.conv_workspace_bytes if held.convolves else constants.workspace_bytes
        )
        passing = allocated - sum(standing.values(), np.zeros_like(data))
        terms["allocator"] = passing * _kept_frac(work, held, case, constants)
        terms["context"] = constants.context_bytes + constants.collective_bytes * several
    terms = {name: value for name, value in terms.items() if value.any() or name in _ALWAYS_SHOWN}
    return Memory(
        peak_bytes=np.asarray(sum(terms.values(), np.zeros_like(data))), allocated_bytes=allocated, terms=terms
    )


def _in_step(held: WorkingSet, sharded: Standing) -> dict[str, Array]:
    """The fullest moment of forward and backward pass on each machine."""
    case, data = sharded.case, sharded.data
    scale = np.ones((len(data), len(Held)))
    scale[:, [Held.GRADIENT, Held.WEIGHT_COPY]] /= np.reshape(case.parallel.pipeline, (-1, 1))
    # what ZeRO 3 gathers comes in 16 bits
    scale[:, Held.WEIGHT_COPY] *= ~(np.greater_equal(case.parallel.zero, 3) & (data > 1))
    moments = held.moments * scale[:, None]
    whole = sharded.gradient_part()
    totals = moments[..., : Held.GRADIENT].sum(axis=2) + moments[..., Held.GRADIENT] * whole[:, None]
    found = moments[np.arange(len(data)), totals.argmax(axis=1)]
    found[:, Held.GRADIENT] *= whole
    if case.task == "train":
        again = case.batch > data * (1 if case.parallel.micro_batch is None else case.parallel.micro_batch)
        later = held.accumulating * scale
        later[:, Held.GRADIENT] += sharded.gradients()
        found = np.where(again[:, None], later, found)
    names = {Held.WORKING: "transient", Held.SAVED: "activations", Held.WEIGHT_COPY: "autocast_weights"}
    names[Held.GRADIENT] = "gradients"
    return {name: found[:, index] for index, name in names.items()} | {"gathered": sharded.gathered()}


def _kept_frac(work: Work, held: WorkingSet, case: Case, constants: Constants) -> float:
    """What the allocator keeps beyond what comes and goes, as a share of it.

    Source: the ``[memory_terms]`` table.
    """
    if case.task == "train":
        return float(constants.training_kept_frac)
    copies = held.convolves and case.layout == "nchw" and work.precision.compute in ("fp16", "bf16")
    return float(constants.inference_kept_frac + (constants.nchw_kept_frac if copies else 0.0))


def capacity_bytes(device: Device, constants: Constants) -> float:
    """What a program can really have: the driver's figure, or the usual share of the label.

    Data-centre cards with GDDR keep the bits of their error correction in the same memory.

    Source: the ``[memory_terms]`` table.
    """
    label = device.memory_bytes or 0.0
    if device.kind == "cpu":
        return label
    if device.segment == "datacenter" and device.memory_kind.startswith("GDDR"):
        label *= 1.0 - constants.inline_ecc_frac
    return device.usable_bytes or label * constants.usable_frac
