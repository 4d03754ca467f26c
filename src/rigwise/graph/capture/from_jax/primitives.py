"""What JAX's primitives are called in a graph: by the name of the PyTorch operator that does the same.

So the cost laws of ``count.py`` and the families of ``kinds.py`` serve both. A primitive that stands in
no table keeps its own name, ``jax.fft`` say: its family is unknown, its traffic is counted and it is listed.

Source: documentation of ``jax.lax``, JAX 0.10; ``jax.lax.conv_general_dilated`` for its dimension numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from rigwise.graph.op import Attr

#: Primitive -> operator, where every operand is read once and every result written once.
_STREAMING_PAIRS = """
    add add  add_any add  sub sub  mul mul  div div  rem remainder  neg neg  sign sign  abs abs  max maximum
    min minimum  pow pow  integer_pow pow  square square  sqrt sqrt  rsqrt rsqrt  cbrt pow  exp exp  exp2 exp2
    expm1 expm1  log log  log1p log1p  tanh tanh  sin sin  cos cos  tan tan  asin asin  acos acos  atan atan
    atan2 atan2  sinh sinh  cosh cosh  asinh asinh  acosh acosh  atanh atanh  logistic sigmoid  erf erf  erfc erfc
    erf_inv erfinv  lgamma lgamma  digamma digamma  polygamma polygamma  igamma igamma  igammac igammac
    bessel_i0e special_i0e  bessel_i1e special_i1e  floor floor  ceil ceil  round round  nextafter nextafter
    and bitwise_and  or bitwise_or  xor bitwise_xor  not bitwise_not  shift_left bitwise_left_shift
    shift_right_logical bitwise_right_shift  shift_right_arithmetic bitwise_right_shift  eq eq  ne ne  lt lt
    le le  gt gt  ge ge  lt_to lt  le_to le  eq_to eq  tile repeat
    is_finite isinf  select_n where  clamp clamp  real real  imag imag  complex complex
    conj conj_physical  reduce_sum sum  reduce_max amax  reduce_min amin  reduce_prod prod  reduce_and all
    reduce_or any  argmax argmax  argmin argmin  cumsum cumsum  cumprod cumprod  cummax cummax  cummin cummin
    cumlogsumexp logcumsumexp  sort sort  top_k topk  pad constant_pad_nd  copy clone  copy_p clone
    convert_element_type _to_copy  iota arange  random_bits random  threefry2x32 random  rng_bit_generator random
    rng_uniform uniform  random_seed random  random_split random  random_fold_in random  random_gamma random
"""
_WORDS = _STREAMING_PAIRS.split()
STREAMING: Mapping[str, str] = {p: f"aten.{name}" for p, name in zip(_WORDS[::2], _WORDS[1::2], strict=True)}

#: Results that are known before the program runs if all operands are: a compiler computes them once.
_FOLDED_NAMES = "sort top_k iota random_bits threefry2x32 rng_bit_generator rng_uniform random_seed"
NEVER_FOLDED = frozenset(_FOLDED_NAMES.split())

#: Primitives that hand on what they get.
_SAME_NAMES = """
    stop_gradient optimization_barrier sharding_constraint layout_constraint device_put name pvary reshard
    mesh_cast random_wrap random_unwrap bitcast_convert_type reduce_precision rev copy_to_host
