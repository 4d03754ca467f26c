"""Rules for operators that treat every element alone: arithmetic, comparison, activation, cast, random numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rigwise.graph.capture.from_onnx.file import DTYPES, Const
from rigwise.graph.capture.from_onnx.trace import Rule, Step
from rigwise.graph.capture.from_onnx.value import RuleError, Shape, Value, broadcast, small


def _quotient(a: Any, b: Any) -> Any:
    """Whole numbers divide towards zero."""
    if a.dtype.kind == "f":
        return np.divide(a, b)
    if not np.all(b):
        raise RuleError("it divides by zero")
    return np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))


def _modulo(step: Step) -> Value:
    """Whole numbers take the sign of the divisor, unless ``fmod`` asks for that of the dividend."""
    a, b = step[0], step[1]
    if "int" in b.dtype and b.data is not None and not np.all(b.data):
        raise RuleError("it divides by zero")
    return elementwise(step, "remainder", [a, b], a.dtype, np.fmod if step.attr("fmod", 0) else np.mod)


#: Name in ONNX -> name in PyTorch.
_UNARY = """
    Abs:abs Acos:acos Acosh:acosh Asin:asin Asinh:asinh Atan:atan Atanh:atanh BitwiseNot:bitwise_not Ceil:ceil Celu:celu
    Cos:cos Cosh:cosh Elu:elu Erf:erf Exp:exp Floor:floor Gelu:gelu HardSigmoid:hardsigmoid HardSwish:hardswish
    LeakyRelu:leaky_relu Log:log Mish:mish Neg:neg Not:logical_not Reciprocal:reciprocal Relu:relu Round:round Selu:selu
    Sigmoid:sigmoid Shrink:softshrink Sign:sign Sin:sin Sinh:sinh Softplus:softplus Softsign:softsign Sqrt:sqrt Tan:tan
    Tanh:tanh ThresholdedRelu:threshold Swish:silu HardTanh:hardtanh
"""
_BINARY = """
    Add:add Sub:sub Mul:mul Div:div Pow:pow And:logical_and Or:logical_or Xor:logical_xor
    BitwiseAnd:bitwise_and BitwiseOr:bitwise_or BitwiseXor:bitwise_xor BitShift:bitwise_left_shift Max:maximum
    Min:minimum Sum:add Mean:add PRelu:_prelu_kernel
"""
_TESTS = """
    Equal:eq Greater:gt GreaterOrEqual:ge Less:lt LessOrEqual:le IsNaN:isnan IsInf:isinf
