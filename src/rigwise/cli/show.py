"""``rigwise show MODEL``: what one step of a model costs on paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rigwise.cli.case_options import Count
from rigwise.cli.output import answer_options, print_json, print_table
from rigwise.units import format_bytes, format_count, format_fraction

if TYPE_CHECKING:
    from rigwise.graph.summary import Cost, Summary

_ROWS_ON_SCREEN = 20


@click.command()
@click.argument("model")
@click.option("--task", type=click.Choice(["train", "infer", "prefill", "decode"]), default="train", show_default=True)
@click.option("--batch", type=Count(), default=1, show_default=True, help="Samples or sequences of one step.")
@click.option("--seq", type=Count(), help="New tokens of each sequence.  [default: 1024, or the model's own]")
@click.option("--context", type=Count(), help="Tokens in the cache, for decode.  [default: 1024]")
@click.option("--image-size", type=Count(), help="Height and width in pixels.  [default: the model's own]")
@click.option("--by", type=click.Choice(["kind", "layer", "op"]), default="kind", show_default=True)
@click.option(
    "--limit", type=click.IntRange(min=1), help=f"Rows to show.  [default: {_ROWS_ON_SCREEN}; all with --json]"
)
@answer_options
def command(
    *,
    model: str,
    task: str,
    batch: int,
    seq: int | None,
    context: int | None,
    image_size: int | None,
    by: str,
    limit: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """FLOPs, MACs, bytes, parameters and saved activations of MODEL.

    Counted for one step, with weights and activations in float32 and without the
    optimizer. FLOPs count two for each multiply-add of a matrix product.
    """
    from rigwise.graph.load import load_model
    from rigwise.graph.summary import summarise
    from rigwise.workload.case import Case
    from rigwise.workload.resolve import resolve

    loaded = load_model(model)
    case = Case(model=model, device="", task=task, batch=batch, seq=seq, context=context, image_size=image_size)
    summary = summarise(loaded, task, resolve(case, loaded).sizes)
    rows = {"kind": summary.by_kind, "layer": summary.by_layer, "op": summary.by_op}[by]
    ranked = sorted(rows.items(), key=lambda row: (-row[1].flops, -row[1].bytes))
    if as_json:
        print_json(_document(summary, loaded.card.assumed, by, ranked[:limit]))
        return
    if not quiet:
        _print_totals(summary, loaded.card.assumed)
    _print_rows(summary.total, by, ranked, limit or _ROWS_ON_SCREEN)


def _document(summary: Summary, assumed: tuple[str, ...], by: str, rows: list[tuple[str, Cost]]) -> dict[str, Any]:
    from rigwise.graph.summary import WORD_OF_SYMBOL

    return {
        "schema": "rigwise.show/1",
        "model": summary.model,
        "task": summary.task,
        "sizes": {WORD_OF_SYMBOL[symbol]: size for symbol, size in summary.sizes.items()},
        "dtype": "float32",
        "parameters": summary.parameters,
        "trainable_parameters": summary.trainable_parameters,
        "parameter_bytes": summary.parameter_bytes,
        "buffer_bytes": summary.buffer_bytes,
        "total": _cost(summary.total),
        "phases": {name: _cost(cost) for name, cost in summary.by_phase.items()},
        "by": by,
        "rows": [{"name": name, **_cost(cost)} for name, cost in rows],
        "unknown_ops": summary.unknown_ops,
        "assumed": assumed,
    }


def _cost(cost: Cost) -> dict[str, float]:
    names = ("calls", "flops", "macs", "read_bytes", "write_bytes", "bytes", "saved_bytes", "flops_per_byte")
    return {name: getattr(cost, name) for name in names}


def _print_totals(summary: Summary, assumed: tuple[str, ...]) -> None:
    from rigwise.graph.summary import WORD_OF_SYMBOL

    sizes = ", ".join(f"{WORD_OF_SYMBOL[symbol].replace('_', ' ')} {size}" for symbol, size in summary.sizes.items())
    total = summary.total
    click.echo(f"{summary.model}: {summary.task}, {sizes or 'no symbols'}, float32")
    click.echo(
        f"  parameters  {format_count(summary.parameters)} ({format_bytes(summary.parameter_bytes)}),"
        f" {format_count(summary.trainable_parameters)} trainable"
    )
    click.echo(f"  arithmetic  {format_count(total.flops, 'FLOP')}, {format_count(total.macs, 'MAC')}")
    click.echo(
        f"  traffic     {format_bytes(total.read_bytes)} read, {format_bytes(total.write_bytes)} written,"
        f" {total.flops_per_byte:.1f} FLOP per byte"
    )
    if len(summary.by_phase) > 1:
        parts = ", ".join(f"{name} {format_count(cost.flops, 'FLOP')}" for name, cost in summary.by_phase.items())
        click.echo(f"  phases      {parts}")
        click.echo(f"  activations {format_bytes(total.saved_bytes)} saved for the backward pass")
    if summary.unknown_ops:
        click.echo(f"  unknown     {', '.join(summary.unknown_ops)} (counted as memory traffic)")
    for sentence in assumed:
        click.echo(f"  assumed     {sentence}")


def _print_rows(total: Cost, by: str, rows: list[tuple[str, Cost]], limit: int) -> None:
    table = [{by: _tail(name), **_cells(cost, total)} for name, cost in rows[:limit]]
    columns = [c for c in table[0] if by == "kind" or c not in ("calls", "FLOP/B")] if table else [by]
    print_table([c.strip() for c in columns], [[row[c] for c in columns] for row in table], right=columns[1:])
    if len(rows) > limit:
        click.echo(f"{limit} of {len(rows)} rows; --limit {len(rows)} shows all")


def _tail(path: str, width: int = 36) -> str:
    """The end of a module path, which tells layers apart better than its beginning."""
    return path if len(path) <= width else "…" + path[1 - width :]


def _cells(cost: Cost, total: Cost) -> dict[str, str]:
    return {
        "calls": f"{cost.calls:,}",
        "FLOPs": format_count(cost.flops) if cost.flops else "-",
        "share": format_fraction(cost.flops / total.flops) if cost.flops else "-",
        "bytes": format_bytes(cost.bytes),
        "share ": format_fraction(cost.bytes / total.bytes) if cost.bytes else "-",
        "FLOP/B": f"{cost.flops_per_byte:.1f}" if cost.flops else "-",
        "saved": format_bytes(cost.saved_bytes) if cost.saved_bytes else "-",
    }
