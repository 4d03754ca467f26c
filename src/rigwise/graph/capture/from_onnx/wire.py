"""The bytes of an ONNX file without the numbers in its weights.

A file is a protobuf message. Weights make up nearly all of it, and a graph needs only their shapes. So the
file is walked once, field by field, and the data of large tensors is left out before anything is parsed: a
file of gigabytes costs the memory of its graph. What is cut off or no such message ends here, with the byte
where it is.

Source: protobuf wire format, and the field numbers of ``onnx.proto``, version 1.19.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from rigwise.errors import InvalidInputError

#: Tensors with more bytes of data than this lose them; no value that a shape is made of is as large.
KEPT_BYTES = 1 << 16

#: More nodes than this are no model that a person would want listed.
MAX_NODES = 200_000

_MAX_GRAPH_BYTES = 1 << 28
_MAX_DEPTH = 64

#: For each message, its fields that are messages with tensors inside.
_NESTED = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_DATA_OF_TENSOR = frozenset({4, 5, 6, 7, 9, 10, 11})


def graph_bytes(path: Path, where: str) -> bytes:
    """The content of an ONNX file without the data of large tensors.

    Raises:
        InvalidInputError: The file cannot be read, is cut off, or holds an absurdly large graph.
    """
    try:
        with (
            path.open("rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            kept = _without_data(view, where)
    except (OSError, ValueError) as error:  # an empty file cannot be mapped
        reason = getattr(error, "strerror", None) or "it is empty"
        raise InvalidInputError(f"{where} cannot be read: {reason}") from None
    if len(kept) > _MAX_GRAPH_BYTES:
        raise InvalidInputError(f"{where}: the graph without its weights has {len(kept):,} bytes; that is too large")
    return kept


def _without_data(view: memoryview, where: str) -> bytes:
    try:
        return b"".join(_message(view, 0, len(view), "model", 0))
    except _TooManyNodesError:
        raise InvalidInputError(f"{where} has over {MAX_NODES:,} nodes; a graph of that size is not read") from None
    except _NoMessageError as error:
        raise InvalidInputError(
            f"{where} is no whole ONNX file: byte {error} of {len(view):,} does not fit", hint="is it cut off?"
        ) from None


class _NoMessageError(Exception):
    """A byte that cannot stand where it does."""


class _TooManyNodesError(Exception):
    """The graph passed ``MAX_NODES``."""


def _message(view: memoryview, start: int, end: int, kind: str, depth: int) -> Iterator[bytes | memoryview]:
    """The fields of one message, those that hold weights rewritten or left out."""
    if depth > _MAX_DEPTH:
        raise _NoMessageError(start)
    nested, nodes, position, copied = _NESTED[kind], 0, start, start
    while position < end:
        field_start = position
        tag, position = _varint(view, position, end)
        field, wire = tag >> 3, tag & 7
        if wire != 2:
            position = _after_number(view, position, end, wire)
            continue
        length, position = _varint(view, position, end)
        body, position = position, position + length
        if position > end:
            raise _NoMessageError(field_start)
        nodes += kind == "graph" and field == 1
        if nodes > MAX_NODES:
            raise _TooManyNodesError
        if length <= KEPT_BYTES or not (field in nested or (kind == "tensor" and field in _DATA_OF_TENSOR)):
            continue
        yield bytes(view[copied:field_start])
        copied = position
        if field in nested:
            inner = b"".join(_message(view, body, position, nested[field], depth + 1))
            yield _encoded(tag) + _encoded(len(inner)) + inner
    yield bytes(view[copied:end])


def _after_number(view: memoryview, position: int, end: int, wire: int) -> int:
    """Where a field that is a plain number ends."""
    if wire == 0:
        return _varint(view, position, end)[1]
    size = {1: 8, 5: 4}.get(wire)
    if size is None or position + size > end:
        raise _NoMessageError(position)
    return position + size


def _varint(view: memoryview, position: int, end: int) -> tuple[int, int]:
    """A number in groups of seven bits, and where it ends."""
    value = shift = 0
    while position < end and shift < 70:
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise _NoMessageError(position)


def _encoded(value: int) -> bytes:
    """A number in groups of seven bits.

    >>> _encoded(300).hex()
    'ac02'
    """
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
