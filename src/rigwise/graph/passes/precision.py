"""Lower a graph captured in float32 to the number formats of a workload.

``fp16``, ``bf16``, ``fp64``: weights, activations and gradients in that format. ``tf32``
changes only how matrix operators multiply. ``amp-*`` is autocast with float32 master
weights: matrix operators run in 16 bits, normalisation, softmax and losses in float32, all
others in the widest format they are given; casts are operators of their own, as they are on
the device. ``fp8`` stores and multiplies weights in 8 bits; ``int8`` and ``int4`` store them
so and multiply in the device's best wider format.

Source for autocast: the operator lists of the PyTorch automatic mixed precision reference, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rigwise.graph.op import Kind, Op, Phase, Role, Tensor
from rigwise.graph.passes.rewrite import local, rewrite

MATRIX_KINDS = frozenset({Kind.GEMM, Kind.CONV, Kind.ATTENTION, Kind.RNN})
_FLOAT32_KINDS = frozenset({Kind.SOFTMAX, Kind.NORM, Kind.SCAN})

#: Operators that autocast runs in float32, beside those of the kinds above, and those it leaves as they come.
_FLOAT32_NAMES = """
    pow rsqrt reciprocal exp expm1 log log10 log2 log1p acos asin cosh sinh tan erfinv softplus sum prod dist norm
    linalg_vector_norm renorm cdist cosine_similarity kl_div l1_loss smooth_l1_loss mse_loss huber_loss soft_margin_loss
    nll_loss nll_loss2d nll_loss_forward nll_loss2d_forward binary_cross_entropy_with_logits multi_margin_loss
"""
_FLOAT32 = frozenset(f"aten.{name}" for name in _FLOAT32_NAMES.split())
_SIXTEEN_BIT = frozenset({"aten.prelu", "aten._prelu_kernel"})  # beside matrix operators
_KEEPS_FORMAT = ("batch_norm",)
_FAST_NORMS = frozenset({"aten.native_group_norm"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What a workload's dtype means for the tensors and the arithmetic.

    Attributes:
        storage: dtype of floating tensors.
        weights: dtype of the weights of matrix operators.
        compute: Number format of matrix operators that have a weight, a key of ``RATES_OF_FORMAT``.
        autocast: 16-bit dtype of matrix operators under autocast, empty without it.
        fast_norm: Group normalisation stays in that, where autocast would run it in float32.
    """

    storage: str
    weights: str
    compute: str
    autocast: str = ""
    fast_norm: bool = False

    @property
    def other_compute(self) -> str:
        """Number format of matrix operators without a weight: attention, products of activations."""
        wide = {"fp8": "bf16"}
        return wide.get(self.compute, self.compute)


_DTYPE_OF_FORMAT = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def precision_of(dtype: str, best_format: str = "bf16") -> Precision:
    """The meaning of a workload's dtype; ``best_format`` computes int8 and int4 weights.

    >>> p = precision_of("int4", "fp16")
    >>> p.storage, p.weights, p.compute
    ('float16', 'int4', 'fp16')
    """
    if dtype.startswith("amp-"):
        compute = dtype.removeprefix("amp-")
        return Precision(storage="float32", weights="float32", compute=compute, autocast=_DTYPE_OF_FORMAT[compute])
    if dtype == "fp8":
        return Precision(storage="bfloat16", weights="float8", compute="fp8")
    if dtype in ("int8", "int4"):
        return Precision(storage=_DTYPE_OF_FORMAT[best_format], weights=dtype, compute=best_format)
    storage = _DTYPE_OF_FORMAT[dtype]
    return Precision(storage=storage, weights=storage, compute=dtype)


def lower(ops: Sequence[Op], precision: Precision) -> tuple[Op, ...]:
    """The operators with every floating tensor in the format it has under ``precision``."""
    if precision.autocast:
        return _autocast(ops, precision)
    return tuple(_stored(op, precision) for op in ops)


def compute_format(op: Op, precision: Precision) -> str:
    """Number format in which a matrix operator multiplies."""
    has_weight = any(t.role in (Role.PARAMETER, Role.GRADIENT) for t in (*op.inputs, *op.outputs))
    return precision.compute if has_weight else precision.other_compute


def _in_dtype(tensor: Tensor, dtype: str) -> Tensor:
    if tensor.dtype in (dtype, "float64") or not tensor.is_floating:
        return tensor
    return replace(tensor, dtype=dtype)


def _stored(op: Op, precision: Precision) -> Op:
    def dtype_of(tensor: Tensor) -> str:
        is_weight = tensor.role is Role.PARAMETER and len(tensor.shape) > 1 and op.kind in MATRIX_KINDS
        return precision.weights if is_weight else precision.storage

    op = replace(
        op,
        inputs=tuple(_in_dtype(t, dtype_of(t)) for t in op.inputs),
        outputs=tuple(_in_dtype(t, precision.storage) for t in op.outputs),
    )
    return _with_format(op, precision)


def _with_format(op: Op, precision: Precision) -> Op:
    if op.kind not in MATRIX_KINDS:
        return op
    doubles = any(t.dtype == "float64" for t in op.inputs)
    return replace(op, attrs={**op.attrs, "format": "fp64" if doubles else compute_format(op, precision)})


