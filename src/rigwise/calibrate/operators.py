"""Rows that time one operator: its shape, written as tables write it, as an operator of a graph."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rigwise.errors import InvalidInputError, UnsupportedError
from rigwise.graph.op import Attr, Kind, Op, Phase, Role, Tensor
from rigwise.measurement.measurement import Measurement

_PRODUCTS = frozenset({"gemm", "bmm", "linear"})
_UNARY = frozenset({"relu", "gelu", "tanh", "addu", "mulu", "divu", "powu"})
_BINARY = frozenset({"add", "mul", "div", "pow"})
_CONVS = {"conv": "aten.convolution", "conv_dgrad": "rigwise.conv_dgrad", "conv_wgrad": "rigwise.conv_wgrad"}
COLLECTIVES = frozenset({"all_reduce", "all_gather", "reduce_scatter", "alltoall", "send_recv"})

#: Precision of one operator -> (number format of the arithmetic, type of what is read, type of what is written).
_FORMATS = {
    "fp32": ("fp32", "float32", "float32"),
    "fp32 (tf32 off)": ("fp32", "float32", "float32"),
    "fp64": ("fp64", "float64", "float64"),
    "bfloat16": ("bf16", "bfloat16", "bfloat16"),
    "bf16": ("bf16", "bfloat16", "bfloat16"),
    "fp16": ("fp16", "float16", "float16"),
    "half": ("fp16", "float16", "float16"),
    "fp16 in, fp32 acc": ("fp16", "float16", "float16"),
    "fp16 storage, fp32 math": ("fp32", "float16", "float16"),
    "fp8": ("fp8", "float8", "bfloat16"),
    "fp8_block": ("fp8", "float8", "bfloat16"),
    "int8": ("int8", "int8", "int8"),
    "sq": ("int8", "int8", "bfloat16"),  # SmoothQuant: both operands are 8-bit integers
    "int8_wo": ("bf16", "int8", "bfloat16"),  # weights alone are narrow
    "int4_wo": ("bf16", "int4", "bfloat16"),
}

#: Letters of a convolution in the order: images, channels in and out, height, width, kernel height and width.
_CONV_WORDS = (
    ("n", "c", "k", "h", "w", "r", "s"),
    ("B", "Input_Channel", "Output_Channel", "Input_Size", "Input_Size", "Kernel_Szie", "Kernel_Szie"),
    ("B", "Input_Channel", "Output_Channel", "Input_Size", "Input_Size", "Kernel_Size", "Kernel_Size"),
)
#: Tables whose products are ``[M, N] x [N, K]``: their names of kernels show that N is the inner dimension. Only where
#: it is long do they cut it ("sliced"), and tiles are filled up along K.
_INNER_IS_N = frozenset({"neusight_ops"})

#: No size of an operator has more.
_MOST_DIGITS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a collective moves.

    Attributes:
        collective: One of ``COLLECTIVES``.
        message_bytes: The whole message, as each device holds it before a reduction.
    """

    collective: str
    message_bytes: float


def operator_name(m: Measurement) -> str:
    """The first word after ``op:``."""
    return (m.model.removeprefix("op:").split() or [""])[0].lower()


def operator_of(m: Measurement) -> Op | Message:
    """The operator that a row timed.

    Raises:
        UnsupportedError: No law for such an operator, or for its precision.
        InvalidInputError: The shape lacks a size.
    """
    name = operator_name(m)
    number_format, read, written = _format_of(m)
    if name in COLLECTIVES:
        return Message(collective=name, message_bytes=_message_bytes(m.shape, read))
    found = re.findall(r"([A-Za-z_]+)(\d+)", m.shape, re.ASCII)
    if any(len(number) > _MOST_DIGITS for _, number in found):
        raise InvalidInputError(f"shape {m.shape[:60]!r} has a size out of range")
    sizes = {key: int(number) for key, number in found}
    if any(size < 1 for key, size in sizes.items() if not key.lower().startswith("pad")):
        raise InvalidInputError(f"shape {m.shape[:60]!r} has a size out of range")
    if m.source in _INNER_IS_N:
        sizes |= {mine: sizes[theirs] for mine, theirs in (("N", "K"), ("K", "N")) if theirs in sizes}
    attrs: dict[str, Attr] = {"format": number_format}
    if name in _PRODUCTS:
        return _product(name, m.shape, sizes, (read, written), attrs)
    if name in _CONVS:
        return _convolution(name, m.shape, sizes, (read, written), attrs)
    if name == "attention":
        return _attention(m.shape, sizes, read, attrs)
    if name in _UNARY | _BINARY | {"softmax", "ln"}:
        return _rows(name, _need(sizes, ("B", "H"), m.shape), read, attrs)
    raise UnsupportedError(f"operator {name[:40]!r} cannot be asked")


def _format_of(m: Measurement) -> tuple[str, str, str]:
    found = _FORMATS.get(m.precision.lower())
    if found is None:
        raise UnsupportedError(f"precision {m.precision[:40]!r} of an operator cannot be asked")
    return found


