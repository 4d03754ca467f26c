"""The zoo as a list: one row for each model that comes captured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rigwise.graph.count import work
from rigwise.graph.graph import Model
from rigwise.graph.load import read_zoo, zoo_names
from rigwise.graph.op import Phase
from rigwise.graph.summary import WORD_OF_SYMBOL


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooRow:
    """What the list of models says about one.

    Attributes:
        name, title, family, source: From the model and its card.
        parameters: Elements of all parameters.
        forward_macs: Multiply-adds of one forward pass over one sample at ``sizes``.
        sizes: Reference sizes, batch 1: ``{"batch": 1, "image_size": 224}``.
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
        sizes={WORD_OF_SYMBOL[symbol]: size for symbol, size in sizes.items()},
        reference_batch=model.card.reference_batch,
        tasks=tuple(model.graphs),
        source=model.card.source,
    )


def zoo_rows() -> tuple[ZooRow, ...]:
    """The rows of all zoo models, by name; reading one takes a few milliseconds."""
    return tuple(row_of(read_zoo(name)) for name in zoo_names())
