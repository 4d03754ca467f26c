"""The ``.rwg`` file: a captured model as compressed tables, and nothing that can run.

A line ``rigwise.graph/1``, then one zlib stream of JSON. What repeats (operator
names, module paths, attributes, shapes, tensors) stands once in a table and is
referred to by index; a producer is written as a distance, so that equal layers give
equal rows. Equal models give equal bytes. ``docs/reference/rwg.md`` documents each key.

Reading trusts nothing; what is checked stands in ``rwg_reader.py``.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

from rigwise.edge import as_plain, parse_json, read_bytes, write_atomically
from rigwise.errors import InvalidInputError
from rigwise.graph.dim import Size
from rigwise.graph.graph import Graph, Model
from rigwise.graph.op import Op, Tensor
from rigwise.graph.rwg_reader import model_from

MAGIC, VERSION = "rigwise.graph/", "1"
FILE_LIMIT_BYTES, TEXT_LIMIT_BYTES = 8 * 2**20, 16 * 2**20


# Writing


class _Table:
    """Distinct rows, numbered in the order of their first use."""

    def __init__(self) -> None:
        self._index: dict[Hashable, int] = {}

    def index(self, row: Hashable) -> int:
        return self._index.setdefault(row, len(self._index))

    @property
    def rows(self) -> list[Any]:
        return list(self._index)


class _Writer:
    """The tables of one file while they fill."""

    def __init__(self) -> None:
        self.operators, self.modules, self.attrs, self.shapes, self.tensors = (_Table() for _ in range(5))

    def graph(self, graph: Graph) -> dict[str, Any]:
        return {"symbols": dict(graph.symbols), "ops": [self.op(i, op) for i, op in enumerate(graph.ops)]}

    def op(self, position: int, op: Op) -> list[Any]:
        return [
            self.operators.index((op.name, op.kind, op.phase)),
            self.modules.index(op.module),
            self.attrs.index(_json(dict(op.attrs))),
            op.repeat,
            self.operands(position, op.inputs),
            self.operands(position, op.outputs),
        ]

    def operands(self, position: int, tensors: Iterable[Tensor]) -> list[int | None]:
        """Tensor row and distance to the producer, by turns."""
        flat: list[int | None] = []
        for tensor in tensors:
            shape = self.shapes.index(_shape(tensor.shape))
            row = self.tensors.index((shape, tensor.dtype, tensor.role, tensor.saved))
            flat += [row, None if tensor.producer is None else position - tensor.producer]
        return flat


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, allow_nan=False)


def _shape(shape: Iterable[Size]) -> tuple[int | str, ...]:
    return tuple(size if isinstance(size, int) else str(size) for size in shape)


def to_bytes(model: Model) -> bytes:
    r"""The content of the ``.rwg`` file of a model; equal models give equal bytes.

    Raises:
        InvalidInputError: The model has a value that no file may hold, such as a NaN.

    >>> from rigwise.graph.graph import Card
    >>> to_bytes(Model(name="m", card=Card(title="M"), parameters=(), graphs={}))[:16]
    b'rigwise.graph/1\n'
    """
    try:
        text = _json(_document(model))
    except ValueError as error:
        raise InvalidInputError(f"the model {model.name!r} cannot be written: {error}") from None
    return f"{MAGIC}{VERSION}\n".encode() + zlib.compress(text.encode("utf-8"), 9)


def _document(model: Model) -> dict[str, Any]:
    writer = _Writer()
    graphs = {task: writer.graph(graph) for task, graph in sorted(model.graphs.items())}
    return {
        "name": model.name,
        "card": as_plain(model.card),
        "captured_with": dict(model.captured_with),
        "buffer_bytes": model.buffer_bytes,
        "parameters": [[p.name, p.shape, p.count, p.trainable] for p in model.parameters],
        "graphs": graphs,
        "operators": writer.operators.rows,
        "modules": writer.modules.rows,
        "attrs": [json.loads(text) for text in writer.attrs.rows],
        "shapes": writer.shapes.rows,
        "tensors": writer.tensors.rows,
    }


def write_model(path: str | os.PathLike[str], model: Model) -> None:
    """Write a ``.rwg`` file whole or not at all, and only if it can be read back.

    Raises:
        InvalidInputError: The place cannot be written to, or the model breaks a limit of the format.
    """
    data = to_bytes(model)
    from_bytes(data, Path(path).name)
    write_atomically(path, data)


# Reading


def read_model(path: str | os.PathLike[str]) -> Model:
    """The model in a ``.rwg`` file.

    Raises:
        InvalidInputError: The file is missing, damaged, too large, of another version, or breaks a
            rule of the format; the message names file and key.
    """
    return from_bytes(read_bytes(path, limit_bytes=FILE_LIMIT_BYTES), str(path))


def from_bytes(data: bytes, where: str) -> Model:
    """The model in the content of a ``.rwg`` file; ``where`` names it in errors.

    Raises:
        InvalidInputError: As ``read_model``.
    """
    return model_from(parse_json(_text(data, where), where), where)


def _text(data: bytes, where: str) -> str:
    """The JSON text, decompressed no further than the limit."""
    head, newline, _ = data[:40].partition(b"\n")
    if not head.startswith(MAGIC.encode()) or not newline:
        raise InvalidInputError(f"{where} is not a rigwise graph: it does not begin with {MAGIC}{VERSION}")
    version = head[len(MAGIC) :].decode("ascii", "replace")
    if version != VERSION:
        raise InvalidInputError(
            f"{where} has the graph format {version!r}, this rigwise reads {VERSION}",
            hint="install the rigwise that wrote it, or capture the model again",
        )
    unpack = zlib.decompressobj()
    try:
        text = unpack.decompress(data[len(head) + 1 :], TEXT_LIMIT_BYTES + 1)
    except zlib.error:
        raise InvalidInputError(f"{where} is damaged: its compressed part cannot be read") from None
    if len(text) > TEXT_LIMIT_BYTES:
        raise InvalidInputError(f"{where} unpacks to over {TEXT_LIMIT_BYTES:,} bytes", hint="that is more than is read")
    if not unpack.eof:
        raise InvalidInputError(f"{where} is truncated")
    if unpack.unused_data:
        raise InvalidInputError(f"{where} is damaged: something follows its end")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidInputError(f"{where} is damaged: its text is not UTF-8") from None
