"""What one operator costs: multiply-adds and bytes, from its shapes alone.

FLOPs are counted for operators that multiply matrices (gemm, convolution, attention,
recurrent cells), for scans with a state and for force loops, two for each multiply-add. Arithmetic of streaming
operators is not counted: at one to thirty FLOP per element it hides behind their memory
traffic on every device in the catalogue. Their bytes are counted, and so are the bytes of
an operator nobody knows.

Bytes are those an operator must move if each operand crosses the memory bus once; what
stays in a cache, and how many passes a real kernel makes, is for ``estimate`` to say.

Causal attention is counted in full, as published FLOP figures do; ``causal_frac`` says
which part of it a kernel must really compute.

Source: the operators' own definitions, as PyTorch's reference states them; a multiply-add is
two FLOP, as the makers of devices count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rigwise.graph.dim import size_at
from rigwise.graph.op import Kind, Op, Tensor

Sizes = Mapping[str, Any]

#: Bytes of one element. int4 weights carry a 16-bit scale for each group of 128.
BYTES_OF_DTYPE: Mapping[str, float] = {
    "float64": 8, "complex64": 8, "int64": 8, "uint64": 8, "complex128": 16,
    "float32": 4, "int32": 4, "uint32": 4,
    "float16": 2, "bfloat16": 2, "int16": 2, "uint16": 2,
    "float8": 1, "int8": 1, "uint8": 1, "bool": 1,
    "int4": 0.5 + 2 / 128,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class OpWork:
    """Cost of one execution of one operator (a number each, or arrays over sizes).

    Attributes:
        flops: Two for each multiply-add.
        macs: Multiply-adds.
        read_bytes: Operands, each read once.
        write_bytes: Results, each written once.
    """

    flops: Any
    macs: Any
    read_bytes: Any
    write_bytes: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmShape:
    """``batch`` independent products of ``[m, k]`` by ``[k, n]``."""

    batch: Any
    m: Any
    n: Any
    k: Any

    @property
    def macs(self) -> Any:
        """Multiply-adds of all products."""
        return self.batch * self.m * self.n * self.k


def tensor_bytes(tensor: Tensor, sizes: Sizes) -> Any:
    """Bytes of a tensor at given symbol sizes.

    >>> tensor_bytes(Tensor((64, 1000)), {})
    256000.0
    """
    return tensor.elements(sizes) * float(BYTES_OF_DTYPE[tensor.dtype])


def work(op: Op, sizes: Sizes) -> OpWork:
    """Cost of one execution; an operator in a block runs ``op.repeat`` times.

    >>> a, b, c = Tensor((4096, 4096)), Tensor((4096, 4096)), Tensor((4096, 4096))
    >>> from rigwise.graph.op import Phase
    >>> w = work(Op(name="aten.mm", kind=Kind.GEMM, phase=Phase.FORWARD, inputs=(a, b), outputs=(c,)), {})
    >>> w.flops == 2 * 4096**3, w.read_bytes + w.write_bytes == 3 * 4 * 4096**2
    (True, True)
    """
    macs = _macs(op, sizes)
    read, write = _TRAFFIC.get(op.name, _each_operand_once)(op, sizes)
    return OpWork(flops=2.0 * macs, macs=macs, read_bytes=read, write_bytes=write)


def gemm_shape(op: Op, sizes: Sizes) -> GemmShape | None:
    """The matrix products an operator amounts to; None for one that multiplies no matrices.

    A convolution is an implicit gemm. Forward: m = images x output pixels, n = output
    channels, k = input channels of a group x kernel. With respect to its input the roles of
    input and output change; with respect to its weight the sum runs over images and pixels.

    Source: Chetlur et al., "cuDNN: Efficient Primitives for Deep Learning", 2014, section 3.
    """
    shape_of = _GEMM_SHAPES.get(op.name)
    return shape_of(op, sizes) if shape_of else None


def attention_shape(op: Op, sizes: Sizes) -> tuple[Any, Any, Any, Any, Any]:
    """Heads in all (batch x heads), query length, key length, head sizes of keys and values."""
    q, k, v = op.inputs[1:4] if op.name.endswith("backward") else op.inputs[:3]
    batch_heads = _at(q, 0, sizes) * _at(q, 1, sizes)
    return batch_heads, _at(q, 2, sizes), _at(k, 2, sizes), _at(q, 3, sizes), _at(v, 3, sizes)


def causal_frac(op: Op, sizes: Sizes) -> Any:
    """Part of the score matrix that a causal mask, and a window where there is one, leave.

    Query i of s sees t - s + i + 1 of t keys, or the last ``window`` of them; without a window
    the mean over i is t - (s - 1) / 2. Without a causal mask all is seen.

    >>> from rigwise.graph.op import Phase
    >>> q = Tensor((1, 8, 100, 64))
    >>> float(causal_frac(Op(name="rigwise.attention", kind=Kind.ATTENTION, phase=Phase.FORWARD,
    ...                      inputs=(q, q, q), outputs=(q,), attrs={"causal": True}), {}))
    0.505
    """
    if not op.attrs.get("causal"):
        return 1.0
    _, s, t, _, _ = attention_shape(op, sizes)
    first = t - s + 1  # keys that the first query sees
    window = np.minimum(float(op.attrs.get("window") or np.inf), t)  # type: ignore[arg-type]
    growing = np.clip(window - first, 0, s)  # queries before the window is full
    seen = growing * first + growing * (growing - 1) / 2 + (s - growing) * window
    return seen / (s * t)


def _at(tensor: Tensor, axis: int, sizes: Sizes) -> Any:
    return size_at(tensor.shape[axis], sizes)


def _product(tensor: Tensor, axes: range, sizes: Sizes) -> Any:
    total: Any = 1
    for axis in axes:
        total = total * _at(tensor, axis, sizes)
    return total


# --- multiply-adds -----------------------------------------------------------------------


def _macs(op: Op, sizes: Sizes) -> Any:
    if op.kind is Kind.ATTENTION:
        batch_heads, s, t, d, dv = attention_shape(op, sizes)
        # forward: scores and weighted sum; backward: scores again, dV, dP, dQ and dK
        per_score = 3 * d + 2 * dv if op.name.endswith("backward") else d + dv
        return batch_heads * s * t * per_score
    if op.kind is Kind.PAIRWISE:
        pairs = op.outputs[0].elements(sizes) / 3 * float(op.attrs["neighbours"])  # type: ignore[arg-type]
        return pairs * float(op.attrs["flops_per_pair"]) / 2  # type: ignore[arg-type]
    if "state_size" in op.attrs:
        return _scan_macs(op, sizes)
    shape = gemm_shape(op, sizes)
    return 0.0 if shape is None else shape.macs


def _scan_macs(op: Op, sizes: Sizes) -> Any:
    """State elements of all steps, times the multiply-adds that each takes; exponentials are not counted.

    Forward: input times projection, decayed state plus that, output. Backward: the states again (2), the
    gradient of the state (2), and with it those of input, both projections and decay. A chunked kernel
    computes more, on matrix units.

    Source: Gu & Dao, "Mamba", 2023, equations 2 and 3 and section 3.3.2: O(b s d n), states recomputed.
    """
    backward = op.name.endswith("backward")
    states = op.inputs[1 if backward else 0].elements(sizes) * float(op.attrs["state_size"])  # type: ignore[arg-type]
    return states * (8 if backward else 3)


def _matmul(op: Op, sizes: Sizes) -> GemmShape:
    a, b = op.inputs[:2]
    batch = _product(a, range(len(a.shape) - 2), sizes)
    return GemmShape(batch=batch, m=_at(a, -2, sizes), n=_at(b, -1, sizes), k=_at(a, -1, sizes))


def _grouped_matmul(op: Op, sizes: Sizes) -> GemmShape:
    """Rows spread evenly over the groups; a weight gradient sums over the rows instead."""
    a, b = op.inputs[:2]
    m, k, n = _at(a, -2, sizes), _at(a, -1, sizes), _at(b, -1, sizes)
    if len(b.shape) == 2:  # [m, rows] x [rows, n] -> [groups, m, n]
        groups = _groups_touched(op, k)
        return GemmShape(batch=groups, m=m, n=n, k=k / groups)
    groups = _groups_touched(op, m)
    return GemmShape(batch=groups, m=m / groups, n=n, k=k)


def _groups_touched(op: Op, rows: Any) -> Any:
    """Groups that get a row at all when rows are spread evenly."""
    return np.minimum(float(op.attrs.get("groups", 1)), np.maximum(rows, 1.0))  # type: ignore[arg-type]


def _convolution(op: Op, sizes: Sizes) -> GemmShape:
    x, w, y = op.inputs[0], op.inputs[1], op.outputs[0]
    return _conv_gemm(op, w, x if op.attrs.get("transposed") else y, sizes)


def _conv_dgrad(op: Op, sizes: Sizes) -> GemmShape:
    dy, w, dx = op.inputs[0], op.inputs[1], op.outputs[0]
    if op.attrs.get("transposed"):
        return _conv_gemm(op, w, dx, sizes)
    forward = _conv_gemm(op, w, dy, sizes)
    pixels, channels = _pixels(dx, sizes), _at(w, 1, sizes)
    return GemmShape(batch=forward.batch, m=pixels, n=channels, k=forward.macs / (forward.batch * pixels * channels))


def _conv_wgrad(op: Op, sizes: Sizes) -> GemmShape:
    dy, x, dw = op.inputs[0], op.inputs[1], op.outputs[0]
    forward = _conv_gemm(op, dw, x if op.attrs.get("transposed") else dy, sizes)
    return GemmShape(batch=forward.batch, m=forward.n, n=forward.k, k=forward.m)


def _conv_gemm(op: Op, weight: Tensor, image: Tensor, sizes: Sizes) -> GemmShape:
    """Implicit gemm of a convolution: every pixel of ``image`` meets the whole kernel once.

    ``image`` is the output, or the input of a transposed convolution.
    """
    groups = int(op.attrs.get("groups", 1))  # type: ignore[arg-type]
    kernel = _product(weight, range(1, len(weight.shape)), sizes)
    return GemmShape(batch=groups, m=_pixels(image, sizes), n=_at(weight, 0, sizes) // groups, k=kernel)


def _pixels(image: Tensor, sizes: Sizes) -> Any:
    """Pixels of a batch of images ``[batch, channels, ...]``."""
    return _at(image, 0, sizes) * _product(image, range(2, len(image.shape)), sizes)


def _recurrent(op: Op, sizes: Sizes) -> GemmShape:
    """A layer over all its steps: gates x hidden rows against input and hidden state."""
    weight, hidden = op.outputs[:2] if op.name.endswith("_wgrad") else op.inputs[1:3]
    x = op.inputs[0]
    steps = _product(x, range(len(x.shape) - 1), sizes)
    return GemmShape(batch=1, m=steps, n=_at(weight, 0, sizes), k=_at(weight, 1, sizes) + _at(hidden, 1, sizes))


_GEMM_SHAPES: Mapping[str, Callable[[Op, Sizes], GemmShape]] = {
    "aten.mm": _matmul,
    "aten.addmm": _matmul,
    "aten.bmm": _matmul,
    "aten.baddbmm": _matmul,
    "aten._grouped_mm": _grouped_matmul,
    "aten.convolution": _convolution,
    "rigwise.conv_dgrad": _conv_dgrad,
    "rigwise.conv_wgrad": _conv_wgrad,
    "rigwise.recurrent": _recurrent,
    "rigwise.recurrent_dgrad": _recurrent,
    "rigwise.recurrent_wgrad": _recurrent,
}


# --- bytes -------------------------------------------------------------------------------

Traffic = tuple[Any, Any]


def _sum_bytes(tensors: tuple[Tensor, ...], sizes: Sizes) -> Any:
    total: Any = 0.0
    for tensor in tensors:
        total = total + tensor_bytes(tensor, sizes)
    return total


def _each_operand_once(op: Op, sizes: Sizes) -> Traffic:
    return _sum_bytes(op.inputs, sizes), _sum_bytes(op.outputs, sizes)


def _only_written(op: Op, sizes: Sizes) -> Traffic:
    return 0.0, _sum_bytes(op.outputs, sizes)


def _nothing(op: Op, sizes: Sizes) -> Traffic:
    del op, sizes
    return 0.0, 0.0


def _rows_picked(op: Op, sizes: Sizes) -> Traffic:
    """Gather: as much of the table as comes out, and the indices."""
    out = _sum_bytes(op.outputs, sizes)
    return out + _sum_bytes(_indices(op), sizes), out


def _rows_scattered(op: Op, sizes: Sizes) -> Traffic:
    """Scatter into a tensor that stands: read, add and write as much as comes in."""
    floating = [t for t in op.inputs[1:] if t.is_floating]
    source = tensor_bytes(floating[-1], sizes) if floating else _sum_bytes(op.outputs, sizes)
    return 2 * source + _sum_bytes(_indices(op), sizes), source


def _zeroed_then_scattered(op: Op, sizes: Sizes) -> Traffic:
    """A fresh gradient: written once in full, then read and written where rows arrive."""
    grad, rest = tensor_bytes(op.inputs[0], sizes), _sum_bytes(_indices(op), sizes)
    return 2 * grad + rest, _sum_bytes(op.outputs, sizes) + grad


def _groups_that_have_rows(op: Op, sizes: Sizes) -> Traffic:
    """Only the weights of groups that get a row are read: few, when one token is decoded."""
    read, written = _each_operand_once(op, sizes)
    a, b = op.inputs[:2]
    if len(b.shape) == 2:
        return read, written
    untouched = 1.0 - _groups_touched(op, _at(a, -2, sizes)) / float(op.attrs.get("groups", 1))  # type: ignore[arg-type]
    return read - untouched * tensor_bytes(b, sizes), written


def _keys_in_window(op: Op, sizes: Sizes) -> Traffic:
    """Keys and values outside the window of every query are not read."""
    read, written = _each_operand_once(op, sizes)
    window = float(op.attrs.get("window") or np.inf)  # type: ignore[arg-type]
    _, s, t, _, _ = attention_shape(op, sizes)
    unseen_frac = np.maximum(0.0, 1.0 - (window + s - 1) / t)
    keys, values = op.inputs[2:4] if op.name.endswith("backward") else op.inputs[1:3]
    return read - unseen_frac * (tensor_bytes(keys, sizes) + tensor_bytes(values, sizes)), written


def _statistics_first(op: Op, sizes: Sizes) -> Traffic:
    """Batch statistics are known only after the whole batch was read, so it is read twice.

    In inference, recognised by its empty statistics, the running ones are used and once is enough.
    """
    read, written = _each_operand_once(op, sizes)
    backward = "backward" in op.name
    if not backward and len(op.outputs) > 1 and 0 in op.outputs[1].shape:
        return read, written
    return read + _sum_bytes(op.inputs[: 2 if backward else 1], sizes), written


def _indices(op: Op) -> tuple[Tensor, ...]:
    return tuple(t for t in op.inputs if t.dtype in ("int64", "int32"))


_TRAFFIC: Mapping[str, Callable[[Op, Sizes], Traffic]] = {
    "aten._grouped_mm": _groups_that_have_rows,
    "rigwise.attention": _keys_in_window,
    "rigwise.attention_backward": _keys_in_window,
    **dict.fromkeys(("aten.empty", "aten.empty_like", "aten.new_empty", "aten.empty_strided"), _nothing),
    **dict.fromkeys(
        (
            "aten.zeros", "aten.zeros_like", "aten.new_zeros", "aten.ones", "aten.ones_like", "aten.new_ones",
            "aten.full", "aten.full_like", "aten.new_full", "aten.fill", "aten.fill_", "aten.zero_", "aten.arange",
            "aten.nll_loss_backward", "aten.nll_loss2d_backward", "aten.scalar_tensor", "aten.eye", "aten.tril_indices",
        ),
        _only_written,
    ),
    **dict.fromkeys(
        ("aten.embedding", "aten.index", "aten.index_select", "aten.gather", "aten.take",
         "aten.nll_loss_forward", "aten.nll_loss2d_forward", "aten.cat", "aten.stack"),
        _rows_picked,
    ),
    **dict.fromkeys(
        ("aten.index_put", "aten.index_put_", "aten._index_put_impl_", "aten.index_add", "aten.index_add_",
         "aten.index_copy", "aten.index_copy_", "aten.scatter", "aten.scatter_", "aten.scatter_add",
         "aten.scatter_add_", "aten.scatter_reduce", "aten.scatter_reduce_"),
        _rows_scattered,
    ),
    **dict.fromkeys(
        ("aten.native_batch_norm", "aten.native_batch_norm_backward", "aten.cudnn_batch_norm",
         "aten.cudnn_batch_norm_backward"),
        _statistics_first,
    ),
    **dict.fromkeys(
        ("aten.embedding_dense_backward", "aten.max_pool2d_with_indices_backward", "aten.select_backward",
         "aten.slice_backward"),
        _zeroed_then_scattered,
    ),
}  # fmt: skip
