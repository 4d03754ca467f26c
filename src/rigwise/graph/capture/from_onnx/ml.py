"""Rules for the domain ``ai.onnx.ml``: scalers, linear models, trees and support vectors of scikit-learn.

Linear models are matrix products. Trees and kernels have no cost law yet: they count as the memory traffic of
their rows and of their own tables, and are listed as unknown.

Source: ONNX operator reference, domain ai.onnx.ml, version 5.
"""

from __future__ import annotations

import math
from typing import Any

from rigwise.graph.capture.from_onnx.elementwise import elementwise
from rigwise.graph.capture.from_onnx.file import Const
from rigwise.graph.capture.from_onnx.trace import Rule, Step
from rigwise.graph.capture.from_onnx.value import RuleError, Value
from rigwise.graph.op import Role

_TABLES = ("nodes_", "class_", "target_", "leaf_", "tree_", "support_vectors", "coefficients", "vectors_per_class")


def _rows(value: Value) -> int:
    return value.shape[0] if value.rank > 1 else 1


def _table(step: Step, name: str, shape: tuple[int, ...], role: Role = Role.PARAMETER) -> Value:
    """Numbers that stand in an attribute, as a constant that is a weight."""
    held = Const(f"{step.node.name or step.node.outputs[0]}.{name}", shape, "float32")
    value = step.tracer.constant(held)
    value.role = role
    if role is Role.PARAMETER:
        step.weight(value)
    step.tracer.readers.setdefault(held.name, {})[f"{step.node.op}.{name}"] = None
    step.tracer.places.setdefault(held.name, held.name)
    return value


def _classes(step: Step, default: int) -> tuple[int, str]:
    """How many classes a classifier has, and the type of their labels."""
    for key, dtype in (
        ("classlabels_int64s", "int64"), ("classlabels_ints", "int64"),
        ("classlabels_strings", "string"), ("classlabels_string", "string"),
    ):  # fmt: skip
        if step.attr(key):
            return len(step.attr(key)), dtype
    return default, "int64"


def _linear(step: Step, outputs: int) -> Value:
    """Rows times coefficients, plus an addend where there is one."""
    x, coefficients = step[0], step.attr("coefficients") or []
    if not outputs or not coefficients or len(coefficients) % outputs:
        raise RuleError(f"{len(coefficients)} coefficients are not shared by {outputs} outputs")
    features = len(coefficients) // outputs
    if x.shape[-1] != features:
        raise RuleError(f"it has coefficients for {features} features and gets {x.shape[-1]}")
    weight = _table(step, "coefficients", (features, outputs))
    out = step.result((_rows(x), outputs), "float32")
    bias = [_table(step, "intercepts", (outputs,))] if step.attr("intercepts") else []
    step.emit("aten.addmm" if bias else "aten.mm", [x, weight, *bias], [out])
    return out


def _linear_classifier(step: Step) -> list[Value]:
    count, dtype = _classes(step, 1)
    rows = max(1, len(step.attr("intercepts") or [])) if count == 2 else count
    scores = _linear(step, rows)
    scores.shape = (scores.shape[0], count)
    label = step.result((scores.shape[0],), dtype)
    step.emit("aten.argmax", [scores], [label])
    return [label, scores]


def _linear_regressor(step: Step) -> Value:
    return _linear(step, step.attr("targets", 1))


def _own_tables(step: Step) -> list[Value]:
    """The tables of a tree or a kernel as one buffer."""
    sizes = (len(value) for key, value in step.node.attrs.items() if key.startswith(_TABLES) and _is_list(value))
    held = (math.prod(v.shape) for k, v in step.node.attrs.items() if k.startswith(_TABLES) and isinstance(v, Const))
    total = sum(sizes) + sum(held)
    return [_table(step, "tables", (total,), Role.BUFFER)] if total else []


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _classifier(step: Step) -> list[Value]:
    count, dtype = _classes(step, 2)
    label, scores = step.result((_rows(step[0]),), dtype), step.result((_rows(step[0]), count), "float32")
    step.emit(f"ai.onnx.ml.{step.node.op}", [step[0], *_own_tables(step)], [label, scores])
    return [label, scores]


def _regressor(step: Step) -> Value:
    out = step.result((_rows(step[0]), step.attr("n_targets", 1)), "float32")
    step.emit(f"ai.onnx.ml.{step.node.op}", [step[0], *_own_tables(step)], [out])
    return out


def _streamed(name: str, dtype: str = "float32") -> Rule:
    """One pass over the rows."""
    return lambda step: elementwise(step, name, [step[0]], dtype or step[0].dtype)


def _picked(step: Step) -> Value:
    shape = (*step[0].shape[:-1], step[1].elements)
    out = step.result(shape if step[0].rank > 1 else (1, *shape), step[0].dtype)
    step.emit("aten.index_select", [step[0], step[1]], [out])
    return out


def _joined(step: Step) -> Value:
    values = [value for value in step.inputs if value is not None]
    sizes = step.attr("inputdimensions") or [value.shape[-1] for value in values]
    out = step.result((_rows(values[0]), sum(sizes)), "float32")
    step.emit("aten.cat", values, [out])
    return out


def _one_hot(step: Step) -> Value:
    count = len(step.attr("cats_int64s") or step.attr("cats_strings") or [])
    if not count:
        raise RuleError("it lists no categories")
    out = step.result((*step[0].shape, count), "float32")
    step.emit("aten.one_hot", [step[0]], [out])
    return out


def _labels(step: Step) -> Value:
    values = next((k for k in step.node.attrs if k.startswith("values_")), "values_int64s")
    dtype = {"values_strings": "string", "values_floats": "float32"}.get(values, "int64")
    held = step.attr("values_tensor")
    return elementwise(step, "index_select", [step[0]], held.dtype if isinstance(held, Const) else dtype)


def _vectorised(step: Step) -> Value:
    keys = step.attr("string_vocabulary") or step.attr("int64_vocabulary") or []
    return step.result((1, len(keys)), "float32")


def _zip_map(step: Step) -> Value:
    return step[0]


RULES: dict[str, Rule] = {
    "LinearClassifier": _linear_classifier, "LinearRegressor": _linear_regressor,
    **dict.fromkeys(("TreeEnsembleClassifier", "SVMClassifier"), _classifier),
    **dict.fromkeys(("TreeEnsembleRegressor", "SVMRegressor", "TreeEnsemble"), _regressor),
    "Scaler": _streamed("mul"), "Normalizer": _streamed("norm"), "Binarizer": _streamed("gt", ""),
    "Imputer": _streamed("where", ""), "ArrayFeatureExtractor": _picked, "FeatureVectorizer": _joined,
    "OneHotEncoder": _one_hot, "LabelEncoder": _labels, "CategoryMapper": _labels, "DictVectorizer": _vectorised,
    "ZipMap": _zip_map, "CastMap": _zip_map,
}  # fmt: skip
