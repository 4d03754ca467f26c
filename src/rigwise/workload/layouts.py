"""How the devices of a machine can share one step: every layout worth a look.

What is left out, and why nothing better is among it:

- models with attention outside equal blocks: neither tensors nor stages of theirs divide evenly;
- tensor groups over several nodes, of sizes that are no power of two or do not divide the heads:
  no framework offers them at a speed that the estimate would be right about;
- stages of unequal layers, and, in training, fewer micro-batches than stages: one always idles;
- interleaved stages where micro-batches do not fill whole rounds of them, for which no schedule exists;
- ZeRO 2 and 3 under a pipeline: its schedule keeps gradients and weights of a stage from micro-batch to micro-batch;
- ZeRO 1 without accumulation: ZeRO 2 then sends the same and keeps less;
- context groups that leave a device less than 4096 tokens of a sequence.

Source: Narayanan et al., "Efficient Large-Scale Language Model Training on GPU Clusters", 2021,
sections 2.2 and 3; Rajbhandari et al., "ZeRO", 2020, section 7; documentation of DeepSpeed's pipeline engine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from rigwise.graph.graph import Model
from rigwise.graph.op import Kind, Phase
from rigwise.workload.case import Case

#: Fewest tokens of a sequence that are left to a device.
LEAST_TOKENS = 4096
#: Pieces of a pipeline that one device may have.
VIRTUAL = (1, 2, 4)
_EXPERTS = "aten._grouped_mm"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Along what a step can be divided.

    Attributes:
        batch: Samples.
        is_training: Whether there are gradients.
        heads: Number that divides the heads of every attention; 1 where the model is no stack of equal blocks.
        layers: Equal blocks; 0 where it is none.
        experts: Number that divides the experts of every layer; 1 for none.
        tokens: Of one sequence; 1 where a step takes one, or where there is none.
    """

    batch: int
    is_training: bool
    heads: int = 1
    layers: int = 0
    experts: int = 1
    tokens: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """One way to share a step, but for the micro-batch and recompute.

    Attributes:
        data, tensor, pipeline, expert, context, sequence, zero, virtual: As in ``Parallel``.
    """

    data: int
    tensor: int = 1
    pipeline: int = 1
    expert: int = 1
    context: int = 1
    sequence: bool = False
    zero: int = 0
    virtual: int = 1


def sides_of(model: Model, case: Case) -> Sides:
    """Along what the step of a resolved case can be divided."""
    forward = [op for op in model.graph(case.task).ops if op.phase is Phase.FORWARD]
    attention = [op for op in forward if op.kind is Kind.ATTENTION]
    layers = sum(op.repeat for op in attention) if all(op.repeat > 1 for op in attention) else 0
    heads = [h for op in attention if isinstance(h := op.inputs[0].shape[1], int)]
    experts = [n for op in forward if op.name == _EXPERTS and isinstance(n := op.attrs.get("groups", 1), int)]
    return Sides(
        batch=case.batch,
        is_training=case.task == "train",
        heads=math.gcd(*heads) if layers else 1,
        layers=layers,
        experts=math.gcd(*experts) or 1,
        tokens=(case.seq or 1) if case.task != "decode" else 1,
    )


@lru_cache(maxsize=4096)
def groups(sides: Sides, count: int, nodes: int) -> tuple[Layout, ...]:
    """Sizes of the groups: tensor, pipeline and context, and the data-parallel replicas that are left.

    >>> stack = Sides(batch=64, is_training=True, heads=32, layers=32)
    >>> [(g.data, g.tensor, g.pipeline) for g in groups(stack, 4, 2)]
    [(4, 1, 1), (2, 1, 2), (1, 1, 4), (2, 2, 1), (1, 2, 2)]
    """
    return tuple(
        Layout(data=data, tensor=tensor, pipeline=pipeline, context=context)
        for tensor in _powers(count // nodes)
        if sides.heads % tensor == 0 and (count // nodes) % tensor == 0
        for context in _powers(sides.tokens // LEAST_TOKENS if sides.layers else 1)
        if sides.tokens % context == 0
        for pipeline in _divisors(sides.layers)
        if count % (tensor * context * pipeline) == 0
        and sides.batch % (data := count // (tensor * context * pipeline)) == 0
    )


def layouts(sides: Sides, group: Layout, micro_batch: int) -> Iterator[Layout]:
    """Ways to run groups of these sizes with micro-batches of that size."""
    micro_steps = sides.batch // (group.data * micro_batch)
    if sides.is_training and micro_steps < group.pipeline:
        return
    for sequence in (False, True) if group.tensor > 1 and sides.tokens % group.tensor == 0 else (False,):
        for expert in (e for e in _powers(sides.experts) if sides.experts % e == 0 and group.data % e == 0):
            for virtual in _virtual(sides, group.pipeline, micro_steps):
                for zero in _zero_stages(sides, group, micro_steps):
                    yield Layout(
                        data=group.data,
                        tensor=group.tensor,
                        pipeline=group.pipeline,
                        expert=expert,
                        context=group.context,
                        sequence=sequence,
                        zero=zero,
                        virtual=virtual,
                    )


def _virtual(sides: Sides, pipeline: int, micro_steps: int) -> tuple[int, ...]:
    if pipeline == 1 or not sides.is_training or micro_steps % pipeline:
        return (1,)
    return tuple(v for v in VIRTUAL if sides.layers % (pipeline * v) == 0)


def _zero_stages(sides: Sides, group: Layout, micro_steps: int) -> tuple[int, ...]:
    if group.data == 1 or not sides.is_training:
        return (0,)
    if group.pipeline > 1:
        return (0, 1)
    return (0, 1, 2, 3) if micro_steps > 1 else (0, 2, 3)


@lru_cache(maxsize=1024)
def _powers(most: int) -> tuple[int, ...]:
    """Powers of two up to a number, 1 at least."""
    return tuple(2**k for k in range(max(most, 1).bit_length()))


@lru_cache(maxsize=1024)
def _divisors(number: int) -> tuple[int, ...]:
    return tuple(n for n in range(1, number + 1) if number % n == 0) or (1,)
