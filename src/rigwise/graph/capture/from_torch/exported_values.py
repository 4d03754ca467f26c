"""Arguments, results and tensors as an exported program writes them: ``{"as_kind": value}``.

Source: ``Argument``, ``TensorMeta`` and ``ScalarType`` of ``torch/_export/serde/schema.py``, PyTorch 2.13.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from rigwise.errors import UnsupportedError

#: Numbers that the file has for types.
_DTYPES = {
    1: torch.uint8, 2: torch.int8, 3: torch.int16, 4: torch.int32, 5: torch.int64, 6: torch.float16, 7: torch.float32,
    8: torch.float64, 9: torch.complex32, 10: torch.complex64, 11: torch.complex128, 12: torch.bool, 13: torch.bfloat16,
    28: torch.uint16, 29: torch.float8_e4m3fn, 30: torch.float8_e5m2,
}  # fmt: skip
_MEMORY_FORMATS = (
    None, torch.contiguous_format, torch.channels_last, torch.channels_last_3d, torch.preserve_format
)  # fmt: skip
_LARGEST = 2**48

Argument = Mapping[str, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMeta:
    """What the file says of a tensor.

    Attributes:
        dtype: Its type.
        sizes: A number for each axis, or an expression where it is free.
        hints: The sizes it had when it was exported.
        trainable: Whether it had a gradient.
    """

    dtype: torch.dtype
    sizes: tuple[int | str, ...]
    hints: tuple[int, ...]
    trainable: bool


def meta_of(described: Argument) -> TensorMeta:
    """A tensor's description; raises what Python raises where it is none."""
    dtype = _DTYPES[described["dtype"]]
    sizes = [_size(entry) for entry in described["sizes"]]
    return TensorMeta(
        dtype=dtype,
        sizes=tuple(size for size, _ in sizes),
        hints=tuple(hint for _, hint in sizes),
        trainable=bool(described["requires_grad"]) and dtype.is_floating_point,
    )


def _size(entry: Argument) -> tuple[int | str, int]:
    """A size, and what it was when the program was exported."""
    if "as_int" in entry:
        number = _checked(entry["as_int"])
        return number, number
    free = entry["as_expr"]
    return str(free["expr_str"])[:200], _checked((free.get("hint") or {"as_int": 2})["as_int"])


def _checked(size: Any) -> int:
    if type(size) is not int or not 0 <= size < _LARGEST:
        raise ValueError(f"a tensor with a side of {size!r}")
    return size


def name_of(argument: Argument) -> str:
    """The name under which a value is known, empty for a constant."""
    ((_, value),) = argument.items()
    return str(value.get("name") or value.get("as_name") or "") if isinstance(value, Mapping) else ""


def value_of(argument: Argument, values: Values) -> Any:
    """The value of an argument: as it stands, or computed before.

    >>> value_of({"as_ints": [2, 3]}, {}), value_of({"as_sym_int": {"as_name": "n"}}, {"n": 7})
    ([2, 3], 7)
    """
    ((kind, value),) = argument.items()
    if kind not in _READ:
        raise UnsupportedError(f"an exported program with an argument of the kind {kind[:40]!r} is not read")
    return _READ[kind](value, values)


def bind(argument: Argument, result: Any, values: dict[str, Any]) -> None:
    """Keep a result under the name, or the names, that the file gives it."""
    ((kind, value),) = argument.items()
    if kind in ("as_tensors", "as_optional_tensors"):
        for entry, part in zip(value, result, strict=True):
            named = entry if kind == "as_tensors" else entry.get("as_tensor")
            if named:
                values[named["name"]] = part
    elif kind != "as_none":
        values[name_of(argument)] = result


def _as_it_stands(value: Any, _values: Values) -> Any:
    return value


def _named(value: Any, values: Values) -> Any:
    return values[value["name"]]


def _each_named(value: Any, values: Values) -> list[Any]:
    return [values[entry["name"]] for entry in value]


def _symbol(value: Any, values: Values) -> Any:
    """A number, or the name of one."""
    ((kind, number),) = value.items()
    return values[number] if kind == "as_name" else number


def _floats(value: Any, values: Values) -> Any:
    """Infinity, and what is no number, are text in the file."""
    return [_floats(entry, values) for entry in value] if isinstance(value, list) else float(value)


_READ: Mapping[str, Callable[[Any, Values], Any]] = {
    "as_none": lambda *_: None,
    "as_tensor": _named,
    "as_tensors": _each_named,
    "as_nested_tensors": lambda value, values: [_each_named(entry, values) for entry in value],
    "as_optional_tensor": value_of,
    "as_optional_tensors": lambda value, values: [value_of(entry, values) for entry in value],
    **dict.fromkeys(("as_sym_int", "as_sym_bool", "as_sym_float"), _symbol),
    **dict.fromkeys(
        ("as_sym_ints", "as_sym_bools", "as_sym_floats"),
        lambda value, values: [_symbol(entry, values) for entry in value],
    ),
    **dict.fromkeys(("as_float", "as_floats", "as_float_lists"), _floats),
    **dict.fromkeys(
        ("as_int", "as_ints", "as_int_lists", "as_bool", "as_bools", "as_string", "as_strings"), _as_it_stands
    ),
    "as_scalar_type": lambda value, _: _DTYPES[value],
    "as_memory_format": lambda value, _: _MEMORY_FORMATS[value],
    "as_layout": lambda *_: torch.strided,
    "as_device": lambda *_: torch.device("cpu"),
}