"""
SAME = frozenset(_SAME_NAMES.split())

#: Primitives that stand for the program they hold: parameter that holds it.
INLINED: Mapping[str, str] = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat2": "jaxpr",
    "checkpoint": "jaxpr", "remat": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr", "custom_lin": "call_jaxpr", "shard_map": "jaxpr",
}  # fmt: skip

_POOLS = {"reduce_window_max": "max_pool", "reduce_window_min": "max_pool", "reduce_window_sum": "avg_pool"}

Shape = tuple[int, ...]


def matrix_product(numbers: Any, left: Shape, right: Shape) -> tuple[str, Shape, Shape, Shape]:
    """``dot_general`` as a matrix product: operator, shapes of both operands and of the result.

    Every group of axes becomes one: batch, rows, what is summed over, columns.

    >>> matrix_product((((2,), (0,)), ((), ())), (4, 10, 8), (8, 32))
    ('aten.mm', (40, 8), (8, 32), (40, 32))
    >>> matrix_product((((3,), (3,)), ((0, 1), (0, 1))), (2, 6, 9, 16), (2, 6, 7, 16))
    ('aten.bmm', (12, 9, 16), (12, 16, 7), (12, 9, 7))
    """
    (left_sum, right_sum), (left_batch, right_batch) = numbers
    batch = prod(left[axis] for axis in left_batch)
    k = prod(left[axis] for axis in left_sum)
    m = prod(n for axis, n in enumerate(left) if axis not in (*left_sum, *left_batch))
    n = prod(n for axis, n in enumerate(right) if axis not in (*right_sum, *right_batch))
    if not left_batch:
        return "aten.mm", (m, k), (k, n), (m, n)
    return "aten.bmm", (batch, m, k), (batch, k, n), (batch, m, n)


def convolution(params: Mapping[str, Any], shapes: tuple[Shape, Shape, Shape], kind: str) -> tuple[Any, ...]:
    """``conv_general_dilated`` as one of PyTorch's three.

    JAX writes the gradients of a convolution as convolutions too, with strides and dilations exchanged
    and with batch and channels exchanged; here they get the operands and attributes of the one they belong to.

    Args:
        params: Of the primitive.
        shapes: Of its left operand, right operand and result.
        kind: ``forward``, ``dgrad`` (left is the incoming gradient, right the turned weight) or ``wgrad``
            (left is the input, right the incoming gradient).

    Returns:
        Operator, the two operands as pairs of (0 for left or 1 for right, shape), shape of the result, attributes.
    """
    numbers = params["dimension_numbers"]
    specs = (numbers.lhs_spec, numbers.rhs_spec, numbers.out_spec)
    left, right, out = (tuple(s[axis] for axis in spec) for s, spec in zip(shapes, specs, strict=True))
    strides, holes, dilation = (tuple(params[k] or ()) for k in ("window_strides", "lhs_dilation", "rhs_dilation"))
    groups = max(params["feature_group_count"], params["batch_group_count"])
    attrs: dict[str, Attr] = {"groups": groups}
    transposed = any(step > 1 for step in holes)
    if kind == "wgrad":
        attrs |= {"stride": holes if transposed else dilation, "dilation": strides, "transposed": transposed}
        return "rigwise.conv_wgrad", ((1, _turned(right)), (0, _turned(left))), _turned(out), attrs
    swapped = (right[1] * groups, right[0] // groups, *right[2:])  # the layer's own weight: [made, taken / groups, ...]
    if kind == "dgrad":
        backward_of_transposed = any(step > 1 for step in strides)
        attrs |= {"stride": strides if backward_of_transposed else holes, "dilation": dilation}
        attrs |= {"transposed": backward_of_transposed}
        weight = right if backward_of_transposed else swapped
        return "rigwise.conv_dgrad", ((0, left), (1, weight)), out, attrs
    if transposed:
        attrs |= {"stride": holes, "dilation": dilation, "transposed": True}
        return "aten.convolution", ((0, left), (1, swapped)), out, attrs
    spread = tuple((size - 1) * step + 1 for size, step in zip(right[2:], dilation, strict=True))
    padding = _padding(params["padding"], spread, strides, (left[2:], out[2:]))
    attrs |= {"stride": strides, "padding": padding, "dilation": dilation, "transposed": False}
    return "aten.convolution", ((0, left), (1, right)), out, attrs


def pooling(name: str, params: Mapping[str, Any], shape: Shape, out: Shape) -> tuple[Any, ...] | None:
    """A window that slides: operator, shapes with the axes it slides over last, attributes. None for any other."""
    window, strides = tuple(params["window_dimensions"]), tuple(params["window_strides"])
    spread = tuple((w - 1) * d + 1 for w, d in zip(window, params.get("window_dilation") or window, strict=True))
    if not params.get("window_dilation"):
        spread = window
    slides = [axis for axis, (w, s) in enumerate(zip(window, strides, strict=True)) if w > 1 or s > 1]
    order = [axis for axis in range(len(shape)) if axis not in slides] + slides
    if not 1 <= len(slides) <= 3:
        return None
    sides = tuple(shape[a] for a in slides), tuple(out[a] for a in slides)
    stride = tuple(strides[a] for a in slides)
    attrs: dict[str, Attr] = {"kernel_size": tuple(window[a] for a in slides), "stride": stride}
    attrs["padding"] = _padding([params["padding"][a] for a in slides], [spread[a] for a in slides], stride, sides)
    operator = f"aten.{_POOLS[name]}{len(slides)}d" if name in _POOLS else "aten.max_pool2d_with_indices_backward"
    return operator, tuple(shape[a] for a in order), tuple(out[a] for a in order), attrs


def _padding(pairs: Any, spread: Sequence[int], strides: Sequence[int], sides: tuple[Shape, Shape]) -> Shape:
    """Zeros at each end of an axis. ``SAME`` pads by what the side leaves over; it is said as for any odd side."""
    found = []
    for (low, high), width, step, side, made in zip(pairs, spread, strides, *sides, strict=True):
        same = made == -(-side // step) and low + high > 0
        found.append((width - 1) // 2 if same else (low + high) // 2)
    return tuple(found)


def _turned(shape: Shape) -> Shape:
    """Batch and channels exchanged."""
    return (shape[1], shape[0], *shape[2:])


def reshaped(stored: Shape, full: Shape, new: Shape) -> Shape | None:
    """What is stored of a broadcast tensor after its axes are split or joined; None if it has to be copied first.

    >>> reshaped((1, 4, 6), (3, 4, 6), (3, 24)), reshaped((3, 1), (3, 5), (15,))
    ((1, 24), None)
    """
    if stored == full or 0 in full:
        return new
    result: list[int] = []
    old_at = new_at = 0
    while old_at < len(full) or new_at < len(new):
        old_end, new_end = min(old_at + 1, len(full)), min(new_at + 1, len(new))
        while prod(full[old_at:old_end]) != prod(new[new_at:new_end]):
            if prod(full[old_at:old_end]) < prod(new[new_at:new_end]):
                old_end += 1
            else:
                new_end += 1
        group, kept = full[old_at:old_end], stored[old_at:old_end]
        if kept == group:
            result.extend(new[new_at:new_end])
        elif all(size == 1 for size in kept):
            result.extend(1 for _ in new[new_at:new_end])
        else:
            return None
        old_at, new_at = old_end, new_end
    return tuple(result)
