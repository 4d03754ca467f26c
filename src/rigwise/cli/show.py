"""``rigwise show MODEL``: what one step of a model costs, module by module, and its drawing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rigwise.cli.application import application_at, show_application_file
from rigwise.cli.case_options import case_from, case_options
from rigwise.cli.output import answer_options, print_json, write_output
from rigwise.cli.plot_option import draw, plot_option, without_plot
from rigwise.errors import InvalidInputError

if TYPE_CHECKING:
    from rigwise.graph.graph import Model
    from rigwise.graph.tree import Load, Node
    from rigwise.report.figures.theme import Figure
    from rigwise.report.step_rows import Step

_PHASES = ("forward", "backward")
_SUFFIXES = {"dot": (".dot", ".gv"), "html": (".html", ".htm")}

#: Flags that change nothing that can be counted without a device.
_NEED_DEVICE: tuple[str, ...] = ("count", "nodes", "layout", "optimizer", "data", "tensor", "pipeline", "zero")
_NEED_DEVICE += ("micro_batch", "link", "inter_node_gbps", "power_limit", "runtime", "torch")


@click.command("show")
@click.argument("model")
@click.option("--device", help="Add the time of each row on a device.")
@click.option("--by", type=click.Choice(["module", "kind", "layer", "op"]), help="Rows.  [default: module, as a tree]")
@click.option("--depth", type=click.IntRange(min=1), help="Levels of the tree.  [default: what fits a screen]")
@click.option("--limit", type=click.IntRange(min=1), help="Rows to show.  [default: a screenful; all with --json]")
@click.option("--phase", type=click.Choice(_PHASES), help="Only this part of a training step.")
@click.option("--dot", metavar="FILE", help="Write the graph for Graphviz.")
@click.option("--html", metavar="FILE", help="Write a page that draws the graph.")
@plot_option
@case_options
@answer_options
def command(*, model: str, device: str | None, dot: str | None, html: str | None, **flags: Any) -> None:
    """FLOPs, bytes, parameters and saved activations of MODEL, module by module.

    Counted for one step. FLOPs count two for each multiply-add of a matrix product. Without
    --device, weights and activations are float32 unless --dtype says otherwise, and the optimizer
    is left out; with it, the numbers are those of predict.

    For example: rigwise show llama-3.1-8b --device h100-sxm5-80gb --html llama.html
    """
    files = _checked_files(dot=dot, html=html)
    by, depth, limit, phase = (flags.pop(name) for name in ("by", "depth", "limit", "phase"))
    as_json, quiet = flags.pop("as_json"), flags.pop("quiet")
    if application := application_at(model):
        without_plot("an application")
        show_application_file(application, files, as_json=as_json, quiet=quiet)
        return
    if not device:
        _refuse_device_flags()
    from rigwise.graph.load import load_model

    loaded = load_model(model)
    step, tree, total = _counted(loaded, case_from(model, device or "", flags), phase)
    for kind, path in files.items():
        write_output(path, _drawn(kind, loaded, step, depth), quiet=quiet)
    draw(lambda: _figure(loaded, step, depth), quiet=quiet or as_json)
    if as_json:
        print_json(_document(loaded, step, (tree, total), by or "kind", limit))
    else:
        by = by or ("module" if tree.children else "kind")
        _print(loaded, step, (tree, total), by, (depth, limit), quiet=quiet)


def _checked_files(**files: str | None) -> dict[str, str]:
    """The files to write, by kind."""
    given = {kind: path for kind, path in files.items() if path is not None}
    if len({Path(path).absolute() for path in given.values()}) < len(given):
        raise InvalidInputError(f"--dot and --html both name {given['dot']}", hint="give each its own file")
    for kind, path in given.items():
        if Path(path).suffix.lower() not in _SUFFIXES[kind]:
            name = f"{Path(path).stem or 'model'}{_SUFFIXES[kind][0]}"
            raise InvalidInputError(f"--{kind} {path} does not end in {_SUFFIXES[kind][0]}", hint=f"name it {name}")
        if not Path(path).absolute().parent.is_dir():
            raise InvalidInputError(f"--{kind} {path}: there is no folder {Path(path).parent}")
    return given


def _refuse_device_flags() -> None:
    context = click.get_current_context()
    for name in _NEED_DEVICE:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            flag = "--" + name.replace("_", "-")
            raise InvalidInputError(f"{flag} needs --device", hint="without one, show counts one step on paper")


def _counted(model: Model, case: Any, phase: str | None) -> tuple[Step, Node, Load]:
    """The step, its tree of modules, and the sum of all."""
    from dataclasses import replace

    from rigwise.graph.op import Phase
    from rigwise.graph.tree import Load, module_tree

    if case.device:
        from rigwise.report.step_times import timed_step as step_of
    else:
        from rigwise.report.step_rows import counted_step as step_of
    step = step_of(case, model)
    only = Phase(phase) if phase else None
    tree = module_tree(step.rows, model.parameters, only)
    if only:
        if not any(row.op.phase is only for row in step.rows):
            raise InvalidInputError(f"the {case.task} graph of {model.name} has no {phase} pass", hint="--task train")
        step = replace(step, beside={}, phase=only)
    return step, tree, sum(step.beside.values(), Load()) + tree.total


def _figure(model: Model, step: Step, depth: int | None) -> Figure:
    from rigwise.report.figures.graph import compute_graph

    return compute_graph(model, step, depth)


def _document(model: Model, step: Step, summed: tuple[Node, Load], by: str, limit: int | None) -> dict[str, Any]:
    from rigwise.report.graph_document import step_document
    from rigwise.report.graph_text import groups

    return step_document(model, step, summed[0], summed[1], (by, groups(step, by)[:limit]))


def _print(
    model: Model, step: Step, summed: tuple[Node, Load], by: str, cut: tuple[int | None, int | None], *, quiet: bool
) -> None:
    """Totals, then the table, then what it leaves out."""
    from rigwise.report import graph_text as text

    (tree, total), (depth, limit) = summed, cut
    lines, left_out = text.module_rows(tree, depth, limit) if by == "module" else text.group_rows(step, by, limit)
    lines += [text.Line(level=0, label=f"({name})", load=load) for name, load in step.beside.items()]
    if not quiet:
        click.echo(text.totals_text(model, step, total) + "\n")
    width = shutil.get_terminal_size().columns
    click.echo(text.table_text(by, lines, total, width=width, timed=bool(step.device)))
    if left_out:
        click.echo("\n" + left_out)


def _drawn(kind: str, model: Model, step: Step, depth: int | None) -> str:
    """The graph for Graphviz, or as a page."""
    if kind == "dot":
        from rigwise.report.graph_dot import graph_dot

        return graph_dot(model, step, depth)
    from rigwise.report.graph_page import graph_page

    return graph_page(model, step, depth)
