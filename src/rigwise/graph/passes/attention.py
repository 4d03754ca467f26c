"""Attention as frameworks ran it before fused kernels: two products and a softmax between.

``math`` attention writes the score matrix to memory and reads it back several times, which
is what an eager model of before 2023, or one that asks for attention weights, does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rigwise.graph.op import Kind, Op, Role, Tensor
from rigwise.graph.passes.rewrite import local, rewrite


def expand_attention(ops: Sequence[Op]) -> tuple[Op, ...]:
    """Replace every whole attention operator by its unfused form."""

    def expand(_: int, op: Op) -> Sequence[Op]:
        if op.name == "rigwise.attention":
            return _forward(op)
        if op.name == "rigwise.attention_backward":
            return _backward(op)
        return (op,)

    return rewrite(ops, expand)


def _heads_flat(tensor: Tensor, heads: Tensor, *, transposed: bool = False) -> Tensor:
    """``[b, h, s, d]`` as one batch of matrices; the batch axis is left as two axes."""
    b, h = heads.shape[:2]
    rows, columns = tensor.shape[2:]
    return replace(tensor, shape=(b, h, columns, rows) if transposed else (b, h, rows, columns))


def _op(like: Op, name: str, kind: Kind, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...]) -> Op:
    return Op(
        name=name,
        kind=kind,
        phase=like.phase,
        inputs=inputs,
        outputs=outputs,
        attrs={},
        module=like.module,
        repeat=like.repeat,
    )


def _forward(op: Op) -> list[Op]:
    """Scores = q k^T; scale; mask; softmax; dropout; weighted sum of v."""
    q, k, v, *mask = op.inputs
    out = op.outputs[0]
    scores = Tensor((*q.shape[:3], k.shape[2]), q.dtype)
    saves = any(t.saved for t in op.outputs)
    group = [_op(op, "aten.bmm", Kind.GEMM, (q, _heads_flat(k, q, transposed=True)), (scores,))]

    def then(name: str, kind: Kind, extra: tuple[Tensor, ...] = (), *, saved: bool = False) -> None:
        previous = replace(scores, producer=local(len(group) - 1))
        group.append(_op(op, name, kind, (previous, *extra), (replace(scores, saved=saved),)))

    then("aten.mul", Kind.ELEMENTWISE)
    if mask or op.attrs.get("causal"):
        then("aten.add", Kind.ELEMENTWISE, tuple(mask))
    then("aten._softmax", Kind.SOFTMAX, saved=saves)
    if op.attrs.get("dropout"):
        then("aten.native_dropout", Kind.ELEMENTWISE, (Tensor(scores.shape, "bool"),), saved=saves)
    weights = replace(scores, producer=local(len(group) - 1))
    group.append(_op(op, "aten.bmm", Kind.GEMM, (weights, _heads_flat(v, q)), (replace(out, saved=False),)))
    group.append(_op(op, "aten.clone", Kind.COPY, (replace(out, producer=local(len(group) - 1)),), (out,)))
    return group


def _backward(op: Op) -> list[Op]:
    """DV and dP from the output's gradient, softmax backward, then dQ and dK."""
    grad, q, k, v = op.inputs[:4]
    scores = Tensor((*q.shape[:3], k.shape[2]), q.dtype)
    columns = replace(scores, shape=(*q.shape[:2], k.shape[2], q.shape[2]))
    d_v = replace(_heads_flat(v, q), role=Role.ACTIVATION, producer=None)
    group = [
        _op(op, "aten.bmm", Kind.GEMM, (columns, grad), (d_v,)),
        _op(op, "aten.bmm", Kind.GEMM, (grad, _heads_flat(v, q, transposed=True)), (scores,)),
    ]
    if op.attrs.get("dropout"):
        mask = Tensor(scores.shape, "bool")
        previous = replace(scores, producer=local(len(group) - 1))
        group.append(_op(op, "aten.native_dropout_backward", Kind.ELEMENTWISE, (previous, mask), (scores,)))
    for name, kind, extra in (
        ("aten._softmax_backward_data", Kind.SOFTMAX, (scores,)),
        ("aten.mul", Kind.ELEMENTWISE, ()),
    ):
        previous = replace(scores, producer=local(len(group) - 1))
        group.append(_op(op, name, kind, (previous, *extra), (scores,)))
    d_scores = replace(scores, producer=local(len(group) - 1))
    d_columns = replace(columns, producer=local(len(group) - 1))
    plain = {"role": Role.ACTIVATION, "producer": None}
    group.append(_op(op, "aten.bmm", Kind.GEMM, (d_columns, q), (replace(_heads_flat(k, q), **plain),)))  # type: ignore[arg-type]
    group.append(_op(op, "aten.bmm", Kind.GEMM, (d_scores, _heads_flat(k, q)), (replace(q, **plain),)))  # type: ignore[arg-type]
    return group
