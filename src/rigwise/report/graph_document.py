"""The operators of a step as the JSON document ``rigwise.show/1``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rigwise.graph.graph import Model
from rigwise.graph.summary import WORD_OF_SYMBOL
from rigwise.graph.tree import Load, Node, sums
from rigwise.report.graph_text import unknown_of
from rigwise.report.step_rows import Step

_COSTS = ("calls", "flops", "macs", "read_bytes", "write_bytes", "bytes", "saved_bytes", "flops_per_byte")


def step_document(
    model: Model, step: Step, tree: Node, total: Load, groups: tuple[str, Sequence[tuple[str, Load]]]
) -> dict[str, Any]:
    """The document; keys in docs/reference/json.md.

    Args:
        model: What was asked about.
        step: Its operators.
        tree: Their modules.
        total: Of operators and of what stands beside them.
        groups: What the rows are by, and each row's name and sum.
    """
    timed, by = bool(step.device), groups[0]
    phases = sums(step.counted, lambda row: row.op.phase)
    return {
        "schema": "rigwise.show/1",
        "model": model.name,
        "task": step.case.task,
        "sizes": {WORD_OF_SYMBOL[symbol]: size for symbol, size in step.sizes.items()},
        "dtype": step.dtype,
        "device": step.device or None,
        "parameters": model.parameter_count,
        "trainable_parameters": sum(p.elements for p in model.parameters if p.trainable),
        "parameter_bytes": 4.0 * model.parameter_count,
        "buffer_bytes": model.buffer_bytes,
        "total": _sum(total, total, timed=timed),
        "phases": {name: _sum(load, total, timed=timed) for name, load in phases.items()},
        "by": by,
        "rows": [{"name": name, **_sum(load, total, timed=timed)} for name, load in groups[1]],
        "beside": [{"name": name, **_sum(load, total, timed=timed)} for name, load in step.beside.items()],
        "tree": _node(tree, model.name, total, timed=timed),
        "unknown_ops": unknown_of(step),
        "assumed": step.assumed,
    }


def _node(node: Node, name: str, total: Load, *, timed: bool) -> dict[str, Any]:
    """A module with its sum, its own part of it, and its children."""
    return {
        "name": name,
        "path": node.path,
        "count": node.count,
        **_sum(node.total, total, timed=timed, modules=True),
        "own": _sum(node.own, total, timed=timed, modules=True),
        "children": [_node(child, child.name, total, timed=timed) for child in node.children],
    }


def _sum(load: Load, total: Load, *, timed: bool, modules: bool = False) -> dict[str, Any]:
    document: dict[str, Any] = {name: getattr(load.cost, name) for name in _COSTS}
    if modules:
        document |= {"operators": load.operators, "parameters": load.parameters}
    if timed:
        frac = load.time_s / (total.time_s or 1.0)
        document |= {"time_s": load.time_s, "time_frac": frac, "binds": load.binds or None}
    return document