"""

_NUMBERS: Mapping[str, Callable[..., Any]] = {
    "Abs": np.abs, "Ceil": np.ceil, "Exp": np.exp, "Floor": np.floor, "Log": np.log, "Neg": np.negative,
    "Not": np.logical_not, "Reciprocal": np.reciprocal, "Round": np.round, "Sign": np.sign, "Sqrt": np.sqrt,
    "Relu": lambda x: np.maximum(x, 0), "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _quotient,
    "Pow": np.float_power, "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
    "Max": np.maximum, "Min": np.minimum, "Sum": np.add, "Equal": np.equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal, "Less": np.less, "LessOrEqual": np.less_equal,
}  # fmt: skip


def _names(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.split())


def compute(function: Callable[..., Any], operands: Sequence[Value], shape: Shape, dtype: str) -> Any:
    """The numbers of a small result, None where they are not known."""
    if any(value.data is None for value in operands) or not small(shape):
        return None
    with np.errstate(all="ignore"):
        result = operands[0].data
        if len(operands) == 1:
            result = function(result)
        for other in operands[1:]:
            result = function(result, other.data)
    return in_family(np.broadcast_to(result, shape), dtype)


def in_family(array: Any, dtype: str) -> Any:
    """Numbers in the widest type of the family of ``dtype``; what is no number becomes 0."""
    if dtype == "bool":
        return array.astype(np.bool_)
    if "float" in dtype:
        return array.astype(np.float64)
    if "int" not in dtype:
        return None
    return np.nan_to_num(array, posinf=2.0**62, neginf=-(2.0**62)).astype(np.int64)


def elementwise(step: Step, name: str, operands: Sequence[Value], dtype: str, function: Any = None) -> Value:
    """One operator over stretched operands."""
    shape = broadcast(*(value.shape for value in operands))
    data = compute(function, operands, shape, dtype) if function else None
    out = step.result(shape, dtype, data)
    step.emit(f"aten.{name}", operands, [out])
    return out


def _present(step: Step) -> list[Value]:
    values = [value for value in step.inputs if value is not None]
    if not values:
        raise RuleError("it has no operands")
    return values


def _arithmetic(name: str) -> Rule:
    def rule(step: Step) -> Value:
        operands = _present(step)
        if len(operands) == 1 and step.node.op in ("Max", "Min", "Sum", "Mean"):
            return operands[0]
        return elementwise(step, name, operands, operands[0].dtype, _NUMBERS.get(step.node.op))

    return rule


def _unary(name: str) -> Rule:
    def rule(step: Step) -> Value:
        return elementwise(step, name, [step[0]], step[0].dtype, _NUMBERS.get(step.node.op))

    return rule


def _test(name: str) -> Rule:
    return lambda step: elementwise(step, name, _present(step), "bool", _NUMBERS.get(step.node.op))


def _clip(step: Step) -> Value:
    out = step.result(step[0].shape, step[0].dtype, _clipped(step))
    step.emit("aten.clamp", [step[0]], [out])
    return out


def _clipped(step: Step) -> Any:
    low, high = (step.get(index) for index in (1, 2))
    bounds = [value.data if value is not None else None for value in (low, high)]
    if step[0].data is None or any(v is not None and b is None for v, b in zip((low, high), bounds, strict=True)):
        return None
    return np.clip(step[0].data, *bounds) if any(b is not None for b in bounds) else step[0].data


def _where(step: Step) -> Value:
    condition, x, y = step[0], step[1], step[2]
    shape = broadcast(condition.shape, x.shape, y.shape)
    data = None
    if small(shape) and all(value.data is not None for value in (condition, x, y)):
        data = np.broadcast_to(np.where(condition.data, x.data, y.data), shape)
    out = step.result(shape, x.dtype, data)
    step.emit("aten.where", [condition, x, y], [out])
    return out


def cast(step: Step, value: Value, dtype: str) -> Value:
    """The value in another type; between types that a graph does not tell apart it is the value itself."""
    if dtype == value.dtype and not value.stored:
        return value
    out = step.result(value.shape, dtype, None if value.data is None else in_family(value.data, dtype))
    if value.constant:
        out.source, out.role = value.source, value.role
    step.emit("aten._to_copy", [value], [out])
    return out


def _cast(step: Step) -> Value:
    to = step.attr("to")
    if to not in DTYPES:
        raise RuleError(f"it casts to the unknown type {to}")
    return cast(step, step[0], DTYPES[to])


def _bit_cast(step: Step) -> Value:
    """The same bytes read as another type of the same width."""
    value = _cast(step)
    value.data = None
    return value


def identity(step: Step) -> Value:
    """The value itself under another name."""
    return step[0]


def _dropout(step: Step) -> list[Value]:
    return [step[0], step.result(step[0].shape, "bool")]


def constant(step: Step) -> Value:
    """A constant that stands in a node."""
    for key, family, dtype in (
        ("value_int", np.int64, "int64"), ("value_ints", np.int64, "int64"),
        ("value_float", np.float64, "float32"), ("value_floats", np.float64, "float32"),
    ):  # fmt: skip
        if step.attr(key) is not None:
            data = np.asarray(step.attr(key), dtype=family)
            return step.result(data.shape, dtype, data)
    if step.attr("value_string") is not None or step.attr("value_strings") is not None:
        text = step.attr("value_strings")
        return step.result((len(text),) if text is not None else (), "string")
    held = step.attr("value") or step.attr("sparse_value")
    if not isinstance(held, Const):
        raise RuleError("it has no value")
    return step.tracer.constant(held if held.name else replace(held, name=step.node.outputs[0]))


def _random(step: Step) -> Value:
    like = step.get(0)
    shape = like.shape if like is not None else step.attr("shape")
    if shape is None:
        raise RuleError("it has no shape")
    given = step.attr("dtype")
    out = step.result(shape, DTYPES.get(given, "float32") if given or like is None else like.dtype)
    step.emit("aten.bernoulli" if step.node.op == "Bernoulli" else "aten.uniform", [], [out])
    out.constant = False
    return out


def _multinomial(step: Step) -> Value:
    dtype = DTYPES.get(step.attr("dtype", 6), "int32")
    out = step.result((step[0].shape[0], step.attr("sample_size", 1)), dtype)
    step.emit("aten.multinomial", [step[0]], [out])
    return out


def like_first(step: Step) -> Value:
    """An operator that no cost law covers, with a result like its first operand."""
    out = step.result(step[0].shape, step[0].dtype)
    step.emit(f"onnx.{step.node.op}", _present(step), [out])
    return out


def _determinant(step: Step) -> Value:
    out = step.result(step[0].shape[:-2], step[0].dtype)
    step.emit("onnx.Det", [step[0]], [out])
    return out


def _cumulative(name: str) -> Rule:
    def rule(step: Step) -> Value:
        data, plain = None, not step.attr("exclusive", 0) and not step.attr("reverse", 0)
        if plain and name == "aten.cumsum" and step[0].data is not None and step[1].data is not None:
            data = np.cumsum(step[0].data, axis=int(step[1].data))
        out = step.result(step[0].shape, step[0].dtype, data)
        step.emit(name, [step[0]], [out])
        return out

    return rule


def _string_split(step: Step) -> list[Value]:
    most = step.attr("maxsplit")
    if most is None:
        step.note(f"{step.node} splits texts into 8 words; how many there are depends on data")
        most = 7
    return [step.result((*step[0].shape, most + 1), "string"), step.result(step[0].shape, "int64")]


def _word_counts(step: Step) -> Value:
    columns = max(step.attr("ngram_indexes") or [0]) + 1
    out = step.result((*step[0].shape[:-1], columns), "float32")
    step.emit("onnx.TfIdfVectorizer", [step[0]], [out])
    return out


RULES: dict[str, Rule] = {
    **{op: _unary(name) for op, name in _names(_UNARY).items()},
    **{op: _arithmetic(name) for op, name in _names(_BINARY).items()},
    **{op: _test(name) for op, name in _names(_TESTS).items()},
    **dict.fromkeys(("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli"), _random),
    **dict.fromkeys(("Identity", "StringNormalizer"), identity),
    "Clip": _clip,
    "Mod": _modulo,
    "Where": _where,
    "Cast": _cast,
    "BitCast": _bit_cast,
    "CastLike": lambda step: cast(step, step[0], step[1].dtype),
    "Dropout": _dropout,
    "Constant": constant,
    "Multinomial": _multinomial,
    "Det": _determinant,
    "CumProd": _cumulative("aten.cumprod"),
    "CumSum": _cumulative("aten.cumsum"),
    "Hardmax": like_first,
    "StringSplit": _string_split,
    "SwiGLU": lambda step: elementwise(step, "glu", [step[0], step[1]], step[0].dtype),
    "TfIdfVectorizer": _word_counts,
    "StringConcat": lambda step: step.result(broadcast(step[0].shape, step[1].shape), "string"),
    "RegexFullMatch": lambda step: step.result(step[0].shape, "bool"),
}
