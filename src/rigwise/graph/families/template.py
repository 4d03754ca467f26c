"""A template and the sizes of a configuration become a model.

A template is a captured model in the tables of a ``.rwg`` file (``docs/reference/rwg.md``), with two
additions. A number may be ``"{3}"``, and a text may hold such a mark: both mean formula 3, a sum of
products ``[coefficient, size, size, ...]``. And the variants of a family share their tables, so that
what they have in common stands once. Filled in, it is the document of a ``.rwg`` file, and is checked
as one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from rigwise.graph.graph import Model
from rigwise.graph.rwg_reader import model_from

_MARK = re.compile(r"\{(\d+)\}")
_TABLES = ("operators", "modules", "attrs", "shapes", "tensors", "parameters", "rows")


def instance(family: Mapping[str, Any], tag: str, numbers: Mapping[str, int | float], where: str) -> Model:
    """The model that a variant describes at these sizes; ``where`` names its file in errors.

    Args:
        family: Content of a template file.
        tag: Which of its variants.
        numbers: Value of every size that its formulas name.
        where: The configuration's file.

    Raises:
        InvalidInputError: A tensor is beyond what a graph may hold.
    """
    return model_from(_Filler(family, numbers).document(family["variants"][tag]), where)


class _Filler:
    """The tables of one variant, while marks become numbers and rows find their new places."""

    def __init__(self, family: Mapping[str, Any], numbers: Mapping[str, int | float]) -> None:
        self.family, self.numbers = family, numbers
        self.values: dict[int, int | float] = {}
        self.places: dict[str, dict[int, int]] = {table: {} for table in _TABLES}
        self.tables: dict[str, list[Any]] = {table: [] for table in _TABLES}

    def document(self, variant: Mapping[str, Any]) -> dict[str, Any]:
        """What a ``.rwg`` file of this model would hold."""
        graphs = {
            task: {"symbols": self.fill(graph["symbols"]), "ops": [self.row(index) for index in graph["rows"]]}
            for task, graph in variant["graphs"].items()
        }
        parameters = [self.fill(self.family["parameters"][index]) for index in variant["parameters"]]
        tables = {table: self.tables[table] for table in ("operators", "modules", "attrs", "shapes", "tensors")}
        return {
            "name": "model",
            "card": self.fill(variant["card"]),
            "captured_with": self.family["captured_with"],
            "buffer_bytes": self.fill(variant["buffer_bytes"]),
            "parameters": parameters,
            "graphs": graphs,
            **tables,
        }

    def row(self, index: int) -> list[Any]:
        """One operator: operator, module, attributes, repetitions, operands read and written."""
        if index not in self.places["rows"]:
            operator, module, attrs, repeat, inputs, outputs = self.family["rows"][index]
            row = [
                self.place("operators", operator),
                self.place("modules", module),
                self.place("attrs", attrs),
                self.fill(repeat),
                self.operands(inputs),
                self.operands(outputs),
            ]
            self.keep("rows", index, row)
        return list(self.tables["rows"][self.places["rows"][index]])

    def operands(self, flat: list[Any]) -> list[Any]:
        """Tensor and distance to its maker, by turns."""
        return [value if i % 2 else self.tensor(value) for i, value in enumerate(flat)]

    def tensor(self, index: int) -> int:
        if index in self.places["tensors"]:
            return self.places["tensors"][index]
        shape, *rest = self.family["tensors"][index]
        return self.keep("tensors", index, [self.place("shapes", shape), *rest])

    def place(self, table: str, index: int) -> int:
        """Where an entry of a table went."""
        if index in self.places[table]:
            return self.places[table][index]
        return self.keep(table, index, self.fill(self.family[table][index]))

    def keep(self, table: str, index: int, entry: Any) -> int:
        place = self.places[table][index] = len(self.tables[table])
        self.tables[table].append(entry)
        return place

    def fill(self, value: Any) -> Any:
        """The same value with every mark replaced."""
        if isinstance(value, str) and "{" in value:
            whole = _MARK.fullmatch(value)
            if whole:
                return self.number(whole)
            return _MARK.sub(lambda mark: str(self.number(mark)), value).replace("+-", "-")
        if isinstance(value, list):
            return [self.fill(entry) for entry in value]
        if isinstance(value, dict):
            return {key: self.fill(entry) for key, entry in value.items()}
        return value

    def number(self, mark: re.Match[str]) -> int | float:
        """The value of a formula."""
        index = int(mark[1])
        if index not in self.values:
            self.values[index] = evaluate(self.family["formulas"][index], self.numbers)
        return self.values[index]


def evaluate(formula: list[list[Any]], numbers: Mapping[str, int | float]) -> int | float:
    """A sum of products.

    >>> evaluate([[2, "heads", "width"], [3]], {"heads": 4, "width": 64})
    515
    """
    total: int | float = 0
    for coefficient, *names in formula:
        product = coefficient
        for name in names:
            product = product * numbers[name]
        total = total + product
    return total
