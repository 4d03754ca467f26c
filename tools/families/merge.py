"""Captures of one variant at several sizes become one template."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from families.solve import Solver
from rigwise.edge import as_plain
from rigwise.graph.dim import Dim
from rigwise.graph.graph import Model
from rigwise.graph.op import Op, Tensor
from rigwise.graph.rwg import _Table, _Writer

_NUMBERS = re.compile(r"\d+")


class DifferentError(Exception):
    """Captures that should differ in numbers only differ in more."""


class Family:
    """The tables of one family while its variants fill them."""

    def __init__(self) -> None:
        self.writer, self.rows, self.parameters, self.formulas = _Writer(), _Table(), _Table(), _Table()
        self.variants: dict[str, Any] = {}

    def add(self, name: str, models: Sequence[Model], samples: Sequence[dict]) -> None:
        """One variant, from its captures and the numbers of their configurations."""
        merge = _Merge(Solver(samples), self.formulas)
        first = models[0]
        graphs = {}
        for task, graph in first.graphs.items():
            twins = [model.graphs[task] for model in models]
            symbols = {s: merge.number([t.symbols[s] for t in twins]) for s in graph.symbols}
            ops = [merge.op(row) for row in _columns([t.ops for t in twins])]
            rows = [self.rows.index(_frozen(self.writer.op(i, op))) for i, op in enumerate(ops)]
            graphs[task] = {"symbols": symbols, "rows": rows}
        if len({tuple(m.graphs) for m in models}) > 1:
            raise DifferentError("tasks differ")
        parameters = [
            [merge.text([p.name for p in row]), merge.shape([p.shape for p in row]),
             merge.number([p.count for p in row]), merge.same([p.trainable for p in row])]
            for row in _columns([m.parameters for m in models])
        ]  # fmt: skip
        card = as_plain(first.card)
        card["assumed"] = [merge.text(list(row)) for row in _columns([m.card.assumed for m in models])]
        self.variants[name] = {
            "card": card,
            "buffer_bytes": merge.number([_whole(m.buffer_bytes) for m in models]),
            "parameters": [self.parameters.index(_frozen(p)) for p in parameters],
            "graphs": graphs,
        }

    def document(self) -> dict[str, Any]:
        """Everything but what is known of the keys."""
        writer = self.writer
        return {
            "formulas": self.formulas.rows,
            "operators": writer.operators.rows,
            "modules": writer.modules.rows,
            "attrs": [_attributes(text) for text in writer.attrs.rows],
            "shapes": writer.shapes.rows,
            "tensors": writer.tensors.rows,
            "rows": self.rows.rows,
            "parameters": self.parameters.rows,
            "variants": self.variants,
        }


def _attributes(text: str) -> Any:
    import json

    return json.loads(text)


class _Merge:
    """The same place in every capture becomes one value, with marks for what differs."""

    def __init__(self, solver: Solver, formulas: _Table) -> None:
        self.solver, self.formulas = solver, formulas

    def number(self, values: Sequence[Any]) -> Any:
        if all(type(v) is type(values[0]) and v == values[0] for v in values):
            return values[0]
        if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values):
            raise DifferentError(f"{values}")
        return f"{{{self.formulas.index(_frozen(self.solver.formula(tuple(values))))}}}"

    def same(self, values: Sequence[Any]) -> Any:
        if any(v != values[0] for v in values):
            raise DifferentError(f"{values}")
        return values[0]

    def text(self, values: Sequence[str]) -> str:
        if all(v == values[0] for v in values):
            return values[0]
        self.same([_NUMBERS.sub("#", v) for v in values])
        found = iter(self.number([int(n) for n in row]) for row in _columns([_NUMBERS.findall(v) for v in values]))
        return _NUMBERS.sub(lambda _: str(next(found)), values[0])

    def shape(self, shapes: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        return tuple(self.size(row) for row in _columns(shapes))

    def size(self, sizes: Sequence[Any]) -> Any:
        """A size in the symbols of a run, its coefficients from the configuration."""
        if not any(isinstance(s, Dim) for s in sizes):
            return self.number(sizes)
        if any(not isinstance(s, Dim) for s in sizes):
            raise DifferentError(f"{[str(s) for s in sizes]}")
        terms = []
        for row in _columns([s.terms for s in sizes]):
            atoms = self.same([atoms for _, atoms in row])
            coefficient = self.number([c for c, _ in row])
            terms.append("*".join([str(coefficient), *map(str, atoms)]))
        return "+".join(terms).replace("+-", "-")

    def op(self, row: Sequence[Op]) -> Op:
        first = row[0]
        try:
            self.same([(o.name, o.kind, o.phase, len(o.inputs), len(o.outputs), sorted(o.attrs)) for o in row])
            return replace(
                first,
                inputs=tuple(self.tensor(t) for t in _columns([o.inputs for o in row])),
                outputs=tuple(self.tensor(t) for t in _columns([o.outputs for o in row])),
                attrs={key: self.attribute([o.attrs[key] for o in row]) for key in first.attrs},
                module=self.text([o.module for o in row]),
                repeat=self.number([o.repeat for o in row]),
            )
        except DifferentError as error:
            raise DifferentError(f"{first.name} in {first.module}: {error}") from None

    def attribute(self, values: Sequence[Any]) -> Any:
        if isinstance(values[0], tuple):
            return tuple(self.number(row) for row in _columns(values))
        return self.number(values)

    def tensor(self, row: Sequence[Tensor]) -> Tensor:
        self.same([(t.dtype, t.role, t.producer, t.saved, len(t.shape)) for t in row])
        return replace(row[0], shape=self.shape([t.shape for t in row]))


def _columns(rows: Sequence[Sequence[Any]]) -> list[tuple[Any, ...]]:
    if len({len(row) for row in rows}) > 1:
        raise DifferentError(f"lengths {[len(row) for row in rows]}")
    return list(zip(*rows, strict=True))


def _whole(value: float) -> Any:
    return int(value) if value == int(value) else value


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value