def wants(op: Op, precision: Precision) -> str:
    """The format autocast asks of an operator: 16 bits, float32, or "" for the widest input.

    Autocast is off in the backward pass, where each gradient has the format of what it is the gradient
    of: that of matrix operators and normalisation is known, sums and powers take what comes.
    """
    name = op.name.removesuffix("_")
    if name in _SIXTEEN_BIT or (op.kind in MATRIX_KINDS and name not in _FLOAT32):
        return precision.autocast
    if precision.fast_norm and op.phase is Phase.FORWARD and name in _FAST_NORMS:
        return precision.autocast
    if any(part in name for part in _KEEPS_FORMAT):
        return ""
    if op.kind in _FLOAT32_KINDS or (op.phase is Phase.FORWARD and name in _FLOAT32):
        return "float32"
    return ""


def _result_dtypes(ops: Sequence[Op], precision: Precision, twins: Mapping[int, int]) -> list[str]:
    """Format of each operator's results, found by following the data twice around each block.

    A backward operator has the format of its twin. What comes round from the previous repetition is
    unknown ("") the first time and left out.
    """
    result = [""] * len(ops)
    for _ in range(2):
        for index, op in enumerate(ops):
            wanted = wants(op, precision) or (result[twins[index]] if index in twins else "")
            given = {result[t.producer] for t in op.inputs if t.producer is not None and t.is_floating} - {""}
            given |= {"float32"} if _meets_master(op) else set()
            widest = "float32" if not given or "float32" in given else precision.autocast
            result[index] = wanted or widest
    return result


def _meets_master(op: Op) -> bool:
    """Whether arithmetic meets a weight or an input in float32, as a position embedding or the scale of a layer is.

    Scalars do not widen what they meet.
    """
    joins = op.kind is Kind.ELEMENTWISE or op.name in ("aten.cat", "aten.stack")
    return joins and any(t.producer is None and t.is_floating and t.shape for t in op.inputs)


def _twins(ops: Sequence[Op]) -> dict[int, int]:
    """For a backward operator, the forward operator of the same name whose results it takes the gradient of.

    A gradient has the format of its tensor, whatever arrives: PyTorch casts it where formats meet.
    """
    forward: dict[tuple[str, str], int] = {}
    twins: dict[int, int] = {}
    for index, op in enumerate(ops):
        name = op.name.removesuffix("_").removesuffix("_backward")
        if op.phase is Phase.FORWARD:
            forward[op.module, name] = index
        elif op.name.endswith("_backward") and (op.module, name) in forward:
            twins[index] = forward[op.module, name]
    return twins


def _autocast(ops: Sequence[Op], precision: Precision) -> tuple[Op, ...]:
    twins = _twins(ops)
    result = _result_dtypes(ops, precision, twins)
    cast_before: set[tuple[int, int, str]] = set()  # gradients that are there in 16 bits already

    def expand(index: int, op: Op) -> list[Op]:
        """Casts of what arrives in another format, the operator, the cast of its gradient."""
        dtype = result[index]
        strict = bool(wants(op, precision)) or index in twins or (op.phase is Phase.BACKWARD and _adds(op))
        casts: list[Op] = []
        inputs: list[Tensor] = []
        for tensor in op.inputs:
            given = result[tensor.producer] if tensor.producer is not None else "float32"
            as_given = _in_dtype(tensor, given)
            if not (strict and tensor.is_floating and given != dtype):
                inputs.append(as_given)
                continue
            key = (tensor.producer if tensor.producer is not None else -1, op.repeat, dtype)
            if _is_cast_here(op, tensor, ops) and (op.phase is Phase.FORWARD or key not in cast_before):
                cast_before.add(key)
                casts.append(_cast(op, as_given, dtype))
                inputs.append(replace(as_given, dtype=dtype, producer=local(len(casts) - 1)))
            else:
                inputs.append(replace(as_given, dtype=dtype))
        done = replace(op, inputs=tuple(inputs), outputs=tuple(_in_dtype(t, dtype) for t in op.outputs))
        group = [*casts, _with_format(done, precision)]
        if dtype != "float32" and any(t.role is Role.GRADIENT for t in op.outputs):
            gradient = next(t for t in done.outputs if t.role is Role.GRADIENT)
            group.append(_cast(op, replace(gradient, producer=local(len(group) - 1)), "float32"))
        return group

    return rewrite(ops, expand)


def _adds(op: Op) -> bool:
    """Whether an operator adds up gradients that several readers of a tensor hand back."""
    return op.name in ("aten.add", "aten.add_") and len(op.inputs) == 2


def _is_cast_here(op: Op, tensor: Tensor, ops: Sequence[Op]) -> bool:
    """Backward operators find weights and saved activations as the forward pass cast them."""
    if op.phase is Phase.FORWARD:
        return True
    return tensor.producer is not None and ops[tensor.producer].phase is Phase.BACKWARD


def _cast(reader: Op, tensor: Tensor, dtype: str) -> Op:
    """The operator that converts ``tensor`` for its reader."""
    role = Role.GRADIENT if tensor.role is Role.GRADIENT else Role.ACTIVATION
    saved = role is Role.ACTIVATION and reader.phase is Phase.FORWARD and reader.kind in MATRIX_KINDS
    out = Tensor(shape=tensor.shape, dtype=dtype, role=role, saved=saved)
    return Op(
        name="aten._to_copy",
        kind=Kind.COPY,
        phase=reader.phase,
        inputs=(tensor,),
        outputs=(out,),
        module=reader.module,
        repeat=reader.repeat,
    )
