"""Rules for operators that multiply matrices: products, convolutions, recurrent layers, attention.

Source: ONNX operator reference, opset 24, sections Conv, ConvTranspose, Gemm, MatMul, Einsum, LSTM, Attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rigwise.graph.capture.from_onnx.trace import Operand, Rule, Step
from rigwise.graph.capture.from_onnx.value import RuleError, Shape, Value, broadcast

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


# Products.


def product(step: Step, a: Value, b: Value, dtype: str = "", *, extra: Sequence[Value] = ()) -> Value:
    """A matrix product over stretched leading axes; against one matrix the rows of all are joined."""
    if not a.rank or not b.rank:
        raise RuleError("it multiplies a single number as a matrix")
    left = a.shape if a.rank > 1 else (1, *a.shape)
    right = b.shape if b.rank > 1 else (*b.shape, 1)
    (*lead_a, m, k), (*lead_b, k_b, n) = left, right
    if k != k_b:
        raise RuleError(f"it multiplies {list(a.shape)} by {list(b.shape)}")
    lead = broadcast(tuple(lead_a), tuple(lead_b)) if lead_a or lead_b else ()
    shape = (*lead, *((m,) if a.rank > 1 else ()), *((n,) if b.rank > 1 else ()))
    out = step.result(shape, dtype or a.dtype)
    if math.prod(lead_b) == 1:
        rows = math.prod(lead) * m
        operands: list[Operand] = [(a, (rows, k)), (b, (k, n)), *extra]
        step.emit("aten.addmm" if extra else "aten.mm", operands, [(out, (rows, n))])
    else:
        batch = math.prod(lead)
        operands = [(a, (batch, m, k)), (b, (batch, k, n)), *extra]
        step.emit("aten.baddbmm" if extra else "aten.bmm", operands, [(out, (batch, m, n))])
    return out


def _matmul(step: Step) -> Value:
    return product(step, step[0], step[1])


def _matmul_integer(step: Step) -> Value:
    step.weight(step[1])
    return product(step, step[0], step[1], "int32")


def transposed(value: Value) -> Value:
    """A matrix read by columns, which library kernels do at no cost."""
    shape = (*value.shape[:-2], value.shape[-1], value.shape[-2])
    return value.viewed(shape)


def gemm(step: Step, bias: Value | None, dtype: str = "") -> Value:
    """One product with an addend."""
    a, b = step[0], step[1]
    if a.rank != 2 or b.rank != 2:
        raise RuleError(f"it multiplies {list(a.shape)} by {list(b.shape)}, which are not both matrices")
    a = transposed(a) if step.attr("transA", 0) else a
    b = transposed(b) if step.attr("transB", 0) else b
    out = product(step, a, b, dtype, extra=[bias] if bias is not None else [])
    if bias is not None:
        broadcast(bias.shape, out.shape)
    return out


def _gemm(step: Step) -> Value:
    return gemm(step, step.get(2))


def _einsum(step: Step) -> Value:
    text = step.attr("equation", "").replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    values = [value for value in step.inputs if value is not None]
    if len(terms) != len(values):
        raise RuleError(f"its equation {text!r} names {len(terms)} operands of {len(values)}")
    terms = [_spelled(term, value.rank) for term, value in zip(terms, values, strict=True)]
    most = max((t for t in terms), key=lambda t: sum(c in _LETTERS for c in t))
    dots = "".join(c for c in most if c in _LETTERS)
    every = "".join(terms)
    once = "".join(sorted(c for c in set(every) if every.count(c) == 1))
    result = right.replace("...", dots) if arrow else dots + once
    sizes: dict[str, int] = {}
    for term, value in zip(terms, values, strict=True):
        for letter, size in zip(term, value.shape, strict=True):
            if sizes.setdefault(letter, size) != size and 1 not in (size, sizes[letter]):
                raise RuleError(f"in {text!r} the axis {letter!r} is {sizes[letter]} and {size}")
            sizes[letter] = max(size, sizes[letter])
    term, value = terms[0], values[0]
    for i, (other, operand) in enumerate(zip(terms[1:], values[1:], strict=True), start=2):
        later = set(result).union(*terms[i:])
        both = dict.fromkeys(term + other)
        kept = result if i == len(terms) else "".join(c for c in both if c in later)
        value, term = _pairwise(step, (term, value), (other, operand), kept, sizes), kept
    if len(terms) == 1:
        value = step.result([sizes[c] for c in result], values[0].dtype)
        name = "aten.sum" if set(term) - set(result) else "aten.permute_copy"
        step.emit(name, [values[0]], [value])
    return value


def _spelled(term: str, rank: int) -> str:
    """A term with a letter for every axis that its dots stand for."""
    count = rank - len(term.replace("...", ""))
    if "..." in term:
        return term.replace("...", _LETTERS[max(0, 26 - count) : 26])
    if count:
        raise RuleError(f"{term!r} does not name {rank} axes")
    return term


def _pairwise(step: Step, a: tuple[str, Value], b: tuple[str, Value], kept: str, sizes: dict[str, int]) -> Value:
    """Two operands of an einsum as one batched product."""

    def size(letters: set[str]) -> int:
        return math.prod(sizes[c] for c in letters)

    left, right, out = set(a[0]), set(b[0]), set(kept)
    batch, inner = size(left & right & out), size((left & right) - out)
    m, n = size((left - right) & out), size((right - left) & out)
    value = step.result([sizes[c] for c in kept], a[1].dtype)
    if inner == 1 and 1 in (m, n):
        step.emit("aten.mul", [a[1], b[1]], [value])
    elif batch == 1:
        step.emit("aten.mm", [(a[1], (m, inner)), (b[1], (inner, n))], [(value, (m, n))])
    else:
        step.emit("aten.bmm", [(a[1], (batch, m, inner)), (b[1], (batch, inner, n))], [(value, (batch, m, n))])
    return value


# Convolutions.


def window(step: Step, sides: Shape, kernel: Sequence[int], *, ceil: bool = False) -> tuple[Shape, dict[str, Any]]:
    """The sides after a window slides over an image, and the attributes that a graph keeps.

    Raises:
        RuleError: The window is larger than the image, or a stride is no number above 0.
    """
    count = len(kernel)
    if len(sides) != count or any(k < 1 for k in kernel):
        raise RuleError(f"a window of {list(kernel)} slides over an image of {list(sides)}")
    strides, dilations = step.attr("strides") or [1] * count, step.attr("dilations") or [1] * count
    if any(v < 1 for v in (*strides, *dilations)):
        raise RuleError(f"it has strides {strides} and dilations {dilations}")
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    auto, pads = step.attr("auto_pad", "NOTSET"), step.attr("pads") or [0] * 2 * count
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        out = [-(-side // stride) for side, stride in zip(sides, strides, strict=True)]
        total = [max(0, (o - 1) * s + r - side) for o, s, r, side in zip(out, strides, reach, sides, strict=True)]
        padding = tuple((r - 1) // 2 for r in reach)
    else:
        pads = [0] * 2 * count if auto == "VALID" else pads
        total = [pads[i] + pads[i + count] for i in range(count)]
        room = [side + t - r for side, t, r in zip(sides, total, reach, strict=True)]
        if any(r < 0 for r in room):
            raise RuleError(f"its window of {reach} is larger than the image of {list(sides)}")
        out = [(-(-r // s) if ceil else r // s) + 1 for r, s in zip(room, strides, strict=True)]
        if ceil:  # the last window starts inside the image or the padding before it
            starts = [(o - 1) * s for o, s in zip(out, strides, strict=True)]
            out = [o - (start >= sides[i] + pads[i]) for i, (o, start) in enumerate(zip(out, starts, strict=True))]
        padding = tuple(pads[:count])
    attrs = {"stride": tuple(strides), "padding": padding, "dilation": tuple(dilations)}
    return tuple(out), attrs


def convolve(step: Step, x: Value, w: Value, bias: Value | None, dtype: str = "") -> Value:
    """A convolution over any number of axes."""
    groups, kernel = step.attr("group", 1), step.attr("kernel_shape") or w.shape[2:]
    if x.rank < 3 or w.rank != x.rank or x.shape[1] != w.shape[1] * groups or w.shape[0] % groups:
        raise RuleError(f"a kernel of {list(w.shape)} in {groups} groups meets an image of {list(x.shape)}")
    if tuple(kernel) != w.shape[2:]:
        raise RuleError(f"its kernel_shape {list(kernel)} is not that of its weight, {list(w.shape)}")
    sides, attrs = window(step, x.shape[2:], w.shape[2:])
    out = step.result((x.shape[0], w.shape[0], *sides), dtype or x.dtype)
    operands = [x, w] if bias is None else [x, w, bias]
    step.emit("aten.convolution", operands, [out], groups=groups, transposed=False, **attrs)
    return out


def _conv(step: Step) -> Value:
    return convolve(step, step[0], step[1], step.get(2))


def _conv_integer(step: Step) -> Value:
    step.weight(step[1])
    return convolve(step, step[0], step[1], None, "int32")


def _conv_transpose(step: Step) -> Value:
    x, w, bias, groups = step[0], step[1], step.get(2), step.attr("group", 1)
    if x.rank < 3 or w.rank != x.rank or x.shape[1] != w.shape[0] or w.shape[0] % groups:
        raise RuleError(f"a kernel of {list(w.shape)} in {groups} groups meets an image of {list(x.shape)}")
    kernel, sides = w.shape[2:], x.shape[2:]
    count = len(kernel)
    strides, dilations = step.attr("strides") or [1] * count, step.attr("dilations") or [1] * count
    extra, pads = step.attr("output_padding") or [0] * count, step.attr("pads") or [0] * 2 * count
    out = [
        s * (side - 1) + e + (k - 1) * d + 1 - pads[i] - pads[i + count]
        for i, (s, side, e, k, d) in enumerate(zip(strides, sides, extra, kernel, dilations, strict=True))
    ]
    if step.attr("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER"):
        out = [side * s for side, s in zip(sides, strides, strict=True)]
    out = (step.attr("output_shape") or out)[-count:]
    result = step.result((x.shape[0], w.shape[1] * groups, *out), x.dtype)
    attrs = {"stride": tuple(strides), "padding": tuple(pads[:count]), "dilation": tuple(dilations)}
    operands = [x, w] if bias is None else [x, w, bias]
    step.emit("aten.convolution", operands, [result], groups=groups, transposed=True, **attrs)
    return result


def _deform_conv(step: Step) -> Value:
    """A convolution whose pixels are gathered at offsets first."""
    x, w, offset = step[0], step[1], step[2]
    sides, attrs = window(step, x.shape[2:], w.shape[2:])
    columns = step.result((x.shape[0], x.shape[1] * math.prod(w.shape[2:]), *sides), x.dtype)
    step.emit("aten.grid_sampler_2d", [x, offset], [columns])
    out = step.result((x.shape[0], w.shape[0], *sides), x.dtype)
    groups = step.attr("group", 1)
    bias = [step[3]] if step.get(3) is not None else []
    step.emit("aten.convolution", [columns, w, *bias], [out], groups=groups, transposed=False, **attrs)
    return out


# Recurrent layers.


def _recurrent(gates: int, states: int) -> Rule:
    def rule(step: Step) -> list[Value | None]:
        x, w, r = step[0], step[1], step[2]
        if x.rank != 3 or w.rank != 3 or r.rank != 3 or w.shape[2] != x.shape[2] or w.shape[1] != r.shape[1]:
            raise RuleError(f"weights of {list(w.shape)} and {list(r.shape)} meet a sequence of {list(x.shape)}")
        batch_first = bool(step.attr("layout", 0))
        directions, rows, hidden = r.shape
        steps, batch = (x.shape[1], x.shape[0]) if batch_first else x.shape[:2]
        shape = (batch, steps, directions, hidden) if batch_first else (steps, directions, batch, hidden)
        after = (batch, directions, hidden) if batch_first else (directions, batch, hidden)
        y = step.result(shape, x.dtype)
        last = [step.result(after, x.dtype) for _ in range(states)]
        one = (batch, hidden)
        bias: list[Operand] = [(step[3], (2 * rows,))] if step.get(3) is not None else []
        start: list[Operand] = [(v, one) for v in (step.get(5 + i) for i in range(states)) if v is not None]
        for _ in range(directions):
            step.emit(
                "rigwise.recurrent",
                [x, (w, (rows, w.shape[2])), (r, (rows, hidden)), *bias, *start],
                [(y, (*x.shape[:2], hidden)), *((v, one) for v in last)],
                gates=gates,
            )
        return [y, *last]

    return rule


# Attention.


Projected = tuple[Value, Value, Value]


def attend(step: Step, qkv: Projected, mask: Value | None, *, causal: bool, window: int = 0) -> Value:
    """Attention of queries to keys and values, ``[batch, heads, rows, depth]`` each."""
    q, k, v = qkv
    if not q.rank == k.rank == v.rank == 4 or q.shape[1] % k.shape[1] or q.shape[3] != k.shape[3]:
        raise RuleError(f"queries of {list(q.shape)} meet keys of {list(k.shape)}")
    out = step.result((*q.shape[:3], v.shape[3]), q.dtype)
    sums = step.result(q.shape[:3], "float32")
    operands = [q, k, v] if mask is None else [q, k, v, mask]
    step.emit("rigwise.attention", operands, [out, sums], causal=causal, dropout=0.0, window=window)
    return out


def heads(value: Value, count: int) -> Value:
    """``[batch, rows, heads x depth]`` as ``[batch, heads, rows, depth]``, which kernels read as it lies."""
    if value.rank == 4:
        return value
    batch, rows, width = value.shape
    if count < 1 or width % count:
        raise RuleError(f"a width of {width} is not shared by {count} heads")
    return value.viewed((batch, count, rows, width // count))


def extended(step: Step, past: Value | None, new: Value) -> Value:
    """The cache with new keys or values behind it."""
    if past is None:
        return new
    shape = (*new.shape[:2], past.shape[2] + new.shape[2], new.shape[3])
    out = step.result(shape, new.dtype)
    step.emit("aten.cat", [value for value in (past, new) if value.elements], [out])
    return out


def _attention(step: Step) -> list[Value | None]:
    q_heads, kv_heads = step.attr("q_num_heads", 0), step.attr("kv_num_heads", 0)
    flat = step[0].rank == 3
    q, k, v = heads(step[0], q_heads), heads(step[1], kv_heads), heads(step[2], kv_heads)
    k, v = extended(step, step.get(4), k), extended(step, step.get(5), v)
    out = attend(step, (q, k, v), step.get(3), causal=bool(step.attr("is_causal", 0)))
    if flat:
        batch, count, rows, depth = out.shape
        out = out.viewed((batch, rows, count * depth))
    return [out, k, v, step.result((*q.shape[:3], k.shape[2]), q.dtype)]


def rotary(step: Step) -> Value:
    """Rotary position embedding, as one pass over its operand."""
    out = step.result(step[0].shape, step[0].dtype)
    step.emit("aten.mul", [value for value in step.inputs if value is not None], [out])
    return out


def _causal_conv(step: Step) -> list[Value]:
    """A depthwise convolution that looks back only, with the last steps kept."""
    x, w = step[0], step[1]
    out, state = step.result(x.shape, x.dtype), step.result((*x.shape[:2], w.shape[-1] - 1), x.dtype)
    operands = [x, w] if step.get(2) is None else [x, w, step[2]]
    attrs = {"stride": (1,), "padding": (w.shape[-1] - 1,), "dilation": (1,)}
    step.emit("aten.convolution", operands, [out], groups=x.shape[1], transposed=False, **attrs)
    return [out, state]


def _linear_attention(step: Step) -> list[Value]:
    """Attention as a scan whose state has a row and a column for each key and value channel of a head."""
    q, k, v = step[0], step[1], step[2]
    kv_heads, q_heads = step.attr("kv_num_heads", 0), step.attr("q_num_heads", 0)
    key_depth, depth = k.shape[2] // kv_heads, v.shape[2] // kv_heads
    out = step.result((*q.shape[:2], q_heads * depth), q.dtype)
    state = step.result((q.shape[0], kv_heads, key_depth, depth), q.dtype)
    operands = [value for value in step.inputs if value is not None]
    step.emit("rigwise.linear_scan", operands, [out, state], state_size=depth)
    return [out, state]


RULES: dict[str, Rule] = {
    "MatMul": _matmul, "MatMulInteger": _matmul_integer, "Gemm": _gemm, "Einsum": _einsum, "Conv": _conv,
    "ConvInteger": _conv_integer, "ConvTranspose": _conv_transpose, "DeformConv": _deform_conv,
    "LSTM": _recurrent(4, 2), "GRU": _recurrent(3, 1), "RNN": _recurrent(1, 1), "Attention": _attention,
    "RotaryEmbedding": rotary, "CausalConvWithState": _causal_conv, "LinearAttention": _linear_attention,
}  # fmt: skip
