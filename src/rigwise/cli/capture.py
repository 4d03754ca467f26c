"""``rigwise capture MODEL -o FILE``: a model as a ``.rwg`` file."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.output import answer_options, print_json
from rigwise.errors import InvalidInputError
from rigwise.units import format_bytes, format_count

if TYPE_CHECKING:
    from rigwise.graph.graph import Model


@click.command()
@click.argument("model")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .rwg file to write.")
@click.option("--explain", is_flag=True, help="Say what was folded and assumed, and with what it was captured.")
@click.option("--fresh", is_flag=True, help="Capture again, even if an earlier capture is kept.")
@answer_options
def command(*, model: str, output: Path, explain: bool, fresh: bool, as_json: bool, quiet: bool) -> None:
    """Turn MODEL into a compute graph that is read without PyTorch."""
    from rigwise.graph.cache import captured_afresh
    from rigwise.graph.load import load_model
    from rigwise.graph.rwg import write_model

    if output.suffix != ".rwg":
        raise InvalidInputError(
            f"the output {output} does not end in .rwg", hint=f"name it {output.stem or 'model'}.rwg"
        )
    if not output.parent.is_dir():
        raise InvalidInputError(f"there is no folder {output.parent} to write {output.name} into")
    with captured_afresh() if fresh else nullcontext():
        captured = load_model(model)
    write_model(output, captured)
    document = _document(captured, output)
    if as_json:
        print_json(document)
    elif not quiet:
        _print(document, explain)


def _document(model: Model, output: Path) -> dict[str, Any]:
    from rigwise.graph.summary import WORD_OF_SYMBOL, folded_layers, unknown_ops

    graphs = {
        task: {
            "ops": len(graph.ops),
            "calls": sum(op.repeat for op in graph.ops),
            "symbols": [WORD_OF_SYMBOL[symbol] for symbol in graph.symbols],
            "folded": folded_layers(graph),
        }
        for task, graph in model.graphs.items()
    }
    return {
        "schema": "rigwise.capture/1",
        "model": model.name,
        "title": model.card.title,
        "path": str(output),
        "file_bytes": output.stat().st_size,
        "parameters": model.parameter_count,
        "graphs": graphs,
        "unknown_ops": sorted({name for graph in model.graphs.values() for name in unknown_ops(graph)}),
        "assumed": model.card.assumed,
        "captured_with": model.captured_with,
    }


def _print(document: dict[str, Any], explain: bool) -> None:
    click.echo(f"{document['title']}: {format_count(document['parameters'])} parameters")
    for task, graph in document["graphs"].items():
        symbols = ", ".join(graph["symbols"]) or "nothing"
        click.echo(f"  {task:8}{graph['ops']:6,} rows for {graph['calls']:7,} operators, free in {symbols}")
    if document["unknown_ops"]:
        click.echo(f"  unknown operators, counted as memory traffic: {', '.join(document['unknown_ops'])}")
    if explain:
        layers = {row for graph in document["graphs"].values() for row in graph["folded"].items()}
        for path, count in sorted(layers):
            click.echo(f"  folded: {path}, {count} equal layers")
        for sentence in document["assumed"] or ["nothing was assumed"]:
            click.echo(f"  assumed: {sentence}")
        versions = ", ".join(f"{name} {version}" for name, version in document["captured_with"].items())
        click.echo(f"  captured with {versions or 'no framework'}")
    print(f"wrote {document['path']} ({format_bytes(document['file_bytes'])})", file=sys.stderr)
