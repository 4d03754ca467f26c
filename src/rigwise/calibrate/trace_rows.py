"""Operators of a recorded step as rows of the tables that ``rigwise calibrate`` reads.

Only what the tables have words for, of matched operators whose recorded sizes are the case's. Whole steps are left
out: a profiler makes them longer, kernels hardly. Several calls of one shape become one row, their median.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from statistics import median

from rigwise.calibrate.trace_match import Comparison
from rigwise.graph.op import Kind, Op, Phase
from rigwise.graph.tree import Row
from rigwise.measurement.profile.units import Unit
from rigwise.measurement.tables import OPTIONAL, REQUIRED

_PRECISION = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16", "float64": "fp64"}
_ROWS = {
    "aten.relu": "relu", "aten.relu_": "relu", "aten.gelu": "gelu", "aten.tanh": "tanh", "aten.add": "add",
    "aten.add_": "add", "aten.mul": "mul", "aten.div": "div", "aten._softmax": "softmax",
    "aten.native_layer_norm": "ln",
}  # fmt: skip
_TWO_OPERANDS = ("add", "mul", "div")
_COLUMNS = (*REQUIRED, *OPTIONAL)
#: Matrix products that the tables can ask for.
_PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm", "aten.baddbmm")
#: A shorter time is more launch and timer than operator.
_LEAST_S = 2e-6


def rows_text(
    rows: Sequence[Row], found: tuple[Comparison, Sequence[Unit]], sizes: Mapping[str, int], device: str, layout: str
) -> tuple[str, int]:
    """A table in CSV, and how many rows it has.

    Args:
        rows: Of the predicted step.
        found: What was matched, and the units that it names.
        sizes: Of the symbols.
        device: Catalogue id.
        layout: nchw or nhwc.
    """
    comparison, units = found
    times: dict[tuple[str, str, str, str], list[float]] = {}
    for matched in comparison.matched:
        row = rows[matched.rows[0]]
        key = _key(row.op, sizes, row.number_format) if len(matched.rows) == 1 else None
        if key is None or matched.by.get("sizes", 0) < matched.seen:
            continue
        here = (*key, layout if row.op.kind is Kind.CONV else "")
        times.setdefault(here, []).extend(units[index].time_s for index in matched.units)
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    count = 0
    for (model, shape, precision, order), seconds in times.items():
        if median(seconds) < _LEAST_S:
            continue
        cells = {"device": device, "model": model, "task": "infer", "precision": precision, "layout": order}
        cells |= {"input_shape_or_seq": shape, "metric": "us_per_step", "value": f"{median(seconds) * 1e6:.4g}"}
        table.writerow(cells | {"source": "rigwise trace", "notes": f"calls={len(seconds)}"})
        count += 1
    return text.getvalue(), count


def _key(op: Op, sizes: Mapping[str, int], number_format: str) -> tuple[str, str, str] | None:
    """Operator, shape and precision in the words of the tables; None where they have none."""
    tensors = [tensor for tensor in op.inputs if tensor.is_floating]
    precision = _PRECISION.get(tensors[0].dtype) if tensors else None
    if precision is None or any(tensor.dtype != tensors[0].dtype for tensor in (*tensors, *op.outputs[:1])):
        return None
    dims = [[int(_size(size, sizes)) for size in tensor.shape] for tensor in op.inputs]
    if op.kind in (Kind.GEMM, Kind.CONV, Kind.ATTENTION) and number_format not in ("", precision):
        return None
    found = _words(op, dims)
    return (*found, precision) if found else None


def _size(size: object, sizes: Mapping[str, int]) -> float:
    from rigwise.graph.dim import size_at

    return float(size_at(size, sizes))  # type: ignore[arg-type]


def _words(op: Op, dims: list[list[int]]) -> tuple[str, str] | None:
    if op.name in _PRODUCTS:
        return _product(dims)
    if op.name == "aten.convolution" and op.phase is Phase.FORWARD:
        return _convolution(op, dims)
    if op.name == "rigwise.attention" and len(dims[0]) == 4:
        batch, heads, queries, head = dims[0]
        causal = " causal" if op.attrs.get("causal") else ""
        keys = f" T{dims[1][2]}" if dims[1][2] != queries else ""
        same = dims[1][1] == heads and dims[2][3] == head and not op.attrs.get("window")
        return ("op:attention", f"B{batch} A{heads} S{queries} D{head}{keys}{causal}") if same else None
    name = _ROWS.get(op.name)
    if name is None or not dims or len(dims[0]) < 2:
        return None
    if name in _TWO_OPERANDS and (len(dims) != 2 or dims[0] != dims[1]):
        return None
    length = dims[0][-1]
    rows = 1
    for size in dims[0][:-1]:
        rows *= size
    return f"op:{name}", f"B{rows} H{length}"


def _product(dims: list[list[int]]) -> tuple[str, str] | None:
    first, second = dims[:2]
    if len(first) == 3 and len(second) == 3:
        return "op:bmm", f"B{first[0]} M{first[1]} N{second[2]} K{first[2]}"
    if len(first) == 2 and len(second) == 2:
        return "op:gemm", f"M{first[0]} N{second[1]} K{first[1]}"
    return None


def _convolution(op: Op, dims: list[list[int]]) -> tuple[str, str] | None:
    plain = op.attrs.get("groups", 1) == 1 and not op.attrs.get("transposed")
    if not plain or len(dims[0]) != 4 or op.attrs.get("dilation", (1, 1)) not in ((1, 1), 1):
        return None
    images, channels, height, width = dims[0]
    outputs, _, tall, wide = dims[1]
    pad, stride = (_pair(op.attrs.get(key, usual)) for key, usual in (("padding", 0), ("stride", 1)))
    shape = f"w{width} h{height} c{channels} n{images} k{outputs} r{tall} s{wide}"
    return "op:conv", f"{shape} pad{pad[0]},{pad[1]} str{stride[0]},{stride[1]}"


def _pair(value: object) -> tuple[int, int]:
    if isinstance(value, tuple):
        return (int(value[0]), int(value[-1]))
    return (int(value), int(value)) if isinstance(value, int) else (0, 0)
