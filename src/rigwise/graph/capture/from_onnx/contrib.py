"""Rules for operators of the domain ``com.microsoft``, which optimised and quantised files hold.

Source: "Contrib Operators" of the ONNX Runtime documentation, version 1.20.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from rigwise.graph.capture.from_onnx import elementwise as onnx_elementwise
from rigwise.graph.capture.from_onnx import layout as onnx_layout
from rigwise.graph.capture.from_onnx import matrix as onnx_matrix
from rigwise.graph.capture.from_onnx import pick as onnx_pick
from rigwise.graph.capture.from_onnx import quant as onnx_quant
from rigwise.graph.capture.from_onnx import reduce as onnx_reduce
from rigwise.graph.capture.from_onnx.elementwise import elementwise
from rigwise.graph.capture.from_onnx.matrix import attend, convolve, extended, gemm, heads, product, transposed
from rigwise.graph.capture.from_onnx.trace import Operand, Rule, Step
from rigwise.graph.capture.from_onnx.value import NeedsValueError, RuleError, Value
from rigwise.graph.op import Role


def _linear(step: Step, x: Value, w: Value, bias: Value | None) -> Value:
    """Rows times a weight with an addend."""
    return product(step, x, w, extra=[bias] if bias is not None else [])


# Attention.


def _flat(value: Value) -> Value:
    batch, count, rows, depth = value.shape
    return value.viewed((batch, rows, count * depth))


def _part(value: Value, width: int) -> Value:
    """Some of the columns of a product, read where they lie."""
    return value.viewed((*value.shape[:-1], width))


def _attention(step: Step) -> list[Value | None]:
    """Projections of queries, keys and values by one weight, then attention."""
    count = step.attr("num_heads", 0)
    return _packed(step, _linear(step, step[0], step[1], step.get(2)), count, step.get(3), step.get(4), step.get(5))


def _quantised_attention(step: Step) -> list[Value | None]:
    step.weight(step[1])
    qkv = _linear(step, step[0], step[1], step[2])
    qkv.dtype = "float32"
    return _packed(step, qkv, step.attr("num_heads", 0), step.get(5), step.get(8), None)


def _packed(
    step: Step, qkv: Value, count: int, mask: Value | None, past: Value | None, bias: Value | None
) -> list[Value | None]:
    width = qkv.shape[-1]
    sizes = step.attr("qkv_hidden_sizes") or [width // 3] * 3
    q, k, v = (heads(_part(qkv, size), count) for size in sizes)
    present = None
    if past is not None:
        before = past.viewed(past.shape[1:])
        k, v = extended(step, before, k), extended(step, before, v)
        present = step.result((2, *k.shape), k.dtype)
        present.producer = k.producer
    causal = bool(step.attr("unidirectional", 0))
    extra = bias if bias is not None else mask
    return [_flat(attend(step, (q, k, v), extra, causal=causal)), present]


def _multi_head(step: Step) -> list[Value | None]:
    count = step.attr("num_heads", 0)
    q = step[0]
    if q.rank == 5:  # [batch, rows, heads, 3, depth]
        batch, rows, _, _, depth = q.shape
        k = v = q = q.viewed((batch, count, rows, depth))
    else:
        k = q if step.get(1) is None else step[1]
        v = k if step.get(2) is None else step[2]
        if k.rank == 5:
            batch, rows, _, _, depth = k.shape
            k = v = k.viewed((batch, count, rows, depth))
        q, k, v = heads(q, count), heads(k, count), heads(v, count)
    k, v = extended(step, step.get(6), k), extended(step, step.get(7), v)
    extra = step.get(5) if step.get(5) is not None else step.get(4)
    out = attend(step, (q, k, v), extra, causal=bool(step.attr("unidirectional", 0)))
    return [_flat(out), k, v]


def _grouped_query(step: Step) -> list[Value | None]:
    count, kv_count = step.attr("num_heads", 0), step.attr("kv_num_heads", 0)
    if step.get(1) is None:
        depth = step[0].shape[-1] // (count + 2 * kv_count)
        parts: Sequence[Value] = [_part(step[0], depth * n) for n in (count, kv_count, kv_count)]
    else:
        parts = [step[0], step[1], step[2]]
    q, k, v = (heads(part, n) for part, n in zip(parts, (count, kv_count, kv_count), strict=True))
    k, v = extended(step, step.get(3), k), extended(step, step.get(4), v)
    window = max(0, step.attr("local_window_size", -1))
    return [_flat(attend(step, (q, k, v), None, causal=True, window=window)), k, v]


# Norms with what stands before them.


def _skip_norm(name: str, weights: slice) -> Rule:
    """Sum of an operand and a skip connection, normalised, in one kernel; the sum may be a result too."""

    def rule(step: Step) -> list[Value | None]:
        out, total = (step.result(step[0].shape, step[0].dtype) for _ in range(2))
        operands = [step[0], step[1], *(v for v in step.inputs[weights] if v is not None)]
        wanted = len(step.node.outputs) > 3 and bool(step.node.outputs[3])
        step.emit(name, operands, [out, total] if wanted else [out])
        return [out, None, None, total]

    return rule


def _embed_norm(step: Step) -> list[Value | None]:
    """Sum of two or three embeddings, normalised."""
    ids, words = step[0], step[2]
    shape = (*ids.shape, words.shape[1])
    parts = []
    for table in (words, step[3], step.get(4)):
        if table is not None:
            parts.append(step.result(shape, words.dtype))
            step.emit("aten.embedding", [table, ids], [parts[-1]])
    out = step.result(shape, words.dtype)
    step.emit("aten.native_layer_norm", [*parts, step[5], step[6]], [out])
    return [out, step.result((shape[0],), "int32"), parts[0]]


# Products.


def _fused_matmul(step: Step) -> Value:
    a, b = step[0], step[1]
    return product(step, transposed(a) if step.attr("transA", 0) else a, transposed(b) if step.attr("transB", 0) else b)


def _matmul_bits(step: Step) -> Value:
    """A product with a weight of few bits, packed; ``[n, k]`` is its shape without the packing."""
    x, packed, k, n = step[0], step[1], step.attr("K", 0), step.attr("N", 0)
    if k < 1 or n < 1 or x.shape[-1] != k:
        raise RuleError(f"it multiplies {list(x.shape)} by a weight of {k} x {n}")
    step.weight(packed, (n, k))
    stored = "int4" if step.attr("bits", 4) <= 4 else "int8"
    weight = Value((k, n), x.dtype, None, constant=True, role=Role.PARAMETER, stored=stored)
    bias = step.get(5)
    return product(step, x, weight, extra=[bias] if bias is not None else [])


def _integer_to_float(step: Step, bias: int) -> Value:
    step.weight(step[1])
    extra = step.get(bias)
    return product(step, step[0], step[1], "float32", extra=[extra] if extra is not None else [])


def _dynamic_matmul(step: Step) -> Value:
    """The operand is quantised on the way, at a pass over it."""
    small = step.result(step[0].shape, "uint8")
    step.emit("aten.quantize_per_tensor", [step[0]], [small])
    step.weight(step[1])
    extra = [step[4]] if step.get(4) is not None else []
    return product(step, small, step[1], "float32", extra=extra)


def _q_gemm(step: Step) -> Value:
    step.weight(step[3])
    a, b = step[0], step[3]
    a = transposed(a) if step.attr("transA", 0) else a
    b = transposed(b) if step.attr("transB", 0) else b
    dtype = step[8].dtype if step.get(8) is not None else "float32"
    return product(step, a, b, dtype, extra=[step[6]] if step.get(6) is not None else [])


def _fused_conv(step: Step) -> Value:
    return convolve(step, step[0], step[1], step.get(2))


# Elementwise.


def _quantised(name: str, operands: Sequence[int]) -> Rule:
    """Arithmetic on 8-bit numbers; scales and zero points move nothing worth counting."""
    return lambda step: elementwise(step, name, [step[i] for i in operands], step[0].dtype)


def _with_bias(name: str) -> Rule:
    return lambda step: elementwise(step, name, [v for v in step.inputs if v is not None], step[0].dtype)


def _q_concat(step: Step) -> Value:
    """Output scale and zero point, then tensor, scale and zero point of each part."""
    parts = step.inputs[2::3]
    return _one(onnx_layout.RULES["Concat"](Step(step.tracer, step.node, list(parts), step.scope)))


def _q_pool(step: Step) -> Value:
    """Pooling whose scales stand behind the image."""
    alone = Step(step.tracer, step.node, [step[0]], step.scope)
    name = "GlobalAveragePool" if "Global" in step.node.op else "AveragePool"
    return _one(onnx_reduce.RULES[name](alone))


def _q_softmax(step: Step) -> Value:
    out = step.result(step[0].shape, step[0].dtype)
    step.emit("aten._softmax", [step[0]], [out], dim=step.attr("axis", -1))
    return out


def _glu(step: Step) -> Value:
    width = step[0].shape[-1] // 2
    out = step.result((*step[0].shape[:-1], width), step[0].dtype)
    step.emit("aten.glu", [step[0]], [out])
    return out


def _group_norm(step: Step) -> list[Value | None]:
    out = step.result(step[0].shape, step[0].dtype)
    step.emit("aten.native_group_norm", [v for v in step.inputs if v is not None], [out])
    return [out, out]


# Mixture of experts.


def _experts(step: Step) -> Value:
    """Every row goes to ``k`` experts, spread evenly."""
    x, first, second = step[0], step[2], step[5 if step.node.op == "QMoE" else 4]
    k, experts = step.attr("k", 1), first.shape[0]
    hidden = x.shape[-1]
    rows = math.prod(x.shape[:-1]) * k
    inner = first.elements // (experts * hidden) * (2 if step.attr("expert_weight_bits", 8) == 4 else 1)
    step.note("experts get equally many tokens")
    for weight in (first, second):
        step.weight(weight)
    up, out = step.result((rows, inner), x.dtype), step.result((rows, hidden), x.dtype)
    operands: list[Operand] = [(x, (rows, hidden)), (first, (experts, hidden, inner))]
    step.emit("aten._grouped_mm", operands, [up], groups=experts)
    acted = step.result((rows, inner), x.dtype)
    step.emit("aten.gelu", [up], [acted])
    narrow = second.elements // (experts * hidden)
    step.emit("aten._grouped_mm", [(acted, (rows, narrow)), (second, (experts, narrow, hidden))], [out], groups=experts)
    whole = step.result(x.shape, x.dtype)
    step.emit("aten.index_add", [whole, out], [whole])
    return whole


def _one(made: Value | Sequence[Value | None]) -> Value:
    return made if isinstance(made, Value) else next(v for v in made if v is not None)


def _dequantised_rows(step: Step) -> Value:
    """Rows of a table that is stored in few bits."""
    table, indices = step[0], step[1]
    bits = step.attr("bits", 4)
    columns = table.shape[-1] * (8 // bits if table.dtype == "uint8" else 1)
    step.weight(table, (*table.shape[:-1], columns))
    out = step.result((*indices.shape, columns), "float32")
    step.emit("aten.embedding", [table, indices], [out])
    return out


def _rejected(step: Step) -> Value:
    raise NeedsValueError("how many tokens it generates")


RULES: dict[str, Rule] = {
    "Attention": _attention, "QAttention": _quantised_attention, "MultiHeadAttention": _multi_head,
    "GroupQueryAttention": _grouped_query,
    "SkipLayerNormalization": _skip_norm("aten.native_layer_norm", slice(2, 5)),
    "SkipSimplifiedLayerNormalization": _skip_norm("aten._fused_rms_norm", slice(2, 4)),
    "SkipGroupNorm": _group_norm, "GroupNorm": _group_norm, "EmbedLayerNormalization": _embed_norm,
    "RotaryEmbedding": onnx_matrix.rotary, "FusedMatMul": _fused_matmul, "TransposeMatMul": _fused_matmul,
    "FusedGemm": lambda step: gemm(step, step.get(2)), "GemmFastGelu": lambda step: gemm(step, step.get(2)),
    "FusedConv": _fused_conv, "MatMulNBits": _matmul_bits, "MatMulBnb4": _matmul_bits,
    "MatMulIntegerToFloat": lambda step: _integer_to_float(step, 6), "DynamicQuantizeMatMul": _dynamic_matmul,
    "MatMulInteger16": onnx_matrix.RULES["MatMulInteger"], "QGemm": _q_gemm, "MoE": _experts, "QMoE": _experts,
    "BiasGelu": _with_bias("gelu"), "FastGelu": _with_bias("gelu"), "Gelu": _with_bias("gelu"),
    "QuickGelu": _with_bias("silu"), "BiasAdd": _with_bias("add"), "BiasSplitGelu": _glu,
    "QLinearAdd": _quantised("add", (0, 3)), "QLinearMul": _quantised("mul", (0, 3)),
    "QLinearSigmoid": _quantised("sigmoid", (0,)), "QLinearLeakyRelu": _quantised("leaky_relu", (0,)),
    "QLinearWhere": lambda step: elementwise(step, "where", [step[0], step[1], step[4]], step[1].dtype),
    "QLinearConcat": _q_concat, "QLinearGlobalAveragePool": _q_pool, "QLinearAveragePool": _q_pool,
    "QLinearSoftmax": _q_softmax, "QLinearConv": onnx_quant.RULES["QLinearConv"],
    "QuantizeLinear": onnx_quant.RULES["QuantizeLinear"], "DequantizeLinear": onnx_quant.dequantize,
    "GatherBlockQuantized": _dequantised_rows, "Range": onnx_pick.RULES["Range"], "Trilu": onnx_layout.RULES["Trilu"],
    "Inverse": onnx_elementwise.like_first, "Pad": onnx_layout.RULES["Pad"],
    "Unique": onnx_pick.RULES["Unique"], "Rfft": onnx_elementwise.like_first,
    **dict.fromkeys(("BeamSearch", "GreedySearch", "Sampling"), _rejected),
}  # fmt: skip
