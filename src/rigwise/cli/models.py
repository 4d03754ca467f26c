"""``rigwise models``: the models that come captured, or one of them in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rigwise.cli import catalogue_table as columns
from rigwise.cli.output import answer_options, print_json
from rigwise.units import format_count, parse_count

if TYPE_CHECKING:
    from rigwise.graph.listing import ZooRow


def _count(name: str, attribute: str) -> columns.Field:
    return columns.Field(name=name, read=lambda row: getattr(row, attribute), parse=parse_count, show=format_count)


def _sizes(row: ZooRow) -> str:
    return ", ".join(f"{word.replace('_', ' ')} {size}" for word, size in row.sizes.items() if word != "batch")


TABLE = columns.Table(
    name="models",
    shown=("name", "family", "parameters", "macs", "sizes", "batch"),
    fields=(
        columns.text("name"),
        columns.text("title"),
        columns.text("family"),
        _count("parameters", "parameters"),
        _count("macs", "forward_macs"),
        columns.Field(name="sizes", read=_sizes),
        columns.number("batch", "reference_batch"),
        columns.Field(name="tasks", read=lambda row: ", ".join(row.tasks)),
        columns.text("source"),
    ),
)


@click.command()
@click.argument("model", required=False)
@columns.catalogue_options(TABLE)
@answer_options
def command(*, model: str | None, **flags: Any) -> None:
    """The models that come captured, or with MODEL one in full.

    MACs are those of one forward pass over one sample at the sizes shown. Batch is
    what plan assumes where a job gives none. OP is >=, <=, >, <, = or !=, and for
    text ~ (contains).

    For example: rigwise models --family llama --parameters '<10e9' --sort macs
    """
    from rigwise.graph.listing import row_of, zoo_rows
    from rigwise.graph.load import read_zoo

    if model is None:
        columns.answer(TABLE, zoo_rows(), flags)
        return
    row = row_of(read_zoo(model.lower()))
    if flags["as_json"]:
        print_json({"schema": "rigwise.models/1", "models": [row]})
        return
    for field in TABLE.fields:
        if value := field.read(row):
            click.echo(f"{field.name:<12}{field.show(value)}")
