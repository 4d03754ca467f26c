"""Low-rank adapters: the base weights are frozen, two thin matrices beside each are trained.

For a linear layer ``y = x W`` of ``[k, n]`` the adapter adds ``(x A) B`` with A ``[k, r]`` and
B ``[r, n]``. The backward pass no longer computes the gradient of W, but still the gradient
of x, and those of A and B. QLoRA stores W in 4 bits and unpacks it before every use.

Source: Hu et al., "LoRA", 2021, section 4; Dettmers et al., "QLoRA", 2023, section 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rigwise.graph.graph import Parameter
from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.passes.rewrite import local, rewrite

_LINEAR = ("aten.mm", "aten.addmm")
_NOT_ADAPTED = ("head", "embed", "wte", "classifier")


def is_adapted(op: Op) -> bool:
    """Whether an operator is a linear layer inside the repeated blocks, which is what gets an adapter."""
    has_weight = op.name in _LINEAR and op.inputs[1].role is Role.PARAMETER
    return has_weight and op.repeat > 1 and not any(word in op.module for word in _NOT_ADAPTED)


def adapt(ops: Sequence[Op], rank: int, *, quantised: bool) -> tuple[Op, ...]:
    """The training graph with adapters of ``rank`` and frozen base weights.

    Args:
        ops: A captured training graph, before its precision is lowered.
        rank: Inner size of the adapters.
        quantised: Base weights of adapted layers stand in 4 bits (QLoRA).
    """

    def expand(_: int, op: Op) -> Sequence[Op]:
        if op.phase is Phase.FORWARD and is_adapted(op):
            return _adapted_forward(op, rank, quantised=quantised)
        if op.phase is Phase.BACKWARD:
            if any(t.role is Role.GRADIENT for t in op.outputs):
                return _without_weight_gradient(op)
            if is_adapted(op):
                return _adapted_backward(op, rank, quantised=quantised)
        return (op,)

    return rewrite(ops, expand)


def adapter_parameters(ops: Sequence[Op], rank: int) -> tuple[Parameter, ...]:
    """The trained parameters: two thin matrices for each adapted layer."""
    found = []
    for op in ops:
        if op.phase is Phase.FORWARD and is_adapted(op):
            k, n = (int(size) for size in op.inputs[1].shape[-2:])  # type: ignore[arg-type]
            found.append(Parameter(name=f"{op.module}.lora_a", shape=(k, rank), count=op.repeat))
            found.append(Parameter(name=f"{op.module}.lora_b", shape=(rank, n), count=op.repeat))
    return tuple(found)


def adapted_elements(ops: Sequence[Op]) -> int:
    """Elements of the frozen weights that adapters stand beside (4-bit ones under QLoRA)."""
    total = 0
    for op in ops:
        if op.phase is Phase.FORWARD and is_adapted(op):
            k, n = (int(size) for size in op.inputs[1].shape[-2:])  # type: ignore[arg-type]
            total += k * n * op.repeat
    return total


def _without_weight_gradient(op: Op) -> tuple[Op, ...]:
    """Nothing is left of an operator that made only the gradient of a frozen weight."""
    kept = tuple(t for t in op.outputs if t.role is not Role.GRADIENT)
    return (replace(op, outputs=kept),) if kept else ()


def _linear(like: Op, a: Tensor, b: Tensor, out: Tensor) -> Op:
    return Op(
        name="aten.mm", kind=Kind.GEMM, phase=like.phase, inputs=(a, b), outputs=(out,),
        module=f"{like.module}.lora", repeat=like.repeat,
    )  # fmt: skip


def _unpacked(op: Op) -> Op:
    """Read a 4-bit weight, write it in the compute format."""
    weight = op.inputs[1]
    return Op(
        name="rigwise.dequantise", kind=Kind.COPY, phase=op.phase, inputs=(replace(weight, dtype="int4"),),
        outputs=(replace(weight, role=Role.ACTIVATION),), module=op.module, repeat=op.repeat,
    )  # fmt: skip


def _added(like: Op, total: Tensor, places: tuple[int, int]) -> Op:
    """The sum of what two operators of the same replacement made."""
    return Op(
        name="aten.add", kind=Kind.ELEMENTWISE, phase=like.phase,
        inputs=tuple(replace(total, producer=local(place)) for place in places), outputs=(total,),
        module=like.module, repeat=like.repeat,
    )  # fmt: skip


def _adapted_forward(op: Op, rank: int, *, quantised: bool) -> list[Op]:
    """``op`` is y = x W; beside it (x A) B, added to y."""
    x, weight, y = op.inputs[0], op.inputs[1], op.outputs[0]
    k, n = weight.shape[-2:]
    a, b = Tensor((k, rank), role=Role.PARAMETER), Tensor((rank, n), role=Role.PARAMETER)
    head = [_unpacked(op)] if quantised else []
    first = len(head)
    thin = Tensor((*x.shape[:-1], rank), saved=True)
    return [
        *head,
        op,
        _linear(op, x, a, thin),
        _linear(op, replace(thin, producer=local(first + 1)), b, replace(y, saved=False)),
        _added(op, y, (first, first + 2)),
    ]


def _adapted_backward(op: Op, rank: int, *, quantised: bool) -> list[Op]:
    """``op`` is dX = dY W^T; beside it dB, d(xA), dA and the adapter's share of dX."""
    dy, weight, dx = op.inputs[0], op.inputs[1], op.outputs[0]
    n, k = weight.shape[-2:]
    tokens = dy.shape[-2]
    a, b = Tensor((rank, k), role=Role.PARAMETER), Tensor((n, rank), role=Role.PARAMETER)
    d_a, d_b = Tensor((k, rank), role=Role.GRADIENT), Tensor((rank, n), role=Role.GRADIENT)
    head = [_unpacked(op)] if quantised else []
    first = len(head)
    thin = Tensor((tokens, rank), producer=local(first + 2))
    return [
        *head,
        op,
        _linear(op, Tensor((rank, tokens)), dy, d_b),
        _linear(op, dy, b, Tensor((tokens, rank))),
        _linear(op, Tensor((k, tokens)), thin, d_a),
        _linear(op, thin, a, dx),
        _added(op, dx, (first, first + 4)),
    ]
