"""Rules for quantised operators: conversions, and products of 8-bit numbers.

A constant that is dequantised is a weight: it is stored in the type the file has it in and widened where it is
read, so its conversion is no pass over memory of its own.
"""

from __future__ import annotations

from rigwise.graph.capture.from_onnx.file import DTYPES
from rigwise.graph.capture.from_onnx.matrix import convolve, product
from rigwise.graph.capture.from_onnx.trace import Rule, Step
from rigwise.graph.capture.from_onnx.value import Value
from rigwise.graph.op import Role


def _quantised_type(step: Step) -> str:
    zero = step.get(2)
    if zero is not None:
        return zero.dtype
    return DTYPES.get(step.attr("output_dtype", 0), "uint8")


def _quantize(step: Step) -> Value:
    out = step.result(step[0].shape, _quantised_type(step))
    step.emit("aten.quantize_per_tensor", [step[0]], [out])
    return out


def dequantize(step: Step) -> Value:
    """Back to floating numbers; a weight stays as it is stored."""
    x = step[0]
    out = step.result(x.shape, "float32")
    if x.constant:
        step.weight(x)
        out.stored, out.source, out.role = x.dtype, x.source, Role.PARAMETER
    step.emit("aten.dequantize", [x], [out])
    return out


def _dynamic_quantize(step: Step) -> list[Value]:
    scale, zero = step.result((), "float32"), step.result((), "uint8")
    out = step.result(step[0].shape, "uint8")
    step.emit("aten.aminmax", [step[0]], [scale, zero])
    step.emit("aten.quantize_per_tensor", [step[0], scale, zero], [out])
    return [out, scale, zero]


def _conv(step: Step) -> Value:
    step.weight(step[3])
    return convolve(step, step[0], step[3], step.get(8), step[7].dtype)


def _matmul(step: Step) -> Value:
    step.weight(step[3])
    return product(step, step[0], step[3], step[7].dtype)


RULES: dict[str, Rule] = {
    "QuantizeLinear": _quantize, "DequantizeLinear": dequantize, "DynamicQuantizeLinear": _dynamic_quantize,
    "QLinearConv": _conv, "QLinearMatMul": _matmul,
}  # fmt: skip
