"""Graph networks of torch-geometric: what depends on the edges that a graph happens to have.

Several layers drop the self-loops among the edges before they add one for each node. How many edges are left
depends on data, which a capture does not have; here no edge is a self-loop, as in most data sets.

Source: ``torch_geometric.utils.loop``, version 2.8.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_ASSUMED = "no edge of a graph joins a node to itself"


@contextmanager
def graphs_without_self_loops() -> Iterator[list[str]]:
    """Inside, torch-geometric finds no self-loops; gives the list to which that is added if it matters."""
    notes: list[str] = []
    loop = sys.modules.get("torch_geometric.utils.loop")
    if loop is None:
        yield notes
        return
    replaced = {
        loop.remove_self_loops: _nothing_to_remove(notes),
        loop.add_remaining_self_loops: _added_for_all(notes, loop.add_self_loops),
    }
    places = [
        (module, name, value)
        for title, module in list(sys.modules.items())
        if title.startswith("torch_geometric")
        for name, value in list(vars(module).items())
        if callable(value) and any(value is known for known in replaced)
    ]
    try:
        for module, name, value in places:
            setattr(module, name, replaced[value])
        yield notes
    finally:
        for module, name, value in places:
            setattr(module, name, value)


def _nothing_to_remove(notes: list[str]) -> Callable[..., Any]:
    def remove_self_loops(edge_index: Any, edge_attr: Any = None) -> tuple[Any, Any]:
        _note(notes)
        return edge_index, edge_attr

    return remove_self_loops


def _added_for_all(notes: list[str], add: Callable[..., Any]) -> Callable[..., Any]:
    def add_remaining_self_loops(*arguments: Any, **keywords: Any) -> Any:
        _note(notes)
        return add(*arguments, **keywords)

    return add_remaining_self_loops


def _note(notes: list[str]) -> None:
    if _ASSUMED not in notes:
        notes.append(_ASSUMED)
