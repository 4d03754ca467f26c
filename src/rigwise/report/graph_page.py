"""The graph of a step as one HTML page: boxes that open and close, without anything from outside.

The page carries the boxes as data; its script lays out whatever is open and draws it. Names come
from files of anybody, so they reach the page as data or escaped text only.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from rigwise import __version__
from rigwise.graph.graph import Model
from rigwise.graph.summary import WORD_OF_SYMBOL
from rigwise.graph.tree import Load, module_tree
from rigwise.report.graph_scene import Box, drawn_phase, scene
from rigwise.report.graph_text import Line, fitting_depth, outline, totals_text
from rigwise.report.html import Markup, table, tag
from rigwise.report.step_rows import Step
from rigwise.units import format_bytes, format_count, format_fraction, format_seconds

_TABLE_ROWS = 60


def graph_page(model: Model, step: Step, depth: int | None = None) -> str:
    """The page; ``depth`` levels of boxes are open at first, or what can be taken in at once."""
    root = scene(model, step, depth)
    total = sum(step.beside.values(), root.total)
    title = f"{model.name}: {step.case.task}" + (f" on {step.device}" if step.device else "")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", _resource("page.css"), _resource("graph_page.css")),
    )
    body = tag(
        "main",
        tag("header", tag("h1", title), tag("p", _sizes(step), class_="job"), _tiles(model, step, total)),
        _controls(step),
        tag("div", tag("div", id="stage", tabindex="-1"), tag("aside", id="facts", aria_live="polite"), class_="work"),
        tag("p", _legend(step), class_="soft"),
        _modules(model, step, total),
        tag("section", tag("h2", "In words"), tag("pre", totals_text(model, step, total))),
        tag("footer", f"Written by rigwise {__version__}."),
        tag("script", _data(root, step, total), type="application/json", id="graph"),
        tag("script", _resource("graph_page.js")),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", body), lang="en") + "\n"


def _resource(name: str) -> Markup:
    return Markup(files("rigwise.report").joinpath(name).read_text(encoding="utf-8"))


def _sizes(step: Step) -> str:
    words = [f"{WORD_OF_SYMBOL[symbol].replace('_', ' ')} {size}" for symbol, size in step.sizes.items()]
    return ", ".join([*words, step.dtype, *([step.case.mode] if step.device else [])])


def _tiles(model: Model, step: Step, total: Load) -> Markup:
    facts = [
        ("Parameters", format_count(model.parameter_count)),
        ("Arithmetic", format_count(total.cost.flops, "FLOP")),
        ("Traffic", format_bytes(total.cost.bytes)),
    ]
    facts += [("Saved for backward", format_bytes(total.cost.saved_bytes))] if total.cost.saved_bytes else []
    facts += [("Time of a step", format_seconds(total.time_s))] if step.device else []
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in facts), class_="tiles")


def _controls(step: Step) -> Markup:
    """The heat of the boxes, what is open, and the size of the picture."""
    metrics = {"flops": "FLOPs", "bytes": "bytes", "parameters": "parameters", "saved": "saved activations"}
    metrics = ({"time": "time"} if step.device else {}) | metrics
    options = [tag("option", words, value=name) for name, words in metrics.items()]
    chooser = tag("label", "Colour by ", tag("select", *options, id="metric"))
    buttons = {"out": "Smaller", "in": "Larger", "fit": "Fit", "fold": "Fold all", "reset": "As at first"}
    pressed = (tag("button", words, id=name, type="button") for name, words in buttons.items())
    return tag("div", chooser, *pressed, id="controls")


def _legend(step: Step) -> str:
    beside = ", ".join(f"{name} {format_seconds(load.time_s)}" for name, load in step.beside.items())
    return (
        f"Drawn: the {drawn_phase(step)} pass; boxes count all passes. A click or Enter opens and closes a box. "
        "Data flows downwards; x32 means that the box stands for 32 equal layers, one after the other."
        + (f" Not drawn: {beside}." if beside else "")
    )


def _modules(model: Model, step: Step, total: Load) -> Markup:
    """The modules as a table: what the picture shows, for reading and without a script."""
    tree = module_tree(step.rows, model.parameters, step.phase)
    lines = outline(tree, fitting_depth(tree, _TABLE_ROWS))
    lines += [Line(level=0, label=f"({name})", load=load) for name, load in step.beside.items()]
    columns = {"module": "keep", "parameters": "number", "FLOPs": "number", "bytes": "number", "saved": "number"}
    columns |= {"time": "number", "share": "number", "bound by": ""} if step.device else {}
    rows = [
        ["\N{NO-BREAK SPACE}" * 3 * line.level + line.label, *_cells(line.load, total, timed=bool(step.device))]
        for line in [*lines, Line(level=0, label="total", load=total)]
    ]
    return tag("section", tag("h2", "Modules"), table(columns, rows))


def _cells(load: Load, total: Load, *, timed: bool) -> list[str]:
    cost = load.cost
    cells = [
        format_count(load.parameters) if load.parameters else "",
        format_count(cost.flops) if cost.flops else "",
        format_bytes(cost.bytes) if cost.bytes else "",
        format_bytes(cost.saved_bytes) if cost.saved_bytes else "",
    ]
    share = format_fraction(load.time_s / total.time_s) if timed and load.time_s else ""
    return cells + ([format_seconds(load.time_s), share, load.binds] if timed else [])


def _data(root: Box, step: Step, total: Load) -> Markup:
    """The boxes as JSON that cannot end the element it stands in."""
    document = {"timed": bool(step.device), "phase": drawn_phase(step), "whole": _numbers(total), "root": _box(root)}
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _box(box: Box) -> dict[str, Any]:
    """One box; what is empty is left out."""
    document = {
        "name": box.label,
        "path": box.path,
        "does": box.detail,
        "n": _numbers(box.total),
        "f": _numbers(box.forward) if box.forward != box.total else None,
        "binds": box.total.binds,
        "boxes": [_box(inner) for inner in box.boxes],
        "edges": box.edges,
        "open": box.opened,
    }
    return {key: value for key, value in document.items() if value}


def _numbers(load: Load) -> list[float]:
    """FLOPs, bytes, parameters, saved bytes, seconds, operators, runs: to the four digits that are shown."""
    cost = load.cost
    values = (cost.flops, cost.bytes, load.parameters, cost.saved_bytes, load.time_s, load.operators, cost.calls)
    return [float(f"{value:.4g}") for value in values]