def _need(sizes: Mapping[str, int], names: tuple[str, ...], shape: str) -> list[int]:
    missing = [name for name in names if name not in sizes]
    if missing:
        raise InvalidInputError(f"shape {shape[:60]!r} does not say {missing[0]}")
    return [sizes[name] for name in names]


def _product(name: str, shape: str, sizes: Mapping[str, int], dtypes: tuple[str, str], attrs: Mapping[str, Attr]) -> Op:
    """A product; a linear layer over a batch has one weight for all of it."""
    m, n, k = _need(sizes, ("M", "N", "K"), shape)
    rows = sizes.get("B", 1)
    batch = (rows,) if rows > 1 and name != "linear" else ()
    m = m * rows if name == "linear" else m
    read, written = dtypes
    first = written if attrs["format"] == "bf16" else read
    second = Role.ACTIVATION if name == "bmm" else Role.PARAMETER
    return Op(
        name="aten.bmm" if batch else "aten.mm",
        kind=Kind.GEMM,
        phase=Phase.FORWARD,
        inputs=(Tensor((*batch, m, k), first), Tensor((*batch, k, n), read, second)),
        outputs=(Tensor((*batch, m, n), written),),
        attrs=attrs,
    )


def _convolution(
    name: str, shape: str, sizes: Mapping[str, int], dtypes: tuple[str, str], attrs: Mapping[str, Attr]
) -> Op:
    words = next((names for names in _CONV_WORDS if set(names) <= sizes.keys()), _CONV_WORDS[0])
    n, c, k, h, w, r, s = _need(sizes, words, shape)
    stride = _pair(shape, "str|Stride", 1)
    pad = _pair(shape, "pad|Padding", 0)
    out_h, out_w = (h + 2 * pad[0] - r) // stride[0] + 1, (w + 2 * pad[1] - s) // stride[1] + 1
    if out_h < 1 or out_w < 1:
        raise InvalidInputError(f"shape {shape[:60]!r} leaves no output")
    x, weight = Tensor((n, c, h, w), dtypes[0]), Tensor((k, c, r, s), dtypes[0], Role.PARAMETER)
    y = Tensor((n, k, out_h, out_w), dtypes[1])
    inputs, output = {"conv": ((x, weight), y), "conv_dgrad": ((y, weight), x), "conv_wgrad": ((y, x), weight)}[name]
    return Op(
        name=_CONVS[name],
        kind=Kind.CONV,
        phase=Phase.FORWARD if name == "conv" else Phase.BACKWARD,
        inputs=inputs,
        outputs=(output,),
        attrs={**attrs, "stride": stride, "padding": pad, "dilation": (1, 1), "groups": 1},
    )


def _attention(shape: str, sizes: Mapping[str, int], dtype: str, attrs: Mapping[str, Attr]) -> Op:
    """Fused attention: batch, heads, queries, size of a head; as many keys as queries unless ``T`` says otherwise."""
    batch, heads, queries, head = _need(sizes, ("B", "A", "S", "D"), shape)
    query = Tensor((batch, heads, queries, head), dtype)
    key = Tensor((batch, heads, sizes.get("T", queries), head), dtype)
    return Op(
        name="rigwise.attention",
        kind=Kind.ATTENTION,
        phase=Phase.FORWARD,
        inputs=(query, key, key),
        outputs=(query,),
        attrs={**attrs, "causal": "causal" in shape},
    )


def _pair(shape: str, word: str, usual: int) -> tuple[int, int]:
    match = re.search(rf"(?:{word})([0-9]{{1,{_MOST_DIGITS}}})(?:,([0-9]{{1,{_MOST_DIGITS}}}))?", shape)
    first = int(match.group(1)) if match else usual
    second = int(match.group(2)) if match and match.group(2) else first
    return max(first, usual), max(second, usual)


def _rows(name: str, sizes: list[int], dtype: str, attrs: Mapping[str, Attr]) -> Op:
    """An operator over rows of equal length: elementwise, softmax or layer normalisation."""
    rows, length = sizes
    x = Tensor((rows, length), dtype)
    kinds = {"softmax": ("aten._softmax", Kind.SOFTMAX), "ln": ("aten.native_layer_norm", Kind.NORM)}
    full_name, kind = kinds.get(name, (f"aten.{name.removesuffix('u') if name in _UNARY else name}", Kind.ELEMENTWISE))
    scale = Tensor((length,), dtype, Role.PARAMETER)
    inputs = (x, scale, scale) if name == "ln" else (x, x) if name in _BINARY else (x,)
    return Op(name=full_name, kind=kind, phase=Phase.FORWARD, inputs=inputs, outputs=(x,), attrs=attrs)


def _message_bytes(shape: str, dtype: str) -> float:
    from rigwise.graph.count import BYTES_OF_DTYPE

    if match := re.fullmatch(r"message_size=([0-9]{1,15}) elements", shape):
        return int(match.group(1)) * BYTES_OF_DTYPE[dtype]
    if match := re.fullmatch(r"bytes=([0-9]{1,15})", shape):
        return float(match.group(1))
    if match := re.fullmatch(r"([0-9]{1,15}) floats", shape):
        return int(match.group(1)) * 4.0
    raise InvalidInputError(f"message {shape[:60]!r} is neither 'message_size=N elements' nor 'bytes=N'")
