"""One row for each zoo model, so that listing them does not open them all.

``tools/build_zoo.py`` writes ``zoo/index.json`` beside the models with ``write_index``; a
test holds it equal to rows made afresh from the files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rigwise.edge import as_plain, write_atomically
from rigwise.graph.count import work
from rigwise.graph.graph import Model
from rigwise.graph.load import zoo_folder
from rigwise.graph.op import Phase
from rigwise.graph.rwg import read_model

INDEX_NAME = "index.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooRow:
    """What the list of models says about one.

    Attributes:
        name, title, family, source: From the model and its card.
        parameters: Elements of all parameters.
        forward_macs: Multiply-adds of one forward pass over one sample at ``sizes``.
        sizes: Reference sizes, batch 1: ``{"b": 1, "p": 224}``.
        reference_batch: Batch that ``plan`` assumes where a job gives none.
        tasks: The graphs it has.
    """

    name: str
    title: str
    family: str
    parameters: int
    forward_macs: float
    sizes: Mapping[str, int]
    reference_batch: int
    tasks: tuple[str, ...]
    source: str


def row_of(model: Model) -> ZooRow:
    """The row of one model."""
    task = next(t for t in ("infer", "train", "prefill", "decode") if t in model.graphs)
    graph = model.graphs[task]
    sizes = {symbol: 1 if symbol == "b" else own for symbol, own in graph.symbols.items()}
    return ZooRow(
        name=model.name,
        title=model.card.title,
        family=model.card.family,
        parameters=model.parameter_count,
        forward_macs=float(sum(op.repeat * work(op, sizes).macs for op in graph.phase(Phase.FORWARD))),
        sizes=sizes,
        reference_batch=model.card.reference_batch,
        tasks=tuple(model.graphs),
        source=model.card.source,
    )


def write_index(folder: Path) -> None:
    """Write the index of all ``.rwg`` files in a folder into it."""
    rows = [as_plain(row_of(read_model(file))) for file in sorted(folder.glob("*.rwg"))]
    write_atomically(folder / INDEX_NAME, json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_index() -> tuple[ZooRow, ...]:
    """The rows of all zoo models, by name; none before the zoo is built."""
    file = zoo_folder().joinpath(INDEX_NAME)
    rows = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return tuple(ZooRow(**{**row, "tasks": tuple(row["tasks"])}) for row in rows)
