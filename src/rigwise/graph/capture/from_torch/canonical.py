"""From a PyTorch call to the form in which the graph keeps it.

Counting then needs no special cases: a gemm has its operands first, a convolution's backward pass is
two operators, attributes that shapes do not tell stand in ``attrs``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from rigwise.graph.op import Attr

#: Operators that move no data: they hand out memory, or exist for PyTorch's own bookkeeping.
_FREE_NAMES = """
    aten.empty aten.empty_like aten.empty_strided aten.new_empty aten.new_empty_strided aten.empty_permuted
    aten.detach aten.alias aten.lift_fresh aten._local_scalar_dense aten.is_same_size aten.sym_size
    aten.sym_stride aten.sym_numel aten.resize_ aten.set_ aten.as_strided_ aten.record_stream
    aten._has_compatible_shallow_copy_type prim.device profiler._record_function_enter_new
    profiler._record_function_exit
"""
FREE = frozenset(_FREE_NAMES.split())

#: Arguments that the graph keeps, by operator.
_CONV = ("stride", "padding", "dilation", "groups", "transposed")
_WINDOW = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
_FLAGS = ("causal", "dropout", "window")
KEPT_ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "aten.convolution": _CONV,
    "aten.convolution_backward": _CONV,
    "aten.max_pool2d_with_indices": _WINDOW,
    "aten.max_pool2d_with_indices_backward": _WINDOW,
    "aten.max_pool3d_with_indices": _WINDOW,
    "aten.avg_pool2d": _WINDOW,
    "aten.avg_pool2d_backward": _WINDOW,
    "aten.avg_pool3d": _WINDOW,
    "aten.unfold": ("dimension", "size", "step"),
    "aten.im2col": ("kernel_size", "dilation", "padding", "stride"),
    "aten._softmax": ("dim",),
    "aten._log_softmax": ("dim",),
    "aten.native_dropout": ("p",),
    "aten.cumsum": ("dim",),
    "aten.sort": ("dim",),
    "aten.topk": ("k", "dim"),
    "rigwise.attention": _FLAGS,
    "rigwise.attention_backward": _FLAGS,
    "rigwise.recurrent": ("gates",),
    "rigwise.recurrent_dgrad": ("gates",),
    "rigwise.recurrent_wgrad": ("gates",),
    "rigwise.linear_scan": ("state_size",),
    "rigwise.linear_scan_backward": ("state_size",),
    "rigwise.linear_scan_step": ("state_size",),
}

#: Operands of these keep their logical shape; others are read as stored, an expanded axis once.
_LOGICAL_NAMES = """
    aten.mm aten.addmm aten.bmm aten.baddbmm aten._grouped_mm aten.mv aten.dot aten.convolution
    rigwise.conv_dgrad rigwise.conv_wgrad rigwise.attention rigwise.attention_backward
"""
LOGICAL = frozenset(_LOGICAL_NAMES.split())

#: In-place operators that write their tensor without reading it.
_OVERWRITES_NAMES = """
    aten.copy_ aten.fill_ aten.zero_ aten.uniform_ aten.normal_ aten.bernoulli_ aten.random_ aten.exponential_
"""
_OVERWRITES = frozenset(_OVERWRITES_NAMES.split())

_ADDEND_FIRST = {"aten.addmm", "aten.baddbmm", "aten.addmv"}


@dataclass(slots=True)
class Call:
    """One operator call: tensors still as PyTorch's own."""

    name: str
    inputs: list[Any]
    outputs: list[Any]
    attrs: dict[str, Attr] = field(default_factory=dict)


def canonical(name: str, arguments: Mapping[str, Any], inputs: list[Any], outputs: list[Any]) -> Iterator[Call]:
    """The calls that stand for one PyTorch call, in graph form.

    Args:
        name: Operator name without overload.
        arguments: All arguments by their name in the schema.
        inputs: Tensors among them, in order.
        outputs: Tensors returned or written, None where a gradient was not asked for.
    """
    attrs = {key: _plain(arguments[key]) for key in KEPT_ARGUMENTS.get(name, ()) if key in arguments}
    if name == "aten.convolution_backward":
        grad, x, weight = (arguments[key] for key in ("grad_output", "input", "weight"))
        dx, dw, db = outputs
        if dx is not None:
            yield Call("rigwise.conv_dgrad", [grad, weight], [dx], dict(attrs))
        if dw is not None:
            yield Call("rigwise.conv_wgrad", [grad, x], [t for t in (dw, db) if t is not None], dict(attrs))
        return
    if name in _OVERWRITES:
        inputs = inputs[1:]
    if name in _ADDEND_FIRST:
        inputs = [*inputs[1:3], inputs[0], *inputs[3:]]
        name = name.replace("addmv", "mv")
    if name in ("aten.mv", "aten.dot"):  # a vector is a matrix of one column, or of one row
        first = inputs[0].unsqueeze(0) if name == "aten.dot" else inputs[0]
        inputs = [first, inputs[1].unsqueeze(-1), *inputs[2:]]
    if name == "rigwise.grouped_mm":
        name, attrs["groups"] = "aten._grouped_mm", int(arguments["offs"].shape[0])
    yield Call(name, inputs, [t for t in outputs if t is not None], attrs)


def _plain(value: Any) -> Attr:
    return tuple(int(v) for v in value) if isinstance(value, list | tuple) else value
