"""Rules for operators that sum up or look around: reductions, norms, softmax, pooling, resizing, sorting.

Source: ONNX operator reference, opset 24.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from rigwise.graph.capture.from_onnx.elementwise import in_family
from rigwise.graph.capture.from_onnx.matrix import window
from rigwise.graph.capture.from_onnx.trace import Rule, Step
from rigwise.graph.capture.from_onnx.value import RuleError, Value, axis_of

_REDUCTIONS = """
    ReduceSum:sum ReduceMean:mean ReduceMax:amax ReduceMin:amin ReduceProd:prod ReduceL1:norm
    ReduceL2:linalg_vector_norm ReduceLogSum:sum ReduceLogSumExp:logsumexp ReduceSumSquare:sum
"""
_NUMBERS: Mapping[str, Callable[..., Any]] = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
}


def _reduction(name: str) -> Rule:
    def rule(step: Step) -> Value:
        x, given = step[0], step.numbers(1, "axes")
        if not given and step.attr("noop_with_empty_axes", 0):
            return x
        axes = {axis_of(int(axis), x.rank) for axis in given} if given else set(range(x.rank))
        keep = step.attr("keepdims", 1)
        shape = [1 if i in axes else size for i, size in enumerate(x.shape) if keep or i not in axes]
        function, data = _NUMBERS.get(step.node.op), None
        if function is not None and x.data is not None and x.elements:
            data = in_family(np.asarray(function(x.data, axis=tuple(axes), keepdims=bool(keep))), x.dtype)
        out = step.result(shape, x.dtype, data)
        step.emit(f"aten.{name}", [x], [out])
        return out

    return rule


def _arg(name: str) -> Rule:
    def rule(step: Step) -> Value:
        axis, keep = axis_of(step.attr("axis", 0), step[0].rank), step.attr("keepdims", 1)
        shape = [1 if i == axis else size for i, size in enumerate(step[0].shape) if keep or i != axis]
        out = step.result(shape, "int64")
        step.emit(name, [step[0]], [out])
        return out

    return rule


def _softmax(name: str) -> Rule:
    def rule(step: Step) -> Value:
        out = step.result(step[0].shape, step[0].dtype)
        default = -1 if step.tracer.net.opsets.get("", 13) >= 13 else 1
        step.emit(name, [step[0]], [out], dim=step.attr("axis", default))
        return out

    return rule


# Norms.


def _batch_norm(step: Step) -> list[Value]:
    x, scale, bias, mean, variance = (step[i] for i in range(5))
    if x.rank < 2 or scale.shape != (x.shape[1],):
        raise RuleError(f"it scales {list(x.shape)} by {list(scale.shape)}")
    out = step.result(x.shape, x.dtype)
    none = [step.result((0,), "float32") for _ in range(2)]  # running statistics are used: none are made
    step.emit("aten.native_batch_norm", [x, scale, bias, mean, variance], [out, *none])
    return [out, *(step.result(mean.shape, mean.dtype) for _ in range(2))]


def _norm(name: str, operands: int = 3) -> Rule:
    """A norm that takes its statistics from its operand, in one operator."""

    def rule(step: Step) -> list[Value]:
        x = step[0]
        out = step.result(x.shape, x.dtype)
        step.emit(name, [value for value in step.inputs[:operands] if value is not None], [out])
        axis = axis_of(step.attr("axis", -1), x.rank)
        shape = (*x.shape[:axis], *[1] * (x.rank - axis))
        return [out, step.result(shape, "float32"), step.result(shape, "float32")]

    return rule


def _first(rule: Rule) -> Rule:
    def only(step: Step) -> Value | None:
        made = rule(step)
        return made if isinstance(made, Value) else made[0]

    return only  # type: ignore[return-value]


# Pooling.


def _pool(name: str) -> Rule:
    def rule(step: Step) -> list[Value]:
        x, kernel = step[0], step.attr("kernel_shape") or []
        ceil = bool(step.attr("ceil_mode", 0))
        sides, attrs = window(step, x.shape[2:], kernel, ceil=ceil)
        out = step.result((*x.shape[:2], *sides), x.dtype)
        made = [out]
        if name == "max_pool" and len(step.node.outputs) > 1:
            made.append(step.result(out.shape, "int64"))
        step.emit(f"aten.{name}{len(kernel)}d", [x], made, kernel_size=tuple(kernel), ceil_mode=ceil, **attrs)
        return made

    return rule


def _global_pool(name: str) -> Rule:
    def rule(step: Step) -> Value:
        out = step.result((*step[0].shape[:2], *[1] * (step[0].rank - 2)), step[0].dtype)
        step.emit(name, [step[0]], [out])
        return out

    return rule


def _max_unpool(step: Step) -> Value:
    x, kernel = step[0], step.attr("kernel_shape")
    strides, pads = step.attr("strides") or [1] * len(kernel), step.attr("pads") or [0] * 2 * len(kernel)
    if step.get(2) is not None:
        shape = [int(size) for size in step.known(2, "the output shape")]
    else:
        sides = zip(x.shape[2:], strides, kernel, strict=True)
        grown = [(n - 1) * s + k - pads[i] - pads[i + len(kernel)] for i, (n, s, k) in enumerate(sides)]
        shape = [*x.shape[:2], *grown]
    out = step.result(shape, x.dtype)
    step.emit("aten.max_unpool2d", [x, step[1]], [out])
    return out


def _regions(name: str) -> Rule:
    def rule(step: Step) -> Value:
        height, width = step.attr("pooled_shape") or (step.attr("output_height", 1), step.attr("output_width", 1))
        out = step.result((step[1].shape[0], step[0].shape[1], height, width), step[0].dtype)
        step.emit(name, [(step[0], out.shape), step[1]], [out])
        return out

    return rule


# Resizing.

_MODES = {"nearest": "nearest", "linear": "linear", "bilinear": "linear", "cubic": "bicubic"}


def _resize(step: Step) -> Value:
    x = step[0]
    at = 1 if step.node.op == "Upsample" or step.tracer.net.opsets.get("", 13) < 11 else 2
    axes = [axis_of(axis, x.rank) for axis in step.attr("axes") or range(x.rank)]
    shape = list(x.shape)
    if step.get(3) is not None and step[3].elements:
        sizes: Sequence[Any] = step.known(3, "the new size")
        policy = step.attr("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            pick = min if policy == "not_larger" else max
            ratio = pick(size / x.shape[axis] for size, axis in zip(sizes, axes, strict=True))
            sizes = [math.floor(x.shape[axis] * ratio + 0.5) for axis in axes]
        for axis, size in zip(axes, sizes, strict=True):
            shape[axis] = int(size)
    else:
        scales = step.numbers(at, "scales")
        if scales is None:
            raise RuleError("it has neither scales nor sizes")
        for axis, scale in zip(axes, scales, strict=True):
            shape[axis] = math.floor(x.shape[axis] * scale + 1e-6)
    return resized(step, x, shape)


def resized(step: Step, x: Value, shape: Sequence[int]) -> Value:
    """An image in another size, the operator named as PyTorch does."""
    if tuple(shape) == x.shape:
        return x
    out = step.result(shape, x.dtype)
    count = min(max(x.rank - 2, 1), 3)
    mode = _MODES.get(step.attr("mode", "nearest"), "nearest")
    if mode == "linear":
        mode = ("linear", "bilinear", "trilinear")[count - 1]
    if mode == "bicubic":
        count = 2
    step.emit(f"aten.upsample_{mode}{count}d", [x], [out])
    return out


def _grid_sample(step: Step) -> Value:
    x, grid = step[0], step[1]
    out = step.result((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    step.emit(f"aten.grid_sampler_{x.rank - 2}d", [x, grid], [out])
    return out


def _affine_grid(step: Step) -> Value:
    n, _, *sides = step.known(1, "the size")
    out = step.result((n, *sides, len(sides)), step[0].dtype)
    step.emit("aten.affine_grid_generator", [step[0]], [out])
    return out


# Sorting and picking.


def _top_k(step: Step) -> list[Value]:
    x = step[0]
    axis = axis_of(step.attr("axis", -1), x.rank)
    count = int((step.numbers(1, "k") or [1])[0])
    if not 0 <= count <= x.shape[axis]:
        raise RuleError(f"it takes {count} of {x.shape[axis]}")
    shape = (*x.shape[:axis], count, *x.shape[axis + 1 :])
    made = [step.result(shape, x.dtype), step.result(shape, "int64")]
    step.emit("aten.topk", [x], made, dim=axis)
    return made


def _boxes(step: Step) -> Value:
    """Non-maximum suppression: as many boxes as it may keep."""
    boxes, scores = step[0], step[1]
    most = boxes.shape[1]
    if step.get(2) is not None and step[2].data is not None:
        most = min(most, int(step[2].data.reshape(-1)[0]))
    step.note(f"{step.node} keeps as many boxes as it may; how many depends on data")
    out = step.result((boxes.shape[0] * scores.shape[1] * most, 3), "int64")
    step.emit("onnx.NonMaxSuppression", [boxes, scores], [out])
    return out


def _loss(step: Step) -> list[Value]:
    whole = step.attr("reduction", "mean") == "none"
    shape = (step[0].shape[0], *step[0].shape[2:]) if whole else ()
    logs = step[0]
    if step.node.op == "SoftmaxCrossEntropyLoss":
        logs = step.result(step[0].shape, step[0].dtype)
        step.emit("aten._log_softmax", [step[0]], [logs], dim=1)
    out = step.result(shape, step[0].dtype)
    step.emit("aten.nll_loss_forward", [logs, step[1]], [out])
    return [out, logs]


# Signals.


def _windowing(step: Step) -> Value:
    size = int(step.known(0, "the size")[0])
    out = step.result((size,), "float32")
    out.constant = True
    return out


def _mel(step: Step) -> Value:
    bins, length = (int(step.known(i, what)[0]) for i, what in enumerate(("the number of bins", "the length")))
    out = step.result((length // 2 + 1, bins), "float32")
    out.constant = True
    return out


def _dft(step: Step) -> Value:
    x = step[0]
    given = step.known(2, "the axis")[0] if step.get(2) is not None else step.attr("axis", -2)
    axis = axis_of(int(given), x.rank)
    one_sided, back = step.attr("onesided", 0), step.attr("inverse", 0)
    whole = 2 * (x.shape[axis] - 1) if one_sided and back else x.shape[axis]
    length = int(step.known(1, "the length")[0]) if step.get(1) is not None else whole
    size = length // 2 + 1 if one_sided and not back else length
    depth = 1 if one_sided and back else 2
    out = step.result((*x.shape[:axis], size, *x.shape[axis + 1 : -1], depth), x.dtype)
    step.emit("onnx.DFT", [x], [out])
    return out


def _stft(step: Step) -> Value:
    hop = int(step.known(1, "the step of frames")[0])
    frame = step[2].elements if step.get(2) is not None else int(step.known(3, "the length of frames")[0])
    count = (step[0].shape[1] - frame) // hop + 1
    bins = frame // 2 + 1 if step.attr("onesided", 1) else frame
    out = step.result((step[0].shape[0], count, bins, 2), step[0].dtype)
    step.emit("onnx.STFT", [step[0]], [out])
    return out


RULES: dict[str, Rule] = {
    **{op: _reduction(name) for op, name in (pair.split(":") for pair in _REDUCTIONS.split())},
    "ArgMax": _arg("aten.argmax"), "ArgMin": _arg("aten.argmin"),
    "Softmax": _softmax("aten._softmax"), "LogSoftmax": _softmax("aten._log_softmax"),
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _norm("aten.native_layer_norm"), "RMSNormalization": _norm("aten._fused_rms_norm", 2),
    "SimplifiedLayerNormalization": _norm("aten._fused_rms_norm", 2),
    "GroupNormalization": _first(_norm("aten.native_group_norm")),
    "InstanceNormalization": _first(_norm("aten.instance_norm")),
    "LpNormalization": _first(_norm("aten.renorm", 1)), "LRN": _first(_norm("onnx.LRN", 1)),
    "MeanVarianceNormalization": _first(_norm("aten.native_layer_norm", 1)),
    "MaxPool": _pool("max_pool"), "AveragePool": _pool("avg_pool"), "LpPool": _pool("avg_pool"),
    "GlobalAveragePool": _global_pool("aten.mean"), "GlobalMaxPool": _global_pool("aten.amax"),
    "GlobalLpPool": _global_pool("aten.linalg_vector_norm"), "MaxUnpool": _max_unpool,
    "MaxRoiPool": _regions("aten.adaptive_max_pool2d"), "RoiAlign": _regions("aten.grid_sampler_2d"),
    "Resize": _resize, "Upsample": _resize, "GridSample": _grid_sample, "AffineGrid": _affine_grid, "TopK": _top_k,
    "NonMaxSuppression": _boxes, "SoftmaxCrossEntropyLoss": _loss, "NegativeLogLikelihoodLoss": _loss,
    "HannWindow": _windowing, "HammingWindow": _windowing, "BlackmanWindow": _windowing, "MelWeightMatrix": _mel,
    "DFT": _dft, "STFT": _stft,
}  # fmt: skip
