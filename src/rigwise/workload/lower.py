"""From a captured graph to the operators that one micro-batch of a case really runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache

from rigwise.graph.graph import Model, Parameter
from rigwise.graph.op import Op, Phase
from rigwise.graph.passes.adapter import adapt, adapted_elements, adapter_parameters
from rigwise.graph.passes.attention import expand_attention
from rigwise.graph.passes.fuse import fuse
from rigwise.graph.passes.optimizer import optimizer_ops
from rigwise.graph.passes.precision import Precision, lower, precision_of
from rigwise.graph.passes.recompute import recompute
from rigwise.workload.case import Parallel


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a plan may change about the work without changing its result.

    Attributes:
        dtype: As in ``Case``.
        layout: nchw or nhwc.
        mode: eager or compiled.
        micro_batch: Samples of one forward pass of one replica.
        recompute: none, selective or full.
        zero: ZeRO stage.
        tensor, pipeline, expert, context, sequence: As in ``Parallel``.
        virtual: Pieces of a pipeline that each device has; more than one take turns, interleaved.
    """

    dtype: str
    layout: str = "nchw"
    mode: str = "eager"
    micro_batch: int = 1
    recompute: str = "none"
    zero: int = 0
    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    context: int = 1
    sequence: bool = False
    virtual: int = 1

    @property
    def members(self) -> int:
        """Devices of one data-parallel replica."""
        return self.tensor * self.pipeline * self.context

    def parallel(self, count: int) -> Parallel:
        """How ``count`` devices share a step."""
        return Parallel(
            data=count // self.members,
            tensor=self.tensor,
            pipeline=self.pipeline,
            expert=self.expert,
            context=self.context,
            sequence=self.sequence,
            zero=self.zero,
            micro_batch=self.micro_batch,
            schedule="interleaved" if self.virtual > 1 else "1f1b",
            virtual=self.virtual,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowering:
    """Everything that shapes the operators, apart from sizes and the device.

    Attributes:
        task, dtype, mode, recompute, method, lora_rank, optimizer: As in ``Case``.
        attention: ``flash`` (whole) or ``math`` (unfused).
        best_format: Format in which int8 and int4 weights are multiplied.
        fast_norm: As in ``Software``.
    """

    task: str
    dtype: str
    mode: str = "eager"
    recompute: str = "none"
    method: str = "full"
    lora_rank: int = 16
    optimizer: str = "none"
    attention: str = "flash"
    best_format: str = "bf16"
    fast_norm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The operators of one step and the parameters behind them.

    Attributes:
        step_ops: Forward and backward of one micro-batch.
        update_ops: The optimizer step, once for each global batch.
        precision: Formats of weights, activations and arithmetic.
        trained: Parameters that get gradients and optimizer state.
        frozen_elements: Parameters that do not, in the weight format.
        packed_elements: Frozen parameters held in 4 bits (QLoRA).
        unit_elements: Largest block, which ZeRO 3 gathers at once.
        outside_elements: Parameters outside the blocks, which it gathers as one.
        buffer_bytes: Persistent state that is no parameter.
        trained_elements: Elements of all trained parameters.
    """

    step_ops: tuple[Op, ...]
    update_ops: tuple[Op, ...]
    precision: Precision
    trained: tuple[Parameter, ...]
    frozen_elements: float
    packed_elements: float
    unit_elements: float = 0.0
    outside_elements: float = 0.0
    buffer_bytes: float = 0.0
    trained_elements: float = field(init=False)

    def __post_init__(self) -> None:
        """Sum once what every part of an estimate asks for."""
        object.__setattr__(self, "trained_elements", float(sum(p.elements for p in self.trained)))


@dataclass(frozen=True, slots=True, eq=False)
class _Question:
    """Carries a model, which has no hash, into the cache: a model is known by identity."""

    model: Model
    lowering: Lowering

    def __hash__(self) -> int:
        return hash((id(self.model), self.lowering))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self.model is other.model and self.lowering == other.lowering


def lower_model(model: Model, lowering: Lowering) -> Work:
    """The work of ``model`` under ``lowering``; equal questions are answered from a cache."""
    return _lowered(_Question(model, lowering))


@lru_cache(maxsize=256)
def _lowered(question: _Question) -> Work:
    """Fuse and recompute on top of what every mode and policy share."""
    lowering = question.lowering
    shared = replace(lowering, mode="eager", recompute="none")
    if shared == lowering:
        return _in_formats(question.model, lowering)
    work = _lowered(_Question(question.model, shared))
    ops = fuse(work.step_ops) if lowering.mode == "compiled" else work.step_ops
    return replace(work, step_ops=recompute(ops, lowering.recompute))


def _in_formats(model: Model, lowering: Lowering) -> Work:
    """Adapters, attention and number formats of an eager step without recompute."""
    ops = model.graph(lowering.task).ops
    training = lowering.task == "train"
    precision = replace(precision_of(lowering.dtype, lowering.best_format), fast_norm=lowering.fast_norm)
    trained = tuple(p for p in model.parameters if p.trainable) if training else ()
    packed = 0.0
    if training and lowering.method != "full":
        trained = adapter_parameters(ops, lowering.lora_rank)
        quantised = lowering.method == "qlora"
        packed = float(adapted_elements(ops)) if quantised else 0.0
        ops = adapt(ops, lowering.lora_rank, quantised=quantised)
    if lowering.attention == "math":
        ops = expand_attention(ops)
    ops = lower(ops, precision)
    full = lowering.method == "full"
    frozen = 0 if training and full else model.parameter_count
    frozen += sum(p.elements for p in model.parameters if not p.trainable) if training and full else 0
    unscale = lowering.dtype == "amp-fp16"
    update = optimizer_ops(trained, lowering.optimizer, precision.storage, unscale=unscale) if training else ()
    return Work(
        step_ops=tuple(op for op in ops if op.phase is not Phase.OPTIMIZER),
        update_ops=update,
        precision=precision,
        trained=trained,
        frozen_elements=frozen - packed,
        packed_elements=packed,
        unit_elements=_largest_block(model.parameters),
        outside_elements=float(sum(p.elements for p in model.parameters if p.count == 1)),
        buffer_bytes=model.buffer_bytes,
    )


def _largest_block(parameters: Iterable[Parameter]) -> float:
    """Elements of the largest block.

    Source: the usual wrapping of fully sharded data parallelism: each block, and the rest as one.
    """
    units: dict[str, float] = {}
    for parameter in parameters:
        if parameter.count > 1:
            stack = parameter.name.partition("*")[0]
            units[stack] = units.get(stack, 0.0) + parameter.elements / parameter.count
    return max(units.values(), default=0.0)
